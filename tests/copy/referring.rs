//! What refers to an image, between registries that list it in their own ways, and writes that are redirected.

use std::path::Path;

use haversack::image::Layout;
use haversack::image::store::layout::canonical;
use oci_spec::image::MediaType;

use crate::keeper::{Keeper, Quirk, sorted};
use crate::{done, error, haversack};

#[test]
fn lists_of_referrers_are_read_to_their_last_page() {
    let dir = tempfile::tempdir().unwrap();
    let referrers = signed(dir.path(), 5);
    let registry = Keeper::start(Quirk { pages: true, ..Quirk::default() });
    done(&copy(dir.path(), "oci:from:x", &registry.at("r/x:1")));
    let report = done(&copy(dir.path(), &registry.at("r/x:1"), "oci:back:x"));
    assert_eq!(report["referrers"], 5);
    let back = Layout::open(&dir.path().join("back")).unwrap();
    let index = back.index().unwrap();
    let found = index.manifests().iter().map(|there| there.digest().to_string());
    assert_eq!(sorted(found.filter(|digest| referrers.contains(digest)).collect()), referrers);
}

#[test]
fn a_list_of_referrers_that_stands_in_is_written_once_and_gets_back_what_it_lost() {
    let dir = tempfile::tempdir().unwrap();
    let referrers = signed(dir.path(), 5);
    let registry = Keeper::start(Quirk::default());
    let to = registry.at("r/x:1");
    done(&copy(dir.path(), "oci:from:x", &to));
    assert_eq!((registry.listed(), registry.list_writes()), (referrers.clone(), 1));
    done(&copy(dir.path(), "oci:from:x", &to));
    assert_eq!(registry.list_writes(), 1);
    // Emptied by somebody, while all manifests are there.
    registry.empty_list();
    done(&copy(dir.path(), "oci:from:x", &to));
    assert_eq!((registry.listed(), registry.list_writes()), (referrers.clone(), 2));
    // And written by another client between our reading and its own writing.
    let (registry, times) = (Keeper::start(Quirk { undone: 2, ..Quirk::default() }), 3);
    done(&copy(dir.path(), "oci:from:x", &registry.at("r/x:1")));
    assert_eq!((registry.listed(), registry.list_writes()), (referrers, times));
    let registry = Keeper::start(Quirk { undone: usize::MAX, ..Quirk::default() });
    let text = error(&copy(dir.path(), "oci:from:x", &registry.at("r/x:1")));
    assert!(text.contains("written 8 times, and each time another client took out what was added"), "{text}");
}

#[test]
fn what_refers_to_a_referrer_is_brought_as_far_as_is_said() {
    let dir = tempfile::tempdir().unwrap();
    signed(dir.path(), 0);
    let layout = Layout::open(&dir.path().join("from")).unwrap();
    let config = layout.write_blob(MediaType::EmptyJSON, b"{}").unwrap();
    let mut subject = layout.find(Some("x")).unwrap();
    // Signatures of signatures: all are looked for to the fourth, and what refers to the fifth is not.
    for (referrers, status) in [(1, 0), (2, 0), (3, 0), (4, 0), (5, 3), (6, 3)] {
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": MediaType::ImageManifest, "artifactType": "application/x", "config": config,
            "layers": [config],
            "subject": { "mediaType": MediaType::ImageManifest, "digest": subject.digest(), "size": subject.size() },
        });
        subject = layout.write_blob(MediaType::ImageManifest, &canonical(&manifest)).unwrap();
        layout.tag(&subject, None).unwrap();
        let registry = Keeper::start(Quirk::default());
        for to in [registry.at("r/x:1"), format!("oci:to-{referrers}:x")] {
            let output = copy(dir.path(), "oci:from:x", &to);
            assert_eq!(output.status.code(), Some(status), "{referrers} to {to}: {output:?}");
            let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            let left_out = report["left_out"].as_array().map_or(0, Vec::len);
            assert_eq!((&report["referrers"], left_out), (&referrers.min(5).into(), (status / 3) as usize), "{report}");
        }
    }
}

#[test]
fn a_write_that_is_redirected_to_a_page_is_no_success() {
    let dir = tempfile::tempdir().unwrap();
    signed(dir.path(), 0);
    for method in ["POST", "PUT"] {
        for status in [301, 302, 303] {
            let registry = Keeper::start(Quirk { redirected: Some((method, status)), ..Quirk::default() });
            let text = error(&copy(dir.path(), "oci:from:x", &registry.at("r/x:1")));
            assert!(text.contains(&format!("not followed to http://{}/login", registry.address)), "{text}");
        }
    }
    // These repeat the method.
    let registry = Keeper::start(Quirk { redirected: Some(("POST", 307)), ..Quirk::default() });
    done(&copy(dir.path(), "oci:from:x", &registry.at("r/x:1")));
}

pub(crate) fn copy(dir: &Path, from: &str, to: &str) -> std::process::Output {
    let options = ["--src-tls-verify=false", "--dest-tls-verify=false", "--retries=0", "--json"];
    haversack(dir, &[&["copy", from, to][..], &options].concat())
}

/// A layout `from` with an image `x`, and so many artifacts that refer to it, whose digests are returned.
pub(crate) fn signed(dir: &Path, count: usize) -> Vec<String> {
    let layout = Layout::create(&dir.join("from")).unwrap();
    let config = layout.write_blob(MediaType::ImageConfig, br#"{"architecture":"amd64","os":"linux"}"#).unwrap();
    let manifest = |more: serde_json::Value| {
        let mut document = serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config, "layers": [],
        });
        document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        layout.write_blob(MediaType::ImageManifest, &canonical(&document)).unwrap()
    };
    let image = manifest(serde_json::json!({}));
    layout.tag(&image, Some("x")).unwrap();
    let digests = (0..count).map(|number| {
        let more = serde_json::json!({
            "artifactType": "text/spdx+json", "annotations": { "number": number.to_string() },
            "subject": { "mediaType": image.media_type(), "digest": image.digest(), "size": image.size() },
        });
        let referrer = manifest(more);
        layout.tag(&referrer, None).unwrap();
        referrer.digest().to_string()
    });
    sorted(digests.collect())
}
