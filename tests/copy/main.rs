//! `haversack copy` and `haversack sync` against registries that misbehave in one way each, and against a real one.

mod copying;
mod faults;
mod first_hour;
mod keeper;
mod odd;
mod quirky;
mod real;
mod referring;
mod refusals;
mod syncing;
mod taker;

use std::path::Path;
use std::process::{Command, Output};

use assert_cmd::cargo::cargo_bin;

fn haversack(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(cargo_bin!("haversack"));
    command.args(args).current_dir(dir).env("HOME", dir).env_remove("XDG_RUNTIME_DIR").output().unwrap()
}

fn done(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn error(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    let start = text.find("error: ").unwrap();
    text[start + "error: ".len()..].trim_end().to_owned()
}

fn clean(dir: &Path) {
    let output = haversack(dir, &["verify", "oci:store"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
