//! `scripts/bench.sh images_build`: the headers of the Debian kernels that apt offers (11 at the time), a layer each, side
//! by side with umoci, with buildah and with what hashing and compressing alone take on the same cores, in one run.
//!
//! Downloads the packages with `apt-get download` into `target/bench-kernels` once, and unpacks them with dpkg-deb. Every
//! number is the best of three. Timings never decide anything here: it always ends with 0.

#![allow(clippy::print_stdout, clippy::disallowed_methods, missing_docs, reason = "a program for the terminal")]

use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use haversack::compression::{Compression, Encoder};
use haversack::digest::{Algorithm, HashingReader, HashingWriter};
use rayon::prelude::*;

/// The program to measure: scripts/bench.sh names the release build, so that what is shipped is measured without
/// optimising the benchmark itself for minutes.
const HAVERSACK: &str = match option_env!("HAVERSACK_BENCH_BINARY") {
    Some(path) => path,
    None => env!("CARGO_BIN_EXE_haversack"),
};

fn main() {
    let kernels = kernels();
    let dir = tempfile::tempdir_in(concat!(env!("CARGO_MANIFEST_DIR"), "/target")).unwrap();
    let (trees, tars) = (dir.path().join("def"), dir.path().join("tars"));
    std::fs::create_dir_all(&tars).unwrap();
    let mut text = "name = 'kernels'\n".to_owned();
    kernels.par_iter().for_each(|kernel| {
        let tree = trees.join(&kernel.release);
        std::fs::create_dir_all(&tree).unwrap();
        for deb in &kernel.debs {
            run(Command::new("dpkg-deb").arg("-x").arg(deb).arg(&tree));
        }
        let tar = tars.join(format!("{}.tar", kernel.release));
        run(Command::new("tar").arg("-cf").arg(tar).arg("-C").arg(&tree).arg("."));
    });
    for Kernel { release, .. } in &kernels {
        let _ = writeln!(text, "[[layers]]\ndirectories = [{{ src = '{release}', dest = '/kernels/{release}' }}]");
    }
    std::fs::write(trees.join("image.toml"), text).unwrap();
    let bytes: u64 =
        kernels.iter().map(|it| std::fs::metadata(tars.join(format!("{}.tar", it.release))).unwrap().len()).sum();
    println!("{} kernels, {} MB as tars, {} cores\n", kernels.len(), bytes / 1_000_000, rayon::current_num_threads());
    println!("| what | measured | target |\n| --- | --- | --- |");

    for (name, compression, level) in [("gzip", Compression::Gzip, 6), ("zstd", Compression::Zstd, 3)] {
        let alone = best(|| {
            kernels
                .par_iter()
                .for_each(|it| hash_and_compress(&tars.join(format!("{}.tar", it.release)), compression, level));
        });
        let layout = dir.path().join("layout");
        let build = best(|| {
            let _ = std::fs::remove_dir_all(&layout);
            let output = format!("oci:{}", layout.display());
            let level = level.to_string();
            let args = ["build", "--no-sbom", "--quiet", "--compression", name, "--level", &level, "--output", &output];
            run(Command::new(HAVERSACK).args(args).arg(&trees));
        });
        row(
            &format!("build, {name} -{level} ÷ hashing and compressing alone"),
            &format!("{:.2} ({build:.2} s, {alone:.2} s)", build / alone),
            "≤ 1.3",
        );
        if compression == Compression::Gzip {
            let umoci = best(|| umoci(&kernels, &trees, &dir.path().join("umoci")));
            row("umoci insert of each (gzip) ÷ build, gzip -6", &format!("{:.1} ({umoci:.2} s)", umoci / build), "≥ 3");
            let buildah = best(|| buildah(&kernels, &trees, &dir.path().join("buildah")));
            row(
                "buildah add and commit of each (gzip) ÷ build, gzip -6",
                &format!("{:.1} ({buildah:.2} s)", buildah / build),
                "≥ 3",
            );
        }
    }
}

/// One kernel's header packages.
struct Kernel {
    release: String,
    debs: Vec<PathBuf>,
}

