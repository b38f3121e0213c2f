//! What goes wrong with the service, the files and the machine, and what is left then.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::stand_in::{self, Fault, StandIn, State};
use crate::{Site, catalog, keys};

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
fn faults_that_pass_are_waited_out() {
    for fault in [
        Fault::Status(500, "oops"),
        Fault::Status(503, "busy"),
        Fault::RetryAfter(429, 0),
        Fault::Html,
        Fault::Cut,
        Fault::Truncated,
        Fault::ErrorDocument,
        Fault::OtherPage,
        Fault::Hang(Duration::from_secs(2)),
    ] {
        let mut state = catalog(900, 30);
        let injected = fault.clone();
        // What takes time happens once.
        let once = matches!(fault, Fault::Hang(_));
        // The first answers show that a catalog is there at all.
        let when = move |number: usize| if once { number == 5 } else { number > 8 && number % 4 == 1 };
        state.hook = Some(Box::new(move |_, number, _| when(number).then(|| injected.clone())));
        let server = StandIn::start(state);
        let site = Site::new();
        site.snapshot(&server, &["--page-size", "100", "--timeout", "1"]).done();
        assert_eq!(site.operators(), keys(&server.state().bundles), "{fault:?}");
    }
}

#[test]
fn an_organization_without_operators_is_said_to_be_that() {
    let server = StandIn::start(catalog(0, 3));
    let site = Site::new();
    let run = site.snapshot(&server, &["--organization", "wrong", "-q"]);
    let hint = "no new snapshot was written; check `--organization` (certified-operators, redhat-operators, redhat-marketplace, \
                community-operators), or take a snapshot without operators with `--accept-shrink`";
    let text =
        format!("error: {}: the catalog has no operators where organization==wrong\nhint: {hint}\n", server.api());
    assert_eq!((run.0.status.code(), run.stderr()), (Some(1), text));
    assert!(!site.path("catalog.db").exists());
}

#[test]
fn an_address_without_a_catalog_is_told_at_once() {
    let again = "no new snapshot was written; check `--api`";
    for (fault, words) in [
        (Fault::Html, &["no complete JSON document, it begins `<html>", again][..]),
        (Fault::ErrorDocument, &["the answer has no list `data`", again]),
        (Fault::Status(404, "nothing here"), &["404 Not Found", again]),
    ] {
        let mut state = catalog(30, 3);
        let injected = fault.clone();
        state.hook = Some(Box::new(move |_, _, _| Some(injected.clone())));
        let server = StandIn::start(state);
        let site = Site::new();
        let run = site.snapshot(&server, &[]);
        // What a slow catalog says, too, is asked for once more.
        let most = if matches!(fault, Fault::Html) { "(1 of 5)" } else { "" };
        let warnings: Vec<String> =
            run.stderr().lines().filter(|line| line.starts_with("warning")).map(str::to_owned).collect();
        assert!(warnings.iter().all(|line| !most.is_empty() && line.ends_with(most)), "{fault:?}: {warnings:#?}");
        run.failed(1, words);
    }
    // The same of the charts, which do not keep the rest.
    let mut state = catalog(30, 3);
    state.index = "<html>Welcome</html>".into();
    let server = StandIn::start(state);
    let site = Site::new();
    let run = site.snapshot(&server, &[]);
    let stderr = run.stderr();
    assert_eq!(run.0.status.code(), Some(3), "{stderr}");
    assert!(!stderr.contains("trying again") && stderr.contains("the snapshot has no charts: "), "{stderr}");
    let (api, charts) = (server.api(), server.charts());
    let text = site.run(&["catalog", "snapshot", "--db", "new.db", "--api", &api, "--charts", &charts]).stdout();
    assert!(text.contains("\ncharts: none (could not be read)\n"), "{text}");
}

#[test]
fn credentials_in_an_address_are_neither_said_nor_kept() {
    let server = StandIn::start(catalog(3, 2));
    let site = Site::new();
    let with = |url: String| format!("{}?token=hunter2", url.replacen("http://", "http://me:hunter2@", 1));
    let (api, charts) = (with(server.api()), with(server.charts()));
    let snapshot = |api: &str, charts: &str| {
        let run = site.run(&["catalog", "snapshot", "-vv", "--retries", "1", "--api", api, "--charts", charts]);
        assert!(!(run.stderr() + &run.stdout()).contains("hunter2"), "{}", run.stderr());
        run.0.status.code()
    };
    // The stand-in looks at paths only.
    assert_eq!(snapshot(&api, &charts), Some(0));
    for name in site.listing() {
        let bytes = std::fs::read(site.path(&name)).unwrap();
        assert!(!bytes.windows(7).any(|part| part == b"hunter2"), "{name}");
    }
    assert_eq!(snapshot(&api, &charts.replace("index.yaml", "gone.yaml")), Some(3));
    server.state().hook = Some(Box::new(|_, _, _| Some(Fault::Status(500, "oops"))));
    assert_eq!(snapshot(&api, &charts), Some(1));
}

