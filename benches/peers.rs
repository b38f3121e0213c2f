//! `scripts/bench.sh peers`: copies side by side with crane, regctl, oras, regsync and skopeo, as far as they are installed
//! (`scripts/peers.sh target/peers bench`): 2 GB in 40 layers, and 200 small images, between registries on loopback and layouts.
//! haversack waits until a layout is on the disk, the others do not: in one row all do, by `sync -f`.
//!
//! The order is another one each time; wall and processor time are medians of three rounds. Needs docker-registry, or the registry
//! that `scripts/peers.sh` builds. `HAVERSACK_BENCH_LAYER_MB` (50) makes the layers smaller for a quick look. It always ends with 0.

#![allow(clippy::print_stdout, clippy::disallowed_methods, missing_docs, reason = "a program for the terminal")]

mod program;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use haversack::digest::{Algorithm, Digest};
use haversack::image::Layout;
use haversack::image::store::layout;
use oci_spec::image::MediaType;
use program::HAVERSACK;

const LAYERS: u64 = 40;
const IMAGES: u64 = 200;
const ROUNDS: u64 = 3;

fn main() {
    let megabytes = std::env::var("HAVERSACK_BENCH_LAYER_MB").ok().and_then(|text| text.parse().ok()).unwrap_or(50);
    let dir = tempfile::tempdir_in(concat!(env!("CARGO_MANIFEST_DIR"), "/target")).unwrap();
    let bench = Bench { home: dir.path().to_owned(), seed: std::cell::Cell::new(std::process::id().into()) };
    let big = Layout::create(&dir.path().join("big")).unwrap();
    image(&big, "t0", LAYERS, megabytes * 1_000_000, 0);
    let small = Layout::create(&dir.path().join("small")).unwrap();
    for number in 0..IMAGES {
        image(&small, &format!("t{number}"), 3, 20_000, 1000 * (number + 1));
    }
    let from = Registry::start(dir.path());
    bench.run(&bench.trust(&from));
    bench.run(&haversack(&["copy", "oci:big:t0", &format!("docker://{}/big:t0", from.address)]));
    for number in 0..IMAGES {
        let (source, to) = (format!("oci:small:t{number}"), format!("docker://{}/small:t{number}", from.address));
        bench.run(&haversack(&["copy", &source, &to]));
    }

    let mut rows: BTreeMap<(usize, &str), BTreeMap<&str, Vec<Run>>> = BTreeMap::new();
    let mut note = |row, tool, run| rows.entry(row).or_default().entry(tool).or_default().push(run);
    for _ in 0..ROUNDS {
        for tool in bench.shuffled(&["haversack", "crane", "regctl", "oras", "skopeo"]) {
            let to = Registry::start(dir.path());
            bench.run(&bench.trust(&to));
            let copy = bench.copy(tool, &from.at("big:t0"), &to.at("big:t0"));
            note((0, "registry → registry"), tool, bench.run(&copy));
            note((1, "the same again"), tool, bench.run(&copy));
        }
        for tool in bench.shuffled(&["haversack", "crane", "regctl", "oras", "skopeo"]) {
            let _ = std::fs::remove_dir_all(dir.path().join("pulled"));
            let pull = bench.pull(tool, &from.at("big:t0"));
            note((2, "registry → layout"), tool, bench.run(&pull));
            note((3, "the same again"), tool, bench.run(&pull));
        }
        for tool in bench.shuffled(&["haversack", "crane", "regctl", "oras", "skopeo"]) {
            let _ = std::fs::remove_dir_all(dir.path().join("pulled"));
            // What was written before is not waited for here.
            rustix::fs::sync();
            let pull = bench.pull(tool, &from.at("big:t0")).join(" ");
            let kept = ["sh", "-c", &format!("{pull} && sync -f pulled")].map(str::to_owned);
            note((4, "registry → layout, on the disk"), tool, bench.run(&kept));
        }
        for tool in bench.shuffled(&["haversack", "crane", "regctl", "oras", "skopeo"]) {
            let to = Registry::start(dir.path());
            bench.run(&bench.trust(&to));
            note((5, "layout → registry"), tool, bench.run(&bench.push(tool, &to.at("big:t0"))));
        }
        for tool in bench.shuffled(&["haversack", "crane", "regsync", "skopeo"]) {
            let to = Registry::start(dir.path());
            bench.run(&bench.trust(&to));
            let mirror = bench.mirror(tool, &from.address, &to.address);
            note((6, "200 small images"), tool, bench.run(&mirror));
            note((7, "the same again"), tool, bench.run(&mirror));
        }
    }
    println!("{LAYERS} layers of {megabytes} MB; wall s / processor s / most memory in MB\n");
    for ((_, row), tools) in rows {
        let median = |runs: &[Run], of: fn(&Run) -> f64| {
            let mut all: Vec<f64> = runs.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        let mut cells: Vec<(f64, String)> = tools
            .iter()
            .filter(|(_, runs)| runs.iter().all(|run| run.succeeded))
            .map(|(tool, runs)| {
                let [wall, processor, memory] =
                    [|run: &Run| run.wall, |run: &Run| run.processor, |run: &Run| run.memory]
                        .map(|of: fn(&Run) -> f64| median(runs, of));
                (wall, format!("{tool} {wall:.2} / {processor:.2} / {memory:.0}"))
            })
            .collect();
        cells.sort_by(|a, b| a.0.total_cmp(&b.0));
        let cells: Vec<String> = cells.into_iter().map(|(_, cell)| cell).collect();
        println!("| {row} | {} |", cells.join(" | "));
    }
}

struct Bench {
    home: PathBuf,
    seed: std::cell::Cell<u64>,
}

/// How long a program took on the wall and on processors, in seconds, and the most memory it had, in MB.
struct Run {
    wall: f64,
    processor: f64,
    memory: f64,
    succeeded: bool,
}

fn haversack(args: &[&str]) -> Vec<String> {
    let insecure = ["--src-tls-verify=false", "--dest-tls-verify=false", "--quiet"];
    [HAVERSACK].iter().chain(args).chain(&insecure).map(|it| (*it).to_owned()).collect()
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

impl Bench {
    fn trust(&self, registry: &Registry) -> Vec<String> {
        words(&format!("regctl registry set --tls=disabled {}", registry.address))
    }

    fn copy(&self, tool: &str, from: &str, to: &str) -> Vec<String> {
        match tool {
            "haversack" => haversack(&["copy", &format!("docker://{from}"), &format!("docker://{to}")]),
            "crane" => words(&format!("crane copy --insecure {from} {to}")),
            "regctl" => words(&format!("regctl image copy {from} {to}")),
            "oras" => words(&format!("oras cp --no-tty --from-plain-http --to-plain-http {from} {to}")),
            _ => words(&format!("{SKOPEO} docker://{from} docker://{to}")),
        }
    }

    fn pull(&self, tool: &str, from: &str) -> Vec<String> {
        match tool {
            "haversack" => haversack(&["copy", &format!("docker://{from}"), "oci:pulled:t0"]),
            "crane" => words(&format!("crane pull --insecure --format=oci {from} pulled")),
            "regctl" => words(&format!("regctl image copy {from} ocidir://pulled:t0")),
            "oras" => words(&format!("oras cp --no-tty --from-plain-http --to-oci-layout {from} pulled:t0")),
            _ => words(&format!("{SKOPEO} docker://{from} oci:pulled:t0")),
        }
    }

    fn push(&self, tool: &str, to: &str) -> Vec<String> {
        match tool {
            "haversack" => haversack(&["copy", "oci:big:t0", &format!("docker://{to}")]),
            "crane" => words(&format!("crane push --insecure big {to}")),
            "regctl" => words(&format!("regctl image copy ocidir://big:t0 {to}")),
            "oras" => words(&format!("oras cp --no-tty --from-oci-layout --to-plain-http big:t0 {to}")),
            _ => words(&format!("{SKOPEO} oci:big:t0 docker://{to}")),
        }
    }

    fn mirror(&self, tool: &str, from: &str, to: &str) -> Vec<String> {
        let file = |name: &str, text: String| std::fs::write(self.home.join(name), text).unwrap();
        match tool {
            "haversack" => {
                let list = format!(
                    "to = 'docker://{to}'\n[[images]]\nregistry = '{from}'\nrepositories = ['small']\ntags = ['*']\n"
                );
                file("list.toml", list);
                haversack(&["sync", "list.toml"])
            }
            "crane" => words(&format!("crane copy --insecure -a -j 8 {from}/small {to}/small")),
            "regsync" => {
                let registry = |host: &str| format!("  - {{registry: '{host}', tls: disabled}}\n");
                let list = format!(
                    "version: 1\ncreds:\n{}{}defaults: {{parallel: 4}}\nsync:\n  - {{source: '{from}/small', target: \
                     '{to}/small', type: repository}}\n",
                    registry(from),
                    registry(to)
                );
                file("regsync.yml", list);
                words("regsync once -c regsync.yml")
            }
            _ => {
                let sync = SKOPEO.replace(" copy", " sync").replace(" --preserve-digests", "");
                words(&format!("{sync} --src docker --dest docker {from}/small {to}"))
            }
        }
    }

    fn run(&self, command: &[String]) -> Run {
        let (cpu, started) = (of_children(), Instant::now());
        let mut run = Run { wall: 0.0, processor: 0.0, memory: 0.0, succeeded: false };
        let mut child = Command::new(&command[0]);
        let child = child.args(&command[1..]).current_dir(&self.home).env("HOME", &self.home);
        let Ok(mut child) = child.env_remove("XDG_CACHE_HOME").stdout(Stdio::null()).stderr(Stdio::null()).spawn()
        else {
            return run;
        };
        let status = loop {
            run.memory = run.memory.max(high_water(child.id()));
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        Run {
            wall: started.elapsed().as_secs_f64(),
            processor: of_children() - cpu,
            succeeded: status.success(),
            ..run
        }
    }

    fn shuffled<'a>(&self, tools: &[&'a str]) -> Vec<&'a str> {
        let mut tools = tools.to_vec();
        for at in (1..tools.len()).rev() {
            self.seed.set(splitmix(self.seed.get()));
            tools.swap(at, usize::try_from(self.seed.get() % (at as u64 + 1)).unwrap());
        }
        tools
    }
}

