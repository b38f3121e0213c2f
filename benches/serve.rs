//! `scripts/bench.sh serve`: what `haversack serve` costs, side by side with docker-registry in one run.
//!
//! Numbers are of the server's own processor time and peak of memory (`/proc`), which are steady where throughput on a loopback
//! with two cores is as much the client's as the server's. Needs docker-registry. `HAVERSACK_BENCH_GB` (4) is how much is sent for
//! each line. Timings never decide anything here: it always ends with 0.

#![allow(clippy::print_stdout, clippy::disallowed_methods, missing_docs, reason = "a program for the terminal")]

#[path = "../tests/docker_registry/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "each user takes a part")]
mod docker_registry;
#[allow(dead_code, reason = "each user takes a part")]
mod program;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use haversack::digest::Digest;
use haversack::image::Layout;
use haversack::image::store::layout::canonical;
use oci_spec::image::MediaType;
use program::HAVERSACK;
use serde_json::json;

const BLOB: usize = 200 << 20;

fn main() {
    let gigabytes: usize = std::env::var("HAVERSACK_BENCH_GB").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let dir = tempfile::tempdir_in(concat!(env!("CARGO_MANIFEST_DIR"), "/target")).unwrap();
    let digest = layout(&dir.path().join("one"), 1, BLOB);
    let registry = docker_registry::DockerRegistry::start();
    let (from, to) = (format!("oci:{}/one:a/b:0", dir.path().display()), registry.at("a/b:0"));
    let status =
        Command::new(HAVERSACK).args(["copy", "--dest-tls-verify=false", &from, &to]).stdout(Stdio::null()).status();
    assert!(status.unwrap().success());
    let theirs = Server { pid: registry_pid(&registry.address), address: registry.address.clone(), child: None };
    let blob = format!("/v2/a/b/blobs/{digest}");
    println!(
        "| a blob of 200 MiB, connections | haversack MB/s | cpu-s/GB | peak MB | docker-registry MB/s | cpu-s/GB | peak MB |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for connections in [1, 8, 64] {
        let ours = Server::start(&dir.path().join("one"), &[]);
        // Read once, so that it is known to be right.
        ours.get(&blob, 1, 1, "");
        let [a, b] = [&ours, &theirs].map(|server| {
            let times = (gigabytes << 30) / BLOB;
            let run = server.get(&blob, connections, times, "");
            let gigabytes = (times * BLOB) as f64 / 1e9;
            let speed = gigabytes * 1000.0 / run.wall.as_secs_f64();
            format!("{speed:.0} | {:.3} | {}", run.cpu / gigabytes, run.peak >> 10)
        });
        println!("| {connections} | {a} | {b} |");
    }
    println!("\n| manifest by tag, 8 connections | req/s | cpu µs |\n| --- | --- | --- |");
    let users = dir.path().join("users");
    std::fs::write(&users, format!("ann:{}\n", bcrypt::hash("x", 10).unwrap())).unwrap();
    let with_password = ["--htpasswd", users.to_str().unwrap()];
    let authorization = "Authorization: Basic YW5uOng=\r\n";
    for (what, server, extra, times) in [
        ("haversack", Server::start(&dir.path().join("one"), &[]), "", 40_000),
        ("haversack, with a password", Server::start(&dir.path().join("one"), &with_password), authorization, 40_000),
        ("docker-registry", theirs, "Accept: application/vnd.oci.image.manifest.v1+json\r\n", 4_000),
    ] {
        let run = server.get("/v2/a/b/manifests/0", 8, times, extra);
        let (rate, cpu) = (times as f64 / run.wall.as_secs_f64(), run.cpu * 1e6 / times as f64);
        println!("| {what} | {rate:.0} | {cpu:.0} |");
    }
    layout(&dir.path().join("many"), 10_000, 100);
    let started = Instant::now();
    let mut server = Server::spawn(&dir.path().join("many"), &["--listen", "127.0.0.1:5099"]);
    server.address = "127.0.0.1:5099".to_owned();
    while TcpStream::connect(&server.address).is_err() {
        std::thread::sleep(Duration::from_millis(1));
    }
    server.get("/v2/", 1, 1, "");
    let first = started.elapsed();
    server.get("/v2/a/b/tags/list", 1, 1, "");
    println!("\n10,000 tags: first answer after {first:.0?}, first list of tags after {:.0?}", started.elapsed());
}

