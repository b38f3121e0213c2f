//! A carry into a registry: it is asked first, and what it did not get stays for the next run.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use futures_util::stream;
use haversack::image::Layout;

use crate::images::{TAR, image, tar, text};
use crate::keeper::{Keeper, Quirk};
use crate::site::layouts;
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

/// How an answer is made.
type Made = fn() -> Response;

/// A blob of which the first bytes come, and then nothing.
fn stalled(bytes: Vec<u8>) -> Response {
    let first = stream::iter([Ok::<_, std::io::Error>(Bytes::from(bytes))]);
    Body::from_stream(first.chain(stream::pending())).into_response()
}

/// A blob of which, after a while, nothing comes.
fn broken() -> Response {
    let broken = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Err::<Bytes, _>(std::io::Error::other("broken"))
    };
    Body::from_stream(stream::once(broken)).into_response()
}

#[test]
fn what_has_come_of_what_a_carry_is_built_on_is_not_fetched_again() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    layouts(dir);
    // What each blob is answered with, by the end of its path, and which were asked for.
    let quirks: Arc<Mutex<Vec<(String, Made)>>> = Arc::default();
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let answers = {
        let (quirks, asked) = (quirks.clone(), asked.clone());
        move |method: &str, path: &str| {
            let digest = path.rsplit('/').next().filter(|_| method == "GET" && path.contains("/blobs/"))?;
            asked.lock().unwrap().push(digest.to_owned());
            let quirks = quirks.lock().unwrap();
            quirks.iter().find(|(of, _)| of == digest).map(|(_, answer)| answer())
        }
    };
    let registry = Keeper::start(Quirk { answers: Some(Arc::new(answers)), ..Quirk::default() });
    let (host, to) = (&registry.address, format!("docker://{}/mirror", registry.address));
    let unpack = |carry| ["unpack", carry, "--to", &to, "--tls-verify=false", "--retries", "0"];
    let pack = |from: &[&str], out: &str| {
        done(dir, &[&["pack"][..], from, &["--out", out, "--site", "plant", "--no-program"]].concat())
    };
    pack(&["oci:one"], "carry-1");
    let unpacked = done(dir, &unpack("carry-1"));
    done(dir, &["site", "confirm", "plant", unpacked["receipt"]["code"].as_str().unwrap()]);
    let second = pack(&["oci:one", "oci:two"], "carry-2");
    // A configuration and two layers, of which one is larger than what is under way at one time.
    let mut needs: Vec<(u64, String)> = second["needs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|need| (need["size"].as_u64().unwrap(), need["digest"].as_str().unwrap().to_owned()))
        .collect();
    needs.sort();
    let [(_, config), (_, small), (_, large)] = &needs[..] else { panic!("{needs:?}") };
    let place = dir.join(format!("carry-{}", second["id"].as_str().unwrap()));
    let told = || {
        let told = error(dir, &unpack("carry-2"));
        told.replace(host, "HOST").replace(second["id"].as_str().unwrap(), "ID").replace(small, "SMALL")
    };

    // Of a registry that gives nothing, nothing stays.
    let refused: Made = || StatusCode::FORBIDDEN.into_response();
    *quirks.lock().unwrap() = [config, small, large].map(|digest| (digest.clone(), refused)).into();
    let denied = told();
    assert!(denied.starts_with("HOST/mirror/app: access denied with the available credentials\n"), "{denied}");
    assert!(!place.exists());

    // One comes, of another one half, and the third ends it all.
    *quirks.lock().unwrap() = vec![(large.clone(), || stalled(vec![b'x'; 100_000])), (small.clone(), broken)];
    let broken = told();
    assert_eq!(
        broken.lines().take(2).collect::<Vec<_>>(),
        [
            "not everything that the carry is built on came from HOST; ./carry-ID stays, and the next run goes on with it",
            "  because: http://HOST/v2/mirror/app/blobs/SMALL: the answer broke off",
        ],
        "{broken}"
    );
    let half = place.join(format!(".{}.partial", large.replace(':', "-")));
    assert_eq!(fs::read(&half).unwrap(), vec![b'x'; 100_000]);

    quirks.lock().unwrap().clear();
    asked.lock().unwrap().clear();
    fs::write(&half, &registry.kept(large)[..100_000]).unwrap();
    let unpacked = done(dir, &unpack("carry-2"));
    assert_eq!(unpacked["needed_blobs"], 3);
    let mut again = asked.lock().unwrap().clone();
    again.sort();
    let mut expected = vec![small.clone(), large.clone()];
    expected.sort();
    assert_eq!(again, expected);
    assert!(!place.exists());
}
