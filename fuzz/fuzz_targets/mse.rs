#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| trackerless_tests::fuzzing::mse(data));
