//! `scripts/bench.sh publish`: a large root file system to s3s-fs, side by side with boto3's transfer manager, in one run;
//! what is sent again after a kill; and 1,000 packages that Artifactory has already.
//!
//! The file has `HAVERSACK_BENCH_MIB` MiB, 2048 by default; boto3 is installed from PyPI into a virtual environment. The
//! server runs in this process and takes its share of the cores in both cases. Timings never decide anything here: it always
//! ends with 0.

#![allow(clippy::print_stdout, clippy::disallowed_methods, missing_docs, reason = "a program for the terminal")]

mod program;

#[path = "../tests/publish/login_page.rs"]
#[allow(dead_code, reason = "the tests of the same name use all of it")]
mod login_page;
#[path = "../tests/publish/s3.rs"]
#[expect(dead_code, reason = "the tests need more of it")]
mod s3;
#[path = "../tests/publish/service.rs"]
#[expect(dead_code, reason = "the tests need more of it")]
mod service;

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::response::IntoResponse;
use haversack::digest::Digest;
use program::HAVERSACK;
use s3::S3;
use serde_json::{Value, json};
use service::Service;

const JOB: &str = "e3a46cf3-1150-4bbf-b7c9-504993917f7d";
const SECRET: &str = "wJalrXUtnFEMI";

/// What boto3 needs to upload a file as the old helper did.
const BOTO: &str = "
import boto3, hashlib, resource, sys, time
from botocore.config import Config
url, secret, path, key = sys.argv[1:]
client = boto3.client('s3', endpoint_url=url, aws_access_key_id='test', aws_secret_access_key=secret,
                      config=Config(s3={'addressing_style': 'path'}))
started = time.monotonic()
digest = hashlib.md5()
with open(path, 'rb') as file:
    while block := file.read(1 << 20):
        digest.update(block)
hashed = time.monotonic()
client.upload_file(path, 'boot-images', key, ExtraArgs={'Metadata': {'md5sum': digest.hexdigest()}})
print(hashed - started, time.monotonic() - hashed, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
";

fn main() {
    let mib: usize = std::env::var("HAVERSACK_BENCH_MIB").ok().and_then(|text| text.parse().ok()).unwrap_or(2048);
    let dir = tempfile::tempdir().unwrap();
    println!("a file of {mib} MiB\n\n| what | measured | target |\n| --- | --- | --- |");
    let rootfs = root_file_system(dir.path(), mib);
    // Two rounds each, in turn; the better one counts.
    let python = boto();
    let (mut ours, mut theirs) = (Run::default(), Run::default());
    for _ in 0..2 {
        ours.better(upload(dir.path(), &rootfs));
        if let Some(python) = &python {
            theirs.better(boto_upload(python, &rootfs));
        }
    }
    let speed = |seconds: f64| mib as f64 * 1.048_576 / seconds;
    let our_speed = speed(ours.seconds);
    for (what, seconds, target) in [
        (
            "throughput of `publish ims`, digests and checks included ÷ of boto3's `upload_file` alone",
            theirs.seconds,
            "≥ 2",
        ),
        ("… ÷ of the old helper's way: MD5, then `upload_file`", theirs.seconds + theirs.hashing, ""),
    ] {
        match python {
            Some(_) => {
                let measured =
                    format!("{:.2} ({our_speed:.0} and {:.0} MB/s)", our_speed / speed(seconds), speed(seconds));
                row(what, &measured, target);
            }
            None => row(what, &format!("boto3 could not be installed ({our_speed:.0} MB/s)"), target),
        }
    }
    if python.is_some() {
        let (own, other) = (ours.seconds - ours.completing, theirs.seconds + theirs.hashing - theirs.completing);
        row(
            "… without the time in which the server puts the parts together, with nothing for a client to do",
            &format!(
                "{:.2} ({:.0} and {:.0} MB/s; the server takes {:.1} and {:.1} s)",
                other / own,
                speed(own),
                speed(other),
                ours.completing,
                theirs.completing
            ),
            "",
        );
    }
    let megabytes = |run: &Run| run.peak_kib as f64 * 1024.0 / 1e6;
    let measured = format!("{:.0} MB (boto3: {:.0} MB)", megabytes(&ours), megabytes(&theirs));
    row("most resident memory of it", &measured, "≤ 100 MB");
    resume(dir.path(), &rootfs, mib);
    packages(dir.path());
}

/// One upload, or the better of several.
#[derive(Default)]
struct Run {
    /// Of the upload; for ours, of the whole run.
    seconds: f64,
    /// Of what the old helper does before.
    hashing: f64,
    /// In which the server put the parts together, and no client had anything to do.
    completing: f64,
    peak_kib: u64,
}

impl Run {
    fn better(&mut self, run: Run) {
        let is_better = self.seconds == 0.0 || run.seconds < self.seconds;
        let peak_kib = self.peak_kib.max(run.peak_kib);
        if is_better {
            *self = run;
        }
        self.peak_kib = peak_kib;
    }
}

fn row(what: &str, measured: &str, target: &str) {
    println!("| {what} | {measured} | {target} |");
    std::io::stdout().flush().unwrap();
}

fn root_file_system(dir: &Path, mib: usize) -> PathBuf {
    let path = dir.join("rootfs.sqsh");
    let mut file = std::fs::File::create(&path).unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for number in 0..mib {
        let mut block = Vec::with_capacity(1 << 20);
        if number == 0 {
            block.extend_from_slice(b"hsqs\0\0\0\0");
        }
        while block.len() < 1 << 20 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            block.extend_from_slice(&state.to_le_bytes());
        }
        file.write_all(&block).unwrap();
    }
    file.sync_all().unwrap();
    path
}

