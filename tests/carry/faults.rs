//! Carries that are damaged, incomplete or made to do harm.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use assert_cmd::cargo::cargo_bin;
use serde_json::json;

use crate::images::varied;
use crate::{assert_same, done, error, files, haversack, json};

/// A directory with a layout `from` and the carry of it.
fn packed() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    varied(&dir.path().join("from"));
    done(dir.path(), &["pack", "oci:from", "--out", "carry", "--no-program"]);
    dir
}

/// The names that a layout gives.
fn listed(layout: &Path) -> usize {
    let Ok(bytes) = std::fs::read(layout.join("index.json")) else { return 0 };
    serde_json::from_slice::<serde_json::Value>(&bytes).unwrap()["manifests"].as_array().unwrap().len()
}

#[test]
fn a_bit_flipped_anywhere_in_a_volume_is_found_named_and_taken_for_nothing() {
    let dir = packed();
    let volume = dir.path().join("carry/volume-001.zst");
    let right = std::fs::read(&volume).unwrap();
    let positions = (0..12).map(|step| step * (right.len() - 1) / 11);
    for at in positions.chain([5, 8, 30, 45, 60]) {
        let mut wrong = right.clone();
        wrong[at] ^= 1 << (at % 8);
        std::fs::write(&volume, &wrong).unwrap();
        let (status, report) = json(dir.path(), &["verify", "carry"]);
        let state = report["volumes"][0]["state"].as_str().unwrap_or_default();
        assert_eq!((status, matches!(state, "damaged" | "foreign")), (Some(1), true), "{at}: {report}");
        let to = format!("to-{at}");
        let (status, report) = json(dir.path(), &["unpack", "carry", "--to", &format!("oci:{to}")]);
        let layout = dir.path().join(&to);
        match status {
            // The tables at both ends are there twice, and the sums are for `verify`.
            Some(0) => assert_same(&dir.path().join("from"), &layout),
            Some(3) => {
                assert_eq!((listed(&layout), report["missing"][0].as_str()), (0, Some("volume-001.zst")), "{at}");
                assert!(report["damaged"][0].as_str().unwrap().contains("volume-001.zst"), "{at}: {report}");
                // With the volume as it was, it goes on.
                std::fs::write(&volume, &right).unwrap();
                done(dir.path(), &["unpack", "carry", "--to", &format!("oci:{to}")]);
                assert_same(&dir.path().join("from"), &layout);
            }
            other => panic!("{at}: {other:?} {report}"),
        }
        std::fs::remove_dir_all(&layout).unwrap();
    }
}

#[test]
fn the_program_that_is_carried_along_is_compared_too() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    varied(&dir.join("from"));
    let packed = done(dir, &["pack", "oci:from", "--out", "carry"]);
    let (program, document) = (dir.join("carry/haversack"), dir.join("carry/carry.json"));
    let right = std::fs::read(cargo_bin!("haversack")).unwrap();
    let (size, digest) = (right.len(), haversack::digest::Digest::sha256(&right));
    assert_eq!(packed["program"], json!({ "file": "haversack", "size": size, "digest": digest }));
    let said = || {
        let output = haversack(dir, &["verify", "carry"]);
        let text = String::from_utf8(output.stdout).unwrap();
        let id = packed["id"].as_str().unwrap();
        let (_, rest) = text.split_once(&format!("carry {id}: 1 volume")).unwrap();
        let before = text.split("carry ").next().unwrap().to_owned();
        (
            output.status.code(),
            before,
            rest.split_once(": ").map(|(with, rest)| (with.to_owned(), rest.to_owned())).unwrap(),
        )
    };
    let mebibytes = |with: &str| with.ends_with("B") && with.contains(", ");
    let (status, findings, (with, found)) = said();
    assert_eq!((status, findings.as_str(), found.as_str()), (Some(0), "", "nothing is wrong\n"));
    assert!(with.starts_with(" and the program, ") && mebibytes(&with), "{with}");

    let next = "1 finding\nthe images are all here; do not run haversack: take it from elsewhere\n";
    let mut flipped = right.clone();
    flipped[size / 2] ^= 1;
    let cut = format!("haversack has {} bytes, which is another number than it was packed with\n", size - 1);
    for (wrong, finding) in [(&flipped[..], "haversack is damaged\n"), (&right[..size - 1], &cut)] {
        std::fs::write(&program, wrong).unwrap();
        let (status, findings, (_, found)) = said();
        assert_eq!((status, findings.as_str(), found.as_str()), (Some(1), finding, next));
        let (status, _) = json(dir, &["verify", "carry", "--report", "evidence"]);
        let report: serde_json::Value =
            serde_json::from_slice(&std::fs::read(dir.join("evidence/report.json")).unwrap()).unwrap();
        assert_eq!(
            (status, &report["good"], &report["findings"]),
            (Some(1), &json!(false), &json!([finding.trim_end()]))
        );
        std::fs::remove_dir_all(dir.join("evidence")).unwrap();
    }
    // Only the medium of the first volume has it, and nobody needs it.
    std::fs::remove_file(&program).unwrap();
    let (status, findings, (with, found)) = said();
    assert_eq!(
        (status, findings.as_str(), found.as_str(), mebibytes(&with)),
        (Some(0), "", "nothing is wrong\n", true)
    );
    // Early releases did not say which one they packed.
    std::fs::write(&program, &flipped).unwrap();
    let mut early: serde_json::Value = serde_json::from_slice(&std::fs::read(&document).unwrap()).unwrap();
    early.as_object_mut().unwrap().remove("program").unwrap();
    std::fs::write(&document, early.to_string()).unwrap();
    let (status, findings, (_, found)) = said();
    let unknown = "haversack was not compared: the carry does not say which program was packed with it";
    assert_eq!((status, findings.as_str(), found), (Some(0), "", format!("nothing is wrong\n{unknown}\n")));
    assert_eq!(json(dir, &["verify", "carry"]).1["program"], json!({ "file": "haversack", "state": "unknown" }));
}