fn kernels() -> Vec<Kernel> {
    let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench-kernels");
    std::fs::create_dir_all(&cache).unwrap();
    let names = said(Command::new("apt-cache").args([
        "search",
        "--names-only",
        r"^linux-headers-[0-9][^-]*\.[0-9]+(-[0-9]+|\+deb[0-9]+)-amd64$",
    ]));
    let mut releases: Vec<&str> = names
        .lines()
        .filter_map(|line| line.split_whitespace().next()?.strip_prefix("linux-headers-")?.strip_suffix("-amd64"))
        .collect();
    releases.sort_unstable();
    let mut kernels = Vec::new();
    for release in releases {
        let packages = [format!("linux-headers-{release}-amd64"), format!("linux-headers-{release}-common")];
        let find = |name: &String| {
            let files = std::fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path());
            files.into_iter().find(|path| path.file_name().unwrap().to_string_lossy().starts_with(&format!("{name}_")))
        };
        if packages.iter().any(|name| find(name).is_none()) {
            run(Command::new("apt-get").args(["-qq", "download"]).args(&packages).current_dir(&cache));
        }
        kernels.push(Kernel { release: release.to_owned(), debs: packages.iter().filter_map(find).collect() });
    }
    kernels
}

/// What no tool can do without: read, hash, compress, hash.
fn hash_and_compress(tar: &Path, compression: Compression, level: i32) {
    let mut plain =
        HashingReader::new(io::BufReader::with_capacity(128 << 10, File::open(tar).unwrap()), Algorithm::Sha256);
    let hashed = HashingWriter::new(io::sink(), Algorithm::Sha256);
    let mut encoder = Encoder::new(hashed, compression, Some(level)).unwrap();
    let mut buffer = vec![0; 128 << 10];
    loop {
        let n = io::Read::read(&mut plain, &mut buffer).unwrap();
        if n == 0 {
            break;
        }
        io::Write::write_all(&mut encoder, &buffer[..n]).unwrap();
    }
    let (compressed, ..) = encoder.finish().unwrap().finish();
    std::hint::black_box((plain.finish().0, compressed));
}

fn umoci(kernels: &[Kernel], trees: &Path, layout: &Path) {
    let _ = std::fs::remove_dir_all(layout);
    let image = format!("{}:kernels", layout.display());
    run(Command::new("umoci").args(["init", "--layout"]).arg(layout));
    run(Command::new("umoci").args(["new", "--image", &image]));
    for Kernel { release, .. } in kernels {
        let into = format!("/kernels/{release}");
        run(Command::new("umoci").args(["insert", "--image", &image]).arg(trees.join(release)).arg(into));
    }
}

/// An image with one layer for each kernel, as many at one time as there are cores: in one image after another, each commit
/// would copy all that is there.
fn buildah(kernels: &[Kernel], trees: &Path, into: &Path) {
    let _ = std::fs::remove_dir_all(into);
    kernels.par_iter().for_each(|Kernel { release, .. }| {
        let store = into.join(release);
        let buildah = || {
            let mut command = Command::new("buildah");
            command.arg("--root").arg(store.join("root")).arg("--runroot").arg(store.join("run"));
            command.args(["--storage-driver", "vfs"]);
            command
        };
        let (source, dest) = (trees.join(release), format!("/kernels/{release}"));
        run(buildah().args(["from", "--name", "kernel", "scratch"]));
        run(buildah().args(["add", "-q", "kernel"]).arg(source).arg(dest));
        run(buildah().args(["commit", "-q", "kernel"]).arg(format!("oci:{}:kernel", store.join("layout").display())));
    });
}

fn best(mut work: impl FnMut()) -> f64 {
    let times = (0..3).map(|_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    });
    times.fold(f64::INFINITY, f64::min)
}

fn row(what: &str, measured: &str, target: &str) {
    println!("| {what} | {measured} | {target} |");
}

fn run(command: &mut Command) {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(status.success(), "{command:?}");
}

fn said(command: &mut Command) -> String {
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}
