//! `scripts/bench.sh carry`: the headers of the Debian kernels that apt offers (11 at the time), an image each, as skopeo
//! compresses them, into a carry and out of it; the newest after the others have arrived; side by side with what else
//! takes images across, in one run.
//!
//! Needs apt, dpkg-deb, skopeo and podman. Times are of one run each. Timings never decide anything here: it always ends
//! with 0.

#![allow(clippy::print_stdout, clippy::disallowed_methods, missing_docs, reason = "a program for the terminal")]

#[path = "program/command.rs"]
mod command;
#[path = "program/image.rs"]
mod image;
#[path = "program/kernels.rs"]
mod kernels;
mod program;

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use command::run;
use haversack::digest::{Algorithm, Digest};
use haversack::image::Layout;
use haversack::image::store::layout::descriptor;
use kernels::{Kernel, kernels, unpack};
use oci_spec::image::MediaType;
use program::HAVERSACK;
use serde_json::Value;

fn main() {
    let dir = tempfile::tempdir_in(concat!(env!("CARGO_MANIFEST_DIR"), "/target")).unwrap();
    let dir = dir.path();
    let kernels = kernels();
    let has_go = has_go(dir);
    let mut tars = 0;
    for (number, kernel) in kernels.iter().enumerate() {
        tars += add_image(dir, kernel);
        if has_go {
            add_go_image(dir, kernel);
        }
        let name = format!("oci:plain:{}", tag(kernel));
        let last = number + 1 == kernels.len();
        for layout in if last { &["all", "new"][..] } else { &["all", "old"] } {
            let to = format!("oci:{layout}:{}", tag(kernel));
            run(Command::new("skopeo").args(["copy", "-q", "--insecure-policy", &name, &to]).current_dir(dir));
        }
    }
    println!("{} images, {} MB of tar\n", kernels.len(), tars / 1_000_000);
    println!("| what | measured | target |\n| --- | --- | --- |");
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let row = |what: &str, measured: &str, target: &str| println!("| {what} | {measured} | {target} |");

    let packed = haversack(dir, &["pack", "oci:all", "--out", "carry", "--no-program"]);
    let size = |packed: &Value, what: &str| packed["totals"][what].as_u64().unwrap();
    let (carried, blobs) = (size(&packed.said, "carriedBytes"), size(&packed.said, "blobBytes"));
    let ratio =
        format!("1/{:.1} ({:.2} of {:.2} MB)", blobs as f64 / carried as f64, megabytes(carried), megabytes(blobs));
    row("the carry ÷ the layers as skopeo compresses them", &ratio, "≤ 1/8");
    let all: Vec<String> = kernels.iter().map(tag).collect();
    let alone = all.iter().map(|tag| {
        let to = format!("oci-archive:{tag}.tar");
        run(Command::new("skopeo")
            .args(["copy", "-q", "--insecure-policy", &format!("oci:all:{tag}"), &to])
            .current_dir(dir));
        std::fs::metadata(dir.join(format!("{tag}.tar"))).unwrap().len()
    });
    row("… ÷ as archives of skopeo", &format!("1/{:.1}", alone.sum::<u64>() as f64 / carried as f64), "");
    let speed = |seconds: f64| format!("{:.0} MB/s ({seconds:.1} s)", megabytes(tars) / seconds);
    row("packing, of uncompressed bytes", &speed(packed.seconds), "≥ 100");
    let unpacked = haversack(dir, &["unpack", "carry", "--to", "oci:to"]);
    row("unpacking", &speed(unpacked.seconds), "≥ 150");
    if has_go {
        let packed = haversack(dir, &["pack", "oci:go", "--out", "carry-go", "--no-program"]);
        row("packing the layers as Go up to 1.26 compresses them", &speed(packed.seconds), "≥ 60");
        let unpacked = haversack(dir, &["unpack", "carry-go", "--to", "oci:to-go"]);
        row("unpacking these", &speed(unpacked.seconds), "≥ 90");
    }
    let start = Instant::now();
    for tag in &all {
        let mut podman = Command::new("podman");
        podman.args(["--root", "store", "--runroot", "run", "--storage-driver", "vfs", "load", "-q", "-i"]);
        run(podman.arg(format!("{tag}.tar")).current_dir(dir));
    }
    let podman = start.elapsed().as_secs_f64();
    row(
        "`podman load` of the archives ÷ unpacking",
        &format!("{:.1} ({podman:.1} s)", podman / unpacked.seconds),
        "≥ 1",
    );
    let memory = packed.peak_kib.max(unpacked.peak_kib) * 1024 / 1_000_000;
    row("most resident memory", &format!("{memory} MB"), "≤ 300 MB");

    let site = ["--site", "bench", "--ledger", "ledger", "--no-program"];
    haversack(dir, &[&["pack", "oci:old", "--out", "carry-old"][..], &site].concat());
    let arrived = haversack(dir, &["unpack", "carry-old", "--to", "oci:far"]);
    let code = arrived.said["receipt"]["code"].as_str().unwrap();
    haversack(dir, &["site", "confirm", "bench", code, "--ledger", "ledger"]);
    let new = haversack(dir, &[&["pack", "oci:new", "--out", "carry-new"][..], &site].concat());
    haversack(dir, &["unpack", "carry-new", "--to", "oci:far"]);
    let (carried, blobs) = (size(&new.said, "carriedBytes"), size(&new.said, "blobBytes"));
    let ratio =
        format!("1/{:.1} ({:.2} of {:.2} MB)", blobs as f64 / carried as f64, megabytes(carried), megabytes(blobs));
    row("the newest after the others ÷ its layer", &ratio, "≤ 1/20");
}

