//! `haversack build` as people run it, and podman and skopeo reading what it writes.

#[path = "../docker_registry/mod.rs"]
#[allow(dead_code, reason = "each user takes a part")]
mod docker_registry;
#[path = "../engines/mod.rs"]
#[allow(dead_code, reason = "each user takes a part")]
mod engines;
mod existing;
mod hostile;
mod odd;
mod overlay;
mod sbom;
mod transports;

use std::path::Path;
use std::process::{Command, Output};

use assert_cmd::cargo::cargo_bin;
use tempfile::TempDir;

/// A definition with the program, a file, a directory and links.
const DEFINITION: &str = r#"
name = "tools"
tags = ["1.2", "latest"]
entrypoint = ["/usr/bin/haversack"]
workdir = "/srv"
[[layers]]
name = "program"
binary = "/usr/bin/haversack"
ca-roots = "/etc/ssl/certs/ca-certificates.crt"
links = { "/usr/bin/pack" = "haversack" }
directories = [{ dest = "/tmp", mode = "1777" }]
[[layers]]
name = "data"
directories = [{ src = "root", dest = "/srv", file-mode = "0640", uid = 7, gid = 8 }]
files = [{ text = "site = 1\n", dest = "/etc/site.conf", mode = "0600" }]
"#;

fn definition(text: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("def/root/sub")).unwrap();
    std::fs::write(dir.path().join("def/image.toml"), text).unwrap();
    std::fs::write(dir.path().join("def/root/sub/hello"), "hello\n").unwrap();
    dir
}

fn haversack(dir: &Path, args: &[&str]) -> Output {
    Command::new(cargo_bin!("haversack"))
        .args(args)
        .current_dir(dir)
        .env("SOURCE_DATE_EPOCH", "1700000000")
        .output()
        .unwrap()
}

fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn refused(output: &Output) -> (i32, String) {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    (output.status.code().unwrap(), text.trim_end().to_owned())
}

fn built(dir: &Path, args: &[&str]) -> serde_json::Value {
    let text = done(&haversack(dir, &[&["build", "--json"], args].concat()));
    serde_json::from_str::<serde_json::Value>(&text).unwrap()[0].clone()
}

