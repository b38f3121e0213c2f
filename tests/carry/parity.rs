//! Lost and damaged volumes are made again from parity, as many as were asked for, and not one byte otherwise.

use std::collections::BTreeMap;
use std::path::Path;

use haversack::image::Layout;
use serde_json::{Value, json};

use crate::images::{TAR, image, noise, tar};
use crate::{done, error, files, json};

/// A carry in four volumes with two parity volumes, and its files.
fn packed(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let layout = Layout::create(&dir.join("from")).unwrap();
    let names: Vec<String> = (0..16).map(|file| format!("usr/lib/{file}")).collect();
    let bodies: Vec<Vec<u8>> = (0..16).map(|seed| noise(seed, 7_400_000)).collect();
    let all: Vec<(&str, &[u8])> = names.iter().zip(&bodies).map(|(name, body)| (&**name, &**body)).collect();
    image(&layout, Some("app:1"), &[(TAR, &tar(&all))]);
    let packed = done(dir, &["pack", "oci:from", "--out", "carry", "--no-program", "--medium", "40M", "--parity", "2"]);
    assert_eq!(packed["parity"].as_array().unwrap().len(), 2, "{packed}");
    let files = files(&dir.join("carry"));
    assert!(files.values().all(|bytes| bytes.len() <= 40_000_000));
    files
}

#[test]
fn lost_and_damaged_volumes_come_back_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let right = packed(dir);
    let volumes: Vec<&String> = right.keys().filter(|name| name.starts_with("volume")).collect();
    assert_eq!(volumes.len(), 4);
    let carry = dir.join("carry");
    let flip = |name: &str, places: &[usize]| {
        let mut bytes = right[name].clone();
        places.iter().for_each(|at| bytes[*at] ^= 0x10);
        std::fs::write(carry.join(name), bytes).unwrap();
    };
    let remove = |name: &str| std::fs::remove_file(carry.join(name)).unwrap();
    let last = |name: &str| right[name].len() - 1;
    // What is done to it, and whether it comes back.
    let cases: [(&str, &dyn Fn(), bool); 8] = [
        ("nothing", &|| (), true),
        ("two are lost", &|| [volumes[0], volumes[2]].into_iter().for_each(|name| remove(name)), true),
        ("three are lost", &|| volumes[1..].iter().for_each(|name| remove(name)), false),
        (
            "every volume, at other places, one at its end, too",
            &|| {
                volumes[1..].iter().zip(2..).for_each(|(name, place)| flip(name, &[place << 20]));
                flip(volumes[0], &[1 << 20, last(volumes[0])]);
            },
            true,
        ),
        ("three at one place", &|| volumes[..3].iter().for_each(|name| flip(name, &[5 << 20])), false),
        (
            "one is cut, one is empty",
            &|| {
                std::fs::write(carry.join(volumes[0]), &right[volumes[0]][..3_000_001]).unwrap();
                std::fs::write(carry.join(volumes[3]), b"").unwrap();
            },
            true,
        ),
        (
            "one is lost, and a parity volume's end",
            &|| {
                remove(volumes[1]);
                flip("parity-001.zst", &[last("parity-001.zst") - 40]);
            },
            true,
        ),
        (
            "two are lost, and a parity volume's block elsewhere",
            &|| {
                remove(volumes[1]);
                remove(volumes[2]);
                flip("parity-002.zst", &[20 << 20]);
            },
            false,
        ),
    ];
    for (what, damage, comes_back) in cases {
        for (name, bytes) in &right {
            std::fs::write(carry.join(name), bytes).unwrap();
        }
        damage();
        let is_bad = |name: &&&String| std::fs::read(carry.join(name)).ok().as_deref() != Some(&right[**name]);
        let bad: Vec<&&String> = volumes.iter().filter(is_bad).collect();
        let before = files(&carry);
        let (_, found) = json(dir, &["verify", "carry"]);
        let names: Vec<&str> = bad.iter().map(|name| name.as_str()).collect();
        let step = format!(
            "`haversack verify --repair carry` makes volumes again from parity; or bring again: {}",
            names.join(", ")
        );
        assert_eq!(found["next_step"], if bad.is_empty() { Value::Null } else { json!(step) }, "{what}");
        let (status, report) = json(dir, &["verify", "carry", "--repair"]);
        let after = files(&carry);
        assert_eq!(status, Some(if comes_back { 0 } else { 1 }), "{what}: {report}");
        if comes_back {
            assert_eq!(report["repaired"], json!(bad), "{what}");
            assert!(volumes.iter().all(|name| after[*name] == right[*name]), "{what}");
        } else {
            assert!(!report["lost"].as_array().unwrap().is_empty(), "{what}: {report}");
            let kept = |(name, bytes): (&String, &Vec<u8>)| after[name] == *bytes || after[name] == right[name];
            assert!(before.iter().all(kept), "{what}: what was there is there");
        }
    }
    let told = {
        done(dir, &["pack", "oci:from", "--out", "plain", "--no-program"]);
        std::fs::remove_file(dir.join("plain/volume-001.zst")).unwrap();
        error(dir, &["verify", "plain", "--repair"])
    };
    assert!(told.starts_with("plain: it was packed without parity"), "{told}");
}
