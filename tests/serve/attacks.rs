//! Faults that other registries had (CVE and GHSA numbers), tried here. docs/security.md has the table of all.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use haversack::digest::Digest;
use haversack::image::Layout;
use serde_json::{Value, json};

use crate::pushing::{begin, manifest_of, push, put, start};
use crate::server::{Serve, arg, artifact, image, index, layout};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// The most memory that a server has had, in KiB.
fn peak(serve: &Serve) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", serve.child.id())).unwrap();
    let line = text.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// CVE-2023-2253: distribution reserved what `n` said.
#[test]
fn numbers_of_lists_reserve_nothing_whatever_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    store.tag(&image(&store, b"x"), Some("a/b:1")).unwrap();
    let serve = Serve::start(&[arg(&store)]);
    let before = peak(&serve);
    for n in ["-1", "x", "", "1e9", "2147483648", "9223372036854775807", "9223372036854775808", "18446744073709551616"]
    {
        for path in ["/v2/a/b/tags/list", "/v2/_catalog", "/api/v1/repositories", "/api/v1/repositories/a/b"] {
            for key in ["n", "last"] {
                let answer = serve.get(&format!("{path}?{key}={n}"));
                assert!(matches!(answer.status, 200 | 400), "{path}?{key}={n}: {}", answer.status);
            }
        }
    }
    assert!(peak(&serve) < before + (16 << 10), "{} KiB, {before} before", peak(&serve));
}

/// CVE-2017-11468: manifests that are small to send and large to hold.
#[test]
fn nested_and_crowded_manifests_cost_no_more_than_their_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    let serve = start(&store);
    let manifest: Value = serde_json::from_slice(&manifest_of(&serve, "a/b", b"layer")).unwrap();
    let before = peak(&serve);
    let with = |key: &str, value: &str| {
        let text = manifest.to_string();
        format!("{},\"{key}\":{value}}}", text.strip_suffix('}').unwrap())
    };
    let crowd = |n: usize| {
        let all: serde_json::Map<String, Value> = (0..n).map(|n| (n.to_string(), json!(""))).collect();
        Value::Object(all).to_string()
    };
    let layers = |n: usize| {
        let mut crowded = manifest.clone();
        crowded["layers"] = Value::Array(vec![manifest["layers"][0].clone(); n]);
        crowded.to_string()
    };
    for (what, content, status) in [
        ("nested arrays", with("x", &"[".repeat(1_000_000)), 400),
        ("nested objects", with("x", &"{\"a\":".repeat(100_000)), 400),
        ("a hundred thousand annotations", with("annotations", &crowd(100_000)), 201),
        ("a million annotations", with("annotations", &crowd(1_000_000)), 413),
        ("twenty thousand times the same layer", layers(20_000), 201),
    ] {
        let answer = put(&serve, "a/b/manifests/1", MANIFEST, content.as_bytes());
        assert_eq!(answer.status, status, "{what}: {}", String::from_utf8_lossy(&answer.body));
    }
    assert_eq!(serve.get("/v2/a/b/manifests/1").status, 200);
    assert_eq!(serve.get("/images/a/b:1").status, 200);
    assert!(peak(&serve) < before + (96 << 10), "{} KiB, {before} before", peak(&serve));
}

/// CVE-2024-39897: zot gave a blob to whoever knew its digest, through any repository.
#[test]
fn a_blob_is_in_no_other_repository_than_where_it_was_put() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    store.tag(&image(&store, b"layer of a"), Some("a/a:1")).unwrap();
    store.tag(&image(&store, b"layer of b"), Some("b/b:1")).unwrap();
    let serve = start(&store);
    let pushed = push(&serve, "a/a", b"pushed to a");
    for digest in [Digest::sha256(b"layer of a"), pushed] {
        let at = format!("/v2/b/b/blobs/{digest}");
        assert_eq!(serve.get(&at.replace("/b/b/", "/a/a/")).status, 200);
        for (method, headers) in [("GET", &[][..]), ("HEAD", &[]), ("GET", &[("Range", "bytes=0-3")])] {
            assert_eq!(serve.send(method, &at, headers, b"").status, 404, "{method} {headers:?}");
        }
        assert_eq!(serve.send("DELETE", &at, &[], b"").status, 404);
        let of = json!({ "mediaType": "application/octet-stream", "digest": digest, "size": 10 });
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": of, "layers": [] });
        let answer = put(&serve, "b/b/manifests/2", MANIFEST, manifest.to_string().as_bytes());
        assert_eq!(answer.error().1, "MANIFEST_BLOB_UNKNOWN");
        // What is not said to be there is not: no mount from a repository that lacks it.
        let mount = format!("/v2/c/c/blobs/uploads/?mount={digest}&from=b/b");
        assert_eq!(serve.send("POST", &mount, &[], b"").status, 202);
    }
}

