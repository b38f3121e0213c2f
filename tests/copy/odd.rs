//! Registries that differ in one thing each, and sources that are not whole.

use std::path::Path;
use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use haversack::digest::Digest;
use haversack::image::Layout;
use haversack::image::store::layout::{self, canonical};
use oci_spec::image::{Descriptor, MediaType};
use serde_json::{Value, json};

use crate::keeper::{Keeper, Quirk, Written, sorted};
use crate::referring::{copy, signed};
use crate::{done, error, haversack};

/// A registry that answers requests so whose method is this one and whose path has this in it.
fn answering(
    method: &'static str,
    part: &'static str,
    answer: impl Fn() -> Response + Send + Sync + 'static,
) -> Keeper {
    let answers = move |asked: &str, path: &str| (asked == method && path.contains(part)).then(&answer);
    Keeper::start(Quirk { answers: Some(Arc::new(answers)), ..Quirk::default() })
}

fn status(status: u16) -> Response {
    StatusCode::from_u16(status).unwrap().into_response()
}

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// What a copy says of what it left out.
fn left_out(report: &Value) -> Vec<&str> {
    report["left_out"]
        .as_array()
        .map(|all| all.iter().map(|it| it["what"].as_str().unwrap()).collect())
        .unwrap_or_default()
}

#[test]
fn a_registry_that_does_not_say_what_refers_to_an_image_does_not_keep_the_image() {
    let dir = tempfile::tempdir().unwrap();
    signed(dir.path(), 0);
    let digest = Layout::open(&dir.path().join("from")).unwrap().find(Some("x")).unwrap().digest().to_string();
    let list = format!("the list of what refers to {digest}");
    let tag = |kind: &str| format!("{}.{kind}", digest.replace(':', "-"));
    let null = || ([("content-type", INDEX)], r#"{"schemaVersion":2,"manifests":null}"#).into_response();
    let broken = || ([("content-type", INDEX)], "{").into_response();
    type Case = (&'static str, Keeper, i32, Vec<String>);
    let mut cases: Vec<Case> = vec![
        ("null", answering("GET", "/referrers/", null), 0, vec![]),
        ("no JSON", answering("GET", "/referrers/", broken), 3, vec![list.clone()]),
        ("500", answering("GET", "/referrers/", || status(500)), 3, vec![list.clone()]),
        ("500 for the tag in its place", answering("GET", "/manifests/sha256-", || status(500)), 3, vec![list]),
        (
            "500 for tags",
            answering("HEAD", "/manifests/sha256-", || status(500)),
            3,
            ["sig", "att", "sbom"].map(tag).to_vec(),
        ),
    ];
    for refused in [400, 401, 403, 404, 405, 501] {
        cases.push(("refused", answering("GET", "/referrers/", move || status(refused)), 0, vec![]));
    }
    for refused in [400, 401, 403, 405] {
        cases.push(("refused tags", answering("HEAD", "/manifests/sha256-", move || status(refused)), 0, vec![]));
    }
    for (case, registry, expected, what) in cases {
        done(&haversack(
            dir.path(),
            &["copy", "oci:from:x", &registry.at("r/x:1"), "--dest-tls-verify=false", "--no-referrers", "--json"],
        ));
        let _ = std::fs::remove_dir_all(dir.path().join("to"));
        let output = copy(dir.path(), &registry.at("r/x:1"), "oci:to:x");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(expected), "{case}: {said}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        if expected == 0 || !what.is_empty() {
            assert_eq!(left_out(&report), what, "{case}");
        }
        assert!(what.iter().all(|what| said.contains(&format!("{what} left out: "))), "{case}: {said}");
        let found = Layout::open(&dir.path().join("to")).unwrap().find(Some("x")).unwrap();
        assert_eq!(found.digest().as_ref(), digest, "{case}");
    }
}

#[test]
fn a_referrer_that_is_not_whole_is_left_out_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let referrers = signed(dir.path(), 2);
    let lost = dir.path().join("from/blobs/sha256").join(&referrers[0]["sha256:".len()..]);
    std::fs::remove_file(lost).unwrap();
    let output = copy(dir.path(), "oci:from:x", "oci:to:x");
    // The layout lists it, and what it refers to is only known by what is in it.
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let registry = Keeper::start(Quirk { pages: true, ..Quirk::default() });
    std::fs::remove_dir_all(dir.path().join("from")).unwrap();
    let referrers = signed(dir.path(), 2);
    done(&copy(dir.path(), "oci:from:x", &registry.at("r/x:1")));
    // Both have this configuration; the image has it, too.
    let one = answering("GET", "/manifests/sha256:", || status(404));
    drop(one);
    let lost = referrers[1].clone();
    let answers = {
        let lost = lost.clone();
        move |method: &str, path: &str| {
            (method == "GET" && path.ends_with(&format!("/manifests/{lost}"))).then(|| status(404))
        }
    };
    let half = Keeper::start(Quirk { pages: true, answers: Some(Arc::new(answers)), ..Quirk::default() });
    done(&copy(dir.path(), "oci:from:x", &half.at("r/x:1")));
    let output = copy(dir.path(), &half.at("r/x:1"), "oci:half:x");
    assert_eq!(output.status.code(), Some(3));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((left_out(&report), &report["referrers"]), (vec![lost.as_str()], &json!(1)));
}

