//! Files and directories in a carry: `pack file:PATH`, `unpack --files`. The judges are the files themselves, tar and oras.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use haversack::image::Layout;
use serde_json::json;

use crate::images::{TAR, image, noise, tar};
use crate::{done, error, json};

/// A file and a directory with what directories have.
fn make(dir: &Path) {
    fs::write(dir.join("Site Notes.txt"), "unpack first\n").unwrap();
    fs::create_dir_all(dir.join("rpms/deep/empty")).unwrap();
    fs::write(dir.join("rpms/big.rpm"), noise(9, 9 << 20)).unwrap();
    fs::write(dir.join("rpms/deep/run.sh"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(dir.join("rpms/deep/run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("deep/run.sh", dir.join("rpms/link")).unwrap();
    fs::hard_link(dir.join("rpms/big.rpm"), dir.join("rpms/deep/same.rpm")).unwrap();
}

/// Everything below a directory: name, kind and permissions, bytes or where a link leads.
fn tree(dir: &Path) -> Vec<(String, String, Vec<u8>)> {
    let walk = walkdir::WalkDir::new(dir).min_depth(1).sort_by_file_name().into_iter().map(Result::unwrap);
    walk.map(|entry| {
        let name = entry.path().strip_prefix(dir).unwrap().display().to_string();
        let metadata = entry.path().symlink_metadata().unwrap();
        let kind = entry.file_type();
        let bytes = match (kind.is_file(), kind.is_symlink()) {
            (true, _) => fs::read(entry.path()).unwrap(),
            (_, true) => fs::read_link(entry.path()).unwrap().display().to_string().into_bytes(),
            _ => Vec::new(),
        };
        (name, format!("{kind:?} {:o}", metadata.permissions().mode()), bytes)
    })
    .collect()
}

#[test]
fn files_and_directories_arrive_as_they_were_beside_images() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    make(dir);
    let layout = Layout::create(&dir.join("from")).unwrap();
    image(&layout, Some("example.org/app:1"), &[(TAR, &tar(&[("a", b"a")]))]);
    let packed =
        done(dir, &["pack", "oci:from", "file:Site Notes.txt", "file:rpms/.", "--out", "carry", "--no-program"]);
    let name = |image: &serde_json::Value| image["annotations"]["org.opencontainers.image.ref.name"].clone();
    let names: Vec<_> = packed["images"].as_array().unwrap().iter().map(name).collect();
    assert_eq!(names, ["example.org/app:1", "files/rpms:latest", "files/site-notes.txt:latest"]);
    // The directory's archive is taken apart, like a layer of ours.
    assert_eq!(packed["whole"], json!([]), "{packed}");
    // Both names of a hard link are one content.
    assert!(packed["totals"]["carriedBytes"].as_u64().unwrap() < 9_700_000, "{packed}");

    let unpacked = done(dir, &["unpack", "carry", "--to", "oci:to", "--files", "out"]);
    assert_eq!(unpacked["files"], json!(["out/rpms", "out/Site Notes.txt"]));
    assert_eq!(fs::read_to_string(dir.join("out/Site Notes.txt")).unwrap(), "unpack first\n");
    assert_eq!(tree(&dir.join("out/rpms")), tree(&dir.join("rpms")));
    done(dir, &["verify", "oci:to"]);
    // Without the option they are artifacts and nothing else.
    assert_eq!(done(dir, &["unpack", "carry", "--to", "oci:quiet"])["files"], json!(null));

    // Nothing that is there is replaced: what is the same is passed over, anything else is somebody's.
    let again = ["unpack", "carry", "--to", "oci:to", "--files", "out"];
    assert_eq!(done(dir, &again)["files"], json!(null));
    assert_eq!(tree(&dir.join("out/rpms")), tree(&dir.join("rpms")));
    let rpms = dir.join("out/rpms");
    let changes: [(&str, &dyn Fn()); 5] = [
        ("another byte", &|| fs::write(rpms.join("deep/run.sh"), "#!/bin/ss\n").unwrap()),
        ("one more", &|| fs::write(rpms.join("mine"), "").unwrap()),
        ("one less", &|| fs::remove_dir(rpms.join("deep/empty")).unwrap()),
        ("another link", &|| {
            fs::remove_file(rpms.join("link")).unwrap();
            symlink("deep/same.rpm", rpms.join("link")).unwrap();
        }),
        ("a file", &|| {
            fs::remove_dir_all(&rpms).unwrap();
            fs::write(&rpms, "").unwrap();
        }),
    ];
    for (case, change) in changes {
        change();
        let changed = tree(&dir.join("out"));
        let told = error(dir, &again);
        assert_eq!(
            told,
            "out/rpms: is there already, and is not what the carry has\nhint: move it away, or give --files another directory",
            "{case}"
        );
        assert_eq!(tree(&dir.join("out")), changed, "{case}");
        fs::remove_dir_all(&rpms).or_else(|_| fs::remove_file(&rpms)).unwrap();
        assert_eq!(done(dir, &again)["files"], json!(["out/rpms"]), "{case}");
    }
    fs::remove_dir_all(dir.join("out/rpms")).unwrap();
    fs::write(dir.join("out/Site Notes.txt"), "mine").unwrap();
    let told = error(dir, &["unpack", "carry", "--to", "oci:to", "--files", "out"]);
    assert!(told.starts_with("out/Site Notes.txt: is there already"), "{told}");
    assert_eq!(fs::read_to_string(dir.join("out/Site Notes.txt")).unwrap(), "mine");
}

/// A tar of files with names that no library writes.
fn archive(names: &[&str]) -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    for name in names {
        let mut header = ::tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(5);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, &b"other"[..]).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn names_in_an_artifact_lead_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let layout = Layout::create(&dir.join("from")).unwrap();
    let victim = dir.join("victim");
    fs::write(&victim, "as it was").unwrap();
    fs::create_dir(dir.join("out")).unwrap();
    let outside = archive(&["../victim", "/victim", "name/../../victim", "name/x"]);
    for (case, title, unpack, bytes, expected) in [
        ("up", "../victim", false, &b"other"[..], "`../victim` is no name of a file of its own"),
        ("root", "/etc/x", false, b"other", "is no name of a file of its own"),
        ("dots", "..", true, &outside, "is no name of a file of its own"),
        ("other", "another", true, &outside, "is no name of a file of its own"),
        ("none", "", false, b"other", "is no name of a file of its own"),
    ] {
        let mut layer = layout.write_blob("application/octet-stream".into(), bytes).unwrap();
        let unpack = if unpack { "true" } else { "false" };
        let annotations = [("org.opencontainers.image.title", title), ("io.deis.oras.content.unpack", unpack)];
        layer.set_annotations(Some(annotations.map(|(key, value)| (key.to_owned(), value.to_owned())).into()));
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": "application/vnd.haversack.files.v1",
            "config": layout.write_blob("application/vnd.oci.empty.v1+json".into(), b"{}").unwrap(), "layers": [layer],
        });
        let manifest = layout
            .write_blob("application/vnd.oci.image.manifest.v1+json".into(), manifest.to_string().as_bytes())
            .unwrap();
        let name = format!("files/{case}:latest");
        layout.tag(&manifest, Some(&name)).unwrap();
        done(dir, &["pack", &format!("oci:from:{name}"), "--out", case, "--no-program"]);
        let told = error(dir, &["unpack", case, "--to", "oci:to", "--files", "out"]);
        assert!(told.contains(expected), "{case}: {told}");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "as it was", "{case}");
        assert_eq!(tree(&dir.join("out")), [], "{case}");
    }
}

