//! What a golden says: the traces of a model, and the names, shapes and conditions of what stands in them.

pub mod class;
pub mod file;
pub mod inputs;
pub mod padding;
pub mod points;
pub mod samples;
pub mod slice;

pub use class::Class;
pub use file::{Data, Tensor, Trace};
pub use slice::Slice;
