//! Definitions that come with the program: its images are built where there is no checkout.

use std::path::Path;

use serde_json::Value;

use crate::said;

fn built(dir: &Path, args: &[&str]) -> Value {
    let (status, json, talk) = said(dir, &[&["build", "--json"], args].concat());
    assert_eq!(status, Some(0), "{talk}");
    serde_json::from_str(&json).unwrap()
}

#[test]
fn the_catalog_image_is_built_in_an_empty_directory_as_in_a_checkout() {
    let (dir, checkout) = (tempfile::tempdir().unwrap(), Path::new(env!("CARGO_MANIFEST_DIR")));
    let pages = checkout.join("testdata/catalog");
    let (status, _, talk) = said(dir.path(), &["catalog", "snapshot", "--from", pages.to_str().unwrap()]);
    assert_eq!(status, Some(0), "{talk}");
    let digest = |definition: &str| {
        let image = built(dir.path(), &[definition, "--catalog", "catalog.db", "--output", "oci:out"]);
        image[0]["digest"].as_str().unwrap().to_owned()
    };
    let path = checkout.join("images/catalog");
    let expected = digest(path.to_str().unwrap());
    assert_eq!([digest("catalog"), digest("images/catalog")], [expected.clone(), expected]);
    assert_eq!(built(dir.path(), &["bastion", "--output", "oci:out"])[0]["name"], "haversack-bastion");
}

#[test]
fn definitions_are_printed_and_a_directory_of_the_name_with_one_comes_first() {
    let (dir, checkout) = (tempfile::tempdir().unwrap(), Path::new(env!("CARGO_MANIFEST_DIR")));
    for name in ["bastion", "catalog", "driver-toolkit", "kernels"] {
        let text = std::fs::read_to_string(checkout.join("images").join(name).join("image.toml")).unwrap();
        assert_eq!(said(dir.path(), &["build", "--print-definition", name]), (Some(0), text, String::new()));
    }
    std::fs::create_dir(dir.path().join("bastion")).unwrap();
    let own = "name = \"own\"\n[[layers]]\nfiles = [{ dest = \"/f\", text = \"1\" }]\n";
    std::fs::write(dir.path().join("bastion/image.toml"), own).unwrap();
    assert_eq!(said(dir.path(), &["build", "--print-definition", "bastion"]), (Some(0), own.to_owned(), String::new()));
    let own = built(dir.path(), &["bastion", "--output", "oci:out"]);
    // Nothing in it has a date, and none is shown.
    let text = said(dir.path(), &["build", "bastion", "--output", "oci:out"]).1;
    let first = |line: &str| line.split_whitespace().next().map(str::to_owned);
    let shown: Vec<String> = text.lines().filter_map(first).collect();
    assert_eq!(shown, ["oci:out:own:latest", "digest", "sbom", "linux/amd64"], "{text}");
    assert_eq!((&own[0]["name"], &own[0]["created"]), (&Value::from("own"), &Value::Null));
    std::fs::create_dir(dir.path().join("catalog")).unwrap();
    // Without a definition in it, it is something else.
    let text = std::fs::read_to_string(checkout.join("images/catalog/image.toml")).unwrap();
    assert_eq!(said(dir.path(), &["build", "--print-definition", "catalog"]), (Some(0), text, String::new()));
    std::fs::create_dir(dir.path().join("other")).unwrap();
    let (status, _, talk) = said(dir.path(), &["build", "--print-definition", "other"]);
    assert!(status == Some(1) && talk.starts_with("error: cannot open other/image.toml\n"), "{talk}");
    let (status, _, talk) = said(dir.path(), &["build", "katalog", "--output", "oci:out"]);
    let unknown = "error: `katalog`: there is no such directory, and no such definition in the program (bastion, catalog, driver-toolkit, kernels)\n";
    assert_eq!((status, talk.as_str()), (Some(1), unknown));
}

#[test]
fn the_definition_in_the_help_is_one_that_is_built() {
    let dir = tempfile::tempdir().unwrap();
    let help = said(dir.path(), &["build", "--help"]).1;
    let text = help.split_once("docs/formats.md):\n").unwrap().1.split_once("`src` is relative").unwrap().0;
    let base = "docker://registry.access.redhat.com/ubi9/ubi:9.4";
    assert!(text.contains(base), "{text}");
    std::fs::create_dir_all(dir.path().join("own/root")).unwrap();
    std::fs::write(dir.path().join("own/image.toml"), text.replace(base, "scratch")).unwrap();
    for file in ["own/site.conf", "own/root/index.html"] {
        std::fs::write(dir.path().join(file), "x").unwrap();
    }
    let (status, explained, talk) = said(dir.path(), &["build", "own", "--explain"]);
    assert_eq!((status, &*talk), (Some(0), ""));
    let paths: Vec<&str> = explained.lines().filter_map(|line| line.split_whitespace().last()).collect();
    for path in ["/etc/site.conf", "/srv/index.html", "/var/empty"] {
        assert!(paths.contains(&path), "{path}: {explained}");
    }
}

/// What people type first, with the whole answer; and nothing is left of what was refused.
#[test]
fn a_build_that_is_refused_says_what_to_write_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("own")).unwrap();
    std::fs::write(
        dir.path().join("own/image.toml"),
        "name = \"own\"\n[[layers]]\nfiles = [{ dest = \"/f\", src = \"f\" }]\n",
    )
    .unwrap();
    let usage = "Usage: haversack build DEFINITION… (--output TRANSPORT | --push REF | --explain | --print-definition) [OPTIONS]";
    let nowhere = format!(
        "error: the following required arguments were not provided:\n  <--output <TRANSPORT>|--push \
         <REF>|--explain|--print-definition>\n\n{usage}\n\nFor more information, try '--help'.\n"
    );
    let names = "name one: bastion, catalog, driver-toolkit, kernels, or a directory with an image.toml";
    let swallowed = "name it first: --kernels takes all words up to the next option, `driver-toolkit` too";
    let snapshot = "give a snapshot with `--catalog FILE`; `haversack catalog snapshot` takes one";
    for (args, status, said) in [
        (&["catalog"][..], 2, nowhere.as_str()),
        (&["--output", "oci:a/out"], 2, &format!("error: no DEFINITION is given\nhint: {names}\n")),
        (
            &["--kernels", "dir:debs", "driver-toolkit", "--output", "oci:a/out"],
            2,
            &format!("error: no DEFINITION is given\nhint: {swallowed}\n"),
        ),
        (
            &["catalog", "--output", "oci:a/out"],
            2,
            &format!(
                "error: haversack-catalog: the image holds the certified catalog, and none was given\nhint: {snapshot}\n"
            ),
        ),
        (
            &["own", "--output", "oci:a/out"],
            1,
            "error: cannot read own/f\n  because: No such file or directory (os error 2)\nhint: check that own/f and the directories \
             above it exist\n",
        ),
    ] {
        let expected = (Some(status), String::new(), said.to_owned());
        assert_eq!(crate::said(dir.path(), &[&["build"], args].concat()), expected, "{args:?}");
        assert!(!dir.path().join("a").exists(), "{args:?}");
    }
}
