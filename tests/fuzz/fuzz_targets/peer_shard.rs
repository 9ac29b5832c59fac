#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| gramme_tests::fuzz::run("peer_shard", input));
