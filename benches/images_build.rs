//! `scripts/bench.sh images`: the header packages of the Debian kernels that apt offers (11 at the time) as layers, a layer
//! each, side by side with umoci, with buildah and with what decompressing, hashing and compressing alone take on the same
//! cores, in one run.
//!
//! Downloads the packages with `apt-get download` into `target/bench-kernels` once; umoci and buildah get them from
//! `dpkg-deb -x`, for as many kernels at one time as there are cores. Every number is the best of three, each in
//! directories of its own: a file system that has just removed many files makes new ones slowly. Timings never decide
//! anything here: it always ends with 0.

#![allow(clippy::print_stdout, clippy::disallowed_methods, missing_docs, reason = "a program for the terminal")]

#[path = "program/command.rs"]
mod command;
#[path = "program/kernels.rs"]
mod kernels;
mod program;

use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use command::run;
use haversack::compression::{Compression, Encoder, decoder};
use haversack::digest::{Algorithm, HashingWriter};
use kernels::{Kernel, cache, kernels, unpack};
use program::HAVERSACK;
use rayon::prelude::*;

fn main() {
    let kernels = kernels();
    let dir = tempfile::tempdir_in(concat!(env!("CARGO_MANIFEST_DIR"), "/target")).unwrap();
    let kept = dir.path().join("kept");
    std::fs::create_dir(&kept).unwrap();
    let text = "name = 'kernels'\n[[layers]]\nkernels = { dest = '/kernels', unpacked = true }\n";
    std::fs::write(kept.join("image.toml"), text).unwrap();
    let bytes: u64 = kernels.iter().flat_map(|it| &it.debs).map(|deb| std::fs::metadata(deb).unwrap().len()).sum();
    println!(
        "{} kernels, {} MB of packages, {} cores\n",
        kernels.len(),
        bytes / 1_000_000,
        rayon::current_num_threads()
    );
    println!("| what | measured | target |\n| --- | --- | --- |");

    let packages = format!("dir:{}", cache().display());
    for (name, compression, level) in [("gzip", Compression::Gzip, 6), ("zstd", Compression::Zstd, 3)] {
        let alone = best(|_| kernels.par_iter().with_max_len(1).for_each(|it| alone(&it.debs, compression, level)));
        let build = best(|n| {
            let output = format!("oci:{}", dir.path().join(format!("layout-{name}-{n}")).display());
            let level = level.to_string();
            let args = ["build", "--no-sbom", "--quiet", "--compression", name, "--level", &level, "--output", &output];
            run(Command::new(HAVERSACK).args(args).arg(&kept).args(["--kernels", &packages]));
        });
        row(
            &format!("packages to layers, {name} -{level} ÷ decompressing, hashing and compressing alone"),
            &format!("{:.2} ({build:.2} s, {alone:.2} s)", build / alone),
            "≤ 1.3",
        );
        if compression == Compression::Gzip {
            let umoci = best(|n| umoci(&kernels, &dir.path().join(format!("umoci-{n}"))));
            row(
                "dpkg-deb -x and umoci insert of each (gzip) ÷ packages to layers, gzip -6",
                &format!("{:.1} ({umoci:.2} s)", umoci / build),
                "≥ 3",
            );
            let buildah = best(|n| buildah(&kernels, &dir.path().join(format!("buildah-{n}"))));
            row(
                "dpkg-deb -x, buildah add and commit of each (gzip) ÷ packages to layers, gzip -6",
                &format!("{:.1} ({buildah:.2} s)", buildah / build),
                "≥ 3",
            );
        }
    }
}

/// What no tool can do without: read, decompress, hash, compress, hash.
fn alone(debs: &[PathBuf], compression: Compression, level: i32) {
    let hashed = HashingWriter::new(io::sink(), Algorithm::Sha256);
    let encoder = Encoder::new(hashed, compression, Some(level)).unwrap();
    let mut to = HashingWriter::new(encoder, Algorithm::Sha256);
    for deb in debs {
        let mut reader = io::BufReader::with_capacity(128 << 10, File::open(deb).unwrap());
        let mut tar = decoder(data_of(&mut reader)).unwrap().1;
        let mut buffer = vec![0; 128 << 10];
        loop {
            let n = tar.read(&mut buffer).unwrap();
            if n == 0 {
                break;
            }
            to.write_all(&buffer[..n]).unwrap();
        }
    }
    let (plain, _, encoder) = to.finish();
    let (compressed, ..) = encoder.finish().unwrap().finish();
    std::hint::black_box((plain, compressed));
}

/// The data of a deb: `ar` with the sizes of its members as decimal digits.
fn data_of(deb: &mut (impl BufRead + Send)) -> impl BufRead + Send {
    let mut header = [0; 60];
    deb.read_exact(&mut header[..8]).unwrap();
    loop {
        deb.read_exact(&mut header).unwrap();
        let size: u64 = std::str::from_utf8(&header[48..58]).unwrap().trim().parse().unwrap();
        if header.starts_with(b"data.tar") {
            return deb.take(size);
        }
        io::copy(&mut deb.by_ref().take(size.next_multiple_of(2)), &mut io::sink()).unwrap();
    }
}

fn umoci(kernels: &[Kernel], dir: &Path) {
    kernels.par_iter().with_max_len(1).for_each(|kernel| drop(unpack(kernel, dir)));
    let layout = dir.join("layout");
    let image = format!("{}:kernels", layout.display());
    run(Command::new("umoci").args(["init", "--layout"]).arg(&layout));
    run(Command::new("umoci").args(["new", "--image", &image]));
    for Kernel { release, .. } in kernels {
        let into = format!("/kernels/{release}");
        run(Command::new("umoci").args(["insert", "--image", &image]).arg(dir.join(release)).arg(into));
    }
}

/// An image with one layer for each kernel, as many at one time as there are cores: in one image after another, each commit
/// would copy all that is there.
fn buildah(kernels: &[Kernel], dir: &Path) {
    kernels.par_iter().with_max_len(1).for_each(|kernel| {
        let tree = unpack(kernel, dir);
        let store = dir.join(format!("{}-store", kernel.release));
        let buildah = || {
            let mut command = Command::new("buildah");
            command.arg("--root").arg(store.join("root")).arg("--runroot").arg(store.join("run"));
            command.args(["--storage-driver", "vfs"]);
            command
        };
        run(buildah().args(["from", "--name", "kernel", "scratch"]));
        run(buildah().args(["add", "-q", "kernel"]).arg(tree).arg(format!("/kernels/{}", kernel.release)));
        run(buildah().args(["commit", "-q", "kernel"]).arg(format!("oci:{}:kernel", store.join("layout").display())));
    });
}

fn best(mut work: impl FnMut(usize)) -> f64 {
    let times = (0..3).map(|n| {
        let start = Instant::now();
        work(n);
        start.elapsed().as_secs_f64()
    });
    times.fold(f64::INFINITY, f64::min)
}

fn row(what: &str, measured: &str, target: &str) {
    println!("| {what} | {measured} | {target} |");
}