const SKOPEO: &str = "skopeo copy --insecure-policy --src-tls-verify=false --dest-tls-verify=false --preserve-digests";

/// Seconds that ended children were on a processor, to a hundredth.
fn of_children() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    (ticks(13) + ticks(14)) / 100.0
}

fn high_water(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0) * 1024.0 / 1e6
}

fn splitmix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// An image whose layers begin as gzip does (skopeo compresses what does not) and are noise.
fn image(layout: &Layout, name: &str, layers: u64, size: u64, seed: u64) {
    let mut listed = Vec::new();
    for number in 0..layers {
        let mut blob = layout.blob_writer(Algorithm::Sha256).unwrap();
        blob.write_all(&[0x1f, 0x8b, 8, 0]).unwrap();
        let (mut state, mut left) = ((seed + number) << 32, size - 4);
        while left > 0 {
            let mut noise = [0; 8192];
            for word in noise.chunks_exact_mut(8) {
                state += 1;
                word.copy_from_slice(&splitmix(state).to_le_bytes());
            }
            let n = left.min(noise.len() as u64);
            blob.write_all(&noise[..usize::try_from(n).unwrap()]).unwrap();
            left -= n;
        }
        let (digest, size) = blob.finish().unwrap();
        listed.push(layout::descriptor(MediaType::ImageLayerGzip, &digest, size));
    }
    let diff_ids: Vec<String> = (0..layers).map(|n| Digest::sha256((seed + n).to_string()).to_string()).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = layout.write_blob(MediaType::ImageConfig, &layout::canonical(&config)).unwrap();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": MediaType::ImageManifest, "config": config, "layers": listed,
    });
    let manifest = layout.write_blob(MediaType::ImageManifest, &layout::canonical(&manifest)).unwrap();
    layout.tag(&manifest, Some(name)).unwrap();
}

/// A registry on a free port of the loopback: the newest, where that is installed, or Debian's.
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
        let start = |program: &str| {
            let mut serve = Command::new(program);
            serve.args(["serve", "config.yml"]).current_dir(dir.path()).env("OTEL_TRACES_EXPORTER", "none");
            serve.stdout(Stdio::null()).stderr(Stdio::null()).spawn()
        };
        let child = start("registry").or_else(|_| start("docker-registry")).expect("a registry is installed");
        while TcpStream::connect(&address).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        Registry { child, address, _dir: dir }
    }

    fn at(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
