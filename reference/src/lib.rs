//! DeBERTa v1 in plain Rust.
