//! The catalog from the API to the tree, through the program, against a stand-in on loopback.

mod stand_in;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use stand_in::{Fault, StandIn, State};

/// A directory with a snapshot, and the program run in it.
struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        Site { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_haversack"));
        command.args(args).current_dir(self.dir.path()).env_clear().env("HAVERSACK_RETRY_DELAY", "0.01");
        command
    }

    fn run(&self, args: &[&str]) -> Run {
        Run(self.command(args).output().unwrap())
    }

    fn snapshot(&self, catalog: &StandIn, more: &[&str]) -> Run {
        let (api, charts) = (catalog.api(), catalog.charts());
        let args = ["catalog", "snapshot", "--db", "catalog.db", "--api", &api, "--charts", &charts, "--json"];
        self.run(&[&args, more].concat())
    }

    /// Every row that the snapshot answers for, as the tree shows it.
    fn operators(&self) -> BTreeSet<String> {
        self.run(&["catalog", "dump", "tree", "--no-db"]).done();
        let mut rows = BTreeSet::new();
        for file in std::fs::read_dir(self.path("tree/data/operators")).unwrap() {
            let page: Value = serde_json::from_slice(&std::fs::read(file.unwrap().path()).unwrap()).unwrap();
            for row in page["data"].as_array().unwrap() {
                rows.insert(key(row));
            }
        }
        rows
    }

    fn containers(&self) -> Value {
        self.run(&["catalog", "dump", "tree", "--no-db"]).done();
        serde_json::from_slice(&std::fs::read(self.path("tree/data/containers/containers.db")).unwrap()).unwrap()
    }

    fn digest(&self) -> String {
        self.run(&["catalog", "info", "--db", "catalog.db", "--json"]).json()["digest"].as_str().unwrap().to_owned()
    }

    /// Everything in the directory, hidden files included.
    fn listing(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// What a run of the program left.
struct Run(Output);

impl Run {
    fn done(self) -> Self {
        assert_eq!(self.0.status.code(), Some(0), "{}", self.stderr());
        self
    }

    fn failed(self, status: i32, words: &[&str]) -> Self {
        let stderr = self.stderr();
        assert_eq!(self.0.status.code(), Some(status), "{stderr}");
        for word in words {
            assert!(stderr.contains(word), "`{word}` is not in: {stderr}");
        }
        assert!(stderr.contains("hint: "), "there is no hint in: {stderr}");
        self
    }

    fn stdout(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).unwrap()
    }

    fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    fn json(&self) -> Value {
        assert_eq!(self.0.status.code(), Some(0), "{}", self.stderr());
        serde_json::from_slice(&self.0.stdout).unwrap()
    }
}

fn catalog(bundles: usize, images: usize) -> State {
    State {
        bundles: stand_in::bundles(bundles),
        images: stand_in::images(images),
        index: stand_in::index(&["1.0.0", "1.1.0"]),
        unpublished: Some("apiVersion: v1\nentries: {}\n".into()),
        ..State::default()
    }
}

fn key(row: &Value) -> String {
    ["csv_name", "ocp_version", "channel_name"].map(|field| row[field].as_str().unwrap()).join(" ")
}

fn keys(rows: &[Value]) -> BTreeSet<String> {
    rows.iter().map(key).collect()
}

fn real_data() -> PathBuf {
    std::env::var_os("HAVERSACK_REAL_DATA").expect("HAVERSACK_REAL_DATA names the real data").into()
}

fn unpacked(archive: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let file = std::fs::File::open(real_data().join("catalog").join(archive)).unwrap();
    tar::Archive::new(flate2::read::GzDecoder::new(file)).unpack(dir.path()).unwrap();
    dir
}

#[test]
fn no_row_is_lost_whatever_the_page_size_of_either_side() {
    for (asked, cap) in [("500", 500), ("500", 100), ("7", 500), ("99", 98), ("2", 500)] {
        let server = StandIn::start(State { page_cap: cap, ..catalog(if asked == "2" { 25 } else { 1003 }, 20) });
        let site = Site::new();
        site.snapshot(&server, &["--page-size", asked]).done();
        assert_eq!(site.operators(), keys(&server.state().bundles), "asked for {asked}, capped at {cap}");
        assert_eq!(site.containers().as_object().unwrap().len(), 30);
    }
}

#[test]
fn rows_that_share_one_instant_fill_pages_and_none_is_lost() {
    let server = StandIn::start(catalog(300, 5));
    for row in server.state().bundles.iter_mut().skip(20).take(200) {
        row["creation_date"] = json!(stand_in::date(20));
    }
    let site = Site::new();
    site.snapshot(&server, &["--page-size", "50"]).done();
    assert_eq!(site.operators(), keys(&server.state().bundles));
}

#[test]
fn requests_run_side_by_side_and_never_more_than_allowed() {
    let server = StandIn::start(State { latency: Duration::from_millis(20), ..catalog(3000, 3000) });
    let site = Site::new();
    site.snapshot(&server, &["--page-size", "100", "--parallel", "3", "--kind", "operators", "--kind", "containers"])
        .done();
    assert_eq!(server.state().most_in_flight, 3);
}

#[test]
fn rows_that_come_and_go_during_the_walk_leave_the_rows_of_its_end() {
    let mut state = catalog(2000, 10);
    state.hook = Some(Box::new(|state, number, request| {
        if request.is_images() {
            return None;
        }
        // Old rows vanish behind and before the walk, one changes, and new ones arrive.
        if number % 3 == 2 && number < 60 {
            state.bundles.remove(number);
            state.bundles.remove(state.bundles.len() / 2);
            let last = state.bundles.len() - 1;
            state.bundles[last]["channel_name"] = json!("fast");
            state.bundles[last]["last_update_date"] = json!("2099-01-01T00:00:00.000000+00:00");
        }
        None
    }));
    let server = StandIn::start(state);
    let site = Site::new();
    site.snapshot(&server, &["--page-size", "100"]).done();
    assert_eq!(site.operators(), keys(&server.state().bundles));
}

