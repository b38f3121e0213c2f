//! What bad clients send.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use haversack::digest::Digest;

use crate::server::{Serve, arg, image, layout};

#[test]
fn tricks_in_paths_reach_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    store.tag(&image(&store, b"x"), Some("a/b:1")).unwrap();
    std::fs::write(dir.path().join("secret"), "secret").unwrap();
    let serve = Serve::start(&[arg(&store)]);
    let hex = Digest::sha256(b"x").hex().to_owned();
    for path in [
        "/v2/../../secret".to_owned(),
        "/v2/a/b/blobs/../../../../secret".to_owned(),
        "/v2/a/b/blobs/sha256:../../../secret".to_owned(),
        "/v2/a/b/blobs/sha256:%2e%2e%2f%2e%2e%2fsecret".to_owned(),
        "/v2/a/../../b/manifests/1".to_owned(),
        "/v2/%2e%2e/manifests/1".to_owned(),
        "/v2/a%2fb/manifests/1".to_owned(),
        "/v2/a/b/manifests/..".to_owned(),
        "/v2/a/b/manifests/1%00".to_owned(),
        "/v2//a/b/manifests/1".to_owned(),
        format!("/v2/a/b/blobs/sha256:{}", &hex[1..]),
        format!("/v2/a/b/blobs/sha256:{hex}0"),
        format!("/v2/a/b/blobs/sha256:{}", hex.to_uppercase()),
        format!("/v2/a/b/blobs/sha512:{hex}"),
        format!("/v2/{}/manifests/1", "a".repeat(300)),
        format!("/v2/a/b/manifests/{}", "a".repeat(10_000)),
    ] {
        let answer = serve.get(&path);
        assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.status);
        assert!(!String::from_utf8_lossy(&answer.body).contains("secret\"}"), "{path}");
    }
}

#[test]
fn heads_that_are_too_large_or_no_heads_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    let serve = Serve::start(&[arg(&store)]);
    let large = format!("GET /v2/ HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(200_000));
    let many = format!("GET /v2/ HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(1000));
    for (what, text, status) in [
        ("large", large.as_str(), 431),
        ("many", &many, 431),
        ("nonsense", "\u{16}\u{3}\u{1}", 400),
        ("http/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ] {
        let answer = serve.raw(text.as_bytes(), false);
        assert!(answer.status == status || answer.status == 0, "{what}: {}", answer.status);
    }
    assert_eq!(serve.get("/v2/").status, 200);
}

#[test]
fn those_who_say_nothing_or_read_nothing_do_not_keep_others_out() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    let content = vec![3; 64 << 20];
    store.tag(&image(&store, &content), Some("a/b:1")).unwrap();
    let serve = Serve::start(&[arg(&store), "--idle-timeout", "1"]);
    let mut silent: Vec<_> = (0..300).map(|_| serve.connect()).collect();
    for stream in silent.iter_mut().step_by(2) {
        stream.write_all(b"GET /v2/ HTTP/1.1\r\nX: ").unwrap();
    }
    let mut lazy = serve.connect();
    let path = format!("/v2/a/b/blobs/{}", Digest::sha256(&content));
    lazy.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
    let started = Instant::now();
    assert_eq!(serve.get("/v2/a/b/manifests/1").status, 200);
    assert!(started.elapsed() < Duration::from_secs(2));
    serve.log_with("given up after");
    // The rest of what it was sent, and then the end.
    let read = lazy.read_to_end(&mut Vec::new());
    assert!(read.is_err() || read.is_ok_and(|n| n < content.len()));
}

#[test]
fn more_connections_than_there_are_places_wait_for_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    let serve = Serve::start(&[arg(&store), "--max-connections", "2"]);
    let (first, second) = (serve.connect(), serve.connect());
    let mut third = serve.connect();
    third.write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    third.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    assert!(third.read(&mut [0; 1]).is_err());
    drop((first, second));
    third.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut text = String::new();
    third.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
}
