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