#[test]
fn a_catalog_that_never_comes_to_rest_is_given_up() {
    let mut state = catalog(300, 10);
    state.hook = Some(Box::new(|state, _, request| {
        // A row less for every sweep.
        if request.is_sweep() && !request.is_images() && request.get("page_size") != "1" {
            state.bundles.pop();
        }
        None
    }));
    let server = StandIn::start(state);
    Site::new().snapshot(&server, &[]).failed(1, &["operators keep changing", "5 sweeps"]);
}

#[test]
fn a_refresh_reads_what_changed_and_sweeps_out_what_is_gone() {
    let server = StandIn::start(catalog(1500, 1500));
    let site = Site::new();
    site.snapshot(&server, &[]).done();
    server.take_log();
    {
        let mut state = server.state();
        state.bundles.remove(700);
        state.bundles[3]["channel_name"] = json!("fast");
        state.bundles[3]["last_update_date"] = json!("2026-01-01T00:00:00.000000+00:00");
        let mut fresh = stand_in::bundle(5000);
        fresh["csv_name"] = json!("fresh.v1");
        state.bundles.push(fresh);
        // De-certified, deleted, and with a tag removed: only the delta without `certified==true` shows the first.
        for number in [10, 11, 12] {
            state.images[number]["last_update_date"] = json!("2026-01-01T00:00:00.000000+00:00");
        }
        state.images[10]["certified"] = json!(false);
        state.images[11]["deleted"] = json!(true);
        state.images[12]["repositories"][0]["tags"][0]["removed_date"] = json!("2026-01-01T00:00:00.000000+00:00");
    }
    let report = site.snapshot(&server, &[]).json();
    // Two that changed, and eleven of the last ten minutes, which are read again for clocks that differ.
    assert_eq!(report["kinds"]["operator"], json!({"how": "refresh", "read": 13, "removed": 1, "notes": []}));
    assert_eq!(report["kinds"]["container"]["how"], "refresh");
    assert_eq!(report["kinds"]["chart"], json!({"how": "unchanged", "read": 0, "removed": 0, "notes": []}));
    assert_eq!(site.operators(), keys(&server.state().bundles));
    let containers = site.containers();
    let digest = |number: usize| format!("sha256:{number:064x}");
    assert_eq!((containers.get(digest(10)), containers.get(digest(11))), (None, None));
    assert_eq!(containers[digest(12)]["repositories"], json!([]));
}

#[test]
fn an_equal_total_never_means_that_nothing_changed() {
    let server = StandIn::start(catalog(800, 10));
    let site = Site::new();
    site.snapshot(&server, &[]).done();
    // Neither the total nor any date tells: a row went, and another one is there that is as old.
    server.state().bundles[400]["_id"] = json!("ffffffffffffffffffffffff");
    server.state().bundles[400]["csv_name"] = json!("other.v1");
    let report = site.snapshot(&server, &[]).json();
    assert_eq!(report["kinds"]["operator"]["how"], "full");
    assert_eq!(site.operators(), keys(&server.state().bundles));
}

#[test]
fn a_large_kind_is_counted_and_compared_by_id_only_where_counts_differ() {
    let server = StandIn::start(catalog(3000, 10));
    let site = Site::new();
    site.snapshot(&server, &["--page-size", "50"]).done();
    server.take_log();
    for number in [2900, 1500, 12] {
        server.state().bundles.remove(number);
    }
    let report = site.snapshot(&server, &["--page-size", "50"]).json();
    assert_eq!(report["kinds"]["operator"]["removed"], 3);
    assert_eq!(site.operators(), keys(&server.state().bundles));
    let sweeps = server.take_log().iter().filter(|request| request.is_sweep() && !request.is_images()).count();
    assert!(sweeps < 50, "{sweeps} requests to find 3 of 3000 rows; by _id alone it takes 67");
}

#[test]
fn faults_that_pass_are_waited_out() {
    for fault in [
        Fault::Status(500, "oops"),
        Fault::Status(503, "busy"),
        Fault::RetryAfter(429, 0),
        Fault::Html,
        Fault::Cut,
        Fault::Truncated,
        Fault::ErrorDocument,
    ] {
        let mut state = catalog(900, 30);
        let injected = fault.clone();
        state.hook = Some(Box::new(move |_, number, _| (number % 4 == 1).then(|| injected.clone())));
        let server = StandIn::start(state);
        let site = Site::new();
        site.snapshot(&server, &["--page-size", "100"]).done();
        assert_eq!(site.operators(), keys(&server.state().bundles), "{fault:?}");
    }
}

#[test]
fn faults_that_stay_are_named_and_leave_the_old_snapshot() {
    let hang = Fault::Hang(Duration::from_secs(3));
    for (fault, words) in [
        (Fault::Status(500, "oops"), &["500 Internal Server Error: oops", "try again later"][..]),
        (Fault::RetryAfter(429, 0), &["429 Too Many Requests: slow down", "--parallel"]),
        (Fault::Status(403, "<h1>Forbidden</h1>"), &["403 Forbidden: Forbidden"]),
        (Fault::Html, &["no complete JSON document, it begins `<html>"]),
        (Fault::Truncated, &["no complete JSON document, it begins `{\"data\":["]),
        (Fault::Cut, &["the answer broke off"]),
        (Fault::ErrorDocument, &["the answer has no list `data`"]),
        (hang, &["no answer in time"]),
    ] {
        let server = StandIn::start(catalog(300, 30));
        let site = Site::new();
        site.snapshot(&server, &[]).done();
        let before = std::fs::read(site.path("catalog.db")).unwrap();
        let injected = fault.clone();
        server.state().hook = Some(Box::new(move |_, _, _| Some(injected.clone())));
        let run = site.snapshot(&server, &["--full", "--retries", "1", "--timeout", "0.5"]);
        assert_eq!(run.0.status.code(), Some(1), "{fault:?}: {}", run.stderr());
        for word in words {
            assert!(run.stderr().contains(word), "{fault:?}: {}", run.stderr());
        }
        assert!(std::fs::read(site.path("catalog.db")).unwrap() == before, "{fault:?}");
    }
}

