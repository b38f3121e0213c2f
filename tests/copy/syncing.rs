//! Lists of images that are brought to where they say.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use assert_cmd::cargo::cargo_bin;
use serde_json::{Value, json};

use crate::real::{Real, large, two_platforms};
use crate::referring::signed;
use crate::{clean, done, haversack};

/// A registry with `team/x:1.0.0`, `:1.1.0` and `:latest` of one image, and `team/x:2.0.0` and `team/y:1` of another.
fn filled(dir: &Path) -> Real {
    let registry = Real::start();
    two_platforms(dir);
    let copy = |to: &str, more: &[&str]| {
        let to = registry.at(to);
        let arguments = ["copy", "oci:store:x", &to, "--dest-tls-verify=false", "--json"];
        done(&haversack(dir, &[&arguments[..], more].concat()));
    };
    for tag in ["1.0.0", "1.1.0", "latest"] {
        copy(&format!("team/x:{tag}"), &[]);
    }
    copy("team/x:2.0.0", &["--platform=linux/arm64"]);
    copy("team/y:1", &["--platform=linux/arm64"]);
    registry
}

/// Writes the list and runs it, expecting this exit status; its report.
fn sync(dir: &Path, list: &str, status: i32, more: &[&str]) -> Value {
    std::fs::write(dir.join("list.toml"), list).unwrap();
    let output = haversack(dir, &[&["sync", "list.toml", "--json", "--retries=0"], more].concat());
    assert_eq!(output.status.code(), Some(status), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Destinations in a report, with what became of them.
fn destinations(report: &Value) -> Vec<(&str, &str)> {
    let images = report["images"].as_array().unwrap().iter();
    images.map(|image| (image["destination"].as_str().unwrap(), image["status"].as_str().unwrap())).collect()
}

/// The part of a list that says of these registries that they have no TLS.
fn plain_http(registries: &[&Real]) -> String {
    registries.iter().map(|it| format!("[registries.'{}']\ntls-verify = false\nparallel = 3\n", it.address)).collect()
}

#[test]
#[ignore = "needs docker-registry; scripts/test.sh runs it where it is"]
fn tags_by_name_pattern_and_range_go_where_the_list_says_and_only_once() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (filled(dir.path()), Real::start());
    let list = format!(
        "to = 'docker://{}/mirror'\n{}[[images]]\nregistry = '{}'\nrepositories = ['team/*']\n\
         tags = ['lat*', '1']\nsemver = '>=1.1, <3'\n",
        to.address,
        plain_http(&[&from, &to]),
        from.address
    );
    let at: Vec<_> = ["x:latest", "x:1.1.0", "x:2.0.0", "y:1"].map(|name| to.at(&format!("mirror/team/{name}"))).into();
    let expected = |status| at.iter().map(|at| (at.as_str(), status)).collect::<Vec<_>>();

    // `1` is wanted of every repository and team/x has none: that is said, and does not keep the others.
    let dry = sync(dir.path(), &list, 3, &["--dry-run"]);
    assert_eq!(destinations(&dry), expected("to-copy"));
    assert_eq!(dry["failed"][0]["source"], from.at("team/x:1"));
    assert_eq!((&dry["dry_run"], dry["failed"].as_array().unwrap().len()), (&json!(true), 1));

    // Every blob is sent once, however many images have it.
    let first = sync(dir.path(), &list, 3, &[]);
    assert_eq!(destinations(&first), expected("copied"));
    assert_eq!((&first["sent_blobs"], &first["sent_bytes"]), (&dry["sent_blobs"], &dry["sent_bytes"]));
    assert_eq!(first["sent_blobs"], 7);
    let second = sync(dir.path(), &list, 3, &[]);
    assert_eq!(destinations(&second), expected("present"));
    assert_eq!(second["sent_blobs"], 0);

    // Nor is it sent by the next run, for another repository: the registry takes it from where this one saw it.
    let renamed = format!(
        "{}[[images]]\nregistry = '{}'\nrepositories = ['team/x']\ntags = ['latest']\n\
         to = 'docker://{}'\nas = 'other'\n",
        plain_http(&[&from, &to]),
        from.address,
        to.address
    );
    let third = sync(dir.path(), &renamed, 0, &[]);
    assert_eq!(destinations(&third), [(to.at("other:latest").as_str(), "copied")]);
    assert_eq!((&third["sent_blobs"], &third["mounted_blobs"]), (&json!(0), &json!(7)));
}

#[test]
#[ignore = "needs docker-registry; scripts/test.sh runs it where it is"]
fn images_cross_the_gap_in_one_archive_with_their_names_and_digests() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (filled(dir.path()), Real::start());
    let source = |tag: &str| {
        let seen = haversack(dir.path(), &["inspect", "--json", "--tls-verify=false", &from.at(tag)]);
        done(&seen)["digest"].as_str().unwrap().to_owned()
    };
    let by_digest = source("team/y:1");
    let there = format!(
        "to = 'oci-archive:carry.tar'\n[[images]]\nregistry = '{host}'\nrepositories = ['team/x']\ntags = ['*']\n\
         [[images]]\nregistry = '{host}'\nrepositories = ['team/y']\ndigests = ['{by_digest}']\n",
        host = from.address
    );
    let dry = sync(dir.path(), &there, 0, &["--dry-run", "--src-tls-verify=false"]);
    assert!(!dir.path().join("carry.tar").exists());
    let carried = sync(dir.path(), &there, 0, &["--src-tls-verify=false"]);
    assert_eq!((carried["images"].as_array().unwrap().len(), &carried["sent_bytes"]), (5, &dry["sent_bytes"]));
    assert!(haversack(dir.path(), &["verify", "oci-archive:carry.tar"]).status.success());

    let here = format!("[[images]]\nfrom = 'oci-archive:carry.tar'\nto = 'docker://{}/far'\n", to.address);
    sync(dir.path(), &here, 0, &["--dest-tls-verify=false"]);
    for tag in ["team/x:1.0.0", "team/x:1.1.0", "team/x:2.0.0", "team/x:latest", &format!("team/y@{by_digest}")] {
        let seen = haversack(dir.path(), &["inspect", "--json", "--tls-verify=false", &to.at(&format!("far/{tag}"))]);
        let seen = done(&seen);
        assert_eq!(seen["digest"], source(tag), "{tag}");
        // The signature of the whole index went along; the index of one platform is another.
        let referrers = usize::from(!tag.contains("2.0.0") && !tag.contains('@'));
        assert_eq!(seen["referrers"].as_array().map_or(0, Vec::len), referrers, "{tag}");
    }
}

