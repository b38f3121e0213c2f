//! `scripts/bench.sh catalog`: the catalog at today's size, side by side with oct's way and with `cp -a`, in one run.
//!
//! Makes 40,000 bundles and 60,000 images from real rows (or, without `HAVERSACK_REAL_DATA`, from made-up ones), serves
//! them on loopback with a latency for each page, and prints a table of ratios. `HAVERSACK_BENCH_LATENCY` is the latency
//! in milliseconds, 300 by default. Timings never decide anything here: it always ends with 0.

#![allow(clippy::print_stdout, clippy::disallowed_methods, missing_docs, reason = "a program for the terminal")]

mod program;

#[path = "../tests/stand_in/mod.rs"]
mod stand_in;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use program::HAVERSACK;
use serde_json::{Value, json};
use stand_in::{StandIn, State};

const BUNDLES: usize = 40_000;
const IMAGES: usize = 60_000;
const PARALLEL: f64 = 4.0;

fn main() {
    let latency = std::env::var("HAVERSACK_BENCH_LATENCY").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
    let latency = Duration::from_millis(latency);
    let dir = tempfile::tempdir().unwrap();
    let state = State {
        bundles: bundles(),
        images: images(),
        index: stand_in::index(&["1.0.0"]),
        unpublished: Some("entries: {}\ngenerated: x\n".into()),
        latency,
        ..State::default()
    };
    let server = StandIn::start(state);
    println!("{BUNDLES} bundles, {IMAGES} images, {} ms a page\n", latency.as_millis());
    println!("| what | measured | target |\n| --- | --- | --- |");

    let full = take(&server, dir.path(), &["--full"]);
    let ideal = full.requests as f64 / PARALLEL * latency.as_secs_f64();
    let rows_only = (BUNDLES + IMAGES).div_ceil(500) as f64 / PARALLEL * latency.as_secs_f64();
    row(
        "full snapshot ÷ (pages ÷ 4 × latency)",
        &format!(
            "{:.2} ({:.1} s, {} pages of all kinds; {:.2} counting only the 200 pages that hold the rows)",
            full.seconds / ideal,
            full.seconds,
            full.requests,
            full.seconds / rows_only
        ),
        "≤ 1.3",
    );
    change_one_percent(&server);
    let refresh = take(&server, dir.path(), &[]);
    row(
        "full snapshot ÷ refresh with 1 % changed",
        &format!("{:.1} ({:.1} s, {} pages)", full.seconds / refresh.seconds, refresh.seconds, refresh.requests),
        "≥ 10",
    );
    remove_some(&server);
    let removed = take(&server, dir.path(), &[]);
    row(
        "full snapshot ÷ refresh with 40 rows of each kind gone",
        &format!("{:.1} ({:.1} s, {} pages)", full.seconds / removed.seconds, removed.seconds, removed.requests),
        "",
    );
    let peak = full.peak_kib.max(refresh.peak_kib);
    row("most resident memory of both", &format!("{:.0} MB", peak as f64 * 1024.0 / 1e6), "≤ 100 MB");

    let tree = dir.path().join("tree");
    let written = median(5, || drop(run(dir.path(), &["catalog", "dump", tree.to_str().unwrap(), "--no-db"])));
    let dumped = dir.path().join("dumped");
    std::fs::create_dir(&dumped).unwrap();
    let data = tree.join("data");
    let dump = median(5, || {
        let place = ["--dump-dir", dumped.to_str().unwrap(), "--tree", data.to_str().unwrap()];
        drop(run(dir.path(), &[&["dump", "--no-db"][..], &place].concat()));
    });
    let copy = median(5, || {
        let to = dir.path().join("copy");
        let _ = std::fs::remove_dir_all(&to);
        assert!(Command::new("cp").arg("-a").args([&tree, &to]).status().unwrap().success());
        assert!(Command::new("sync").arg("-f").arg(&to).status().unwrap().success());
    });
    let bare_copy = median(5, || {
        let to = dir.path().join("copy");
        let _ = std::fs::remove_dir_all(&to);
        assert!(Command::new("cp").arg("-a").args([&tree, &to]).status().unwrap().success());
    });
    row(
        "dump in the image ÷ `cp -a` of the tree, both synced to the disk",
        &format!("{:.2} ({:.3} s; {:.2} against a `cp -a` that is not synced)", dump / copy, dump, dump / bare_copy),
        "≤ 2",
    );
    row(
        "`catalog dump`, which writes the tree from the snapshot ÷ `cp -a`, both synced",
        &format!("{:.1} ({:.2} s)", written / copy, written),
        "",
    );
    let (db, bytes) = (std::fs::metadata(dir.path().join("catalog.db")).unwrap().len(), size(&tree));
    row(
        "catalog.db ÷ bytes of the tree",
        &format!("{:.2} ({:.1} of {:.1} MB)", db as f64 / bytes as f64, db as f64 / 1e6, bytes as f64 / 1e6),
        "≤ 0.33",
    );

    let one = median(21, || drop(run(dir.path(), &["catalog", "check", "operator", "no-such.v1"])));
    row("one check, start of the process included", &format!("{:.1} ms", one * 1000.0), "< 10 ms");
    questions(&server, &dir.path().join("questions"));
    let batch = median(3, || {
        drop(run(dir.path(), &["catalog", "check", "--batch", dir.path().join("questions").to_str().unwrap()]));
    });
    row("10,000 checks in a batch", &format!("{batch:.2} s"), "< 1 s");

    // Last, since it takes by far the longest.
    let oct = octs_way(&server);
    row(
        "oct's way (one after another, pages of 100) ÷ full snapshot",
        &format!("{:.1} ({oct:.0} s)", oct / full.seconds),
        "",
    );
}

