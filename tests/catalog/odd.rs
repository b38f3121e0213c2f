//! A catalog where the world is odd: one bad entry, half of an index, rows without a date, many rows in one second. Each costs
//! what it must, is said, and keeps nothing else from being taken.

use serde_json::{Value, json};

use crate::stand_in::{self, Fault, StandIn, State};
use crate::{Run, Site, catalog, keys};

impl Run {
    /// Finished, with something left out.
    fn partial(self, words: &[&str]) -> Value {
        let stderr = self.stderr();
        assert_eq!(self.0.status.code(), Some(3), "{stderr}");
        for word in words {
            assert!(stderr.contains(word), "`{word}` is not in: {stderr}");
        }
        serde_json::from_slice(&self.0.stdout).unwrap()
    }
}

/// Chart names and versions as the tree shows them.
fn charts(site: &Site) -> Vec<String> {
    site.dump();
    let index = std::fs::read_to_string(site.path("tree/data/helm/helm.db")).unwrap();
    let mut names: Vec<String> = Vec::new();
    for line in index.lines() {
        if let Some(name) = line.strip_prefix("  - name: ") {
            names.push(name.trim_matches('"').to_owned());
        } else if let (Some(version), Some(name)) = (line.strip_prefix("    version: "), names.last_mut()) {
            name.push(' ');
            name.push_str(version.trim_matches('"'));
        }
    }
    names
}

#[test]
fn a_chart_index_with_odd_entries_gives_all_others_and_names_the_odd() {
    let odd = [
        "{name: o1, version: null}",
        "{name: o2}",
        "{version: 1.0.0}",
        "{name: [o4], version: 1.0.0}",
        "{name: o5, version: 1.0.0, kubeVersion: {a: b}}",
        "{name: o6, version: 1.0.0, version: 1.0.1}",
        "{<<: {name: o7}, version: 1.0.0}",
        "o8",
        "[o9]",
        "{name: o10, version: *nowhere}",
        // Taken, without what is odd about them.
        "{name: t1, version: 1.0.0, annotations: {a: {b: c}}}",
        "{name: t2, version: 1.0.0, urls: somewhere}",
    ];
    let mut index = String::from("apiVersion: v1\nentries:\n");
    for (number, entry) in odd.iter().enumerate() {
        index.push_str(&format!("  k{number:02}:\n  - {{name: good{number:02}, version: 1.0.0}}\n  - {entry}\n"));
    }
    index.push_str("generated: '2026-01-01T00:00:00Z'\n");
    let expected: Vec<String> = (0..odd.len())
        .flat_map(|number| {
            let taken = if number >= 10 { Some(format!("t{} 1.0.0", number - 9)) } else { None };
            [Some(format!("good{number:02} 1.0.0")), taken]
        })
        .flatten()
        .collect();

    let server = StandIn::start(State { index: index.clone(), ..catalog(20, 5) });
    let site = Site::new();
    let report = site.snapshot(&server, &[]).partial(&["line 5: version 2 of `k00` is passed over: it has no version"]);
    let said = report["kinds"]["chart"]["odd"].as_array().unwrap();
    assert_eq!(said.len(), odd.len(), "{said:?}");
    for (number, line) in said.iter().enumerate() {
        assert!(line.as_str().unwrap().contains(&format!("line {}: ", 5 + 3 * number)), "{line}");
    }
    assert_eq!(charts(&site), expected);
    assert_eq!(site.operators(), keys(&server.state().bundles));
    // It is said each time, also where the server says that nothing changed.
    site.snapshot(&server, &[]).partial(&["is passed over"]);
    // No message shows how a program would have to be changed.
    let stderr = site.snapshot(&server, &[]).stderr();
    assert!(!stderr.contains("Option<") && !stderr.contains("deserialize"), "{stderr}");

    // Recorded bodies and trees are read alike.
    std::fs::create_dir_all(site.path("recorded")).unwrap();
    std::fs::write(site.path("recorded/index.yaml"), &index).unwrap();
    site.run(&["catalog", "snapshot", "--db", "recorded.db", "--from", "recorded", "--json"]).partial(&["k00"]);
    site.run(&["catalog", "dump", "tree", "--no-db"]).done();
    std::fs::write(site.path("tree/data/helm/helm.db"), &index).unwrap();
    let report = site.run(&["catalog", "import", "tree", "--db", "imported.db", "--json"]).partial(&["k00"]);
    assert_eq!(report["read"]["charts"], expected.len());
}

