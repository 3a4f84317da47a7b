//! Weights as integers of 8 bits: what an ONNX model is made of by `--quantize int8`.
//!
//! Every row of a weight, one for each output of a linear layer and for each entry of a table, has a scale of its own, and
//! zero is zero: `w ≈ code · scale`, `scale = max |row| / 127`. What is computed with them is in `forward/int8.rs`.
//!
//! ```text
//! rows     the scales of a weight, and its codes
//! kept     which weights stay in f32
//! stored   codes and scales written, and read back
//! loss     what rounding cost
//! ```

mod kept;
mod loss;
mod rows;
mod stored;

pub(crate) use kept::module_path;
pub use kept::{Kept, names_in};
pub use loss::{Int8Ledger, TensorLoss};
pub(crate) use loss::{Noise, account};
pub(crate) use rows::Rows;
pub(crate) use stored::{read_back, write_codes, write_scales};

/// How weights are rounded to integers of 8 bits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Int8 {
    /// What stays in f32: names of modules, parameters or nodes, in which `*` stands for any text.
    pub keep: Vec<String>,
    /// Whether codes have 7 bits, so that a processor without VNNI adds the products of two without overflow.
    pub reduce_range: bool,
}

impl Int8 {
    /// The largest code; the least is its negative.
    pub fn most(&self) -> i8 {
        if self.reduce_range { 63 } else { 127 }
    }
}

/// A weight that a graph takes as codes and scales.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Int8Weight {
    /// The parameter, by its name in the graph.
    pub name: String,
    /// Whether the codes are stored as the transpose, `[in, out]`: as a product takes them.
    pub transposed: bool,
}

/// What the tensor of a parameter's codes is called.
pub(crate) fn codes_of(parameter: &str) -> String {
    format!("{parameter}_quantized")
}

/// What the tensor of a parameter's scales is called.
pub(crate) fn scales_of(parameter: &str) -> String {
    format!("{parameter}_scale")
}
