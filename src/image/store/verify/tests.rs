//! What is found in stores that are damaged.

use super::*;
use crate::fs;
use crate::image::{Layout, fixture};

fn run(layout: &Layout) -> Vec<Finding> {
    let store = Store::Layout(layout.clone());
    verify(&store, None, &VerifyOptions::default(), &Progress::off()).unwrap().findings
}

/// A layout with one named image, and the digests of its manifest, configuration and layer.
fn good() -> (tempfile::TempDir, Layout, [Descriptor; 3]) {
    let dir = tempfile::tempdir().unwrap();
    let (layout, image) = fixture::image(dir.path());
    layout.tag(&image, Some("x:1")).unwrap();
    let children = manifest::children(&image, &layout.read_document(&image).unwrap()).unwrap();
    let [config, layer] = <[Descriptor; 2]>::try_from(children).unwrap();
    (dir, layout, [image, config, layer])
}

fn path(layout: &Layout, described: &Descriptor) -> PathBuf {
    layout.blob_path(&layout::digest_of(described).unwrap())
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    let (_dir, layout, _) = good();
    let store = Store::Layout(layout);
    let report = verify(&store, None, &VerifyOptions::default(), &Progress::off()).unwrap();
    assert_eq!((report.images, report.blobs, report.findings), (1, 3, Vec::new()));
}

#[test]
fn one_changed_byte_anywhere_is_found_and_repair_takes_the_blob_away() {
    for which in 0..3 {
        let (_dir, layout, parts) = good();
        let path = path(&layout, &parts[which]);
        let mut bytes = fs::read(&path, 1 << 20).unwrap();
        bytes[5] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let findings = run(&layout);
        let broken = Finding {
            subject: parts[which].digest().to_string(),
            problem: Problem::Digest { found: Digest::sha256(&bytes) },
        };
        assert!(findings.contains(&broken), "{findings:?}");
        let report = VerifyReport { findings, ..VerifyReport::default() };
        assert_eq!(repair(&Store::Layout(layout.clone()), &report).unwrap(), [path]);
        let missing = run(&layout);
        let gone = |finding: &Finding| matches!(finding.problem, Problem::Missing { .. });
        assert!(missing.iter().any(|finding| gone(finding) && finding.subject == broken.subject), "{missing:?}");
    }
}

#[test]
fn everything_that_is_wrong_is_found_at_once() {
    let (dir, layout, [image, config, layer]) = good();
    let root = dir.path();
    fs::remove_file(&path(&layout, &config)).unwrap();
    let file = path(&layout, &layer);
    fs::write(&file, &[fs::read(&file, 1 << 20).unwrap(), vec![0]].concat()).unwrap();
    let unneeded = layout.write_blob(MediaType::ImageLayer, b"nobody's").unwrap();
    fs::write(&root.join("notes.txt"), b"x").unwrap();
    fs::write(&root.join("blobs/sha256/short"), b"x").unwrap();
    fs::write(&root.join(".blob.killed.partial"), b"x").unwrap();
    let found = Digest::sha256(fs::read(&file, 1 << 20).unwrap());
    let finding = |subject: &dyn ToString, problem| Finding { subject: subject.to_string(), problem };
    let mut expected = vec![
        finding(&config.digest(), Problem::Missing { referred_by: image.digest().to_string() }),
        finding(&layer.digest(), Problem::Size { expected: layer.size(), found: layer.size() + 1 }),
        finding(&layer.digest(), Problem::Digest { found }),
        finding(&"notes.txt", Problem::Stray),
        finding(&"blobs/sha256/short", Problem::Stray),
        finding(&".blob.killed.partial", Problem::Leftover),
    ];
    expected.sort();
    let report = verify(&Store::Layout(layout), None, &VerifyOptions::default(), &Progress::off()).unwrap();
    assert_eq!(report.findings, expected);
    // It does no harm.
    assert_eq!(report.unneeded, [Unneeded { digest: layout::digest_of(&unneeded).unwrap(), size: 8 }]);
}

