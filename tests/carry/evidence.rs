//! `verify --report`: what was checked and found, for whoever has to answer for it. The judges are sha256sum's sums and a
//! browser's (in `docs`).

use std::fs;
use std::path::Path;
use std::process::Command;

use assert_cmd::cargo::cargo_bin;
use haversack::digest::Digest;
use haversack::image::Layout;
use serde_json::{Value, json};

use crate::images::{GZIP, gzip, image, tar, varied};
use crate::signed::pair;
use crate::{done, json};

fn report(dir: &Path, name: &str) -> (Value, String) {
    let json = fs::read(dir.join(name).join("report.json")).unwrap();
    (serde_json::from_slice(&json).unwrap(), fs::read_to_string(dir.join(name).join("report.html")).unwrap())
}

/// An image with a signature, an SBOM and something in its name that a page must not take for markup.
fn signed_image(dir: &Path) -> (Layout, String) {
    let layout = Layout::create(&dir.join("from")).unwrap();
    let subject = image(&layout, Some("example.org/app:1"), &[(GZIP, &gzip(&tar(&[("a", b"a")]), "-6"))]);
    let config = layout.write_blob("application/vnd.oci.empty.v1+json".into(), b"{}").unwrap();
    for kind in ["application/spdx+json", "<script>alert(1)</script>"] {
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "artifactType": kind,
            "config": config, "layers": [], "subject": subject,
        });
        let bytes = manifest.to_string();
        let referrer =
            layout.write_blob("application/vnd.oci.image.manifest.v1+json".into(), bytes.as_bytes()).unwrap();
        layout.tag(&referrer, None).unwrap();
    }
    let tag = format!("{}.sig", subject.digest().to_string().replace(':', "-"));
    image(&layout, Some(&tag), &[(GZIP, &gzip(b"signature", "-6"))]);
    (layout, subject.digest().to_string())
}

#[test]
fn a_carry_that_is_right_has_a_report_of_what_was_compared() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (_, digest) = signed_image(dir);
    pair(dir, "ours");
    let packed =
        done(dir, &["pack", "oci:from", "--out", "carry", "--site", "plant", "--sign", "ours.key", "--no-program"]);
    let verified = done(dir, &["verify", "carry", "--key", "ours.pub", "--report", "evidence"]);
    assert_eq!(verified["written"], json!(["evidence/report.json", "evidence/report.html"]));
    let (report, page) = report(dir, "evidence");
    let volume = fs::read(dir.join("carry/volume-001.zst")).unwrap();
    let document = fs::read(dir.join("carry/carry.json")).unwrap();
    let carry = &report["carry"];
    assert_eq!(
        json!([
            report["format"],
            report["version"],
            report["checked"],
            report["place"],
            report["good"],
            report["findings"]
        ]),
        json!(["haversack.evidence", 1, "2023-11-14T22:13:20Z", "carry", true, []])
    );
    assert_eq!(
        json!([carry["id"], carry["site"], carry["needs"], carry["document"], carry["volumes"]]),
        json!([
            packed["id"], "plant", 0, Digest::sha256(&document),
            [{ "file": "volume-001.zst", "size": volume.len(), "digest": Digest::sha256(&volume), "state": "good" }]
        ])
    );
    // The very key, as DER: base64 in PEM.
    let pem = fs::read_to_string(dir.join("ours.pub")).unwrap();
    let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, base64).unwrap();
    assert_eq!(carry["signedBy"], json!(Digest::sha256(&der)));

    let images = report["images"].as_array().unwrap();
    assert_eq!(images.len(), 1, "{report}");
    assert_eq!(
        json!([images[0]["name"], images[0]["digest"], images[0]["platforms"], images[0]["blobs"]]),
        json!(["example.org/app:1", digest, ["linux/amd64"], 3])
    );
    let mut kinds: Vec<&str> =
        images[0]["referrers"].as_array().unwrap().iter().map(|it| it["kind"].as_str().unwrap()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["<script>alert(1)</script>", "SBOM", "signature"]);
    for part in ["<h1>Nothing is wrong</h1>", &digest, "volume-001.zst", "is as it was packed", "example.org/app:1"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.contains("<script") && !page.contains("http"), "nothing runs, nothing is fetched: {page}");

    // Without a key it says so.
    done(dir, &["verify", "carry", "--report", "plain"]);
    let (unsigned, page) = self::report(dir, "plain");
    assert_eq!(unsigned["carry"]["signedBy"], Value::Null);
    assert!(page.contains("<dd>not asked for</dd>"), "{page}");
}

