//! `scripts/bench.sh images`: 2 GB in 40 layers between docker-registry on loopback and OCI layouts, side by side with
//! skopeo in one run.
//!
//! Needs docker-registry and skopeo. `HAVERSACK_BENCH_LAYER_MB` (50) makes the layers smaller for a quick look. Every
//! number is the best of three. Timings never decide anything here: it always ends with 0.

#![allow(clippy::print_stdout, clippy::disallowed_methods, missing_docs, reason = "a program for the terminal")]

mod program;

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use haversack::digest::{Algorithm, Digest};
use haversack::image::Layout;
use haversack::image::store::layout;
use oci_spec::image::MediaType;
use program::HAVERSACK;

const LAYERS: u64 = 40;

fn main() {
    let megabytes = std::env::var("HAVERSACK_BENCH_LAYER_MB").ok().and_then(|text| text.parse().ok()).unwrap_or(50);
    let dir = tempfile::tempdir_in(concat!(env!("CARGO_MANIFEST_DIR"), "/target")).unwrap();
    image(&dir.path().join("from"), megabytes * 1_000_000);
    println!("{LAYERS} layers of {megabytes} MB, docker-registry on loopback\n");
    println!("| what | haversack | skopeo | ratio | target |\n| --- | --- | --- | --- | --- |");

    // Each pair of runs has a registry of its own, so that nobody finds what the other sent.
    let push = |program: fn(&Path, &str, &str) -> Run, name: &str| {
        best(|| {
            let registry = Registry::start(dir.path());
            let to = format!("docker://{}/a/x:1", registry.address);
            let first = program(dir.path(), "oci:from:x", &to);
            let second = program(dir.path(), "oci:from:x", &to);
            let elsewhere = program(dir.path(), "oci:from:x", &format!("docker://{}/b/{name}:1", registry.address));
            [first, second, elsewhere]
        })
    };
    let (ours, theirs) = (push(haversack, "ours"), push(skopeo, "theirs"));
    row("layout → registry", &ours[0], &theirs[0], "≥ 1.5");
    row("the same again", &ours[1], &theirs[1], "≥ 5");
    row("to another repository of it", &ours[2], &theirs[2], "");
    let pushed = ours[0].peak_kib.max(ours[1].peak_kib);

    let registry = Registry::start(dir.path());
    let at = format!("docker://{}/a/x:1", registry.address);
    haversack(dir.path(), "oci:from:x", &at);
    let pull = |program: fn(&Path, &str, &str) -> Run| {
        best(|| {
            let _ = std::fs::remove_dir_all(dir.path().join("to"));
            [program(dir.path(), &at, "oci:to:x"), program(dir.path(), &at, "oci:to:x")]
        })
    };
    let (ours, theirs) = (pull(haversack), pull(skopeo));
    row("registry → layout", &ours[0], &theirs[0], "≥ 1.5");
    row("the same again", &ours[1], &theirs[1], "≥ 5");
    let peak = pushed.max(ours[0].peak_kib).max(ours[1].peak_kib);
    println!("| most resident memory | {:.0} MB | | | ≤ 64 MB |", peak as f64 * 1024.0 / 1e6);
}

/// How long a program took, and the most memory it had.
#[derive(Clone, Copy)]
struct Run {
    seconds: f64,
    peak_kib: u64,
}

fn haversack(dir: &Path, from: &str, to: &str) -> Run {
    let insecure = ["--src-tls-verify=false", "--dest-tls-verify=false", "--quiet"];
    run(Command::new(HAVERSACK).args(["copy", from, to]).args(insecure).current_dir(dir), dir)
}

fn skopeo(dir: &Path, from: &str, to: &str) -> Run {
    let insecure = ["--src-tls-verify=false", "--dest-tls-verify=false", "--quiet", "--preserve-digests"];
    run(Command::new("skopeo").args(["copy", "--insecure-policy", from, to]).args(insecure).current_dir(dir), dir)
}

fn run(command: &mut Command, home: &Path) -> Run {
    let started = Instant::now();
    let child = command.env("HOME", home).env_remove("XDG_CACHE_HOME").stdout(Stdio::null()).spawn().unwrap();
    let (mut child, mut peak_kib) = (child, 0);
    loop {
        peak_kib = peak_kib.max(high_water(child.id()));
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success());
            return Run { seconds: started.elapsed().as_secs_f64(), peak_kib };
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn high_water(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// The best time of each of some runs that follow one another, of three times.
fn best<const N: usize>(mut runs: impl FnMut() -> [Run; N]) -> [Run; N] {
    let mut best = runs();
    for _ in 0..2 {
        for (best, run) in best.iter_mut().zip(runs()) {
            *best = Run { seconds: best.seconds.min(run.seconds), peak_kib: best.peak_kib.max(run.peak_kib) };
        }
    }
    best
}

fn row(what: &str, ours: &Run, theirs: &Run, target: &str) {
    let ratio = theirs.seconds / ours.seconds;
    println!("| {what} | {:.3} s | {:.3} s | {ratio:.1} × faster | {target} |", ours.seconds, theirs.seconds);
}

/// A layout with an image `x`, whose layers begin as gzip does (skopeo compresses what does not) and are noise.
fn image(root: &Path, layer: u64) {
    let layout = Layout::create(root).unwrap();
    let mut layers = Vec::new();
    for number in 0..LAYERS {
        let mut blob = layout.blob_writer(Algorithm::Sha256).unwrap();
        blob.write_all(&[0x1f, 0x8b, 8, 0]).unwrap();
        let mut state = number + 1;
        let mut left = layer - 4;
        while left > 0 {
            let mut noise = [0; 8192];
            for word in noise.chunks_exact_mut(8) {
                // splitmix64
                state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                word.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes());
            }
            let n = left.min(noise.len() as u64);
            blob.write_all(&noise[..usize::try_from(n).unwrap()]).unwrap();
            left -= n;
        }
        let (digest, size) = blob.finish().unwrap();
        layers.push(layout::descriptor(MediaType::ImageLayerGzip, &digest, size));
    }
    let diff_ids: Vec<String> = (0..LAYERS).map(|n| Digest::sha256(n.to_string()).to_string()).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = layout.write_blob(MediaType::ImageConfig, &layout::canonical(&config)).unwrap();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": MediaType::ImageManifest, "config": config, "layers": layers,
    });
    let manifest = layout.write_blob(MediaType::ImageManifest, &layout::canonical(&manifest)).unwrap();
    layout.tag(&manifest, Some("x")).unwrap();
}

/// docker-registry on a free port of the loopback.
struct Registry {
    child: Child,
    address: String,
    _dir: tempfile::TempDir,
}

impl Registry {
    fn start(dir: &Path) -> Self {
        let dir = tempfile::tempdir_in(dir).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nhttp: {{addr: {address}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\n",
            dir.path().display()
        );
        std::fs::write(dir.path().join("config.yml"), config).unwrap();
        let mut serve = Command::new("docker-registry");
        serve.args(["serve", "config.yml"]).current_dir(dir.path()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = serve.spawn().expect("docker-registry is there");
        while TcpStream::connect(&address).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        Registry { child, address, _dir: dir }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