/// A Python with boto3.
fn boto() -> Option<PathBuf> {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("boto3");
    let python = place.join("bin/python");
    if !python.exists() {
        Command::new("python3").args(["-m", "venv"]).arg(&place).status().ok()?;
    }
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "boto3"];
    let installed = Command::new(&python).args(install).stdout(Stdio::null()).status().ok()?;
    installed.success().then_some(python)
}

fn boto_upload(python: &Path, rootfs: &Path) -> Run {
    let server = S3::start();
    let output =
        Command::new(python).args(["-c", BOTO, &server.url, SECRET]).arg(rootfs).arg("x/rootfs").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let numbers: Vec<f64> = text.split_whitespace().map(|number| number.parse().unwrap()).collect();
    let [hashing, seconds, peak_kib] = numbers[..] else { panic!("{}", String::from_utf8_lossy(&output.stderr)) };
    Run { seconds, hashing, completing: server.completing().as_secs_f64(), peak_kib: peak_kib as u64 }
}

fn command(dir: &Path, server: &S3, service: &Service, rootfs: &Path) -> Command {
    let mut command = Command::new(HAVERSACK);
    command
        .args(["publish", "ims", "benchmark", "--quiet", "-r"])
        .arg(rootfs)
        .env("HOME", dir)
        .env("IMS_URL", &service.url)
        .env("OAUTH_CLIENT_ENDPOINT", format!("{}/token", service.url))
        .env("OAUTH_CLIENT_ID", "admin-client")
        .env("OAUTH_CLIENT_SECRET", "not-a-real-secret")
        .env("S3_ENDPOINT", &server.url)
        .env("S3_BUCKET", "boot-images")
        .env("S3_ACCESS_KEY", "test")
        .env("S3_SECRET_KEY", SECRET)
        .stdout(Stdio::null());
    command
}

fn upload(dir: &Path, rootfs: &Path) -> Run {
    let server = S3::start();
    let service = Service::start(server.root());
    let started = Instant::now();
    let mut child = command(dir, &server, &service, rootfs).spawn().unwrap();
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        peak = peak.max(resident(&child));
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(child.wait().unwrap().success());
    let seconds = started.elapsed().as_secs_f64();
    Run { seconds, hashing: 0.0, completing: server.completing().as_secs_f64(), peak_kib: peak }
}

fn resident(child: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn resume(dir: &Path, rootfs: &Path, mib: usize) {
    let server = S3::start();
    let service = Service::start(server.root());
    let sent = || -> u64 {
        let size = |asked: &s3::Asked| asked.headers.get("content-length")?.to_str().ok()?.parse::<u64>().ok();
        server.requests().iter().filter_map(size).sum()
    };
    let mut child = command(dir, &server, &service, rootfs).spawn().unwrap();
    while sent() < (mib as u64) << 19 {
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    server.forget();
    assert!(command(dir, &server, &service, rootfs).status().unwrap().success());
    let again = sent() as f64 / ((mib as u64) << 20) as f64;
    row("sent by the run after a kill at half ÷ the file", &format!("{:.1} %", again * 100.0), "< 60 %");
}

fn packages(dir: &Path) {
    let packages = dir.join("packages");
    std::fs::create_dir(&packages).unwrap();
    let mut files = Vec::new();
    for number in 0..1000_u64 {
        let content: Vec<u8> = (0..32_768_u64).flat_map(|n| (n * number).to_le_bytes()).collect();
        let name = format!("kernel-devel-{number}.rpm");
        std::fs::write(packages.join(&name), &content).unwrap();
        files.push(json!({ "uri": format!("/{name}"), "size": content.len(), "folder": false, "sha2": Digest::sha256(&content).hex() }));
    }
    let listing = json!({ "uri": "u", "created": "c", "files": files }).to_string();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
    let url = format!("http://{}/artifactory", listener.local_addr().unwrap());
    let router = Router::new().fallback(move |_: Request| {
        let listing = listing.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            listing.into_response()
        }
    });
    runtime.spawn(async move { axum::serve(listener, router).await });
    let started = Instant::now();
    let output = Command::new(HAVERSACK)
        .args(["publish", "artifactory"])
        .arg(&packages)
        .args(["--url", &url, "--repo", "packages", "--json"])
        .output()
        .unwrap();
    let seconds = started.elapsed().as_secs_f64();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["skipped"].as_array().unwrap().len(), 1000);
    row("1,000 packages of 256 KiB that a server 20 ms away has", &format!("{seconds:.2} s"), "< 2 s");
}
