//! Parameters that have the other sign, are in the place of others, or have their heads in another order.

use std::collections::BTreeSet;

use deberta_reference::{Module, Param, Part, Role, Rows};

use super::Hidden;
use crate::diagnose::Hypothesis;
use crate::diagnose::hypotheses::permuted_heads;
use crate::fault::{Change, dropped, orders_of_heads, scaled_part};

impl Hidden<'_, '_> {
    /// Each parameter with the other sign, alone and with its bias, and each part of the heads.
    pub(super) fn signs(&self) -> Vec<Hypothesis> {
        let negate = |name: &str| Change::Scale { name: name.to_owned(), rows: None, factor: -1.0 };
        let hypothesis = |what: &str| {
            let cause = format!("{what}: the other sign");
            Hypothesis::new("negated-parameter", cause, "restore it from the original model")
        };
        let mut found = Vec::new();
        for param in &self.params {
            found.push(hypothesis(&param.name).undone_by([negate(&param.name)]));
            let bias = format!("{}.bias", param.path());
            if param.name != bias && self.model.shape(&bias).is_some() {
                let both = format!("{} and {bias}", param.name);
                found.push(hypothesis(&both).undone_by([negate(&param.name), negate(&bias)]));
            }
        }
        for layer in self.layers() {
            for (part, what) in [(Part::Query, "queries"), (Part::Key, "keys"), (Part::Value, "values")] {
                let what = format!("{what} of layer {layer}");
                found.push(hypothesis(&what).undone_by(scaled_part(self.model, layer, part, -1.0)));
            }
        }
        found
    }

    /// Parameters whose numbers are all zero, which may be how they were trained, or lost.
    pub(super) fn zeros(&self) -> Vec<Hypothesis> {
        let zero = self.params.iter().filter(|param| self.model.is_zero(&param.name));
        let hypothesis = |param: &Param| {
            let kind = match param.role {
                Role::Bias | Role::LayerNormShift => dropped(param.rows),
                _ => "zero-parameter",
            };
            let cause = format!("{} is all zero: it may have been dropped", param.name);
            Hypothesis::new(kind, cause, "convert the original model again, with this parameter")
        };
        zero.map(hypothesis).collect()
    }

    /// Each parameter exchanged with another one of its shape: those of its own layer first.
    pub(super) fn exchanged(&self) -> Vec<Hypothesis> {
        let all = self.model.params();
        let mut found: Vec<(usize, Hypothesis)> = Vec::new();
        let mut known = BTreeSet::new();
        for own in self.params.iter().filter(|param| param.shape.iter().product::<usize>() > 1) {
            for other in all.iter().filter(|other| other.shape == own.shape && other.name != own.name) {
                let mut pair = [own.name.as_str(), other.name.as_str()];
                pair.sort_unstable();
                let differ = self.model.values(&own.name) != self.model.values(&other.name);
                if self.model.shape(&other.name).is_none() || !differ || !known.insert(pair) {
                    continue;
                }
                let near = usize::from(own.layer != other.layer)
                    + usize::from((own.module, own.role) != (other.module, other.role));
                let cause = format!("{} and {} are exchanged", own.name, other.name);
                let repair = "convert the original model again: parameters were mixed up";
                let of_norm = own.path() == other.path() && own.module.is_norm();
                let kind = if of_norm { "swapped-gamma-beta" } else { "misplaced-parameter" };
                let change = Change::Swap(own.name.clone(), other.name.clone());
                found.push((near, Hypothesis::new(kind, cause, repair).undone_by([change])));
            }
        }
        found.sort_by_key(|(near, _)| *near);
        found.into_iter().map(|(_, hypothesis)| hypothesis).collect()
    }

    /// Heads in any order, or any two exchanged, in each parameter that has them, in all weights, and in groups of parts.
    pub(super) fn heads(&self) -> Vec<Hypothesis> {
        let (model, config) = (self.model, &self.model.config);
        let d = config.head_size();
        let orders = orders_of_heads(config.num_attention_heads);
        let mut found = Vec::new();
        for layer in self.layers() {
            let of_heads: Vec<_> = model.of_heads(layer).collect();
            let is = |parts: &[Part], wanted: &[Part]| parts.iter().all(|part| wanted.contains(part));
            use Part::{Key, PositionKey, PositionQuery, Query, Value};
            let mut sets: Vec<(String, Vec<usize>)> = (of_heads.iter().enumerate())
                .map(|(at, (param, _))| (param.name.clone(), vec![at]))
                .collect();
            for (what, wanted) in [
                ("queries", &[Query][..]),
                ("keys", &[Key]),
                ("values", &[Value]),
                ("queries and keys", &[Query, Key]),
                ("queries, keys and values", &[Query, Key, Value]),
                ("keys of positions", &[PositionKey]),
                ("queries of positions", &[PositionQuery]),
                ("positions", &[PositionKey, PositionQuery]),
            ] {
                let chosen = |weights: bool| -> Vec<usize> {
                    let param = |at: &usize| {
                        of_heads.get(*at).is_some_and(|(param, parts)| {
                            is(parts, wanted) && (!weights || param.role == Role::LinearWeight)
                        })
                    };
                    (0..of_heads.len()).filter(param).collect()
                };
                sets.push((format!("{what} of layer {layer}"), chosen(false)));
                sets.push((format!("weights of {what} of layer {layer}"), chosen(true)));
            }
            let mut known = BTreeSet::new();
            sets.retain(|(_, chosen)| !chosen.is_empty() && known.insert(chosen.clone()));
            let suspected = |at: &usize| {
                let name = of_heads.get(*at).map(|(param, _)| &param.name);
                self.params.iter().any(|param| Some(&param.name) == name)
            };
            for (what, chosen) in sets.iter().filter(|(_, chosen)| chosen.iter().any(suspected)) {
                for order in &orders {
                    let changes = chosen.iter().filter_map(|at| of_heads.get(*at)).map(|(param, parts)| {
                        let block = parts.len() * d;
                        let rows =
                            order.iter().flat_map(|head| (0..block).map(move |row| head * block + row));
                        Change::Rows { name: param.name.clone(), order: rows.collect() }
                    });
                    let hypothesis = permuted_heads(what, order);
                    // Values in another order, and what takes them, are the same.
                    found.push(hypothesis.undone_by(changes).says_what(false));
                }
            }
            let dense = model.weight(Module::AttentionDense, layer);
            if self.params.iter().any(|param| param.name == dense) {
                for order in &orders {
                    let columns = order.iter().flat_map(|head| (0..d).map(move |at| head * d + at)).collect();
                    let change = Change::Columns { name: dense.clone(), order: columns };
                    let hypothesis = permuted_heads(&dense, order);
                    found.push(hypothesis.undone_by([change]).says_what(false));
                }
            }
        }
        found
    }

    /// The layers whose heads are suspected.
    fn layers(&self) -> BTreeSet<usize> {
        let of_heads = self.params.iter().filter(|param| matches!(param.rows, Rows::Heads(_)));
        of_heads.filter_map(|param| param.layer).collect()
    }
}
