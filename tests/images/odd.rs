//! Images, archives and layouts that people have, and that are not as we would write them.

use std::path::Path;
use std::process::Command;

use haversack::compression::{Compression, Encoder};
use haversack::digest::Digest;
use haversack::image::Layout;
use haversack::image::layer::pax::{Meta, TarWriter};
use haversack::image::store::layout;
use oci_spec::image::{Descriptor, MediaType};
use serde_json::{Value, json};

use crate::{done, haversack, refused};

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

fn tar() -> Vec<u8> {
    let mut tar = TarWriter::new(Vec::new());
    tar.file(Path::new("a"), &Meta { mode: 0o644, ..Meta::default() }, 1, &b"a"[..]).unwrap();
    tar.finish().unwrap()
}

fn compressed(bytes: &[u8], compression: Compression) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new(), compression, None).unwrap();
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

fn layer(store: &Layout, tail: &[u8]) -> Descriptor {
    let bytes = [&compressed(&tar(), Compression::Gzip), tail].concat();
    store.write_blob(MediaType::ImageLayerGzip, &bytes).unwrap()
}

fn configuration() -> Vec<u8> {
    let rootfs = json!({ "type": "layers", "diff_ids": [Digest::sha256(tar()).to_string()] });
    json!({ "architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs }).to_string().into_bytes()
}

/// A manifest with these members beside the version and the type.
fn manifest(store: &Layout, members: &Value) -> Descriptor {
    let mut document = json!({ "schemaVersion": 2, "mediaType": MediaType::ImageManifest.to_string() });
    document.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    store.write_blob(MediaType::ImageManifest, &layout::canonical(&document)).unwrap()
}

fn image(store: &Layout, config: &[u8], tail: &[u8]) -> Descriptor {
    let layer = layer(store, tail);
    let config = store.write_blob(CONFIG.into(), config).unwrap();
    manifest(store, &json!({ "config": config, "layers": [layer] }))
}

fn store(dir: &Path, name: &str) -> Layout {
    std::fs::create_dir(dir.join(name)).unwrap();
    Layout::create(&dir.join(name)).unwrap()
}

fn index(store: &Layout, listed: &[(&Descriptor, &str)]) -> Descriptor {
    let listed = listed.iter().map(|(described, architecture)| {
        let mut listed = (*described).clone();
        listed.set_platform(Some(
            format!("linux/{architecture}").parse::<haversack::image::Platform>().unwrap().to_spec(),
        ));
        listed
    });
    let document = json!({
        "schemaVersion": 2, "mediaType": MediaType::ImageIndex.to_string(), "manifests": listed.collect::<Vec<_>>(),
    });
    store.write_blob(MediaType::ImageIndex, &layout::canonical(&document)).unwrap()
}

/// Status and document of `inspect --json`.
fn inspected(dir: &Path, reference: &str) -> (i32, Value) {
    let output = haversack(dir, &["inspect", "--json", reference]);
    let document = serde_json::from_slice(&output.stdout);
    (output.status.code().unwrap(), document.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr))))
}

