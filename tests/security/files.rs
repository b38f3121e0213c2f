//! Names that somebody planted a link, a pipe or a directory at before we come to write there.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{CWD, Mode, mkfifoat};

use crate::packages::Deb;
use crate::server::{Answer, Image, Server};
use crate::{Ended, Scene};

/// What lies under a name that the program is about to use.
const PLANTED: &[&str] = &["link", "dangling link", "pipe", "hard link"];

fn plant(scene: &Scene, kind: &str, name: &Path) {
    fs::create_dir_all(name.parent().unwrap()).unwrap();
    match kind {
        "link" => symlink(scene.victim(), name).unwrap(),
        "dangling link" => symlink(scene.dir.path().join("new"), name).unwrap(),
        "hard link" => fs::hard_link(scene.victim(), name).unwrap(),
        _ => mkfifoat(CWD, name, Mode::from_raw_mode(0o666)).unwrap(),
    }
}

/// Runs a command for each kind of plant at each of these names; whatever it says, the victim is unharmed and it ends.
#[track_caller]
fn nothing_is_written_through(names: &[String], prepare: impl Fn(&Scene), args: &[&str]) -> Vec<Ended> {
    let mut runs = Vec::new();
    for kind in PLANTED {
        for name in names {
            let scene = Scene::new();
            prepare(&scene);
            plant(&scene, kind, &scene.home().join(name));
            let ended = scene.haversack(args);
            scene.unharmed();
            assert!(ended.code <= 3, "{kind} at {name}: {ended:#?}");
            runs.push(ended);
        }
    }
    runs
}

#[test]
fn no_lock_or_work_file_of_an_archive_is_written_through() {
    let image = Image::small();
    for transport in ["oci-archive", "docker-archive", "dir"] {
        let names: Vec<_> = [".out.lock", "out", ".out.work.partial", ".out.partial"].map(str::to_owned).into();
        let prepare = |scene: &Scene| image.write_layout(&scene.home().join("store"));
        nothing_is_written_through(
            &names,
            prepare,
            &["copy", "oci:store:x", &format!("{transport}:out:a.b/c:1")[..]]
                .map(|it| if transport == "dir" && it.starts_with("dir:") { "dir:out" } else { it }),
        );
    }
}

#[test]
fn nothing_in_a_layout_is_written_through() {
    let image = Image::small();
    let (digest, _) = &image.blobs[0];
    let hex = digest.strip_prefix("sha256:").unwrap();
    let names: Vec<_> = [
        "out/oci-layout".to_owned(),
        "out/index.json".to_owned(),
        format!("out/blobs/sha256/{hex}"),
        format!("out/.sha256-{hex}.partial"),
    ]
    .into();
    let prepare = |scene: &Scene| image.write_layout(&scene.home().join("store"));
    nothing_is_written_through(&names, prepare, &["copy", "oci:store:x", "oci:out:y"]);
    // And from a registry, whose blobs are gone on with.
    let served = Image::small();
    let server = Server::start(move |request| served.answer(&request.path).unwrap_or(Answer::new(404, "")));
    let source = format!("docker://{}/r/i:1", server.address);
    nothing_is_written_through(
        &names,
        |_| {},
        &["copy", &source, "oci:out:y", "--src-tls-verify=false", "--retries=0"],
    );
}

#[test]
fn no_file_of_a_snapshot_or_a_tree_is_written_through() {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/catalog");
    let from = format!("--from={}", tree.display());
    let names: Vec<_> =
        [".catalog.db.lock", ".catalog.db.work", ".catalog.db.work.lock", "catalog.db"].map(str::to_owned).into();
    nothing_is_written_through(&names, |_| {}, &["catalog", "snapshot", &from]);
    let names: Vec<_> = ["out/data", "out/data/archive.json", "out/catalog.db", "out/data/operators", "out/.data.lock"]
        .map(str::to_owned)
        .into();
    let prepare = |scene: &Scene| {
        let ended = scene.haversack(&["catalog", "snapshot", &from]);
        assert_eq!(ended.code, 0, "{ended:#?}");
    };
    nothing_is_written_through(&names, prepare, &["catalog", "dump", "out"]);
}

#[test]
fn no_package_that_is_fetched_is_written_through() {
    let file = "linux-headers-6.1.0-1-amd64_6.1.4-1_amd64.deb";
    let content = vec![b'x'; 1000];
    let sha256 = haversack::digest::Digest::sha256(&content).to_string();
    let server = Server::start(move |_| Answer::new(200, content.clone()));
    let set = serde_json::json!({
        "format": "haversack.kernels", "version": 1,
        "kernels": [{
            "distribution": "debian", "uname": "6.1.0-1-amd64", "machine": "x86_64", "flavour": "default", "build": "6.1.4-1",
            "packages": [{
                "role": "headers", "name": "linux-headers-6.1.0-1-amd64", "version": "6.1.4-1", "architecture": "amd64",
                "format": "deb", "location": server.url(&format!("/{file}")), "size": 1000, "sha256": sha256
            }]
        }]
    });
    let names: Vec<_> = [format!("out/.{file}.part"), format!("out/{file}"), "out/fetch.lock".to_owned()].into();
    let prepare = |scene: &Scene| scene.write("kernels.json", set.to_string());
    nothing_is_written_through(&names, prepare, &["kernel", "fetch", "set:kernels.json", "--to", "out", "--retries=0"]);
}

