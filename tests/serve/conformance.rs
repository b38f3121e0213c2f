//! The official conformance program of the distribution specification, at both levels.

use std::path::PathBuf;
use std::process::Command;

use crate::server::{Serve, arg, layout};

/// Builds a program of Go's module proxy, once.
pub(crate) fn go_program(module: &str) -> PathBuf {
    let path = module.split('@').next().unwrap();
    let bin = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("go");
    let program = bin.join(path.rsplit('/').next().unwrap());
    if !program.exists() {
        let output = Command::new("go").args(["install", module]).env("GOBIN", &bin).output().unwrap();
        assert!(output.status.success(), "{module}: {}", String::from_utf8_lossy(&output.stderr));
    }
    program
}

#[test]
#[ignore = "needs go; the specification's own program, from its module proxy"]
fn the_official_program_finds_no_failure_and_skips_nothing() {
    let program =
        go_program("github.com/opencontainers/distribution-spec/conformance@v0.0.0-20260831232431-97274622c111");
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    let serve = Serve::start(&["--writable", arg(&store)]);
    // "stable" leaves out two checks of what is on main only.
    for (level, left_out) in [("stable", 2), ("dev", 0)] {
        let output = Command::new(&program)
            .current_dir(dir.path())
            .env("OCI_VERSION", level)
            .env("OCI_REGISTRY", &serve.address)
            .env("OCI_TLS", "disabled")
            .env("OCI_RESULTS_DIR", dir.path().join(level))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let count = |what: &str| -> u32 {
            let line = text.lines().find(|line| line.trim_start().starts_with(&format!("{what}.."))).unwrap();
            line.rsplit(' ').next().unwrap().parse().unwrap()
        };
        let found = ["FAIL", "Error", "Skip", "Disabled"].map(count);
        assert_eq!((output.status.code(), found), (Some(0), [0, 0, 0, left_out]), "{level}: {text}");
        assert!(count("Pass") > 800, "{text}");
    }
}
