#![no_main]

#[path = "../exercise/files.rs"]
#[allow(dead_code)]
mod files;

libfuzzer_sys::fuzz_target!(|data: &[u8]| files::config(data));