#[test]
fn entries_that_nobody_asked_for_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    signed(dir.path(), 2);
    assert_eq!(done(&copy(dir.path(), "oci:from:x", "oci:first:x"))["not_asked"], Value::Null);
    // A layout of ours has its list, too.
    assert_eq!(done(&copy(dir.path(), "oci:first:x", "oci:second:x"))["not_asked"], Value::Null);
    let store = Layout::open(&dir.path().join("first")).unwrap();
    for (number, name) in [None, None, Some("another")].into_iter().enumerate() {
        let other = json!({ "schemaVersion": 2, "layers": [], "annotations": { "number": number.to_string() } });
        store.tag(&store.write_blob(MediaType::ImageManifest, &canonical(&other)).unwrap(), name).unwrap();
    }
    let output = haversack(dir.path(), &["copy", "oci:first:x", "oci:third:x"]);
    let text = String::from_utf8_lossy(&output.stdout);
    let line = "\n  2 entries of the source without names stay there: nothing says what they belong to\n";
    assert!(text.contains(line), "{text}");
    // What refers to another image is that one's.
    let other = done(&copy(dir.path(), "oci:first:another", "oci:fourth:x"));
    assert_eq!((&other["not_asked"], &other["referrers"]), (&json!(2), &json!(0)));
}

#[test]
fn a_directory_has_no_place_for_referrers_and_that_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let referrers = signed(dir.path(), 2);
    let output = copy(dir.path(), "oci:from:x", "dir:to");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let because = "`dir:` has no place for what refers to an image";
    let mut expected: Vec<Value> = referrers.iter().map(|it| json!({ "what": it, "because": because })).collect();
    expected.sort_by_key(ToString::to_string);
    let mut said = report["left_out"].as_array().unwrap().clone();
    said.sort_by_key(ToString::to_string);
    assert_eq!((output.status.code(), said, &report["referrers"]), (Some(3), expected, &json!(0)));
    assert!(dir.path().join("to/manifest.json").is_file());
    done(&haversack(dir.path(), &["copy", "oci:from:x", "dir:without", "--no-referrers", "--json"]));
}

#[test]
fn a_dry_run_says_what_would_come_along() {
    let dir = tempfile::tempdir().unwrap();
    signed(dir.path(), 2);
    for (options, expected) in [(&["--dry-run"][..], "would come along"), (&[], "came along")] {
        let output = haversack(dir.path(), &[&["copy", "oci:from:x", "oci:to:x"], options].concat());
        let line = format!("\n  2 signatures, SBOMs or attestations {expected}\n");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(&line), "{text}");
    }
}

#[test]
fn what_is_refused_as_head_is_asked_as_get() {
    let dir = tempfile::tempdir().unwrap();
    signed(dir.path(), 1);
    for refused in [405, 501] {
        let registry = answering("HEAD", "/", move || status(refused));
        let first = done(&copy(dir.path(), "oci:from:x", &registry.at("r/x:1")));
        assert_eq!((&first["sent_blobs"], &first["referrers"]), (&json!(1), &json!(1)));
        let again = done(&copy(dir.path(), "oci:from:x", &registry.at("r/x:1")));
        assert_eq!((&again["sent_blobs"], &again["documents"]), (&json!(0), &json!(0)), "{again}");
        assert_eq!(done(&copy(dir.path(), &registry.at("r/x:1"), &format!("oci:to{refused}:x")))["referrers"], 1);
    }
}