#[test]
fn a_chart_index_that_fails_keeps_its_charts_and_nothing_else_back() {
    let half = {
        let whole = stand_in::index(&["1.0.0", "1.1.0"]);
        whole[..whole.find("generated").unwrap()].to_owned()
    };
    for (index, said) in [
        (half, "the chart index ends without `generated`: half of it may be missing"),
        ("<html>502</html>".into(), "not a chart index: line 1, column 1: expected a mapping with `entries`"),
        ("entries: {a: [".into(), "not a chart index: line 1"),
        ("entries: {}\ngenerated: x\n".into(), "the catalog has no charts"),
        ("".into(), "ends without `generated`"),
    ] {
        let server = StandIn::start(catalog(30, 5));
        let site = Site::new();
        site.snapshot(&server, &[]).done();
        server.state().bundles.push(stand_in::bundle(500));
        server.state().index = index.clone();
        let report = site.snapshot(&server, &["--retries", "1"]).partial(&[said, "the charts are still those of 20"]);
        assert_eq!(report["kinds"]["chart"]["how"], "kept", "{index}");
        assert!(report["kinds"]["chart"]["failed"].as_str().unwrap().contains(said), "{report}");
        assert_eq!(report["info"]["kinds"]["chart"]["rows"], 2);
        assert_eq!(charts(&site), ["db 1.0.0", "db 1.1.0"]);
        assert_eq!(site.operators(), keys(&server.state().bundles));
        // Alone, it is what was asked for.
        site.snapshot(&server, &["--kind", "charts", "--retries", "0"]).failed(1, &[said.rsplit(": ").next().unwrap()]);

        // Without an old snapshot there are no charts, and no answer about one.
        let site = Site::new();
        let report = site.snapshot(&server, &["--retries", "0"]).partial(&["the snapshot has no charts", said]);
        assert_eq!(report["info"]["kinds"].get("chart"), None);
        site.run(&["catalog", "check", "chart", "db", "1.0.0"]).failed(2, &["the snapshot has no charts"]);
        site.run(&["catalog", "check", "operator", "op1-operator.v1.0.0"]).done();
        let run = site.run(&["catalog", "dump", "tree", "--no-db", "--json"]);
        assert_eq!(run.partial(&["has no charts"])["missing"], json!(["chart"]));
        // It comes with the next refresh.
        server.state().index = stand_in::index(&["1.0.0"]);
        site.snapshot(&server, &[]).done();
        assert_eq!(charts(&site), ["db 1.0.0"]);
    }
    // A host of charts that is not there.
    let server = StandIn::start(catalog(30, 5));
    let site = Site::new();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (api, charts) = (server.api(), format!("http://{silent}/index.yaml"));
    let run = site.run(&["catalog", "snapshot", "--api", &api, "--charts", &charts, "--retries", "0", "--json"]);
    run.partial(&["the snapshot has no charts"]);
}

#[test]
fn charts_that_became_fewer_are_said() {
    let versions: Vec<String> = (0..20).map(|number| format!("1.{number}.0")).collect();
    let versions: Vec<&str> = versions.iter().map(String::as_str).collect();
    let server = StandIn::start(State { index: stand_in::index(&versions), ..catalog(10, 5) });
    let site = Site::new();
    site.snapshot(&server, &[]).done();
    server.state().index = stand_in::index(&versions[..18]);
    let run = site.snapshot(&server, &[]).done();
    assert!(run.stderr().contains("charts: 18 of 20 are left"), "{}", run.stderr());
    assert_eq!(charts(&site).len(), 18);
}

