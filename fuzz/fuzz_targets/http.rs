#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pushpull_fuzz::http::check(data));
