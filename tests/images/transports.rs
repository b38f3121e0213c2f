//! Every transport, written and read by us, by skopeo and by podman.

use std::path::Path;
use std::process::{Command, Output};

use crate::docker_registry::DockerRegistry;
use crate::{DEFINITION, built, definition, done, haversack, refused};

/// podman with its storage in the directory.
pub(crate) fn podman(dir: &Path, args: &[&str]) -> Output {
    let here = |name: &str| dir.join(name).display().to_string();
    Command::new("podman")
        .args(["--root", &here("podman"), "--runroot", &here("run"), "--storage-driver", "vfs"])
        .args(args)
        .current_dir(dir)
        .env("CONTAINERS_CONF", concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/podman/containers.conf"))
        .output()
        .unwrap()
}

fn skopeo(dir: &Path, args: &[&str]) -> Output {
    Command::new("skopeo").args(args).current_dir(dir).output().unwrap()
}

#[test]
#[ignore = "needs podman and docker-registry; scripts/test.sh runs it where they are"]
fn an_image_over_a_base_in_a_registry_builds_twice_to_one_digest_and_runs_from_every_transport() {
    let registry = DockerRegistry::start();
    let dir = definition(DEFINITION);
    let base = registry.at("base:1");
    built(dir.path(), &["def", "--push", &base, "--dest-tls-verify=false"]);
    std::fs::create_dir_all(dir.path().join("over/etc")).unwrap();
    std::fs::write(dir.path().join("over/etc/motd"), "welcome\n").unwrap();
    std::fs::write(dir.path().join("over/version"), "1\n").unwrap();
    let over = format!(
        "name = 'over'\nbase = '{base}'\ncmd = ['--version']\n[[layers]]\n\
         files = [{{ src = 'version', dest = '/etc/version', mode = '0600', uid = 5 }}]\n\
         directories = [{{ src = 'etc', dest = '/etc' }}]\nremove = ['/etc/site.conf']\n"
    );
    std::fs::write(dir.path().join("over/image.toml"), over).unwrap();
    let pushed = registry.at("over:1");
    let insecure = ["--src-tls-verify=false", "--dest-tls-verify=false"];
    let mut digests = Vec::new();
    for place in [
        "oci:layout",
        "oci-archive:a.tar",
        "docker-archive:d.tar:localhost/over:1",
        "dir:directory",
        &pushed,
        "oci:again",
    ] {
        // A directory has no place for an SBOM, and the image is the same without.
        let sbom: &[&str] = if place.starts_with("dir:") { &["--no-sbom"] } else { &[] };
        digests
            .push(built(dir.path(), &[&["over", "--output", place][..], &insecure, sbom].concat())["digest"].clone());
    }
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
    let version = format!("haversack {}\n", env!("CARGO_PKG_VERSION"));
    for (place, tls) in [
        ("oci:layout:over:latest", None),
        ("oci-archive:a.tar", None),
        ("docker-archive:d.tar", None),
        ("dir:directory", None),
        (pushed.as_str(), Some("--tls-verify=false")),
    ] {
        let pull: Vec<&str> = ["pull", "-q"].into_iter().chain(tls).chain([place]).collect();
        let id = done(&podman(dir.path(), &pull)).lines().last().unwrap().to_owned();
        let run = ["run", "--rm", "--network", "none", "--read-only", &id];
        assert_eq!(done(&podman(dir.path(), &run)), version, "{place}");
        done(&podman(dir.path(), &["rmi", "--all", "--force"]));
    }
    for archive in ["a.tar", "d.tar"] {
        let loaded = done(&podman(dir.path(), &["load", "-q", "-i", archive]));
        let id = loaded.trim().replace("Loaded image: ", "");
        let run = ["run", "--rm", "--network", "none", &id];
        assert_eq!(done(&podman(dir.path(), &run)), version, "{archive}");
        done(&podman(dir.path(), &["rmi", "--all", "--force"]));
    }
}

#[test]
#[ignore = "needs skopeo; scripts/test.sh runs it where skopeo is"]
fn what_we_write_skopeo_copies_on_and_what_skopeo_writes_we_read_with_its_digest() {
    let dir = definition(DEFINITION);
    // skopeo writes no docker archive of an image with zstd layers.
    let digest = built(dir.path(), &["def", "--output", "oci:store:x:1", "--compression=gzip"])["digest"]
        .as_str()
        .unwrap()
        .to_owned();
    for place in ["oci:two:x:1", "oci-archive:two.tar:x:1", "docker-archive:two.docker:x:1", "dir:two.dir"] {
        done(&haversack(dir.path(), &["copy", "--no-referrers", "oci:store:x:1", place]));
        for command in ["verify", "inspect"] {
            done(&haversack(dir.path(), &[command, place]));
        }
        let seen: serde_json::Value =
            serde_json::from_str(&done(&skopeo(dir.path(), &["inspect", "--raw", place]))).unwrap();
        assert_eq!(seen["layers"].as_array().unwrap().len(), 2, "{place}");
        let ours = done(&haversack(dir.path(), &["inspect", "--json", place]));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&ours).unwrap()["digest"], digest.as_str(), "{place}");
        // And from there by skopeo to where its digest shows.
        if !place.starts_with("docker-archive") {
            let into = format!("oci:skopeo-{}:y", place.split(':').next().unwrap());
            done(&skopeo(dir.path(), &["copy", "-q", "--preserve-digests", place, &into]));
            let seen = done(&skopeo(dir.path(), &["inspect", "--format", "{{.Digest}}", &into]));
            assert_eq!(seen.trim(), digest, "{place}");
        }
    }
    let config = |reference: &str| {
        let raw = done(&haversack(dir.path(), &["inspect", "--raw", reference]));
        serde_json::from_str::<serde_json::Value>(&raw).unwrap()["config"]["digest"].clone()
    };
    for place in
        ["oci:back:x:1", "oci-archive:back.tar:x:1", "dir:back.dir", "docker-archive:back.docker:localhost/x:1"]
    {
        done(&skopeo(dir.path(), &["copy", "-q", "oci:store:x:1", place]));
        done(&haversack(dir.path(), &["verify", place]));
        done(&haversack(dir.path(), &["copy", place, &format!("oci:in:{}", place.split(':').next().unwrap())]));
        // skopeo writes a docker archive's layers anew, but the configuration names what is in them.
        assert_eq!(config(place), config("oci:store:x:1"), "{place}");
    }
    done(&haversack(dir.path(), &["verify", "oci:in"]));
}

