//! What a TorchScript program takes, as libtorch declares it in the error of a call without arguments:
//! `Declaration: forward(__torch__.….DebertaModel self, Tensor input_ids, Tensor? token_type_ids=None) -> ((Tensor))`.

use deberta_converters::error::{Error, Result};

use crate::trace::class::Class;

/// The arguments that a model has.
const KNOWN: [&str; 5] = ["input_ids", "attention_mask", "token_type_ids", "position_ids", "inputs_embeds"];

/// The declaration of a program.
#[derive(Debug, PartialEq)]
pub(super) struct Declaration {
    /// The type of the program.
    of: String,
    /// The arguments that it can be given, in their order.
    pub(super) arguments: Vec<Argument>,
}

/// An argument of a program.
#[derive(Debug, PartialEq)]
pub(super) struct Argument {
    /// Its name.
    pub(super) name: String,
    /// Whether it may be None.
    pub(super) optional: bool,
}

impl Declaration {
    /// The declaration in the text of an error.
    ///
    /// # Errors
    /// None there; an argument that no model has and that cannot be left out.
    pub(super) fn of_error(text: &str) -> Result<Declaration> {
        let unknown = || {
            let first = text.lines().next().unwrap_or_default();
            Error::unsupported(format!("the program does not say what arguments it takes: {first}"))
        };
        let start = text.split_once("Declaration: forward(").ok_or_else(unknown)?.1;
        let mut parts = split(start).ok_or_else(unknown)?.into_iter();
        let of = parts.next().and_then(|first| first.strip_suffix(" self")).ok_or_else(unknown)?.to_owned();
        let mut arguments = Vec::new();
        for part in parts {
            let (declared, default) = match part.split_once('=') {
                Some((declared, default)) => (declared, Some(default)),
                None => (part, None),
            };
            let (kind, name) = declared.rsplit_once(' ').ok_or_else(unknown)?;
            let optional = matches!(kind, "Tensor?" | "Optional[Tensor]");
            let tensor = optional || kind == "Tensor";
            match tensor && (KNOWN.contains(&name) || optional) {
                true => arguments.push(Argument { name: name.to_owned(), optional }),
                // What follows has defaults, too, and is left out with it.
                false if default.is_some() => break,
                false => {
                    let known = KNOWN.join(", ");
                    let why = format!("the program has an argument {declared:?}: a model has {known}");
                    return Err(Error::unsupported(why));
                }
            }
        }
        Ok(Declaration { of, arguments })
    }

    /// The class of transformers that the program was made from.
    pub(super) fn class(&self) -> Option<Class> {
        self.of.rsplit('.').next().and_then(|name| Class::from_name(name).ok())
    }
}

/// The parts between commas that no bracket encloses, up to the bracket that closes the list.
fn split(text: &str) -> Option<Vec<&str>> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_usize, 0);
    for (at, character) in text.char_indices() {
        match character {
            '(' | '[' => depth += 1,
            ')' if depth == 0 => {
                parts.push(text.get(start..at)?.trim());
                return Some(parts);
            }
            ')' | ']' => depth = depth.checked_sub(1)?,
            ',' if depth == 0 => {
                parts.push(text.get(start..at)?.trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declaration(arguments: &str) -> Result<Declaration> {
        Declaration::of_error(&format!(
            "forward() is missing value for argument 'input_ids'. Declaration: forward({arguments}) -> ((Tensor))\nat …"
        ))
    }

    fn argument(name: &str, optional: bool) -> Argument {
        Argument { name: name.to_owned(), optional }
    }

    #[test]
    fn names_and_types_are_read() {
        let traced = "__torch__.transformers.models.deberta.modeling_deberta.___torch_mangle_3.DebertaForMaskedLM self, \
                      Tensor input_ids, Tensor? attention_mask=None, bool output_attentions=False, Tensor? other=None";
        let declaration = declaration(traced).unwrap();
        assert_eq!(declaration.class(), Class::from_name("DebertaForMaskedLM").ok());
        assert_eq!(declaration.arguments, [argument("input_ids", false), argument("attention_mask", true)]);
    }

    #[test]
    fn another_class_is_no_class() {
        let declaration = declaration("__torch__.Wrapper self, Tensor input_ids").unwrap();
        assert_eq!((declaration.class(), declaration.arguments.len()), (None, 1));
    }

    #[test]
    fn arguments_that_no_model_has_are_refused() {
        for (argument, said) in [
            ("Tensor pixels", "the program has an argument \"Tensor pixels\""),
            ("Dict(str, Tensor) input_ids", "the program has an argument \"Dict(str, Tensor) input_ids\""),
            ("int input_ids", "the program has an argument \"int input_ids\""),
        ] {
            let error = declaration(&format!("__torch__.X self, {argument}")).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        let error = Declaration::of_error("CUDA is out of memory").unwrap_err().to_string();
        assert!(error.contains("does not say what arguments it takes: CUDA is out of memory"), "{error}");
    }
}
