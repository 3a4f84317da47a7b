#![no_main]

#[path = "../exercise/safetensors.rs"]
mod exercise;

libfuzzer_sys::fuzz_target!(|data: &[u8]| exercise::exercise(data));
