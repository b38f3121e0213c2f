//! What somebody sees who watches: commands recorded by `script` on terminals of 60 and 120 columns, against services that are slow.
//!
//! With `HAVERSACK_PICTURES=DIR` the recordings become pictures there (`scripts/terminals.sh`).

mod picture;
mod slow;

use std::path::Path;
use std::process::Command;

use crate::docker_registry::DockerRegistry;
use crate::said;
use crate::stand_in::{self, StandIn, State};
use slow::Slow;

/// What a terminal showed, each time it was looked at.
pub(crate) struct Recording {
    pub(crate) line: String,
    pub(crate) columns: u16,
    /// Seconds since the start, and the lines.
    pub(crate) screens: Vec<(f64, Vec<String>)>,
}

/// Runs a command of ours on a terminal.
fn record(dir: &Path, columns: u16, line: &str) -> Recording {
    let program = assert_cmd::cargo::cargo_bin!("haversack");
    let run = line.replacen("haversack", program.to_str().unwrap(), 1);
    let output = Command::new("script")
        .args(["--quiet", "--return", "--flush", "--log-out", "said", "--log-timing", "times", "--command"])
        .arg(format!("stty rows {ROWS} cols {columns}; {run}"))
        .current_dir(dir)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", dir)
        .env("TERM", "xterm-256color")
        .env("HAVERSACK_SRC_TLS_VERIFY", "false")
        .output()
        .unwrap();
    let (said, times) = (std::fs::read(dir.join("said")).unwrap(), std::fs::read_to_string(dir.join("times")).unwrap());
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&said));
    // script's own first line stands before what was typed out.
    let mut rest = &said[said.iter().position(|byte| *byte == b'\n').unwrap() + 1..];
    let mut terminal = vt100::Parser::new(ROWS, columns, 0);
    let (mut now, mut screens) = (0.0, Vec::new());
    for entry in times.lines() {
        let (wait, bytes) = entry.split_once(' ').unwrap();
        now += wait.parse::<f64>().unwrap();
        let (piece, later) = rest.split_at(bytes.trim().parse::<usize>().unwrap().min(rest.len()));
        terminal.process(piece);
        rest = later;
        let screen = terminal.screen();
        let shown: Vec<String> = screen.rows(0, columns).map(|row| row.trim_end().to_owned()).collect();
        // Bars are the last lines: what has none below one is the rest of a line that was too long.
        let bars = shown.iter().skip_while(|row| !is_progress(row));
        let rest = bars.skip(1).find(|row| !row.is_empty() && !is_progress(row));
        assert_eq!(rest, None, "{line}, {columns} columns: {shown:#?}");
        screens.push((now, shown));
    }
    Recording { line: line.to_owned(), columns, screens }
}

/// Whether a line of the terminal is one of progress: it has a bar or a spinner.
fn is_progress(line: &str) -> bool {
    line.contains(['█', '░']) || line.contains(|c| ('\u{2800}'..='\u{28ff}').contains(&c))
}

/// The amounts of bytes in lines of progress.
fn bytes(screen: &[String]) -> Vec<String> {
    let words = screen.iter().filter(|line| is_progress(line)).flat_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        words
            .windows(2)
            .filter(|pair| pair[1].starts_with("KiB") || pair[1].starts_with("MiB") || pair[1].starts_with("B/"))
            .map(|pair| pair[0].to_owned())
            .collect::<Vec<_>>()
    });
    words.collect()
}

/// The longest time in seconds in which no amount changed from the first to the last, with the screen after it, and how often amounts
/// changed.
fn longest_standstill(recording: &Recording) -> (f64, Vec<String>, usize) {
    let mut seen = recording.screens.iter().filter(|(_, screen)| !bytes(screen).is_empty());
    let (mut changed, first) = seen.next().cloned().unwrap_or_default();
    let mut last = bytes(&first);
    let (mut longest, mut shown, mut changes) = (0.0, first, 0);
    for (at, screen) in seen {
        if at - changed > longest {
            (longest, shown) = (at - changed, screen.clone());
        }
        if bytes(screen) != last {
            (changed, last) = (*at, bytes(screen));
            changes += 1;
        }
    }
    shown.retain(|line| !line.is_empty());
    (longest, shown, changes)
}

