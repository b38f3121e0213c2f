//! Fuzzes the reader `chart-index` (src/readers.rs).

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| haversack::readers::read("chart-index", bytes));