#[test]
fn rows_that_no_date_leads_to_are_fetched_and_leave() {
    let server = StandIn::start(catalog(1200, 300));
    {
        let mut state = server.state();
        for (number, date) in [
            (3, Value::Null),
            (500, json!("1969-12-31T23:59:59.000000+00:00")),
            (700, json!("1970-01-01T00:00:00.000000+00:00")),
            (900, json!("0001-01-01T00:00:00.000000+00:00")),
        ] {
            state.bundles[number]["creation_date"] = date;
        }
        state.bundles[42].as_object_mut().unwrap().remove("creation_date");
        state.images[7]["creation_date"] = Value::Null;
        state.images[8]["creation_date"] = Value::Null;
        state.images[8]["deleted"] = json!(true);
    }
    let site = Site::new();
    let run = site.snapshot(&server, &[]).done();
    assert!(run.stderr().contains("operators: 5 rows have no creation date"), "{}", run.stderr());
    assert!(run.stderr().contains("containers: 1 row has no creation date"), "{}", run.stderr());
    assert_eq!(site.operators(), keys(&server.state().bundles));
    let image = |number: usize| format!("sha256:{number:064x}");
    assert!(site.containers().get(image(7)).is_some() && site.containers().get(image(8)).is_none());
    // A refresh sees them come and go, too.
    {
        let mut state = server.state();
        state.bundles.remove(500);
        state.bundles[20]["creation_date"] = Value::Null;
        state.bundles[42]["csv_name"] = json!("renamed.v1");
    }
    site.snapshot(&server, &[]).done();
    assert_eq!(site.operators(), keys(&server.state().bundles));
}

#[test]
fn rows_that_are_counted_and_not_given_are_said() {
    let mut state = catalog(300, 5);
    state.bundles[3]["creation_date"] = Value::Null;
    state.hook = Some(Box::new(|_, _, request| {
        let filter = request.get("filter");
        filter.contains("creation_date==null").then_some(Fault::Status(400, "no such value"))
    }));
    let server = StandIn::start(state);
    let site = Site::new();
    let said = "operators: the catalog counts 1 rows without a usable creation date and gives 0 of them";
    let report = site.snapshot(&server, &[]).partial(&[said]);
    assert_eq!(report["kinds"]["operator"]["odd"], json!([said]));
    assert_eq!(site.operators().len(), 299);
}

#[test]
fn more_than_a_page_of_rows_in_one_second_in_changing_order_come_to_an_end() {
    let server = StandIn::start(State { shuffles_ties: true, page_cap: 50, ..catalog(700, 400) });
    {
        let mut state = server.state();
        for row in state.bundles.iter_mut().skip(100).take(333) {
            row["creation_date"] = json!(stand_in::date(100));
        }
        for row in state.images.iter_mut().skip(10).take(222) {
            row["creation_date"] = json!(stand_in::date(10));
            row["last_update_date"] = json!("2098-01-01T00:00:00.000000+00:00");
        }
    }
    let site = Site::new();
    site.snapshot(&server, &["--page-size", "50"]).done();
    assert_eq!(site.operators(), keys(&server.state().bundles));
    assert_eq!(site.containers().as_object().unwrap().len(), 400 + 200);
    site.snapshot(&server, &["--page-size", "50"]).done();
    assert_eq!(site.operators(), keys(&server.state().bundles));
}

#[test]
fn a_server_that_sorts_by_one_key_is_asked_for_one() {
    let server = StandIn::start(State { one_sort_key: true, ..catalog(900, 100) });
    let site = Site::new();
    site.snapshot(&server, &["--page-size", "100"]).done();
    assert_eq!(site.operators(), keys(&server.state().bundles));
    // Each of the first requests finds out for itself.
    let refused = server.take_log().iter().filter(|request| request.get("sort_by").contains(',')).count();
    assert!(refused <= 12, "{refused}");
}