#[test]
fn a_document_is_what_it_says_it_is_or_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let store = Layout::create(&dir.path().join("from")).unwrap();
    let config = store.write_blob(MediaType::ImageConfig, br#"{"architecture":"amd64","os":"linux"}"#).unwrap();
    let manifest = canonical(&json!({ "schemaVersion": 2, "config": config, "layers": [] }));
    let manifest = store.write_blob(MediaType::ImageManifest, &manifest).unwrap();
    let list = canonical(&json!({ "schemaVersion": 2, "manifests": [manifest] }));
    let list = store.write_blob(MediaType::ImageIndex, &list).unwrap();
    let quoted: Written = |digest| format!("\"{digest}\"");
    let empty: Written = |_| String::new();
    for (number, (image, says)) in [
        (&manifest, (quoted, "text/plain")),
        (&list, (empty, "application/octet-stream")),
        (&list, (quoted, "application/json; charset=utf-8")),
    ]
    .into_iter()
    .enumerate()
    {
        store.tag(image, Some("x")).unwrap();
        let registry = Keeper::start(Quirk { says: Some(says), ..Quirk::default() });
        done(&copy(dir.path(), "oci:from:x", &registry.at("r/x:1")));
        let to = format!("to{number}");
        let report = done(&copy(dir.path(), &registry.at("r/x:1"), &format!("oci:{to}:x")));
        assert_eq!(report["digest"].as_str(), Some(image.digest().as_ref()));
        let found = Layout::open(&dir.path().join(&to)).unwrap().find(Some("x")).unwrap();
        assert_eq!((found.digest(), found.media_type()), (image.digest(), image.media_type()), "{says:?}");
    }
}

/// A layout `from` with a list `x` of three images, and of these the layers.
fn listed(dir: &Path) -> (Layout, Vec<Descriptor>, Vec<Descriptor>) {
    let store = Layout::create(&dir.join("from")).unwrap();
    let (mut images, mut layers) = (Vec::new(), Vec::new());
    for platform in ["amd64", "arm64", "s390x"] {
        let config = json!({ "architecture": platform, "os": "linux", "rootfs": { "type": "layers", "diff_ids": [Digest::sha256(platform)] } });
        let config = store.write_blob(MediaType::ImageConfig, &canonical(&config)).unwrap();
        let layer = store.write_blob(MediaType::ImageLayer, platform.as_bytes()).unwrap();
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": MediaType::ImageManifest, "config": config, "layers": [layer] });
        images.push(store.write_blob(MediaType::ImageManifest, &canonical(&manifest)).unwrap());
        layers.push(layer);
    }
    let list = json!({ "schemaVersion": 2, "mediaType": MediaType::ImageIndex, "manifests": images });
    let list = store.write_blob(MediaType::ImageIndex, &canonical(&list)).unwrap();
    store.tag(&list, Some("x")).unwrap();
    (store, images, layers)
}

fn remove(store: &Layout, blob: &Descriptor) {
    std::fs::remove_file(store.blob_path(&blob.digest().to_string().parse::<Digest>().unwrap())).unwrap();
}

