//! The tests that cross crates, in one executable: each of its own would link every crate anew (`docs/decisions.md`).
//!
//! `cargo test -p deberta-tests commands::` runs those of a file.

/// The program `deberta-convert`.
const CONVERT: &str = env!("CARGO_BIN_EXE_deberta-convert-under-test");
/// The program `deberta-verify`.
const VERIFY: &str = env!("CARGO_BIN_EXE_deberta-verify-under-test");

mod arbiter;
mod causes;
mod commands;
mod configurations;
mod confirmed;
mod console;
mod conversion;
mod documented_blocks;
mod documented_commands;
mod examples;
mod f16_range;
mod families;
mod faults;
mod gate;
mod goldens;
mod graph_bytes;
mod hostile_files;
mod hostile_graphs;
mod hub;
mod hub_failures;
mod int8;
mod interruption;
mod inventory;
mod keras_format;
mod keras_plan;
mod onnx;
mod onnx_backend;
mod onnx_graphs;
mod onnx_models;
mod own_goldens;
mod precision;
mod quantized;
mod reading;
mod recorded_cases;
mod recordings;
mod refusals;
mod release;
mod reports;
mod selftest;
mod sizes;
mod task_files;
mod task_refusals;
mod tasks;
mod tokenizers;
mod torch_format;
mod verify;
mod versions;
mod writing;
