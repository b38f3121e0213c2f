//! The same with rows that the real catalog gave, and answers that oct gave.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::stand_in::{StandIn, State};
use crate::{Site, catalog, keys, real_data, unpacked};

#[test]
#[ignore = "needs HAVERSACK_REAL_DATA"]
fn every_recorded_answer_of_octs_own_checker_is_given() {
    let tree = unpacked("oct-tree.tar.gz");
    let site = Site::new();
    let tree = tree.path().to_str().unwrap();
    site.run(&["catalog", "import", tree, "--db", "catalog.db"]).done();
    let questions = real_data().join("catalog/oct-tree-answers.jsonl");
    let run = site.run(&["catalog", "check", "--batch", questions.to_str().unwrap(), "--db", "catalog.db"]);
    // Some are not asked as people would have to.
    assert_eq!(run.0.status.code(), Some(3));
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
    let mut rows = BTreeMap::new();
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
        let rows: BTreeMap<String, Value> = rows.map(|row| (row["_id"].as_str().unwrap().to_owned(), row)).collect();
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

/// The answers of Masterminds/semver under the unmodified checker. By a fault of its own it refuses `A||B - C` without
/// blanks, which by its rules has an answer.
#[test]
#[ignore = "needs HAVERSACK_REAL_DATA"]
fn constraints_are_taken_refused_and_answered_as_the_checker_does() {
    use haversack::catalog::constraint::{Constraint, version};
    #[derive(serde::Deserialize)]
    struct Asked {
        version: String,
        constraint: String,
        answer: serde_json::Value,
    }
    let text = std::fs::read_to_string(real_data().join("catalog/constraints.jsonl")).unwrap();
    let mut differs = Vec::new();
    let mut count = 0;
    for line in text.lines() {
        let Asked { version: asked, constraint, answer } = serde_json::from_str(line).unwrap();
        // The checker takes no version for "whatever version": it only has to read the constraint.
        let own = match (constraint.parse::<Constraint>(), version(&asked)) {
            (Ok(constraint), Ok(version)) => serde_json::Value::Bool(constraint.allows(&version)),
            _ => "refused".into(),
        };
        let is_fault_of_the_checker = constraint.contains("||") && constraint.contains(" - ");
        if own != answer && !is_fault_of_the_checker {
            differs.push(format!("{asked} {constraint:?}: {answer}, and here {own}"));
        }
        count += 1;
    }
    assert!(count > 2_900, "{count}");
    assert!(differs.is_empty(), "{} of {count} differ:\n{}", differs.len(), differs.join("\n"));
}