#[test]
fn inspect_shows_what_there_is_whatever_the_configuration_is() {
    let dir = tempfile::tempdir().unwrap();
    let chart = "application/vnd.cncf.helm.config.v1+json";
    let large = [br#"{"a":""#.as_slice(), &vec![b'x'; 5 << 20], br#""}"#].concat();
    type Make<'a> = &'a dyn Fn(&Layout) -> Descriptor;
    let cases: &[(&str, Make<'_>, i32, usize, Value, &str)] = &[
        ("whole", &|it| image(it, &configuration(), b""), 0, 1, Value::Null, ""),
        ("empty", &|it| image(it, b"", b""), 3, 1, Value::Null, "its configuration is not JSON"),
        ("yaml", &|it| image(it, b"a:\n  - b\n", b""), 3, 1, Value::Null, "its configuration is not JSON"),
        ("large", &|it| image(it, &large, b""), 3, 1, Value::Null, "above the limit"),
        (
            "none",
            &|it| manifest(it, &json!({ "artifactType": "application/x", "layers": [layer(it, b"")] })),
            0,
            1,
            json!("application/x"),
            "",
        ),
        (
            "chart",
            &|it| {
                let config = it.write_blob(chart.into(), b"{}").unwrap();
                manifest(it, &json!({ "config": config, "layers": [layer(it, b"")] }))
            },
            0,
            1,
            json!(chart),
            "",
        ),
        (
            "null",
            &|it| {
                let config = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":null}}"#;
                let config = it.write_blob(CONFIG.into(), config).unwrap();
                manifest(it, &json!({ "config": config, "layers": null }))
            },
            0,
            0,
            Value::Null,
            "",
        ),
        (
            "schema1",
            &|it| {
                let blob = Digest::sha256("x").to_string();
                let document = json!({ "schemaVersion": 1, "name": "x", "fsLayers": [{ "blobSum": blob }] });
                it.write_blob(SCHEMA1.into(), &layout::canonical(&document)).unwrap()
            },
            3,
            1,
            Value::Null,
            "Docker's schema 1",
        ),
    ];
    for (name, make, status, layers, kind, problem) in cases {
        let store = store(dir.path(), name);
        store.tag(&make(&store), Some("v1")).unwrap();
        let (found, document) = inspected(dir.path(), &format!("oci:{name}:v1"));
        let report = &document["images"][0];
        assert_eq!((found, report["layers"].as_array().unwrap().len()), (*status, *layers), "{name}: {document}");
        assert_eq!(&report["artifact_type"], kind, "{name}");
        let said = report["problem"].as_str().unwrap_or_default();
        assert!(said.contains(problem) && said.is_empty() == problem.is_empty(), "{name}: {said}");
        let copied = haversack(dir.path(), &["copy", &format!("oci:{name}:v1"), &format!("oci:copied-{name}:v1")]);
        assert_eq!(copied.status.success(), *name != "schema1", "{name}: {}", String::from_utf8_lossy(&copied.stderr));
    }
    for name in ["none", "null", "chart"] {
        done(&haversack(dir.path(), &["verify", &format!("oci:copied-{name}:v1")]));
    }
}

#[test]
fn of_a_sparse_index_what_is_there_is_shown_and_what_is_not_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), "sparse");
    let here = image(&store, &configuration(), b"");
    let mut gone = here.clone();
    gone.set_digest(Digest::sha256("gone").as_str().parse().unwrap());
    let inner = index(&store, &[(&here, "amd64"), (&gone, "arm64")]);
    let outer = index(&store, &[(&inner, "amd64")]);
    for (name, listed) in [("flat", &inner), ("nested", &outer)] {
        store.tag(listed, Some(name)).unwrap();
        let (status, document) = inspected(dir.path(), &format!("oci:sparse:{name}"));
        let images = document["images"].as_array().unwrap();
        let shown: Vec<_> =
            images.iter().map(|it| (it["platform"].as_str().unwrap(), it["problem"].is_null())).collect();
        assert_eq!((status, shown), (3, vec![("linux/amd64", true), ("linux/arm64", false)]), "{name}");
        assert!(images[1]["problem"].as_str().unwrap().contains(Digest::sha256("gone").hex()), "{name}");
        let raw = done(&haversack(dir.path(), &["inspect", "--raw", &format!("oci:sparse:{name}")]));
        assert!(raw.starts_with('{'));
    }
    let (status, said) = refused(&haversack(dir.path(), &["copy", "oci:sparse:flat", "oci:whole:x"]));
    assert!(status == 1 && said.contains(Digest::sha256("gone").hex()), "{said}");
}

