//! Which row of the relative position table stands for a distance, in code that gets it wrong or does it otherwise.

use deberta_reference::{BucketRounding, FarPositions};

use super::Model;

/// How the row of the table for a distance i - j is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowRule {
    /// As the configuration and the class have it.
    Right,
    /// The logarithm is rounded down, not up.
    Floor,
    /// (M - 1) / mid is a division of integers.
    IntegerRatio,
    /// Half of the table is not added: the row is the bucket itself, or 0 where that is negative.
    MissingSpan,
    /// The row of j - i.
    Mirrored,
    /// Distances are clamped to ±(M - 1) first: a convention, Microsoft's.
    Clamped,
    /// Distances beyond ±(M - 1) are sorted into buckets as they are: a convention, that of transformers.
    Spilled,
    /// |i - j| / mid is not rounded before its logarithm is: a convention, TensorFlow's.
    TensorFlow,
    /// (M - 1) / mid is not rounded before its logarithm is: a convention, Microsoft's.
    Microsoft,
    /// Both quotients are rounded before their logarithms are: a convention, PyTorch's.
    PyTorch,
}

impl RowRule {
    /// The row for a distance.
    pub(crate) fn row(self, model: &Model, distance: isize) -> usize {
        let distances = model.config.distances().under(model.class.conventions());
        match self {
            RowRule::Right => distances.row(distance),
            RowRule::Floor | RowRule::IntegerRatio => {
                let (span, bucket) = (distances.span().cast_signed(), self.bucket(model, distance));
                bucket.saturating_add(span).clamp(0, 2 * span - 1).unsigned_abs()
            }
            RowRule::MissingSpan => distances.row(distance).saturating_sub(distances.span()),
            RowRule::Mirrored => distances.row(-distance),
            RowRule::Clamped => distances.with_far_positions(FarPositions::Clamp).row(distance),
            RowRule::Spilled => distances.with_far_positions(FarPositions::Spill).row(distance),
            RowRule::TensorFlow => distances.with_rounding(BucketRounding::TensorFlow).row(distance),
            RowRule::Microsoft => distances.with_rounding(BucketRounding::Microsoft).row(distance),
            RowRule::PyTorch => distances.with_rounding(BucketRounding::PyTorch).row(distance),
        }
    }

    /// The rows of the distances from -(n - 1) to n - 1.
    pub(crate) fn rows(self, model: &Model, n: usize) -> Vec<usize> {
        let farthest = n.saturating_sub(1).cast_signed();
        (-farthest..=farthest).map(|distance| self.row(model, distance)).collect()
    }

    /// sign(d) (⌈ln(|d| / mid) / ln((M - 1) / mid) (mid - 1)⌉ + mid), in one way or another.
    fn bucket(self, model: &Model, distance: isize) -> isize {
        let config = &model.config;
        let Some(buckets) = config.position_buckets else { return distance };
        let (mid, far) = (buckets / 2, distance.unsigned_abs());
        if far <= mid {
            return distance;
        }
        let (limit, middle) = (config.max_relative() - 1, mid as f64);
        let ratio = match self {
            RowRule::IntegerRatio => (limit / mid.max(1)) as f64,
            _ => limit as f64 / middle,
        };
        let steps = ((far as f64 / middle).ln() / ratio.ln() * (middle - 1.0)) as f32;
        let steps = if self == RowRule::Floor { steps.floor() } else { steps.ceil() };
        (steps + mid as f32) as isize * distance.signum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use deberta_reference::{DebertaConfig, Head, MaskedRows};

    use crate::trace::class::Class;

    fn rows(rule: RowRule, distances: &[isize]) -> Vec<usize> {
        rows_of_class(Head::Base, rule, distances)
    }

    fn rows_of_class(head: Head, rule: RowRule, distances: &[isize]) -> Vec<usize> {
        let json = r#"{"model_type": "deberta-v2", "relative_attention": true, "position_buckets": 8,
            "max_relative_positions": 24}"#;
        let config = DebertaConfig::from_json(json).unwrap();
        let class = Class::of_head(config.family, head);
        let model = Model::empty(config, class, MaskedRows::Uniform);
        distances.iter().map(|&distance| rule.row(&model, distance)).collect()
    }

    #[test]
    fn every_rule_has_rows_of_its_own() {
        // mid 4, ln(23/4) for 3 steps: 5 is at 0.38, 12 at 1.88; with the ratio 5, 12 is at 2.05.
        let distances = [-30, -12, -5, 0, 4, 5, 12, 23, 30];
        assert_eq!(rows(RowRule::Right, &distances), [0, 2, 3, 8, 12, 13, 14, 15, 15]);
        assert_eq!(rows(RowRule::Floor, &distances), [1, 3, 4, 8, 12, 12, 13, 15, 15]);
        assert_eq!(rows(RowRule::IntegerRatio, &distances), [0, 1, 3, 8, 12, 13, 15, 15, 15]);
        assert_eq!(rows(RowRule::MissingSpan, &distances), [0, 0, 0, 0, 4, 5, 6, 7, 7]);
        assert_eq!(rows(RowRule::Mirrored, &distances), [15, 14, 13, 8, 4, 3, 2, 1, 0]);
        assert_eq!(rows(RowRule::Clamped, &distances), [1, 2, 3, 8, 12, 13, 14, 15, 15]);
    }

    #[test]
    fn a_class_that_clamps_has_the_rows_of_one_that_does_not() {
        let distances = [-30, -12, 12, 30];
        let of_microsoft = |rule| rows_of_class(Head::MaskDecoder, rule, &distances);
        assert_eq!(of_microsoft(RowRule::Right), [1, 2, 14, 15]);
        assert_eq!(of_microsoft(RowRule::Clamped), of_microsoft(RowRule::Right));
        assert_eq!(of_microsoft(RowRule::Spilled), rows(RowRule::Right, &distances));
        assert_eq!(rows(RowRule::Spilled, &distances), rows(RowRule::Right, &distances));
        assert_eq!(rows(RowRule::PyTorch, &distances), rows(RowRule::Right, &distances));
    }
}
