//! Published values: parts of tensors, and the inputs that they were computed for.

use serde::Deserialize;

use crate::judge::tolerance::Tolerance;

/// A part of a tensor, as somebody published it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slice {
    /// The tensor, if it is an output: `last_hidden_state`.
    pub output: Option<String>,
    /// The tensor, if it is an activation: `encoder.layer.0`.
    pub activation: Option<String>,
    /// What is done to the whole tensor before the part is taken.
    pub function: Option<Function>,
    /// Start and end (exclusive) along every axis.
    pub ranges: Vec<[usize; 2]>,
    /// The values, in lists as deep as there are axes.
    pub values: Nested,
    /// How far each value may be off: the absolute part.
    pub atol: f64,
    /// The part that grows with the value.
    #[serde(default)]
    pub rtol: f64,
}

/// What is done to a tensor before values are taken from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Function {
    /// The softmax over the last axis.
    Softmax,
}

/// A number, or lists of lists of numbers.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Nested {
    /// One value.
    Number(f32),
    /// One axis and what is below it.
    List(Vec<Nested>),
}

/// Inputs written out in the case: `input_ids`, or texts for the tokenizer.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InlineInputs {
    /// Token ids [b, n].
    pub input_ids: Option<Vec<Vec<i64>>>,
    /// One text or a pair of texts for every sequence.
    pub texts: Option<Vec<Vec<String>>>,
    /// 1 for a token, 0 for padding [b, n].
    pub attention_mask: Option<Vec<Vec<i64>>>,
    /// Segments [b, n].
    pub token_type_ids: Option<Vec<Vec<i64>>>,
    /// Absolute positions [b, n].
    pub position_ids: Option<Vec<Vec<i64>>>,
}

type Check = Result<(), String>;

impl Slice {
    /// The tensor's name in a trace: `outputs.last_hidden_state`.
    pub fn tensor_name(&self) -> String {
        match (&self.output, &self.activation) {
            (Some(output), _) => format!("outputs.{output}"),
            (None, activation) => format!("activations.{}", activation.as_deref().unwrap_or_default()),
        }
    }

    /// The length of each axis of the part.
    pub fn shape(&self) -> Vec<usize> {
        self.ranges.iter().map(|[start, end]| end.saturating_sub(*start)).collect()
    }

    pub(crate) fn check(&self) -> Check {
        match (&self.output, &self.activation) {
            (Some(name), None) | (None, Some(name)) if !name.is_empty() => {}
            _ => return Err("output: expected a name here or in activation, and not both".into()),
        }
        if let Some((axis, [start, end])) =
            self.ranges.iter().enumerate().find(|(_, [start, end])| start >= end)
        {
            return Err(format!("ranges[{axis}]: [{start}, {end}] is empty"));
        }
        if !self.values.has_shape(&self.shape()) {
            return Err(format!("values: expected lists of shape {:?}, as the ranges say", self.shape()));
        }
        if let Some(value) = self.values.flat().iter().find(|value| !value.is_finite()) {
            return Err(format!("values: {value} is no value to compare with"));
        }
        self.tolerance().check()
    }

    /// How far each value may be off.
    pub fn tolerance(&self) -> Tolerance {
        Tolerance { rtol: self.rtol, ..Tolerance::absolute(self.atol) }
    }
}

impl Nested {
    /// The numbers in row-major order.
    pub fn flat(&self) -> Vec<f32> {
        match self {
            Nested::Number(value) => vec![*value],
            Nested::List(parts) => parts.iter().flat_map(Nested::flat).collect(),
        }
    }

    fn has_shape(&self, shape: &[usize]) -> bool {
        match (self, shape) {
            (Nested::Number(_), []) => true,
            (Nested::List(parts), [length, rest @ ..]) => {
                parts.len() == *length && parts.iter().all(|part| part.has_shape(rest))
            }
            _ => false,
        }
    }
}