#[test]
fn what_is_damaged_or_away_is_in_the_report_and_the_images_are_listed_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    signed_image(dir);
    done(dir, &["pack", "oci:from", "--out", "carry", "--no-program"]);
    let volume = dir.join("carry/volume-001.zst");
    let whole = fs::read(&volume).unwrap();
    let mut bytes = whole;
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    for (case, bytes, words) in
        [("damaged", Some(bytes), "volume-001.zst is damaged"), ("away", None, "volume-001.zst is not here")]
    {
        match bytes {
            Some(bytes) => fs::write(&volume, bytes).unwrap(),
            None => fs::remove_file(&volume).unwrap(),
        }
        let (status, _) = json(dir, &["verify", "carry", "--report", case]);
        assert_eq!(status, Some(1), "{case}");
        let (report, page) = report(dir, case);
        // What has no name and cannot be read is listed by its digest.
        let mut names = report["images"].as_array().unwrap().iter().map(|image| &image["name"]);
        assert!(report["good"] == json!(false) && names.any(|name| name == "example.org/app:1"), "{report}");
        assert!(report["findings"][0].as_str().unwrap().starts_with(words), "{report}");
        assert!(page.contains("<h1>1 finding</h1>") && page.contains(words), "{page}");
    }
}

#[test]
fn a_layout_has_a_report_of_every_digest() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let layout = varied(&dir.join("from"));
    let verified = done(dir, &["verify", "oci:from", "--report", "evidence"]);
    let (good, page) = report(dir, "evidence");
    assert_eq!((&good["good"], &good["read"], &good["bytes"]), (&json!(true), &verified["blobs"], &verified["bytes"]));
    let images = good["images"].as_array().unwrap();
    let listed: usize = images.iter().map(|image| 1 + image["referrers"].as_array().unwrap().len()).sum();
    assert_eq!(
        listed as u64,
        verified["images"].as_u64().unwrap() + verified["referrers"].as_u64().unwrap(),
        "each entry of index.json, as image or as referrer"
    );
    assert!(page.contains("every layer decompressed and compared"), "{page}");
    // One image alone.
    done(dir, &["verify", "oci:from:example.org/kernels:1", "--report", "one"]);
    let (one, _) = report(dir, "one");
    assert_eq!(one["images"].as_array().unwrap().len(), 1);

    let digest: Digest = one["images"][0]["digest"].as_str().unwrap().parse().unwrap();
    fs::write(layout.blob_path(&digest), "{}").unwrap();
    let (status, _) = json(dir, &["verify", "oci:from", "--report", "bad"]);
    assert_eq!(status, Some(1));
    let (bad, _) = report(dir, "bad");
    assert_eq!(bad["good"], json!(false));
    assert!(bad["findings"].to_string().contains(&digest.to_string()), "{bad}");
    assert!(error_of(dir).contains("--report is for what lies on a disk"));
}

fn error_of(dir: &Path) -> String {
    let output = crate::haversack(dir, &["verify", "docker://registry.example/app:1", "--report", "x"]);
    assert_eq!(output.status.code(), Some(2));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn what_only_reports_and_registries_need_is_not_asked_for_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    varied(&dir.join("from"));
    done(dir, &["pack", "oci:from", "--out", "carry", "--no-program"]);
    let verify = |place: &str, more: &[&str]| {
        let mut command = Command::new(cargo_bin!("haversack"));
        command.args(["verify", place]).args(more).current_dir(dir).env("HOME", dir);
        let output = command.env("SOURCE_DATE_EPOCH", "yesterday").env("HAVERSACK_AUTHFILE", "none").output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for place in ["oci:from", "carry"] {
        assert_eq!(verify(place, &[]), (Some(0), String::new()), "{place}");
        let (status, stderr) = verify(place, &["--report", "evidence"]);
        assert!(status == Some(1) && stderr.contains("SOURCE_DATE_EPOCH"), "{place}: {stderr}");
    }
    let (status, stderr) = verify("docker://registry.example/app:1", &[]);
    assert!(status == Some(1) && stderr.contains("none"), "{stderr}");
}