#[test]
fn an_overloaded_server_gets_fewer_requests_at_once_and_no_retry_before_its_time() {
    let started = std::time::Instant::now();
    let mut state = catalog(500, 10);
    state.hook = Some(Box::new(|_, number, _| (number == 2).then_some(Fault::RetryAfter(429, 1))));
    let server = StandIn::start(state);
    Site::new().snapshot(&server, &["-v"]).done();
    assert!(started.elapsed() >= Duration::from_secs(1), "Retry-After was not honoured");
}

#[test]
fn a_server_with_wrong_paging_is_refused_and_the_pages_are_named() {
    let server = StandIn::start(State { squared_paging: true, ..catalog(2000, 10) });
    let site = Site::new();
    site.snapshot(&server, &[])
        .failed(1, &["page 1 repeats 499 rows of page 0", "paging is wrong", "old snapshot is as it was"]);
    assert!(!site.path("catalog.db").exists());
}

#[test]
fn a_server_that_does_not_filter_is_refused() {
    let server = StandIn::start(State { ignores_filters: true, ..catalog(1200, 10) });
    Site::new().snapshot(&server, &[]).failed(1, &["does not apply the filter", "_id "]);
}

#[test]
fn an_empty_catalog_is_refused_and_taken_when_the_user_says_so() {
    let server = StandIn::start(catalog(0, 10));
    let site = Site::new();
    site.snapshot(&server, &[]).failed(1, &["the catalog has no operators", "--accept-shrink"]);
    assert!(!site.path("catalog.db").exists());
    let report = site.snapshot(&server, &["--accept-shrink"]).json();
    assert_eq!(report["info"]["kinds"]["operator"]["rows"], 0);
}

#[test]
fn a_shrink_of_more_than_a_fifth_is_refused_loudly_and_needs_the_users_word() {
    let server = StandIn::start(catalog(1000, 10));
    let site = Site::new();
    site.snapshot(&server, &[]).done();
    let before = site.digest();
    server.state().bundles.truncate(790);
    site.snapshot(&server, &[]).failed(1, &["790 distinct operators", "has 1000", "21 % fewer", "--accept-shrink"]);
    assert_eq!(site.digest(), before);
    server.take_log();
    site.snapshot(&server, &["--accept-shrink"]).done();
    assert_eq!(site.operators().len(), 790);
    assert!(server.take_log().iter().all(|request| !request.path.starts_with("/api/")), "what was fetched is kept");
    // A fifth itself is no alarm.
    server.state().bundles.truncate(632);
    site.snapshot(&server, &[]).done();
}

#[test]
fn the_snapshot_goes_by_the_servers_clock_and_says_so_when_it_differs() {
    for date in ["Wed, 05 Jan 2022 00:00:00 GMT", "Wed, 05 Jan 2095 00:00:00 GMT"] {
        // The rows reach from 2022-01-01 to 2022-01-10: the first clock is behind its own data.
        let server = StandIn::start(State { date: Some(date.into()), ..catalog(13_000, 10) });
        let site = Site::new();
        let run = site.snapshot(&server, &[]).done();
        assert!(run.stderr().contains("minutes apart"), "{}", run.stderr());
        assert_eq!(run.json()["info"]["kinds"]["operator"]["rows"], 13_000, "{date}");
    }
}

#[test]
fn a_killed_run_leaves_the_old_snapshot_and_goes_on_where_it_stopped() {
    let mut state = State { latency: Duration::from_millis(5), ..catalog(4000, 2000) };
    let die = Arc::new(AtomicBool::new(false));
    state.hook = Some(Box::new({
        let die = die.clone();
        move |_, number, _| {
            if number >= 30 {
                die.store(true, Ordering::SeqCst);
            }
            None
        }
    }));
    let server = StandIn::start(state);
    let site = Site::new();
    let (api, charts) = (server.api(), server.charts());
    let args = ["catalog", "snapshot", "--api", &api, "--charts", &charts, "--page-size", "50", "-q"];
    let mut child = site.command(&args).spawn().unwrap();
    while !die.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!site.path("catalog.db").exists());
    server.state().hook = None;
    let interrupted = server.take_log().len();
    let report = site.snapshot(&server, &["--page-size", "50"]).json();
    assert_eq!(report["resumed"], true);
    assert_eq!(site.operators(), keys(&server.state().bundles));
    assert_eq!(site.listing(), ["catalog.db", "tree"]);
    let resumed = server.take_log().len();
    let whole = {
        Site::new().snapshot(&server, &["--page-size", "50"]).done();
        server.take_log().len()
    };
    assert!(resumed < whole, "{interrupted} requests before the kill, {resumed} after it, {whole} without one");
}

#[test]
fn killed_at_any_moment_the_database_is_the_old_one_or_the_new_one() {
    let server = StandIn::start(catalog(600, 100));
    let site = Site::new();
    site.snapshot(&server, &[]).done();
    let old = site.operators();
    server.state().bundles[5]["csv_name"] = json!("changed.v1");
    server.state().bundles[5]["last_update_date"] = json!("2026-01-01T00:00:00.000000+00:00");
    let new = keys(&server.state().bundles);
    let (api, charts) = (server.api(), server.charts());
    for millis in [1, 5, 10, 15, 20, 30, 40, 60, 80, 120] {
        let args = ["catalog", "snapshot", "--api", &api, "--charts", &charts, "--full", "-q"];
        let mut child = site.command(&args).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(millis));
        child.kill().unwrap();
        child.wait().unwrap();
        let now = site.operators();
        assert!(now == old || now == new, "after {millis} ms");
    }
    site.snapshot(&server, &[]).done();
    assert_eq!(site.operators(), new);
}

