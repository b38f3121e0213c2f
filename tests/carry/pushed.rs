//! A carry into a registry: it is asked first, and what it did not get stays for the next run.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use haversack::image::Layout;

use crate::images::{TAR, image, tar, text};
use crate::keeper::{Keeper, Quirk};
use crate::{done, error, haversack};

/// A carry with two images, of which one layer is the same.
fn carry(dir: &Path) -> String {
    let layout = Layout::create(&dir.join("from")).unwrap();
    let same = tar(&[("same", &text(1, 3))]);
    for (name, seed) in [("example.org/app:1", 2), ("example.org/other:1", 3)] {
        image(&layout, Some(name), &[(TAR, &same), (TAR, &tar(&[("own", &text(seed, 3))]))]);
    }
    done(dir, &["pack", "oci:from", "--out", "carry", "--no-program"])["id"].as_str().unwrap().to_owned()
}

/// What is in a directory.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_registry_that_takes_nothing_is_known_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    carry(dir);
    let before = names(dir);
    let open = Keeper::start(Quirk::default());
    let shut = Keeper::start(Quirk {
        answers: Some(Arc::new(|_, _| {
            Some((StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Basic realm=\"r\"")]).into_response())
        })),
        ..Quirk::default()
    });
    let no_registry = Keeper::start(Quirk {
        answers: Some(Arc::new(|_, _| Some(StatusCode::NOT_FOUND.into_response()))),
        ..Quirk::default()
    });
    for (address, options, expected) in [
        (
            &open.address,
            &[][..],
            "HOST: answers in plain HTTP, without TLS\nhint: if no TLS is intended there, add `--tls-verify=false`",
        ),
        (
            &"127.0.0.1:1".to_owned(),
            &["--tls-verify=false"],
            "http://HOST/v2/: cannot connect\n  because: Connection refused (os error 111)\nhint: check that 127.0.0.1 can be reached from \
             here (proxies are taken from HTTPS_PROXY, HTTP_PROXY and NO_PROXY; further certificate authorities from SSL_CERT_FILE \
             and `--ca-file`)",
        ),
        (
            &shut.address,
            &["--tls-verify=false"],
            "HOST/mirror/app: access denied with the available credentials\nhint: log in with `haversack login` or `podman login`, or \
             name the file with credentials with `--authfile`",
        ),
        (
            &no_registry.address,
            &["--tls-verify=false"],
            "http://HOST/v2/: no registry answers here\nhint: another server answers there: check host and port, HOST",
        ),
    ] {
        let to = format!("docker://{address}/mirror");
        let told = error(dir, &[&["unpack", "carry", "--to", &to, "--retries", "0"], options].concat());
        assert_eq!(told.replace(address, "HOST"), expected);
        assert_eq!(names(dir), before, "{expected}");
    }
}

#[test]
fn what_a_registry_did_not_get_stays_for_the_next_run_and_is_counted_there() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let id = carry(dir);
    let full = Arc::new(AtomicBool::new(true));
    let answers = {
        let full = full.clone();
        move |method: &str, path: &str| {
            let refused = method == "PUT" && path.ends_with("/manifests/1") && path.contains("/other/");
            (refused && full.load(Ordering::Relaxed)).then(|| StatusCode::FORBIDDEN.into_response())
        }
    };
    let registry = Keeper::start(Quirk { answers: Some(Arc::new(answers)), ..Quirk::default() });
    let (host, to) = (&registry.address, format!("docker://{}/mirror", registry.address));
    let unpack = ["unpack", "carry", "--to", &to, "--tls-verify=false", "--retries", "0"];
    let told = error(dir, &unpack);
    assert_eq!(
        told.replace(host, "HOST").replace(&id, "ID"),
        "not everything is in HOST; ./carry-ID stays, and the next run goes on with it\n  because: HOST/mirror/other: access denied with the \
         available credentials\nhint: log in with `haversack login` or `podman login`, or name the file with credentials with \
         `--authfile`"
    );
    assert!(dir.join(format!("carry-{id}/oci-layout")).exists());
    full.store(false, Ordering::Relaxed);
    let output = haversack(dir, &unpack);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    let told: Vec<String> = text.lines().take(3).map(|line| line.replace(&id, "ID")).collect();
    assert_eq!(told, ["carry ID: 2 images", "  0 blobs sent: 0 B", "  6 blobs were there"], "{text}");
    assert!(text.contains(&format!("\n  {host}/mirror/other:1@sha256:")), "{text}");
    assert!(!dir.join(format!("carry-{id}")).exists());
}