#[test]
fn archives_compressed_as_a_whole_are_read_and_not_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), "store");
    let listed = image(&store, &configuration(), &[0; 1024]);
    store.tag(&index(&store, &[(&listed, "amd64")]), Some("v1")).unwrap();
    // A list with one platform is that platform's image where there are no lists.
    for transport in ["oci-archive", "docker-archive"] {
        done(&haversack(dir.path(), &["copy", "oci:store:v1", &format!("{transport}:a.tar:localhost/x:v1")]));
        let tar = std::fs::read(dir.path().join("a.tar")).unwrap();
        std::fs::remove_file(dir.path().join("a.tar")).unwrap();
        let global = [&global_header(), &tar[..]].concat();
        for (name, bytes) in [
            ("a.tar.gz", compressed(&tar, Compression::Gzip)),
            ("a.tar.zst", compressed(&tar, Compression::Zstd)),
            ("global.tar", global),
        ] {
            std::fs::write(dir.path().join(name), &bytes).unwrap();
            let from = format!("{transport}:{name}:localhost/x:v1");
            let output = haversack(dir.path(), &["verify", &from]);
            let said = String::from_utf8_lossy(&output.stderr);
            let is_compressed = said.contains("decompressing it into a temporary file");
            assert!(output.status.success() && is_compressed == (name != "global.tar"), "{from}: {said}");
            if is_compressed {
                let output =
                    haversack(dir.path(), &["copy", "oci:store:v1", &format!("{transport}:{name}:localhost/x:v2")]);
                let expected = format!(
                    "error: {name}: compressed as a whole, so that nothing can be added to it; decompress it first"
                );
                assert_eq!(refused(&output), (1, expected));
                assert!(std::fs::read(dir.path().join(name)).unwrap() == bytes);
            }
        }
    }
}

/// What `git archive` and others put first.
fn global_header() -> Vec<u8> {
    let record = b"22 comment=0123456789\n";
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::XGlobalHeader);
    header.set_path("pax_global_header").unwrap();
    header.set_size(record.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(record);
    bytes.resize(1024, 0);
    bytes
}

#[test]
fn blobs_may_lie_behind_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), "store");
    store.tag(&image(&store, &configuration(), b""), Some("v1")).unwrap();
    std::fs::rename(dir.path().join("store/blobs/sha256"), dir.path().join("shared")).unwrap();
    std::os::unix::fs::symlink("../../shared", dir.path().join("store/blobs/sha256")).unwrap();
    done(&haversack(dir.path(), &["verify", "oci:store"]));
    done(&haversack(dir.path(), &["copy", "oci:store:v1", "oci:copied:v1"]));
    done(&haversack(dir.path(), &["verify", "oci:copied:v1"]));
}

#[test]
fn sync_goes_by_the_whole_names_that_buildx_writes_and_tells_of_images_without() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), "store");
    let mut listed = image(&store, &configuration(), b"");
    let annotations = |it: &mut Descriptor, pairs: &[(&str, &str)]| {
        it.set_annotations(Some(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()));
    };
    let full = "io.containerd.image.name";
    annotations(&mut listed, &[(full, "registry.example/team/app:v1"), (layout::REF_NAME, "v1")]);
    let mut other = image(&store, &configuration(), &[0]);
    annotations(&mut other, &[(full, "registry.example/team/app:v2")]);
    let bare = image(&store, &configuration(), &[0, 0]);
    let document = json!({ "schemaVersion": 2, "manifests": [listed, other, bare] });
    std::fs::write(dir.path().join("store/index.json"), document.to_string()).unwrap();
    std::fs::write(dir.path().join("list.toml"), "to = 'oci:mirror'\n[[images]]\nfrom = 'oci:store'\n").unwrap();
    let output = haversack(dir.path(), &["sync", "list.toml"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains(&format!("{}: has no name there", bare.digest())), "{said}");
    let index: Value = serde_json::from_slice(&std::fs::read(dir.path().join("mirror/index.json")).unwrap()).unwrap();
    let mut names: Vec<_> =
        index["manifests"].as_array().unwrap().iter().map(|it| it["annotations"][layout::REF_NAME].clone()).collect();
    names.sort_by_key(ToString::to_string);
    assert_eq!(names, ["registry.example/team/app:v1", "registry.example/team/app:v2"]);
}