#[test]
fn two_runs_do_not_write_one_snapshot() {
    let server = StandIn::start(State { latency: Duration::from_millis(300), ..catalog(50, 10) });
    let site = Site::new();
    let (api, charts) = (server.api(), server.charts());
    let mut first = site.command(&["catalog", "snapshot", "--api", &api, "--charts", &charts, "-q"]).spawn().unwrap();
    while server.state().log.is_empty() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let second = site.snapshot(&server, &[]);
    assert_eq!(second.0.status.code(), Some(1));
    assert!(second.stderr().contains("another haversack is writing this snapshot"), "{}", second.stderr());
    assert!(first.wait().unwrap().success());
    assert_eq!(site.listing(), ["catalog.db"]);
}

#[test]
fn offline_asks_nobody() {
    let server = StandIn::start(catalog(5, 5));
    Site::new().snapshot(&server, &["--offline"]).failed(1, &["this run is offline", "leave out `--offline`"]);
    assert!(server.take_log().is_empty());
}

#[test]
fn files_that_are_no_snapshot_are_told_apart_and_left_alone() {
    let site = Site::new();
    let server = StandIn::start(catalog(10, 10));
    site.snapshot(&server, &[]).done();
    let newer = site.path("newer.db");
    std::fs::copy(site.path("catalog.db"), &newer).unwrap();
    let connection = rusqlite::Connection::open(&newer).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let other = rusqlite::Connection::open(site.path("other.db")).unwrap();
    other.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
    drop(other);
    std::fs::write(site.path("text.db"), "this is not a database, but long enough to look like a file of one\n")
        .unwrap();
    std::fs::write(site.path("empty.db"), "").unwrap();
    for (file, words) in [
        ("newer.db", &["has layout 99, and this haversack knows layouts up to 1"][..]),
        ("other.db", &["other.db: not a catalog snapshot"]),
        ("text.db", &["text.db: not a catalog snapshot"]),
        ("empty.db", &["empty.db: not a catalog snapshot"]),
        ("missing.db", &["missing.db: there is no snapshot", "haversack catalog snapshot"]),
    ] {
        site.run(&["catalog", "info", "--db", file]).failed(1, words);
        site.run(&["catalog", "dump", "tree", "--db", file]).failed(1, words);
        site.run(&["catalog", "check", "operator", "a.v1", "--db", file]).failed(2, words);
        if file != "missing.db" {
            let before = std::fs::read(site.path(file)).unwrap();
            let (api, charts) = (server.api(), server.charts());
            site.run(&["catalog", "snapshot", "--db", file, "--api", &api, "--charts", &charts]).failed(1, words);
            assert!(std::fs::read(site.path(file)).unwrap() == before);
        }
    }
}

#[test]
fn a_dump_replaces_the_tree_in_one_step_and_is_the_same_each_time() {
    let server = StandIn::start(catalog(1200, 40));
    let site = Site::new();
    site.snapshot(&server, &[]).done();
    std::fs::create_dir_all(site.path("out/data/operators")).unwrap();
    std::fs::write(site.path("out/data/operators/stale.db"), "{}").unwrap();
    std::fs::write(site.path("out/mine"), "keep").unwrap();
    let files = || {
        let mut files = Vec::new();
        for entry in walkdir::WalkDir::new(site.path("out")).sort_by_file_name() {
            let entry = entry.unwrap();
            let content = if entry.file_type().is_file() { std::fs::read(entry.path()).unwrap() } else { Vec::new() };
            files.push((entry.path().strip_prefix(site.dir.path()).unwrap().display().to_string(), content));
        }
        files
    };
    site.run(&["catalog", "dump", "out"]).done();
    let first = files();
    site.run(&["catalog", "dump", "out"]).done();
    assert!(files() == first);
    let names: Vec<&str> = first.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "out",
            "out/catalog.db",
            "out/data",
            "out/data/archive.json",
            "out/data/containers",
            "out/data/containers/containers.db",
            "out/data/helm",
            "out/data/helm/helm.db",
            "out/data/operators",
            "out/data/operators/operator_catalog_page_0_500.db",
            "out/data/operators/operator_catalog_page_1_500.db",
            "out/data/operators/operator_catalog_page_2_500.db",
            "out/mine",
        ]
    );
    site.run(&["catalog", "dump", "out", "--no-db"]).done();
    assert!(!site.path("out/catalog.db").exists());
}

#[test]
fn places_that_cannot_take_a_dump_are_named_and_left_alone() {
    let server = StandIn::start(catalog(10, 10));
    let site = Site::new();
    site.snapshot(&server, &[]).done();
    std::fs::write(site.path("file"), "mine").unwrap();
    site.run(&["catalog", "dump", "file"]).failed(1, &["file: not a directory"]);
    assert_eq!(std::fs::read(site.path("file")).unwrap(), b"mine");
    site.run(&["catalog", "dump", "missing/deeper"]).failed(1, &["missing/deeper: no such directory"]);
    site.run(&["catalog", "dump", "/proc/self/out"]).failed(1, &["cannot create"]).stderr();
    site.run(&["dump", "--db", "catalog.db", "--dump-dir", "nowhere"])
        .failed(1, &["no such directory to dump to", "podman run -v"]);
    site.run(&["dump", "--db", "catalog.db", "--dump-dir", "/proc/self"])
        .failed(1, &["cannot be written to", "podman run -v"]);
}

