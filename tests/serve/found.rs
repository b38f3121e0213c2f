//! What the page finds by itself in images: catalogs, lists of kernels, files of layers; and what it does not believe.

use std::process::Command;
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;
use haversack::digest::Digest;
use haversack::image::Layout;
use haversack::image::store::layout::canonical;
use oci_spec::image::{Descriptor, MediaType};
use serde_json::{Value, json};

use crate::server::{Serve, arg, image, layout, manifest};
use crate::shown::{self, UNAME};

/// A tar of files; what ends in `/` is a directory, and what has an arrow in it a link.
pub(crate) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000);
        if let Some((path, target)) = path.split_once(" -> ") {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            tar.append_link(&mut header, path, target).unwrap();
            continue;
        }
        header.set_entry_type(if path.ends_with('/') { tar::EntryType::Directory } else { tar::EntryType::Regular });
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, path, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

/// An image of layers that says of itself that this product built it, with this in its environment.
fn built(layout: &Layout, variable: &str, taken: &str, layers: &[Vec<u8>]) -> Descriptor {
    let config = json!({ "architecture": "amd64", "os": "linux", "config": { "Env": ["PATH=/usr/bin", variable] } });
    let config = layout.write_blob(MediaType::ImageConfig, &canonical(&config)).unwrap();
    let layers: Vec<Descriptor> =
        layers.iter().map(|it| layout.write_blob(MediaType::ImageLayer, it).unwrap()).collect();
    let annotations =
        json!({ "io.haversack.fingerprint": Digest::sha256(variable), "io.haversack.catalog.taken": taken });
    manifest(layout, &json!({ "config": config, "layers": layers, "annotations": annotations }))
}

/// Asks until the answer is as it is to be: things are found in the background.
fn until(serve: &Serve, path: &str, is_it: impl Fn(u16, &Value) -> bool) -> Value {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let answer = serve.get(path);
        let value = answer.json();
        if is_it(answer.status, &value) {
            return value;
        }
        assert!(Instant::now() < end, "{path}: {} {value}", answer.status);
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn the_newest_catalog_of_the_images_answers_without_an_option_and_goes_with_its_image() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    let db = shown::catalog(dir.path());
    let definition = dir.path().join("definition");
    std::fs::create_dir(&definition).unwrap();
    let text = "name = \"catalog\"\n[env]\nHAVERSACK_DB = \"/data/catalog.db\"\n[[layers]]\n\
                catalog = { tree = \"/data/tree\", db = \"/data/catalog.db\" }\n";
    std::fs::write(definition.join("image.toml"), text).unwrap();
    let to = format!("oci:{}:example.com/certified/catalog:1", arg(&store));
    let mut build = Command::new(cargo_bin!("haversack"));
    build.args(["build", definition.to_str().unwrap(), "--catalog", &db, "--output", &to]);
    let built_by_us = build.output().unwrap();
    assert!(built_by_us.status.success(), "{}", String::from_utf8_lossy(&built_by_us.stderr));
    // Newer, and not what they say.
    let none =
        built(&store, "HAVERSACK_DB=/etc/passwd", "2099-01-01T00:00:00Z", &[tar(&[("etc/passwd", b"root:x:0:0")])]);
    store.tag(&none, Some("example.com/a/none:1")).unwrap();
    let link = built(&store, "HAVERSACK_DB=/c.db", "2098-01-01T00:00:00Z", &[tar(&[("c.db -> /etc/passwd", b"")])]);
    store.tag(&link, Some("example.com/a/link:1")).unwrap();
    let bytes = std::fs::read(&db).unwrap();
    let hidden = [tar(&[("d/c.db", &bytes)]), tar(&[("d/.wh.c.db", b"")])];
    let hidden = built(&store, "HAVERSACK_DB=/d/c.db", "2097-01-01T00:00:00Z", &hidden);
    store.tag(&hidden, Some("example.com/a/hidden:1")).unwrap();
    store.tag(&image(&store, b"x"), Some("example.com/a/other:1")).unwrap();

    let serve = Serve::start(&[arg(&store)]);
    let asked = "/api/v1/catalog?q=some-operator.v0.3.6&ocp=4.5";
    let found = until(&serve, asked, |status, _| status == 200);
    assert_eq!(found["answers"][0]["certified"], json!(true));
    assert_eq!(found["from"]["repository"], json!("example.com/certified/catalog"));
    for (name, why) in [
        ("none", "what it has is no catalog"),
        ("link", "no layer has c.db as a file"),
        ("hidden", "no layer has d/c.db as a file"),
    ] {
        let log = serve.log_with(&format!("example.com/a/{name}@"));
        assert!(log.lines().any(|line| line.contains(&format!("a/{name}@")) && line.contains(why)), "{name}: {log}");
    }
    let page = String::from_utf8(serve.get("/catalog").body).unwrap();
    assert!(page.contains("It is in the image <a href=\"/images/example.com/certified/catalog@sha256:"), "{page}");
    // It is served for reading only, so nothing was written into it.
    assert!(!store.root().join(".haversack").exists());
    let digest = found["from"]["digest"].as_str().unwrap().to_owned();
    drop(serve);

    let serve = Serve::start(&["--writable", arg(&store)]);
    until(&serve, asked, |status, _| status == 200);
    let kept = store.root().join(".haversack/found").join(digest.strip_prefix("sha256:").unwrap());
    assert_eq!(std::fs::read(kept.join("catalog.db")).unwrap(), bytes);
    assert_eq!(
        serve.send("DELETE", &format!("/v2/example.com/certified/catalog/manifests/{digest}"), &[], b"").status,
        202
    );
    until(&serve, asked, |status, _| status == 404);
    assert!(!kept.exists());
}

