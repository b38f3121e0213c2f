//! What is answered to those who type it for the first time: whole answers, which name what to do.

use std::io::Write;
use std::net::TcpListener;
use std::path::Path;

use crate::quirky::{Quirk, Quirky};
use crate::{done, haversack};

/// Status and all of stderr.
fn said(dir: &Path, args: &[&str]) -> (Option<i32>, String) {
    let output = haversack(dir, args);
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// A layout `store`, an OCI archive `a.tar` and a docker archive `d.tar` of one image.
fn images(dir: &Path) {
    done(&Quirky::start(Quirk::None).copy(dir, &[]));
    for to in ["oci-archive:a.tar:x", "docker-archive:d.tar:localhost/x:1"] {
        let output = haversack(dir, &["copy", "oci:store:x", to]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// What is said of a value that an argument does not take.
fn usage(value: &str, place: &str, why: &str) -> String {
    format!("error: invalid value '{value}' for '<{place}>': {why}\n\nFor more information, try '--help'.\n")
}

#[test]
fn a_cut_archive_is_said_to_be_cut_whichever_way_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    images(dir.path());
    for whole in ["a.tar", "d.tar"] {
        let bytes = std::fs::read(dir.path().join(whole)).unwrap();
        let length = bytes.len();
        let mut members = tar::Archive::new(&bytes[..]);
        let members = members.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string());
        let names: std::collections::BTreeSet<String> = members.collect();
        // In a header, between two members, after a header, in a large member and in the last one.
        for cut in [700, 1024, 1536, length / 3, length / 2 / 512 * 512, length - 1024 - 500] {
            std::fs::write(dir.path().join("cut.tar"), &bytes[..cut]).unwrap();
            for args in [
                &["inspect", "oci-archive:cut.tar"][..],
                &["inspect", "docker-archive:cut.tar"],
                &["verify", "cut.tar"],
                &["copy", "oci-archive:cut.tar", "oci:out"],
            ] {
                let (status, text) = said(dir.path(), args);
                let start = format!("error: cut.tar: cut off after {cut} bytes");
                let end = "\nhint: it was not written or copied to its end: copy it again, and compare the sizes\n";
                let place = text.strip_prefix(&start).and_then(|text| text.strip_suffix(end));
                // In the middle of a member, or in the head of one, whose name is not there.
                let is_place = |place: &str| {
                    place.is_empty()
                        || place.strip_prefix(", in the middle of ").is_some_and(|name| names.contains(name))
                };
                assert!(status == Some(1) && place.is_some_and(is_place), "{whole} {cut} {args:?}: {text}");
            }
        }
    }
}

#[test]
fn a_missing_transport_is_answered_with_what_to_write() {
    let dir = tempfile::tempdir().unwrap();
    images(dir.path());
    for (value, why) in [
        ("store", "the transport is missing; write oci:store"),
        ("store:x", "the transport is missing; write oci:store:x"),
        ("a.tar", "the transport is missing; write oci-archive:a.tar"),
        ("a.tar:x", "the transport is missing; write oci-archive:a.tar:x"),
        (
            "alpine",
            "the transport is missing; write oci:alpine for a directory, or docker://docker.io/library/alpine for an image in \
             a registry",
        ),
        (
            "grafana/grafana:11",
            "the transport is missing; for an image in a registry, write docker://docker.io/grafana/grafana:11",
        ),
        (
            "quay.io/podman/stable",
            "the transport is missing; for an image in a registry, write docker://quay.io/podman/stable",
        ),
        (
            "localhost:5000/x:1",
            "the transport is missing; for an image in a registry, write docker://localhost:5000/x:1",
        ),
        (
            "https://quay.io/podman/stable:v5",
            "an image in a registry has no scheme of the web; write docker://quay.io/podman/stable:v5",
        ),
        ("docker:quay.io/podman/stable", "two slashes are missing; write docker://quay.io/podman/stable"),
        (
            "docker-daemon:x:1",
            "the store of Docker's daemon is not read or written; `docker save NAME > FILE` writes what docker-archive:FILE reads, and \
             `docker load < FILE` reads what it writes",
        ),
        (
            "containers-storage:localhost/x:1",
            "the store of podman is not read or written; `podman save --format oci-archive --output FILE NAME` writes what \
             oci-archive:FILE reads, and `podman load --input FILE` reads what it writes",
        ),
        ("oci://store:x", "a path has no slashes before it; write oci:store:x, or oci:/store:x for one from the root"),
        (
            "gone.tar",
            "there is no file or directory `gone.tar`, and no transport is given (oci:DIR, oci-archive:FILE, …)",
        ),
        ("./gone", "there is no file or directory `./gone`, and no transport is given (oci:DIR, oci-archive:FILE, …)"),
    ] {
        assert_eq!(said(dir.path(), &["inspect", value]), (Some(2), usage(value, "REF", why)));
        assert_eq!(said(dir.path(), &["copy", value, "oci:to"]), (Some(2), usage(value, "SRC", why)));
        if why.contains("docker://") || why.contains("no file") {
            // What is checked is there already.
            let gone = format!(
                "there is no file or directory `{value}` here; an image in a registry is docker://HOST/REPOSITORY:TAG"
            );
            let why = if value.contains(['/', ':']) { why } else { &gone };
            assert_eq!(said(dir.path(), &["verify", value]), (Some(2), usage(value, "REF|LAYOUT|CARRY", why)));
        }
    }
}

#[test]
fn a_registry_without_tls_is_called_that_and_the_option_of_the_command_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, dir) = (listener.local_addr().unwrap(), tempfile::tempdir().unwrap());
    images(dir.path());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.unwrap().write_all(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTPS request");
        }
    });
    let there = format!("docker://{address}/r/i:1");
    for (args, option) in [
        (&["inspect", &there][..], "--tls-verify=false"),
        (&["verify", &there], "--tls-verify=false"),
        (&["copy", &there, "oci:to:x"], "--src-tls-verify=false"),
        (&["copy", "oci:store:x", &there], "--dest-tls-verify=false"),
        (&["list-tags", &format!("docker://{address}/r/i")], "--tls-verify=false"),
        (&["delete", &there], "--tls-verify=false"),
        (&["pack", &there, "--out", "carry"], "--tls-verify=false"),
        (&["build", "bastion", "--output", &there], "--dest-tls-verify=false"),
        (&["build", "bastion", "--output", "oci:b", "--base", &there], "--src-tls-verify=false"),
    ] {
        let (status, text) = said(dir.path(), args);
        let plain = format!(
            "error: {address}: answers in plain HTTP, without TLS\nhint: if no TLS is intended there, add `{option}`\n"
        );
        assert_eq!((status, text), (Some(1), plain), "{args:?}");
    }
}

