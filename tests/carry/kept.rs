//! `unpack --keep-contents`: what later carries are built on is not read again, and is never believed.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use assert_cmd::cargo::cargo_bin;
use rusqlite::Connection;
use serde_json::Value;

use crate::images::{GZIP, gzip};
use crate::site::{release, second_release};
use crate::{assert_same, done, error, files, haversack, json};

const CONTENTS: &str = "far/.haversack/contents";

/// Carries of two releases, the second built on the first, and a place `far` where the first was unpacked and its contents kept; a
/// place `right` where both were without. The name of the first layer's file in a layout.
fn unpacked_once(dir: &Path) -> String {
    let second = second_release(dir, &[(GZIP, gzip(&release(10), "-6")), (GZIP, gzip(&release(11), "-9"))]);
    std::fs::rename(dir.join("far"), dir.join("right")).unwrap();
    done(dir, &["unpack", "carry-2", "--to", "oci:right"]);
    let kept = done(dir, &["unpack", "carry-1", "--to", "oci:far", "--keep-contents"]);
    assert_eq!(kept["kept_contents"]["layers"], 1, "{kept}");
    let pack = std::fs::metadata(dir.join(CONTENTS).join("1.pack")).unwrap().len();
    // The tar has headers besides; the changes in a gzip file are there twice, as they are and as they are compressed.
    assert!(kept["kept_contents"]["bytes"] == pack && pack > 11 << 20, "{kept}");
    second["needs"][0]["digest"].as_str().unwrap().replace(':', "/")
}

/// What GNU cp makes of a directory; layers are of one piece with those of the other.
fn copied(dir: &Path, from: &str, to: &str) {
    let _ = std::fs::remove_dir_all(dir.join(to));
    assert!(Command::new("cp").args(["-a", from, to]).current_dir(dir).status().unwrap().success());
}

/// Takes an image off the list of a layout.
fn unlist(layout: &Path, name: &str) {
    let path = layout.join("index.json");
    let mut index: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    index["manifests"]
        .as_array_mut()
        .unwrap()
        .retain(|it| it["annotations"]["org.opencontainers.image.ref.name"] != name);
    std::fs::write(&path, index.to_string()).unwrap();
}

#[test]
fn a_layer_whose_contents_are_kept_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let base = unpacked_once(dir);
    // Whoever reads it sees that it is not what it was.
    let blob = dir.join("far/blobs").join(base);
    let right = std::fs::read(&blob).unwrap();
    std::fs::write(&blob, vec![0; right.len()]).unwrap();
    copied(dir, "far", "without");
    std::fs::remove_dir_all(dir.join("without/.haversack/contents")).unwrap();
    let told = error(dir, &["unpack", "carry-2", "--to", "oci:without"]);
    assert!(told.contains("is not what its name says, and the carry is built on it"), "{told}");

    let output = haversack(dir, &["unpack", "carry-2", "--to", "oci:far"]);
    let told = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = told.lines().skip(1).take(3).map(str::trim_start).collect();
    let made = lines[0].to_owned();
    assert_eq!(
        lines,
        [&made, "1 blob from earlier carries", "1 layer not read again: kept contents were enough"],
        "{told}"
    );
    assert!(!told.contains("kept:"), "nothing was asked for: {told}");
    std::fs::write(&blob, right).unwrap();
    done(dir, &["verify", "oci:far"]);
    assert_same(&dir.join("right"), &dir.join("far"));
}