/// An image whose manifest is what `change` makes of the good one.
fn with_manifest(change: impl Fn(&mut serde_json::Value)) -> Vec<String> {
    let (_dir, layout, [image, ..]) = good();
    let mut document: serde_json::Value = serde_json::from_slice(&layout.read_document(&image).unwrap()).unwrap();
    change(&mut document);
    let other = layout.write_blob(MediaType::ImageManifest, &layout::canonical(&document)).unwrap();
    layout.tag(&other, Some("x:1")).unwrap();
    run(&layout)
        .into_iter()
        .map(|finding| serde_json::to_value(finding.problem).unwrap()["problem"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn documents_that_lie_are_found() {
    let upper = format!("sha256:{}", "AB".repeat(32));
    let gzip = MediaType::ImageLayerGzip;
    type Change<'a> = Box<dyn Fn(&mut serde_json::Value) + 'a>;
    let unknown = format!("sha384:{}", "ab".repeat(48));
    let cases: [(&[&str], Change); 7] = [
        (&[], Box::new(|_| {})),
        (&["media-type"], Box::new(|m| m["mediaType"] = MediaType::ImageIndex.to_string().into())),
        (&["media-type"], Box::new(move |m| m["layers"][0]["mediaType"] = gzip.to_string().into())),
        (&["unreadable"], Box::new(|m| m["layers"] = "x".into())),
        (&["layer-count"], Box::new(|m| m["layers"] = serde_json::json!([]))),
        (&["unreadable"], Box::new(|m| m["layers"][0]["digest"] = upper.clone().into())),
        (&["bad-digest"], Box::new(|m| m["layers"][0]["digest"] = unknown.clone().into())),
    ];
    for (number, (expected, change)) in cases.iter().enumerate() {
        assert_eq!(with_manifest(change), *expected, "case {number}");
    }
}

/// Each layer stands in an image whose configuration has one diff id for it, which is not that of these bytes.
#[test]
fn layers_that_are_no_file_systems_are_right_when_digest_and_size_are() {
    for media_type in [
        "application/vnd.in-toto+json",
        "application/vnd.dev.cosign.simplesigning.v1+json",
        "application/vnd.wasm.content.layer.v1+wasm",
        "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
        "application/octet-stream",
    ] {
        let found = |size: u64| {
            let (_dir, layout, [_, config, _]) = good();
            let layer = layout.write_blob(MediaType::from(media_type), b"no tar").unwrap();
            let layer = layout::descriptor(MediaType::from(media_type), &layout::digest_of(&layer).unwrap(), size);
            let manifest = serde_json::json!({
                "schemaVersion": 2, "mediaType": MediaType::ImageManifest, "config": config, "layers": [layer],
            });
            let manifest = layout.write_blob(MediaType::ImageManifest, &layout::canonical(&manifest)).unwrap();
            layout.tag(&manifest, Some("x:1")).unwrap();
            (run(&layout), layer.digest().to_string())
        };
        assert_eq!(found(6).0, [], "{media_type}");
        let (findings, subject) = found(7);
        assert_eq!(findings, [Finding { subject, problem: Problem::Size { expected: 7, found: 6 } }], "{media_type}");
    }
}

#[test]
fn a_bomb_is_given_up_at_the_limit() {
    let (_dir, layout, [_, config, layer]) = good();
    let mut document: serde_json::Value = serde_json::from_slice(&layout.read_document(&config).unwrap()).unwrap();
    let zeros = vec![0; 10 << 20];
    document["rootfs"]["diff_ids"] = serde_json::json!([Digest::sha256(&zeros)]);
    let compressed = |compression| {
        let mut encoder = compression::Encoder::new(Vec::new(), compression, Some(9)).unwrap();
        io::Write::write_all(&mut encoder, &zeros).unwrap();
        encoder.finish().unwrap()
    };
    for (media_type, compression) in
        [(MediaType::ImageLayerZstd, Compression::Zstd), (MediaType::ImageLayerGzip, Compression::Gzip)]
    {
        let bomb = layout.write_blob(media_type, &compressed(compression)).unwrap();
        let config = layout.write_blob(MediaType::ImageConfig, &layout::canonical(&document)).unwrap();
        let manifest = serde_json::json!({ "schemaVersion": 2, "config": config, "layers": [bomb] });
        let image = layout.write_blob(MediaType::ImageManifest, &layout::canonical(&manifest)).unwrap();
        assert_ne!(layer.digest(), bomb.digest());
        let store = Store::Layout(layout.clone());
        let with = |layer_limit| {
            verify(&store, Some(std::slice::from_ref(&image)), &VerifyOptions { layer_limit }, &Progress::off())
                .unwrap()
                .findings
        };
        assert_eq!(with(10 << 20), []);
        let reason = "decompresses to more than the limit of 10485759 bytes".to_owned();
        let subject = bomb.digest().to_string();
        assert_eq!(with((10 << 20) - 1), [Finding { subject, problem: Problem::Unreadable { reason } }]);
    }
}