#[test]
fn what_is_to_be_done_about_many_images_is_said_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, dir) = (listener.local_addr().unwrap(), tempfile::tempdir().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.unwrap().write_all(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTPS request");
        }
    });
    let list =
        format!("to = 'oci:to'\n[[images]]\nregistry = '{address}'\nrepositories = ['a/b', 'a/c']\ntags = ['1']\n");
    std::fs::write(dir.path().join("LIST.toml"), list).unwrap();
    let (status, text) = said(dir.path(), &["sync", "LIST.toml"]);
    assert_eq!(status, Some(1), "{text}");
    let count = |part: &str| text.matches(part).count();
    // The host is in the name already.
    for name in ["b", "c"] {
        let line = format!("docker://{address}/a/{name}:1: answers in plain HTTP, without TLS\n");
        assert_eq!(count(&line), 1, "{text}");
    }
    assert_eq!(
        (count("hint: "), count("hint: if no TLS is intended there, add `--src-tls-verify=false`\n")),
        (1, 1),
        "{text}"
    );
}

/// What people reported of other programs: a portal of another kind answers, an image for other platforms, a file of a carry.
#[test]
fn another_server_other_platforms_and_a_file_in_place_of_a_carry_are_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, dir) = (listener.local_addr().unwrap(), tempfile::tempdir().unwrap());
    images(dir.path());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let _ = std::io::Read::read(&mut stream, &mut request);
            let page = "<!DOCTYPE html><title>Repository Manager</title><p>Sign in";
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n", page.len());
            let _ = stream.write_all(format!("{head}Connection: close\r\n\r\n{page}").as_bytes());
        }
    });
    let hint = format!("hint: another server answers there: check host and port, {address}\n");
    let there = format!("docker://{address}/r/i");
    for (args, path) in [
        (&["list-tags", &there, "--tls-verify=false"][..], "r/i/tags/list?n=1000"),
        (&["inspect", &format!("{there}:1"), "--tls-verify=false"], "r/i/manifests/1"),
    ] {
        let expected = format!("error: http://{address}/v2/{path}: no registry answers here\n{hint}");
        assert_eq!(said(dir.path(), args), (Some(1), expected), "{args:?}");
    }
    let other = "error: no image for darwin/arm64 in it; it has linux/amd64\n";
    let copy = ["copy", "oci:store:x", "oci:out", "--platform", "darwin/arm64"];
    assert_eq!(said(dir.path(), &copy), (Some(1), other.to_owned()));
    done(&haversack(dir.path(), &["--json", "pack", "oci:store", "--out", "carry"]));
    let file = "error: carry/carry.json: no carry here (expected carry.json)\nhint: name the directory that holds carry.json and the volumes\n";
    assert_eq!(said(dir.path(), &["unpack", "carry/carry.json", "--to", "oci:out"]), (Some(1), file.to_owned()));
    for (part, of, directory) in [
        ("carry/carry.json", "a carry", "carry"),
        ("carry/volume-001.zst", "a carry", "carry"),
        ("store/index.json", "an OCI layout", "store"),
        ("store/oci-layout", "an OCI layout", "store"),
    ] {
        let why = format!("`{part}` is a part of {of}; write its directory: {directory}");
        assert_eq!(said(dir.path(), &["verify", part]), (Some(2), usage(part, "REF|LAYOUT|CARRY", &why)));
        assert_eq!(said(dir.path(), &["carry", "diff", part, "carry"]), (Some(2), usage(part, "OLD", &why)));
    }
}