/// A directory that is a link, where packages are unpacked to.
#[test]
fn no_directory_that_is_a_link_is_unpacked_into() {
    for place in ["out/debian", "out/debian/x86_64", "out/6.1.0-1-amd64", "out/debian-6.1.0-1-amd64"] {
        let scene = Scene::new();
        let deb = Deb::new("linux-headers-6.1.0-1-amd64", "6.1.4-1", "amd64")
            .file("./usr/src/linux-headers-6.1.0-1-amd64/Makefile", 0o644, b"all:\n")
            .bytes();
        scene.write("debs/linux-headers-6.1.0-1-amd64_6.1.4-1_amd64.deb", deb);
        let elsewhere = scene.dir.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        let link = scene.home().join(place);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(&elsewhere, &link).unwrap();
        scene.haversack(&["kernel", "unpack", "dir:debs", "--to", "out"]);
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0, "{place}");
    }
}

#[test]
fn a_directory_that_only_looks_like_an_image_is_not_replaced() {
    let image = Image::small();
    let manifest = String::from_utf8(image.manifest.clone()).unwrap();
    let (digest, blob) = &image.blobs[0];
    let hex = digest.strip_prefix("sha256:").unwrap();
    let config = image.blobs[1].0.strip_prefix("sha256:").unwrap().to_owned();
    for (files, is_replaced) in [
        (vec![("version", "1.0"), ("manifest.json", "{}")], false),
        (vec![("version", "Directory Transport Version: 1.1\n"), ("manifest.json", "{}")], false),
        (
            vec![("version", "Directory Transport Version: 1.1\n"), ("manifest.json", &*manifest), ("thesis.tex", "x")],
            false,
        ),
        (vec![("manifest.json", &*manifest), (hex, ""), (&*config, "")], false),
        (
            vec![
                ("version", "Directory Transport Version: 1.1\n"),
                ("manifest.json", &*manifest),
                (hex, ""),
                (&*config, ""),
            ],
            true,
        ),
    ] {
        let scene = Scene::new();
        image.write_layout(&scene.home().join("store"));
        for (name, content) in &files {
            scene.write(&format!("out/{name}"), if *name == hex { blob.as_slice() } else { content.as_bytes() });
        }
        let ended = scene.haversack(&["copy", "oci:store:x", "dir:out"]);
        assert_eq!(ended.code == 0, is_replaced, "{files:?}: {ended:#?}");
        if !is_replaced {
            for (name, content) in &files {
                let there = fs::read(scene.home().join("out").join(name)).unwrap();
                assert!(*name == hex || there == content.as_bytes(), "{name}");
            }
        }
    }
}

/// Nobody writes to these pipes, and whoever waits for them waits for ever.
#[test]
fn no_pipe_is_waited_for_wherever_a_file_is_read() {
    let scene = Scene::new();
    let pipe = |name: &str| {
        let path = scene.home().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        mkfifoat(CWD, &path, Mode::from_raw_mode(0o666)).unwrap();
    };
    for name in [
        "pipe",
        "layout/oci-layout",
        "layout/index.json",
        "tree/data/archive.json",
        "debs/a_1_amd64.deb",
        "debs/a-1-1.x86_64.rpm",
        "dir/manifest.json",
        "dir/version",
        "images/x/image.toml",
    ] {
        pipe(name);
    }
    let server = Server::start(|_| Answer::new(401, r#"{"errors":[]}"#).with("www-authenticate", "Basic realm=\"x\""));
    let asks = format!("docker://{}/r:1", server.address);
    let pipe = "it is not a regular file";
    for (args, code, words) in [
        (&["inspect", "oci:layout"][..], 1, "not an OCI image layout"),
        (&["verify", "oci:layout"], 1, "not an OCI image layout"),
        (&["inspect", "oci-archive:pipe"], 1, pipe),
        (&["inspect", "docker-archive:pipe"], 1, pipe),
        (&["inspect", "dir:dir"], 1, "not a directory that holds one image"),
        (&["verify", "oci-archive:pipe"], 1, pipe),
        (&["catalog", "info", "--db=pipe"], 1, "there is no snapshot"),
        (&["catalog", "import", "tree"], 1, "no certification data here"),
        (&["kernel", "list", "dir:debs"], 1, "no package was found"),
        (&["kernel", "list", "set:pipe"], 1, pipe),
        (&["kernel", "list", "crawler:pipe"], 1, pipe),
        (&["kernel", "list", "redhat:x", "--token-file=pipe", "--offline"], 1, pipe),
        (&["kernel", "list", "rpm:https://h.example/", "--keyring=pipe", "--offline"], 1, pipe),
        (&["build", "images/x", "--output=oci:out"], 1, pipe),
        (&["sync", "pipe"], 1, pipe),
        (&["copy", &asks, "oci:out:x", "--authfile=pipe", "--src-tls-verify=false", "--retries=0"], 1, pipe),
        (&["copy", "docker://h.example/r:1", "oci:out:x", "--ca-file=pipe", "--offline"], 1, pipe),
        (&["publish", "artifactory", "pipe", "--url=http://h.example", "--repo=r", "--offline"], 1, pipe),
        (&["publish", "ims", "n", "--rootfs=pipe", "--dry-run"], 1, "not a regular file"),
    ] {
        let ended = scene.haversack(args);
        assert!(ended.code == code && ended.stderr.contains(words), "{args:?}: {ended:#?}");
    }
}
