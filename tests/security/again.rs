//! What a list names again and again, and lists that name lists that do.

use std::path::Path;

use serde_json::json;

use crate::Scene;
use crate::server::{Answer, Image, MANIFEST, Server};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn digest(bytes: &[u8]) -> String {
    haversack::digest::Digest::sha256(bytes).to_string()
}

/// Lists that each name the next one, and the last of them the manifest, so many times; the outermost last.
fn lists_of_lists(manifest: &[u8], times: usize) -> Vec<Vec<u8>> {
    let mut lists: Vec<Vec<u8>> = Vec::new();
    for _ in 0..4 {
        let (media_type, bytes) = lists.last().map_or((MANIFEST, manifest), |list| (INDEX, &list[..]));
        let named = json!({ "mediaType": media_type, "digest": digest(bytes), "size": bytes.len() });
        let list = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": vec![named; times] });
        lists.push(list.to_string().into_bytes());
    }
    lists
}

/// Puts a list into a layout in the place of its one image.
fn write_list(store: &Path, lists: &[Vec<u8>]) {
    for list in lists {
        std::fs::write(store.join("blobs/sha256").join(&digest(list)["sha256:".len()..]), list).unwrap();
    }
    let top = lists.last().unwrap();
    let index = json!({ "schemaVersion": 2, "manifests": [{
        "mediaType": INDEX, "digest": digest(top), "size": top.len(),
        "annotations": { "org.opencontainers.image.ref.name": "x" }
    }] });
    std::fs::write(store.join("index.json"), index.to_string()).unwrap();
}

/// 500 times 500 times 500 times 500 times the same image.
#[test]
fn lists_that_name_a_list_hundreds_of_times_are_read_once() {
    let image = Image::small();
    let lists = lists_of_lists(&image.manifest, 500);
    let scene = Scene::new();
    image.write_layout(&scene.home().join("store"));
    write_list(&scene.home().join("store"), &lists);
    for (args, code) in [
        (&["inspect", "oci:store:x"][..], 0),
        (&["verify", "oci:store"], 0),
        (&["verify", "oci:store", "--report=evidence.json"], 0),
        (&["gc", "store", "--dry-run"], 0),
        (&["copy", "oci:store:x", "oci:other:x"], 0),
        (&["copy", "oci:store:x", "oci:narrow:x", "--platform=linux/amd64"], 0),
        (&["copy", "oci:store:x", "oci-archive:a.tar"], 0),
        (&["copy", "oci-archive:a.tar", "oci:back:x"], 0),
        (&["inspect", "docker-archive:a.tar"], 1),
        (&["copy", "oci:store:x", "dir:dir"], 0),
        (&["copy", "oci:store:x", "dir:dir"], 0),
        (&["pack", "oci:store", "--out=carry"], 0),
        (&["unpack", "carry", "--to=oci:unpacked"], 0),
    ] {
        let ended = scene.haversack(args);
        assert_eq!(ended.code, code, "{args:?}: {ended:#?}");
    }
    let server = Server::start(move |request| {
        let path = &request.path;
        let list = lists.iter().find(|list| path.ends_with(&digest(list)) || path.ends_with("/manifests/1"));
        let list = if path.ends_with("/manifests/1") { lists.last() } else { list };
        match list {
            Some(list) => Answer::new(200, list.clone()).with("content-type", INDEX),
            None if path.ends_with(&image.digest()) || !path.contains("/manifests/") => {
                image.answer(path).unwrap_or(Answer::new(404, ""))
            }
            None => Answer::new(404, ""),
        }
    });
    let source = format!("docker://{}/r/i:1", server.address);
    for args in [
        &["inspect", &source, "--tls-verify=false"][..],
        &["copy", &source, "oci:served:x", "--src-tls-verify=false"],
        &["copy", &source, "oci:some:x", "--src-tls-verify=false", "--platform=linux/amd64"],
    ] {
        let ended = scene.haversack(&[args, &["--retries=0"]].concat());
        assert_eq!(ended.code, 0, "{args:?}: {ended:#?}");
    }
    assert!(server.seen().len() < 100, "{}", server.seen().len());
}

/// A registry that answers with the same list whatever is asked about: each of them has them all, and so have these.
#[test]
fn referrers_that_all_refer_to_everything_are_copied_once() {
    let image = Image::small();
    let artifacts: Vec<Vec<u8>> = (0..40)
        .map(|number| {
            let mut manifest: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
            manifest["annotations"] = json!({ "number": number.to_string() });
            manifest.to_string().into_bytes()
        })
        .collect();
    let described = artifacts.iter().map(
        |bytes| json!({ "mediaType": MANIFEST, "digest": digest(bytes), "size": bytes.len(), "artifactType": "a/b" }),
    );
    let listed = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": described.collect::<Vec<_>>() });
    let server = Server::start(move |request| {
        let path = &request.path;
        if path.contains("/referrers/") {
            return Answer::new(200, listed.to_string()).with("content-type", INDEX);
        }
        match artifacts.iter().find(|bytes| path.ends_with(&digest(bytes))) {
            Some(bytes) => Answer::new(200, bytes.clone()).with("content-type", MANIFEST),
            None if path.contains("/manifests/sha256-") => Answer::new(404, ""),
            None => image.answer(path).unwrap_or(Answer::new(404, "")),
        }
    });
    let scene = Scene::new();
    let source = format!("docker://{}/r/i:1", server.address);
    let copy = ["copy", &source, "oci:store:x", "--json", "--src-tls-verify=false", "--retries=0"];
    let ended = scene.haversack(&copy);
    assert_eq!((ended.code, &ended.json()["referrers"]), (0, &json!(40)), "{ended:#?}");
    assert!(server.seen().len() < 1000, "{}", server.seen().len());
}

/// One manifest for thousands of platforms, with a configuration that takes a hundred times its bytes when it is taken apart.
#[test]
fn an_image_that_is_listed_for_thousands_of_platforms_is_shown_up_to_a_limit() {
    let mut config = json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [] } });
    config["x"] = json!(vec![0; 500_000]);
    let config = config.to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "layers": [],
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(&config), "size": config.len() },
    });
    let manifest = manifest.to_string().into_bytes();
    let listed = |number: usize| {
        json!({
            "mediaType": MANIFEST, "digest": digest(&manifest), "size": manifest.len(),
            "platform": { "os": "linux", "architecture": format!("a{number}") },
        })
    };
    let list =
        json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": (0..10_000).map(listed).collect::<Vec<_>>() });
    let scene = Scene::new();
    let store = scene.home().join("store");
    Image { manifest: manifest.clone(), blobs: vec![(digest(&config), config)] }.write_layout(&store);
    write_list(&store, &[list.to_string().into_bytes()]);
    let ended = scene.haversack(&["inspect", "oci:store:x", "--json"]);
    assert_eq!(ended.code, 3, "{}", ended.stderr);
    let (report, text) = (ended.json(), ended.stdout);
    assert_eq!(report["images"].as_array().map(Vec::len), Some(10_000));
    assert!(text.contains("more than 8388608 bytes of manifests and configurations"));
}
