//! What is taken of an index, and what is said of it.

use super::*;

fn chart(key: &str, name: &str, version: &str) -> Chart {
    Chart { key: key.into(), name: name.into(), version: version.into(), ..Chart::default() }
}

#[test]
fn scalars_are_taken_as_they_are_written() {
    let index = "
apiVersion: v1
entries:
  acme-db:
  - name: db
    version: 1.0
    kubeVersion: '>=1.20'
    annotations: {charts.openshift.io/providerType: partner, other: 1}
    urls: [https://acme.example/db.tgz]
  - {name: db, version: 0x10, kubeVersion: null}
  - {name: db, version: v1, kubeversion: 1.30, maintainers: [{name: x}]}
  - {name: &n db2, version: \"1\"}
  - {name: *n, version: '~'}
  empty:
generated: '2026-08-20T00:00:00Z'
";
    let first = Chart {
        kube_version: ">=1.20".into(),
        provider_type: "partner".into(),
        urls: vec!["https://acme.example/db.tgz".into()],
        ..chart("acme-db", "db", "1.0")
    };
    let charts = vec![
        first,
        chart("acme-db", "db", "0x10"),
        chart("acme-db", "db", "v1"),
        chart("acme-db", "db2", "1"),
        chart("acme-db", "db2", "~"),
    ];
    assert_eq!(parse(index.as_bytes()).unwrap(), Index { charts, odd: Vec::new(), complete: true });
    assert_eq!(parse(b"").unwrap(), Index::default());
    assert_eq!(parse(b"# nothing\n").unwrap(), Index::default());
}

#[test]
fn what_is_odd_costs_its_entry_and_is_named() {
    // The entry, what is said of it, and whether it is taken.
    let cases = [
        ("{name: odd}", "version 2 of `a` is passed over: it has no version", false),
        ("{name: odd, version: null}", "version 2 of `a` is passed over: it has no version", false),
        ("{version: '1'}", "version 2 of `a` is passed over: it has no name", false),
        ("{name: '', version: ''}", "passed over: it has no name, it has no version", false),
        ("{name: {a: b}, version: [1]}", "passed over: its name is no text, its version is no text", false),
        ("{name: odd, version: 1, kubeVersion: ['>=1.2']}", "passed over: its kubeVersion is no text", false),
        ("{name: odd, version: 1, version: 2}", "passed over: its version stands there twice", false),
        ("{<<: {name: odd}, version: 1}", "passed over: it takes fields from elsewhere", false),
        ("{name: odd, version: *nowhere}", "passed over: its version is no text", false),
        ("odd", "version 2 of `a` is no mapping; it is passed over", false),
        ("[odd, 1]", "version 2 of `a` is no mapping; it is passed over", false),
        ("*nowhere", "version 2 of `a` is no mapping; it is passed over", false),
        ("{name: odd, version: 1, annotations: {x: {y: z}}}", "of odd 1: its annotation x is no text", true),
        ("{name: odd, version: 1, annotations: [x]}", "of odd 1: its annotations are no mapping", true),
        ("{name: odd, version: 1, urls: https://a}", "of odd 1: its urls are no list", true),
        ("{name: odd, version: 1, urls: [{a: b}]}", "of odd 1: one of its urls is no text", true),
        ("{name: odd, version: 1, digest: {}}", "of odd 1: its digest is no text; the rest is taken", true),
        (
            "{name: odd, version: 1, annotations: {charts.openshift.io/providerType: []}}",
            "of odd 1: its provider type is no text",
            true,
        ),
    ];
    for (entry, said, taken) in cases {
        let text = format!(
            "entries:\n  a:\n  - {{name: one, version: 1}}\n  - {entry}\n  b:\n  - {{name: two, version: 1}}\ngenerated: x\n"
        );
        let index = parse(text.as_bytes()).unwrap_or_else(|error| panic!("{entry}: {error}"));
        let mut charts = vec![chart("a", "one", "1"), chart("b", "two", "1")];
        if taken {
            charts.insert(1, chart("a", "odd", "1"));
        }
        assert_eq!(index.charts, charts, "{entry}");
        assert!(index.complete, "{entry}");
        assert_eq!(index.odd.len(), 1, "{entry}: {:?}", index.odd);
        assert!(index.odd[0].starts_with("line 4: ") && index.odd[0].contains(said), "{entry}: {:?}", index.odd);
    }
}

#[test]
fn what_is_odd_about_keys_and_documents_is_named() {
    let one = "{name: one, version: 1}";
    for (text, said, charts) in [
        (format!("entries:\n  a: [{one}]\n  a: [{one}]\n"), "line 3: `a` stands there twice; both are read", 2),
        (format!("entries:\n  a: [{one}]\nentries:\n  b: [{one}]\n"), "line 3: `entries` stands there twice", 2),
        (format!("entries:\n  a: {one}\n  b: [{one}]\n"), "line 2: `a` is no list of versions", 1),
        (format!("entries:\n  [x]: [{one}]\n  b: [{one}]\n"), "line 2: a key of `entries` is no text", 1),
        (format!("entries:\n  b: [{one}]\n---\nentries: {{}}\n"), "line 3: a second YAML document begins", 1),
    ] {
        let index = parse(text.as_bytes()).unwrap();
        assert_eq!(index.charts.len(), charts, "{text}");
        assert!(index.odd.len() == 1 && index.odd[0].starts_with(said), "{text}: {:?}", index.odd);
    }
    let ended = parse(format!("entries:\n  b: [{one}]\ngenerated: x\n---\n").as_bytes()).unwrap();
    assert_eq!((ended.charts.len(), ended.odd.len()), (1, 0), "an empty document says nothing");
}

#[test]
fn half_of_an_index_is_not_complete() {
    let mut whole = String::from("apiVersion: v1\nentries:\n  a:\n");
    for number in 0..100 {
        whole.push_str(&format!("  - name: n\n    version: 1.{number}\n"));
    }
    whole.push_str("generated: '2026-08-20T00:00:00Z'\n");
    assert!(parse(whole.as_bytes()).unwrap().complete);
    let half = whole.find("  - name: n\n    version: 1.95").unwrap();
    let index = parse(&whole.as_bytes()[..half]).unwrap();
    assert_eq!((index.charts.len(), index.complete), (95, false));
}

#[test]
fn what_is_no_index_is_refused_with_its_place() {
    for (text, said) in [
        ("<html><body>502 Bad Gateway</body></html>", "line 1, column 1: expected a mapping with `entries`"),
        ("[]", "line 1, column 1: expected a mapping with `entries`"),
        ("apiVersion: v1\nentries: some\n", "line 2, column 1: `entries` is no mapping"),
        ("entries: {a: [", "line 1, column 14: "),
    ] {
        let error = parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(said), "{text}: {error}");
    }
    let deep = format!("entries: {}", "[".repeat(100_000));
    assert!(parse(deep.as_bytes()).is_err());
}

#[test]
fn the_odd_are_named_up_to_a_limit_and_counted_beyond() {
    let text = format!("entries:\n  a: [{}]\ngenerated: x\n", "x,".repeat(NAMED + 50));
    let index = parse(text.as_bytes()).unwrap();
    assert_eq!((index.odd.len(), index.odd.last().unwrap().as_str()), (NAMED + 1, "50 more places like these"));
}
