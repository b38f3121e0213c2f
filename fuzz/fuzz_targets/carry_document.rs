//! Fuzzes the reader `carry-document` (src/readers.rs).

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| haversack::readers::read("carry-document", bytes));
