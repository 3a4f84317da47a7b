//! Which weights stay in f32: those that a user names, as the model, the graph or a tool calls them.

use std::cell::RefCell;
use std::collections::HashSet;

use deberta_reference::probe::matches;

use crate::error::{Error, Kind, Result};

/// The names of what stays in f32.
#[derive(Debug)]
pub struct Kept<'a> {
    /// Every name as it was given, and the pattern of module paths that it stands for.
    names: Vec<(&'a str, String)>,
    /// What stands in front of the modules of the base model, and may be left out.
    prefix: &'a str,
    met: RefCell<HashSet<&'a str>>,
    /// The names that a weight has which is in f32 whatever is kept.
    in_f32_anyway: RefCell<HashSet<&'a str>>,
}

impl<'a> Kept<'a> {
    /// The weights of these modules, parameters or nodes: `*` stands for any text. `prefix` is what stands in front of the modules
    /// of the base model (`deberta.`).
    pub fn new(names: &'a [String], prefix: &'a str) -> Kept<'a> {
        let names = names.iter().map(|name| (name.as_str(), module_path(name))).collect();
        Kept { names, prefix, met: RefCell::default(), in_f32_anyway: RefCell::default() }
    }

    /// Whether a weight stays in f32 that belongs to one of these modules.
    pub(crate) fn has<'m>(&self, modules: impl IntoIterator<Item = &'m str>) -> bool {
        self.note(modules, &self.met)
    }

    /// Notes the names of a parameter that int8 does not round, and of the modules that use it.
    pub(crate) fn note_in_f32<'m>(&self, names: impl IntoIterator<Item = &'m str>) {
        self.note(names, &self.in_f32_anyway);
    }

    /// Puts what was given for one of these modules among `met`, and says whether anything was.
    fn note<'m>(&self, modules: impl IntoIterator<Item = &'m str>, met: &RefCell<HashSet<&'a str>>) -> bool {
        let mut met = met.borrow_mut();
        let mut kept = false;
        for module in modules {
            let short = module.strip_prefix(self.prefix).unwrap_or(module);
            for (given, pattern) in &self.names {
                if matches(pattern, module) || matches(pattern, short) {
                    met.insert(given);
                    kept = true;
                }
            }
        }
        kept
    }

    /// The names that were given for what int8 does not round, and for nothing else.
    pub(crate) fn needless(&self) -> Vec<String> {
        let (met, in_f32) = (self.met.borrow(), self.in_f32_anyway.borrow());
        let given = self.names.iter().map(|(given, _)| *given);
        given.filter(|given| in_f32.contains(given) && !met.contains(given)).map(str::to_owned).collect()
    }

    /// Refuses names that no parameter had.
    ///
    /// # Errors
    /// There is such a name.
    pub(crate) fn require_all_met(&self) -> Result<()> {
        let (met, in_f32) = (self.met.borrow(), self.in_f32_anyway.borrow());
        let given = self.names.iter().map(|(given, _)| *given);
        let unknown: Vec<&str> =
            given.filter(|given| !met.contains(given) && !in_f32.contains(given)).collect();
        let Some((first, others)) = unknown.split_first() else { return Ok(()) };
        let more = match others {
            [] => String::new(),
            [other] => format!(" or \"{other}\""),
            _ => format!(", or has one of {} other names", others.len()),
        };
        let why = format!(
            "--keep-f32: nothing in the model is called \"{first}\"{more}: names are those of modules \
             (encoder.layer.0.output.dense), parameters, or nodes of an exported graph, and * stands for any text"
        );
        Err(Error::new(Kind::Request, why))
    }
}

/// The module that a name is of: of a node `/encoder/layer/0/output/dense/Gemm`, of a parameter or a tensor that was made of it
/// `encoder.layer.0.output.dense.weight_quantized`.
pub(crate) fn module_path(name: &str) -> String {
    let path = match name.strip_prefix('/').unwrap_or(name).rsplit_once('/') {
        Some((path, _operation)) => path.replace('/', "."),
        None => name.to_owned(),
    };
    path.split(".weight").next().unwrap_or_default().to_owned()
}

/// The names in the text of a file: in lines, or as a list of JSON or Python. Lines that start with `#` are comments.
pub fn names_in(text: &str) -> Vec<String> {
    let is_around = |sign: char| matches!(sign, '[' | ']' | '"' | '\'');
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let words = lines.flat_map(|line| line.split(|sign: char| sign == ',' || sign.is_whitespace()));
    let names = words.map(|word| word.trim_matches(is_around)).filter(|word| !word.is_empty());
    names.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_modules_parameters_and_nodes_are_one() {
        const MODULE: &str = "deberta.encoder.layer.0.output.dense";
        for name in [
            MODULE,
            "deberta.encoder.layer.0.output.dense.weight",
            "encoder.layer.0.output.dense",
            "/deberta/encoder/layer/0/output/dense/Gemm",
            "/deberta/encoder/layer.0/output/dense/MatMul",
            "/deberta/encoder/layer/0/output/dense/Gemm_MatMul_quant",
            "deberta.encoder.layer.0.output.dense.weight_Transposed_quantized",
            "*layer.0*",
        ] {
            let names = [name.to_owned()];
            let kept = Kept::new(&names, "deberta.");
            assert!(kept.has([MODULE]), "{name}");
            assert!(!kept.has(["deberta.encoder.layer.1.output.dense"]), "{name}");
            kept.require_all_met().unwrap();
        }
    }

    #[test]
    fn names_that_nothing_has_are_refused() {
        let more: [(&[&str], &str); 3] = [
            (&["pooler.dense", "layer"], "is called \"layer\": names are"),
            (&["layer", "x"], "is called \"layer\" or \"x\": names are"),
            (&["layer", "x", "y"], "is called \"layer\", or has one of 2 other names: names are"),
        ];
        for (names, said) in more {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            let kept = Kept::new(&names, "deberta.");
            kept.has(["pooler.dense"]);
            let error = kept.require_all_met().unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn names_of_what_is_in_f32_anyway_are_told() {
        let names = ["pooler.*", "classifier.weight", "pooler.dense.bias"].map(str::to_owned);
        let kept = Kept::new(&names, "deberta.");
        assert!(kept.has(["deberta.pooler.dense"]));
        kept.note_in_f32(["classifier", "classifier.bias"]);
        kept.note_in_f32(["deberta.pooler.dense", "deberta.pooler.dense.bias"]);
        kept.require_all_met().unwrap();
        // The first is of a weight that is rounded, too.
        assert_eq!(kept.needless(), ["classifier.weight", "pooler.dense.bias"]);
    }

    #[test]
    fn files_hold_lines_or_lists() {
        for text in ["a.b\n# c\n\n/d/e\n", "[\"a.b\", \"/d/e\"]", "['a.b',\n '/d/e']\n", "a.b /d/e"] {
            assert_eq!(names_in(text), ["a.b", "/d/e"], "{text}");
        }
    }
}
