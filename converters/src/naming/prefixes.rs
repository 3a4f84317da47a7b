//! What a file puts before the names of a model, and into them.
//!
//! Found by what is known: wherever the word embeddings are, there is a model, and what stands before their name stands
//! before the names of the whole model. That is `deberta.`, or for the base model `bert.` (Microsoft's code) or nothing, and
//! before it what the program adds that saved the file: `model.` (Lightning), `module.` (DataParallel, DeepSpeed),
//! `_orig_mod.` (torch.compile), `student.`. Such a wrapper may stand inside of names, too, as FSDP's in
//! `encoder.layer.0._fsdp_wrapped_module.output`: it is what no model has, and alone in its place.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::LazyLock;

use deberta_reference::{Head, Module};

use crate::error::{Error, Kind, Printable, Result};

/// The prefixes of the model that is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefixes {
    model: Model,
    /// What is before the names of other models, with its dot.
    others: Vec<String>,
    /// The paths of wrappers that are inside of names, or before all of them.
    inner: HashSet<String>,
}

/// The place of a model among the names of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Model {
    /// What is before every name of the model, with its dot, without the wrappers that are before all names.
    wrapper: String,
    /// The same as it is in the file.
    shown: String,
    /// `deberta.`, `bert.` or nothing, before the names of the base model.
    base: &'static str,
}

/// The names of the word embeddings below the prefixes.
const ANCHORS: [&str; 2] = ["embeddings.word_embeddings.weight", "embeddings.word_embeddings._weight"];

/// What the base model may be called. Files without word embeddings are read with the first.
const BASES: [&str; 2] = ["deberta.", "bert."];

impl Prefixes {
    /// The prefixes of the model in a file with these names; of several models, of the one that `wanted` names.
    ///
    /// # Errors
    /// Several models and nothing that chooses; none at `wanted`.
    pub fn of<'a>(names: impl Iterator<Item = &'a str> + Clone, wanted: Option<&str>) -> Result<Prefixes> {
        let inner = wrappers(names.clone());
        let mut models: Vec<Model> = Vec::new();
        for name in names.clone() {
            if let Some(model) = Model::at(name, &inner)
                && models.iter().all(|other| other.wrapper != model.wrapper)
            {
                models.push(model);
            }
        }
        // A teacher may be of another architecture.
        let is_deberta = |model: &Model| names.clone().any(|name| model.has_projection(name, &inner));
        let (mut candidates, mut rest): (Vec<Model>, Vec<Model>) =
            if models.len() > 1 { models.into_iter().partition(is_deberta) } else { (models, Vec::new()) };
        if candidates.is_empty() {
            std::mem::swap(&mut candidates, &mut rest);
        }
        let model = if candidates.is_empty() && wanted.is_none() {
            Model { wrapper: String::new(), shown: String::new(), base: BASES[0] }
        } else {
            candidates.swap_remove(choose(&candidates, wanted)?)
        };
        let others = candidates.into_iter().chain(rest).map(|model| model.wrapper).collect();
        Ok(Prefixes { model, others, inner })
    }

    /// The part of `name` after the prefixes, without wrappers.
    pub fn strip<'a>(&self, name: &'a str) -> Local<'a> {
        let name = without(name, &self.inner);
        let wrapper = self.model.wrapper.as_str();
        let is_of_other =
            self.others.iter().any(|other| other.len() > wrapper.len() && name.starts_with(other.as_str()));
        let Some(name) = rest_of(name, wrapper).filter(|_| !is_of_other) else { return Local::Outside };
        match rest_of(name.clone(), self.model.base) {
            Some(rest) if !self.model.base.is_empty() || is_base(&rest) => Local::Base(rest),
            _ => Local::Head(name),
        }
    }

    /// What was found, for people; empty when nothing is unusual.
    pub fn describe(&self) -> Vec<String> {
        let shown = self.model.shown.as_str();
        let mut notes = Vec::new();
        if !shown.is_empty() {
            let whose = if shown == "module." { " (DataParallel)" } else { "" };
            notes.push(format!("names start with `{}`{whose}: taken off", Printable(shown)));
        }
        let inside = self.inner.iter().filter(|path| !shown.starts_with(path.as_str()));
        let inside: BTreeSet<&str> = inside
            .filter_map(|path| path.rsplit('.').next())
            .filter(|word| WRAPPERS.contains(word))
            .collect();
        if !inside.is_empty() {
            let words: Vec<String> = inside.into_iter().map(|word| format!("`{word}`")).collect();
            notes.push(format!("names have {} inside: taken out", words.join(" and ")));
        }
        if self.model.base == "bert." {
            notes.push("the base model is called `bert.` (Microsoft's code): read as `deberta.`".to_owned());
        }
        notes
    }

    /// What is before the names of the model, as people read it: nothing, or text with a dot at the end.
    pub fn shown(&self) -> &str {
        &self.model.shown
    }
}

