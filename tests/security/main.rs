//! Attacks from outside through the program itself: what a hostile registry, archive, list, database, directory or checkout
//! must not be able to do. Each test looks at the state outside: the victim's file, what a server received, how the program
//! ended.
//!
//! Every run has at most [`MEMORY`] for its data (`setrlimit`), beyond which it would be aborted, and is killed after
//! [`PATIENCE`], which no run that ends comes near to.

mod again;
mod configured;
mod files;
mod large;
mod lists;
mod names;
mod network;
#[path = "../packages/mod.rs"]
#[expect(dead_code, reason = "other tests use more of it")]
mod packages;
mod printed;
mod server;
mod withstood;

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;

/// KiB of data (`RLIMIT_DATA`): heap, stacks and private mappings.
const MEMORY: u64 = 512 << 10;

/// How long a run may take, builds without optimisation on a busy machine included.
const PATIENCE: Duration = Duration::from_secs(120);

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// The report of `--json`.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("{self:#?}"))
    }

    /// Asserts that it failed with an error in which these words are, and not by a panic.
    #[track_caller]
    pub(crate) fn refused(&self, words: &str) {
        assert!(!words.is_empty(), "an error of any kind says nothing");
        assert!(matches!(self.code, 1 | 3) && self.stderr.contains(words), "expected `{words}`: {self:#?}");
    }
}

/// The superblock of a squashfs, which is all that `publish ims` looks at.
pub(crate) fn squashfs() -> Vec<u8> {
    let mut bytes = vec![0; 96];
    bytes[..4].copy_from_slice(b"hsqs");
    bytes[28] = 4;
    bytes[40] = 96;
    bytes
}

/// Runs the program in a directory, which is also its user's home.
#[track_caller]
pub(crate) fn haversack(dir: &Path, args: &[&str]) -> Ended {
    run(dir, args, &[])
}

/// The same with more in its environment. Panics when it ends by a signal, by a panic or not at all.
#[track_caller]
pub(crate) fn run(dir: &Path, args: &[&str], environment: &[(&str, &str)]) -> Ended {
    let outside = tempfile::tempdir().unwrap();
    let (stdout, stderr) = (outside.path().join("stdout"), outside.path().join("stderr"));
    let mut child = Command::new("sh")
        .args(["-c", &format!("ulimit -c 0; ulimit -d {MEMORY} && exec \"$0\" \"$@\"")])
        .arg(cargo_bin!("haversack"))
        .args(args)
        .current_dir(dir)
        .env_clear()
        .env("HOME", dir)
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(File::create(&stdout).unwrap())
        .stderr(File::create(&stderr).unwrap())
        .spawn()
        .unwrap();
    let started = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if started.elapsed() > PATIENCE => {
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let text = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
    let (stdout, stderr) = (text(&stdout), text(&stderr));
    let tail = &stderr[stderr.len().saturating_sub(2000)..];
    let status = status.unwrap_or_else(|| panic!("{args:?}: did not end: {tail}"));
    assert_eq!(status.signal(), None, "{args:?}: {tail}");
    let code = status.code().unwrap();
    assert!(code != 101 && !stderr.contains("panicked at"), "{args:?}: {tail}");
    // A command that is none any more would pass for one that withstands everything.
    let usage = ["unexpected argument", "unrecognized subcommand", "required arguments were not provided"];
    assert!(!usage.iter().any(|it| stderr.contains(it)), "{args:?}: {tail}");
    Ended { code, stdout, stderr }
}

/// A directory in which a victim has a file, and the attacker whatever the test puts there.
pub(crate) struct Scene {
    pub(crate) dir: tempfile::TempDir,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("home")).unwrap();
        fs::write(dir.path().join("victim"), VICTIM).unwrap();
        Scene { dir }
    }

    /// Where commands run.
    pub(crate) fn home(&self) -> std::path::PathBuf {
        self.dir.path().join("home")
    }

    pub(crate) fn victim(&self) -> std::path::PathBuf {
        self.dir.path().join("victim")
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.home().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    #[track_caller]
    pub(crate) fn haversack(&self, args: &[&str]) -> Ended {
        haversack(&self.home(), args)
    }

    /// Asserts that the victim's file is as it was, and nothing new lies beside it.
    #[track_caller]
    pub(crate) fn unharmed(&self) {
        assert_eq!(fs::read(self.victim()).unwrap(), VICTIM);
        let mut beside: Vec<_> = fs::read_dir(self.dir.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
        beside.sort();
        assert_eq!(beside, ["home", "victim"]);
    }
}

const VICTIM: &[u8] = b"precious";
