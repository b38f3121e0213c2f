//! `carry diff`: what changes from one carry to the next. The judges are dpkg's and rpm's databases as they are written here, and the
//! snapshots' own facts.

use std::fs;
use std::path::Path;

use haversack::image::Layout;
use haversack::image::store::layout::canonical;
use oci_spec::image::{Descriptor, MediaType};
use serde_json::{Value, json};

use crate::images::{GZIP, TAR, blob, gzip, image, tar, text};
use crate::{done, haversack, json};

fn dpkg(packages: &[(&str, &str)]) -> Vec<u8> {
    let paragraph = |(name, version): &(&str, &str)| {
        format!("Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n")
    };
    packages.iter().map(paragraph).collect::<Vec<_>>().join("\n").into_bytes()
}

/// An image with variables and layers.
fn image_with(layout: &Layout, name: &str, env: &[String], layers: &[Vec<u8>]) -> Descriptor {
    let layers: Vec<Descriptor> = layers.iter().map(|bytes| blob(layout, TAR, bytes)).collect();
    let diff_ids: Vec<String> = layers.iter().map(|layer| layer.digest().to_string()).collect();
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": { "Env": env },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = layout.write_blob(MediaType::ImageConfig, &canonical(&config)).unwrap();
    let manifest =
        json!({ "schemaVersion": 2, "mediaType": MediaType::ImageManifest, "config": config, "layers": layers });
    let image = layout.write_blob(MediaType::ImageManifest, &canonical(&manifest)).unwrap();
    layout.tag(&image, Some(name)).unwrap();
    image
}

/// rpm's database: a header of name, version, release, epoch and architecture each.
fn rpmdb(dir: &Path, packages: &[(&str, Option<u32>, &str, &str)]) -> Vec<u8> {
    let path = dir.join("rpmdb.sqlite");
    let _ = fs::remove_file(&path);
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)", [])
        .unwrap();
    for (name, epoch, version, release) in packages {
        let (mut entries, mut data, mut count) = (Vec::new(), Vec::new(), 0_u32);
        let mut put = |tag: u32, kind: u32, bytes: &[u8]| {
            for word in [tag, kind, u32::try_from(data.len()).unwrap(), 1] {
                entries.extend_from_slice(&word.to_be_bytes());
            }
            data.extend_from_slice(bytes);
            count += 1;
        };
        if let Some(epoch) = epoch {
            put(1003, 4, &epoch.to_be_bytes());
        }
        for (tag, value) in [(1000, *name), (1001, *version), (1002, *release), (1022, "x86_64")] {
            put(tag, 6, format!("{value}\0").as_bytes());
        }
        let length = u32::try_from(data.len()).unwrap();
        let header = [&count.to_be_bytes()[..], &length.to_be_bytes(), &entries, &data].concat();
        connection.execute("INSERT INTO Packages (blob) VALUES (?1)", [header]).unwrap();
    }
    drop(connection);
    fs::read(path).unwrap()
}

fn set(kernels: &[(&str, &str)]) -> Vec<u8> {
    let kernel = |(uname, build): &(&str, &str)| {
        json!({
            "distribution": "debian", "uname": uname, "machine": "x86_64", "flavour": "default", "build": build,
            "packages": []
        })
    };
    let kernels: Vec<Value> = kernels.iter().map(kernel).collect();
    json!({ "format": "haversack.kernels", "version": 2, "kernels": kernels }).to_string().into_bytes()
}

/// Two states of a site: images that change, stay, come and go.
fn states(dir: &Path) {
    let base = tar(&[
        ("var/lib/dpkg/status", &dpkg(&[("bash", "5.2-1"), ("openssl", "3.0.1")])),
        ("usr/lib/x", &text(1, 500)),
    ]);
    let kernels = ["HAVERSACK_KERNEL_SET=/kernels/kernels.json".to_owned()];
    for (name, is_new) in [("old", false), ("new", true)] {
        let layout = Layout::create(&dir.join(name)).unwrap();
        let pick = |old: &'static str, new: &'static str| if is_new { new } else { old };
        image_with(&layout, "example.org/same:1", &[], std::slice::from_ref(&base));
        // A database in the layer above; one that only the lower layer has; a new tag; another manager.
        let status = match is_new {
            false => tar(&[("etc/app", b"1")]),
            true => tar(&[
                ("etc/app", b"2"),
                ("var/lib/dpkg/status", &dpkg(&[("bash", "5.2-2"), ("curl", "8.1"), ("openssl", "3.0.1")])),
            ]),
        };
        image_with(&layout, "example.org/app:1", &[], &[base.clone(), status]);
        image_with(&layout, "example.org/files:1", &[], &[base.clone(), tar(&[("etc/x", pick("1", "2").as_bytes())])]);
        let db = match is_new {
            false => {
                rpmdb(dir, &[("bash", None, "5.1", "1.el9"), ("vim", Some(2), "8.2", "1"), ("gone", None, "1", "1")])
            }
            true => rpmdb(dir, &[("bash", None, "5.1", "2.el9"), ("vim", Some(2), "8.2", "1")]),
        };
        let tag = format!("example.org/ubi:{}", pick("9.4", "9.5"));
        image_with(&layout, &tag, &[], &[tar(&[("var/lib/rpm/rpmdb.sqlite", &db)])]);
        let list = match is_new {
            false => set(&[("6.1.0-1-amd64", "6.1.4-1"), ("6.1.0-2-amd64", "6.1.8-1")]),
            true => set(&[("6.1.0-2-amd64", "6.1.8-2"), ("6.1.0-3-amd64", "6.1.9-1")]),
        };
        image_with(&layout, "example.org/kernels:1", &kernels, &[tar(&[("kernels/kernels.json", &list)])]);
        image(
            &layout,
            Some(pick("example.org/leaves:1", "example.org/comes:1")),
            &[(GZIP, &gzip(&tar(&[("a", b"a")]), "-6"))],
        );
        done(dir, &["pack", &format!("oci:{name}"), "--out", &format!("carry-{name}"), "--no-program"]);
    }
}