/// A layout with tags `a/b:0` and so on, each an image of its own, and the digest of the first one's layer.
fn layout(root: &Path, tags: usize, size: usize) -> Digest {
    let layout = Layout::create(root).unwrap();
    let mut state = 1_u64;
    let content: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    })
    .take(size)
    .collect();
    let layer = layout.write_blob(MediaType::ImageLayer, &content).unwrap();
    let config = json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [] } });
    let config = layout.write_blob(MediaType::ImageConfig, &canonical(&config)).unwrap();
    let mut entries = Vec::new();
    for tag in 0..tags {
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MediaType::ImageManifest, "config": config, "layers": [layer],
            "annotations": { "n": tag.to_string() },
        });
        let bytes = canonical(&manifest);
        let digest = Digest::sha256(&bytes);
        std::fs::write(layout.blob_path(&digest), &bytes).unwrap();
        entries.push(json!({
            "mediaType": MediaType::ImageManifest, "digest": digest, "size": bytes.len(),
            "annotations": { "org.opencontainers.image.ref.name": format!("a/b:{tag}") },
        }));
    }
    let index = json!({ "schemaVersion": 2, "mediaType": MediaType::ImageIndex, "manifests": entries });
    std::fs::write(root.join("index.json"), canonical(&index)).unwrap();
    Digest::sha256(&content)
}

struct Server {
    child: Option<Child>,
    pid: u32,
    address: String,
}

struct Run {
    wall: Duration,
    /// Seconds.
    cpu: f64,
    /// KiB since the server's start.
    peak: u64,
}

impl Server {
    fn spawn(layout: &Path, args: &[&str]) -> Self {
        let mut command = Command::new(HAVERSACK);
        command.arg("serve").arg(layout).arg("--no-access-log").args(args);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        Server { pid: child.id(), child: Some(child), address: String::new() }
    }

    fn start(layout: &Path, args: &[&str]) -> Self {
        let mut server = Server::spawn(layout, &[&["--listen", "127.0.0.1:0"], args].concat());
        let mut url = String::new();
        BufReader::new(server.child.as_mut().unwrap().stdout.take().unwrap()).read_line(&mut url).unwrap();
        server.address = url.trim().rsplit('/').next().unwrap().to_owned();
        server
    }

    /// Asks for a path so many times over so many connections, and reads all of each answer.
    fn get(&self, path: &str, connections: usize, times: usize, extra: &str) -> Run {
        let (cpu, started, left) = (self.cpu(), Instant::now(), AtomicUsize::new(times));
        std::thread::scope(|scope| {
            for _ in 0..connections {
                scope.spawn(|| {
                    let mut stream = BufReader::with_capacity(256 << 10, TcpStream::connect(&self.address).unwrap());
                    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{extra}\r\n");
                    let mut sink = vec![0; 256 << 10];
                    while left.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                        stream.get_mut().write_all(request.as_bytes()).unwrap();
                        let (mut length, mut line) = (0, String::new());
                        loop {
                            line.clear();
                            stream.read_line(&mut line).unwrap();
                            let lower = line.to_ascii_lowercase();
                            assert!(!lower.starts_with("http/1.1 4") && !lower.starts_with("http/1.1 5"), "{line}");
                            if let Some(text) = lower.strip_prefix("content-length:") {
                                length = text.trim().parse().unwrap();
                            } else if line == "\r\n" {
                                break;
                            }
                        }
                        while length > 0 {
                            let most = length.min(sink.len());
                            length -= stream.read(&mut sink[..most]).unwrap();
                        }
                    }
                });
            }
        });
        Run { wall: started.elapsed(), cpu: self.cpu() - cpu, peak: self.peak() }
    }

    /// Processor time so far, in seconds.
    fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        // A hundred ticks a second, as on every Linux.
        fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
    }

    fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The process that has our registry's configuration.
fn registry_pid(address: &str) -> u32 {
    let port = address.rsplit(':').next().unwrap();
    let pids = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_it = |pid: &u32| {
        let cwd = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let config = std::fs::read_to_string(cwd.join("config.yml")).unwrap_or_default();
        name.starts_with("docker-registry") && config.contains(port)
    };
    pids.into_iter().find(is_it).unwrap()
}
