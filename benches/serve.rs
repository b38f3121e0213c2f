//! `scripts/bench.sh serve`: what `haversack serve` costs, side by side with docker-registry and nginx in one run.
//!
//! Numbers are of the server's own processor time and peak of memory (`/proc`), which are steady where throughput on a loopback
//! with two cores is as much the client's as the server's. Needs docker-registry, nginx, openssl, curl and wrk. `HAVERSACK_BENCH_GB` (4)
//! is how much is sent for each line. Timings never decide anything here: it always ends with 0.

#![allow(clippy::print_stdout, clippy::disallowed_methods, missing_docs, reason = "a program for the terminal")]

#[path = "../tests/docker_registry/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "each user takes a part")]
mod docker_registry;
#[allow(dead_code, reason = "each user takes a part")]
mod program;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
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
    let keys = keys(dir.path());
    let (certificate, key) = (keys.with_extension("crt"), keys.with_extension("key"));
    let registries =
        [docker_registry::DockerRegistry::start(), docker_registry::DockerRegistry::with_tls(&certificate, &key)];
    let from = format!("oci:{}/one:a/b:0", dir.path().display());
    let [theirs, theirs_by_tls] = registries.each_ref().map(|registry| {
        let mut copy = Command::new(HAVERSACK);
        copy.args(["copy", "--dest-tls-verify=false", &from, &registry.at("a/b:0")]).stdout(Stdio::null());
        assert!(copy.status().unwrap().success());
        Server::of(registry_pid(&registry.address), &registry.address)
    });
    let blob = format!("/v2/a/b/blobs/{digest}");
    let nginx = Nginx::start(dir.path(), &keys);
    let file = format!("/one/blobs/sha256/{}", digest.hex());
    println!("| a blob of 200 MiB, connections | MB/s, cpu-s/GB, peak MB: haversack | docker-registry | nginx |");
    println!("| --- | --- | --- | --- |");
    let times = (gigabytes << 30) / BLOB;
    let sent = (times * BLOB) as f64 / 1e9;
    let says = |run: &Run| {
        let speed = sent * 1000.0 / run.wall.as_secs_f64();
        format!("{speed:.0}, **{:.3}**, {}", run.cpu / sent, run.peak >> 10)
    };
    for connections in [1, 8, 64] {
        let ours = Server::start(&dir.path().join("one"), &[]);
        // Read once, so that it is known to be right.
        ours.get(&blob, 1, 1, "");
        let runs = [(&ours, &blob), (&theirs, &blob), (&nginx.plain, &file)];
        let [a, b, c] = runs.map(|(server, path)| says(&server.get(path, connections, times, "")));
        println!("| plain, {connections} | {a} | {b} | {c} |");
    }
    let tls = ["--tls-cert", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    for connections in [1, 8] {
        let ours = Server::start(&dir.path().join("one"), &tls);
        ours.get_by_tls(&blob, 1, 1);
        let runs = [(&ours, &blob), (&theirs_by_tls, &blob), (&nginx.tls, &file)];
        let [a, b, c] = runs.map(|(server, path)| says(&server.get_by_tls(path, connections, times)));
        println!("| TLS, {connections} | {a} | {b} | {c} |");
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
        // A password is checked once, which is made to cost 60 ms, and remembered.
        server.get("/v2/a/b/manifests/0", 1, 1, extra);
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
    drop(server);
    let catalog = catalog(dir.path());
    let server = Server::start(&dir.path().join("many"), &["--catalog", catalog.to_str().unwrap()]);
    println!("\n| page | median ms | slowest of 200 ms |\n| --- | --- | --- |");
    for (what, path) in [
        ("repositories", "/"),
        ("a repository with 10,000 tags", "/images/a/b"),
        ("an image", "/images/a/b:5000"),
        ("is this operator certified, 100,000 rows", "/catalog?q=operator-20000.v1.2.3&ocp=4.12"),
        ("search for a word in 100,000 rows", "/catalog?q=team-777"),
        ("search for a word that is in all rows", "/catalog?q=operator"),
    ] {
        let mut times: Vec<Duration> = (0..200).map(|_| server.get(path, 1, 1, "").wall).collect();
        times.sort();
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        println!("| {what} | {:.1} | {:.1} |", ms(times[100]), ms(times[199]));
    }
    println!("\n| wrk, 500 connections | req/s | errors | cpu µs | peak MB |\n| --- | --- | --- | --- | --- |");
    let small = layout(&dir.path().join("small"), 1, 1 << 20);
    for (what, path) in
        [("manifest", "/v2/a/b/manifests/0".to_owned()), ("blob of 1 MiB", format!("/v2/a/b/blobs/{small}"))]
    {
        let ours = Server::start(&dir.path().join("small"), &[]);
        ours.get(&path, 1, 1, "");
        let (cpu, url) = (ours.cpu(), format!("http://{}{path}", ours.address));
        let output = Command::new("wrk").args(["-c", "500", "-t", "2", "-d", "20s", &url]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let number = |key: &str| text.lines().find_map(|line| line.trim().strip_prefix(key)).unwrap_or_default().trim();
        let requests: f64 = text
            .lines()
            .find_map(|line| line.trim().split_once(" requests in "))
            .map_or(0.0, |(n, _)| n.parse().unwrap());
        let errors = [number("Socket errors:"), number("Non-2xx or 3xx responses:")].concat();
        let errors = if errors.is_empty() { "none" } else { &errors };
        let cpu = (ours.cpu() - cpu) * 1e6 / requests;
        println!("| {what} | {} | {errors} | {cpu:.0} | {} |", number("Requests/sec:"), ours.peak() >> 10);
    }
}

/// A certificate of its own for the loopback, `KEYS.crt` and `KEYS.key`.
fn keys(dir: &Path) -> PathBuf {
    let keys = dir.join("keys");
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-keyout"])
        .arg(keys.with_extension("key"))
        .arg("-out")
        .arg(keys.with_extension("crt"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    keys
}

/// 60,000 images and 40,000 bundles.
fn catalog(dir: &Path) -> PathBuf {
    let data = dir.join("tree/data");
    for kind in ["containers", "operators", "helm"] {
        std::fs::create_dir_all(data.join(kind)).unwrap();
    }
    let mut images = serde_json::Map::new();
    for n in 0..60_000 {
        let repositories = json!([{
            "registry": "registry.connect.redhat.com", "repository": format!("team-{}/app-{n}", n % 1000),
            "tags": [{ "name": format!("1.{n}") }],
        }]);
        let image = json!({ "_id": format!("{n:024x}"), "architecture": "amd64", "repositories": repositories });
        images.insert(format!("sha256:{n:064x}"), image);
    }
    std::fs::write(data.join("containers/containers.db"), serde_json::to_vec(&images).unwrap()).unwrap();
    for page in 0..80 {
        let bundle = |n: usize| json!({ "csv_name": format!("operator-{n}.v1.2.3"), "ocp_version": "4.12", "channel_name": "stable" });
        let bundles: Vec<_> = (page * 500..(page + 1) * 500).map(bundle).collect();
        let path = data.join(format!("operators/operator_catalog_page_{page}_500.db"));
        std::fs::write(path, serde_json::to_vec(&json!({ "data": bundles })).unwrap()).unwrap();
    }
    std::fs::write(data.join("helm/helm.db"), "apiVersion: v1\nentries: {}\ngenerated: '2026-01-01T00:00:00Z'\n")
        .unwrap();
    let counts = r#"{"containers":60000,"operators":40000,"charts":0}"#;
    std::fs::write(data.join("archive.json"), counts).unwrap();
    let path = dir.join("catalog.db");
    let mut command = Command::new(HAVERSACK);
    command.args(["catalog", "import", "--quiet", "--db"]).arg(&path).arg(dir.join("tree")).stdout(Stdio::null());
    assert!(command.status().unwrap().success());
    path
}

/// nginx over a directory, at two ports, ended with the run.
struct Nginx {
    child: Child,
    plain: Server,
    tls: Server,
}

impl Nginx {
    fn start(dir: &Path, keys: &Path) -> Self {
        let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let (plain, tls) = (free(), free());
        let config = format!(
            "user root; daemon off; worker_processes 2; pid {dir}/nginx.pid; error_log {dir}/nginx.log;\n\
             events {{}}\nhttp {{ access_log off; sendfile on; tcp_nopush on; root {dir}; keepalive_requests 1000000;\n\
             client_body_temp_path {dir}/n1; proxy_temp_path {dir}/n2; fastcgi_temp_path {dir}/n3; uwsgi_temp_path {dir}/n4; \
             scgi_temp_path {dir}/n5;\n\
             server {{ listen {plain}; }}\n\
             server {{ listen {tls} ssl; ssl_certificate {keys}.crt; ssl_certificate_key {keys}.key; }} }}\n",
            dir = dir.display(),
            keys = keys.display(),
        );
        std::fs::write(dir.join("nginx.conf"), config).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-c").arg(dir.join("nginx.conf")).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        while TcpStream::connect(&plain).is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
        Nginx { plain: Server::of(child.id(), &plain), tls: Server::of(child.id(), &tls), child }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers end with it only when it is asked.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
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
    /// One that runs already.
    fn of(pid: u32, address: &str) -> Self {
        Server { pid, address: address.to_owned(), child: None }
    }

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

    /// Has curl ask for it by TLS, so many times over so many connections.
    fn get_by_tls(&self, path: &str, connections: usize, times: usize) -> Run {
        let (cpu, started) = (self.cpu(), Instant::now());
        let url = format!("https://{}{path}", self.address);
        std::thread::scope(|scope| {
            for connection in 0..connections {
                let mut command = Command::new("curl");
                command.args(["--silent", "--insecure", "--fail"]);
                for _ in (connection..times).step_by(connections) {
                    command.args(["--output", "/dev/null", &url]);
                }
                scope.spawn(move || assert!(command.status().unwrap().success()));
            }
        });
        Run { wall: started.elapsed(), cpu: self.cpu() - cpu, peak: self.peak() }
    }

    /// The process, and those that it started.
    fn processes(&self) -> Vec<u32> {
        let children = format!("/proc/{0}/task/{0}/children", self.pid);
        let children = std::fs::read_to_string(children).unwrap_or_default();
        let children = children.split_whitespace().map(|pid| pid.parse().unwrap());
        std::iter::once(self.pid).chain(children).collect()
    }

    /// Processor time so far, in seconds.
    fn cpu(&self) -> f64 {
        let of = |pid: u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
            // A hundred ticks a second, as on every Linux.
            fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
        };
        self.processes().into_iter().map(of).sum()
    }

    /// Of all processes, in KiB.
    fn peak(&self) -> u64 {
        let of = |pid: u32| -> u64 {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        self.processes().into_iter().map(of).sum()
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