#[test]
fn what_is_kept_grows_by_what_is_new_and_goes_with_its_layers() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    unpacked_once(dir);
    let place = dir.join(CONTENTS);
    let room = |number: u32| std::fs::metadata(place.join(format!("{number}.pack"))).map_or(0, |it| it.blocks() * 512);
    let second = done(dir, &["unpack", "carry-2", "--to", "oci:far", "--keep-contents"]);
    let (kept, from) = (&second["kept_contents"], &second["from_kept_contents"]);
    let bytes = kept["bytes"].as_u64().unwrap();
    // A piece of a large file (4 MiB at most), a kernel, the files with another line, a skeleton.
    assert!(kept["layers"] == 1 && *from == 1 && bytes > 20_000 && bytes < 6 << 20, "{second}");
    let again = done(dir, &["unpack", "carry-2", "--to", "oci:far", "--keep-contents"]);
    assert_eq!((&again["kept_contents"]["layers"], &again["kept_contents"]["bytes"]), (&0.into(), &0.into()));
    assert!(!place.join("3.pack").exists(), "nothing is new, and so there is no file");

    unlist(&dir.join("far"), "example.org/linux:one");
    let before = (room(1), room(2));
    let plan = done(dir, &["gc", "far", "--grace", "0", "--dry-run"]);
    assert!(before == (room(1), room(2)) && plan["kept_contents"]["layers"] == 1, "{plan}");
    let output = haversack(dir, &["gc", "far", "--grace", "0"]);
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.lines().last().unwrap().starts_with("removed: kept contents of 1 layer, "), "{told}");
    let gone = plan["kept_contents"]["bytes"].as_u64().unwrap();
    let given = before.0 - room(1);
    // Whole blocks alone are given back.
    assert!(gone > 1 << 20 && given > gone / 2 && given <= gone, "{gone} {given}");
    // What the second release has of the first is there still, and right.
    assert_eq!(done(dir, &["gc", "far", "--grace", "0"])["kept_contents"]["layers"], 0);
    unlist(&dir.join("far"), "example.org/linux:two");
    done(dir, &["gc", "far", "--grace", "0"]);
    assert_eq!((room(1), room(2)), (0, 0), "no layer is left");
    let left: Vec<String> = files(&dir.join("far/blobs")).into_keys().collect();
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn what_is_kept_and_is_not_what_it_was_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    unpacked_once(dir);
    let sql = |text: &'static str| {
        move |place: &Path| Connection::open(place.join("contents.db")).unwrap().execute_batch(text).unwrap()
    };
    let changed = |file: &'static str, change: fn(&mut Vec<u8>)| {
        move |place: &Path| {
            let mut bytes = std::fs::read(place.join(file)).unwrap();
            change(&mut bytes);
            std::fs::write(place.join(file), bytes).unwrap();
        }
    };
    type Change = Box<dyn Fn(&Path)>;
    let cases: [(&str, Change); 13] = [
        ("a byte of a content", Box::new(changed("1.pack", |bytes| bytes[700] ^= 1))),
        ("a byte of the skeleton", Box::new(changed("1.pack", |bytes| *bytes.last_mut().unwrap() ^= 1))),
        ("a file that is cut off", Box::new(changed("1.pack", |bytes| bytes.truncate(1000)))),
        ("a file that is gone", Box::new(|place: &Path| std::fs::remove_file(place.join("1.pack")).unwrap())),
        ("no database", Box::new(changed("contents.db", |bytes| bytes.fill(b'x')))),
        ("a database that is cut off", Box::new(changed("contents.db", |bytes| bytes.truncate(5000)))),
        ("an empty database", Box::new(changed("contents.db", Vec::clear))),
        ("a later version", Box::new(sql("PRAGMA user_version = 2"))),
        ("a content in the place of another", Box::new(sql("UPDATE part SET content = 2 WHERE number = 0"))),
        ("a content elsewhere", Box::new(sql("UPDATE content SET offset = offset + 1 WHERE id = 1"))),
        ("a content beyond the end", Box::new(sql("UPDATE content SET size = 1 << 40 WHERE id = 1"))),
        ("contents that are missing", Box::new(sql("DELETE FROM part WHERE number > 20"))),
        ("a layer without its skeleton", Box::new(sql("UPDATE layer SET skeleton = NULL"))),
    ];
    for (what, change) in cases {
        copied(dir, "far", "tried");
        change(&dir.join("tried/.haversack/contents"));
        let unpacked = done(dir, &["unpack", "carry-2", "--to", "oci:tried"]);
        assert_eq!(unpacked["from_kept_contents"], 0, "{what}");
        assert_same(&dir.join("right"), &dir.join("tried"));
    }
    // A database that is a link is another's.
    copied(dir, "far", "tried");
    let place = dir.join("tried/.haversack/contents");
    std::fs::rename(place.join("contents.db"), dir.join("elsewhere.db")).unwrap();
    std::os::unix::fs::symlink(dir.join("elsewhere.db"), place.join("contents.db")).unwrap();
    assert_eq!(done(dir, &["unpack", "carry-2", "--to", "oci:tried"])["from_kept_contents"], 0);
    // One that is damaged is begun anew when something is to be kept.
    copied(dir, "far", "tried");
    std::fs::write(dir.join("tried/.haversack/contents/contents.db"), [b'x'; 5000]).unwrap();
    let unpacked = done(dir, &["unpack", "carry-2", "--to", "oci:tried", "--keep-contents"]);
    assert_eq!((&unpacked["from_kept_contents"], &unpacked["kept_contents"]["layers"]), (&0.into(), &2.into()));
    assert!(!dir.join("tried/.haversack/contents/2.pack").exists());
}

