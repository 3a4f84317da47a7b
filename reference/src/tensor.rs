//! The numbers of a checkpoint: in memory or in a file, f32 whatever the model computes in.

use std::sync::Arc;

/// Numbers that are held somewhere: in a vector, or in a file that is mapped into memory.
pub type Floats = Arc<dyn AsRef<[f32]> + Send + Sync>;

/// A tensor of a checkpoint in the canonical layout, as f32.
#[derive(Clone)]
pub struct Tensor {
    /// The length of each axis.
    pub shape: Vec<usize>,
    /// The numbers in row-major order, as many as the shape says.
    pub values: Floats,
}

impl Tensor {
    /// A tensor that owns its numbers.
    pub fn new(shape: Vec<usize>, values: Vec<f32>) -> Tensor {
        Tensor { shape, values: Arc::new(values) }
    }
}

/// A matrix [rows, columns] of a checkpoint.
#[derive(Clone)]
pub(crate) struct Matrix {
    values: Floats,
    /// The first axis.
    pub(crate) rows: usize,
    /// The second axis.
    pub(crate) columns: usize,
}

impl Matrix {
    /// A matrix of `rows * columns` numbers.
    pub(crate) fn new(values: Floats, rows: usize, columns: usize) -> Matrix {
        Matrix { values, rows, columns }
    }

    /// All numbers in row-major order.
    pub(crate) fn values(&self) -> &[f32] {
        (*self.values).as_ref()
    }
}
