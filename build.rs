//! Lists the crates that are linked into the program, for the SBOMs of the images that hold it.
//!
//! Cargo.lock alone would not do: it has what tests, builds and other systems need, too. So cargo is asked for the
//! normal dependencies on the target, and Cargo.lock for their checksums.
//!
//! `OUT_DIR/crates.txt` has a line `NAME VERSION SHA-256` for each, sorted.
//!
//! A program for others also knows its commit (`version/mod.rs`). One that is tried out while it is changed does not: it
//! would be built anew with each commit.

mod version;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

#[expect(clippy::disallowed_methods, reason = "cargo tells build scripts what they need in their environment alone")]
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}

fn main() {
    for file in ["Cargo.toml", "Cargo.lock", "build.rs", "version"] {
        println!("cargo::rerun-if-changed={file}");
    }
    println!("cargo::rustc-env=HAVERSACK_COMMIT={}", commit());
    let tree = Command::new(variable("CARGO"))
        .args(["tree", "--offline", "--locked", "--edges", "normal,no-proc-macro", "--prefix", "none"])
        .args(["--format", "{p}", "--target", &variable("TARGET")])
        .output()
        .expect("cargo can be run");
    assert!(tree.status.success(), "cargo tree: {}", String::from_utf8_lossy(&tree.stderr));
    let lock = std::fs::read_to_string("Cargo.lock").expect("Cargo.lock is there");
    let checksums = checksums(&lock);
    let mut lines = BTreeSet::new();
    for line in String::from_utf8_lossy(&tree.stdout).lines() {
        // `NAME vVERSION (PATH) (*)`, where there are path and star.
        let mut words = line.split_whitespace();
        let (Some(name), Some(version)) = (words.next(), words.next()) else { continue };
        let version = version.trim_start_matches('v');
        // What has no checksum is this program itself.
        if let Some(checksum) = checksums.get(&(name, version)) {
            lines.insert(format!("{name} {version} {checksum}\n"));
        }
    }
    assert!(!lines.is_empty(), "cargo tree lists no crates");
    let list: String = lines.into_iter().collect();
    std::fs::write(Path::new(&variable("OUT_DIR")).join("crates.txt"), list).expect("OUT_DIR can be written to");
}

/// What `--version` says of the commit.
#[expect(clippy::disallowed_methods, reason = "reproducible builds are told their date in the environment")]
fn commit() -> String {
    if variable("PROFILE") == "debug" {
        return String::new();
    }
    let here = Path::new(".");
    // With sources that were changed, the commit is not all there is to say.
    for file in version::watched(here).into_iter().chain(["src".to_owned()]) {
        println!("cargo::rerun-if-changed={file}");
    }
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    version::of(here, std::env::var("SOURCE_DATE_EPOCH").ok().as_deref())
}

/// The checksum of each crate by name and version, from the lines of Cargo.lock.
fn checksums(lock: &str) -> BTreeMap<(&str, &str), &str> {
    let mut found = BTreeMap::new();
    for package in lock.split("[[package]]") {
        let value = |key: &str| {
            package.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"'))
        };
        if let (Some(name), Some(version), Some(checksum)) = (value("name"), value("version"), value("checksum")) {
            found.insert((name, version), checksum);
        }
    }
    found
}
