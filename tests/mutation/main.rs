//! Every reader of bytes from outside, given what is nearly right: no panic, no signal, none that takes ten seconds, none that
//! takes 256 MiB.
//!
//! The inputs follow from their number alone, so that one that breaks something can be made again: the message says which.
//! `HAVERSACK_MUTATIONS` says how many there are, over all readers; docs/security.md has the figures of the whole run.

mod mutate;
#[path = "../packages/mod.rs"]
#[allow(dead_code, reason = "each user takes a part")]
mod packages;
mod seeds;

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use haversack::readers::READERS;

/// Longest time for one input.
const LONGEST: Duration = Duration::from_secs(10);

/// Most memory of a process that reads thousands of inputs, in KiB: its peak, and the limit of its data.
const MOST_MEMORY: u64 = 256 << 10;

/// Inputs over all readers, where nothing else is said.
const USUALLY: u64 = 3600;

#[test]
fn no_mutated_input_breaks_a_reader() {
    if let Ok(child) = std::env::var(CHILD) {
        return read(&child);
    }
    let inputs: u64 = std::env::var("HAVERSACK_MUTATIONS").map_or(USUALLY, |text| text.parse().unwrap());
    let each = inputs.div_ceil(READERS.len() as u64);
    let broken: Vec<String> = READERS.iter().filter_map(|(reader, _)| run(reader, each).err()).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Every reader has something right to begin with, and takes it.
#[test]
fn every_reader_has_seeds() {
    for (name, reader) in READERS {
        let seeds = seeds::of(name);
        assert!(!seeds.is_empty() && seeds.iter().all(|seed| !seed.is_empty()), "{name}");
        seeds.iter().for_each(|seed| reader(seed));
    }
}

/// Every reader has a fuzz target, and its seeds become a corpus: `HAVERSACK_CORPUS=DIR` writes them there (`fuzz/corpus.sh`).
#[test]
fn every_reader_has_a_fuzz_target() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (listed, scheduled) = (
        fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap(),
        fs::read_to_string(root.join(".github/workflows/security.yaml")).unwrap(),
    );
    for (name, _) in READERS {
        let target = root.join(format!("fuzz/fuzz_targets/{}.rs", name.replace('-', "_")));
        assert!(fs::read_to_string(&target).unwrap().contains(&format!("read(\"{name}\", bytes)")), "{name}");
        assert!(listed.contains(&format!("name = \"{name}\"")) && scheduled.contains(&format!("- {name}\n")), "{name}");
        let Some(corpus) = std::env::var_os("HAVERSACK_CORPUS") else { continue };
        let directory = Path::new(&corpus).join(name);
        fs::create_dir_all(&directory).unwrap();
        for (number, seed) in seeds::of(name).iter().enumerate() {
            fs::write(directory.join(format!("seed-{number}")), seed).unwrap();
        }
    }
}

/// Has another process read the inputs, and watches it.
fn run(reader: &str, inputs: u64) -> Result<(), String> {
    let directory = tempfile::tempdir().unwrap();
    let (at, said) = (directory.path().join("at"), directory.path().join("said"));
    let mut child = Command::new("sh")
        .args(["-c", &format!("ulimit -c 0; ulimit -d {MOST_MEMORY} && exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "no_mutated_input_breaks_a_reader", "--nocapture"])
        .env(CHILD, format!("{reader} {inputs} {}", at.display()))
        .env("TMPDIR", directory.path())
        .stdout(Stdio::null())
        .stderr(File::create(&said).unwrap())
        .spawn()
        .unwrap();
    let reached = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    let status = watch(&mut child, || reached(&at));
    let said = fs::read_to_string(said).unwrap();
    match status {
        None => Err(format!("{reader}: input {}: more than {LONGEST:?}", reached(&at))),
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(format!("{reader}: input {}: {status}: {}", reached(&at), said.trim())),
    }
}

/// Waits for the end; `None`, and no process any more, when it stays at one input for too long.
fn watch(child: &mut Child, at: impl Fn() -> String) -> Option<std::process::ExitStatus> {
    let (mut last, mut since) = (at(), Instant::now());
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        let now = at();
        if now != last {
            (last, since) = (now, Instant::now());
        } else if since.elapsed() > LONGEST {
            child.kill().unwrap();
            child.wait().unwrap();
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Reads inputs in the child: `READER INPUTS FILE`; the file always has the number of the one that is read.
fn read(child: &str) {
    let mut words = child.splitn(3, ' ');
    let (name, inputs, at) =
        (words.next().unwrap(), words.next().unwrap().parse::<u64>().unwrap(), words.next().unwrap());
    let (_, reader) = READERS.iter().find(|(other, _)| *other == name).unwrap();
    let seeds = seeds::of(name);
    for number in 0..inputs {
        fs::write(at, number.to_string()).unwrap();
        reader(&mutate::input(name, &seeds, number));
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")).unwrap();
    let peak: u64 = peak.trim().parse().unwrap();
    assert!(peak <= MOST_MEMORY, "{peak} KiB");
    if let Some(figures) = std::env::var_os("HAVERSACK_MUTATION_FIGURES") {
        use std::io::Write;
        let mut file = File::options().create(true).append(true).open(figures).unwrap();
        writeln!(file, "{name}\t{inputs}\t{peak}").unwrap();
    }
}

const CHILD: &str = "HAVERSACK_MUTATION_CHILD";
