//! What keeps files from being a complete checkpoint of a class.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::error::{Error, Kind};
use crate::tensor::Dtype;

/// A tensor that keeps the files from being a complete checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The tensor, by its name in the file if it is there, else by the name that it should have.
    pub tensor: String,
    /// What is wrong with it.
    pub what: ProblemKind,
}

/// What is wrong with a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// The class needs it and the files do not hold it.
    Missing,
    /// The files hold it and the class does not know it.
    Unexpected,
    /// Its shape is not the one that the configuration implies.
    Shape {
        /// As it should be in this format.
        expected: Vec<usize>,
        /// As it is.
        found: Vec<usize>,
    },
    /// It is not floating point.
    Dtype(Dtype),
    /// It should repeat a parameter, and differs from it.
    DiffersFrom {
        /// The parameter, by its name in the file.
        name: String,
        /// Whether it is the word embeddings, of which a decoder is the usual copy.
        decoder: bool,
    },
    /// It is this parameter, and the graph does not say whether it is transposed.
    Layout(String),
    /// A node of the graph makes other numbers of it before they are used.
    Altered(String),
    /// It is the `position_ids` buffer and does not count 0, 1, 2, ….
    NotCounting,
    /// It is what this parameter is more than the generator's, and the parameter itself is not there.
    Difference(String),
}

impl ProblemKind {
    /// What should be there and what is, where these are shapes or dtypes.
    pub fn want_and_got(&self) -> Option<(String, String)> {
        match self {
            ProblemKind::Shape { expected, found } => Some((format!("{expected:?}"), format!("{found:?}"))),
            ProblemKind::Dtype(dtype) => Some(("floating point".to_owned(), dtype.to_string())),
            _ => None,
        }
    }

    /// The error of a tensor that it is wrong with.
    pub(crate) fn error(&self) -> Error {
        Error::new(Kind::Model, self.to_string()).wanting_if(self.want_and_got())
    }
}

/// As its words.
impl Serialize for ProblemKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProblemKind::Missing => f.write_str("missing"),
            ProblemKind::Unexpected => f.write_str("unexpected: the class has no such parameter"),
            ProblemKind::Shape { expected, found } => {
                write!(f, "shape {found:?}, the configuration implies {expected:?}")?;
                let reversed = found.iter().rev().eq(expected.iter());
                f.write_str(if reversed && expected.len() >= 2 { " (it is transposed)" } else { "" })
            }
            ProblemKind::Dtype(dtype) => write!(f, "dtype {dtype}, a parameter must be floating point"),
            ProblemKind::DiffersFrom { name, decoder } => {
                write!(f, "differs from \"{name}\", which it must repeat")?;
                f.write_str(if *decoder {
                    " (an untied decoder needs tie_word_embeddings false)"
                } else {
                    ""
                })
            }
            ProblemKind::Layout(name) => {
                write!(f, "is \"{name}\", and no MatMul or Gemm says whether it is transposed")
            }
            ProblemKind::Altered(node) => {
                write!(f, "the graph computes with other numbers, which {node} makes of it")
            }
            ProblemKind::NotCounting => f.write_str("a position_ids buffer that does not count 0, 1, 2, …"),
            ProblemKind::Difference(name) => write!(
                f,
                "is only what \"{name}\" is more than the generator's: add the two, and store the sum under that name \
                 (the generator is in pytorch_model.generator.bin)"
            ),
        }
    }
}