#[test]
fn several_images_in_one_archive_are_chosen_by_name_number_or_digest() {
    let dir = definition(DEFINITION);
    std::fs::create_dir_all(dir.path().join("other")).unwrap();
    std::fs::write(
        dir.path().join("other/image.toml"),
        "name = 'other'\n[[layers]]\nfiles = [{ text = 'x', dest = '/x' }]\n",
    )
    .unwrap();
    for transport in ["oci-archive", "docker-archive"] {
        let archive = format!("{transport}:{transport}.tar");
        let digests = ["def", "other"].map(|definition| {
            built(dir.path(), &[definition, "--output", &archive])["digest"].as_str().unwrap().to_owned()
        });
        let shown = |name: &str| {
            let text = done(&haversack(dir.path(), &["inspect", "--json", &format!("{archive}:{name}")]));
            serde_json::from_str::<serde_json::Value>(&text).unwrap()["digest"].as_str().unwrap().to_owned()
        };
        assert_eq!([shown("tools:latest"), shown("other:latest")], digests);
        assert_eq!(shown(&digests[1]), digests[1]);
        assert_eq!(shown(&format!("@{}", digests[0])), digests[0]);
        let numbers = ["@0", "@1"].map(shown);
        assert!(digests.iter().all(|digest| numbers.contains(digest)) || transport == "oci-archive", "{numbers:?}");
        let text = done(&haversack(dir.path(), &["verify", &archive]));
        assert!(text.ends_with(": nothing is wrong\n"), "{text}");
        let (status, text) = refused(&haversack(dir.path(), &["inspect", &archive]));
        let all = "other:latest, tools:1.2, tools:latest";
        let expected = format!("error: {transport}.tar: holds 3 images, name one (it holds: {all})");
        assert_eq!((status, text), (1, expected));
    }
}

