//! Hints that lead on: who does what one says is not refused for something else next.

use crate::said;

/// What is said of a value that an argument does not take.
fn refused(value: &str, place: &str, why: &str) -> (Option<i32>, String, String) {
    let text =
        format!("error: invalid value '{value}' for '<{place}>': {why}\n\nFor more information, try '--help'.\n");
    (Some(2), String::new(), text)
}

#[test]
fn what_is_missing_of_a_repository_is_said_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let registry = |host: &str| {
        format!(
            "the repository is missing; write docker://{host}/REPOSITORY (the tags of one repository are listed, not the \
             repositories of a registry)"
        )
    };
    let short = |name: &str, such: &str| {
        format!("`{name}`: short names are not guessed; write docker://HOST/REPOSITORY, such as docker://{such}")
    };
    for (value, why) in [
        ("docker://127.0.0.1:5000", registry("127.0.0.1:5000")),
        ("docker://127.0.0.1:5000/", registry("127.0.0.1:5000")),
        ("https://bastion:5000", registry("bastion:5000")),
        ("bastion:5000", registry("bastion:5000")),
        ("quay.io", registry("quay.io")),
        ("localhost", registry("localhost")),
        ("docker://alpine:3.20", short("alpine:3.20", "docker.io/library/alpine")),
        ("alpine", short("alpine", "docker.io/library/alpine")),
        ("grafana/grafana:11", short("grafana/grafana:11", "docker.io/grafana/grafana")),
        ("quay.io/podman/stable:v5", "write docker://quay.io/podman/stable".to_owned()),
        ("https://quay.io/podman/stable", "write docker://quay.io/podman/stable".to_owned()),
        (
            "docker://quay.io/podman/stable:v5",
            "tags are those of a repository; write docker://quay.io/podman/stable".to_owned(),
        ),
        ("oci:store", "expected a repository of a registry, docker://HOST/REPOSITORY".to_owned()),
    ] {
        assert_eq!(said(dir.path(), &["list-tags", value]), refused(value, "REPOSITORY", &why));
    }
}

#[test]
fn an_image_without_a_repository_is_not_completed_with_a_registry_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("store")).unwrap();
    let write = |remote: &str| format!("the transport is missing; for an image in a registry, write docker://{remote}");
    let short = |remote: &str| format!("the transport is missing; write docker://{remote}");
    for (args, value, place, why) in [
        (&["inspect"][..], "bastion:5000", "REF", write("bastion:5000/REPOSITORY:TAG")),
        (
            &["inspect"],
            "quay.io",
            "REF",
            "the transport is missing; write oci:quay.io for a directory, or docker://quay.io/REPOSITORY:TAG for an image in a registry"
                .to_owned(),
        ),
        (
            &["inspect"],
            "docker://bastion:5000",
            "REF",
            "`bastion:5000`: the repository is missing; write docker://bastion:5000/REPOSITORY:TAG".to_owned(),
        ),
        (
            &["inspect"],
            "https://bastion:5000/",
            "REF",
            "an image in a registry has no scheme of the web; write docker://bastion:5000/REPOSITORY:TAG".to_owned(),
        ),
        // What is deleted is in a registry, whatever lies here.
        (&["delete"], "store", "REF", short("docker.io/library/store")),
        (&["delete"], "quay.io/a/b:1", "REF", short("quay.io/a/b:1")),
        (&["delete"], "oci:store", "REF", "expected an image in a registry, docker://HOST/REPOSITORY:TAG".to_owned()),
    ] {
        assert_eq!(said(dir.path(), &[args, &[value]].concat()), refused(value, place, &why));
    }
}

#[test]
fn a_directory_that_is_missing_is_named_and_not_a_file_that_nobody_spoke_of() {
    let dir = tempfile::tempdir().unwrap();
    let gone = dir.path().join("gone");
    let (gone, db) = (gone.display(), gone.join("x.db").display().to_string());
    let expected = format!(
        "error: cannot find {gone}\n  because: No such file or directory (os error 2)\nhint: check that {gone} and the directories \
         above it exist\n"
    );
    for args in [&["catalog", "snapshot", "--offline", "--db", &db][..], &["catalog", "import", ".", "--db", &db]] {
        assert_eq!(said(dir.path(), args), (Some(1), String::new(), expected.clone()), "{args:?}");
    }
}