#[test]
fn the_tree_holds_what_makes_certsuite_answer_better() {
    let mut state = catalog(3, 2);
    state.bundles[0]["csv_name"] = json!("anzo-operator");
    state.images[0]["repositories"][0]["registry"] = json!("registry.redhat.io");
    state.index = "
entries:
  a:
  - {name: good, version: 1.0, kubeVersion: '>=1.20', annotations: {charts.openshift.io/providerType: partner}}
  - {name: bad, version: 1.0.0, kubeVersion: garbage}
  - {name: free, version: 1.0.0, annotations: {charts.openshift.io/providerType: community}}
"
    .into();
    state.unpublished = Some("entries: {u: [{name: hidden, version: 2.0.0}]}".into());
    let server = StandIn::start(state);
    let site = Site::new();
    let run = site.snapshot(&server, &[]).done();
    assert!(run.stderr().contains("chart bad 1.0.0: the constraint `garbage` cannot be parsed"), "{}", run.stderr());
    assert!(site.operators().contains("anzo-operator. 4.10 stable"));
    let containers = site.containers();
    let digest = |number: usize| format!("sha256:{number:064x}");
    let keys: Vec<&String> = containers.as_object().unwrap().keys().collect();
    // Two images of one manifest list: found by their own digests, and both by the list's.
    assert_eq!(keys, [&digest(0), &digest(1), &digest(0x1_0000_0000)]);
    let list = &containers[digest(0x1_0000_0000)];
    let registries: Vec<&str> =
        list["repositories"].as_array().unwrap().iter().map(|it| it["registry"].as_str().unwrap()).collect();
    assert_eq!(registries, ["registry.access.redhat.com", "registry.connect.redhat.com"]);
    assert_eq!(list["repositories"][1]["tags"], json!([{"name": "0"}]));
    let helm = std::fs::read_to_string(site.path("tree/data/helm/helm.db")).unwrap();
    for line in ["name: \"hidden\"", "version: \"1.0\"", "kubeVersion: \"< 0.0.0-0\"", "name: \"free\""] {
        assert!(helm.contains(line), "{line}: {helm}");
    }
    site.run(&["catalog", "dump", "tree", "--no-community"]).done();
    assert!(!std::fs::read_to_string(site.path("tree/data/helm/helm.db")).unwrap().contains("free"));
    for (args, status) in [
        (&["operator", "anzo-operator", "--ocp-version", "4.10"][..], 0),
        (&["operator", "anzo-operator", "--ocp-version", "4.11"], 1),
        (&["container", "registry.redhat.io/acme/app0:0"], 0),
        (&["container", "registry.connect.redhat.com/acme/app1:gone"], 1),
        (&["container", &digest(0x1_0000_0000)], 0),
        (&["chart", "bad", "1.0.0", "--kube-version", "v1.30.0"], 1),
        (&["chart", "good", "1.0", "--kube-version", "v1.25.4+18eadca"], 0),
        (&["chart", "good", "1.0", "--kube-version", "v1.19.0"], 1),
    ] {
        assert_eq!(site.run(&[&["catalog", "check"], args].concat()).0.status.code(), Some(status), "{args:?}");
    }
    let answer = site.run(&["catalog", "check", "chart", "hidden", "2.0.0", "--json"]).json();
    assert_eq!(answer["row"]["unpublished"], true);
}

#[test]
fn a_batch_answers_each_line_with_its_question_in_order() {
    let server = StandIn::start(catalog(3, 2));
    let site = Site::new();
    site.snapshot(&server, &[]).done();
    let questions = concat!(
        r#"{"kind":"operator","args":{"csv_name":"op1-operator.v1.0.0","ocp_version":"4.11"},"mine":7}"#,
        "\n\n",
        r#"{"kind":"helm","args":{"chart":"db","version":"1.0.0","kube_version":"v1.1.0"}}"#,
        "\n",
        r#"{"kind":"kube_constraint","args":{"version":"v1.25.4","constraint":">=1.20"}}"#,
        "\n"
    );
    std::fs::write(site.path("questions"), questions).unwrap();
    let run = site.run(&["catalog", "check", "--batch", "questions", "--db", "catalog.db"]).done();
    assert_eq!(
        run.stdout(),
        concat!(
            r#"{"args":{"csv_name":"op1-operator.v1.0.0","ocp_version":"4.11"},"certified":true,"kind":"operator","mine":7}"#,
            "\n",
            r#"{"args":{"chart":"db","kube_version":"v1.1.0","version":"1.0.0"},"certified":false,"kind":"helm"}"#,
            "\n",
            r#"{"args":{"constraint":">=1.20","version":"v1.25.4"},"certified":true,"kind":"kube_constraint"}"#,
            "\n"
        )
    );
    std::fs::write(site.path("questions"), "{\"kind\":\"pod\",\"args\":{}}\n").unwrap();
    site.run(&["catalog", "check", "--batch", "questions"]).failed(2, &["questions: line 1: not a question"]);
}

#[test]
fn search_and_diff_show_names_and_changed_answers() {
    let server = StandIn::start(catalog(3, 1));
    let site = Site::new();
    site.snapshot(&server, &[]).done();
    let run = site.run(&["catalog", "search", "acme ap"]).done();
    assert_eq!(run.stdout(), "container\tregistry.connect.redhat.com/acme/app0\n");
    assert_eq!(site.run(&["catalog", "search", "nothing"]).0.status.code(), Some(1));
    std::fs::copy(site.path("catalog.db"), site.path("old.db")).unwrap();
    server.state().bundles.remove(1);
    server.state().bundles[0]["channel_name"] = json!("fast");
    server.state().bundles[0]["last_update_date"] = json!("2026-01-01T00:00:00.000000+00:00");
    let index = stand_in::index(&["1.0.0", "1.1.0"]).replacen(">=1.20", ">=1.21", 1);
    server.state().index = index;
    site.snapshot(&server, &["--accept-shrink"]).done();
    let run = site.run(&["catalog", "diff", "old.db", "catalog.db", "--exit-code"]);
    assert_eq!(run.0.status.code(), Some(1));
    assert_eq!(
        run.stdout(),
        "- operator op0-operator.v1.0.0 4.10 stable\n- operator op1-operator.v1.0.0 4.11 stable\n\
         + operator op0-operator.v1.0.0 4.10 fast\n\
         ~ chart db 1.0.0: >=1.20, partner -> >=1.21, partner\n1 added, 2 removed, 1 changed\n"
    );
    let run = site.run(&["catalog", "diff", "catalog.db", "catalog.db", "--exit-code"]).done();
    assert_eq!(run.stdout(), "0 added, 0 removed, 0 changed\n");
}