#[test]
fn a_directory_without_recorded_answers_is_answered_with_what_belongs_there() {
    let site = Site::new();
    std::fs::create_dir(site.path("empty")).unwrap();
    let run = site.run(&["catalog", "snapshot", "--from", "empty"]);
    let said = "error: empty: no recorded bodies here (expected operators/, images/ or index.yaml)\nhint: such a directory has answers \
        of the API in it: pages of v1/operators/bundles as operators/0.json, operators/1.json …, pages of v1/images as images/0.json \
        …, and the chart index as index.yaml; one of them is enough\n";
    assert_eq!((run.0.status.code(), run.stderr()), (Some(1), said.to_owned()));
}

#[test]
fn a_failure_is_said_once_for_each_kind_of_rows() {
    let mut state = catalog(900, 300);
    state.hook = Some(Box::new(|_, _, _| Some(Fault::Status(500, "oops"))));
    let server = StandIn::start(state);
    let run = Site::new().snapshot(&server, &["--parallel", "8"]);
    let said = run.stderr().lines().filter(|line| line.starts_with("warning: ")).count();
    assert_eq!((run.0.status.code(), said), (Some(1), 2), "{}", run.stderr());
}

#[test]
fn an_answer_that_only_drips_is_given_up_and_asked_for_again() {
    let mut state = catalog(30, 3);
    state.hook = Some(Box::new(|_, number, _| (number == 1).then_some(Fault::Drip)));
    let server = StandIn::start(state);
    let site = Site::new();
    // A byte comes well within this time-out, again and again; the whole answer does not come within four of it.
    site.snapshot(&server, &["--timeout", "0.5"]).done();
    assert_eq!(site.operators(), keys(&server.state().bundles));
    server.wait_for(|state| state.drips_left == 1);
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
        (Fault::OtherPage, &["asked for page 0, got page 7"]),
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
    let run = Site::new().snapshot(&server, &["-v"]).done();
    assert!(started.elapsed() >= Duration::from_secs(1), "Retry-After was not honoured");
    let stderr = run.stderr();
    assert!(stderr.contains("overloaded: 2 requests at once and 500 rows a page from now on"), "{stderr}");
}

#[test]
fn a_slow_server_is_asked_for_smaller_pages() {
    let mut state = catalog(2000, 10);
    state.hook = Some(Box::new(|_, number, _| (number == 2).then_some(Fault::Html)));
    let server = StandIn::start(state);
    let site = Site::new();
    let run = site.snapshot(&server, &["-v"]).done();
    let stderr = run.stderr();
    assert!(stderr.contains("overloaded: 2 requests at once and 250 rows a page from now on"), "{stderr}");
    assert_eq!(site.operators(), keys(&server.state().bundles));
    let sizes: Vec<u64> = server
        .take_log()
        .iter()
        .filter_map(|request| request.get("page_size").parse().ok())
        .filter(|size| *size > 1)
        .collect();
    assert!(sizes.contains(&250) && sizes.ends_with(&[250]), "{sizes:?}");
}

#[test]
fn a_server_with_wrong_paging_is_refused_and_the_pages_are_named() {
    let server = StandIn::start(State { squared_paging: true, ..catalog(2000, 10) });
    let site = Site::new();
    site.snapshot(&server, &[])
        .failed(1, &["page 1 repeats 498 rows of page 0", "paging is wrong", "no new snapshot was written"]);
    assert!(!site.path("catalog.db").exists());
}

#[test]
fn a_server_that_does_not_filter_is_refused() {
    let server = StandIn::start(State { ignores_filters: true, ..catalog(1200, 10) });
    Site::new().snapshot(&server, &[]).failed(1, &["does not apply the filter", "_id "]);
}

#[test]
fn a_server_that_does_not_sort_is_refused() {
    let mut state = State { ignores_sorting: true, ..catalog(300, 10) };
    state.bundles.swap(100, 200);
    let server = StandIn::start(state);
    Site::new().snapshot(&server, &[]).failed(1, &["row 101", "does not sort as asked"]);
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
    let full = server.take_log().iter().filter(|request| request.get("include").contains("csv_name")).count();
    assert!(full < 3, "what was fetched is kept, and only looked at for changes");
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
        // What was fetched would keep the disk full.
        let mut left: Vec<_> = std::fs::read_dir(&disk).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["catalog.db", "out"]);

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