#[test]
fn a_list_of_platforms_does_not_go_into_a_docker_archive_until_one_is_chosen() {
    let dir = definition(
        "name = 'x'\nplatforms = ['linux/amd64', 'linux/arm64']\n[[layers]]\nfiles = [{ text = 'x', dest = '/x' }]\n",
    );
    let image = built(dir.path(), &["def", "--output", "oci:store"]);
    let expected = "error: x.tar: a docker archive has no lists of platforms, and this image has 2\n\
                    hint: choose one with `--platform OS/ARCH`, or write to oci-archive:";
    for command in [&["build", "def", "-o", "docker-archive:x.tar"][..], &["copy", "oci:store", "docker-archive:x.tar"]]
    {
        assert_eq!(refused(&haversack(dir.path(), command)), (1, expected.to_owned()));
    }
    done(&haversack(dir.path(), &["copy", "oci:store", "docker-archive:x.tar:x", "--platform=linux/arm64"]));
    let raw = done(&haversack(dir.path(), &["inspect", "--json", "docker-archive:x.tar:x:latest"]));
    let shown: serde_json::Value = serde_json::from_str(&raw).unwrap();
    assert_eq!(shown["digest"], image["images"][1]["manifest"]);
    // A directory takes all of it but the SBOMs.
    done(&haversack(dir.path(), &["copy", "oci:store", "dir:x.dir", "--no-referrers"]));
    let raw = done(&haversack(dir.path(), &["inspect", "--json", "dir:x.dir"]));
    assert_eq!(serde_json::from_str::<serde_json::Value>(&raw).unwrap()["digest"], image["digest"]);
    done(&haversack(dir.path(), &["verify", "dir:x.dir"]));
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("partial")), "{left:?}");
}

#[test]
#[ignore = "needs docker-registry; scripts/test.sh runs it where it is"]
fn verify_reads_a_registries_image_to_its_last_byte_and_finds_all_that_is_wrong_at_once() {
    let registry = DockerRegistry::start();
    let dir = definition(DEFINITION);
    let image = registry.at("x:1");
    let report = built(dir.path(), &["def", "--push", &image, "--dest-tls-verify=false"]);
    let verify = ["verify", image.as_str(), "--tls-verify=false", "--retries=0", "--json"];
    let said: serde_json::Value = serde_json::from_str(&done(&haversack(dir.path(), &verify))).unwrap();
    // Two layers, configuration and manifest; and the same of its SBOM, which is one layer.
    let counts = ["images", "referrers", "blobs", "findings"].map(|name| said[name].clone());
    assert_eq!(counts, [1.into(), 1.into(), 7.into(), serde_json::json!([])]);
    // One layer is another one of the same length, the other is shorter.
    for (layer, change) in [(0, true), (1, false)] {
        let digest = report["images"][0]["layers"][layer]["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        let blob = format!("docker/registry/v2/blobs/sha256/{}/{digest}/data", &digest[..2]);
        let blob = registry.data().join(blob);
        let mut bytes = std::fs::read(&blob).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&blob, if change { &bytes[..] } else { &bytes[..bytes.len() / 2] }).unwrap();
    }
    let output = haversack(dir.path(), &verify);
    assert_eq!(output.status.code(), Some(1));
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let subjects: std::collections::BTreeSet<_> =
        said["findings"].as_array().unwrap().iter().map(|finding| finding["subject"].as_str().unwrap()).collect();
    let layers = report["images"][0]["layers"].as_array().unwrap();
    assert_eq!(subjects, layers.iter().map(|layer| layer["digest"].as_str().unwrap()).collect());
}

#[test]
#[ignore = "needs docker-registry; scripts/test.sh runs it where it is"]
fn of_a_base_only_the_platforms_that_are_built_are_fetched() {
    let registry = DockerRegistry::start();
    let two = "name = 'x'\nplatforms = ['linux/amd64', 'linux/arm64']\n[[layers]]\nbinary = '/x'\n";
    let dir = definition(two);
    std::fs::write(dir.path().join("other"), "a program").unwrap();
    let base = registry.at("base:1");
    let programs = ["--binary=linux/amd64=other", "--binary=linux/arm64=def/image.toml"];
    let report = built(dir.path(), &[&["def", "--push", &base, "--dest-tls-verify=false"][..], &programs].concat());
    // The other platform's layer is gone: whoever asks for it fails.
    let layer =
        report["images"][1]["layers"][0]["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned();
    let blobs = registry.data().join("docker/registry/v2/blobs/sha256").join(&layer[..2]).join(&layer);
    std::fs::remove_dir_all(blobs).unwrap();
    let over = format!("name = 'over'\nbase = '{base}'\n[[layers]]\nfiles = [{{ text = 'x', dest = '/y' }}]\n");
    std::fs::create_dir(dir.path().join("over")).unwrap();
    std::fs::write(dir.path().join("over/image.toml"), over).unwrap();
    let args = ["over", "--src-tls-verify=false", "--retries=0", "--output", "oci:store"];
    built(dir.path(), &[&args[..], &["--platform=linux/amd64"]].concat());
    done(&haversack(dir.path(), &["verify", "oci:store"]));
    let failed = haversack(dir.path(), &[&["build"], &args[..], &["--platform=linux/arm64"]].concat());
    assert_eq!(failed.status.code(), Some(1));
}
