#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| gramme_tests::fuzz::run("log_batch", input));
