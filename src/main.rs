//! The `haversack` program; everything is in the library.

fn main() -> std::process::ExitCode {
    haversack::cli::main()
}
