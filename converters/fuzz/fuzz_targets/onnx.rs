#![no_main]

#[path = "../exercise/onnx.rs"]
mod exercise;
#[path = "../exercise/tensors.rs"]
mod tensors;

libfuzzer_sys::fuzz_target!(|data: &[u8]| exercise::exercise(data));