#[test]
fn a_refresh_into_the_dump_directory_works_and_a_failed_one_leaves_it_as_it_was() {
    let server = StandIn::start(catalog(30, 10));
    let site = Site::new();
    site.snapshot(&server, &[]).done();
    std::fs::create_dir(site.path("dump")).unwrap();
    let dump = |args: &[&str], variable: Option<&str>| {
        let (api, charts) = (server.api(), server.charts());
        let mut command = site.command(&[args, &["--db", "catalog.db"]].concat());
        command.env("HAVERSACK_DUMP_DIR", site.path("dump")).env("HAVERSACK_API", api).env("HAVERSACK_CHARTS", charts);
        command.env("HAVERSACK_RETRIES", "0");
        if let Some(variable) = variable {
            command.env(variable, "true");
        }
        Run(command.output().unwrap())
    };
    let run = dump(&["./run.sh"], Some("OCT_DUMP_ONLY")).done();
    assert_eq!(run.stdout(), format!("OCT: Dumping current DB to {}\n", site.path("dump").display()));
    server.take_log();

    let fresh = stand_in::bundle(40);
    server.state().bundles.push(fresh);
    let run = dump(&["run"], Some("OCT_FORCE_REGENERATE_DB")).done();
    assert!(run.stdout().starts_with("OCT: Forced db regeneration.\nOCT: Dumping current DB to "), "{}", run.stdout());
    let page = std::fs::read_to_string(site.path("dump/data/operators/operator_catalog_page_0_500.db")).unwrap();
    assert!(page.contains("op40-operator"));
    dump(&["run"], None).done();

    let before = walkdir::WalkDir::new(site.path("dump")).into_iter().count();
    server.state().hook = Some(Box::new(|_, _, _| Some(Fault::Status(503, "down"))));
    dump(&["run"], None).failed(1, &["503", "is as it was", "OCT_DUMP_ONLY=true"]);
    assert_eq!(walkdir::WalkDir::new(site.path("dump")).into_iter().count(), before);
    assert!(site.path("dump/data/operators/operator_catalog_page_0_500.db").exists());
    let run = dump(&["refresh", "--fallback"], None);
    assert_eq!(run.0.status.code(), Some(3), "{}", run.stderr());
    let page = std::fs::read_to_string(site.path("dump/data/operators/operator_catalog_page_0_500.db")).unwrap();
    assert!(!page.contains("op40-operator"), "the snapshot of the image is older");
}

#[test]
fn recorded_bodies_make_a_snapshot_and_overlapping_or_missing_pages_are_refused() {
    let site = Site::new();
    std::fs::create_dir_all(site.path("recorded/operators")).unwrap();
    let rows = stand_in::bundles(30);
    let write = |number: usize, rows: &[Value], total: usize| {
        let body = json!({"data": rows, "page": number, "page_size": 10, "total": total});
        std::fs::write(site.path(&format!("recorded/operators/page-{number}.json")), body.to_string()).unwrap();
    };
    for (number, page) in rows.chunks(10).enumerate() {
        write(number, page, 30);
    }
    let take = || site.run(&["catalog", "snapshot", "--from", "recorded", "--json"]);
    take().done();
    assert_eq!(site.operators(), keys(&rows));
    write(2, &rows[19..29], 30);
    take().failed(1, &["page-1.json", "page-2.json", "the pages overlap"]);
    write(2, &rows[20..29], 30);
    take().failed(1, &["hold 29 rows, and say that there are 30"]);
    std::fs::create_dir(site.path("nothing")).unwrap();
    let run = site.run(&["catalog", "snapshot", "--from", "nothing"]);
    assert_eq!(run.0.status.code(), Some(1));
    assert!(run.stderr().contains("no recorded bodies here"));
    assert_eq!(site.operators(), keys(&rows));
}

