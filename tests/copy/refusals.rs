//! What registries say of what they were sent, or send, and what is made of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use axum::response::IntoResponse;
use haversack::digest::Digest;

use crate::keeper::{self, Keeper};
use crate::quirky::{LAYER_SIZE, Quirk, Quirky};
use crate::real::large;
use crate::referring::copy;
use crate::taker::{Accident, Taker};
use crate::{clean, done, error, haversack};

/// Copies to a registry, once.
fn send(dir: &Path, from: &str, taker: &Taker, to: &str) -> std::process::Output {
    let to = format!("docker://{}/{to}", taker.address);
    let quick = ["--dest-tls-verify=false", "--retries=0", "--no-referrers", "--json"];
    haversack(dir, &[&["copy", from, &to][..], &quick].concat())
}

/// The largest blob of the layout `from`.
fn layer(dir: &Path) -> (PathBuf, Digest) {
    let blobs = std::fs::read_dir(dir.join("from/blobs/sha256")).unwrap().map(|blob| blob.unwrap().path());
    let largest = blobs.max_by_key(|blob| blob.metadata().unwrap().len()).unwrap();
    let digest = format!("sha256:{}", largest.file_name().unwrap().to_str().unwrap()).parse().unwrap();
    (largest, digest)
}

#[test]
fn what_a_registry_refuses_is_read_again_and_a_damaged_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    large(dir.path(), 1, 100_000);
    done(&haversack(dir.path(), &["copy", "oci:from:x", "oci-archive:x.tar:x", "--json"]));
    let (path, digest) = layer(dir.path());
    let right = std::fs::read(&path).unwrap();
    let mut wrong = right.clone();
    wrong[1000] ^= 1;
    let found = Digest::sha256(&wrong);
    let archive = std::fs::read(dir.path().join("x.tar")).unwrap();
    let at = archive.windows(64).position(|window| *window == right[..64]).unwrap();
    let mut damaged = archive;
    damaged[at + 1000] ^= 1;
    std::fs::write(dir.path().join("x.tar"), damaged).unwrap();

    let file = format!("from/blobs/sha256/{}", digest.hex());
    let other = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let named = format!("{file}: expected {digest}, found {found}");
    let echoed: &'static str = digest.to_string().leak();
    let (size, cut) = (right.len(), right[..size_of::<u64>()].to_vec());
    for (case, source, bytes, registry, expected) in [
        ("looks", "oci:from:x", &wrong, Accident::Mounts(400), Some(named.clone())),
        ("says what it got", "oci:from:x", &wrong, Accident::Blobs(201, Some("")), Some(named.clone())),
        ("has another word for it", "oci:from:x", &wrong, Accident::Blobs(409, None), Some(named.clone())),
        ("breaks", "oci:from:x", &wrong, Accident::Blobs(500, None), Some(named.clone())),
        (
            "of an archive",
            "oci-archive:x.tar:x",
            &right,
            Accident::Mounts(400),
            Some(format!("x.tar: {digest}: expected {digest}, found {found}")),
        ),
        (
            "of a blob that is short",
            "oci:from:x",
            &cut,
            Accident::Mounts(400),
            Some(format!("{file}: expected {size} bytes, found 8 bytes")),
        ),
        ("refuses what is right", "oci:from:x", &right, Accident::Blobs(400, None), Some("400 Bad Request".into())),
        (
            "says something else, and has not what was sent",
            "oci:from:x",
            &right,
            Accident::Blobs(201, Some(other)),
            Some(format!("says that it got {other}, and has no {digest}")),
        ),
        (
            "says it in another algorithm",
            "oci:from:x",
            &wrong,
            Accident::Blobs(201, Some("sha512:00")),
            Some(named.clone()),
        ),
        ("looks at nothing and says nothing", "oci:from:x", &wrong, Accident::Blobs(201, None), Some(named)),
        ("has it, and does not say what it is", "oci:from:x", &right, Accident::Blobs(201, None), None),
        // docs/limits.md
        ("says what was asked and looks at nothing", "oci:from:x", &wrong, Accident::Blobs(201, Some(echoed)), None),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let taker = Taker::start(registry);
        let output = send(dir.path(), source, &taker, "r/x:1");
        match expected {
            None => _ = done(&output),
            Some(expected) => {
                let error = error(&output);
                assert!(error.contains(&expected), "{case}: {error}");
                let hint = error.contains("hint: what it was read from is damaged: `haversack verify`");
                assert_eq!(hint, expected.contains(", found "), "{case}: {error}");
                assert_eq!(taker.manifests(), 0, "{case}");
            }
        }
    }
}

