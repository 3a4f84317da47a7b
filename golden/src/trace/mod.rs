//! What a golden says: the traces of a model, and the names, shapes and conditions of what stands in them.

pub mod class;
pub mod file;
pub mod folder;
pub mod inputs;
pub mod padding;
pub mod points;
pub mod samples;
pub(crate) mod sampling;
pub mod slice;
pub mod tensor;

pub use class::Class;
pub use file::Trace;
pub use slice::Slice;
pub use tensor::{Data, Tensor};
