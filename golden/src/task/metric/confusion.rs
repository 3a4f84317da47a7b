//! Which labels are taken for which.

use serde::Serialize;

/// How often each label was expected, and what was predicted then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Confusion {
    /// The labels, in the order of both axes.
    pub labels: Vec<String>,
    /// A row for every expected label, in it how often each label was predicted.
    pub counts: Vec<Vec<usize>>,
}

impl Confusion {
    /// Counts pairs of what was expected and what was predicted, by the numbers of labels.
    pub fn of(labels: &[String], pairs: impl Iterator<Item = (usize, usize)>) -> Confusion {
        let mut counts = vec![vec![0; labels.len()]; labels.len()];
        for (expected, predicted) in pairs {
            if let Some(count) = counts.get_mut(expected).and_then(|row| row.get_mut(predicted)) {
                *count += 1;
            }
        }
        Confusion { labels: labels.to_vec(), counts }
    }

    /// The mean of the F1 scores of all labels that were expected or predicted, scikit-learn's
    /// `f1_score(average="macro", zero_division=0)`; nothing if there are none.
    pub fn f1_macro(&self) -> Option<f64> {
        let scores: Vec<f64> = (0..self.labels.len()).filter_map(|label| self.f1(label)).collect();
        (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64)
    }

    fn f1(&self, label: usize) -> Option<f64> {
        let row = self.counts.get(label)?;
        let right = *row.get(label)?;
        let expected: usize = row.iter().sum();
        let predicted: usize = self.counts.iter().filter_map(|row| row.get(label)).sum();
        (expected + predicted > 0).then(|| 2.0 * right as f64 / (expected + predicted) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// scikit-learn 1.7: `f1_score([0, 0, 1, 1, 2], [0, 1, 1, 1, 0], average="macro")`.
    #[test]
    fn labels_that_are_never_right_count() {
        let labels = ["a", "b", "c", "d"].map(str::to_owned);
        let pairs = [(0, 0), (0, 1), (1, 1), (1, 1), (2, 0)];
        let confusion = Confusion::of(&labels, pairs.into_iter());
        assert_eq!(confusion.counts[0], [1, 1, 0, 0]);
        let f1 = confusion.f1_macro().unwrap();
        assert!((f1 - (0.5 + 0.8) / 3.0).abs() < 1e-12, "{f1}");
        assert_eq!(Confusion::of(&labels, std::iter::empty()).f1_macro(), None);
    }
}