#[test]
fn what_comes_from_a_registry_is_hashed_until_the_other_has_shown_that_it_compares() {
    let dir = tempfile::tempdir().unwrap();
    large(dir.path(), 3, 100_000);
    let first = Keeper::start(keeper::Quirk::default());
    done(&copy(dir.path(), "oci:from:x", &first.at("r/x:1")));
    let digests: Vec<String> = first.names().into_iter().filter(|name| name.starts_with("sha256:")).collect();
    let blobs: Vec<&String> = digests.iter().filter(|name| first.kept(name).len() > 1000).collect();
    assert_eq!(blobs.len(), 3);
    // What arrives is wrong each time, or the first time only. The configuration may be sent before the layers.
    for (times, registry, reads) in
        [(9, Accident::Says, 5..=6), (1, Accident::Says, 5..=6), (9, Accident::Mounts(400), 3..=3)]
    {
        let mut asked = 0;
        for digest in &blobs {
            let mut wrong = first.kept(digest);
            wrong[1000] ^= 1;
            let found = Digest::sha256(&wrong);
            let counted = Arc::new(AtomicUsize::new(0));
            let (count, path, bytes) = (counted.clone(), format!("/blobs/{digest}"), wrong.clone());
            let answers = move |method: &str, asked: &str| {
                let is_it = method == "GET" && asked.ends_with(&path);
                (is_it && count.fetch_add(1, Relaxed) < times).then(|| bytes.clone().into_response())
            };
            let from = Keeper::start(keeper::Quirk { answers: Some(Arc::new(answers)), ..keeper::Quirk::default() });
            first.names().iter().for_each(|name| from.keep(name, &first.kept(name)));
            let taker = Taker::start(registry);
            let to = format!("docker://{}/r/x:1", taker.address);
            let options =
                ["--src-tls-verify=false", "--dest-tls-verify=false", "--retries=0", "--parallel=1", "--json"];
            let output = haversack(dir.path(), &[&["copy", &from.at("r/x:1"), &to][..], &options].concat());
            let error = error(&output);
            let is_named = error.contains(&format!("expected {digest}, found {found}"));
            let is_refused = error.contains("400 Bad Request");
            // Who was let down by the network, and has by now what is right, is told what the registry said.
            let second = counted.load(Relaxed) == 2;
            assert_eq!((is_named, is_refused), (times > 1 || !second, times == 1 && second), "{error}");
            assert_eq!(taker.manifests(), 0);
            asked += counted.load(Relaxed);
        }
        assert!(reads.contains(&asked), "{asked}");
    }
}

#[test]
fn a_registry_that_counts_other_bytes_gets_the_blob_whole_and_damage_is_seen_in_pieces_too() {
    let dir = tempfile::tempdir().unwrap();
    large(dir.path(), 1, 72 << 20);
    let (path, digest) = layer(dir.path());
    let size = usize::try_from(path.metadata().unwrap().len()).unwrap();
    let piece = 64 << 20;
    let pieces = [format!("PATCH 0-{}", piece - 1), format!("PATCH {piece}-{}", size - 1)];
    let whole = "PUT whole".to_owned();
    type Counts = fn(usize, usize) -> String;
    let cases: [(&str, Counts, Vec<&String>); 5] = [
        ("as is right", |_, end| format!("0-{}", end - 1), vec![&pieces[0], &pieces[1]]),
        ("stands still", |_, _| "0-0".into(), vec![&pieces[0], &whole]),
        ("one too many", |_, end| format!("0-{end}"), vec![&pieces[0], &whole]),
        ("from the piece on", |start, end| format!("0-{}", end - start - 1), vec![&pieces[0], &pieces[1], &whole]),
        ("no number", |_, _| "bytes=all".into(), vec![&pieces[0], &pieces[1]]),
    ];
    for (case, counts, expected) in cases {
        let taker = Taker::start(Accident::Counts(counts));
        done(&send(dir.path(), "oci:from:x", &taker, "r/x:1"));
        assert_eq!(taker.asked().iter().collect::<Vec<_>>(), expected, "{case}");
        assert!(taker.holds(size), "{case}");
    }
    let mut wrong = std::fs::read(&path).unwrap();
    wrong[1000] ^= 1;
    std::fs::write(&path, &wrong).unwrap();
    let taker = Taker::start(Accident::Mounts(400));
    let error = error(&send(dir.path(), "oci:from:x", &taker, "r/x:1"));
    let found = Digest::sha256(&wrong);
    assert!(
        error.contains(&format!("from/blobs/sha256/{}: expected {digest}, found {found}", digest.hex())),
        "{error}"
    );
    assert_eq!(taker.asked(), pieces);
}