#[test]
fn simple_signatures_in_a_directory_are_passed_over_and_that_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let from = store(dir.path(), "from");
    from.tag(&image(&from, &configuration(), b""), Some("x")).unwrap();
    done(&haversack(dir.path(), &["copy", "oci:from:x", "dir:d", "--json"]));
    let said = |args: &[&str]| {
        let output = haversack(dir.path(), args);
        let all = [output.stderr, output.stdout].concat();
        (output.status.code(), String::from_utf8(all).unwrap().matches("signature").count())
    };
    let commands =
        [&["copy", "dir:d", "oci:to:x"][..], &["copy", "dir:d", "oci-archive:x.tar:x"], &["inspect", "dir:d"]];
    for command in commands {
        assert_eq!(said(command), (Some(0), 0), "{command:?}");
    }
    // As containers/image names them; the last two are none.
    let hex = "0".repeat(64);
    for name in ["signature-1", "signature-12", &format!("{hex}.signature-3"), "signature-", "signature-x"] {
        std::fs::write(dir.path().join("d").join(name), "a signature").unwrap();
    }
    for command in commands {
        let output = haversack(dir.path(), command);
        let said = String::from_utf8(output.stderr).unwrap();
        let warning = "warning: d: passed over: 3 simple signatures (signature-N), which only dir: has\n";
        assert!(said.contains(warning) && said.matches("passed over").count() == 1, "{command:?}: {said}");
    }
    // Nothing is wrong with the three; the others belong to no image.
    let output = haversack(dir.path(), &["verify", "dir:d"]);
    let found = String::from_utf8(output.stdout).unwrap();
    let strays: Vec<&str> = found.lines().filter(|line| line.contains("signature-")).collect();
    assert_eq!(strays.len(), 2, "{found}");
}

#[test]
fn a_platform_that_one_image_of_a_list_lacks_is_a_failure_of_that_image() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), "store");
    let one = image(&store, &configuration(), b"");
    store.tag(&index(&store, &[(&one, "amd64"), (&one, "s390x")]), Some("r.example/whole:1")).unwrap();
    store.tag(&index(&store, &[(&one, "amd64")]), Some("r.example/half:1")).unwrap();
    store.tag(&one, Some("r.example/single:1")).unwrap();
    let list = "to = 'oci:mirror'\n[[images]]\nfrom = 'oci:store'\nplatforms = ['linux/amd64', 'linux/s390x']\n";
    std::fs::write(dir.path().join("list.toml"), list).unwrap();
    let output = haversack(dir.path(), &["sync", "list.toml", "--json"]);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let failed: Vec<_> = report["failed"].as_array().unwrap().iter().map(|it| it["error"].as_str().unwrap()).collect();
    assert!(failed.len() == 2 && failed.iter().all(|it| it.starts_with("no image for linux/s390x in it")), "{report}");
    let mirrored = Layout::open(&dir.path().join("mirror")).unwrap().index().unwrap();
    let names: Vec<_> = mirrored.manifests().iter().map(|it| layout::ref_name(it).unwrap()).collect();
    assert_eq!(names, ["r.example/whole:1"]);
}

#[test]
fn a_checkout_under_another_umask_is_the_same_image() {
    let digests = ["022", "027", "077"].map(|umask| {
        let dir = tempfile::tempdir().unwrap();
        let script = "umask $0; mkdir -p def/tree/deep def/bin; echo x > def/tree/deep/x; echo y > def/y
            printf '#!/bin/sh\\n' > def/bin/run; chmod +x def/bin/run; cp -p def/bin/run def/tree/deep/run
            find def -exec touch -d @1000000000 {} +";
        assert!(Command::new("sh").args(["-c", script, umask]).current_dir(dir.path()).status().unwrap().success());
        let definition = "name = 'x'\n[[layers]]\ndirectories = [{ src = 'tree', dest = '/tree' }]\n\
             files = [{ src = 'y', dest = '/y' }, { src = 'bin/run', dest = '/bin/run' }]\n";
        std::fs::write(dir.path().join("def/image.toml"), definition).unwrap();
        let built = done(&haversack(dir.path(), &["build", "def", "--no-sbom", "--json", "-o", "oci:store:x"]));
        let built: Value = serde_json::from_str(&built).unwrap();
        built[0]["digest"].as_str().unwrap().to_owned()
    });
    assert_eq!(digests, [0; 3].map(|_| digests[0].clone()));
}
