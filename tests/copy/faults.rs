//! What a registry can do wrong, and what must not come of it.

use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use haversack::digest::Digest;

use crate::quirky::{LAYER_SIZE, Quirk, Quirky};
use crate::{clean, done, error, haversack};

/// Blobs that are there after a copy that failed.
fn blobs(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("store/blobs/sha256")).unwrap().count()
}

#[test]
fn an_image_arrives_with_its_digest_and_a_second_copy_sends_nothing() {
    let (registry, dir) = (Quirky::start(Quirk::None), tempfile::tempdir().unwrap());
    let digest = Digest::sha256(&registry.blobs["1"]).to_string();
    let dry = done(&registry.copy(dir.path(), &["--dry-run"]));
    assert_eq!((&dry["sent_blobs"], dir.path().join("store").exists()), (&2.into(), false));
    let first = done(&registry.copy(dir.path(), &[]));
    assert_eq!((&first["digest"], &first["sent_blobs"]), (&digest.into(), &2.into()));
    clean(dir.path());
    let second = done(&registry.copy(dir.path(), &[]));
    assert_eq!((&second["sent_blobs"], &second["present_blobs"]), (&0.into(), &2.into()));
    assert_eq!(registry.asked("/blobs/").len(), 2);
}

#[test]
fn a_connection_that_breaks_is_taken_up_where_it_broke() {
    for (ranges, expected) in
        [(true, ["", "bytes=150000-", "bytes=225000-"]), (false, ["", "bytes=150000-", "bytes=150000-"])]
    {
        let (registry, dir) = (Quirky::start(Quirk::BreaksOff { times: 2, ranges }), tempfile::tempdir().unwrap());
        done(&registry.copy(dir.path(), &[]));
        clean(dir.path());
        let (layer, _) = registry.blobs.iter().find(|(_, bytes)| bytes.len() == LAYER_SIZE).unwrap();
        let asked = registry.asked(layer);
        let ranges: Vec<_> = asked.iter().map(|line| line.split(' ').nth(3).unwrap_or_default()).collect();
        assert_eq!(ranges, expected);
    }
}

#[test]
fn a_server_that_is_busy_is_asked_again() {
    let (registry, dir) = (Quirky::start(Quirk::Busy), tempfile::tempdir().unwrap());
    done(&registry.copy(dir.path(), &[]));
    clean(dir.path());
}

#[test]
fn what_is_not_what_was_described_is_refused_and_not_kept() {
    for (quirk, expected, kept) in [
        (Quirk::WrongByte, "expected sha256:", 1),
        (Quirk::MoreBytes, "expected 300000 bytes, found more", 1),
        (Quirk::BreaksOff { times: 99, ranges: false }, "the answer broke off", 1),
        (Quirk::Html, "no registry answers here", 0),
        (Quirk::HugeManifest, "larger than 4194304 bytes", 0),
        (Quirk::WrongManifest, "expected sha256:", 0),
    ] {
        let (registry, dir) = (Quirky::start(quirk), tempfile::tempdir().unwrap());
        let error = error(&registry.copy(dir.path(), &[]));
        assert!(error.contains(expected), "{error}");
        if dir.path().join("store").exists() {
            assert!(blobs(dir.path()) <= kept, "{error}");
            assert_eq!(haversack(dir.path(), &["inspect", "oci:store:x"]).status.code(), Some(1));
        }
    }
}

#[test]
fn credentials_go_to_the_registry_and_not_where_it_redirects_to() {
    let elsewhere = Quirky::start(Quirk::None);
    let registry = Quirky::start(Quirk::Redirects { to: elsewhere.address.clone() });
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join(".docker")).unwrap();
    let auth = format!(r#"{{"auths":{{"{}":{{"auth":"dXNlcjpzZWNyZXQ="}}}}}}"#, registry.address);
    std::fs::write(dir.path().join(".docker/config.json"), auth).unwrap();
    done(&registry.copy(dir.path(), &[]));
    clean(dir.path());
    assert!(registry.asked("/blobs/").iter().all(|line| line.ends_with("Basic dXNlcjpzZWNyZXQ=")));
    assert_eq!(elsewhere.asked("/blobs/").len(), 2);
    assert_eq!(elsewhere.asked("Basic"), [""; 0]);
}

#[test]
fn a_token_is_asked_for_with_the_password_and_for_this_repository() {
    let (registry, dir) = (Quirky::start(Quirk::Token), tempfile::tempdir().unwrap());
    let refused = error(&registry.copy(dir.path(), &[]));
    assert!(
        refused.starts_with(&format!("{}/r/i: not allowed with the credentials there are", registry.address)),
        "{refused}"
    );
    let file = dir.path().join("auth.json");
    let auth = format!(r#"{{"auths":{{"{}/r":{{"auth":"dXNlcjpzZWNyZXQ="}}}}}}"#, registry.address);
    std::fs::write(&file, auth).unwrap();
    done(&registry.copy(dir.path(), &["--authfile", "auth.json"]));
    clean(dir.path());
    let expected = "GET /token service=quirky&scope=repository%3Ar%2Fi%3Apull  Basic dXNlcjpzZWNyZXQ=";
    assert_eq!(registry.asked("Basic"), [expected]);
}

#[test]
fn a_registry_without_tls_is_told_at_once_with_what_to_do() {
    // What nginx, docker-registry and others say to a TLS hello.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, dir) = (listener.local_addr().unwrap(), tempfile::tempdir().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.unwrap().write_all(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTPS request");
        }
    });
    let started = Instant::now();
    let source = format!("docker://{address}/r/i:1");
    let error = error(&haversack(dir.path(), &["copy", &source, "oci:store:x", "--retries=1", "--retry-delay=10"]));
    assert!(started.elapsed() < Duration::from_secs(10));
    assert!(error.starts_with(&format!("{address}: no trusted connection")), "{error}");
    assert!(error.contains("hint: add its certificate authority with `--ca-file FILE`, or"), "{error}");
}