#[test]
fn lists_of_kernels_in_images_are_shown_together() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    let list: Value = serde_json::from_slice(&std::fs::read(shown::kernels(dir.path())).unwrap()).unwrap();
    let mut other = list.clone();
    other["kernels"][0]["distribution"] = json!("rocky");
    // The second has one kernel of the first and one of its own.
    for (name, list) in [("one", &list), ("two", &other)] {
        let layer = tar(&[("kernels/kernels.json", list.to_string().as_bytes())]);
        let layers = [tar(&[("usr/bin/x", b"x")]), layer];
        let described = built(&store, "HAVERSACK_KERNEL_SET=/kernels/kernels.json", "", &layers);
        store.tag(&described, Some(&format!("example.com/kernels/{name}:1"))).unwrap();
    }
    let serve = Serve::start(&[arg(&store)]);
    let found = until(&serve, &format!("/api/v1/kernels?q={UNAME}"), |status, _| status == 200);
    let of = |key: &str| found["kernels"].as_array().unwrap().iter().map(|it| it[key].clone()).collect::<Vec<_>>();
    assert_eq!((&found["total"], of("distribution")), (&json!(3), vec![json!("el"), json!("rocky")]));
    assert_eq!(found["from"].as_array().unwrap().len(), 2);
}

#[test]
fn files_of_a_layer_are_shown_by_option_a_page_at_a_time_and_as_text() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    let names: Vec<String> = (0..600).map(|n| format!("etc/{n:03}")).collect();
    let mut files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"content"[..])).collect();
    files.extend([("<script>alert(1)</script>", &b"x"[..]), ("bin -> /usr/bin", b""), ("usr/.wh.gone", b"")]);
    let plain = tar(&files);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, &plain).unwrap();
    let packed = packed.finish().unwrap();
    let cut = packed[..packed.len() / 2].to_vec();
    let image = built(&store, "A=B", "", &[packed.clone(), cut.clone(), b"not a tar".repeat(100)]);
    store.tag(&image, Some("example.com/a/b:1")).unwrap();
    let at = |layer: &[u8], query: &str| {
        format!("/repositories/example.com/a/b@{}/layers/{}{query}", image.digest(), Digest::sha256(layer))
    };
    let serve = Serve::start(&[arg(&store)]);
    let refused = serve.get(&format!("/api/v1{}", at(&packed, "")));
    assert!(refused.error().2.contains("--layer-files"), "{refused:?}");
    drop(serve);

    let serve = Serve::start(&["--layer-files", arg(&store)]);
    let list = |layer: &[u8], query: &str| {
        let answer = serve.get(&format!("/api/v1{}", at(layer, query)));
        assert_eq!(answer.status, 200, "{query}: {}", String::from_utf8_lossy(&answer.body));
        answer.json()
    };
    let (first, rest) = (list(&packed, ""), list(&packed, "?last=500"));
    let length = |listing: &Value| listing["files"].as_array().unwrap().len();
    assert_eq!((length(&first), &first["next"], length(&rest), &rest["next"]), (500, &json!(500), 103, &Value::Null));
    let expected = json!({
        "path": "etc/000", "kind": "file", "mode": "0644", "owner": "0:0", "size": 7, "modified": "2023-11-14T22:13:20Z",
    });
    assert_eq!(first["files"][0], expected);
    let link = list(&packed, "?q=bin");
    assert_eq!((&link["files"][0]["kind"], &link["files"][0]["target"]), (&json!("link"), &json!("/usr/bin")));
    assert_eq!(list(&packed, "?q=.wh.")["files"][0]["kind"], json!("whiteout"));
    // What cannot be read any further ends with the reason, and what is none is refused.
    let broken = list(&cut, "");
    assert!(length(&broken) > 0 && broken["ends"].is_string(), "{broken}");
    let (status, _, words) = serve.get(&format!("/api/v1{}", at(&b"not a tar".repeat(100), ""))).error();
    assert!(status == 404 && words.contains("cannot be read as a tar archive"), "{words}");
    assert_eq!(serve.get(&format!("/api/v1{}", at(b"another", ""))).status, 404);
    assert_eq!(serve.get(&format!("/api/v1{}", at(&packed, "?last=x"))).status, 400);
    let page =
        String::from_utf8(serve.get(&at(&packed, "?q=script").replacen("/repositories", "/images", 1)).body).unwrap();
    assert!(page.contains("&lt;script&gt;") || page.contains("&#60;script&#62;"), "{page}");
    assert!(!page.contains("<script>"), "{page}");
}