#[test]
fn a_volume_that_is_cut_missing_or_of_another_carry_is_named() {
    let dir = packed();
    let volume = dir.path().join("carry/volume-001.zst");
    let right = std::fs::read(&volume).unwrap();
    done(dir.path(), &["pack", "oci:from:example.org/kernels:1", "--out", "other", "--no-program"]);
    let other = std::fs::read(dir.path().join("other/volume-001.zst")).unwrap();
    for (bytes, state) in [
        (Some(&right[..right.len() / 2]), "size"),
        (Some(&right[..0]), "damaged"),
        (Some(&right[..right.len() - 1]), "size"),
        (Some(&other[..]), "foreign"),
        (None, "missing"),
    ] {
        match bytes {
            Some(bytes) => std::fs::write(&volume, bytes).unwrap(),
            None => std::fs::remove_file(&volume).unwrap(),
        }
        let (status, report) = json(dir.path(), &["verify", "carry"]);
        assert!(report["volumes"][0]["state"].to_string().contains(state), "{state}: {report}");
        assert_eq!((status, &report["next_step"]), (Some(1), &json!("bring again: volume-001.zst")));
        let (status, report) = json(dir.path(), &["unpack", "carry", "--to", "oci:to"]);
        if status != Some(0) {
            assert_eq!((status, report["missing"][0].as_str()), (Some(3), Some("volume-001.zst")), "{state}");
            assert_eq!(listed(&dir.path().join("to")), 0);
        }
        let _ = std::fs::remove_dir_all(dir.path().join("to"));
    }
}

#[test]
fn a_document_that_lies_is_refused_and_nothing_is_written_elsewhere() {
    let dir = packed();
    let path = dir.path().join("carry/carry.json");
    let right: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for (pointer, value, expected) in [
        ("/format", 3.into(), "format 3 is not known (known: 1 and 2)"),
        ("/volumes/0/file", "../elsewhere".into(), "is no name of a carry's own"),
        ("/volumes/0/file", "..".into(), "is no name of a carry's own"),
        ("/id", "../../x".into(), "is no name of a carry's own"),
        ("/images/0/digest", format!("sha256:{}", "0".repeat(64)).into(), "a manifest that it names is not in it"),
        ("/images", 7.into(), "not what a carry says of itself"),
    ] {
        let mut wrong = right.clone();
        *wrong.pointer_mut(pointer).unwrap() = value;
        std::fs::write(&path, serde_json::to_vec(&wrong).unwrap()).unwrap();
        let text = error(dir.path(), &["unpack", "carry", "--to", "oci:to"]);
        assert!(text.contains(expected), "{pointer}: {text}");
        assert_eq!(listed(&dir.path().join("to")), 0);
    }
    std::fs::remove_file(&path).unwrap();
    assert!(error(dir.path(), &["unpack", "carry", "--to", "oci:to"]).contains("no carry here (expected carry.json)"));
    assert!(error(dir.path(), &["unpack", "nowhere", "--to", "oci:to"]).contains("nowhere"));
}

#[test]
fn a_program_that_is_killed_leaves_what_it_was_and_the_next_one_goes_on() {
    let dir = packed();
    let started = |args: &[&str]| {
        let mut command = Command::new(cargo_bin!("haversack"));
        command.args(args).current_dir(dir.path()).env("HOME", dir.path());
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    for step in 0..13 {
        let mut child = started(&["unpack", "carry", "--to", "oci:to"]);
        std::thread::sleep(Duration::from_millis(step * step * 4));
        child.kill().unwrap();
        child.wait().unwrap();
        let count = listed(&dir.path().join("to"));
        assert!(count == 0 || count == 4, "{count}");
    }
    done(dir.path(), &["unpack", "carry", "--to", "oci:to"]);
    let verified = done(dir.path(), &["verify", "oci:to"]);
    assert_eq!(verified["findings"].as_array().unwrap().len(), 0);
    assert_same(&dir.path().join("from"), &dir.path().join("to"));
    for step in 0..7 {
        let mut child = started(&["pack", "oci:from", "--out", "again", "--no-program"]);
        std::thread::sleep(Duration::from_millis(step * step * 20));
        child.kill().unwrap();
        child.wait().unwrap();
        if dir.path().join("again").exists() {
            done(dir.path(), &["verify", "again"]);
            std::fs::remove_dir_all(dir.path().join("again")).unwrap();
        }
    }
    done(dir.path(), &["pack", "oci:from", "--out", "again", "--no-program"]);
    // What the killed ones left beside it is gone.
    let left = files(dir.path()).into_keys().filter(|name| name.contains(".partial")).count();
    assert_eq!(left, 0);
}

#[test]
fn a_missing_layer_is_an_error_of_packing() {
    let dir = tempfile::tempdir().unwrap();
    let layout = varied(&dir.path().join("from"));
    let image = layout.find(Some("example.org/kernels:1")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&layout.read_document(&image).unwrap()).unwrap();
    let digest = manifest["layers"][0]["digest"].as_str().unwrap();
    let path = dir.path().join("from/blobs/sha256").join(digest.strip_prefix("sha256:").unwrap());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let text = error(dir.path(), &["pack", "oci:from", "--out", "carry", "--no-program"]);
    assert!(text.contains("the content has another digest"), "{text}");
    std::fs::remove_file(&path).unwrap();
    let text = error(dir.path(), &["pack", "oci:from", "--out", "carry", "--no-program"]);
    assert!(text.contains(&format!("{digest} is missing")), "{text}");
    assert!(!dir.path().join("carry").exists());
}