#[test]
fn two_builds_give_one_digest_and_two_archives_the_same_bytes() {
    let dir = definition(DEFINITION);
    for (compression, level) in [("zstd", "3"), ("zstd", "9"), ("gzip", "6"), ("none", "1")] {
        let args = ["def", "--compression", compression, "--level", level];
        let one = built(dir.path(), &[&args[..], &["--output", "oci:one"]].concat());
        // Another hour, another place, another inode.
        std::fs::copy(dir.path().join("def/root/sub/hello"), dir.path().join("copy")).unwrap();
        std::fs::rename(dir.path().join("copy"), dir.path().join("def/root/sub/hello")).unwrap();
        let two = built(dir.path(), &[&args[..], &["--output", "oci-archive:two.tar"]].concat());
        let three = built(dir.path(), &[&args[..], &["--output", "oci-archive:three.tar"]].concat());
        assert_eq!(one["digest"], two["digest"]);
        assert_eq!(two["images"], three["images"]);
        let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
        assert!(read("two.tar") == read("three.tar"), "{compression}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 4, "something was left behind");
}

#[test]
fn without_a_name_the_image_gets_all_its_tags_and_with_one_only_that() {
    let dir = definition(DEFINITION);
    let image = built(dir.path(), &["def", "--output", "oci:store"]);
    assert_eq!(image["output"], serde_json::json!(["oci:store:tools:1.2", "oci:store:tools:latest"]));
    let image = built(dir.path(), &["def", "--output", "oci:store:localhost/x:y"]);
    assert_eq!(image["output"], serde_json::json!(["oci:store:localhost/x:y"]));
    let index = std::fs::read_to_string(dir.path().join("store/index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    let images = index["manifests"].as_array().unwrap().iter().filter(|listed| listed["artifactType"].is_null());
    // And the list of what refers to it, under its fallback tag.
    let is_list = |name: &serde_json::Value| name.as_str().is_some_and(|name| name.starts_with("sha256-"));
    let names = images.map(|image| &image["annotations"]);
    let names: Vec<_> = names.filter(|it| !is_list(&it["org.opencontainers.image.ref.name"])).collect();
    let expected = ["localhost/x:y", "tools:1.2", "tools:latest"];
    let expected = expected.map(|name| serde_json::json!({ "org.opencontainers.image.ref.name": name }));
    assert_eq!(names, expected.each_ref());
}

#[test]
fn a_base_from_a_layout_lies_below() {
    let dir = definition(DEFINITION);
    built(dir.path(), &["def", "--output", "oci:def/base"]);
    std::fs::create_dir(dir.path().join("over")).unwrap();
    let over = "name = 'over'\nbase = 'oci:../def/base:tools:1.2'\n[[layers]]\nremove = ['/etc/site.conf']\n";
    std::fs::write(dir.path().join("over/image.toml"), over).unwrap();
    let image = built(dir.path(), &["over", "--output", "oci:over.oci"]);
    let manifest = image["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let manifest = std::fs::read_to_string(dir.path().join("over.oci/blobs/sha256").join(manifest)).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 3);
    done(&haversack(dir.path(), &["verify", "oci:over.oci"]));
}

#[test]
fn another_platform_needs_its_program_and_shares_the_data() {
    let dir = definition(DEFINITION);
    let args = ["def", "--output", "oci:store", "--platform", "linux/amd64", "--platform", "linux/arm64"];
    let missing = haversack(dir.path(), &[&["build"], &args[..]].concat());
    let other = if cfg!(target_arch = "x86_64") { "linux/arm64" } else { "linux/amd64" };
    let expected = format!(
        "error: no haversack binary for {other}\nhint: give one with `--binary {other}=PATH`, or choose with `--platform`"
    );
    assert_eq!(refused(&missing), (1, expected));
    std::fs::write(dir.path().join("other"), "a program").unwrap();
    let image = built(dir.path(), &[&args[..], &["--binary", &format!("{other}=other")]].concat());
    let layers = |platform: usize| image["images"][platform]["layers"].as_array().unwrap();
    assert_ne!(layers(0)[0]["digest"], layers(1)[0]["digest"]);
    assert_eq!(layers(0)[1], layers(1)[1]);
    assert_eq!(image["media_type"], "application/vnd.oci.image.index.v1+json");
}

#[test]
fn explain_shows_what_would_be_there_and_writes_nothing() {
    let dir = definition(DEFINITION);
    let text = done(&haversack(dir.path(), &["build", "def", "--explain"]));
    let data = text.split_once("  2 data").unwrap().1;
    insta::assert_snapshot!(data, @r"
    : 15 B
        parent     755 0:0          0 /etc
        file       600 0:0          9 /etc/site.conf
        directory  755 7:8          0 /srv
        directory  755 7:8          0 /srv/sub
        file       640 7:8          6 /srv/sub/hello
    ");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn mistakes_are_named_and_nothing_is_written() {
    for (text, args, status, expected) in [
        (
            "name = 'x'\nentrypont = []",
            &["build", "def", "-o", "oci:x"][..],
            1,
            "error: def/image.toml: unknown key `entrypont`; the nearest known one is `entrypoint`",
        ),
        (
            DEFINITION,
            &["build", "def", "def", "-o", "oci:x:y"],
            2,
            "error: 2 images would be written under the same name\nhint: leave the name out of `--output` and `--push`, or choose one image (of kernels, with `--release`)",
        ),
        (
            DEFINITION,
            &["build", "def", "def", "-o", "dir:x"],
            2,
            "error: a directory holds one image\nhint: build them one by one",
        ),
        (
            DEFINITION,
            &["build", "def", "-o", "oci:x:@1"],
            1,
            "error: oci:x:@1: an image that is written has a name of its own, not a place in a list",
        ),
        (
            DEFINITION,
            &["build", "def", "-o", "oci:x", "--compression", "gzip", "--level", "15"],
            2,
            "error: --level 15: gzip has the levels 1 to 9",
        ),
        (
            "name = 'x'\n[[layers]]\nremove = ['/a']\n",
            &["build", "none", "-o", "oci:x"],
            1,
            "error: `none`: there is no such directory, and no such definition in the program \
             (bastion, catalog, driver-toolkit, kernels)",
        ),
        (
            "name = 'x'\n[[layers]]\nremove = ['/a']\n",
            &["build", "./none/", "-o", "oci:x"],
            1,
            "error: cannot open ./none/image.toml\n  because: No such file or directory (os error 2)\n\
             hint: check that ./none/image.toml and the directories above it exist",
        ),
        (
            "name = 'x'\n[[layers]]\ncatalog = { tree = '/t', db = '/d' }",
            &["build", "def", "-o", "oci-archive:x"],
            2,
            "error: x: the image holds the certified catalog, and none was given\n\
             hint: give a snapshot with `--catalog FILE`; `haversack catalog snapshot` takes one",
        ),
    ] {
        let dir = definition(text);
        assert_eq!(refused(&haversack(dir.path(), args)), (status, expected.to_owned()));
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| name == "def" || name == "x"), "{left:?}");
        assert!(!dir.path().join("x").is_file());
    }
}

#[test]
fn verify_finds_nothing_in_what_build_wrote_and_inspect_shows_it() {
    let dir = definition(DEFINITION);
    let image = built(dir.path(), &["def", "--output", "oci:store:x"]);
    built(dir.path(), &["def", "--output", "oci-archive:store.tar:x"]);
    for place in ["oci:store", "oci-archive:store.tar", "store", "store.tar", "oci:store:x"] {
        let text = done(&haversack(dir.path(), &["verify", place]));
        assert!(text.ends_with(": nothing is wrong\n"), "{text}");
    }
    let raw = done(&haversack(dir.path(), &["inspect", "--raw", "oci-archive:store.tar"]));
    let name = image["digest"].as_str().unwrap().replace(':', "/");
    assert_eq!(raw, std::fs::read_to_string(dir.path().join("store/blobs").join(name)).unwrap());
    let shown = done(&haversack(dir.path(), &["inspect", "--json", "oci:store"]));
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let layers = shown["images"][0]["layers"].as_array().unwrap();
    let history: Vec<_> = layers.iter().map(|layer| layer["history"].as_str().unwrap()).collect();
    assert_eq!((&shown["digest"], history), (&image["digest"], vec!["program", "data"]));
}

#[test]
fn verify_ends_with_1_on_a_finding_and_repair_lets_a_build_put_it_back() {
    let dir = definition(DEFINITION);
    let image = built(dir.path(), &["def", "--output", "oci:store"]);
    let layer = image["images"][0]["layers"][1]["digest"].as_str().unwrap();
    let blob = dir.path().join("store/blobs").join(layer.replace(':', "/"));
    std::fs::write(&blob, "something else").unwrap();
    let output = haversack(dir.path(), &["verify", "oci:store", "--json", "--repair"]);
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let problems: Vec<_> = report["findings"].as_array().unwrap().iter().map(|f| &f["problem"]).collect();
    assert_eq!(problems, ["size", "digest"]);
    assert!(!blob.exists());
    assert_eq!(haversack(dir.path(), &["verify", "oci:store"]).status.code(), Some(1));
    built(dir.path(), &["def", "--output", "oci:store"]);
    done(&haversack(dir.path(), &["verify", "oci:store"]));
}

#[test]
#[ignore = "needs skopeo; scripts/test.sh runs it where skopeo is"]
fn skopeo_reads_layout_and_archive_and_sees_our_digest() {
    let dir = definition(DEFINITION);
    let image = built(dir.path(), &["def", "--output", "oci:store"]);
    built(dir.path(), &["def", "--output", "oci-archive:store.tar:tools:1.2"]);
    for reference in ["oci:store:tools:1.2", "oci-archive:store.tar:tools:1.2"] {
        let output = Command::new("skopeo").args(["inspect", reference]).current_dir(dir.path()).output().unwrap();
        let seen: serde_json::Value = serde_json::from_str(&done(&output)).unwrap();
        assert_eq!(seen["Digest"], image["digest"], "{reference}");
    }
}

#[test]
#[ignore = "needs podman; scripts/test.sh runs it where podman is"]
fn podman_loads_and_pulls_every_compressor_and_runs_it_as_anybody_on_a_read_only_root() {
    let dir = definition(DEFINITION);
    let podman = |args: &[&str]| transports::podman(dir.path(), args);
    let version = format!("haversack {}\n", env!("CARGO_PKG_VERSION"));
    for compression in ["zstd", "gzip", "none"] {
        built(dir.path(), &["def", "-o", "oci-archive:x.tar:localhost/tools:1.2", "--compression", compression]);
        for get in [&["load", "-i", "x.tar"][..], &["pull", "-q", "oci-archive:x.tar"]] {
            let id = done(&podman(get)).lines().last().unwrap().replace("Loaded image: ", "");
            let run = ["run", "--rm", "--network", "none", "--read-only", "--user", "1234:1234", &id, "--version"];
            assert_eq!(done(&podman(&run)), version, "{compression} {get:?}");
            done(&podman(&["rmi", "--all", "--force"]));
        }
    }
    // Two images in one archive: `podman load` takes them by way of manifest.json.
    std::fs::create_dir_all(dir.path().join("other/root")).unwrap();
    std::fs::write(
        dir.path().join("other/image.toml"),
        DEFINITION.replace("tools", "other").replace("site = 1", "site = 2"),
    )
    .unwrap();
    done(&haversack(dir.path(), &["build", "def", "other", "-o", "oci-archive:two.tar"]));
    done(&podman(&["load", "-i", "two.tar"]));
    let names = done(&podman(&["images", "--format", "{{.Repository}}:{{.Tag}}", "--sort", "repository"]));
    let mut names: Vec<_> = names.lines().collect();
    names.sort_unstable();
    let expected = ["other:1.2", "other:latest", "tools:1.2", "tools:latest"].map(|name| format!("localhost/{name}"));
    assert_eq!(names, expected);
}