/// A run of this program: what it said, how long it took, the most memory that it had.
struct Run {
    said: Value,
    seconds: f64,
    peak_kib: u64,
}

fn haversack(dir: &Path, args: &[&str]) -> Run {
    let start = Instant::now();
    let mut time = Command::new("/usr/bin/time");
    time.args(["-f", "%M", "-o", "peak", HAVERSACK]).args(args).args(["--json", "--quiet"]).current_dir(dir);
    let output = time.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{args:?}");
    let seconds = start.elapsed().as_secs_f64();
    let peak_kib = std::fs::read_to_string(dir.join("peak")).unwrap().trim().parse().unwrap();
    Run { said: serde_json::from_slice(&output.stdout).unwrap(), seconds, peak_kib }
}

fn tag(kernel: &Kernel) -> String {
    format!("v{}", kernel.release.replace('+', "-"))
}

/// Puts a kernel's headers into the layout `plain`, as a layer without compression. Returns its bytes.
fn add_image(dir: &Path, kernel: &Kernel) -> u64 {
    let layout = Layout::create(&dir.join("plain")).unwrap();
    let tree = unpack(kernel, dir);
    let tar = dir.join("layer.tar");
    let mut packing = Command::new("tar");
    packing.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "-cf"]).arg(&tar);
    run(packing.arg("-C").arg(&tree).arg("."));
    std::fs::remove_dir_all(&tree).unwrap();
    let mut blob = layout.blob_writer(Algorithm::Sha256).unwrap();
    std::io::copy(&mut File::open(&tar).unwrap().by_ref(), &mut blob).unwrap();
    let (digest, size): (Digest, u64) = blob.finish().unwrap();
    image::write(&layout, &descriptor(MediaType::ImageLayer, &digest, size), &digest, &tag(kernel));
    size
}

/// Puts the layer of `plain` that was added last into the layout `go`, as Go's own compress/gzip compresses it.
fn add_go_image(dir: &Path, kernel: &Kernel) {
    let mut tar = std::fs::read(dir.join("layer.tar")).unwrap();
    let digest = Digest::sha256(&tar);
    // Level, length, bytes; then a length and the file: testdata/encode/gzip.go.
    let mut given = vec![6];
    given.extend_from_slice(&u32::try_from(tar.len()).unwrap().to_le_bytes());
    given.append(&mut tar);
    std::fs::write(dir.join("given"), given).unwrap();
    let mut go = Command::new(dir.join("gzip"));
    let made = go.stdin(File::open(dir.join("given")).unwrap()).output().unwrap().stdout;
    let layout = Layout::create(&dir.join("go")).unwrap();
    let layer = layout.write_blob(MediaType::ImageLayerGzip, &made[4..]).unwrap();
    image::write(&layout, &layer, &digest, &tag(kernel));
}

/// Builds the program that compresses as Go does, if Go is there and is not newer than 1.26: from 1.27 on it is fast.
fn has_go(dir: &Path) -> bool {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/encode/gzip.go");
    let script =
        format!("go version | grep -Eq 'go1[.]([0-9]|1[0-9]|2[0-6])[. ]' && cp {source} . && go build -o gzip gzip.go");
    let mut build = Command::new("sh");
    build.args(["-c", &script]).env("GO111MODULE", "off").stderr(Stdio::null()).current_dir(dir);
    build.status().unwrap().success()
}
