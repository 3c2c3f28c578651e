#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portknock_fuzz::fwknop::check(bytes));
