#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| stepcast::fuzz::run("decision", input));
