//! What can go wrong: a checkpoint that does not make the model, inputs that the model cannot take, tokenizer files
//! or texts that make no tokens.

use std::fmt;
use std::path::PathBuf;

use crate::load_report::LoadReport;

/// The result of loading or running a model.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure to load or to run a model.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The checkpoint lacks parameters of the model, or has them in other shapes.
    Incomplete(Box<LoadReport>),
    /// The source failed to deliver a tensor.
    Source {
        /// The canonical name of the tensor.
        tensor: String,
        /// What the source says.
        error: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The configuration is valid, but the class cannot be built from it.
    Unsupported(String),
    /// The inputs do not fit the model or each other.
    Input(InputError),
    /// A value that should replace an activation has another shape.
    Replacement {
        /// The name of the activation.
        name: String,
        /// The shape of the activation.
        expected: Vec<usize>,
        /// The shape of the value.
        found: Vec<usize>,
    },
    /// A tokenizer file that cannot be read or used.
    TokenizerFile {
        /// The file.
        file: PathBuf,
        /// Where in the file: a line, a key, or nothing.
        place: String,
        /// What is wrong.
        problem: String,
    },
    /// A text, ids or options that the tokenizer cannot take.
    Tokenizer(String),
    /// The end was asked for: [`stop`](crate::stop).
    Stopped,
}

/// Inputs that do not fit the model or each other.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InputError {
    /// Neither `input_ids` nor `inputs_embeds`.
    NoTokens,
    /// Both `input_ids` and `inputs_embeds`.
    TwoKindsOfTokens,
    /// No sequence, or sequences without tokens.
    Empty {
        /// b
        batch: usize,
        /// n
        tokens: usize,
    },
    /// An argument of the wrong shape.
    Shape {
        /// The argument.
        argument: &'static str,
        /// The shapes that fit, in words.
        expected: String,
        /// The shape that it has.
        found: Vec<usize>,
    },
    /// A number in an argument outside its range.
    OutOfRange {
        /// The argument.
        argument: &'static str,
        /// Where in the argument, one index per axis.
        at: Vec<usize>,
        /// The number.
        value: i64,
        /// The number must be at least 0 and less than this.
        limit: usize,
    },
    /// More tokens than absolute positions.
    TooLong {
        /// n
        tokens: usize,
        /// P
        positions: usize,
    },
    /// Multiple choice without the number of choices.
    NoChoices,
    /// Sequences that do not make whole questions.
    Choices {
        /// c
        choices: usize,
        /// b c
        sequences: usize,
    },
    /// Labels of the wrong kind: real numbers for integers.
    Kind {
        /// The argument.
        argument: &'static str,
        /// What is needed.
        expected: &'static str,
    },
}

impl Error {
    /// What was wanted and what was found, where these are numbers or shapes.
    pub fn want_and_got(&self) -> Option<(String, String)> {
        let shapes = |want: &[usize], got: &[usize]| Some((format!("{want:?}"), format!("{got:?}")));
        match self {
            Error::Input(error) => error.want_and_got(),
            Error::Replacement { expected, found, .. } => shapes(expected, found),
            Error::Incomplete(report) => {
                report.wrong_shape.first().and_then(|wrong| shapes(&wrong.expected, &wrong.found))
            }
            _ => None,
        }
    }

    /// The parameter, activation or argument that it is about, if it is about one.
    pub fn tensor(&self) -> Option<&str> {
        match self {
            Error::Input(error) => error.argument(),
            Error::Replacement { name, .. } => Some(name),
            Error::Source { tensor, .. } => Some(tensor),
            Error::Incomplete(report) => report
                .wrong_shape
                .first()
                .map(|wrong| &wrong.name)
                .or(report.missing.first())
                .map(String::as_str),
            _ => None,
        }
    }
}

impl From<InputError> for Error {
    fn from(error: InputError) -> Error {
        Error::Input(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Incomplete(report) => write!(f, "the checkpoint does not make this model: {report}"),
            Error::Source { tensor, error } => write!(f, "tensor {tensor:?}: {error}"),
            Error::Unsupported(reason) => f.write_str(reason),
            Error::Input(error) => error.fmt(f),
            Error::Replacement { name, expected, found } => {
                write!(f, "{name}: the activation has shape {expected:?}, its replacement {found:?}")
            }
            Error::TokenizerFile { file, place, problem } if place.is_empty() => {
                write!(f, "{}: {problem}", file.display())
            }
            Error::TokenizerFile { file, place, problem } => {
                write!(f, "{}: {place}: {problem}", file.display())
            }
            Error::Tokenizer(problem) => f.write_str(problem),
            Error::Stopped => f.write_str("stopped"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Source { error, .. } => Some(error.as_ref()),
            Error::Input(error) => Some(error),
            _ => None,
        }
    }
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InputError::NoTokens => f.write_str("give input_ids or inputs_embeds, there is neither"),
            InputError::TwoKindsOfTokens => f.write_str("give input_ids or inputs_embeds, not both"),
            InputError::Empty { batch, tokens } => {
                write!(f, "nothing to compute: a batch of {batch} sequences of {tokens} tokens")
            }
            InputError::Shape { argument, expected, found } => {
                write!(f, "{argument}: shape {found:?}, expected {expected}")
            }
            InputError::OutOfRange { argument, at, value, limit } => {
                write!(f, "{argument}{at:?}: {value} is not in 0..{limit}")
            }
            InputError::TooLong { tokens, positions } => write!(
                f,
                "{tokens} tokens, but the model has {positions} absolute positions: shorten the text or give position_ids"
            ),
            InputError::NoChoices => {
                f.write_str("multiple choice: give the number of choices, or inputs with the axes [b, c, n]")
            }
            InputError::Choices { choices, sequences } => {
                write!(
                    f,
                    "multiple choice: {sequences} sequences do not make questions with {choices} choices each"
                )
            }
            InputError::Kind { argument, expected } => write!(f, "{argument}: expected {expected}"),
        }
    }
}

impl InputError {
    /// What was wanted and what was given, where these are numbers or shapes.
    pub fn want_and_got(&self) -> Option<(String, String)> {
        match self {
            InputError::Shape { expected, found, .. } => Some((expected.clone(), format!("{found:?}"))),
            InputError::OutOfRange { value, limit, .. } => Some((format!("0..{limit}"), value.to_string())),
            InputError::TooLong { tokens, positions } => Some((positions.to_string(), tokens.to_string())),
            InputError::Choices { choices, sequences } => Some((choices.to_string(), sequences.to_string())),
            _ => None,
        }
    }

    /// The argument that it is about, if it is about one.
    pub fn argument(&self) -> Option<&'static str> {
        match self {
            InputError::Shape { argument, .. }
            | InputError::OutOfRange { argument, .. }
            | InputError::Kind { argument, .. } => Some(argument),
            _ => None,
        }
    }
}

impl std::error::Error for InputError {}
