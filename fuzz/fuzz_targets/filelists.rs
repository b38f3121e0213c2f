//! Fuzzes the reader `filelists` (src/readers.rs).

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| haversack::readers::read("filelists", bytes));