#[test]
#[ignore = "needs docker-registry and skopeo; scripts/test.sh runs it where they are"]
fn skopeo_finds_a_mirrored_image_under_its_old_name_with_the_files_that_were_written() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (filled(dir.path()), Real::start());
    let list = format!(
        "to = 'docker://{}/mirror'\n{}[[images]]\nregistry = '{}'\nrepositories = ['team/x']\ntags = ['latest']\n",
        to.address,
        plain_http(&[&from, &to]),
        from.address
    );
    let report = sync(dir.path(), &list, 0, &["--mirror-config=config"]);
    let files: Vec<_> = report["mirror_config"].as_array().unwrap().iter().map(|file| file.as_str().unwrap()).collect();
    let hosts = format!("config/certs.d/{}/hosts.toml", from.address);
    let names = ["config/image-digest-mirror-set.yaml", "config/image-tag-mirror-set.yaml"];
    assert_eq!(files, [&names[..], &["config/registries.conf.d/50-haversack.conf", &hosts]].concat());
    let address = from.address.clone();
    // The old registry is gone.
    drop(from);
    let skopeo = Command::new("skopeo")
        .args(["--registries-conf", "config/registries.conf.d/50-haversack.conf"])
        .args(["inspect", "--raw", &format!("docker://{address}/team/x:latest")])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(skopeo.status.success(), "{}", String::from_utf8_lossy(&skopeo.stderr));
    assert_eq!(report["images"][0]["digest"], haversack::digest::Digest::sha256(&skopeo.stdout).to_string());
}

#[test]
#[ignore = "needs docker-registry; scripts/test.sh runs it where it is"]
fn a_sync_that_is_killed_ten_times_finishes_and_sends_less_than_the_whole_again() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (Real::start(), Real::start());
    let size = large(dir.path(), 24, 2 << 20);
    done(&haversack(dir.path(), &["copy", "oci:from:x", &from.at("a/x:1"), "--dest-tls-verify=false", "--json"]));
    let list = format!(
        "{}[[images]]\nregistry = '{host}'\nrepositories = ['a/x']\ntags = ['1']\nto = 'oci:store'\n\
         [[images]]\nregistry = '{host}'\nrepositories = ['a/x']\ntags = ['1']\nto = 'docker://{}/mirror'\n",
        plain_http(&[&from, &to]),
        to.address,
        host = from.address
    );
    std::fs::write(dir.path().join("list.toml"), &list).unwrap();
    let arrived = || bytes_below(&dir.path().join("store")) + bytes_below(to.dir());
    let mut interrupted = 0;
    let mut seed =
        u64::from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos());
    for tenth in 0..10 {
        let mut child = Command::new(cargo_bin!("haversack"))
            .args(["sync", "list.toml", "--parallel=2", "--quiet"])
            .current_dir(dir.path())
            .env("HOME", dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Somewhere in this tenth of the way.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let moment = 2 * size / 10 * tenth + (seed >> 33) % (2 * size / 10);
        while arrived() < moment && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        interrupted += usize::from(!child.wait().unwrap().success());
    }
    assert!(interrupted > 0, "no run was interrupted");
    let report = sync(dir.path(), &list, 0, &[]);
    assert!(report["sent_bytes"].as_u64() < Some(2 * size), "{report}");
    assert!(report["present_blobs"].as_u64() > Some(0), "{report}");
    clean(dir.path());
    // What the other registry has is whole, too.
    let back = ["copy", &to.at("mirror/a/x:1"), "oci:back:x", "--src-tls-verify=false", "--json"];
    assert_eq!(done(&haversack(dir.path(), &back))["digest"], report["images"][0]["digest"]);
    assert!(haversack(dir.path(), &["verify", "oci:back"]).status.success());
}

