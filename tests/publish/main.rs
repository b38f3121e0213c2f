//! `haversack publish` against a real S3 implementation, and stand-ins of IMS, its token server and Artifactory that answer
//! as the recorded ones did, faults included.

mod artifactory;
mod artifactory_access;
mod artifactory_files;
mod artifactory_server;
mod faults;
mod from;
mod ims;
mod login_page;
mod moto;
mod redirects;
mod resume;
mod s3;
mod service;
mod settings;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use assert_cmd::cargo::cargo_bin;
use serde_json::Value;
use tempfile::TempDir;

use crate::s3::S3;
use crate::service::Service;

/// A site: the service, the store, files to upload, and a home for what is kept between runs.
struct Site {
    service: Service,
    s3: S3,
    dir: TempDir,
}

/// How a run ended.
struct Run {
    status: i32,
    stdout: String,
    stderr: String,
}

/// The secret key of the store.
const SECRET: &str = "wJalrXUtnFEMI";

const JOB: &str = "e3a46cf3-1150-4bbf-b7c9-504993917f7d";

impl Site {
    fn start() -> Self {
        let s3 = S3::start();
        let service = Service::start(s3.root());
        let dir = tempfile::tempdir().unwrap();
        let site = Site { service, s3, dir };
        site.file("rootfs.sqsh", &squashfs(20_000));
        site.file("vmlinuz", &content(9000));
        site.file("initramfs", &content(7000));
        let auth = site.path("auth");
        std::fs::create_dir(&auth).unwrap();
        std::fs::write(auth.join("endpoint"), format!("{}/token\n", site.service.url)).unwrap();
        std::fs::write(auth.join("client-id"), "admin-client\n").unwrap();
        std::fs::write(auth.join("client-secret"), "not-a-real-secret\n").unwrap();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        std::fs::write(self.path(name), content).unwrap();
        self.path(name)
    }

    /// `publish` with the names of the old helper in the environment, and little patience.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = haversack(self.dir.path());
        command
            .arg("publish")
            .args(args)
            .env("OAUTH_CONFIG_DIR", self.path("auth"))
            .env("IMS_URL", &self.service.url)
            .env("S3_ENDPOINT", &self.s3.url)
            .env("S3_ACCESS_KEY", "test")
            .env("S3_SECRET_KEY", SECRET)
            .env("S3_BUCKET", "boot-images");
        command
    }

    fn publish(&self, args: &[&str]) -> Run {
        Run::of(self.command(args).output().unwrap())
    }

    /// The three files that every image has.
    fn ims(&self, name: &str, more: &[&str]) -> Run {
        self.publish(&[&["ims", name, "-r", "rootfs.sqsh", "-k", "vmlinuz", "-i", "initramfs"], more].concat())
    }

    /// Whether neither a record nor an object is there.
    fn is_clean(&self) -> bool {
        self.service.images().is_empty() && self.s3.keys().is_empty()
    }
}

impl Run {
    fn of(output: Output) -> Self {
        Run {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// What is on stdout: exactly one JSON object.
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}\n{}", self.stdout, self.stderr))
    }

    #[track_caller]
    fn done(&self) -> Value {
        assert_eq!(self.status, 0, "{}\n{}", self.stdout, self.stderr);
        self.json()
    }

    /// A failure whose reason has these words, with nothing secret in it.
    #[track_caller]
    fn failed(&self, words: &str) -> Value {
        assert_eq!(self.status, 1, "{}\n{}", self.stdout, self.stderr);
        let document = self.json();
        assert_eq!(document["result"], "failure");
        let error = document["error"].as_str().unwrap();
        assert!(error.contains(words), "`{error}` has no `{words}`");
        for secret in ["not-a-real-secret", SECRET, "fake-token"] {
            assert!(!format!("{}{}", self.stdout, self.stderr).contains(secret), "{}", self.stderr);
        }
        document
    }
}

/// The program in a directory that is its home, with nothing of the environment, and tries that follow at once.
fn haversack(home: &Path) -> Command {
    let mut command = Command::new(cargo_bin!("haversack"));
    command
        .current_dir(home)
        .env_clear()
        .env("HOME", home)
        .env("HAVERSACK_RETRIES", "3")
        .env("HAVERSACK_RETRY_DELAY", "0.01")
        .env("HAVERSACK_TIMEOUT", "5");
    command
}

/// Bytes that do not repeat in steps of a block.
fn content(size: usize) -> Vec<u8> {
    (0..size).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// The same, beginning as a squashfs of this size does.
fn squashfs(size: usize) -> Vec<u8> {
    let mut bytes = content(size);
    bytes[..4].copy_from_slice(b"hsqs");
    bytes[28..30].copy_from_slice(&4_u16.to_le_bytes());
    bytes[40..48].copy_from_slice(&(size as u64).to_le_bytes());
    bytes
}

/// Replaces values that differ from run to run.
fn masked(document: &Value, id: &str) -> Value {
    let mut document: Value = serde_json::from_str(&document.to_string().replace(id, "IMAGE-ID")).unwrap();
    mask(&mut document);
    document
}

fn mask(value: &mut Value) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(mask),
        Value::Object(fields) => {
            // Fields that the old helper did not have.
            for added in ["file", "sha256", "size"] {
                fields.remove(added);
            }
            for (name, value) in fields {
                match name.as_str() {
                    "created" | "etag" => *value = name.to_uppercase().into(),
                    _ => mask(value),
                }
            }
        }
        _ => {}
    }
}
