//! PyTorch names: canonical ones, and what older or other code wrote instead.
//!
//! Accepted besides the canonical name: `LayerNorm.gamma` and `LayerNorm.beta` (before transformers 1.0), the
//! prefix `module.` of `DataParallel`, and for the base model `bert.` or nothing instead of `deberta.`
//! (Microsoft's original code), which also calls the classifier of `mask_predictions` a `classifer`.

use deberta_reference::{Head, Module, Param, Role};

use super::Stored;

/// The name that PyTorch gives `param`: the canonical one.
pub fn stored(param: &Param) -> Stored {
    Stored { name: param.name.clone(), transposed: false }
}

/// All names under which `param` is accepted once prefixes are canonical; the first is [`stored`].
pub fn accepted(param: &Param) -> Vec<Stored> {
    let mut names = vec![stored(param)];
    let old = match (param.role, param.module) {
        (Role::LayerNormScale, _) => Some((".weight", ".gamma")),
        (Role::LayerNormShift, _) => Some((".bias", ".beta")),
        (_, Module::MaskPredictionsClassifier) => Some((".classifier.", ".classifer.")),
        _ => None,
    };
    if let Some((new, old)) = old {
        names.push(Stored { name: param.name.replace(new, old), transposed: false });
    }
    names
}

/// The prefixes that a file puts before canonical names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefixes {
    /// `module.` or nothing, before every name.
    wrapper: &'static str,
    /// `deberta.`, `bert.` or nothing, before the names of the base model.
    base: &'static str,
}

impl Prefixes {
    /// The prefixes of a file with these names.
    pub fn of<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Prefixes {
        const ANCHOR: [&str; 2] = ["embeddings.word_embeddings.weight", "embeddings.word_embeddings._weight"];
        let wrapped = names.clone().next().is_some() && names.clone().all(|name| name.starts_with("module."));
        let wrapper = if wrapped { "module." } else { "" };
        let holds = |base: &str| {
            names.clone().any(|name| {
                name.strip_prefix(wrapper)
                    .and_then(|name| name.strip_prefix(base))
                    .is_some_and(|name| ANCHOR.contains(&name))
            })
        };
        let base = ["deberta.", "bert.", ""].into_iter().find(|base| holds(base)).unwrap_or("deberta.");
        Prefixes { wrapper, base }
    }

    /// The part of `name` after the prefixes.
    pub fn strip<'a>(self, name: &'a str) -> Local<'a> {
        let name = name.strip_prefix(self.wrapper).unwrap_or(name);
        match name.strip_prefix(self.base) {
            Some(rest) if !self.base.is_empty() || is_base(rest) => Local::Base(rest),
            _ => Local::Head(name),
        }
    }

    /// What was found, for people; empty when nothing is unusual.
    pub fn describe(self) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.wrapper.is_empty() {
            notes.push(format!("names start with `{}` (DataParallel): taken off", self.wrapper));
        }
        if self.base == "bert." {
            notes.push("the base model is called `bert.` (Microsoft's code): read as `deberta.`".to_owned());
        }
        notes
    }
}

/// A name without its prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Local<'a> {
    /// A tensor of the base model, from `embeddings.` or `encoder.` on.
    Base(&'a str),
    /// A tensor of a head.
    Head(&'a str),
}

impl Local<'_> {
    /// The canonical spelling of the name under `head`.
    pub fn canonical(self, head: Head) -> String {
        match self {
            Local::Base(name) => format!("{}{name}", head.base_prefix()),
            Local::Head(name) => name.to_owned(),
        }
    }
}

fn is_base(name: &str) -> bool {
    name.starts_with("embeddings.") || name.starts_with("encoder.")
}

#[cfg(test)]
mod tests {
    use deberta_reference::{DebertaConfig, params};

    use super::*;

    fn canonical(names: &[&str], head: Head) -> Vec<String> {
        let prefixes = Prefixes::of(names.iter().copied());
        names.iter().map(|name| prefixes.strip(name).canonical(head)).collect()
    }

    #[test]
    fn every_prefix_in_the_wild_becomes_canonical() {
        let expected = ["deberta.embeddings.word_embeddings.weight", "classifier.bias"];
        for names in [
            ["deberta.embeddings.word_embeddings.weight", "classifier.bias"],
            ["bert.embeddings.word_embeddings.weight", "classifier.bias"],
            ["embeddings.word_embeddings.weight", "classifier.bias"],
            ["module.deberta.embeddings.word_embeddings.weight", "module.classifier.bias"],
        ] {
            assert_eq!(canonical(&names, Head::TokenClassification), expected);
        }
        assert_eq!(
            canonical(&["deberta.embeddings.word_embeddings.weight"], Head::Base),
            ["embeddings.word_embeddings.weight"]
        );
    }

    #[test]
    fn one_name_without_the_wrapper_means_that_there_is_none() {
        let names = ["module.deberta.embeddings.word_embeddings.weight", "classifier.bias"];
        assert_eq!(canonical(&names, Head::TokenClassification)[0], names[0]);
    }

    #[test]
    fn only_layer_norms_have_old_spellings() {
        let config = DebertaConfig::from_json("{}").unwrap();
        for param in params(&config, Head::Base) {
            let names: Vec<String> = accepted(&param).into_iter().map(|stored| stored.name).collect();
            let old = match param.role {
                Role::LayerNormScale => vec![format!("{}.gamma", param.path())],
                Role::LayerNormShift => vec![format!("{}.beta", param.path())],
                _ => Vec::new(),
            };
            assert_eq!(names, [vec![param.name.clone()], old].concat());
        }
    }
}
