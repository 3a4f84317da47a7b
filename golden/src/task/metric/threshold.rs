//! Thresholds: `accuracy=0.9` and what was found.

use std::fmt;
use std::str::FromStr;

/// A metric by its name, and a number.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    /// The metric.
    pub metric: String,
    /// What it must not be below, or above.
    pub limit: f64,
}

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Threshold, String> {
        let (metric, limit) = text.split_once('=').ok_or("expected METRIC=NUMBER")?;
        let limit: f64 = limit.trim().parse().map_err(|_| format!("{limit:?} is no number"))?;
        match (metric.trim(), limit.is_finite()) {
            ("", _) => Err("expected METRIC=NUMBER".to_owned()),
            (_, false) => Err(format!("{limit} is no limit")),
            (metric, true) => Ok(Threshold { metric: metric.to_owned(), limit }),
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.metric, self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_a_name_and_a_number() {
        let threshold: Threshold = "f1.PER = 0.9".parse().unwrap();
        assert_eq!(threshold, Threshold { metric: "f1.PER".to_owned(), limit: 0.9 });
        for wrong in ["accuracy", "=1", "accuracy=high", "accuracy=nan", "accuracy=inf"] {
            assert!(wrong.parse::<Threshold>().is_err(), "{wrong}");
        }
    }
}
