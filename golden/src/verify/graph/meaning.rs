//! What a graph's output is of a golden's: the same, or probabilities made of its logits.

use std::collections::HashMap;

use crate::trace::file::Trace;
use crate::trace::tensor::{Data, Tensor};

/// What an output is of the one that a golden has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Same,
    /// The softmax over the last axis.
    Softmax,
    /// Its logarithm.
    LogSoftmax,
    Sigmoid,
}

/// What a golden's outputs are in a graph, by their names in a trace, where they are not the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Meanings(pub(super) HashMap<String, Meaning>);

impl Meaning {
    pub(super) const ALL: [Meaning; 4] =
        [Meaning::Same, Meaning::Softmax, Meaning::LogSoftmax, Meaning::Sigmoid];

    /// In words: `the softmax of `.
    pub(super) fn words(self) -> &'static str {
        match self {
            Meaning::Same => "",
            Meaning::Softmax => "the softmax of ",
            Meaning::LogSoftmax => "the logarithm of the softmax of ",
            Meaning::Sigmoid => "the sigmoid of ",
        }
    }

    /// What a golden's output is compared as: of probabilities their logarithms, which show what the softmax hides.
    pub(super) fn of_golden(self, want: &Tensor) -> Tensor {
        let Some(numbers) = want.data.floats() else { return want.clone() };
        let numbers = match self {
            Meaning::Same => return want.clone(),
            Meaning::Softmax | Meaning::LogSoftmax => {
                let row = want.shape.last().copied().unwrap_or(1).max(1);
                numbers.chunks(row).flat_map(log_softmax).collect()
            }
            Meaning::Sigmoid => {
                numbers.iter().map(|&x| (1.0 / (1.0 + (-f64::from(x)).exp())) as f32).collect()
            }
        };
        Tensor { data: Data::Floats(numbers), ..want.clone() }
    }

    /// What the graph's output is compared as.
    pub(super) fn of_graph(self, got: &Tensor) -> Tensor {
        match (self, got.data.floats()) {
            (Meaning::Softmax, Some(numbers)) => {
                let numbers = numbers.iter().map(|&p| f64::from(p).ln().max(LEAST) as f32).collect();
                Tensor { data: Data::Floats(numbers), ..got.clone() }
            }
            _ => got.clone(),
        }
    }
}

impl Meanings {
    pub(super) fn of(&self, name: &str) -> Meaning {
        self.0.get(name).copied().unwrap_or(Meaning::Same)
    }

    /// What a run of the graph is compared as with another run of it.
    pub(super) fn of_run(&self, mut run: Trace) -> Trace {
        for tensor in &mut run.tensors {
            *tensor = self.of(&tensor.name).of_graph(tensor);
        }
        run
    }
}

/// The least logarithm that is looked at: probabilities under 1e-30 are as good as none.
const LEAST: f64 = -69.0;

fn log_softmax(row: &[f32]) -> Vec<f32> {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row.iter().map(|&x| f64::from(x - largest).exp()).sum();
    row.iter().map(|&x| (f64::from(x - largest) - sum.ln()).max(LEAST) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_compared_as_logits() {
        let tensor = |numbers: &[f32]| Tensor {
            name: "outputs.logits".to_owned(),
            shape: vec![1, numbers.len()],
            data: Data::Floats(numbers.to_vec()),
        };
        let (logits, probabilities) = (tensor(&[1.0, 3.0]), tensor(&[0.119_202_92, 0.880_797_1]));
        let want = Meaning::Softmax.of_golden(&logits).data.floats().unwrap().into_owned();
        let got = Meaning::Softmax.of_graph(&probabilities).data.floats().unwrap().into_owned();
        assert!(want.iter().zip(&got).all(|(want, got)| (want - got).abs() < 1e-6), "{want:?} {got:?}");
        assert!((want[1] - want[0] - 2.0).abs() < 1e-6);
    }
}