impl InlineInputs {
    pub(crate) fn check(&self) -> Check {
        let others = [
            ("attention_mask", &self.attention_mask),
            ("token_type_ids", &self.token_type_ids),
            ("position_ids", &self.position_ids),
        ];
        match (&self.input_ids, &self.texts) {
            (Some(ids), None) => {
                let (b, n) = (ids.len(), ids.first().map_or(0, Vec::len));
                let fits = |rows: &[Vec<i64>]| rows.len() == b && rows.iter().all(|row| row.len() == n);
                if b == 0 || n == 0 || !fits(ids) {
                    return Err(
                        "inputs.input_ids: expected sequences of the same length, at least one token".into(),
                    );
                }
                match others.into_iter().find(|(_, rows)| rows.as_deref().is_some_and(|rows| !fits(rows))) {
                    Some((name, _)) => {
                        Err(format!("inputs.{name}: expected the shape of input_ids, [{b}, {n}]"))
                    }
                    None => Ok(()),
                }
            }
            (None, Some(texts)) => {
                if texts.is_empty() || texts.iter().any(|text| !(1..=2).contains(&text.len())) {
                    return Err(
                        "inputs.texts: expected one text or a pair of texts for every sequence".into()
                    );
                }
                match others.into_iter().find(|(_, rows)| rows.is_some()) {
                    Some((name, _)) => Err(format!("inputs.{name}: the tokenizer makes it from the texts")),
                    None => Ok(()),
                }
            }
            _ => Err("inputs: expected input_ids or texts, and not both".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::case::Case;

    const YAML: &str = r#"
model: microsoft/deberta-base
class: DebertaModel
producer: somebody
tolerances: {default: {atol: 1.0e-4}}
inputs:
  input_ids: [[0, 31414, 2], [5, 6, 7]]
  attention_mask: [[0, 1, 1], [1, 1, 1]]
slices:
  - output: last_hidden_state
    ranges: [[0, 1], [1, 3], [4, 6]]
    values: [[[0.5, -1], [2, 3.25]]]
    atol: 1.0e-4
"#;

    fn error_with(part: &str, replacement: &str) -> String {
        assert!(YAML.contains(part), "{part}");
        Case::from_yaml(&YAML.replacen(part, replacement, 1)).unwrap_err().to_string()
    }

    #[test]
    fn published_values_have_a_place() {
        let case = Case::from_yaml(YAML).unwrap();
        let slice = &case.slices[0];
        assert_eq!(slice.tensor_name(), "outputs.last_hidden_state");
        assert_eq!(slice.shape(), [1, 2, 2]);
        assert_eq!(slice.values.flat(), [0.5, -1.0, 2.0, 3.25]);
        let activation = YAML.replace("output: last_hidden_state", "activation: encoder.layer.0");
        let slice = &Case::from_yaml(&activation).unwrap().slices[0];
        assert_eq!(slice.tensor_name(), "activations.encoder.layer.0");
    }

    #[test]
    fn values_fit_their_ranges() {
        let wrong = error_with("[4, 6]]", "[4, 7]]");
        assert_eq!(wrong, "slices[0].values: expected lists of shape [1, 2, 3], as the ranges say");
        assert_eq!(error_with("[4, 6]]", "[6, 6]]"), "slices[0].ranges[2]: [6, 6] is empty");
        assert!(error_with("-1]", "[-1]]").contains("expected lists of shape"));
        assert!(error_with("3.25", ".nan").contains("NaN is no value to compare with"));
        assert!(error_with("    atol: 1.0e-4", "    atol: -1.0").starts_with("slices[0].atol: "));
        assert!(error_with("    atol: 1.0e-4", "    atol: 0.1\n    rtol: -1.0").contains("rtol: "));
        assert!(error_with("output: last", "activation: x\n    output: last").contains("and not both"));
    }

    #[test]
    fn tokens_may_be_published_alone() {
        let start = YAML.find("inputs:").unwrap();
        let with = |tokens: &str| Case::from_yaml(&format!("{}tokenizer:\n  - {tokens}\n", &YAML[..start]));
        let case = with("{text: a, pair: \"b\", ids: [1, 251000, 2]}").unwrap();
        assert_eq!(case.tokenizer[0].name(), "tokenizer: \"a\", \"b\"");
        let error = |tokens: &str| with(tokens).unwrap_err().to_string();
        assert_eq!(error("{text: a, ids: []}"), "tokenizer[0].ids: expected at least one");
        assert_eq!(
            error("{text: a, ids: [16777217]}"),
            "tokenizer[0].ids: 16777217, expected ids up to 16777216"
        );
        assert!(error("{ids: [1]}").contains("missing field `text`"), "{}", error("{ids: [1]}"));
    }

    #[test]
    fn inputs_fit_each_other() {
        assert!(error_with("[5, 6, 7]", "[5, 6]").contains("sequences of the same length"));
        let wrong = error_with("[[0, 1, 1], [1, 1, 1]]", "[[0, 1, 1]]");
        assert_eq!(wrong, "inputs.attention_mask: expected the shape of input_ids, [2, 3]");
        assert!(
            error_with("input_ids: [[0, 31414, 2], [5, 6, 7]]", "texts: [[a]]")
                .contains("the tokenizer makes it")
        );
        let text = YAML.find("inputs:").unwrap();
        let slices = YAML.find("slices:").unwrap();
        assert!(error_with(&YAML[text..slices], "").contains("inputs: needed"));
        assert!(error_with(&YAML[slices..], "").contains("nothing to compare"));
        assert!(error_with("  input_ids", "  texts: [[a]]\n  input_ids").contains("and not both"));
    }
}
