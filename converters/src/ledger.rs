//! What a conversion did, tensor by tensor accounted for.

use std::fmt;
use std::path::PathBuf;

use deberta_reference::Head;
use serde::Serialize;

use crate::error::Printable;
use crate::format::Extra;
use crate::int8::Int8Ledger;
use crate::values::Rounding;

/// The account of a conversion. Displays as a table for people; serialises as JSON for programs.
#[derive(Clone, Debug, Serialize)]
pub struct Ledger {
    /// What was read.
    pub input: Side,
    /// What was written.
    pub output: Side,
    /// The class, by its name in PyTorch.
    pub class: &'static str,
    /// The number of encoder layers.
    pub layers: usize,
    /// The number of parameters, each counted once.
    pub parameters: usize,
    /// The dtypes of the output and how many tensors have each.
    pub dtypes: Vec<(String, usize)>,
    /// Parameters that went to a tensor of the output.
    pub mapped: usize,
    /// Of these, how many have another layout in the output.
    pub transposed: usize,
    /// Second names of the output that share the tensor of a parameter.
    pub aliased: usize,
    /// Tensors of the output that repeat a parameter.
    pub repeated: usize,
    /// Tensors of the input that repeated a parameter and were found equal to it.
    pub copies_checked: usize,
    /// What the input held that is no part of the model, and what became of it.
    pub kept_aside: Vec<Extra>,
    /// What else a reader should know.
    pub notes: Vec<String>,
    /// What a change of dtype did, if one was asked for.
    pub rounding: Option<LargestRounding>,
    /// What rounding weights to int8 did, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub int8: Option<Int8Ledger>,
    /// Files besides the weights that were written.
    pub also_written: Vec<PathBuf>,
}

/// One side of a conversion.
#[derive(Clone, Debug, Serialize)]
pub struct Side {
    /// The file, or the index of the shards.
    pub path: PathBuf,
    /// The format.
    pub format: String,
    /// The number of weight files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// The weight digest.
    pub digest: String,
}

/// The largest rounding error of a change of dtype.
#[derive(Clone, Debug, Serialize)]
pub struct LargestRounding {
    /// The parameter that it is in.
    pub tensor: String,
    /// The largest absolute difference.
    pub max_abs: f64,
    /// How many values changed, over all tensors.
    pub changed: u64,
}

impl LargestRounding {
    /// The largest of the roundings of named parameters.
    pub fn of<'a>(roundings: impl Iterator<Item = (&'a str, Rounding)>) -> LargestRounding {
        let mut largest = LargestRounding { tensor: String::new(), max_abs: 0.0, changed: 0 };
        for (name, rounding) in roundings {
            largest.changed += rounding.changed;
            if rounding.max_abs > largest.max_abs {
                largest.max_abs = rounding.max_abs;
                largest.tensor = name.to_owned();
            }
        }
        largest
    }
}

impl Ledger {
    /// The class as a head.
    pub fn head(&self) -> Option<Head> {
        Head::from_class_name(self.class)
    }
}

/// An optimizer's state can have thousands of entries.
const MOST_LINES: usize = 20;

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |f: &mut fmt::Formatter<'_>, label: &str, side: &Side| {
            let files = if side.files == 1 { String::new() } else { format!(" in {} files", side.files) };
            writeln!(f, "{label:<11} {}  ({}, {} bytes{files})", side.path.display(), side.format, side.bytes)
        };
        side(f, "input", &self.input)?;
        side(f, "output", &self.output)?;
        for path in &self.also_written {
            writeln!(f, "{:<11} {}", "", path.display())?;
        }
        let dtypes: Vec<String> =
            self.dtypes.iter().map(|(dtype, count)| format!("{count} {dtype}")).collect();
        writeln!(
            f,
            "{:<11} {}, {} layers, {} parameters",
            "model", self.class, self.layers, self.parameters
        )?;
        writeln!(f, "{:<11} {} ({})", "mapped", self.mapped, dtypes.join(", "))?;
        writeln!(f, "{:<11} {}", "transposed", self.transposed)?;
        writeln!(
            f,
            "{:<11} {} written, {} checked in the input",
            "aliased",
            self.aliased + self.repeated,
            self.copies_checked
        )?;
        writeln!(f, "{:<11} {}", "kept aside", self.kept_aside.len())?;
        for aside in self.kept_aside.iter().take(MOST_LINES) {
            writeln!(f, "{:<11} - {}: {}", "", Printable(&aside.name), Printable(&aside.what))?;
        }
        if let Some(more) = self.kept_aside.len().checked_sub(MOST_LINES).filter(|&more| more > 0) {
            writeln!(f, "{:<11} - and {more} more, which --format json lists", "")?;
        }
        if let Some(rounding) = &self.rounding {
            match rounding.changed {
                0 => writeln!(f, "{:<11} none: every value is exact in the new dtype", "rounding")?,
                changed => writeln!(
                    f,
                    "{:<11} {changed} values changed, at most by {:e} (in {})",
                    "rounding", rounding.max_abs, rounding.tensor
                )?,
            }
        }
        if let Some(int8) = &self.int8 {
            write!(f, "{int8}")?;
        }
        for note in &self.notes {
            writeln!(f, "{:<11} {note}", "note")?;
        }
        writeln!(f, "{:<11} input  {}", "digest", self.input.digest)?;
        let verdict = if self.input.digest == self.output.digest {
            "equal"
        } else if self.rounding.is_some() || self.int8.is_some() {
            "rounded as asked for"
        } else {
            "same values under new names, as asked for"
        };
        write!(f, "{:<11} output {}  {verdict}", "", self.output.digest)
    }
}