#[test]
fn images_packages_and_kernels_are_compared_whatever_holds_them() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    states(dir);
    let text = |args: &[&str]| {
        let output = haversack(dir, args);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        let text = String::from_utf8(output.stdout).unwrap();
        // Digests are long, and are compared by `--json` below.
        text.lines()
            .map(|line| {
                line.split(' ')
                    .map(|word| if word.starts_with("sha256:") { "DIGEST" } else { word })
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .collect::<Vec<_>>()
            .join("\n")
    };
    let expected = "\
images: 1 added, 1 removed, 4 changed
  - example.org/leaves:1 DIGEST
  + example.org/comes:1 DIGEST
  ~ example.org/app:1: DIGEST -> DIGEST
  ~ example.org/files:1: DIGEST -> DIGEST
  ~ example.org/kernels:1: DIGEST -> DIGEST
  ~ example.org/ubi:9.4 -> example.org/ubi:9.5: DIGEST -> DIGEST
packages of example.org/app:1 linux/amd64: 1 added, 0 removed, 1 changed
  + curl.amd64 8.1
  ~ bash.amd64: 5.2-1 -> 5.2-2
packages of example.org/ubi:9.5 linux/amd64: 0 added, 1 removed, 1 changed
  - gone.x86_64 1-1
  ~ bash.x86_64: 5.1-1.el9 -> 5.1-2.el9
kernels: 1 added, 1 removed, 1 changed
  - debian 6.1.0-1-amd64 x86_64 6.1.4-1
  + debian 6.1.0-3-amd64 x86_64 6.1.9-1
  ~ debian 6.1.0-2-amd64 x86_64: 6.1.8-1 -> 6.1.8-2";
    for (old, new) in [("carry-old", "carry-new"), ("oci:old", "carry-new"), ("carry-old", "new"), ("old", "oci:new")] {
        assert_eq!(text(&["carry", "diff", old, new]), expected, "{old} {new}");
    }
    assert_eq!(text(&["carry", "diff", "carry-old", "old"]), "nothing differs");
    let (status, found) = json(dir, &["carry", "diff", "carry-old", "carry-new", "--exit-code"]);
    assert_eq!((status, &found["not_compared"]), (Some(1), &json!([])));
    let digests = done(dir, &["inspect", "oci:new:example.org/app:1"]);
    assert_eq!(found["images"]["changed"][0]["new"], digests["digest"], "{digests}");
    assert_eq!(json(dir, &["carry", "diff", "carry-old", "old", "--exit-code"]).0, Some(0));
}

#[test]
fn what_a_carry_is_built_on_is_taken_from_the_site_or_said_not_to_be_compared() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let layer = |version: &str| tar(&[("var/lib/dpkg/status", &dpkg(&[("bash", version)])), ("big", &text(3, 4000))]);
    let layout = Layout::create(&dir.join("from")).unwrap();
    let pack = |out: &str| {
        done(
            dir,
            &[
                "pack",
                "oci:from",
                "--site",
                "plant",
                "--ledger",
                "ledger",
                "--assume-arrived",
                "--out",
                out,
                "--no-program",
            ],
        )
    };
    image_with(&layout, "example.org/app:1", &[], &[layer("1")]);
    pack("one");
    image_with(&layout, "example.org/app:1", &[], &[layer("2")]);
    let second = pack("two");
    assert!(
        second["totals"]["held_bytes"].as_u64().or(second["totals"]["heldBytes"].as_u64()).unwrap() > 0,
        "{second}"
    );
    let (status, found) = json(dir, &["carry", "diff", "one", "two"]);
    assert_eq!(status, Some(3), "{found}");
    assert_eq!(found["images"]["changed"].as_array().unwrap().len(), 1);
    assert_eq!(
        found["not_compared"],
        json!(["example.org/app:1: it is in a volume that is not here, or in what the carry is built on"])
    );
    done(dir, &["unpack", "one", "--to", "oci:site"]);
    let found = done(dir, &["carry", "diff", "one", "two", "--base", "site"]);
    assert_eq!(
        found["packages"]["example.org/app:1 linux/amd64"]["changed"],
        json!([{ "name": "bash.amd64", "old": "1", "new": "2" }])
    );
}
