//! The models of a graph, told apart by what is before the names of their word embeddings: `student.` and `teacher.`.
//!
//! The name of a tensor and the path of the node that takes it may have different words there, as the second call of a module has.
//! All that is before the names of one table is of one model.

use std::collections::HashMap;

use super::path::{local, module_of, scope, scope_of};
use super::walk::{Followed, Recovered, Walk};
use crate::tensor::TensorInfo;

/// What the word embeddings are called from the model's own parts on.
const WORD_EMBEDDINGS: &str = "embeddings.word_embeddings";

/// No graph that is meant to be one has more models.
const MOST: usize = 16;

/// What is before the names of every model of a graph. Without models, names have nothing before them.
#[derive(Default)]
pub(super) struct Models {
    /// The number of the model that this is before the names of.
    of_scope: HashMap<String, usize>,
    /// What every model's names are given.
    scopes: Vec<String>,
}

impl Models {
    /// The models of a graph with these tensors, if there are several, or if the only one is to be `named`.
    pub(super) fn of(walk: &Walk<'_>, tensors: &[TensorInfo], named: bool) -> Models {
        let mut models = Models::default();
        for info in tensors.iter().filter(|info| info.shape.len() == 2) {
            let Followed { uses, values } = walk.follow(info);
            let is_table = |name: &&str| {
                local(name).is_some_and(|name| name.strip_suffix(".weight") == Some(WORD_EMBEDDINGS))
            };
            let names = values.into_iter().filter(is_table).map(scope);
            let lookups = uses.iter().filter(|used| used.operand == 0 && used.node.op_type() == "Gather");
            let paths = lookups
                .filter(|used| module_of(used.node).as_deref() == Some(WORD_EMBEDDINGS))
                .filter_map(|used| scope_of(used.node));
            models.add(names.chain(paths).collect());
        }
        let is_told = models.scopes.len() > 1 || named;
        if is_told { models } else { Models::default() }
    }

    /// Adds what is before the names of one table.
    fn add(&mut self, scopes: Vec<String>) {
        let known = scopes.iter().find_map(|scope| self.of_scope.get(scope).copied());
        let number = match (known, scopes.first()) {
            (Some(number), _) => number,
            (None, Some(first)) if self.scopes.len() < MOST => {
                self.scopes.push(first.clone());
                self.scopes.len() - 1
            }
            _ => return,
        };
        for scope in scopes {
            self.of_scope.entry(scope).or_insert(number);
        }
    }

    /// Calls a tensor by what is before the names of its model. What is in a module of a model is of that model.
    pub(super) fn name(&self, scope: &str, mut recovered: Recovered) -> Recovered {
        if let Some(model) = self.model(scope) {
            recovered.name.insert_str(0, model);
        } else if !self.scopes.is_empty() {
            recovered.name.insert_str(0, scope);
        }
        recovered
    }

    fn model(&self, scope: &str) -> Option<&str> {
        if let [one] = self.scopes.as_slice() {
            return Some(one);
        }
        let inside = scope.rmatch_indices('.').map(|(at, dot)| scope.get(..at + dot.len()));
        let known = inside.flatten().chain([""]).find_map(|scope| self.of_scope.get(scope));
        known.and_then(|&number| self.scopes.get(number)).map(String::as_str)
    }

    /// Finds names for the tensors that have none yet as `find` does for a graph with one model, for one model after another.
    pub(super) fn complete(
        &self,
        recovered: &mut [Vec<Recovered>],
        mut find: impl FnMut(&mut [Vec<Recovered>]),
    ) {
        if self.scopes.is_empty() {
            return find(recovered);
        }
        let nameless: Vec<bool> = recovered.iter().map(Vec::is_empty).collect();
        for model in &self.scopes {
            let own = |named: &Recovered| {
                let name = named.name.strip_prefix(model.as_str()).filter(|_| scope(&named.name) == *model);
                name.map(|name| Recovered { name: name.to_owned(), ..named.clone() })
            };
            let mut of_model: Vec<Vec<Recovered>> =
                recovered.iter().map(|names| names.iter().filter_map(own).collect()).collect();
            find(&mut of_model);
            for ((names, found), _) in
                recovered.iter_mut().zip(of_model).zip(&nameless).filter(|(_, nameless)| **nameless)
            {
                names.extend(found.into_iter().map(|found| self.name(model, found)));
            }
        }
    }
}
