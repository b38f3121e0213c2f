//! What all benchmarks measure.

/// The program to measure: scripts/bench.sh names the release build, so that what is shipped is measured without
/// optimising the benchmark itself for minutes.
pub(crate) const HAVERSACK: &str = match option_env!("HAVERSACK_BENCH_BINARY") {
    Some(path) => path,
    None => env!("CARGO_BIN_EXE_haversack"),
};