#[test]
fn an_interrupted_sweep_goes_on_with_what_is_left() {
    let server = StandIn::start(catalog(6000, 5));
    let site = Site::new();
    let sweeps = |server: &StandIn| {
        let ids = |request: &&stand_in::Request| request.is_sweep() && !request.is_images();
        server.take_log().iter().filter(ids).filter(|request| request.get("page_size") != "1").count()
    };
    site.snapshot(&server, &["--page-size", "50", "--kind", "operators"]).done();
    let whole = sweeps(&server);
    // From the hundredth request for `_id`s on, the next time.
    let mut seen = 0;
    server.state().hook = Some(Box::new(move |_, _, request| {
        seen += usize::from(request.is_sweep() && request.get("page_size") != "1");
        (seen > 100).then_some(Fault::Status(500, "gone"))
    }));
    let args = ["--page-size", "50", "--kind", "operators", "--retries", "0"];
    site.snapshot(&server, &args).failed(1, &["500"]);
    server.state().hook = None;
    server.take_log();
    let report = site.snapshot(&server, &args).json();
    assert_eq!(report["resumed"], true);
    let rest = sweeps(&server);
    assert!(rest + 50 < whole, "{rest} requests for the rest of {whole}");
    assert_eq!(site.operators(), keys(&server.state().bundles));
}

#[test]
fn the_newest_of_what_there_is_stands_in_for_a_catalog_that_cannot_be_read() {
    let server = StandIn::start(State { date: Some("Wed, 05 Jan 2022 00:00:00 GMT".into()), ..catalog(30, 5) });
    let site = Site::new();
    site.snapshot(&server, &[]).done();
    std::fs::rename(site.path("catalog.db"), site.path("image.db")).unwrap();
    server.state().date = None;
    server.state().bundles.push(stand_in::bundle(500));
    std::fs::create_dir(site.path("out")).unwrap();
    let refresh = |more: &[&str], up: bool| {
        let (api, charts) = if up {
            (server.api(), server.charts())
        } else {
            ("http://127.0.0.1:1".into(), "http://127.0.0.1:1/i".into())
        };
        let args = ["refresh", "--fallback", "--retries", "0", "--db", "image.db", "--dump-dir", "out", "--json"];
        site.run(&[&args[..], &["--api", &api, "--charts", &charts], more].concat())
    };
    let pages = || std::fs::read(site.path("out/data/operators/operator_catalog_page_0_500.db")).unwrap();
    // Nothing was dumped before: that of the image.
    let run = refresh(&[], false);
    assert_eq!(run.0.status.code(), Some(3), "{}", run.stderr());
    assert!(run.stderr().contains("dumping the snapshot of 2022-01-"), "{}", run.stderr());
    assert!(run.stderr().contains("days old"), "{}", run.stderr());
    let of_the_image = pages();
    // A refresh left a newer one, with and without its snapshot beside it.
    for (more, said) in [(&[][..], "keeping the snapshot of"), (&["--no-db"], "keeping the tree of")] {
        refresh(more, true).done();
        let newer = pages();
        assert!(newer != of_the_image);
        let run = refresh(more, false);
        assert_eq!(run.0.status.code(), Some(3), "{}", run.stderr());
        assert!(run.stderr().contains(said) && run.stderr().contains("0 h old"), "{}", run.stderr());
        assert!(pages() == newer, "{more:?}");
    }
}