/// Which of the models, by its number.
fn choose(models: &[Model], wanted: Option<&str>) -> Result<usize> {
    let there: Vec<String> = models.iter().map(|model| format!("\"{}\"", Printable(&model.shown))).collect();
    let there = there.join(" and ");
    let fail = |message: String| Err(Error::new(Kind::Request, message));
    match (wanted.map(|wanted| wanted.trim_end_matches('.')), models) {
        (None, [_]) => Ok(0),
        (None, _) => fail(format!(
            "holds {} models, whose names start with {there}: --prefix chooses one of them",
            models.len()
        )),
        (Some(wanted), []) => fail(format!("--prefix {wanted}: no tensor is called as word embeddings are")),
        (Some(wanted), _) => match models.iter().position(|model| model.is_called(wanted)) {
            Some(chosen) => Ok(chosen),
            None => fail(format!("--prefix {wanted}: the names of models start with {there}")),
        },
    }
}

impl Model {
    /// The model whose word embeddings have this name.
    fn at(name: &str, inner: &HashSet<String>) -> Option<Model> {
        let reduced = without(name, inner);
        let before = ANCHORS.into_iter().find_map(|anchor| reduced.strip_suffix(anchor))?;
        if !(before.is_empty() || before.ends_with('.')) {
            return None;
        }
        let is_at = |base: &&&str| before == **base || before.ends_with(&format!(".{base}"));
        let base = BASES.iter().find(is_at).copied().unwrap_or_default();
        let wrapper = before.strip_suffix(base).unwrap_or(before).to_owned();
        let first = if base.is_empty() { "embeddings." } else { base };
        let boundary = |&(at, _): &(usize, &str)| {
            name.get(..at).is_some_and(|text| text.is_empty() || text.ends_with('.'))
        };
        let (at, _) = name.rmatch_indices(first).find(boundary)?;
        Some(Model { wrapper, shown: name.get(..at).unwrap_or_default().to_owned(), base })
    }

    fn is_called(&self, wanted: &str) -> bool {
        let whole = format!("{}{}", self.shown, self.base);
        [self.shown.as_str(), &whole, &self.wrapper].iter().any(|name| name.trim_end_matches('.') == wanted)
    }

    /// Whether the name is that of a projection that DeBERTa alone has, in a layer of this model.
    fn has_projection(&self, name: &str, inner: &HashSet<String>) -> bool {
        const OWN: [&str; 2] = ["attention.self.in_proj", "attention.self.query_proj"];
        let name = without(name, inner);
        let rest = name.strip_prefix(self.wrapper.as_str()).and_then(|rest| rest.strip_prefix(self.base));
        rest.is_some_and(|rest| {
            rest.starts_with("encoder.layer.") && OWN.iter().any(|own| rest.contains(own))
        })
    }
}

/// A name without its prefixes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Local<'a> {
    /// A tensor of the base model, from `embeddings.` or `encoder.` on.
    Base(Cow<'a, str>),
    /// A tensor of a head.
    Head(Cow<'a, str>),
    /// None of the model.
    Outside,
}

impl Local<'_> {
    /// The canonical spelling of the name under `head`.
    pub fn canonical(self, head: Head) -> Option<String> {
        match self {
            Local::Base(name) => Some(format!("{}{name}", head.base_prefix())),
            Local::Head(name) => Some(name.into_owned()),
            Local::Outside => None,
        }
    }
}

fn is_base(name: &str) -> bool {
    name.starts_with("embeddings.") || name.starts_with("encoder.")
}

