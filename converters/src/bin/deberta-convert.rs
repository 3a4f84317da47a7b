//! The `deberta-convert` program.

fn main() {}