#[test]
fn what_cannot_be_packed_is_said_before_a_carry_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::create_dir(dir.join("one")).unwrap();
    fs::write(dir.join("one/a.txt"), "1").unwrap();
    fs::write(dir.join("a.txt"), "2").unwrap();
    for (sources, expected) in [
        (&["file:missing"][..], "cannot read missing"),
        (&["file:a.txt", "file:one/a.txt"], "`files/a.txt:latest` would be two images"),
    ] {
        let told = error(dir, &[&["pack", "--out", "carry", "--no-program"], sources].concat());
        assert!(told.starts_with(expected), "{told}");
        assert!(!dir.join("carry").exists());
    }
    let (status, _) = json(dir, &["pack", "file:a.txt", "file:a.txt", "--out", "carry", "--no-program"]);
    assert_eq!(status, Some(0), "the same file twice is one");
}

#[test]
#[ignore = "needs oras; scripts/peers.sh installs it where Go is"]
fn oras_writes_the_same_files() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    make(dir);
    done(dir, &["pack", "file:Site Notes.txt", "file:rpms", "--out", "carry", "--no-program"]);
    done(dir, &["unpack", "carry", "--to", "oci:to"]);
    for name in ["files/rpms:latest", "files/site-notes.txt:latest"] {
        let pull = ["pull", "--oci-layout-path", "to", name, "-o", "pulled"];
        let output = Command::new("oras").args(pull).current_dir(dir).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(tree(&dir.join("pulled/rpms")), tree(&dir.join("rpms")));
    assert_eq!(fs::read_to_string(dir.join("pulled/Site Notes.txt")).unwrap(), "unpack first\n");
}
