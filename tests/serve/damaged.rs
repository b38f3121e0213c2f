//! Layouts that are damaged, incomplete or change while they are served: nothing wrong is served, and what is wrong is said.

use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use haversack::digest::Digest;

use crate::server::{Serve, arg, bytes, image, index, layout, path};

/// A file that reads as one on a disc that was pulled out (EIO), for as long as this lives: a process's memory has nothing at 0.
struct Unreadable(std::path::PathBuf);

impl Unreadable {
    fn make(path: &Path) -> Self {
        let memory = format!("/proc/{}/mem", std::process::id());
        let status = Command::new("mount").args(["--bind", &memory]).arg(path).status().unwrap();
        assert!(status.success());
        assert_eq!(std::fs::read(path).unwrap_err().raw_os_error(), Some(5));
        Unreadable(path.to_owned())
    }
}

impl Drop for Unreadable {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_blob_with_wrong_bytes_is_never_whole_and_after_that_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    let content = vec![5; 1 << 20];
    let one = image(&store, &content);
    store.tag(&one, Some("a/b:1")).unwrap();
    let digest = Digest::sha256(&content);
    let mut wrong = content.clone();
    wrong[500_000] = 6;
    std::fs::write(store.blob_path(&digest), &wrong).unwrap();
    let blob = format!("/v2/a/b/blobs/{digest}");
    // Asked for whole, and for a part first.
    for headers in [&[][..], &[("Range", "bytes=0-9")]] {
        let serve = Serve::start(&[arg(&store)]);
        assert_eq!(serve.get("/v2/a/b/manifests/1").status, 200);
        let answer = serve.send("GET", &blob, headers, b"");
        assert!(!answer.is_whole || answer.status == 404, "{}", answer.status);
        serve.log_with("damaged, its bytes have another digest");
        for path in [&blob, "/v2/a/b/manifests/1"] {
            let (status, _, message) = serve.get(path).error();
            assert!(status == 404 && message.contains("damaged"), "{path}: {message}");
        }
        // Copied again, it is served again.
        std::fs::write(store.blob_path(&digest), &content).unwrap();
        assert_eq!(serve.get(&blob).body, content);
        assert_eq!(serve.send("GET", &blob, &[("Range", "bytes=0-9")], b"").body, content[..10]);
        assert_eq!(serve.get("/v2/a/b/manifests/1").status, 200);
        std::fs::write(store.blob_path(&digest), &wrong).unwrap();
    }
}

#[test]
fn an_image_that_lacks_something_is_refused_at_its_manifest_with_what_it_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    let (one, two) = (image(&store, b"one"), image(&store, b"two"));
    let list = index(&store, &[&one, &two]);
    store.tag(&list, Some("a/b:list")).unwrap();
    store.tag(&one, Some("a/b:one")).unwrap();
    let layer = Digest::sha256(b"two");
    let gone = store.blob_path(&layer);
    let manifest = path(&store, &two);
    let (layer_bytes, manifest_bytes) = (std::fs::read(&gone).unwrap(), bytes(&store, &two));
    let serve = Serve::start(&[arg(&store)]);
    let refused = |lacks: &str| {
        // What was whole is taken to be so for a second.
        std::thread::sleep(Duration::from_millis(1100));
        let (status, code, message) = serve.get("/v2/a/b/manifests/list").error();
        assert_eq!((status, code.as_str()), (404, "MANIFEST_UNKNOWN"));
        assert!(message.contains(lacks) && message.contains("is incomplete"), "{message}");
        assert_eq!(serve.get("/v2/a/b/manifests/one").status, 200);
    };
    assert_eq!(serve.get("/v2/a/b/manifests/list").status, 200);
    std::fs::remove_file(&gone).unwrap();
    refused(&format!("{layer} is not there"));
    std::fs::write(&gone, b"longer than it was").unwrap();
    refused(&format!("{layer} has another size"));
    std::fs::remove_file(&gone).unwrap();
    let elsewhere = dir.path().join("elsewhere");
    std::fs::write(&elsewhere, &layer_bytes).unwrap();
    symlink(&elsewhere, &gone).unwrap();
    refused(&format!("{layer} has another size"));
    std::fs::remove_file(&gone).unwrap();
    std::fs::write(&gone, &layer_bytes).unwrap();
    assert_eq!(serve.get("/v2/a/b/manifests/list").status, 200);
    drop(serve);

    std::fs::remove_file(&manifest).unwrap();
    let serve = Serve::start(&[arg(&store)]);
    serve.log_with(&format!("{}: not there; it is not served", two.digest()));
    let (status, _, message) = serve.get("/v2/a/b/manifests/list").error();
    assert!(status == 404 && message.contains(&format!("manifest {}: not there", two.digest())), "{message}");
    std::fs::write(&manifest, &manifest_bytes).unwrap();
}