#[test]
fn what_a_failed_refresh_fetched_is_kept_for_the_next() {
    let server = StandIn::start(catalog(2000, 50));
    let site = Site::new();
    site.snapshot(&server, &["--page-size", "50"]).done();
    std::fs::create_dir(site.path("out")).unwrap();
    let (api, charts) = (server.api(), server.charts());
    let args = ["refresh", "--retries", "0", "--page-size", "50", "--parallel", "1", "--full", "--dump-dir", "out"];
    let refresh = || site.run(&[&args[..], &["--db", "catalog.db", "--api", &api, "--charts", &charts]].concat());
    server.take_log();
    refresh().done();
    let whole = server.take_log().len();
    std::fs::remove_dir_all(site.path("out")).unwrap();
    std::fs::create_dir(site.path("out")).unwrap();
    server.state().hook = Some(Box::new(|_, number, _| (number >= 40).then_some(Fault::Status(500, "gone"))));
    refresh().failed(1, &["500", "out is as it was"]);
    assert!(site.path("out/.haversack-refresh").is_dir() && !site.path("out/data").exists());
    server.state().hook = None;
    server.take_log();
    let run = refresh().done();
    assert!(run.stderr().contains("Went on with what an earlier run had fetched"), "{}", run.stderr());
    let rest = server.take_log().len();
    assert!(rest + 20 < whole, "{rest} requests after 40 of {whole}");
    assert!(!site.path("out/.haversack-refresh").exists());
}

#[test]
fn questions_are_taken_as_people_write_them() {
    let server = StandIn::start(catalog(3, 2));
    let site = Site::new();
    site.snapshot(&server, &[]).done();
    for args in [
        &["operator", "op1-operator.v1.0.0", "--ocp-version", "4.11.3"][..],
        &["operator", "op1-operator.v1.0.0", "--ocp-version", "v4.11"],
        &["container", "docker://registry.connect.redhat.com/acme/app0:0"],
        &["container", "https://registry.connect.redhat.com/acme/app1:0"],
    ] {
        site.run(&[&["catalog", "check"], args].concat()).done();
    }
    for args in [
        &["container", "sha256:12"][..],
        &["container", ""],
        &["container", "nginx"],
        // A repository without its registry.
        &["container", "ubi9/ubi:latest"],
        &["operator", "op1-operator.v1.0.0", "--ocp-version", "latest"],
        &["operator", "op1-operator.v1.0.0", "--ocp-version", ""],
        &["chart", "db", "1.0.0", "--kube-version", "nonsense"],
    ] {
        let run = site.run(&[&["catalog", "check"], args].concat());
        assert_eq!(run.0.status.code(), Some(2), "{args:?}: {}", run.stderr());
    }
    // A no says what is certified and like it.
    for (args, near) in [
        (&["operator", "op1-operator.v1.0.0", "--ocp-version", "4.16"][..], "op1-operator.v1.0.0 for OpenShift 4.11"),
        (&["operator", "op1-operator.v2.0.0"], "op1-operator.v1.0.0 for OpenShift 4.11"),
        (&["container", "registry.connect.redhat.com/acme/app1:7"], "registry.connect.redhat.com/acme/app1:0"),
        (&["chart", "db", "v1.0.0"], "db 1.0.0, db 1.1.0"),
    ] {
        let run = site.run(&[&["catalog", "check"], args].concat());
        assert_eq!(run.0.status.code(), Some(1), "{args:?}: {}", run.stderr());
        assert!(
            run.stdout().starts_with(&format!("not certified\nsimilar and certified: {near}\nsnapshot: ")),
            "{}",
            run.stdout()
        );
    }
    // An import has not been read in full at any time, and is not from 1970.
    site.run(&["catalog", "dump", "tree"]).done();
    site.run(&["catalog", "import", "tree", "--db", "imported.db"]).done();
    let text = site.run(&["catalog", "info", "--db", "imported.db"]).done().stdout();
    assert!(text.contains("  imported; written 20") && !text.contains("1970"), "{text}");
    // A clock that was wrong is said to have been.
    server.state().date = Some("Wed, 05 Jan 2095 00:00:00 GMT".into());
    let site = Site::new();
    site.snapshot(&server, &["--kind", "operators"]).done();
    let text = site.run(&["catalog", "info"]).done().stdout();
    assert!(text.contains("h in the future by this host's clock"), "{text}");
}
