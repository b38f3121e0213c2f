//! `haversack pack`, `unpack` and `verify` of carries: every digest is what it was, and nothing wrong gets a name.
//!
//! The judges are the bytes of the blobs, GNU gzip and `zstd -t`; in `real`, the encoders of skopeo, buildah and umoci.

#[allow(dead_code, reason = "shared with other tests, which use more of it")]
#[path = "../docker_registry/mod.rs"]
mod docker_registry;
#[allow(dead_code, reason = "shared with other tests, which use more of it")]
#[path = "../engines/mod.rs"]
mod engines;
#[allow(dead_code, reason = "shared with other tests, which use more of it")]
#[path = "../copy/keeper.rs"]
mod keeper;

mod diff;
mod evidence;
mod faults;
mod images;
mod kept;
mod parity;
mod plain_files;
mod pushed;
mod real;
mod round_trip;
mod signed;
mod site;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use assert_cmd::cargo::cargo_bin;

fn haversack(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(cargo_bin!("haversack"));
    command.args(args).current_dir(dir).env("HOME", dir).env("SOURCE_DATE_EPOCH", "1700000000");
    command.env_remove("XDG_RUNTIME_DIR").output().unwrap()
}

/// What a command says with `--json`, and its exit status.
fn json(dir: &Path, args: &[&str]) -> (Option<i32>, serde_json::Value) {
    let output = haversack(dir, &[args, &["--json"]].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    let value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{args:?}: {stderr}"));
    (output.status.code(), value)
}

fn done(dir: &Path, args: &[&str]) -> serde_json::Value {
    let (status, value) = json(dir, args);
    assert_eq!(status, Some(0), "{args:?}: {value}");
    value
}

/// The error that a command ends with.
fn error(dir: &Path, args: &[&str]) -> String {
    let output = haversack(dir, args);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stderr).unwrap();
    let text = text.split("error: ").nth(1).unwrap_or_else(|| panic!("{text}"));
    text.trim_end().to_owned()
}

/// Every file of a layout with its bytes, without what says when it was unpacked.
fn files(layout: &Path) -> BTreeMap<String, Vec<u8>> {
    let walk =
        walkdir::WalkDir::new(layout).into_iter().map(Result::unwrap).filter(|entry| entry.file_type().is_file());
    let walk = walk.filter(|entry| !entry.path().components().any(|part| part.as_os_str() == ".haversack"));
    walk.map(|entry| {
        let name = entry.path().strip_prefix(layout).unwrap().display().to_string();
        (name, std::fs::read(entry.path()).unwrap())
    })
    .collect()
}

fn assert_same(one: &Path, other: &Path) {
    let (one, other) = (files(one), files(other));
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&one), names(&other));
    for (name, bytes) in &one {
        assert!(*bytes == other[name], "{name}");
    }
}
