//! What a registry can do wrong, and what must not come of it.

use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use haversack::digest::Digest;
use haversack::image::store::layout;
use haversack::image::{Layout, PartialBlob};
use oci_spec::image::MediaType;

use crate::quirky::{LAYER_SIZE, Quirk, Quirky};
use crate::real::large;
use crate::taker::{Accident, Taker};
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
    for (at, ranges, expected) in [
        (150_000, true, ["", "bytes=150000-", ""]),
        (100_000, true, ["", "bytes=100000-", "bytes=200000-"]),
        (1, true, ["", "bytes=1-", "bytes=2-"]),
        (0, true, ["", "", ""]),
        (LAYER_SIZE - 1, true, ["", "bytes=299999-", ""]),
        (150_000, false, ["", "bytes=150000-", "bytes=150000-"]),
    ] {
        let (registry, dir) = (Quirky::start(Quirk::BreaksOff { at, times: 2, ranges }), tempfile::tempdir().unwrap());
        done(&registry.copy(dir.path(), &[]));
        clean(dir.path());
        let (layer, _) = registry.blobs.iter().find(|(_, bytes)| bytes.len() == LAYER_SIZE).unwrap();
        let asked = registry.asked(layer);
        let ranges: Vec<_> = asked.iter().map(|line| line.split(' ').nth(3).unwrap_or_default()).collect();
        let expected: Vec<_> = expected.into_iter().take(ranges.len()).collect();
        assert_eq!(ranges, expected, "{at}");
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
        (Quirk::FewerBytes, "ended after 299999 of 300000 bytes", 1),
        (
            Quirk::OtherAnnounced,
            "expected sha256:d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa, found",
            0,
        ),
        (
            Quirk::Digest("sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855"),
            "Invalid non-hexadecimal character in digest",
            1,
        ),
        (Quirk::Digest("md5:d41d8cd98f00b204e9800998ecf8427e"), "unknown digest algorithm `md5`", 1),
        (Quirk::Digest("sha256:../../../../etc/passwd"), "Invalid encoded value", 1),
        (Quirk::MoreBytes, "expected 300000 bytes, found more", 1),
        (Quirk::BreaksOff { at: 150_000, times: 99, ranges: false }, "the answer broke off", 1),
        (Quirk::Html, "no registry answers here", 0),
        (Quirk::HugeManifest, "larger than 4194304 bytes", 0),
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
fn a_manifest_that_is_not_the_one_of_its_digest_is_refused() {
    let (registry, dir) = (Quirky::start(Quirk::WrongManifest), tempfile::tempdir().unwrap());
    let digest = Digest::sha256(&registry.blobs["1"]);
    let source = format!("docker://{}/r/i@{digest}", registry.address);
    let error = error(&haversack(dir.path(), &["copy", &source, "oci:store:x", "--src-tls-verify=false"]));
    assert!(error.contains(&format!("expected {digest}, found sha256:")), "{error}");
    assert!(!dir.path().join("store").exists());
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
    for answer in [
        r#"{"token":"let-me-in"}"#,
        r#"{"access_token":"let-me-in"}"#,
        r#"{"token":"","access_token":"let-me-in"}"#,
        r#"{"token":null,"access_token":"let-me-in","expires_in":60}"#,
    ] {
        let (registry, dir) = (Quirky::start(Quirk::Token(answer)), tempfile::tempdir().unwrap());
        let refused = error(&registry.copy(dir.path(), &[]));
        assert!(
            refused.starts_with(&format!("{}/r/i: access denied with the available credentials", registry.address)),
            "{refused}"
        );
        let file = dir.path().join("auth.json");
        let auth = format!(r#"{{"auths":{{"{}/r":{{"auth":"dXNlcjpzZWNyZXQ="}}}}}}"#, registry.address);
        std::fs::write(&file, auth).unwrap();
        done(&registry.copy(dir.path(), &["--authfile", "auth.json"]));
        clean(dir.path());
        let expected = "GET /token service=quirky&scope=repository%3Ar%2Fi%3Apull  Basic dXNlcjpzZWNyZXQ=";
        assert_eq!(registry.asked("Basic"), [expected], "{answer}");
    }
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
    assert!(error.starts_with(&format!("{address}: answers in plain HTTP, without TLS")), "{error}");
    assert!(error.contains("hint: if no TLS is intended there, add `--src-tls-verify=false`"), "{error}");
}

#[test]
fn a_blob_that_was_begun_is_gone_on_with_by_the_next_run() {
    let (registry, dir) = (Quirky::start(Quirk::None), tempfile::tempdir().unwrap());
    let (layer, bytes) = registry.blobs.iter().find(|(_, bytes)| bytes.len() == LAYER_SIZE).unwrap();
    // What a run leaves that is killed.
    let layout = Layout::create(&dir.path().join("store")).unwrap();
    let described = layout::descriptor(MediaType::ImageLayer, &layer.parse().unwrap(), LAYER_SIZE as u64);
    let mut begun = PartialBlob::open(&layout, &described).unwrap().unwrap();
    begun.write(&bytes[..100_000]).unwrap();
    drop(begun);
    done(&registry.copy(dir.path(), &[]));
    clean(dir.path());
    assert_eq!(registry.asked(layer), [format!("GET /v2/r/i/blobs/{layer}  bytes=100000-")]);

    // And when that was not what it should be, the blob is fetched anew.
    let other = tempfile::tempdir().unwrap();
    let layout = Layout::create(&other.path().join("store")).unwrap();
    let mut begun = PartialBlob::open(&layout, &described).unwrap().unwrap();
    begun.write(&[0; 1000]).unwrap();
    drop(begun);
    done(&registry.copy(other.path(), &[]));
    clean(other.path());
}

#[test]
fn tags_are_read_page_by_page_and_only_from_the_registry_itself() {
    let elsewhere = Quirky::start(Quirk::None);
    let foreign: &'static str = format!("http://{}/v2/r/i/tags/list", elsewhere.address).leak();
    for (next, status, failure) in [
        ("/v2/r/i/tags/list?n=1000&last=b", 3, "manifests/b: not found"),
        (foreign, 1, "names a next page that is not its own"),
        // The same page again and again.
        ("/v2/r/i/tags/list?n=1000", 1, "names a next page that is not its own"),
    ] {
        let (registry, dir) = (Quirky::start(Quirk::Pages { next }), tempfile::tempdir().unwrap());
        let list = format!(
            "to = 'oci:store'\n[[images]]\nregistry = '{}'\nrepositories = ['r/i']\ntags = ['*']\n",
            registry.address
        );
        std::fs::write(dir.path().join("list.toml"), list).unwrap();
        let output = haversack(dir.path(), &["sync", "list.toml", "--src-tls-verify=false", "--json", "--retries=0"]);
        assert_eq!(output.status.code(), Some(status));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = report["failed"][0]["error"].as_str().unwrap();
        assert!(
            text.contains(failure) || text.contains(":b: not found\nhint: `haversack list-tags docker://"),
            "{text}"
        );
        assert_eq!(report["images"].as_array().unwrap().len(), usize::from(next.contains("last")));
    }
    assert_eq!(elsewhere.asked(""), [""; 0]);
}

#[test]
fn a_large_upload_is_gone_on_with_where_it_broke_off() {
    let piece = 64 << 20;
    let dir = tempfile::tempdir().unwrap();
    large(dir.path(), 1, 72 << 20);
    let layout = haversack::image::Layout::open(&dir.path().join("from")).unwrap();
    let blobs = std::fs::read_dir(layout.root().join("blobs/sha256")).unwrap();
    let size = blobs.map(|blob| blob.unwrap().metadata().unwrap().len()).max().unwrap();
    let patch = |start: u64| format!("PATCH {start}-{}", (start + piece).min(size) - 1);
    let (first, rest) = (patch(0), patch(piece));
    let half = format!("PATCH {}-{}", piece + (1 << 20), size - 1);
    for (accident, expected) in [
        (Accident::Breaks, vec![&*first, &rest, "GET", &half]),
        (Accident::Refused(416), vec![&*first, &rest, "PUT whole"]),
        // Of pieces that are too large for it.
        (Accident::Refused(413), vec![&*first, &rest, "PUT whole"]),
        (Accident::Forgotten, vec![&*first, &rest, "GET", &first, &rest]),
    ] {
        let taker = Taker::start(accident);
        let to = format!("docker://{}/r/x:1", taker.address);
        let copy =
            ["copy", "oci:from:x", &to, "--dest-tls-verify=false", "--retry-delay=0", "--no-referrers", "--json"];
        done(&haversack(dir.path(), &copy));
        assert_eq!(taker.asked(), expected);
        assert!(taker.holds(usize::try_from(size).unwrap()));
    }
    // And by the next run, when this one had to give up.
    let taker = Taker::start(Accident::Ends);
    let to = format!("docker://{}/r/x:1", taker.address);
    let copy = ["copy", "oci:from:x", &to, "--dest-tls-verify=false", "--retries=0", "--no-referrers", "--json"];
    error(&haversack(dir.path(), &copy));
    assert_eq!(taker.asked(), [&*first, &rest]);
    taker.come_back();
    done(&haversack(dir.path(), &copy));
    assert_eq!(taker.asked(), ["GET", &rest]);
    assert!(taker.holds(usize::try_from(size).unwrap()));
}

#[test]
fn a_manifest_is_sent_again_when_that_can_help_and_so_often_as_was_said() {
    let dir = tempfile::tempdir().unwrap();
    large(dir.path(), 1, 1000);
    for (status, code, times, sent, is_taken) in [
        // What a registry says while another client writes the same blob.
        (400, "DIGEST_INVALID", 1, 2, true),
        (400, "DIGEST_INVALID", 99, 4, false),
        (400, "MANIFEST_INVALID", 99, 1, false),
        (503, "UNAVAILABLE", 2, 3, true),
        (503, "UNAVAILABLE", 99, 4, false),
    ] {
        let taker = Taker::start(Accident::Manifest(status, code, times));
        let to = format!("docker://{}/r/x:1", taker.address);
        let quick = ["--retries=3", "--retry-delay=0", "--no-referrers", "--json"];
        let copy = [&["copy", "oci:from:x", &to, "--dest-tls-verify=false"][..], &quick].concat();
        let output = haversack(dir.path(), &copy);
        assert_eq!((taker.manifests(), output.status.success()), (sent, is_taken), "{code} {times}");
        if !is_taken {
            assert!(error(&output).contains(": refused"), "{}", error(&output));
        }
    }
}
