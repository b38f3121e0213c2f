//! Fuzzes the reader `primary` (src/readers.rs).

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| haversack::readers::read("primary", bytes));