#[test]
fn all_that_a_sparse_list_lacks_is_named_at_once_and_nothing_is_listed() {
    let dir = tempfile::tempdir().unwrap();
    let (store, images, layers) = listed(dir.path());
    done(&copy(dir.path(), "oci:from:x", "oci-archive:whole.tar:x"));
    let registry = Keeper::start(Quirk::default());
    done(&copy(dir.path(), "oci:from:x", &registry.at("r/x:1")));
    let missing = |what: &[&Descriptor], by: &str| {
        let digests = sorted(what.iter().map(|it| it.digest().to_string()).collect()).join(", ");
        format!("{by}: {} of the parts of the image are missing: {digests}", what.len())
    };
    // Layers, of which those that are there are brought.
    for layer in &layers[..2] {
        remove(&store, layer);
        registry.lose(layer.digest().as_ref());
    }
    for (from, to, by) in [("oci:from:x", "oci:to:x", "from"), (&registry.at("r/x:1"), "oci:there:x", "r/x")] {
        assert_eq!(error(&copy(dir.path(), from, to)).lines().next().unwrap(), missing(&[&layers[0], &layers[1]], by));
    }
    // Images of the list, with what else is seen to be missing.
    for image in &images[1..] {
        remove(&store, image);
        registry.lose(image.digest().as_ref());
    }
    let text = error(&copy(dir.path(), "oci:from:x", "oci:to:x"));
    let first = text.lines().next().unwrap();
    assert!(first.starts_with("from: 3 of the parts of the image are missing: "), "{text}");
    assert!([&images[1], &images[2], &layers[0]].iter().all(|it| first.contains(it.digest().as_ref())), "{text}");
    let text = error(&copy(dir.path(), &registry.at("r/x:1"), "oci:there:x"));
    assert!(text.starts_with("r/x: 2 of the parts of the image are missing: "), "{text}");
    for to in ["to", "there"] {
        assert_eq!(Layout::open(&dir.path().join(to)).unwrap().index().unwrap().manifests().len(), 0, "{to}");
    }
}

#[test]
fn a_layer_that_may_not_be_distributed_is_passed_over_where_it_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let store = Layout::create(&dir.path().join("from")).unwrap();
    let config = json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [Digest::sha256("t")] } });
    let config = store.write_blob(MediaType::ImageConfig, &canonical(&config)).unwrap();
    let foreign = MediaType::from("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
    let mut foreign = layout::descriptor(foreign, &Digest::sha256("elsewhere"), 9);
    foreign.set_urls(Some(vec!["https://elsewhere.example/layer".to_owned()]));
    let manifest =
        json!({ "schemaVersion": 2, "mediaType": MediaType::ImageManifest, "config": config, "layers": [foreign] });
    let manifest = store.write_blob(MediaType::ImageManifest, &canonical(&manifest)).unwrap();
    store.tag(&manifest, Some("x")).unwrap();
    let registry = Keeper::start(Quirk::default());
    for (from, to) in [("oci:from:x", registry.at("r/x:1")), (&registry.at("r/x:1"), "oci:to:x".to_owned())] {
        let report = done(&copy(dir.path(), from, &to));
        assert_eq!(
            (report["digest"].as_str(), &report["foreign"]),
            (Some(manifest.digest().as_ref()), &json!(1)),
            "{from}"
        );
    }
    for place in ["oci:to", &registry.at("r/x:1")] {
        let report = done(&haversack(dir.path(), &["verify", place, "--tls-verify=false", "--json"]));
        assert_eq!(report["findings"], json!([]), "{place}");
    }
}

