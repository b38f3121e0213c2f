//! Questions to a snapshot.

use serde_json::{Value, json};

use crate::stand_in::{self, StandIn};
use crate::{Site, catalog};

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
}

#[test]
fn a_line_that_is_no_question_is_named_and_the_others_are_answered() {
    let server = StandIn::start(catalog(1, 1));
    let site = Site::new();
    site.snapshot(&server, &[]).done();
    for (line, why) in [
        (r#"{"kind":"pod","args":{}}"#, "unknown variant `pod`"),
        (r#"{"kind":"operator","args":{"csv":"op0-operator.v1.0.0"}}"#, "unknown field `csv`"),
        (r#"{"kind":"operator""#, "EOF"),
        ("[]", "invalid"),
    ] {
        let good = r#"{"kind":"operator","args":{"csv_name":"op0-operator.v1.0.0","ocp_version":"4.10"}}"#;
        std::fs::write(site.path("questions"), format!("{line}\n{good}\n")).unwrap();
        let run = site.run(&["catalog", "check", "--batch", "questions"]);
        assert_eq!(run.0.status.code(), Some(3), "{line}");
        assert!(run.stderr().contains("questions: line 1: not a question"), "{}", run.stderr());
        let answers: Vec<Value> =
            run.stdout().lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect();
        assert_eq!(answers.len(), 2, "{line}");
        assert!(answers[0]["error"].as_str().is_some_and(|error| error.contains(why)), "{}", answers[0]);
        assert_eq!(answers[0].get("certified"), None, "{line}");
        assert_eq!(answers[1]["certified"], true, "{line}");
    }
}

#[test]
fn a_line_that_asks_nothing_is_refused_by_the_field_that_is_empty() {
    let server = StandIn::start(catalog(1, 1));
    let site = Site::new();
    site.snapshot(&server, &[]).done();
    for (line, why) in [
        ("{}", "not a question: missing field `kind`"),
        (r#"{"kind":"operator","args":{}}"#, "nothing is asked: `csv_name` is empty"),
        (
            r#"{"kind":"operator","args":{"csv_name":" ","ocp_version":"4.16"}}"#,
            "nothing is asked: `csv_name` is empty",
        ),
        (r#"{"kind":"container","args":{}}"#, "nothing is asked: `repository` is empty"),
        (r#"{"kind":"helm","args":{"version":"1"}}"#, "nothing is asked: `chart` is empty"),
        (r#"{"kind":"helm","args":{"chart":"db"}}"#, "nothing is asked: `version` is empty"),
        (r#"{"kind":"kube_constraint","args":{"constraint":"*"}}"#, "nothing is asked: `version` is empty"),
    ] {
        std::fs::write(site.path("questions"), format!("\n   \n{line}\n")).unwrap();
        let run = site.run(&["catalog", "check", "--batch", "questions", "-q"]);
        assert_eq!(run.0.status.code(), Some(3), "{line}");
        let answer: Value = serde_json::from_str(&run.stdout()).unwrap();
        let error = answer["error"].as_str().unwrap();
        assert!(error.starts_with(why), "{line}: {answer}");
        // Certsuite would ask all the same.
        let certified = answer.get("certified").cloned();
        assert_eq!(certified, (line != "{}").then_some(Value::Bool(false)), "{line}: {answer}");
        let warned = format!("warning: questions: line 3: {error}\n");
        assert!(run.stderr().starts_with(&warned), "{line}: {}", run.stderr());
    }
}

#[test]
fn a_no_of_a_batch_to_what_check_refuses_says_why_it_means_nothing() {
    let server = StandIn::start(catalog(3, 2));
    let site = Site::new();
    site.snapshot(&server, &[]).done();
    let operator = |csv_name: &str, ocp_version: &str| json!({ "kind": "operator", "args": { "csv_name": csv_name, "ocp_version": ocp_version } });
    let container = |args: Value| json!({ "kind": "container", "args": args });
    let connect = "registry.connect.redhat.com";
    for (question, certified, error) in [
        (operator("op1-operator.v1.0.0", "4.11"), Some(true), None),
        (
            operator("op1-operator.v1.0.0", "4.11.33"),
            Some(false),
            Some("operators are certified for MAJOR.MINOR: ask for 4.11 instead of 4.11.33; it is certified for that"),
        ),
        (operator("op1-operator.v1.0.0", "4.12.33"), Some(false), None),
        (
            operator("op1-operator.v1.0.0", "foo"),
            None,
            Some("not a version of OpenShift: \"foo\"; expected MAJOR.MINOR, such as 4.16"),
        ),
        (
            operator("op1-operator", "4.11"),
            Some(false),
            Some(
                "op1-operator: no version is named, which is part of the name of a CSV; in the snapshot: op1-operator.v1.0.0",
            ),
        ),
        (
            container(json!({ "registry": connect, "repository": "acme/app1" })),
            Some(false),
            Some(
                "registry.connect.redhat.com/acme/app1: no tag is named, and none is `latest`; in the snapshot: \
                 registry.connect.redhat.com/acme/app1:0",
            ),
        ),
        (
            container(json!({ "repository": "acme/app1", "tag": "0" })),
            Some(false),
            Some("\"acme/app1:0\": expected REGISTRY/REPOSITORY[:TAG][@DIGEST], or a digest"),
        ),
        (
            container(json!({ "digest": "sha256:00" })),
            Some(false),
            Some("sha256:00: `sha256:00`: expected 64 lower-case hexadecimal digits after the colon"),
        ),
        (
            json!({ "kind": "helm", "args": { "chart": "db", "version": "1.0.0", "kube_version": "foo" } }),
            None,
            Some("not a version of Kubernetes: \"foo\"; expected one such as v1.29.4"),
        ),
    ] {
        std::fs::write(site.path("questions"), format!("{question}\n")).unwrap();
        let run = site.run(&["catalog", "check", "--batch", "questions"]);
        let mut answer = question.clone();
        if let Some(certified) = certified {
            answer["certified"] = certified.into();
        }
        if let Some(error) = error {
            answer["error"] = error.into();
        }
        let answered: Value = serde_json::from_str(&run.stdout()).unwrap();
        let status = if error.is_some() { 3 } else { 0 };
        assert_eq!((run.0.status.code(), answered), (Some(status), answer));
    }
}

#[test]
fn a_digest_of_another_name_is_certified_under_its_own() {
    let server = StandIn::start(catalog(1, 2));
    let site = Site::new();
    site.snapshot(&server, &[]).done();
    let digest = site.containers().as_object().unwrap().keys().next().unwrap().clone();
    let check = |image: &str| {
        let run = site.run(&["catalog", "check", "container", image]);
        let answer = run.stdout();
        // How old the snapshot is depends on the day.
        (run.0.status.code(), answer.rsplit_once("snapshot: ").unwrap().0.to_owned())
    };
    let (status, plain) = check(&digest);
    let name = plain.lines().last().unwrap().trim().replacen(": ", ":", 1);
    let repository = name.split_once(':').unwrap().0.to_owned();
    let rest = plain.strip_prefix("certified\n").unwrap().to_owned();
    assert!(status == Some(0) && rest.contains(&format!("  its digests: {digest}")), "{plain}");
    for own in [format!("{repository}@{digest}"), format!("{name}@{digest}")] {
        assert_eq!(check(&own), (Some(0), plain.clone()), "{own}");
    }
    for other in ["mirror.local:5000/x/y".to_owned(), format!("{repository}:other"), format!("{repository}2")] {
        let said = format!(
            "certified by its digest, but not under the name {other}, which the catalog does not have for it\n{rest}"
        );
        assert_eq!(check(&format!("{other}@{digest}")), (Some(0), said), "{other}");
    }
    let nobody = format!("{repository}@sha256:{}", "f".repeat(64));
    let no =
        format!("not certified\nreason: the snapshot has no image with this digest\nsimilar and certified: {name}\n");
    assert_eq!(check(&nobody), (Some(1), no));
}

#[test]
fn what_does_not_say_which_is_answered_with_what_there_is() {
    let server = StandIn::start(catalog(3, 2));
    let site = Site::new();
    site.snapshot(&server, &[]).done();
    let package = server.state().bundles[1]["package"].as_str().unwrap().to_owned();
    for (args, status, said) in [
        (
            &["container", "registry.connect.redhat.com/acme/app1"][..],
            2,
            "error: registry.connect.redhat.com/acme/app1: no tag is named, and none is `latest`; in the snapshot: \
             registry.connect.redhat.com/acme/app1:0\nhint: name one of them in full\n",
        ),
        (
            &["operator", "op1-operator"],
            2,
            "error: op1-operator: no version is named, which is part of the name of a CSV; in the snapshot: op1-operator.v1.0.0\n\
             hint: name one of them in full\n",
        ),
        (
            &["operator", &package, "--ocp-version", "4.11"],
            2,
            &format!(
                "error: {package}: no version is named, which is part of the name of a CSV; in the snapshot: op1-operator.v1.0.0\n\
                 hint: name one of them in full\n"
            ),
        ),
        (
            &["operator", "nobody"],
            2,
            "error: nobody: expected the name of a CSV, NAME.VERSION, such as acme-db-operator.v1.0.0; there is no package of this \
             name, either\nhint: `oc get csv` shows such names; `haversack catalog search WORD` finds those in the snapshot\n",
        ),
        (&["operator", "nobody.v1"], 1, ""),
        (&["container", "quay.io/nobody/nothing"], 1, ""),
    ] {
        let run = site.run(&[&["catalog", "check"], args].concat());
        assert_eq!((run.0.status.code(), run.stderr().as_str()), (Some(status), said), "{args:?}");
        let nothing = "not certified\nsimilar and certified: nothing; `haversack catalog search WORD` looks for words of names\nsnapshot: ";
        let expected = if status == 1 { nothing } else { "" };
        assert!(run.stdout().starts_with(expected) && (status == 1 || run.stdout().is_empty()), "{}", run.stdout());
    }
}

#[test]
fn one_is_no_and_two_is_no_answer_for_whatever_answers() {
    let server = StandIn::start(catalog(1, 1));
    let site = Site::new();
    site.snapshot(&server, &["--kind", "operators"]).done();
    for (args, status) in [
        (&["search", "op0"][..], 0),
        (&["search", "nothing"], 1),
        (&["search", "op0", "--db", "gone.db"], 2),
        (&["check", "operator", "nothing.v1"], 1),
        (&["check", "operator", "nothing.v1", "--db", "gone.db"], 2),
        (&["check", "chart", "db", "1.0.0"], 2),
        (&["diff", "catalog.db", "catalog.db", "--exit-code"], 0),
        (&["diff", "catalog.db", "gone.db", "--exit-code"], 2),
        (&["diff", "catalog.db", "gone.db"], 2),
    ] {
        let run = site.run(&[&["catalog"], args].concat());
        assert_eq!(run.0.status.code(), Some(status), "{args:?}: {}", run.stderr());
    }
}

#[test]
fn what_search_leaves_out_is_counted_and_what_one_snapshot_lacks_is_not_compared() {
    let server = StandIn::start(catalog(3, 1));
    let site = Site::new();
    site.snapshot(&server, &["--kind", "operators"]).done();
    std::fs::copy(site.path("catalog.db"), site.path("old.db")).unwrap();
    site.snapshot(&server, &[]).done();
    let run = site.run(&["catalog", "search", "operator", "--limit", "2"]).done();
    assert_eq!(run.stdout(), "operator\top0-operator.v1.0.0\noperator\top1-operator.v1.0.0\n");
    assert_eq!(run.stderr(), "1 name more; `--limit` shows more than 2\n");
    assert_eq!(site.run(&["catalog", "search", "operator", "--limit", "3"]).done().stderr(), "");
    let run = site.run(&["catalog", "search", "operator", "--limit", "1", "--json"]).done();
    let found = json!({ "hits": [{ "kind": "operator", "name": "op0-operator.v1.0.0" }], "more": 2 });
    assert_eq!(run.json(), found);
    for snapshots in [["old.db", "catalog.db"], ["catalog.db", "old.db"]] {
        let run = site.run(&["catalog", "diff", snapshots[0], snapshots[1], "--exit-code"]);
        let said = "warning: old.db has no containers: not compared\nwarning: old.db has no charts: not compared\n";
        let answer = (run.0.status.code(), run.stdout(), run.stderr());
        assert_eq!(answer, (Some(3), "0 added, 0 removed, 0 changed\n".to_owned(), said.to_owned()));
    }
    let run = site.run(&["catalog", "diff", "old.db", "catalog.db", "--json", "-q"]);
    let lacks = |kind: &str| json!({ "snapshot": "old.db", "kind": kind });
    let expected =
        json!({ "added": [], "removed": [], "changed": [], "not_compared": [lacks("container"), lacks("chart")] });
    assert_eq!(serde_json::from_str::<Value>(&run.stdout()).unwrap(), expected);
}

#[test]
fn what_a_snapshot_holds_is_said_in_words_of_the_catalog() {
    let server = StandIn::start(catalog(10, 2));
    let site = Site::new();
    let take = |more: &[&str]| {
        let (api, charts) = (server.api(), server.charts());
        let args = ["catalog", "snapshot", "--api", &api, "--charts", &charts, "-q"];
        let text = site.run(&[&args[..], more].concat()).done().stdout();
        text.split("taken: ").next().unwrap().to_owned()
    };
    let all = "operators: 10 bundles (all fetched)\ncontainers: 2 images (all fetched)\ncharts: 2 chart versions (all fetched)\n";
    assert_eq!(take(&[]), all);
    server.state().bundles.remove(0);
    let refreshed = "operators: 9 bundles (brought up to date, 1 removed)\n\
                     containers: 2 images (brought up to date, 0 removed)\ncharts: 2 chart versions (unchanged)\n";
    assert_eq!(take(&[]), refreshed);
    let info = site.run(&["catalog", "info"]).done().stdout();
    let lines: Vec<&str> = info.lines().filter(|line| !line.starts_with(' ')).skip(3).collect();
    let held = [
        "operators: 9 bundles, 9 pairs of CSV and OpenShift version",
        "containers: 2 images, 3 digests",
        "charts: 2 chart versions",
    ];
    assert_eq!(lines, held);
    assert!(info.contains(", all of it last fetched 20"), "{info}");
    let data = site.run(&["catalog", "dump", "tree"]).done().stdout();
    assert_eq!(data, "tree/data: 9 operator bundles, 3 image digests, 2 chart versions\n");
    let imported = site.run(&["catalog", "import", "tree", "--db", "again.db"]).done().stdout();
    let line = "again.db: 9 operator bundles, 3 image digests, 2 chart versions\n";
    assert!(imported.starts_with(line), "{imported}");
}

#[test]
fn names_are_found_in_the_order_of_their_versions() {
    let server = StandIn::start(catalog(97 * 11, 1));
    let site = Site::new();
    site.snapshot(&server, &["--kind", "operators"]).done();
    let names: Vec<String> = (0..11).map(|minor| format!("operator\top96-operator.v1.{minor}.0\n")).collect();
    assert_eq!(site.run(&["catalog", "search", "op96 operator"]).done().stdout(), names.concat());
    // The first of them, not the first that some other order has.
    assert_eq!(site.run(&["catalog", "search", "op96 operator", "--limit", "3"]).done().stdout(), names[..3].concat());
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
