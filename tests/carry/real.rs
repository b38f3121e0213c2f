//! Layers that real programs have made, real registries, and zstd itself.

use std::path::Path;
use std::process::Command;

use haversack::image::Layout;
use haversack::image::store::layout::canonical;
use oci_spec::image::MediaType;

use crate::docker_registry::DockerRegistry;
use crate::engines::Storage;
use crate::images::{TAR, image, tar, text, varied};
use crate::site::layouts;
use crate::{assert_same, done};

fn run(dir: &Path, program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "needs zstd; its own check of a volume"]
fn a_volume_is_what_zstd_reads() {
    let dir = tempfile::tempdir().unwrap();
    varied(&dir.path().join("from"));
    done(dir.path(), &["pack", "oci:from", "--out", "carry", "--no-program"]);
    run(dir.path(), "zstd", &["-q", "-t", "carry/volume-001.zst"]);
    done(dir.path(), &["pack", "oci:from", "--out", "healed", "--no-program", "--parity", "1"]);
    run(dir.path(), "zstd", &["-q", "-t", "healed/parity-001.zst"]);
    let readme = std::fs::read_to_string(dir.path().join("carry/README.txt")).unwrap();
    assert!(readme.contains("haversack unpack . --to oci:/path/to/layout"), "{readme}");
}

#[test]
#[ignore = "needs skopeo, umoci, docker-registry; layers as they compress them"]
fn layers_of_skopeo_and_umoci_go_from_a_registry_through_a_carry_into_another() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::create(&dir.path().join("plain")).unwrap();
    let files: Vec<(String, Vec<u8>)> = (0..40).map(|file| (format!("usr/src/{file}.c"), text(file, 1500))).collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (&**name, &**bytes)).collect();
    image(&layout, Some("plain"), &[(TAR, &tar(&files))]);
    let registry = DockerRegistry::start();
    let to = registry.at("org/app:v1");
    run(
        dir.path(),
        "skopeo",
        &["copy", "--insecure-policy", "--dest-tls-verify=false", "--dest-compress", "oci:plain:plain", &to],
    );
    run(dir.path(), "umoci", &["init", "--layout", "umoci"]);
    run(dir.path(), "umoci", &["new", "--image", "umoci:made"]);
    std::fs::create_dir(dir.path().join("files")).unwrap();
    for (name, bytes) in &files {
        std::fs::write(dir.path().join("files").join(name.rsplit('/').next().unwrap()), bytes).unwrap();
    }
    run(dir.path(), "umoci", &["insert", "--rootless", "--image", "umoci:made", "files", "/usr/src"]);
    run(dir.path(), "umoci", &["tag", "--image", "umoci:made", "example.org/umoci:made"]);
    let packed = done(
        dir.path(),
        &["pack", &to, "oci:umoci:example.org/umoci:made", "--out", "carry", "--no-program", "--tls-verify=false"],
    );
    let classes: Vec<&String> = packed["madeBy"].as_object().unwrap().keys().collect();
    assert!(classes.iter().filter(|class| class.starts_with("pgzip-")).count() >= 1, "{packed}");
    assert_eq!(packed["whole"].as_array().unwrap().len(), 0, "{packed}");

    let bastion = DockerRegistry::start();
    let place = format!("docker://{}", bastion.address);
    let unpacked = done(dir.path(), &["unpack", "carry", "--to", &place, "--tls-verify=false"]);
    assert_eq!(unpacked["pushed"].as_array().unwrap().len(), 2, "{unpacked}");
    for (registry, name) in [(&registry, "a"), (&bastion, "b")] {
        let at = registry.at("org/app:v1");
        run(
            dir.path(),
            "skopeo",
            &["copy", "--insecure-policy", "--src-tls-verify=false", &at, &format!("oci:{name}:x")],
        );
    }
    assert_same(&dir.path().join("a"), &dir.path().join("b"));
}

#[test]
#[ignore = "needs docker-registry, skopeo; what a registry on the far side holds does not travel again"]
fn a_registry_gets_what_is_new_and_one_without_the_base_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (subject, _) = layouts(dir);
    // An SBOM, which has no name: its blobs are held in the repository of what it is of.
    let layout = Layout::open(&dir.join("one")).unwrap();
    let sbom = crate::images::blob(&layout, "application/spdx+json", b"{\"spdxVersion\":\"SPDX-2.3\"}");
    let config = layout.write_blob(MediaType::EmptyJSON, b"{}").unwrap();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": MediaType::ImageManifest, "artifactType": "application/spdx+json",
        "config": config, "layers": [sbom], "subject": subject,
    });
    let mut referrer = layout.write_blob(MediaType::ImageManifest, &canonical(&manifest)).unwrap();
    referrer.set_artifact_type(Some(MediaType::Other("application/spdx+json".to_owned())));
    layout.tag(&referrer, None).unwrap();
    let (bastion, empty) = (DockerRegistry::start(), DockerRegistry::start());
    let place = |registry: &DockerRegistry| format!("docker://{}/mirror", registry.address);
    let pack = |from: &[&str], out: &str| {
        done(dir, &[&["pack"][..], from, &["--out", out, "--site", "plant", "--no-program"]].concat())
    };
    let first = pack(&["oci:one"], "carry-1");
    let unpacked = done(dir, &["unpack", "carry-1", "--to", &place(&bastion), "--tls-verify=false"]);
    done(dir, &["site", "confirm", "plant", unpacked["receipt_file"].as_str().unwrap()]);
    let second = pack(&["oci:one", "oci:two"], "carry-2");
    // Both layers and the configuration of the first image, the SBOM and its configuration.
    let images: Vec<&str> = second["needs"].as_array().unwrap().iter().filter_map(|it| it["image"].as_str()).collect();
    assert_eq!(images, ["example.org/app:one"; 5], "{second}");
    let told = crate::error(dir, &["unpack", "carry-2", "--to", &place(&empty), "--tls-verify=false"]);
    assert!(told.contains(&format!("which carry {} brings", first["id"].as_str().unwrap())), "{told}");
    done(dir, &["unpack", "carry-2", "--to", &place(&bastion), "--tls-verify=false"]);
    let at = bastion.at("mirror/app:two");
    let copy = ["copy", "--insecure-policy", "--src-tls-verify=false", "--dest-oci-accept-uncompressed-layers"];
    run(dir, "skopeo", &[&copy[..], &[&at, "oci:back:example.org/app:two"]].concat());
    assert_same(&dir.join("two/blobs"), &dir.join("back/blobs"));
}