#[test]
fn what_is_no_regular_file_is_not_a_blob() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    store.tag(&image(&store, b"content"), Some("a/b:1")).unwrap();
    let (digest, secret) = (Digest::sha256(b"content"), dir.path().join("secret"));
    std::fs::write(&secret, b"content").unwrap();
    let path = store.blob_path(&digest);
    let serve = Serve::start(&[arg(&store)]);
    for kind in ["link", "pipe", "directory", "socket"] {
        let _ = std::fs::remove_file(&path);
        match kind {
            "link" => symlink(&secret, &path).unwrap(),
            "pipe" => assert!(Command::new("mkfifo").arg(&path).status().unwrap().success()),
            "directory" => std::fs::create_dir(&path).unwrap(),
            _ => {
                std::fs::remove_dir(&path).unwrap();
                drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
            }
        }
        assert_eq!(serve.get(&format!("/v2/a/b/blobs/{digest}")).status, 404, "{kind}");
    }
}

#[test]
fn a_blob_that_is_cut_off_while_it_is_sent_ends_the_connection() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    let content = vec![5; 64 << 20];
    store.tag(&image(&store, &content), Some("a/b:1")).unwrap();
    let digest = Digest::sha256(&content);
    let serve = Serve::start(&[arg(&store)]);
    let mut stream = serve.connect();
    stream.write_all(format!("GET /v2/a/b/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    std::fs::OpenOptions::new().write(true).open(store.blob_path(&digest)).unwrap().set_len(1 << 20).unwrap();
    let answer = crate::server::Answer::read(&mut std::io::BufReader::new(stream), false);
    assert!(answer.status == 200 && !answer.is_whole, "{}", answer.body.len());
}

#[test]
#[ignore = "needs mount; a manifest that cannot be read for some time"]
fn what_cannot_be_read_for_now_is_503_and_is_looked_at_again_without_a_change() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    let (one, two) = (image(&store, b"one"), image(&store, b"two"));
    store.tag(&one, Some("a/b:one")).unwrap();
    store.tag(&two, Some("a/b:two")).unwrap();
    store.tag(&index(&store, &[&one, &two]), Some("a/b:list")).unwrap();
    let unreadable = Unreadable::make(&path(&store, &one));
    let serve = Serve::start(&[arg(&store)]);
    for reference in ["one", "list", one.digest().as_ref()] {
        let answer = serve.get(&format!("/v2/a/b/manifests/{reference}"));
        let (status, code, message) = answer.error();
        assert_eq!((status, code.as_str(), answer.header("retry-after")), (503, "UNAVAILABLE", "10"), "{reference}");
        assert!(message.contains("unreadable: Input/output error"), "{message}");
    }
    assert_eq!(serve.get("/v2/a/b/manifests/two").status, 200);
    drop(unreadable);
    let until = Instant::now() + Duration::from_secs(20);
    while serve.get("/v2/a/b/manifests/one").status != 200 {
        assert!(Instant::now() < until, "it was not looked at again");
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(serve.get("/v2/a/b/manifests/list").status, 200);
}

#[test]
fn a_blob_that_was_right_and_is_written_to_while_it_is_sent_is_not_whole() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    let content = vec![5; 64 << 20];
    store.tag(&image(&store, &content), Some("a/b:1")).unwrap();
    let digest = Digest::sha256(&content);
    let serve = Serve::start(&[arg(&store)]);
    // By sendfile, and by hyper, which takes requests that say how long their body is.
    for extra in ["", "Content-Length: 0\r\n"] {
        std::fs::write(store.blob_path(&digest), &content).unwrap();
        assert_eq!(serve.get(&format!("/v2/a/b/blobs/{digest}")).body, content);
        let mut stream = serve.connect();
        let head = format!("GET /v2/a/b/blobs/{digest} HTTP/1.1\r\nHost: x\r\n{extra}\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        let mut wrong = content.clone();
        wrong[60 << 20] = 6;
        std::fs::write(store.blob_path(&digest), &wrong).unwrap();
        let answer = crate::server::Answer::read(&mut std::io::BufReader::new(stream), false);
        assert!(answer.status == 200 && !answer.is_whole, "{extra}: {}", answer.body.len());
        serve.log_with("the blob was changed while it was sent");
    }
}

#[test]
fn a_blob_that_is_being_written_is_never_an_empty_or_short_answer() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    store.tag(&image(&store, b"content"), Some("a/b:1")).unwrap();
    let digest = Digest::sha256(b"content");
    let serve = Serve::start(&[arg(&store)]);
    for there in ["", "con", "content and more", "Content"] {
        std::fs::write(store.blob_path(&digest), there).unwrap();
        let (status, _, message) = serve.get(&format!("/v2/a/b/blobs/{digest}")).error();
        assert!(status == 404 && message.contains("its bytes are damaged"), "{there:?}: {status} {message}");
    }
}