fn row(what: &str, measured: &str, target: &str) {
    println!("| {what} | {measured} | {target} |");
}

/// A snapshot run: how long, how many API pages, how much memory at most.
struct Taken {
    seconds: f64,
    requests: usize,
    peak_kib: u64,
}

fn take(server: &StandIn, dir: &Path, more: &[&str]) -> Taken {
    server.take_log();
    let started = Instant::now();
    let mut child = Command::new(HAVERSACK)
        .args(["catalog", "snapshot", "--api", &server.api(), "--charts", &server.charts(), "--progress", "none", "-v"])
        .args(["--db".as_ref(), dir.join("catalog.db").as_os_str()])
        .args(more)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut peak_kib = 0;
    let status = loop {
        peak_kib = peak_kib.max(high_water(child.id()));
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let seconds = started.elapsed().as_secs_f64();
    assert!(status.success());
    let requests = server.take_log().iter().filter(|request| request.path.starts_with("/api/")).count();
    Taken { seconds, requests, peak_kib }
}

fn high_water(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Reads everything as oct does: page after page of 100, one request at a time, over one connection.
fn octs_way(server: &StandIn) -> f64 {
    let api = server.api();
    let host = api.strip_prefix("http://").unwrap().split('/').next().unwrap().to_owned();
    let started = Instant::now();
    let stream = TcpStream::connect(&host).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    for (list, filter, rows) in
        [("operators/bundles", "organization==certified-operators", BUNDLES), ("images", "certified==true", IMAGES)]
    {
        for page in 0..rows / 100 {
            let target = format!("/api/containers/v1/{list}?filter={filter}&page_size=100&page={page}");
            write!(stream, "GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
            let mut length = 0;
            loop {
                let mut header = String::new();
                reader.read_line(&mut header).unwrap();
                if header.trim().is_empty() {
                    break;
                }
                if let Some(value) = header.strip_prefix("Content-Length: ") {
                    length = value.trim().parse().unwrap();
                }
            }
            std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink()).unwrap();
        }
    }
    started.elapsed().as_secs_f64()
}

/// 40 rows of each kind gone, as on an ordinary day, all over the catalog.
fn remove_some(server: &StandIn) {
    let mut state = server.state();
    let State { bundles, images, .. } = &mut *state;
    for rows in [bundles, images] {
        let every = rows.len() / 41;
        for number in (1..=40).rev() {
            rows.remove(number * every);
        }
    }
}

/// 0.9 % changed in place and 0.09 % new.
fn change_one_percent(server: &StandIn) {
    let mut state = server.state();
    let State { bundles, images, .. } = &mut *state;
    for rows in [bundles, images] {
        let count = rows.len();
        for (second, row) in rows.iter_mut().step_by(111).enumerate() {
            row["last_update_date"] = json!(format!(
                "2026-06-01T{:02}:{:02}:{:02}.000000+00:00",
                second / 3600,
                second / 60 % 60,
                second % 60
            ));
        }
        for number in 0..count / 1100 {
            let mut fresh = rows[number * 7].clone();
            fresh["_id"] = json!(format!("ff{number:022x}"));
            let now = format!("2026-06-02T00:{:02}:{:02}.000000+00:00", number / 60, number % 60);
            fresh["creation_date"] = json!(now);
            fresh["last_update_date"] = json!(now);
            rows.push(fresh);
        }
    }
}

fn run(dir: &Path, args: &[&str]) -> Vec<u8> {
    // No `current_dir`: with it the process is forked, which copies this one's page tables first.
    let mut command = Command::new(HAVERSACK);
    let output = command.args(args).arg("--db").arg(dir.join("catalog.db")).output().unwrap();
    assert!(output.status.code().is_some_and(|code| code < 2), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn median(times: usize, mut work: impl FnMut()) -> f64 {
    let mut seconds: Vec<f64> = (0..times)
        .map(|_| {
            let started = Instant::now();
            work();
            started.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[times / 2]
}

fn size(tree: &Path) -> u64 {
    let files = walkdir::WalkDir::new(tree).into_iter().map(Result::unwrap);
    files.filter(|entry| entry.file_type().is_file()).map(|entry| entry.metadata().unwrap().len()).sum()
}

fn questions(server: &StandIn, path: &Path) {
    let state = server.state();
    let mut text = String::new();
    for number in 0..5000 {
        let bundle = &state.bundles[number * 7];
        let question =
            json!({"kind": "operator", "args": {"csv_name": bundle["csv_name"], "ocp_version": bundle["ocp_version"]}});
        text.push_str(&format!("{question}\n"));
        let digest = &state.images[number * 11]["image_id"];
        text.push_str(&format!("{}\n", json!({"kind": "container", "args": {"digest": digest}})));
    }
    std::fs::write(path, text).unwrap();
}

fn real(file: &str) -> Option<PathBuf> {
    let path = Path::new(&std::env::var_os("HAVERSACK_REAL_DATA")?).join("catalog").join(file);
    path.is_file().then_some(path)
}

/// The 3,900 real bundles, again and again with other ids, dates and OpenShift versions.
fn bundles() -> Vec<Value> {
    let Some(archive) = real("operators-full-rows-2022-11-16.tar.gz") else { return stand_in::bundles(BUNDLES) };
    let mut rows: HashMap<String, Value> = HashMap::new();
    let file = std::fs::File::open(archive).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    for entry in archive.entries().unwrap() {
        let mut text = String::new();
        let mut entry = entry.unwrap();
        if !entry.path().unwrap().display().to_string().contains("operator_catalog_page") {
            continue;
        }
        entry.read_to_string(&mut text).unwrap();
        let page: Value = serde_json::from_str(&text).unwrap();
        for row in page["data"].as_array().unwrap() {
            rows.insert(row["_id"].as_str().unwrap().to_owned(), row.clone());
        }
    }
    let mut real: Vec<Value> = rows.into_values().collect();
    real.sort_by_key(|row| row["_id"].as_str().unwrap().to_owned());
    let fields = [
        "_id",
        "channel_name",
        "creation_date",
        "csv_name",
        "last_update_date",
        "ocp_version",
        "organization",
        "package",
    ];
    grown(&real, BUNDLES, |row, round| {
        let mut kept: Value = fields.iter().map(|field| ((*field).to_owned(), row[*field].clone())).collect();
        if round > 0 {
            kept["ocp_version"] = json!(format!("4.{}", 12 + round));
            kept["csv_name"] = json!(format!("{}-{round}", row["csv_name"].as_str().unwrap()));
        }
        kept
    })
}

/// The real images, again and again with other ids, dates and digests; half of them stand in a manifest list.
fn images() -> Vec<Value> {
    let Some(file) = real("containers/containers-union-2022-07.db.gz") else { return stand_in::images(IMAGES) };
    let mut text = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(file).unwrap()).read_to_string(&mut text).unwrap();
    let entries: serde_json::Map<String, Value> = serde_json::from_str(&text).unwrap();
    let mut real: Vec<Value> = entries
        .into_iter()
        .map(|(digest, mut row)| {
            // The first eight digits of an ObjectId are the second in which it was made.
            let seconds = i64::from_str_radix(&row["_id"].as_str().unwrap()[..8], 16).unwrap();
            let date =
                jiff::Timestamp::from_second(seconds).unwrap().strftime("%Y-%m-%dT%H:%M:%S.%6f+00:00").to_string();
            row["creation_date"] = json!(date);
            row["image_id"] = json!(digest);
            row["certified"] = json!(true);
            row["isv_pid"] = json!("1");
            row
        })
        .collect();
    real.sort_by_key(|row| row["_id"].as_str().unwrap().to_owned());
    grown(&real, IMAGES, |row, round| {
        let mut row = row.clone();
        let digest = row["image_id"].as_str().unwrap().to_owned();
        // Digests look like nothing in particular, so they must not become compressible by being made up.
        let other = |salt: &str| haversack::digest::Digest::sha256(format!("{digest}{round}{salt}")).to_string();
        if round > 0 {
            row["image_id"] = json!(other("image"));
        }
        row["docker_image_digest"] = Value::Null;
        if row["_id"].as_str().unwrap().ends_with(['0', '2', '4', '6', '8', 'a', 'c', 'e']) {
            row["repositories"][0]["manifest_list_digest"] = json!(other("list"));
        }
        row
    })
}

/// `count` rows from the real ones: round after round, each some weeks later and under other ids.
fn grown(real: &[Value], count: usize, change: impl Fn(&Value, usize) -> Value) -> Vec<Value> {
    let mut rows: Vec<Value> = (0..count)
        .map(|number| {
            let (round, index) = (number / real.len(), number % real.len());
            let mut row = change(&real[index], round);
            row["_id"] = json!(format!("{:02x}{}", round, &row["_id"].as_str().unwrap()[2..]));
            let created: jiff::Timestamp = row["creation_date"].as_str().unwrap().parse().unwrap();
            let later = created + jiff::SignedDuration::from_hours(24 * 40 * round as i64);
            let date = later.strftime("%Y-%m-%dT%H:%M:%S.%6f+00:00").to_string();
            row["creation_date"] = json!(date);
            row["last_update_date"] = json!(date);
            row
        })
        .collect();
    rows.sort_by(|one, other| one["creation_date"].as_str().cmp(&other["creation_date"].as_str()));
    rows
}
