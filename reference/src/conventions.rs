//! Where frameworks compute the same model differently, on purpose or by rounding.

use crate::distances::{BucketRounding, FarPositions};
use crate::head::Head;
use crate::ops::MaskedRows;

/// What somebody's code does where others do something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conventions {
    /// What becomes of attention rows whose every key is masked.
    pub masked_rows: MaskedRows,
    /// What becomes of distances beyond the largest one.
    pub far_positions: FarPositions,
    /// Where the logarithm of buckets is rounded.
    pub bucket_rounding: BucketRounding,
}

impl Head {
    /// What the code that its class is from does: transformers' for PyTorch, or Microsoft's.
    pub fn conventions(self) -> Conventions {
        if self.in_transformers() { Conventions::PYTORCH } else { Conventions::MICROSOFT }
    }
}

impl Conventions {
    /// transformers' for PyTorch, since 4.47.
    pub const PYTORCH: Conventions = Conventions {
        masked_rows: MaskedRows::Uniform,
        far_positions: FarPositions::Spill,
        bucket_rounding: BucketRounding::PyTorch,
    };

    /// transformers' for TensorFlow.
    pub const TENSORFLOW: Conventions = Conventions {
        masked_rows: MaskedRows::Zero,
        far_positions: FarPositions::Spill,
        bucket_rounding: BucketRounding::TensorFlow,
    };

    /// Microsoft's, of 2023.
    pub const MICROSOFT: Conventions = Conventions {
        masked_rows: MaskedRows::Zero,
        far_positions: FarPositions::Clamp,
        bucket_rounding: BucketRounding::Microsoft,
    };
}
