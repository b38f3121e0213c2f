//! The tree that certsuite reads, written and read.

use serde_json::json;

use crate::stand_in::{self, Fault, StandIn};
use crate::{Run, Site, catalog};

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
generated: '2026-01-01T00:00:00Z'
"
    .into();
    state.unpublished = Some("entries: {u: [{name: hidden, version: 2.0.0}]}\ngenerated: x\n".into());
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
    assert!(page.contains("op40-operator"), "the snapshot of the image is older");
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
    std::fs::write(site.path("t/data/helm/helm.db"), "entries: {}\ngenerated: '2022-05-09T00:00:00Z'\n").unwrap();
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
    for (args, expected) in [
        (&["operator", "c.v1", "--ocp-version", "4.10"][..], 0),
        (&["operator", "b.v1", "--ocp-version", "4.99"], 0),
        // It was passed over, and is not the name of a CSV.
        (&["operator", "dotless"], 2),
        (&["container", "quay.io/a/b:1"], 0),
        (&["container", "quay.io/c"], 1),
        (&["container", &digest("1")], 0),
        (&["container", &digest("2")], 0),
    ] {
        let status = site.run(&[&["catalog", "check"], args].concat()).0.status.code();
        assert_eq!(status, Some(expected), "{args:?}");
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
