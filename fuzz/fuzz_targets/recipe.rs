//! Fuzzes the reader `recipe` (src/readers.rs).

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| haversack::readers::read("recipe", bytes));
