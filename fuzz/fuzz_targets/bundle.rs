#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| guiji_store::fuzz::bundle(data));
