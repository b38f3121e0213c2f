//! Snapshots: no row lost, no row kept that is gone.

use std::time::Duration;

use serde_json::{Value, json};

use crate::stand_in::{self, Echo, StandIn, State};
use crate::{Site, catalog, keys};

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
fn a_server_that_does_not_say_how_large_its_pages_are_or_says_too_much_loses_no_row() {
    for (echo, cap) in [(Echo::Nothing, 100), (Echo::Asked, 100), (Echo::Asked, 500)] {
        let server = StandIn::start(State { page_cap: cap, echo, ..catalog(950, 250) });
        let site = Site::new();
        site.snapshot(&server, &[]).done();
        assert_eq!(site.operators(), keys(&server.state().bundles), "{echo:?}, capped at {cap}");
        server.state().bundles.remove(600);
        site.snapshot(&server, &[]).done();
        assert_eq!(site.operators(), keys(&server.state().bundles), "{echo:?}, capped at {cap}, refreshed");
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
fn a_row_that_changes_after_it_was_read_is_read_again() {
    let mut state = catalog(2000, 10);
    let (mut first_read, mut changed) = (false, false);
    state.hook = Some(Box::new(move |state, _, request| {
        let walked = !request.is_images() && !request.is_sweep();
        if walked && first_read && !changed {
            changed = true;
            state.bundles[0]["channel_name"] = json!("fast");
            state.bundles[0]["last_update_date"] = json!("2099-01-01T00:00:00.000000+00:00");
        }
        first_read |= walked;
        None
    }));
    let server = StandIn::start(state);
    let site = Site::new();
    site.snapshot(&server, &["--page-size", "100", "--parallel", "1"]).done();
    assert_eq!(site.operators(), keys(&server.state().bundles));
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
    assert_eq!(
        report["kinds"]["operator"],
        json!({"how": "refresh", "read": 13, "removed": 1, "notes": [], "odd": []})
    );
    assert_eq!(report["kinds"]["container"]["how"], "refresh");
    assert_eq!(report["kinds"]["chart"], json!({"how": "unchanged", "read": 0, "removed": 0, "notes": [], "odd": []}));
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
    let server = StandIn::start(catalog(12_000, 10));
    let site = Site::new();
    site.snapshot(&server, &["--page-size", "100"]).done();
    server.take_log();
    for number in [2900, 1500, 12] {
        server.state().bundles.remove(number);
    }
    let report = site.snapshot(&server, &["--page-size", "100"]).json();
    assert_eq!(report["kinds"]["operator"]["removed"], 3);
    assert_eq!(site.operators(), keys(&server.state().bundles));
    let sweeps = server.take_log().iter().filter(|request| request.is_sweep() && !request.is_images()).count();
    assert!(sweeps < 80, "{sweeps} requests to find 3 of 12,000 rows; by _id alone it takes 133");
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
