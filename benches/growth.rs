//! `scripts/bench.sh growth`: how the cost of a carry grows with what is in it: images of 1 GB of made-up files each, 25,000 of
//! them, as skopeo compresses them: the first 2, then 5, 10, 20 of them are packed and unpacked.
//!
//! Needs skopeo, and 60 GB of free space below `target`. `HAVERSACK_BENCH_IMAGES="2 5"` tries fewer. Timings never decide
//! anything here: it always ends with 0.

#![allow(clippy::print_stdout, clippy::disallowed_methods, missing_docs, reason = "a program for the terminal")]

#[path = "program/command.rs"]
mod command;
#[path = "program/image.rs"]
mod image;
mod program;

use std::path::Path;
use std::process::Command;

use command::run;
use haversack::digest::Algorithm;
use haversack::image::Layout;
use haversack::image::store::layout::descriptor;
use oci_spec::image::MediaType;
use program::HAVERSACK;

fn main() {
    let dir = tempfile::tempdir_in(concat!(env!("CARGO_MANIFEST_DIR"), "/target")).unwrap();
    let dir = dir.path();
    let wanted = std::env::var("HAVERSACK_BENCH_IMAGES").unwrap_or("2 5 10 20".to_owned());
    let counts: Vec<u64> = wanted.split(' ').map(|count| count.parse().unwrap()).collect();
    println!(
        "| files | pack: CPU s a GB | pack: MB/s | pack: memory | unpack: CPU s a GB | unpack: MB/s | unpack: memory |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let (mut made, mut bytes) = (0, 0);
    for count in counts {
        while made < count {
            bytes += add_image(dir, made);
            made += 1;
        }
        let packed = measured(dir, &["pack", "oci:all", "--out", "carry", "--no-program"]);
        let unpacked = measured(dir, &["unpack", "carry", "--to", "oci:to"]);
        let cells = |cost: &Cost| {
            let gb = bytes as f64 / 1e9;
            let (cpu, speed) = (cost.cpu_seconds / gb, 1000.0 * gb / cost.seconds);
            format!("{cpu:.1} | {speed:.0} | {} MB", cost.peak_kib * 1024 / 1_000_000)
        };
        println!("| {:.1} GB in {} | {} | {} |", bytes as f64 / 1e9, count * FILES, cells(&packed), cells(&unpacked));
        for there in ["carry", "to"] {
            std::fs::remove_dir_all(dir.join(there)).unwrap();
        }
    }
}

/// What a run took.
struct Cost {
    seconds: f64,
    /// Of all processors.
    cpu_seconds: f64,
    /// The most memory that it had.
    peak_kib: u64,
}

fn measured(dir: &Path, args: &[&str]) -> Cost {
    let mut time = Command::new("/usr/bin/time");
    time.args(["-f", "%e %U %S %M", "-o", "cost", HAVERSACK]).args(args).args(["--json", "--quiet"]);
    run(time.current_dir(dir));
    let cost = std::fs::read_to_string(dir.join("cost")).unwrap();
    let numbers: Vec<f64> = cost.split_whitespace().map(|number| number.parse().unwrap()).collect();
    Cost { seconds: numbers[0], cpu_seconds: numbers[1] + numbers[2], peak_kib: numbers[3] as u64 }
}

/// Adds an image of one layer to the layout `all`. Returns the bytes of its tar.
fn add_image(dir: &Path, number: u64) -> u64 {
    let plain = dir.join("plain");
    let layout = Layout::create(&plain).unwrap();
    let mut blob = layout.blob_writer(Algorithm::Sha256).unwrap();
    let mut tar = tar::Builder::new(&mut blob);
    let mut random = Random(number + 1);
    for file in 0..FILES {
        // Half of them small, some ten times as large as most.
        let size = match random.below(10) {
            0 => 200_000,
            1..5 => 40_000,
            _ => 8_000,
        };
        let body = text(&mut random, size);
        let mut header = tar::Header::new_ustar();
        header.set_size(body.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000);
        let path = format!("usr/share/package-{number}-{:03}/lib/module_{file:05}.py", file / 100);
        tar.append_data(&mut header, path, &body[..]).unwrap();
    }
    tar.finish().unwrap();
    drop(tar);
    let (digest, size) = blob.finish().unwrap();
    let tag = format!("image-{number}");
    image::write(&layout, &descriptor(MediaType::ImageLayer, &digest, size), &digest, &tag);
    let (from, to) = (format!("oci:plain:{tag}"), format!("oci:all:{tag}"));
    run(Command::new("skopeo").args(["copy", "-q", "--insecure-policy", &from, &to]).current_dir(dir));
    std::fs::remove_dir_all(plain).unwrap();
    size
}

/// Lines of words, some more frequent than others, and numbers: they compress to a quarter, as programs do.
fn text(random: &mut Random, size: usize) -> Vec<u8> {
    const WORDS: [&str; 32] = [
        "self", "return", "if", "not", "def", "None", "import", "for", "in", "raise", "from", "with", "else", "value",
        "index", "packet", "register", "buffer", "device", "config", "string", "length", "error", "state", "request",
        "handler", "options", "parser", "module", "driver", "version", "timeout",
    ];
    let mut text = Vec::with_capacity(size + 80);
    while text.len() < size {
        text.extend(std::iter::repeat_n(b' ', 4 * random.below(4)));
        for _ in 0..2 + random.below(7) {
            // The product of two makes the first words the most frequent ones.
            let word = WORDS[random.below(32) * random.below(32) / 31];
            text.extend_from_slice(word.as_bytes());
            match random.below(12) {
                0 => text.extend_from_slice(format!("_{:x}", random.below(1 << 16)).as_bytes()),
                1 => text.extend_from_slice(b"(self."),
                _ => text.push(b' '),
            }
        }
        text.push(b'\n');
    }
    text
}

/// xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled").
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % most
    }
}

/// Files of an image: 1 GB of them.
const FILES: u64 = 25_000;