#[test]
#[ignore = "needs docker-registry, skopeo; skopeo finds by its digest what was packed by its digest"]
fn an_image_that_is_known_by_its_digest_goes_from_registry_to_registry() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (image, _) = layouts(dir);
    let digest = image.digest();
    let (near, far) = (DockerRegistry::start(), DockerRegistry::start());
    done(dir, &["copy", "oci:one:example.org/app:one", &near.at("org/app:v1"), "--dest-tls-verify=false"]);
    let tags = || {
        let at = far.at("mirror/org/app");
        let output = Command::new("skopeo").args(["list-tags", "--tls-verify=false", &at]).output().unwrap();
        serde_json::from_slice::<serde_json::Value>(&output.stdout).map(|listed| listed["Tags"].clone()).ok()
    };
    for (name, destination, tagged) in
        [("org/app", "mirror/org/app", None), ("org/app:v1", "mirror/org/app:v1", Some(serde_json::json!(["v1"])))]
    {
        let carry = destination.replace(['/', ':'], "-");
        let from = near.at(&format!("{name}@{digest}"));
        done(dir, &["pack", &from, "--out", &carry, "--no-program", "--tls-verify=false"]);
        let to = format!("docker://{}/mirror", far.address);
        let unpacked = done(dir, &["unpack", &carry, "--to", &to, "--tls-verify=false"]);
        let there = format!("{}/{destination}", far.address);
        assert_eq!(unpacked["pushed"][0]["destination"].as_str(), Some(&*there), "{unpacked}");
        let at = far.at(&format!("mirror/org/app@{digest}"));
        run(dir, "skopeo", &["inspect", "--raw", "--tls-verify=false", &at]);
        // A repository without a tag has none, or is not listed at all.
        assert_eq!(tags().filter(|tags| tags.as_array().is_some_and(|tags| !tags.is_empty())), tagged);
    }
}

#[test]
#[ignore = "needs podman, skopeo, gcc; podman runs what has been carried, on overlay and vfs"]
fn podman_runs_an_image_that_has_been_carried() {
    let dir = tempfile::tempdir().unwrap();
    let source = "#include <stdio.h>\nint main(void) { puts(\"carried\"); return 0; }\n";
    std::fs::write(dir.path().join("hello.c"), source).unwrap();
    run(dir.path(), "gcc", &["-static", "-o", "hello", "hello.c"]);
    let program = std::fs::read(dir.path().join("hello")).unwrap();
    let layer = {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(program.len() as u64);
        header.set_mode(0o755);
        builder.append_data(&mut header, "hello", &program[..]).unwrap();
        builder.into_inner().unwrap()
    };
    let layout = Layout::create(&dir.path().join("plain")).unwrap();
    let layer = crate::images::blob(&layout, TAR, &layer);
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": { "Entrypoint": ["/hello"] },
        "rootfs": { "type": "layers", "diff_ids": [layer.digest()] },
    });
    let config = layout.write_blob(MediaType::ImageConfig, &canonical(&config)).unwrap();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": MediaType::ImageManifest, "config": config, "layers": [layer],
    });
    let made = layout.write_blob(MediaType::ImageManifest, &canonical(&manifest)).unwrap();
    layout.tag(&made, Some("plain")).unwrap();
    run(dir.path(), "skopeo", &["copy", "--insecure-policy", "oci:plain:plain", "oci:from:hello"]);
    done(dir.path(), &["pack", "oci:from", "--out", "carry", "--no-program"]);
    done(dir.path(), &["unpack", "carry", "--to", "oci:to"]);
    assert_same(&dir.path().join("from/blobs"), &dir.path().join("to/blobs"));
    for driver in ["overlay", "vfs"] {
        let storage = Storage::new(driver);
        let id = storage.last_line(dir.path(), &["podman", "pull", "-q", "oci:to:hello"]);
        assert_eq!(storage.run(dir.path(), &["podman", "run", "--rm", &id]).trim(), "carried", "{driver}");
    }
}
