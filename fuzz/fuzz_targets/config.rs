#![no_main]

libfuzzer_sys::fuzz_target!(|text: &[u8]| portknock_fuzz::config::check(text));