/// A file of so many megabytes, of which half are noise.
fn file(path: &Path, megabytes: usize, mut seed: u64) {
    let mut bytes = Vec::with_capacity(megabytes << 20);
    while bytes.len() < megabytes << 20 {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        bytes.extend_from_slice(&seed.to_le_bytes());
        bytes.extend_from_slice(&[0x11; 8]);
    }
    std::fs::write(path, bytes).unwrap();
}

/// A definition `name` with a layer for each size in megabytes.
fn definition(dir: &Path, name: &str, base: &str, layers: &[usize]) {
    std::fs::create_dir(dir.join(name)).unwrap();
    let mut text = format!("name = \"{name}\"\n{base}\n");
    for (number, megabytes) in layers.iter().enumerate() {
        file(&dir.join(name).join(number.to_string()), *megabytes, number as u64 + 1);
        text += &format!("[[layers]]\nfiles = [{{ dest = \"/f{number}\", src = \"{number}\" }}]\n");
    }
    std::fs::write(dir.join(name).join("image.toml"), text).unwrap();
}

fn done(dir: &Path, args: &[&str]) {
    let (status, _, talk) = said(dir, args);
    assert_eq!(status, Some(0), "{args:?}: {talk}");
}

#[test]
#[ignore = "needs script and docker-registry; takes half a minute"]
fn bytes_move_each_second_and_no_line_is_wider_than_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let registry = DockerRegistry::start();
    let slow = Slow::start(&registry.address, 4 << 20);
    definition(dir, "base", "", &[12, 8, 6]);
    done(dir, &["build", "base", "--no-sbom", "--output", "oci:made:acme/db:1.0"]);
    done(dir, &["copy", "oci:made:acme/db:1.0", &registry.at("acme/db:1.0"), "--dest-tls-verify=false"]);
    definition(dir, "app", &format!("base = \"docker://{}/acme/db:1.0\"", slow.address), &[96, 64]);
    definition(dir, "large", "", &[300, 200]);
    done(dir, &["build", "large", "--no-sbom", "--output", "oci:headers:large"]);
    done(dir, &["pack", "oci:headers", "--out", "carry"]);
    let catalog = StandIn::start(State {
        bundles: stand_in::bundles(6000),
        images: stand_in::images(4000),
        index: stand_in::index(&["1.0.0"]),
        ..State::default()
    });
    let slow_catalog = Slow::start(catalog.api().split('/').nth(2).unwrap(), 800 << 10);
    let at = |url: String| url.replace(url.split('/').nth(2).unwrap(), &slow_catalog.address);
    let (api, charts) = (at(catalog.api()), at(catalog.charts()));
    let pictures = std::env::var_os("HAVERSACK_PICTURES").map(std::path::PathBuf::from);
    let mut wrong = Vec::new();
    for columns in [60, 120] {
        for (name, line) in [
            ("copy", format!("haversack copy docker://{}/acme/db:1.0 oci:store:acme/db:1.0", slow.address)),
            ("build", "haversack build app --output oci:out".to_owned()),
            ("unpack", "haversack unpack carry --to oci:mirror".to_owned()),
            ("snapshot", format!("haversack catalog snapshot --api {api} --charts {charts}")),
        ] {
            // A busy machine holds up one run or another: what stands still by itself does so in each of them.
            let mut held_up = Vec::new();
            let recording = loop {
                for made in ["store", "out", "mirror", "catalog.db", ".cache"] {
                    let path = dir.join(made);
                    let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
                }
                let recording = record(dir, columns, &line);
                let (longest, screen, changes) = longest_standstill(&recording);
                if longest <= 1.0 && changes >= 3 {
                    break recording;
                }
                held_up.push(format!(
                    "{name}, {columns} columns: {changes} changes, {longest:.2} s without one: {screen:#?}"
                ));
                if held_up.len() == 4 {
                    wrong.append(&mut held_up);
                    break recording;
                }
            };
            if let Some(pictures) = &pictures {
                let svg = picture::svg(&recording);
                assert!(svg.len() < 60_000, "{name}: {} bytes", svg.len());
                std::fs::write(pictures.join(format!("{name}-{columns}.svg")), svg).unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const ROWS: u16 = 16;
