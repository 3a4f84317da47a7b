//! What a program that computes graphs must be able to do.

use deberta_converters::error::{Error, Kind, Result};

use super::feed::{Given, Input};
use crate::trace::tensor::Tensor;

/// A graph in the hands of a program that computes it.
pub(super) trait Runtime: Send + Sync {
    /// The program with its version.
    fn producer(&self) -> String;

    /// What the graph must be given. Initializers may be among it.
    ///
    /// # Errors
    /// Inputs of a kind that no graph of this model has.
    fn inputs(&self) -> Result<Vec<Input>>;

    /// The names of the graph's outputs.
    fn outputs(&self) -> Vec<String>;

    /// Computes the outputs with these names, and returns them in the same order.
    ///
    /// # Errors
    /// Whatever the program says; outputs that are no numbers.
    fn run(&self, given: Vec<Given>, outputs: &[String]) -> Result<Vec<Tensor>>;
}

/// The error for a graph that a program does not load.
pub(super) fn not_taken(why: &dyn std::fmt::Display) -> Error {
    Error::unsupported(format!("the runtime does not take this graph: {}", one_line(why)))
}

/// The error for a graph that a program does not run.
pub(super) fn not_run(why: &dyn std::fmt::Display) -> Error {
    Error::new(Kind::Model, format!("the graph does not run: {}", one_line(why)))
}

/// The error for an output that is not of numbers.
pub(super) fn no_numbers(name: &str, made: &dyn std::fmt::Debug) -> Error {
    Error::new(Kind::Model, format!("the graph makes {made:?}, no numbers")).in_tensor(name)
}

fn one_line(text: &dyn std::fmt::Display) -> String {
    text.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
