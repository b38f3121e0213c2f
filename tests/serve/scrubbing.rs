//! Bits that rot are found while nobody asks for them, and what was found is known after a restart.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use haversack::digest::Digest;
use haversack::image::Layout;

use crate::server::{Serve, arg, image, layout};

fn content() -> Vec<u8> {
    vec![5; 1 << 20]
}

fn served(dir: &Path) -> (Layout, PathBuf) {
    let store = layout(dir, "store");
    store.tag(&image(&store, &content()), Some("a/b:1")).unwrap();
    let path = store.blob_path(&Digest::sha256(content()));
    (store, path)
}

fn damage(path: &Path) {
    let mut wrong = content();
    wrong[500_000] = 6;
    std::fs::write(path, wrong).unwrap();
}

fn metric(serve: &Serve, name: &str) -> u64 {
    let text = String::from_utf8(serve.get("/metrics").body).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("haversack_{name} ")));
    line.unwrap_or_else(|| panic!("{name}: {text}")).parse().unwrap()
}

fn refused(serve: &Serve) {
    let (status, _, message) = serve.get("/v2/a/b/manifests/1").error();
    assert!(status == 404 && message.contains("damaged"), "{message}");
}

#[test]
fn damage_is_found_though_nobody_asks_for_it_and_a_repair_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let (store, path) = served(dir.path());
    damage(&path);
    let serve = Serve::start(&["--scrub-every", "1s", arg(&store)]);
    serve.log_with("--state DIR");
    serve.log_with("damaged, its bytes have another digest");
    refused(&serve);
    assert_eq!(metric(&serve, "damaged_blobs"), 1);
    let page = String::from_utf8(serve.get("/").body).unwrap();
    assert!(page.contains(Digest::sha256(content()).as_str()), "{page}");
    std::fs::write(&path, content()).unwrap();
    assert_eq!(metric(&serve, "damaged_blobs"), 0);
    assert_eq!(serve.get("/v2/a/b/manifests/1").status, 200);
    assert!(metric(&serve, "scrubbed_bytes_total") >= 1 << 20 && metric(&serve, "scrubbed_blobs_total") >= 1);
}

#[test]
fn rot_under_unchanged_times_is_found_and_what_was_found_is_known_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (store, path) = served(dir.path());
    let state = dir.path().join("state");
    let args = |every| ["--state", state.to_str().unwrap(), "--scrub-every", every, arg(&store)].map(str::to_owned);
    let start = |every| Serve::start(&args(every).each_ref().map(String::as_str));
    let serve = start("off");
    assert_eq!(serve.get(&format!("/v2/a/b/blobs/{}", Digest::sha256(content()))).body, content());
    drop(serve);
    // The file's times cannot be kept, but those that are known of it can be changed.
    damage(&path);
    let found = std::fs::metadata(&path).unwrap();
    let nanoseconds = |seconds: i64, rest: i64| seconds * 1_000_000_000 + rest;
    let directory = std::fs::read_dir(&state).unwrap().next().unwrap().unwrap().path();
    let database = rusqlite::Connection::open(directory.join("serve.db")).unwrap();
    let changed = database
        .execute(
            "UPDATE checked SET modified = ?1, changed = ?2, inode = ?3, at = 0",
            [
                nanoseconds(found.mtime(), found.mtime_nsec()),
                nanoseconds(found.ctime(), found.ctime_nsec()),
                found.ino().cast_signed(),
            ],
        )
        .unwrap();
    assert_eq!(changed, 1);
    drop(database);

    let serve = start("off");
    assert_eq!(serve.get("/v2/a/b/manifests/1").status, 200);
    assert!(!std::fs::read(&path).unwrap().is_empty() && metric(&serve, "damaged_blobs") == 0);
    drop(serve);
    let serve = start("1s");
    serve.log_with("damaged, its bytes have another digest");
    refused(&serve);
    drop(serve);
    let serve = start("off");
    refused(&serve);
    assert_eq!(metric(&serve, "damaged_blobs"), 1);
}