#[test]
fn names_of_uploads_that_are_paths_reach_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    let serve = start(&store);
    let at = begin(&serve, "a/b");
    let id = at.rsplit('/').next().unwrap().split('?').next().unwrap();
    let work = store.root().join(".haversack");
    std::fs::write(work.join("other"), "other").unwrap();
    for name in [
        "..",
        ".",
        "../other",
        "..%2fother",
        "%2e%2e%2fother",
        "../serve.db",
        "other",
        "x%00",
        &format!("{id}/../../other"),
        &format!("{id}x"),
        &"a".repeat(5000),
    ] {
        let path = format!("/v2/a/b/blobs/uploads/{name}");
        for method in ["GET", "PATCH", "PUT", "DELETE"] {
            let query = if method == "PUT" { format!("?digest={}", Digest::sha256(b"new")) } else { String::new() };
            let answer = serve.send(method, &format!("{path}{query}"), &[], b"new");
            assert!(matches!(answer.status, 400 | 404 | 405), "{method} {name}: {}", answer.status);
        }
    }
    // Nor is one of another repository this one's.
    let other = at.replace("/a/b/", "/c/d/");
    assert_eq!(serve.send("PATCH", &other, &[], b"new").status, 404);
    assert_eq!(std::fs::read(work.join("other")).unwrap(), b"other");
    assert_eq!(serve.get(&at).status, 204);
    assert!(work.join("serve.db").exists());
}

/// Two manifests that are about each other, by their fallback tags; no digest can do that.
#[test]
fn referrers_in_a_circle_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    let (one, two) = (image(&store, b"one"), image(&store, b"two"));
    store.tag(&one, Some("a/b:one")).unwrap();
    store.tag(&two, Some("a/b:two")).unwrap();
    let about = artifact(&store, &one, "a/b", "");
    let listed = index(&store, &[&one, &two, &about]);
    for of in [&one, &two, &about, &listed] {
        store.tag(&listed, Some(&format!("a/b:{}", of.digest().to_string().replace(':', "-")))).unwrap();
    }
    let serve = Serve::start(&[arg(&store)]);
    for (of, n) in [(&one, 3), (&two, 3), (&about, 3)] {
        let found = serve.get(&format!("/v2/a/b/referrers/{}", of.digest())).json();
        assert_eq!(found["manifests"].as_array().unwrap().len(), n, "{}", of.digest());
        assert_eq!(serve.get(&format!("/v2/a/b/manifests/{}", of.digest())).status, 200);
        assert_eq!(serve.get(&format!("/images/a/b@{}", of.digest())).status, 200);
    }
    // Those who follow them come to an end, too. Opened for reading, nobody writes to it any more.
    drop(store);
    let store = Layout::open(&dir.path().join("store")).unwrap();
    let haversack = assert_cmd::cargo::cargo_bin!("haversack");
    let (from, to) =
        (format!("docker://{}/a/b:one", serve.address), format!("oci:{}:x", dir.path().join("to").display()));
    let store = arg(&store);
    for args in
        [&["copy", "--src-tls-verify=false", &from, &to][..], &["verify", store], &["gc", store, "--grace", "0"]]
    {
        let output = std::process::Command::new("timeout").arg("60").arg(haversack).args(args).output().unwrap();
        // These images are not what engines run, and `verify` says so.
        let expected = i32::from(args[0] == "verify");
        assert_eq!(output.status.code(), Some(expected), "{args:?}: {output:?}");
    }
    assert_eq!(serve.get("/v2/a/b/manifests/one").status, 200);
}

/// GHSA issues of hyper's and axum's users: a head that comes byte by byte holds a connection for ever.
#[test]
fn heads_that_come_byte_by_byte_end_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    let serve = start(&store);
    let started = Instant::now();
    std::thread::scope(|scope| {
        // The first two are read by the loop for plain reads, and hyper reads the third.
        for head in ["GET /v2/ HTTP/1.1\r\nX: ", "G", "PUT /v2/ HTTP/1.1\r\nContent-Length: 1\r\n\r\n"] {
            let mut stream = serve.connect();
            scope.spawn(move || {
                stream.write_all(head.as_bytes()).unwrap();
                stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
                let mut read = [0; 4096];
                loop {
                    assert!(started.elapsed() < Duration::from_secs(100), "{head}");
                    match stream.read(&mut read) {
                        Ok(0) => return,
                        Ok(_) => {}
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                        Err(_) => return,
                    }
                    if stream.write_all(b"a").is_err() {
                        return;
                    }
                }
            });
        }
    });
    assert_eq!(serve.get("/v2/").status, 200);
}