#[test]
fn bytes_from_another_place_than_asked_for_are_not_taken_for_the_rest() {
    for (says, from, ranges) in [
        ("bytes 0-299999/300000", 0, &["", "bytes=150000-", ""][..]),
        ("bytes 1500001-299999/300000", 150_001, &["", "bytes=150000-", ""]),
        ("bytes 15-299999/300000", 15, &["", "bytes=150000-", ""]),
        ("items 150000-299999/300000", 150_000, &["", "bytes=150000-", ""]),
        ("bytes 150000-299999/*", 150_000, &["", "bytes=150000-"]),
    ] {
        let (registry, dir) = (Quirky::start(Quirk::OtherRange { says, from }), tempfile::tempdir().unwrap());
        done(&registry.copy(dir.path(), &[]));
        clean(dir.path());
        let (layer, _) = registry.blobs.iter().find(|(_, bytes)| bytes.len() == LAYER_SIZE).unwrap();
        let asked = registry.asked(layer);
        let asked: Vec<_> = asked.iter().map(|line| line.split(' ').nth(3).unwrap_or_default()).collect();
        assert_eq!(asked, ranges, "{says}");
    }
}

#[test]
fn blobs_that_a_registry_only_says_it_has_mounted_are_sent_when_it_refuses_the_manifest() {
    let dir = tempfile::tempdir().unwrap();
    large(dir.path(), 2, 100_000);
    for status in [400, 404] {
        let taker = Taker::start(Accident::Mounts(status));
        let first = done(&send(dir.path(), "oci:from:x", &taker, "r/x:1"));
        assert_eq!((&first["sent_blobs"], &first["mounted_blobs"]), (&3.into(), &0.into()));
        let here = taker.blobs();
        let second = done(&send(dir.path(), "oci:from:x", &taker, "r/y:1"));
        assert_eq!((&second["digest"], &second["mounted_blobs"]), (&first["digest"], &3.into()));
        let there = here.iter().map(|blob| blob.replace("/r/x/", "/r/y/"));
        assert_eq!(taker.blobs(), here.iter().cloned().chain(there).collect());
        // Refused once, and taken.
        assert_eq!(taker.manifests(), 3);
    }
}

#[test]
fn files_and_directories_have_the_modes_that_the_umask_leaves() {
    let registry = Quirky::start(Quirk::None);
    let from = format!("docker://{}/r/i:1", registry.address);
    for (umask, file, directory) in
        [("022", "644", "755"), ("027", "640", "750"), ("077", "600", "700"), ("002", "664", "775")]
    {
        let dir = tempfile::tempdir().unwrap();
        // New ones, those that a layout or an archive which is there gets, and what is written anew.
        let copies = [
            [&*from, "oci:store:x"],
            ["oci:store:x", "oci:store:y"],
            ["oci:store:x", "oci:deep/below/other:x"],
            ["oci:store:x", "oci-archive:x.tar:x"],
            ["oci:store:x", "oci-archive:x.tar:y"],
            ["oci:store:x", "docker-archive:d.tar:d:1"],
            ["oci:store:x", "dir:d"],
        ];
        for [from, to] in copies {
            let copy = Command::new("sh")
                .args(["-c", "umask $1; shift; exec \"$@\"", "sh", umask, env!("CARGO_BIN_EXE_haversack")])
                .args(["copy", from, to, "--src-tls-verify=false", "--quiet"])
                .current_dir(dir.path())
                .env("HOME", dir.path().join("home"))
                .output()
                .unwrap();
            assert!(copy.status.success(), "{}", String::from_utf8_lossy(&copy.stderr));
        }
        let mut seen = BTreeSet::new();
        for there in ["store", "deep", "d", "x.tar", "d.tar"] {
            let stat = [there, "-exec", "stat", "-c", "%F %a", "{}", "+"];
            let found = Command::new("find").args(stat).current_dir(dir.path()).output().unwrap();
            assert!(found.status.success());
            seen.extend(String::from_utf8(found.stdout).unwrap().lines().map(str::to_owned));
        }
        let expected = [format!("directory {directory}"), format!("regular file {file}")];
        assert_eq!(seen, BTreeSet::from(expected), "{umask}");
    }
}
