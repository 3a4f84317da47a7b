//! Golden traces of DeBERTa models: what was put in, what every module computed, what came out.
//!
//! This version reads the descriptions of cases and reads and writes the trace files; running and comparing models comes
//! on top of it.

pub mod case;
pub mod slice;
pub mod trace_file;

pub use case::Case;
pub use slice::Slice;
pub use trace_file::{Data, Tensor, Trace};
