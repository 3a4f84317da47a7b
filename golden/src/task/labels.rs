//! Labels as data give them: by name, or by a number that `--labels` gives a name.

use deberta_converters::error::Printable;
use serde::Deserialize;

/// A label of a line of JSON, or of a column.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum DataLabel {
    /// By its number; -1 for none.
    Number(i64),
    /// By its name.
    Name(String),
}

/// What stands in the data where the annotators did not agree.
pub(super) const NONE: &str = "-";

impl DataLabel {
    /// A number, or a name.
    pub(super) fn of(cell: &str) -> DataLabel {
        cell.parse().map_or_else(|_| DataLabel::Name(cell.to_owned()), DataLabel::Number)
    }

    /// The name, [`NONE`] for -1. `names` are those of numbers.
    ///
    /// # Errors
    /// A number without a name.
    pub(super) fn name(self, names: Option<&[String]>) -> Result<String, String> {
        let number = match self {
            DataLabel::Name(name) => return Ok(name),
            DataLabel::Number(-1) => return Ok(NONE.to_owned()),
            DataLabel::Number(number) => number,
        };
        let names = names.ok_or_else(|| {
            format!(
                "label {number}: --labels must name the data's labels in the order of their numbers, such as \
                 entailment,neutral,contradiction"
            )
        })?;
        let name = usize::try_from(number).ok().and_then(|number| names.get(number));
        let none = || format!("label {number}: --labels names {}", names.len());
        Ok(name.ok_or_else(none)?.clone())
    }
}

/// Labels in a message.
pub(super) fn listed(labels: &[String]) -> String {
    labels.iter().map(|label| Printable(label).to_string()).collect::<Vec<_>>().join(", ")
}

/// What a reader should know of examples that have no label.
pub(super) fn left_out(count: usize) -> Option<String> {
    (count > 0).then(|| format!("{count} examples have no label (\"-\") and are left out"))
}
