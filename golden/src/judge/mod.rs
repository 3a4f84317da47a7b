//! How far two tensors are apart, how far they may be, and what follows from it.

pub mod arbiter;
pub mod compare;
pub mod difference;
pub mod tolerance;
pub(crate) mod unbounded;
pub mod verdict;