fn bytes_below(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    // Files come and go meanwhile.
    let size = |path: &Path| if path.is_dir() { bytes_below(path) } else { path.metadata().map_or(0, |it| it.len()) };
    entries.filter_map(|entry| Some(size(&entry.ok()?.path()))).sum()
}

#[test]
#[ignore = "needs docker-registry; scripts/test.sh runs it where it is"]
fn two_runs_at_one_time_fill_one_layout() {
    let dir = tempfile::tempdir().unwrap();
    let from = Real::start();
    large(dir.path(), 12, 2 << 20);
    done(&haversack(dir.path(), &["copy", "oci:from:x", &from.at("a/x:1"), "--dest-tls-verify=false", "--json"]));
    let list = format!(
        "to = 'oci:store'\n{}[[images]]\nregistry = '{}'\nrepositories = ['a/x']\ntags = ['1']\n",
        plain_http(&[&from]),
        from.address
    );
    let digests: Vec<Value> = std::thread::scope(|scope| {
        std::fs::write(dir.path().join("list.toml"), &list).unwrap();
        let run = || done(&haversack(dir.path(), &["sync", "list.toml", "--json"]))["images"][0]["digest"].clone();
        let runs: Vec<_> = (0..3).map(|_| scope.spawn(run)).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    assert_eq!(digests[0], digests[1]);
    assert_eq!(digests[1], digests[2]);
    clean(dir.path());
}

#[test]
fn a_list_with_an_unknown_key_is_refused_with_the_nearest_one() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |why: &str| {
        let output = haversack(dir.path(), &["sync", "list.toml"]);
        let text = String::from_utf8(output.stderr).unwrap();
        let expected = format!("error: {why}\nhint: `haversack sync --help` shows how a list is written\n");
        assert_eq!((output.status.code(), text), (Some(1), expected));
    };
    refused(
        "cannot open list.toml\n  because: No such file or directory (os error 2)\nhint: check that list.toml and the \
         directories above it exist",
    );
    for (list, why) in [
        (
            "to = 'oci:x'\n[[images]]\nrepositorys = ['a']\n",
            "list.toml: unknown key `images[0].repositorys`; the nearest known one is `repositories`",
        ),
        // What skopeo sync reads.
        (
            "quay.io:\n  images:\n    podman/stable: [v5]\n",
            "list.toml: not a valid list of images\n  because: TOML parse error at line 1, column 9\n  |\n1 | quay.io:\n  |         \
             ^\nkey with no value, expected `=`",
        ),
    ] {
        std::fs::write(dir.path().join("list.toml"), list).unwrap();
        refused(why);
    }
}

#[test]
fn files_for_nodes_that_there_is_nothing_to_say_in_are_no_success() {
    let dir = tempfile::tempdir().unwrap();
    signed(dir.path(), 0);
    std::fs::write(dir.path().join("list.toml"), "to = 'oci:to'\n[[images]]\nfrom = 'oci:from'\n").unwrap();
    let run = |more: &[&str]| {
        let output = haversack(dir.path(), &[&["sync", "list.toml"], more].concat());
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let said = "warning: nodes: nothing was written, because no image went from a registry to a registry\n";
    assert_eq!(run(&["--mirror-config", "nodes"]), (Some(3), said.to_owned()));
    assert!(!dir.path().join("nodes").exists());
    assert_eq!(run(&[]), (Some(0), String::new()));
}

#[test]
fn the_list_in_the_help_is_one_that_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let help = String::from_utf8(haversack(dir.path(), &["sync", "--help"]).stdout).unwrap();
    let list = help.split_once("A list:\n").unwrap().1.split_once("\n\nRepositories").unwrap().0;
    std::fs::write(dir.path().join("list.toml"), list).unwrap();
    let output = haversack(dir.path(), &["sync", "list.toml", "--offline", "--dry-run"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && text.contains("not requested, because this run is offline"), "{text}");
}

#[test]
fn a_registry_that_is_not_there_is_tried_once_for_all_its_images() {
    let dir = tempfile::tempdir().unwrap();
    let list = "to = 'oci:store'\n[[images]]\nregistry = '127.0.0.1:9'\nrepositories = ['a', 'b', 'c']\ntags = ['1']\n";
    let report = sync(dir.path(), list, 1, &[]);
    let errors: Vec<_> = report["failed"].as_array().unwrap().iter().map(|it| it["error"].as_str().unwrap()).collect();
    assert_eq!(errors.len(), 3);
    assert!(errors.iter().all(|error| error.starts_with("https://127.0.0.1:9/v2/: cannot connect")), "{errors:?}");
    assert!(errors.iter().all(|error| error.contains("hint: check that 127.0.0.1 can be reached")), "{errors:?}");
}