#[test]
fn a_tree_of_2022_and_its_oddities_are_read_as_certsuite_reads_them() {
    let site = Site::new();
    for directory in ["t/data/containers", "t/data/helm", "t/data/operators"] {
        std::fs::create_dir_all(site.path(directory)).unwrap();
    }
    let digest = |character: &str| format!("sha256:{}", character.repeat(64));
    let image = json!({
        "_id": "5f059f17bed8bd4f99d2018f", "docker_image_digest": digest("1"), "certified": false,
        "repositories": [{"registry": "quay.io", "repository": "a/b", "tags": [{"name": "1", "push_date": ""}]},
                         {"registry": "quay.io", "repository": "c", "tags": null}],
    });
    let containers = json!({digest("1"): image, digest("2"): null});
    std::fs::write(site.path("t/data/containers/containers.db"), containers.to_string()).unwrap();
    std::fs::write(site.path("t/data/helm/helm.db"), "").unwrap();
    let operators: [(&str, &str); 5] = [
        (
            "operator_catalog_page_0_500.db",
            r#"{"data":[{"csv_name":"a.v1","ocp_version":"4.10","channel_name":"s"},{"csv_name":"b.v1","ocp_version":"4.11"}]}"#,
        ),
        ("operator_catalog_page_1_500.db", r#"{"data":[{"csv_name":"c.v1"},{"ocp_version":"4.99","csv_name":null}]}"#),
        ("page_without_rows.db", r#"{"status":500}"#),
        ("readme.txt", "<html>"),
        ("z.db", r#"{"data":[{"csv_name":"dotless","ocp_version":"4.1"}]}"#),
    ];
    for (name, text) in operators {
        std::fs::write(site.path("t/data/operators").join(name), text).unwrap();
    }
    let run = site.run(&["catalog", "import", "t", "--db", "catalog.db"]).done();
    assert!(run.stderr().contains("operators/readme.txt: not a page"), "{}", run.stderr());
    for (args, certified) in [
        (&["operator", "c.v1", "--ocp-version", "4.10"][..], true),
        (&["operator", "b.v1", "--ocp-version", "4.99"], true),
        (&["operator", "dotless"], false),
        (&["container", "quay.io/a/b:1"], true),
        (&["container", "quay.io/c"], false),
        (&["container", &digest("1")], true),
        (&["container", &digest("2")], true),
        (&["container", &digest("1").to_uppercase()], false),
    ] {
        let status = site.run(&[&["catalog", "check"], args].concat()).0.status.code();
        assert_eq!(status, Some(i32::from(!certified)), "{args:?}");
    }
    for (text, words) in [("[]", "invalid type"), ("", "EOF"), ("<html>", "expected value"), ("{} x", "trailing")] {
        std::fs::write(site.path("t/data/containers/containers.db"), text).unwrap();
        let before = site.digest();
        let run = site.run(&["catalog", "import", "t/data", "--db", "catalog.db"]);
        assert_eq!(run.0.status.code(), Some(1));
        assert!(
            run.stderr().contains("containers.db: not a JSON object of images") && run.stderr().contains(words),
            "{}",
            run.stderr()
        );
        assert_eq!(site.digest(), before);
    }
    site.run(&["catalog", "import", "missing", "--db", "catalog.db"])
        .0
        .status
        .code()
        .filter(|code| *code == 1)
        .unwrap();
}

#[test]
#[ignore = "needs HAVERSACK_REAL_DATA"]
fn every_recorded_answer_of_octs_own_checker_is_given() {
    let tree = unpacked("oct-tree.tar.gz");
    let site = Site::new();
    let tree = tree.path().to_str().unwrap();
    site.run(&["catalog", "import", tree, "--db", "catalog.db"]).done();
    let questions = real_data().join("catalog/oct-tree-answers.jsonl");
    let run = site.run(&["catalog", "check", "--batch", questions.to_str().unwrap(), "--db", "catalog.db"]).done();
    let answers: Vec<Value> = run.stdout().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let wrong: Vec<&Value> = answers.iter().filter(|answer| answer["certified"] != answer["expected"]).collect();
    assert_eq!((answers.len(), wrong), (1092, Vec::new()));

    let digest = site.digest();
    site.run(&["catalog", "dump", "out", "--no-db"]).done();
    site.run(&["catalog", "import", "out", "--db", "catalog.db"]).done();
    assert_eq!(site.digest(), digest);
}

#[test]
#[ignore = "needs HAVERSACK_REAL_DATA"]
fn none_of_the_real_bundles_is_lost_that_oct_lost() {
    let tree = unpacked("operators-full-rows-2022-11-16.tar.gz");
    let mut rows = std::collections::BTreeMap::new();
    for file in std::fs::read_dir(tree.path().join("data/operators")).unwrap() {
        let page: Value = serde_json::from_slice(&std::fs::read(file.unwrap().path()).unwrap()).unwrap();
        for row in page["data"].as_array().unwrap() {
            rows.insert(row["_id"].as_str().unwrap().to_owned(), row.clone());
        }
    }
    let bundles: Vec<Value> = rows.into_values().collect();
    assert_eq!(bundles.len(), 3900);
    for (asked, cap) in [("500", 500), ("100", 100), ("500", 37)] {
        let server = StandIn::start(State { bundles: bundles.clone(), page_cap: cap, ..catalog(0, 10) });
        let site = Site::new();
        let report = site.snapshot(&server, &["--page-size", asked]).json();
        assert_eq!(report["info"]["kinds"]["operator"]["rows"], 3900, "pages of {asked}, capped at {cap}");
        assert_eq!(site.operators(), keys(&bundles));
    }
}

#[test]
#[ignore = "needs HAVERSACK_REAL_DATA"]
fn a_week_of_real_changes_is_seen_although_the_total_stayed_and_a_real_shrink_is_no_alarm() {
    let day = |name: &str| -> Vec<Value> {
        let file = std::fs::File::open(real_data().join("catalog/operators-daily").join(name)).unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(file), &mut text).unwrap();
        let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        // Oct's last page repeats rows; the catalog has each once.
        let rows: std::collections::BTreeMap<String, Value> =
            rows.map(|row| (row["_id"].as_str().unwrap().to_owned(), row)).collect();
        rows.into_values().collect()
    };
    for (before, after) in [
        ("2022-10-12-95aa48db.jsonl.gz", "2022-10-19-7e37f550.jsonl.gz"),
        ("2022-11-09-118bc3e5.jsonl.gz", "2022-11-10-a297d3a6.jsonl.gz"),
        ("2022-11-10-a297d3a6.jsonl.gz", "2022-11-16-6d95595a.jsonl.gz"),
    ] {
        let organized = |mut rows: Vec<Value>| {
            rows.iter_mut().for_each(|row| row["organization"] = json!("certified-operators"));
            rows
        };
        let server = StandIn::start(State { bundles: organized(day(before)), ..catalog(0, 10) });
        let site = Site::new();
        site.snapshot(&server, &[]).done();
        let after = organized(day(after));
        server.state().bundles.clone_from(&after);
        site.snapshot(&server, &[]).done();
        assert_eq!(site.operators(), keys(&after).into_iter().map(dotted).collect());
    }
}

/// The tree's spelling of a key whose CSV name has no dot.
fn dotted(key: String) -> String {
    let (name, rest) = key.split_once(' ').unwrap();
    if name.contains('.') { key } else { format!("{name}. {rest}") }
}

#[test]
#[ignore = "needs podman; scripts/test.sh runs it where podman works"]
fn the_image_dumps_without_a_network_and_refreshes_with_one_under_podman() {
    let server = StandIn::start(catalog(1000, 200));
    let site = Site::new();
    site.snapshot(&server, &[]).done();
    let definition = concat!(env!("CARGO_MANIFEST_DIR"), "/images/catalog");
    let image = "localhost/haversack-test-catalog:latest";
    let build = |archive: &str| {
        let output = format!("oci-archive:{archive}:{image}");
        site.run(&["build", definition, "--catalog", "catalog.db", "--output", &output, "--json"]).json()[0]["digest"]
            .clone()
    };
    assert_eq!(build("one.tar"), build("two.tar"), "two builds, one digest");
    assert!(std::fs::read(site.path("one.tar")).unwrap() == std::fs::read(site.path("two.tar")).unwrap());

    let podman = |args: &[&str]| {
        let mut command = Command::new("podman");
        command.args(args).current_dir(site.dir.path());
        if std::env::var_os("CONTAINERS_CONF").is_none() && !podman_works_as_it_is() {
            command.env("CONTAINERS_CONF", concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/podman/containers.conf"));
        }
        Run(command.output().unwrap())
    };
    podman(&["load", "--input", "one.tar"]).done();
    let dump = site.path("dump");
    std::fs::create_dir(&dump).unwrap();
    std::fs::set_permissions(&dump, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let mount = format!("{}:/tmp/dump:Z", dump.display());
    let anybody = ["run", "--rm", "--read-only", "--user", "1234:1234", "-v", &mount];
    let without_network = [&anybody[..], &["--network", "none"]].concat();

    let run = podman(&[&without_network[..], &["--env", "OCT_DUMP_ONLY=true", image]].concat()).done();
    assert_eq!(run.stdout(), "OCT: Dumping current DB to /tmp/dump\n");
    site.run(&["catalog", "dump", "expected"]).done();
    let tree = |root: &str| -> Vec<(PathBuf, Vec<u8>)> {
        let files = walkdir::WalkDir::new(site.path(root)).sort_by_file_name().into_iter().map(Result::unwrap);
        files
            .filter(|entry| entry.file_type().is_file())
            .map(|entry| {
                let name = entry.path().strip_prefix(site.path(root)).unwrap().to_owned();
                (name, std::fs::read(entry.path()).unwrap())
            })
            .collect()
    };
    assert!(tree("dump") == tree("expected"));

    // Old commands, and questions, work in the image as well.
    podman(&[&without_network[..], &["--env", "OCT_DUMP_ONLY=true", image, "./run.sh"]].concat()).done();
    podman(&[&without_network[..], &["--entrypoint", "./run.sh", "--env", "OCT_DUMP_ONLY=true", image]].concat())
        .done();
    let run = podman(&[&without_network[..], &[image, "catalog", "check", "operator", "op1-operator.v1.0.0"]].concat());
    assert!(run.done().stdout().starts_with("certified\n"));

    // Without a network there is nothing to refresh from; the tree stays.
    podman(&[&without_network[..], &["--env", "HAVERSACK_RETRIES=0", image]].concat())
        .failed(1, &["OCT_DUMP_ONLY=true"]);
    assert!(tree("dump") == tree("expected"));

    server.state().bundles.push(stand_in::bundle(5000));
    let (api, charts) = (format!("HAVERSACK_API={}", server.api()), format!("HAVERSACK_CHARTS={}", server.charts()));
    podman(&[&anybody[..], &["--network", "host", "--env", &api, "--env", &charts, image]].concat()).done();
    let refreshed = tree("dump");
    site.snapshot(&server, &[]).done();
    site.run(&["catalog", "dump", "expected"]).done();
    let operators = |tree: Vec<(PathBuf, Vec<u8>)>| -> Vec<_> {
        tree.into_iter().filter(|(name, _)| name.starts_with("data/operators")).collect()
    };
    assert!(operators(refreshed) == operators(tree("expected")));
    podman(&["rmi", image]).done();
}

/// Whether podman can run anything without settings of ours: 127 is the container's word that there is no such program.
fn podman_works_as_it_is() -> bool {
    let rootfs = tempfile::tempdir().unwrap();
    let run = Command::new("podman")
        .args(["run", "--rm", "--network", "none", "--rootfs", rootfs.path().to_str().unwrap(), "/nothing"])
        .output()
        .unwrap();
    run.status.code() == Some(127)
}

#[test]
#[ignore = "needs mount; makes a file system of 1 MiB, so root runs it"]
fn a_disk_that_fills_leaves_snapshot_and_tree_as_they_were() {
    let server = StandIn::start(catalog(200, 50));
    let site = Site::new();
    let disk = site.path("disk");
    std::fs::create_dir(&disk).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&disk).status().unwrap();
    assert!(mounted.success());
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let small = ["--db", "disk/catalog.db"];
        let (api, charts) = (server.api(), server.charts());
        let take = || site.run(&[&["catalog", "snapshot", "--api", &api, "--charts", &charts][..], &small].concat());
        take().done();
        site.run(&[&["catalog", "dump", "disk/out", "--no-db"][..], &small].concat()).done();
        let before = std::fs::read(disk.join("catalog.db")).unwrap();
        server.state().bundles = stand_in::bundles(20_000);
        take().failed(1, &["no storage space", "free some space", "nothing was replaced"]);
        assert!(std::fs::read(disk.join("catalog.db")).unwrap() == before);

        let page = disk.join("out/data/operators/operator_catalog_page_0_500.db");
        let tree = std::fs::read(&page).unwrap();
        site.run(&["catalog", "snapshot", "--api", &api, "--charts", &charts]).done();
        site.run(&["catalog", "dump", "disk/out"]).failed(1, &["disk/out", "free some space"]);
        assert!(std::fs::read(&page).unwrap() == tree);
    }));
    let unmounted = Command::new("umount").arg("-l").arg(&disk).status().unwrap();
    assert!(unmounted.success());
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}
