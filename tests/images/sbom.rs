//! The SBOM of an image: what is in it, where it goes, and whether others take it for one.

use std::path::Path;
use std::process::Command;

use haversack::image::Layout;
use haversack::image::store::layout::canonical;
use oci_spec::image::MediaType;

use crate::docker_registry::DockerRegistry;
use crate::{DEFINITION, built, definition, done, haversack};

/// The document that refers to an image of a layout, by way of its manifest.
fn document(layout: &Path, sbom: &serde_json::Value) -> serde_json::Value {
    let read = |digest: &serde_json::Value| -> serde_json::Value {
        let path = layout.join("blobs").join(digest.as_str().unwrap().replace(':', "/"));
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    };
    let manifest = read(sbom);
    assert_eq!(manifest["artifactType"], "application/spdx+json");
    read(&manifest["layers"][0]["digest"])
}

#[test]
fn the_sbom_names_image_base_layers_program_and_crates_and_is_the_same_each_time() {
    let dir = definition(DEFINITION);
    built(dir.path(), &["def", "--output", "oci:def/base"]);
    std::fs::create_dir(dir.path().join("over")).unwrap();
    let over = "name = 'a/over'\nbase = 'oci:../def/base:tools:1.2'\n[[layers]]\nname = 'again'\nbinary = '/again'\n";
    std::fs::write(dir.path().join("over/image.toml"), over).unwrap();
    let reports = ["one", "two"].map(|to| built(dir.path(), &["over", "--output", &format!("oci:{to}")]));
    assert_eq!(reports[0]["sbom"], reports[1]["sbom"]);
    let document = document(&dir.path().join("one"), &reports[0]["sbom"]);
    let packages = document["packages"].as_array().unwrap();
    let named = |name: &str| packages.iter().find(|package| package["name"] == name).unwrap();
    let hex = |digest: &serde_json::Value| digest.as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned();
    let sum = |package: &serde_json::Value| package["checksums"][0]["checksumValue"].as_str().unwrap().to_owned();
    assert_eq!(sum(named("a/over")), hex(&reports[0]["digest"]));
    assert_eq!(sum(named("layer again")), hex(&reports[0]["images"][0]["layers"][0]["digest"]));
    assert_eq!(named("haversack")["versionInfo"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        named("oci-spec")["externalRefs"][0]["referenceLocator"].as_str().unwrap().split('@').next(),
        Some("pkg:cargo/oci-spec")
    );
    let related = |kind: &str| {
        let all = document["relationships"].as_array().unwrap().iter();
        all.filter(|relation| relation["relationshipType"] == kind).count()
    };
    let crates = packages.len() - 4;
    assert!(crates > 100, "{crates}");
    assert_eq!(["DESCRIBES", "DESCENDANT_OF", "CONTAINS", "STATIC_LINK"].map(related), [1, 1, 2, crates]);
    assert_eq!(document["creationInfo"]["created"], "2023-11-14T22:13:20Z");

    let without = built(dir.path(), &["over", "--no-sbom", "--output", "oci:three"]);
    assert_eq!((&without["digest"], &without["sbom"]), (&reports[0]["digest"], &serde_json::Value::Null));
    assert_eq!(
        haversack::image::Layout::open(&dir.path().join("three")).unwrap().index().unwrap().manifests().len(),
        1
    );
}

#[test]
fn a_directory_has_no_place_for_an_sbom_and_that_is_said_and_counted() {
    let dir = definition(DEFINITION);
    let run =
        |more: &[&str]| haversack(dir.path(), &[&["build", "def", "--progress", "none", "--output"], more].concat());
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let output = run(&["dir:x"]);
    let left_out = "left out: SBOM: `dir:` has no place for what refers to an image\n";
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(3), format!("warning: tools: {left_out}")));
    let shown = text(&output.stdout);
    assert!(shown.ends_with(&format!("  {left_out}")) && !shown.contains("  sbom "), "{shown}");
    let report: serde_json::Value = serde_json::from_slice(&run(&["dir:x", "--json"]).stdout).unwrap();
    let because = "`dir:` has no place for what refers to an image";
    assert_eq!(report[0]["left_out"], serde_json::json!([{ "what": "SBOM", "because": because }]));
    assert_eq!(report[0]["sbom"], serde_json::Value::Null);
    // Where none is wanted, nothing is left out.
    let output = run(&["dir:x", "--no-sbom"]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
}

