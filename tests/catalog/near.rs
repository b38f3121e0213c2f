//! What a no says of names that are nearly those of the catalog.

use std::path::Path;

use serde_json::{Value, json};

use crate::Site;

/// A snapshot of the recorded pages.
fn site() -> Site {
    let (site, pages) = (Site::new(), Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/catalog"));
    site.run(&["catalog", "snapshot", "--from", pages.to_str().unwrap()]).done();
    site
}

#[test]
fn a_no_names_what_differs_by_case_by_a_slip_by_the_registry_or_by_a_part() {
    let site = site();
    let db = "registry.connect.redhat.com/acme/db";
    let first = |tag: &str, others: [&str; 2]| [tag, others[0], others[1]].map(|tag| format!("{db}:{tag}")).join(", ");
    let versions = |version: &str| {
        ["4.18", "4.16", "4.14"].map(|ocp| format!("acme-db-operator.{version} for OpenShift {ocp}")).join(", ")
    };
    let charts = "acme-db 1.0.0, acme-db 1.1.0".to_owned();
    let nothing = "nothing; `haversack catalog search WORD` looks for words of names".to_owned();
    for (args, near) in [
        // The tag that was asked for is the first where it is there.
        (&["container", "registry.conect.redhat.com/acme/db:1.0.0"][..], first("1.0.0", ["latest", "1.1.0"])),
        (&["container", "quay.io/acme/db:1.0.0"], first("1.0.0", ["latest", "1.1.0"])),
        (&["container", "quay.io/ACME/DB:9"], first("latest", ["1.1.0", "1.0.0"])),
        (&["container", "quay.io/acme/bd"], first("latest", ["1.1.0", "1.0.0"])),
        (&["container", "registry.connect.redhat.com/acme/dbb:1.1.0"], first("1.1.0", ["latest", "1.0.0"])),
        (
            &["container", "registry.connect.redhat.com/server:1.1.0"],
            [
                "registry.connect.redhat.com/brightcache/server:1.1.0",
                "registry.connect.redhat.com/brightcache/server:latest",
                "registry.connect.redhat.com/brightcache/server:1.0.0",
            ]
            .join(", "),
        ),
        // Of several repositories, an image each.
        (&["container", "quay.io/acme:1.1.0"], format!("{db}:1.1.0, {db}-operator:1.1.0")),
        (&["container", "quay.io/elsewhere/thing:1"], nothing.clone()),
        (&["operator", "Acme-DB-Operator.v1.0.0"], versions("v1.0.0")),
        (&["operator", "acme-db-operatr.v1.1.0"], versions("v1.1.0")),
        (&["operator", "acme-db-operator-v1.1.0"], [versions("v1.1.0"), versions("v1.0.0")].join(", ")),
        // By the name of its package.
        (&["operator", "acme-db.v1.1.0"], versions("v1.1.0")),
        (&["operator", "nobody.v1.1.0"], nothing.clone()),
        (&["chart", "ACME-DB", "1.1.0"], charts.clone()),
        (&["chart", "acme-bd", "1.1.0"], charts.clone()),
        (&["chart", "acme", "1.1.0"], charts),
        (&["chart", "nobody", "1.1.0"], nothing),
    ] {
        let run = site.run(&[&["catalog", "check"], args].concat());
        // How old the snapshot is depends on the day.
        let answer = run.stdout().rsplit_once("snapshot: ").unwrap().0.to_owned();
        let expected = format!("not certified\nsimilar and certified: {near}\n");
        assert_eq!((run.0.status.code(), answer), (Some(1), expected), "{args:?}");
    }
    let run = site.run(&["catalog", "check", "container", "quay.io/acme/db:1.0.0", "--json"]);
    let near = serde_json::from_str::<Value>(&run.stdout()).unwrap()["near"].clone();
    assert_eq!(near, json!([format!("{db}:1.0.0"), format!("{db}:latest"), format!("{db}:1.1.0")]));
}

#[test]
fn what_lacks_its_registry_or_its_version_is_answered_with_what_it_may_be() {
    let site = site();
    let db = "registry.connect.redhat.com/acme/db";
    let hint = "hint: name one of them in full, if you mean it\n";
    for (args, why) in [
        (
            &["container", "ACME/db:1.0.0"][..],
            format!(
                "\"ACME/db:1.0.0\": expected REGISTRY/REPOSITORY[:TAG][@DIGEST], or a digest; in the snapshot: {db}:1.0.0, \
                 {db}:latest, {db}:1.1.0"
            ),
        ),
        (
            &["operator", "acme-db-operatr"],
            "acme-db-operatr: expected the name of a CSV, NAME.VERSION, such as acme-db-operator.v1.0.0; there is no package of this \
             name, either; in the snapshot: acme-db-operator.v1.1.0 for OpenShift 4.18, acme-db-operator.v1.1.0 for OpenShift 4.16, \
             acme-db-operator.v1.1.0 for OpenShift 4.14, acme-db-operator.v1.0.0 for OpenShift 4.18, acme-db-operator.v1.0.0 for \
             OpenShift 4.16, acme-db-operator.v1.0.0 for OpenShift 4.14"
                .to_owned(),
        ),
    ] {
        let run = site.run(&[&["catalog", "check"], args].concat());
        let said = (run.0.status.code(), run.stdout(), run.stderr());
        assert_eq!(said, (Some(2), String::new(), format!("error: {why}\n{hint}")), "{args:?}");
    }
}