#[test]
fn a_blob_that_a_registry_lost_is_called_missing() {
    let dir = tempfile::tempdir().unwrap();
    let (_, _, layers) = listed(dir.path());
    let registry = Keeper::start(Quirk::default());
    done(&copy(dir.path(), "oci:from:x", &registry.at("r/x:1")));
    registry.lose(layers[0].digest().as_ref());
    let output = haversack(dir.path(), &["verify", &registry.at("r/x:1"), "--tls-verify=false", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let of_layer =
        report["findings"].as_array().unwrap().iter().find(|it| it["subject"] == layers[0].digest().as_ref());
    let reason = of_layer.unwrap()["reason"].as_str().unwrap();
    assert!(reason.ends_with(": not found"), "{report}");
    // It comes again when that is asked for.
    assert_eq!(done(&copy(dir.path(), "oci:from:x", &registry.at("r/x:1")))["sent_blobs"], 0);
    let check = ["copy", "oci:from:x", &registry.at("r/x:1"), "--dest-tls-verify=false", "--check-blobs", "--json"];
    assert_eq!(done(&haversack(dir.path(), &check))["sent_blobs"], 1);
    assert!(registry.names().contains(&layers[0].digest().to_string()));
}

#[test]
fn an_image_goes_to_its_digest_and_to_no_other() {
    let dir = tempfile::tempdir().unwrap();
    signed(dir.path(), 0);
    let digest = Layout::open(&dir.path().join("from")).unwrap().find(Some("x")).unwrap().digest().to_string();
    let other = Digest::sha256("another");
    for to in [format!("r/x@{other}"), format!("r/x:1@{other}")] {
        let registry = Keeper::start(Quirk::default());
        let text = error(&copy(dir.path(), "oci:from:x", &registry.at(&to)));
        assert_eq!(
            text.lines().next().unwrap(),
            format!("from: the destination names {other}, and the image is {digest}")
        );
        assert_eq!(registry.names(), [""; 0]);
    }
    for (to, has_tag) in [(format!("r/x@{digest}"), false), (format!("r/x:1@{digest}"), true)] {
        let registry = Keeper::start(Quirk::default());
        let report = done(&copy(dir.path(), "oci:from:x", &registry.at(&to)));
        assert_eq!(
            (report["digest"].as_str(), report["destination"].as_str()),
            (Some(&*digest), Some(&*registry.at(&to)))
        );
        let names = registry.names();
        assert!(names.contains(&digest), "{names:?}");
        assert_eq!(names.contains(&"1".to_owned()), has_tag);
        // And from there: the digest says which.
        registry.keep("1", b"{}");
        assert_eq!(done(&copy(dir.path(), &registry.at(&format!("r/x:1@{digest}")), "oci:back:x"))["digest"], digest);
    }
}

#[test]
fn signatures_that_a_site_made_are_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    signed(dir.path(), 0);
    let store = Layout::open(&dir.path().join("from")).unwrap();
    let image = store.find(Some("x")).unwrap();
    let tag = format!("{}.sig", image.digest().to_string().replace(':', "-"));
    let signatures = |texts: &[&str]| {
        let config = store.write_blob(MediaType::ImageConfig, b"{}").unwrap();
        let layer = |text: &&str| {
            let media_type = MediaType::from("application/vnd.dev.cosign.simplesigning.v1+json");
            store.write_blob(media_type, text.as_bytes()).unwrap()
        };
        let layers: Vec<Descriptor> = texts.iter().map(layer).collect();
        canonical(
            &json!({ "schemaVersion": 2, "mediaType": MediaType::ImageManifest, "config": config, "layers": layers }),
        )
    };
    let ours = signatures(&["upstream", "more"]);
    store.tag(&store.write_blob(MediaType::ImageManifest, &ours).unwrap(), Some(&tag)).unwrap();
    for (theirs, is_kept) in
        [(&["upstream", "the site's"][..], true), (&["upstream"], false), (&["upstream", "more"], false)]
    {
        let registry = Keeper::start(Quirk::default());
        let theirs = signatures(theirs);
        registry.keep(&tag, &theirs);
        registry.keep(Digest::sha256(&theirs).as_str(), &theirs);
        let output = copy(dir.path(), "oci:from:x", &registry.at("r/x:1"));
        assert_eq!(
            output.status.code(),
            Some(if is_kept { 3 } else { 0 }),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(registry.kept(&tag), if is_kept { theirs } else { ours.clone() });
    }
}

#[test]
fn what_a_layout_loses_while_it_is_copied_to_comes_again() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _, layers) = listed(dir.path());
    let at = |name: &str| dir.path().join(name);
    done(&copy(dir.path(), "oci:from:x", "oci:to:x"));
    let to = Layout::open(&at("to")).unwrap();
    let path = |blob: &Descriptor| to.blob_path(&blob.digest().to_string().parse::<Digest>().unwrap());
    // All is there but the last layer; when it is asked for, the first goes.
    std::fs::remove_file(path(&layers[2])).unwrap();
    let (asked, gone) = (format!("/blobs/{}", layers[2].digest()), path(&layers[0]));
    let answers = move |method: &str, path: &str| {
        if method == "GET" && path.ends_with(&asked) {
            let _ = std::fs::remove_file(&gone);
        }
        None
    };
    let registry = Keeper::start(Quirk { answers: Some(Arc::new(answers)), ..Quirk::default() });
    done(&copy(dir.path(), "oci:from:x", &registry.at("r/x:1")));
    done(&copy(dir.path(), &registry.at("r/x:1"), "oci:to:x"));
    let verified = haversack(dir.path(), &["verify", "oci:to", "--json"]);
    let report: Value = serde_json::from_slice(&verified.stdout).unwrap();
    let missing = report["findings"].as_array().unwrap().iter().filter(|it| it["problem"] == "missing").count();
    assert_eq!(missing, 0, "{report}");
    drop(store);
}
