//! `scripts/bench.sh toolkit`: eleven driver toolkits in one call, beside debootstrap and buildah, in one run.
//!
//! The packages are real ones of Debian 12, which scripts/debs.sh fetches into `HAVERSACK_DEBS` (or into target/debs, where
//! apt can). The run that finds nothing to do asks a docker-registry on loopback for 500 kernels that were made up. Timings
//! never decide anything here: it always ends with 0.

#![allow(clippy::print_stdout, clippy::disallowed_methods, missing_docs, reason = "a program for the terminal")]

mod program;

#[path = "../tests/docker_registry/mod.rs"]
#[allow(dead_code, reason = "each user takes a part")]
mod docker_registry;
#[path = "../tests/packages/mod.rs"]
#[allow(dead_code, reason = "each user takes a part")]
mod packages;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use packages::Deb;
use program::HAVERSACK;
use serde_json::{Value, json};

const ENTRIES: usize = 500;

fn main() {
    println!("| what | measured | target |\n| --- | --- | --- |");
    match pool() {
        Some(pool) => toolkits(&pool),
        None => println!("| eleven toolkits | not measured: HAVERSACK_DEBS is not set and apt-get fetched nothing | |"),
    }
    nothing_to_do();
}

/// The directory of real packages.
fn pool() -> Option<PathBuf> {
    if let Some(pool) = std::env::var_os("HAVERSACK_DEBS") {
        return Some(pool.into());
    }
    let pool = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/debs");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/debs.sh");
    let fetched = Command::new(script).arg(&pool).stdout(Stdio::null()).status().ok()?;
    fetched.success().then_some(pool)
}

fn toolkits(pool: &Path) {
    let dir = tempfile::tempdir().unwrap();
    let definition = Path::new(env!("CARGO_MANIFEST_DIR")).join("images/driver-toolkit");
    let definition = definition.to_str().unwrap();
    let source = format!("dir:{}", pool.display());
    let build = |output: &str, definition: &str, more: &[&str]| {
        let output = format!("oci:{output}");
        let args = ["build", definition, "--kernels", &source, "--output", &output, "--json"];
        haversack(dir.path(), &[&args[..], more].concat())
    };
    let (_, listed) = haversack(dir.path(), &["kernel", "list", &source, "--flavour", "default", "--json"]);
    let kernels: Vec<String> =
        listed["kernels"].as_array().unwrap().iter().map(|it| it["uname"].as_str().unwrap().to_owned()).collect();
    let first = &kernels[0];
    build("warm", definition, &["--release", first]);
    let (one, _) = build("one", definition, &["--release", first]);
    let (all, report) = build("all", definition, &[]);
    // The kernels' own layers alone: their packages unpacked and packed, a layer for each.
    let text = std::fs::read_to_string(Path::new(definition).join("image.toml")).unwrap();
    let own = dir.path().join("own");
    std::fs::create_dir(&own).unwrap();
    let layers = "name = 'own'\n[[layers]]\nkernels = { dest = '/kernels', unpacked = true }\n";
    std::fs::write(own.join("image.toml"), layers).unwrap();
    // Of the same kernels.
    let releases: Vec<&str> = kernels.iter().flat_map(|kernel| ["--release", kernel]).collect();
    let (layers, _) = build("layers", own.to_str().unwrap(), &releases);
    let count = kernels.len();
    row(
        &format!("{count} toolkits in one call ÷ (the first toolkit + the kernels' own layers)"),
        &format!("{:.2} ({all:.1} s ÷ ({one:.1} s + {layers:.1} s))", all / (one + layers)),
        "≤ 1.3",
    );
    let mut distinct = BTreeMap::new();
    let mut separate = 0;
    for layer in report.as_array().unwrap().iter().flat_map(|image| image["images"][0]["layers"].as_array().unwrap()) {
        let size = layer["size"].as_u64().unwrap();
        separate += size;
        distinct.insert(layer["digest"].as_str().unwrap().to_owned(), size);
    }
    let shared: u64 = distinct.values().sum();
    row(
        &format!("distinct blobs ÷ {count} separate images"),
        &format!(
            "{:.0} % ({} of {} MB)",
            shared as f64 / separate as f64 * 100.0,
            shared / 1_000_000,
            separate / 1_000_000
        ),
        "≤ 40 %",
    );
    match debootstrap(dir.path(), &text, first) {
        Ok(peer) => row(
            "debootstrap --variant=minbase and buildah commit ÷ haversack, one toolkit",
            &format!("{:.1} ({peer:.1} s ÷ {one:.1} s)", peer / one),
            "≥ 5",
        ),
        Err(why) => row("debootstrap --variant=minbase and buildah commit ÷ haversack, one toolkit", &why, "≥ 5"),
    }
}