#[test]
fn what_is_damaged_is_kept_anew_and_what_is_not_ours_stays() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    unpacked_once(dir);
    let place = dir.join("tried/.haversack/contents");
    let both = |args: &[&str]| {
        let unpacked = done(dir, &[&["unpack", "carry-2", "--to", "oci:tried"][..], args].concat());
        (unpacked["from_kept_contents"].clone(), unpacked["kept_contents"]["layers"].clone())
    };
    for lost in [true, false] {
        copied(dir, "far", "tried");
        match lost {
            true => std::fs::remove_file(place.join("1.pack")).unwrap(),
            false => {
                let mut bytes = std::fs::read(place.join("1.pack")).unwrap();
                bytes[700] ^= 1;
                std::fs::write(place.join("1.pack"), bytes).unwrap();
            }
        }
        assert_eq!(both(&["--keep-contents"]), (0.into(), 2.into()), "{lost}");
        assert_eq!(both(&[]), (1.into(), Value::Null), "{lost}");
    }
    // A link leads to files of somebody else.
    copied(dir, "far", "tried");
    let theirs = dir.join("theirs");
    std::fs::rename(&place, &theirs).unwrap();
    std::os::unix::fs::symlink(&theirs, &place).unwrap();
    std::fs::write(theirs.join("contents.db"), "damaged, and not ours").unwrap();
    let before = files(&theirs);
    let (status, unpacked) = json(dir, &["unpack", "carry-2", "--to", "oci:tried", "--keep-contents"]);
    assert_eq!((status, &unpacked["not_kept"]["layers"]), (Some(3), &2.into()), "{unpacked}");
    assert_eq!(both(&[]), (0.into(), Value::Null));
    assert!(before == files(&theirs));
    // What has another name elsewhere gets no holes.
    copied(dir, "far", "tried");
    std::fs::hard_link(place.join("1.pack"), dir.join("copy.pack")).unwrap();
    let before = std::fs::read(dir.join("copy.pack")).unwrap();
    done(dir, &["unpack", "carry-2", "--to", "oci:tried", "--keep-contents"]);
    unlist(&dir.join("tried"), "example.org/linux:one");
    assert_eq!(done(dir, &["gc", "tried", "--grace", "0"])["kept_contents"]["layers"], 1);
    assert!(std::fs::read(dir.join("copy.pack")).unwrap() == before && place.join("1.pack").exists());
    // What was removed before is said although the rest cannot be.
    std::fs::write(place.join("contents.db"), [b'x'; 5000]).unwrap();
    unlist(&dir.join("tried"), "example.org/linux:two");
    let output = haversack(dir, &["gc", "tried", "--grace", "0"]);
    let (said, warned) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(3), "{warned}");
    assert!(said.starts_with("removed: 3 blobs") && warned.contains("warning: not removed: "), "{said}{warned}");
}

#[test]
fn images_arrive_with_their_receipt_also_where_contents_cannot_be_kept() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    unpacked_once(dir);
    copied(dir, "far", "tried");
    let place = dir.join("tried/.haversack/contents");
    std::fs::remove_dir_all(&place).unwrap();
    std::fs::write(&place, "in the way").unwrap();
    let command = ["unpack", "carry-2", "--to", "oci:tried", "--keep-contents"];
    let (status, unpacked) = json(dir, &command);
    let reason = "cannot enter tried/.haversack/contents: Not a directory (os error 20)";
    assert_eq!(
        (status, &unpacked["not_kept"], &unpacked["kept_contents"]),
        (Some(3), &serde_json::json!({ "layers": 2, "reason": reason }), &Value::Null)
    );
    assert_same(&dir.join("right"), &dir.join("tried"));
    let receipt = unpacked["receipt_file"].as_str().unwrap();
    let receipt: Value = serde_json::from_slice(&std::fs::read(dir.join(receipt)).unwrap()).unwrap();
    assert_eq!(receipt["carry"], unpacked["carry"]);

    let output = haversack(dir, &command);
    assert_eq!(
        (output.status.code(), String::from_utf8(output.stderr).unwrap()),
        (
            Some(3),
            format!(
                "warning: contents of 2 layers not kept: {reason}; the images are there, and the next run tries it again\n"
            )
        )
    );
    std::fs::remove_file(&place).unwrap();
    assert_eq!(done(dir, &command)["kept_contents"]["layers"], 2);
}

#[test]
fn an_unpacking_that_is_killed_leaves_what_is_kept_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    unpacked_once(dir);
    std::fs::write(dir.join(CONTENTS).join("7.pack"), "of one that was killed").unwrap();
    for step in 0..12_u64 {
        let mut command = Command::new(cargo_bin!("haversack"));
        command.args(["unpack", "carry-2", "--to", "oci:far", "--keep-contents"]).current_dir(dir).env("HOME", dir);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(step * 25));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    done(dir, &["unpack", "carry-2", "--to", "oci:far", "--keep-contents"]);
    assert_same(&dir.join("right"), &dir.join("far"));
    assert!(!dir.join(CONTENTS).join("7.pack").exists());
    let database = Connection::open(dir.join(CONTENTS).join("contents.db")).unwrap();
    let check: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    let count = |sql: &str| database.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let rows = (count("SELECT count(*) FROM layer WHERE sum IS NOT NULL"), count("SELECT count(*) FROM pack"));
    assert_eq!((&*check, rows), ("ok", (2, 2)));
    let packs = std::fs::read_dir(dir.join(CONTENTS)).unwrap().count();
    assert_eq!(packs, 3, "the database and two packs");
}

#[test]
fn contents_are_kept_in_a_layout_alone() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let output = haversack(dir, &["unpack", "carry", "--to", "docker://bastion.example:5000", "--keep-contents"]);
    assert_eq!(
        (output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()),
        (Some(2), "error: --keep-contents: contents are kept in a layout (--to oci:DIR), not in a registry\n")
    );
}
