//! The catalog from the API to the tree, through the program, against a stand-in on loopback.

#![expect(clippy::disallowed_methods, reason = "where real data and podman's settings are is in the environment")]

mod answers;
#[path = "../engines/mod.rs"]
#[allow(dead_code, reason = "each user takes a part")]
mod engines;
mod faults;
mod masterminds;
mod near;
mod odd;
mod podman;
mod real;
mod snapshot;
#[path = "../stand_in/mod.rs"]
mod stand_in;
mod tree;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;
use stand_in::{StandIn, State};

/// A directory with a snapshot, and the program run in it.
struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        Site { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_haversack"));
        command.args(args).current_dir(self.dir.path()).env_clear().env("HAVERSACK_RETRY_DELAY", "0.01");
        command
    }

    fn run(&self, args: &[&str]) -> Run {
        Run(self.command(args).output().unwrap())
    }

    fn snapshot(&self, catalog: &StandIn, more: &[&str]) -> Run {
        let (api, charts) = (catalog.api(), catalog.charts());
        let args = ["catalog", "snapshot", "--db", "catalog.db", "--api", &api, "--charts", &charts, "--json"];
        self.run(&[&args, more].concat())
    }

    /// Every row that the snapshot answers for, as the tree shows it.
    fn operators(&self) -> BTreeSet<String> {
        self.dump();
        let mut rows = BTreeSet::new();
        for file in std::fs::read_dir(self.path("tree/data/operators")).unwrap() {
            let page: Value = serde_json::from_slice(&std::fs::read(file.unwrap().path()).unwrap()).unwrap();
            for row in page["data"].as_array().unwrap() {
                rows.insert(key(row));
            }
        }
        rows
    }

    /// Writes the tree; a snapshot of some kinds gives a tree of some.
    fn dump(&self) {
        let run = self.run(&["catalog", "dump", "tree", "--no-db"]);
        assert!(matches!(run.0.status.code(), Some(0 | 3)), "{}", run.stderr());
    }

    fn containers(&self) -> Value {
        self.dump();
        serde_json::from_slice(&std::fs::read(self.path("tree/data/containers/containers.db")).unwrap()).unwrap()
    }

    fn digest(&self) -> String {
        self.run(&["catalog", "info", "--db", "catalog.db", "--json"]).json()["digest"].as_str().unwrap().to_owned()
    }

    /// Everything in the directory, hidden files included.
    fn listing(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// What a run of the program left.
struct Run(Output);

impl Run {
    fn done(self) -> Self {
        assert_eq!(self.0.status.code(), Some(0), "{}", self.stderr());
        self
    }

    fn failed(self, status: i32, words: &[&str]) -> Self {
        let stderr = self.stderr();
        assert_eq!(self.0.status.code(), Some(status), "{stderr}");
        for word in words {
            assert!(stderr.contains(word), "`{word}` is not in: {stderr}");
        }
        assert!(stderr.contains("hint: "), "there is no hint in: {stderr}");
        self
    }

    fn stdout(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).unwrap()
    }

    fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    fn json(&self) -> Value {
        assert_eq!(self.0.status.code(), Some(0), "{}", self.stderr());
        serde_json::from_slice(&self.0.stdout).unwrap()
    }
}

fn catalog(bundles: usize, images: usize) -> State {
    State {
        bundles: stand_in::bundles(bundles),
        images: stand_in::images(images),
        index: stand_in::index(&["1.0.0", "1.1.0"]),
        unpublished: Some("apiVersion: v1\nentries: {}\ngenerated: '2026-01-01T00:00:00Z'\n".into()),
        ..State::default()
    }
}

fn key(row: &Value) -> String {
    ["csv_name", "ocp_version", "channel_name"].map(|field| row[field].as_str().unwrap()).join(" ")
}

fn keys(rows: &[Value]) -> BTreeSet<String> {
    rows.iter().map(key).collect()
}

fn real_data() -> PathBuf {
    std::env::var_os("HAVERSACK_REAL_DATA").expect("HAVERSACK_REAL_DATA names the real data").into()
}

fn unpacked(archive: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let file = std::fs::File::open(real_data().join("catalog").join(archive)).unwrap();
    tar::Archive::new(flate2::read::GzDecoder::new(file)).unpack(dir.path()).unwrap();
    dir
}
