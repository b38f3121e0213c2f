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

#[test]
fn thousands_who_come_and_go_cost_no_more_memory_and_no_files() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    let content = vec![3; 1 << 20];
    store.tag(&image(&store, &content), Some("a/b:1")).unwrap();
    let serve = Serve::start(&[arg(&store), "--no-access-log"]);
    let digest = Digest::sha256(&content);
    let (blob, manifest) = (format!("/v2/a/b/blobs/{digest}"), "/v2/a/b/manifests/1".to_owned());
    let status = |what: &str| {
        let text = std::fs::read_to_string(format!("/proc/{}/status", serve.child.id())).unwrap();
        let line = text.lines().find(|line| line.starts_with(what)).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let files = || std::fs::read_dir(format!("/proc/{}/fd", serve.child.id())).unwrap().count();
    assert_eq!(serve.get(&blob).status, 200);
    let before = files();
    for _ in 0..5 {
        std::thread::scope(|scope| {
            for client in 0..200 {
                let (serve, blob, manifest) = (&serve, &blob, &manifest);
                scope.spawn(move || match client % 4 {
                    0 => assert_eq!(serve.get(blob).body.len(), 1 << 20),
                    1 => assert_eq!(serve.get(manifest).status, 200),
                    2 => drop(serve.connect()),
                    // Goes away in the middle of an answer.
                    _ => {
                        let mut stream = serve.connect();
                        let _ = stream.write_all(format!("GET {blob} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
                        let _ = stream.read(&mut [0; 1000]);
                    }
                });
            }
        });
    }
    let until = Instant::now() + Duration::from_secs(10);
    while files() > before + 2 {
        assert!(Instant::now() < until, "{} files are open, {before} were", files());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(status("VmHWM:") < 128 << 10, "{} KiB", status("VmHWM:"));
}

#[test]
fn bodies_where_none_belong_and_two_requests_at_once_are_answered_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    store.tag(&image(&store, b"x"), Some("a/b:1")).unwrap();
    let serve = Serve::start(&[arg(&store)]);
    let mut stream = serve.connect();
    // Reads that we answer ourselves, one with a body, which hyper does, and others behind it.
    let text = "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\nHEAD /v2/a/b/manifests/1 HTTP/1.1\r\nHost: x\r\n\r\n\
                GET /v2/_catalog HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody\
                GET /v2/a/b/tags/list HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(text.as_bytes()).unwrap();
    let mut reader = std::io::BufReader::new(stream);
    let mut read = |is_head| crate::server::Answer::read(&mut reader, is_head);
    assert_eq!(read(false).body, b"{}");
    assert_eq!(read(true).status, 200);
    assert_eq!(read(false).json()["repositories"][0], "a/b");
    assert_eq!(read(false).json()["tags"][0], "1");
    // Both lengths at once are how requests are smuggled.
    let both = "GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /secret HTTP/1.1\r\n\r\n";
    let answer = serve.raw(both.as_bytes(), false);
    assert!(matches!(answer.status, 200 | 400), "{}", answer.status);
}