#[test]
fn what_refers_to_an_image_is_checked_with_it_and_counted() {
    let dir = definition(DEFINITION);
    let report = built(dir.path(), &["def", "--output", "oci:store"]);
    let verify = |place: &str| {
        let output = haversack(dir.path(), &["verify", place]);
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (status, said) = verify("oci:store:tools:1.2");
    assert!(status == Some(0) && said.starts_with("oci:store:tools:1.2: 1 image and 1 referrer, 7 blobs, "), "{said}");
    let sbom = report["sbom"].as_str().unwrap();
    let manifest = dir.path().join("store/blobs/sha256").join(sbom.strip_prefix("sha256:").unwrap());
    let mut bytes = std::fs::read(&manifest).unwrap();
    *bytes.last_mut().unwrap() = b' ';
    std::fs::write(&manifest, bytes).unwrap();
    let (status, said) = verify("oci:store:tools:1.2");
    assert!(status == Some(1) && said.contains(sbom) && said.contains("1 finding"), "{said}");
}

#[test]
fn what_refers_to_what_refers_to_it_is_checked_as_far_as_is_said() {
    let dir = definition(DEFINITION);
    built(dir.path(), &["def", "--no-sbom", "--output", "oci:store"]);
    let layout = Layout::open(&dir.path().join("store")).unwrap();
    let config = layout.write_blob(MediaType::EmptyJSON, b"{}").unwrap();
    let mut subject = layout.find(Some("tools:1.2")).unwrap();
    let verify = || {
        let output = haversack(dir.path(), &["verify", "oci:store:tools:1.2"]);
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    // Signatures of signatures: all are looked for to the fourth, and what refers to the fifth is not.
    for (referrers, expected) in [(1, Some(0)), (2, Some(0)), (3, Some(0)), (4, Some(0)), (5, Some(1))] {
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": MediaType::ImageManifest, "artifactType": "application/x", "config": config,
            "layers": [config],
            "subject": { "mediaType": MediaType::ImageManifest, "digest": subject.digest(), "size": subject.size() },
        });
        subject = layout.write_blob(MediaType::ImageManifest, &canonical(&manifest)).unwrap();
        layout.tag(&subject, None).unwrap();
        let (status, said) = verify();
        assert_eq!(status, expected, "{referrers}: {said}");
        let is_said = said.contains(&format!("what refers to {}", subject.digest()));
        assert_eq!(is_said, referrers == 5, "{said}");
    }
}

#[test]
#[ignore = "needs docker-registry; scripts/test.sh runs it where it is"]
fn the_sbom_is_found_in_every_place_that_can_have_one_and_travels_on() {
    let registry = DockerRegistry::start();
    let dir = definition(DEFINITION);
    // Debian's registry has no list of referrers: it is found under the tag that stands in for it.
    let pushed = registry.at("tools:1");
    let insecure = ["--src-tls-verify=false", "--dest-tls-verify=false"];
    let shown = |reference: &str| {
        let text = done(&haversack(dir.path(), &["inspect", "--json", "--tls-verify=false", reference]));
        let shown: serde_json::Value = serde_json::from_str(&text).unwrap();
        let referrers = shown["referrers"].as_array().unwrap().iter();
        referrers.map(|it| (it["digest"].clone(), it["artifact_type"].clone())).collect::<Vec<_>>()
    };
    for place in ["oci:store:x:1", "oci-archive:x.tar:x:1", "docker-archive:x.docker:x:1", &pushed] {
        let report = built(dir.path(), &[&["def", "--output", place][..], &insecure].concat());
        let expected = vec![(report["sbom"].clone(), serde_json::json!("application/spdx+json"))];
        assert_eq!(shown(place), expected, "{place}");
        let on = format!("oci:on:{}", place.split(':').next().unwrap());
        done(&haversack(dir.path(), &[&["copy", place, &on][..], &insecure].concat()));
        assert_eq!(shown(&on), expected, "{place}");
        done(&haversack(dir.path(), &["verify", "--tls-verify=false", place]));
    }
    done(&haversack(dir.path(), &["verify", "oci:on"]));
}

#[test]
#[ignore = "needs pyspdxtools; scripts/test.sh installs it and runs this"]
fn the_reference_implementation_of_spdx_finds_nothing_wrong_in_it() {
    let dir = definition(DEFINITION);
    let report = built(dir.path(), &["def", "--output", "oci:store"]);
    let document = document(&dir.path().join("store"), &report["sbom"]);
    std::fs::write(dir.path().join("x.spdx.json"), document.to_string()).unwrap();
    let output = Command::new("pyspdxtools")
        .args(["--version", "SPDX-2.3", "--infile", "x.spdx.json"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    // It says nothing and ends with 0 when all is right.
    assert_eq!((done(&output), String::from_utf8_lossy(&output.stderr).as_ref()), (String::new(), ""));
}