/// The same packages installed by Debian's own tools. They fetch what they install; that time is taken off by fetching
/// first.
fn debootstrap(dir: &Path, definition: &str, kernel: &str) -> Result<f64, String> {
    for tool in ["debootstrap", "buildah"] {
        if Command::new(tool).arg("--version").output().is_err() {
            return Err(format!("not measured: {tool} is not there"));
        }
    }
    let list = definition.split_once("deb = [").unwrap().1.split_once(']').unwrap().0;
    let mut wanted: Vec<&str> = list.split('"').skip(1).step_by(2).collect();
    let headers = format!("linux-headers-{kernel}");
    wanted.extend(["gcc", &headers]);
    let include = format!("--include={}", wanted.join(","));
    let root = dir.join("root");
    let cache = dir.join("fetched");
    std::fs::create_dir(&cache).unwrap();
    let cached = format!("--cache-dir={}", cache.display());
    let bootstrap = |more: &[&str], root: &Path| {
        let suites = "--extra-suites=bookworm-security,bookworm-updates";
        let output = Command::new("debootstrap")
            .args(["--variant=minbase", &include, &cached, suites])
            .args(more)
            .arg("bookworm")
            .arg(root)
            .arg("http://deb.debian.org/debian")
            .output()
            .unwrap();
        output.status.success()
    };
    if !bootstrap(&["--download-only"], &dir.join("download")) {
        let simple =
            format!("--include={}", wanted.iter().filter(|it| **it != headers).copied().collect::<Vec<_>>().join(","));
        return plain_debootstrap(dir, &simple, &cached);
    }
    let start = Instant::now();
    if !bootstrap(&[], &root) {
        return Err("not measured: debootstrap failed".into());
    }
    commit(&root)?;
    Ok(start.elapsed().as_secs_f64())
}

/// Without the kernel's headers, where the main suite has them no more.
fn plain_debootstrap(dir: &Path, include: &str, cached: &str) -> Result<f64, String> {
    let run = |more: &[&str], root: &str| {
        let mut command = Command::new("debootstrap");
        command.args(["--variant=minbase", include, cached]).args(more).arg("bookworm").arg(dir.join(root));
        command.arg("http://deb.debian.org/debian").output().unwrap().status.success()
    };
    if !run(&["--download-only"], "download2") {
        return Err("not measured: debootstrap cannot fetch".into());
    }
    let start = Instant::now();
    if !run(&[], "root2") {
        return Err("not measured: debootstrap failed".into());
    }
    commit(&dir.join("root2"))?;
    Ok(start.elapsed().as_secs_f64())
}

fn commit(root: &Path) -> Result<(), String> {
    let buildah = |args: &[&str]| {
        let output = Command::new("buildah").args(args).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(text).ok_or_else(|| {
            format!(
                "not measured: buildah: {}",
                String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default()
            )
        })
    };
    let container = buildah(&["from", "scratch"])?;
    let done = buildah(&["copy", "--quiet", &container, root.to_str().unwrap(), "/"])
        .and_then(|_| buildah(&["commit", "--quiet", &container]));
    let _ = buildah(&["rm", &container]);
    let image = done?;
    let _ = buildah(&["rmi", &image]);
    Ok(())
}

/// `--skip-existing` for a matrix whose every kernel has its image.
fn nothing_to_do() {
    let what = format!("nothing to do for {ENTRIES} kernels");
    if Command::new("docker-registry").arg("--version").output().is_err() {
        return row(&what, "not measured: docker-registry is not there", "< 2 s");
    }
    let (dir, registry) = (tempfile::tempdir().unwrap(), docker_registry::DockerRegistry::start());
    let pool = dir.path().join("pool");
    let mut entries = Vec::new();
    for n in 0..ENTRIES {
        let headers = Deb::new(&format!("linux-headers-6.1.0-{n}-amd64"), &format!("6.1.{n}-1"), "amd64");
        headers.file(&format!("usr/src/{n}/Makefile"), 0o644, b"x").write(&pool);
        entries.push(json!({ "rhel": "", "kernel": format!("6.1.0-{n}"), "archs": "linux/amd64" }));
    }
    std::fs::write(dir.path().join("matrix.json"), json!({ "versions": entries }).to_string()).unwrap();
    std::fs::create_dir(dir.path().join("def")).unwrap();
    let text = "name = 'x'\ntags = ['${tag}']\n[[layers]]\nkernels = {}\n";
    std::fs::write(dir.path().join("def/image.toml"), text).unwrap();
    let to = registry.at("toolkits");
    let args = [
        "build",
        "def",
        "--matrix",
        "matrix.json",
        "--kernels",
        "dir:pool",
        "--push",
        &to,
        "--skip-existing",
        "--json",
        "--dest-tls-verify=false",
        "--jobs",
        "4",
    ];
    haversack(dir.path(), &args);
    let (seconds, report) = haversack(dir.path(), &args);
    let present = report.as_array().unwrap().iter().filter(|it| it["status"] == "present").count();
    assert_eq!(present, ENTRIES);
    row(&what, &format!("{seconds:.2} s"), "< 2 s");
}

/// Seconds and the JSON result.
fn haversack(dir: &Path, args: &[&str]) -> (f64, Value) {
    let start = Instant::now();
    let output = Command::new(HAVERSACK).args(args).args(["--progress", "none"]).current_dir(dir).output().unwrap();
    let seconds = start.elapsed().as_secs_f64();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    (seconds, serde_json::from_slice(&output.stdout).unwrap())
}

fn row(what: &str, measured: &str, target: &str) {
    println!("| {what} | {measured} | {target} |");
}