#[test]
fn an_option_that_each_end_has_of_its_own_is_answered_with_both() {
    let dir = tempfile::tempdir().unwrap();
    for command in [&["copy", "oci:a", "oci:b"][..], &["sync", "LIST.toml"], &["build", "catalog"]] {
        let (status, text) = said(dir.path(), &[command, &["--tls-verify=false"]].concat());
        let tip = "error: unexpected argument '--tls-verify' found\n\n  tip: each end has its own: '--src-tls-verify' for what is read, \
            '--dest-tls-verify' for what is written\n";
        assert!(status == Some(2) && text.starts_with(tip), "{command:?}: {text}");
    }
}

#[test]
fn what_no_image_needs_is_answered_with_the_command_that_removes_it() {
    let dir = tempfile::tempdir().unwrap();
    images(dir.path());
    let waste = dir.path().join("store/blobs/sha256").join(format!("{:064}", 0));
    std::fs::write(&waste, b"").unwrap();
    let output = haversack(dir.path(), &["verify", "oci:store"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let next = "what no image needs takes room and does no harm; to remove it, while nobody writes there: `haversack gc store --grace 0`\n";
    let line = ": nothing is wrong; no image needs 1 other blob: 0 B\n";
    assert!(output.status.code() == Some(0) && text.ends_with(&format!("{line}{next}")), "{text}");
    let report: serde_json::Value =
        serde_json::from_slice(&haversack(dir.path(), &["--json", "verify", "oci:store"]).stdout).unwrap();
    let unneeded = serde_json::json!([{ "digest": format!("sha256:{:064}", 0), "size": 0 }]);
    assert_eq!((&report["findings"], &report["unneeded"]), (&serde_json::json!([]), &unneeded));
    done(&haversack(dir.path(), &["--json", "gc", "store", "--grace", "0"]));
    let text = String::from_utf8(haversack(dir.path(), &["verify", "oci:store"]).stdout).unwrap();
    assert!(!waste.exists() && text.ends_with(": nothing is wrong\n"), "{text}");
}