/// Wrappers that may stand in a head, too, where a module of another name may be one that computes.
pub(crate) const WRAPPERS: [&str; 6] = [
    "_checkpoint_wrapped_module",
    "_forward_module",
    "_fsdp_wrapped_module",
    "_module",
    "_orig_mod",
    "module",
];

/// The parts of the names of modules.
static KNOWN: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    let parts = Module::ALL.iter().flat_map(|module| module.path().split('.'));
    parts.chain(["deberta", "bert", "encoder", "layer", "emd"]).collect()
});

/// No parameter has a longer name or a deeper one: what has is not looked into, so that hostile names cost little.
const LONGEST: usize = 512;
const DEEPEST: usize = 32;

/// The paths of wrappers: of modules that no model has, each the only one in the module above it.
fn wrappers<'a>(names: impl Iterator<Item = &'a str>) -> HashSet<String> {
    let mut children: HashMap<&str, Option<&str>> = HashMap::new();
    for name in names.filter(|name| is_usual(name)) {
        let mut parent = "";
        for (end, _) in name.match_indices('.').chain([(name.len(), "")]) {
            let path = name.get(..end).unwrap_or_default();
            let only = children.entry(parent).or_insert(Some(path));
            if *only != Some(path) {
                *only = None;
            }
            parent = path;
        }
    }
    let is_wrapper = |(parent, child): (&&str, &Option<&str>)| {
        let child = (*child)?;
        let word = child.rsplit('.').next()?;
        let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
        // In the base model, and before all of a model, every module is known or a wrapper.
        let first = parent.split('.').find(|word| KNOWN.contains(word));
        let is_clear =
            first.is_none_or(|first| matches!(first, "deberta" | "bert" | "embeddings" | "encoder"));
        let is_wrapper = children.contains_key(child)
            && !KNOWN.contains(word)
            && !is_number
            && (is_clear || WRAPPERS.contains(&word));
        is_wrapper.then(|| child.to_owned())
    };
    children.iter().filter_map(is_wrapper).collect()
}

fn is_usual(name: &str) -> bool {
    name.len() <= LONGEST && name.bytes().filter(|&byte| byte == b'.').count() <= DEEPEST
}

/// The name without the wrappers in it.
fn without<'a>(name: &'a str, wrappers: &HashSet<String>) -> Cow<'a, str> {
    if wrappers.is_empty() || !is_usual(name) {
        return Cow::Borrowed(name);
    }
    let mut rest = String::with_capacity(name.len());
    let mut start = 0;
    for (end, _) in name.match_indices('.').chain([(name.len(), "")]) {
        let (path, word) = (name.get(..end).unwrap_or_default(), name.get(start..end).unwrap_or_default());
        if !wrappers.contains(path) {
            rest.push_str(if rest.is_empty() { "" } else { "." });
            rest.push_str(word);
        }
        start = end + 1;
    }
    Cow::Owned(rest)
}

