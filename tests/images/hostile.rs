//! Places that were made to deceive, and two programs at one place: a clear error each, and nothing half-written.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;
use haversack::digest::Digest;

use crate::{DEFINITION, built, definition, done, haversack, refused};

/// A layout `store` with the image `x`; returns the file of one of its layers.
fn layout(dir: &Path) -> std::path::PathBuf {
    let report = built(dir, &["def", "--no-sbom", "--output", "oci:store:x"]);
    let layer = report["images"][0]["layers"][1]["digest"].as_str().unwrap().replace(':', "/");
    dir.join("store/blobs").join(layer)
}

/// Changes the manifest of the image in `store` and gives the result its name.
fn with_manifest(dir: &Path, change: impl Fn(&mut serde_json::Value)) {
    let layout = haversack::image::Layout::open(&dir.join("store")).unwrap();
    let image = layout.find(Some("x")).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_slice(&layout.read_document(&image).unwrap()).unwrap();
    change(&mut manifest);
    let bytes = serde_json::to_vec(&manifest).unwrap();
    let changed = layout.write_blob(image.media_type().clone(), &bytes).unwrap();
    layout.tag(&changed, Some("x")).unwrap();
}

#[test]
fn a_layout_that_lies_is_not_copied_and_leaves_nothing_at_the_target() {
    let upper = Digest::sha256("x").to_string().to_uppercase().replace("SHA", "sha");
    type Change<'a> = Box<dyn Fn(&Path) + 'a>;
    let cases: [(Change, &str); 6] = [
        (Box::new(|dir| std::fs::write(layout(dir), "something else").unwrap()), "found 14 bytes"),
        (
            Box::new(|dir| {
                let layer = layout(dir);
                std::fs::remove_file(&layer).unwrap();
                std::os::unix::fs::symlink("/etc/passwd", layer).unwrap();
            }),
            "is not a regular file",
        ),
        (
            Box::new(|dir| {
                let layer = layout(dir);
                std::fs::remove_file(&layer).unwrap();
                assert!(Command::new("mkfifo").arg(layer).status().unwrap().success());
            }),
            "is not a regular file",
        ),
        (
            Box::new(|dir| {
                layout(dir);
                with_manifest(dir, |manifest| manifest["layers"][0]["digest"] = upper.as_str().into());
            }),
            "not what its media type says",
        ),
        (
            Box::new(|dir| {
                layout(dir);
                let unknown = format!("sha384:{}", "ab".repeat(48));
                with_manifest(dir, |manifest| manifest["layers"][0]["digest"] = unknown.clone().into());
            }),
            "unknown digest algorithm `sha384`",
        ),
        (
            Box::new(|dir| {
                layout(dir);
                with_manifest(dir, |manifest| manifest["annotations"]["x"] = "x".repeat(5 << 20).into());
            }),
            "is above the limit of 4194304 bytes for a document",
        ),
    ];
    for (change, expected) in &cases {
        let dir = definition(DEFINITION);
        change(dir.path());
        for target in ["oci-archive:x.tar", "docker-archive:x.tar:x:1", "dir:x.tar"] {
            let (status, text) = refused(&haversack(dir.path(), &["copy", "oci:store:x", target]));
            assert!(status == 1 && text.contains(expected), "{text}");
        }
        assert_eq!(haversack(dir.path(), &["verify", "oci:store"]).status.code(), Some(1), "{expected}");
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }
}

#[test]
fn a_directory_with_a_manifest_of_any_size_is_read_to_the_limit_and_no_further() {
    let dir = definition(DEFINITION);
    std::fs::create_dir(dir.path().join("x")).unwrap();
    std::fs::write(dir.path().join("x/manifest.json"), vec![b' '; (4 << 20) + 1]).unwrap();
    let (status, text) = refused(&haversack(dir.path(), &["copy", "dir:x", "oci:y"]));
    assert!(status == 1 && text.contains("larger than 4194304 bytes"), "{text}");
}

#[test]
fn two_builds_into_one_layout_at_one_time_both_arrive_whole() {
    let dir = definition(DEFINITION);
    let start = |name: String| {
        let output = format!("oci:store:{name}");
        Command::new(cargo_bin!("haversack"))
            .args(["build", "def", "--quiet", "--output", &output])
            .current_dir(dir.path())
            .env("SOURCE_DATE_EPOCH", "1700000000")
            .spawn()
            .unwrap()
    };
    let builds: Vec<_> = (0..3).map(|n| start(format!("x:{n}"))).collect();
    for mut build in builds {
        assert!(build.wait().unwrap().success());
    }
    let text = done(&haversack(dir.path(), &["verify", "oci:store"]));
    assert!(text.ends_with(": nothing is wrong\n"), "{text}");
    for n in 0..3 {
        done(&haversack(dir.path(), &["inspect", &format!("oci:store:x:{n}")]));
    }
}

#[test]
fn what_a_killed_build_left_in_a_layout_goes_away_with_the_next() {
    let dir = definition(DEFINITION);
    layout(dir.path());
    let left = dir.path().join("store/.build.aBcDeF.partial");
    std::fs::create_dir_all(left.join("0/data")).unwrap();
    std::fs::write(left.join("0/data/x"), "x").unwrap();
    let output = haversack(dir.path(), &["verify", "oci:store", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected = serde_json::json!([{ "subject": ".build.aBcDeF.partial", "problem": "leftover" }]);
    assert_eq!((output.status.code(), &report["findings"]), (Some(1), &expected));
    layout(dir.path());
    assert!(!left.exists());
    done(&haversack(dir.path(), &["verify", "oci:store"]));
}

#[test]
fn a_build_that_is_stopped_says_so_and_leaves_no_temporary_files() {
    // Takes connections and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let dir = definition(&format!("name = 'x'\nbase = 'docker://{address}/b:1'\n[[layers]]\nlinks = {{ '/a' = 'b' }}"));
    let scratch = dir.path().join("scratch");
    std::fs::create_dir(&scratch).unwrap();
    let to = format!("docker://{address}/x:1");
    let mut command = Command::new(cargo_bin!("haversack"));
    command.args(["build", "def", "--push", &to]).current_dir(dir.path()).env("TMPDIR", &scratch);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let held = || std::fs::read_dir(&scratch).unwrap().count();
    let started = Instant::now();
    while held() == 0 {
        assert!(started.elapsed() < Duration::from_secs(60), "no directory was made");
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), held()), (Some(143), 0));
    assert!(String::from_utf8_lossy(&output.stderr).contains("stopped by SIGTERM"));
}
