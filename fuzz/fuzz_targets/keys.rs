#![no_main]

libfuzzer_sys::fuzz_target!(|text: &[u8]| portknock_fuzz::keys::check(text));