/// What follows `prefix`.
fn rest_of<'a>(name: Cow<'a, str>, prefix: &str) -> Option<Cow<'a, str>> {
    match name {
        Cow::Borrowed(name) => name.strip_prefix(prefix).map(Cow::Borrowed),
        Cow::Owned(name) => name.strip_prefix(prefix).map(|rest| Cow::Owned(rest.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(names: &[&str], head: Head) -> Vec<String> {
        let prefixes = Prefixes::of(names.iter().copied(), None).unwrap();
        names.iter().map(|name| prefixes.strip(name).canonical(head).unwrap_or_default()).collect()
    }

    #[test]
    fn every_prefix_in_the_wild_becomes_canonical() {
        let expected = ["deberta.embeddings.word_embeddings.weight", "classifier.bias"];
        for names in [
            ["deberta.embeddings.word_embeddings.weight", "classifier.bias"],
            ["bert.embeddings.word_embeddings.weight", "classifier.bias"],
            ["embeddings.word_embeddings.weight", "classifier.bias"],
            ["module.deberta.embeddings.word_embeddings.weight", "module.classifier.bias"],
            ["module.module.deberta.embeddings.word_embeddings.weight", "module.module.classifier.bias"],
            ["_orig_mod.model.bert.embeddings.word_embeddings.weight", "_orig_mod.model.classifier.bias"],
            ["deberta._orig_mod.embeddings.word_embeddings.weight", "classifier._orig_mod.bias"],
        ] {
            assert_eq!(canonical(&names, Head::TokenClassification), expected);
        }
        assert_eq!(
            canonical(&["deberta.embeddings.word_embeddings.weight"], Head::Base),
            ["embeddings.word_embeddings.weight"]
        );
    }

    #[test]
    fn a_name_without_the_prefix_is_none_of_the_model() {
        let names =
            ["module.deberta.embeddings.word_embeddings.weight", "module.classifier.bias", "loss.weight"];
        let expected = ["deberta.embeddings.word_embeddings.weight", "classifier.bias", ""];
        assert_eq!(canonical(&names, Head::TokenClassification), expected);
        // A tower called as a part of the model is.
        let names = [
            "encoder.embeddings.word_embeddings.weight",
            "encoder.encoder.layer.0.output.dense.bias",
            "head.weight",
        ];
        let expected = ["embeddings.word_embeddings.weight", "encoder.layer.0.output.dense.bias", ""];
        assert_eq!(canonical(&names, Head::Base), expected);
    }

    #[test]
    fn wrappers_inside_of_names_are_taken_out_where_they_are_alone() {
        let layer = "deberta.encoder.layer.0";
        let names = [
            "deberta.embeddings.word_embeddings.weight",
            &format!("{layer}._fsdp_wrapped_module.block.output.dense.bias"),
            &format!("{layer}._fsdp_wrapped_module.block.attention.self.in_proj.weight"),
            "classifier.linear.bias",
        ];
        let expected = [
            names[0],
            &format!("{layer}.output.dense.bias"),
            &format!("{layer}.attention.self.in_proj.weight"),
            "classifier.linear.bias",
        ];
        assert_eq!(canonical(&names, Head::TokenClassification), expected);
        let prefixes = Prefixes::of(names.iter().copied(), None).unwrap();
        assert_eq!(prefixes.describe(), ["names have `_fsdp_wrapped_module` inside: taken out"]);
    }

    #[test]
    fn of_several_models_the_user_chooses() {
        let names = |a: &str, b: &str| {
            let model = |prefix: &str, own: &str| {
                ["embeddings.word_embeddings.weight", own].map(|name| format!("{prefix}{name}"))
            };
            let own = "encoder.layer.0.attention.self.in_proj.weight";
            [model(a, own), model(b, own)].concat()
        };
        let of = |names: &[String], wanted| Prefixes::of(names.iter().map(String::as_str), wanted);
        let towers = names("student.deberta.", "teacher.bert.");
        let error = of(&towers, None).unwrap_err().to_string();
        assert!(
            error.contains("2 models, whose names start with \"student.\" and \"teacher.\": --prefix"),
            "{error}"
        );
        for wanted in ["teacher", "teacher.", "teacher.bert"] {
            let prefixes = of(&towers, Some(wanted)).unwrap();
            assert_eq!(prefixes.shown(), "teacher.");
            assert_eq!(prefixes.strip(&towers[0]), Local::Outside);
            assert_eq!(prefixes.strip(&towers[2]), Local::Base("embeddings.word_embeddings.weight".into()));
        }
        assert!(
            of(&towers, Some("pupil")).unwrap_err().to_string().contains("\"student.\" and \"teacher.\"")
        );

        let averaged = names("model.deberta.", "model.ema.deberta.");
        assert_eq!(of(&averaged, Some("model")).unwrap().strip(&averaged[2]), Local::Outside);
        assert!(matches!(of(&averaged, Some("model.ema")).unwrap().strip(&averaged[3]), Local::Base(_)));
        assert_eq!(of(&names("deberta.", "ema.deberta."), Some("")).unwrap().shown(), "");

        let mut other = names("student.deberta.", "teacher.bert.");
        other[3] = "teacher.bert.encoder.layer.0.attention.self.query.weight".to_owned();
        assert_eq!(of(&other, None).unwrap().shown(), "student.");
    }

    #[test]
    fn hostile_names_cost_little() {
        let deep = "a.".repeat(1 << 20);
        let names = [deep.as_str(), "deberta.embeddings.word_embeddings.weight", ""];
        let prefixes = Prefixes::of(names.iter().copied(), None).unwrap();
        assert_eq!(prefixes.shown(), "");
        assert!(Prefixes::of(["", ".", "..."].into_iter(), None).is_ok());
    }
}
