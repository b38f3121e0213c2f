//! What a site holds does not travel again once it is confirmed, and a place without it is refused by name.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use assert_cmd::cargo::cargo_bin;
use haversack::carry::Code;
use haversack::digest::Digest;
use haversack::image::Layout;
use haversack::site::Site;
use oci_spec::image::Descriptor;
use serde_json::{Value, json};

use crate::images::{GZIP, TAR, gzip, image, noise, tar, text};
use crate::{assert_same, done, error, files, haversack};

const LEDGER: &str = ".local/state/haversack/sites";

/// Two layouts with images that share their first layer, which is most of them.
pub(crate) fn layouts(dir: &Path) -> (Descriptor, Descriptor) {
    let base = gzip(&tar(&[("usr/bin/tool", &noise(1, 400_000)), ("etc/conf", &text(1, 100))]), "-6");
    let made = |name: &str, seed| {
        let layout = Layout::create(&dir.join(name)).unwrap();
        let own = tar(&[("usr/share/app", &text(seed, 300))]);
        image(&layout, Some(&format!("example.org/app:{name}")), &[(GZIP, &base), (TAR, &own)])
    };
    (made("one", 5), made("two", 6))
}

fn pack(dir: &Path, from: &str, out: &str, more: &[&str]) -> Value {
    let image = format!("oci:{from}");
    let site = if more.contains(&"--site") { &[][..] } else { &["--site", "plant"] };
    done(dir, &[&["pack", &image, "--out", out, "--no-program"][..], site, more].concat())
}

fn needs(packed: &Value) -> usize {
    packed["needs"].as_array().map_or(0, Vec::len)
}

#[test]
fn what_a_site_confirmed_does_not_travel_again() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    layouts(dir);
    let first = pack(dir, "one", "carry-1", &[]);
    let unpacked = done(dir, &["unpack", "carry-1", "--to", "oci:far"]);
    let code = unpacked["receipt"]["code"].as_str().unwrap().to_owned();
    assert_eq!((&first["format"], needs(&first), &unpacked["receipt"]["site"]), (&json!(1), 0, &json!("plant")));

    let unconfirmed = pack(dir, "two", "carry-2", &[]);
    assert_eq!((&unconfirmed["format"], needs(&unconfirmed)), (&json!(1), 0), "nothing has been said of the first");
    let assumed = pack(dir, "two", "carry-assumed", &["--assume-arrived"]);
    // What an assumption leaves out is all that both have: the second image's own blobs were packed a moment ago, too.
    assert!(needs(&assumed) >= 2, "{assumed}");

    let confirmed = done(dir, &["site", "confirm", "plant", &code]);
    assert_eq!((&confirmed[0]["carry"], &confirmed[0]["confirmed_by"]), (&first["id"], &json!("code")));
    let second = pack(dir, "two", "carry-3", &[]);
    let needed = second["needs"].as_array().unwrap();
    assert_eq!(
        (&second["format"], needed.len(), &needed[0]["carry"], &needed[0]["image"]),
        (&json!(2), 1, &first["id"], &json!("example.org/app:one"))
    );
    let bytes = |packed: &Value| packed["totals"]["carriedBytes"].as_u64().unwrap();
    assert!(bytes(&second) * 20 < bytes(&unconfirmed), "{} of {}", bytes(&second), bytes(&unconfirmed));
    // What it has is not packed as if it were new, nor under another name as if it were not.
    assert_eq!(second["nothing_new"], Value::Null);
    assert_eq!(pack(dir, "one", "carry-same", &[])["nothing_new"], json!(true));
    let readme = std::fs::read_to_string(dir.join("carry-same/README.txt")).unwrap();
    let line = "\nbrings  nothing new: the site holds all of these images; only what describes them is in here\n";
    assert!(readme.contains(line), "{readme}");
    let planned = ["pack", "oci:one", "--out", "x", "--no-program", "--site", "plant", "--plan"];
    let text = String::from_utf8(haversack(dir, &planned).stdout).unwrap();
    let line = "\n  nothing new for plant: it holds all of these images; only what describes them is in the carry\n";
    assert!(text.contains(line), "{text}");
    done(dir, &["copy", "oci:one:example.org/app:one", "oci:renamed:example.org/app:other"]);
    assert_eq!(pack(dir, "renamed", "carry-renamed", &[])["nothing_new"], Value::Null);
    let full = pack(dir, "two", "carry-4", &["--full"]);
    assert_eq!((&full["format"], needs(&full), bytes(&full)), (&json!(1), 0, bytes(&unconfirmed)));

    let unpacked = done(dir, &["unpack", "carry-3", "--to", "oci:far"]);
    assert_eq!(unpacked["needed_blobs"], 1);
    let both = Layout::create(&dir.join("both")).unwrap();
    for name in ["one", "two"] {
        let image = format!("example.org/app:{name}");
        done(dir, &["copy", &format!("oci:{name}:{image}"), &format!("oci:{}:{image}", both.root().display())]);
    }
    done(dir, &["verify", "oci:far"]);
    assert_same(&dir.join("both"), &dir.join("far"));

    let receipt = unpacked["receipt_file"].as_str().unwrap();
    let confirmed = done(dir, &["site", "confirm", "plant", receipt]);
    assert_eq!((&confirmed[0]["carry"], &confirmed[0]["confirmed_by"]), (&second["id"], &json!("receipt")));
    let nothing_new = pack(dir, "two", "carry-5", &[]);
    // The manifest alone.
    assert_eq!((needs(&nothing_new), &nothing_new["totals"]["blobs"]), (3, &json!(1)));
}

#[test]
fn a_place_without_the_base_is_refused_before_anything_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    layouts(dir);
    let first = pack(dir, "one", "carry-1", &[]);
    // A ledger that lies: it never arrived where the second one goes.
    let code = done(dir, &["unpack", "carry-1", "--to", "oci:elsewhere"])["receipt"]["code"].clone();
    done(dir, &["site", "confirm", "plant", code.as_str().unwrap()]);
    pack(dir, "two", "carry-2", &[]);
    let id = first["id"].as_str().unwrap();
    let told = error(dir, &["unpack", "carry-2", "--to", "oci:far"]);
    assert_eq!(
        told,
        format!(
            "far: what this carry is built on is not here: 1 blob, which carry {id} brings\nhint: unpack that first, to the \
             same place, or ask for a carry packed with `--full`"
        )
    );
    assert!(!dir.join("far").exists());
    done(dir, &["copy", "oci:one:example.org/app:one", "oci:there:other"]);
    let blob = dir.join("there/blobs/sha256");
    let largest = std::fs::read_dir(&blob).unwrap().map(Result::unwrap).max_by_key(|it| it.metadata().unwrap().len());
    std::fs::remove_file(largest.unwrap().path()).unwrap();
    let before = files(&dir.join("there"));
    let told = error(dir, &["unpack", "carry-2", "--to", "oci:there"]);
    assert!(told.contains(id), "{told}");
    assert!(before == files(&dir.join("there")), "nothing has changed");
    let readme = std::fs::read_to_string(dir.join("carry-2/README.txt")).unwrap();
    assert!(readme.contains(&format!("needs   what came before with carry {id}")), "{readme}");
    // In the right order it goes.
    done(dir, &["unpack", "carry-1", "--to", "oci:there"]);
    done(dir, &["unpack", "carry-2", "--to", "oci:there"]);
    done(dir, &["verify", "oci:there"]);
}

#[test]
fn a_receipt_that_does_not_fit_confirms_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    layouts(dir);
    let first = pack(dir, "one", "carry-1", &[]);
    let id = first["id"].as_str().unwrap();
    let unpacked = done(dir, &["unpack", "carry-1", "--to", "oci:far"]);
    let code = unpacked["receipt"]["code"].as_str().unwrap();
    let mut slip = code.to_owned();
    slip.replace_range(0..1, if code.starts_with('A') { "B" } else { "A" });
    let other_state = Code::of(id, Some("plant"), &Digest::sha256(b"other images")).to_string();
    pack(dir, "one", "carry-mine", &["--site", "mine"]);
    let mine = done(dir, &["unpack", "carry-mine", "--to", "oci:mine"]);
    let other_site = mine["receipt"]["code"].as_str().unwrap().to_owned();
    assert_eq!(mine["carry"], *id, "one carry for two sites");
    let other_carry = Code::of(&"0".repeat(32), Some("plant"), &Digest::sha256(b"")).to_string();
    for (said, expected) in [
        (&*slip, "no file, and no code either: a letter or digit of it is wrong".to_owned()),
        ("hello", "no file, and no code either: a receipt's code has 32 letters".to_owned()),
        (&other_state, format!("{id}: the receipt says that other images are at plant than were packed for it")),
        (&other_site, format!("{id}: the receipt says that other images are at plant than were packed for it")),
        (&other_carry, format!("plant: no carry {other_carry} was packed for this site")),
    ] {
        let told = error(dir, &["site", "confirm", "plant", said]);
        assert!(told.contains(&expected), "{said}: {told}");
    }
    let file = unpacked["receipt_file"].as_str().unwrap();
    let right = std::fs::read_to_string(dir.join(file)).unwrap();
    std::fs::write(
        dir.join("bad.json"),
        right.replace("\"state\": \"sha256:", "\"state\": \"sha256:0").replacen("0\",", "\",", 1),
    )
    .unwrap();
    let told = error(dir, &["site", "confirm", "plant", "bad.json"]);
    assert!(told.contains("bad.json"), "{told}");
    std::fs::write(dir.join("theirs.json"), right.replace("plant", "mine")).unwrap();
    let told = error(dir, &["site", "confirm", "plant", "theirs.json"]);
    assert!(told.starts_with("theirs.json: its code is not that of its carry and state"), "{told}");
    let theirs = mine["receipt_file"].as_str().unwrap();
    let told = error(dir, &["site", "confirm", "plant", theirs]);
    assert_eq!(told, format!("{theirs}: it is a receipt of mine, not of plant"));
    let told = error(dir, &["site", "confirm", "nowhere", code]);
    assert!(told.starts_with("nowhere: nothing was packed for this site"), "{told}");
    let told = error(dir, &["pack", "oci:one", "--out", "x", "--site", "../up", "--no-program"]);
    assert!(told.starts_with("`../up`: a site's name has letters"), "{told}");
    let shown = done(dir, &["site", "show"]);
    assert_eq!(shown[0]["arrived"], Value::Null);
    // As it is read from a screen to somebody who types it.
    done(dir, &["site", "confirm", "plant", &code.to_lowercase().replace('-', "")]);
    let shown = haversack(dir, &["site", "show", "plant"]);
    let line = String::from_utf8(shown.stdout).unwrap();
    assert!(line.contains(id) && line.trim_end().ends_with("arrived, by code of 2023-11-14T22:13:20Z"), "{line}");
}

#[test]
fn the_ledger_lists_forgets_and_lets_one_at_a_time_to_work() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    layouts(dir);
    let first = pack(dir, "one", "carry-1", &[]);
    assert_eq!(done(dir, &["site", "inventory", "plant"]), json!({}));
    // Nobody is left alone with nothing.
    let said = |args: &[&str]| String::from_utf8(haversack(dir, args).stderr).unwrap();
    let not_counted = "plant: 1 carry not confirmed, and not counted: confirm it with `haversack site confirm plant CODE`, where CODE is \
                       what `unpack` said at the site, or count it with `--assume-arrived`\n";
    assert_eq!(said(&["site", "inventory", "plant"]), not_counted);
    assert_eq!(said(&["site", "inventory", "plant", "--assume-arrived"]), "");
    let held = done(dir, &["site", "inventory", "plant", "--assume-arrived"]);
    let of_image: Vec<String> =
        files(&dir.join("one/blobs/sha256")).into_keys().map(|hex| format!("sha256:{hex}")).collect();
    assert_eq!(held.as_object().unwrap().keys().cloned().collect::<Vec<_>>(), of_image);
    assert_eq!(held[&of_image[0]]["carry"], first["id"]);
    {
        let _held = Site::open(&dir.join(LEDGER), "plant").unwrap();
        let told = error(dir, &["pack", "oci:two", "--out", "carry-2", "--site", "plant", "--no-program"]);
        assert!(told.contains("another command is at work for this site"), "{told}");
    }
    let second = pack(dir, "two", "carry-2", &["--assume-arrived"]);
    assert_eq!(needs(&second), 1);
    let id = second["id"].as_str().unwrap();
    let layout = dir.join(LEDGER).join("plant/layout/blobs/sha256");
    let count = || std::fs::read_dir(&layout).unwrap().count();
    let before = count();
    let told = error(dir, &["site", "forget", "plant", &id[..3]]);
    let hint = "hint: `haversack site show NAME` lists its carries";
    assert_eq!(told, format!("plant: {}: name at least 4 digits of the carry\n{hint}", &id[..3]));
    let told = error(dir, &["site", "forget", "plant", "xyzxyz"]);
    assert_eq!(told, format!("plant: no carry xyzxyz was packed for this site\n{hint}"));
    let forgotten = done(dir, &["site", "forget", "plant", &id[..4]]);
    let freed = forgotten["freed_bytes"].clone();
    assert_eq!(forgotten, json!({ "site": "plant", "carries": [id], "freed_bytes": freed }));
    // Its layer, its configuration and its manifest; the layer that both have stays.
    assert_eq!(before - count(), 3);
    let shown = done(dir, &["site", "show", "plant"]);
    assert_eq!(shown.as_array().unwrap().len(), 1);
    // One that others are built on is forgotten with a word about them.
    let third = pack(dir, "two", "carry-3", &["--assume-arrived"]);
    let (first, third) = (first["id"].as_str().unwrap(), third["id"].as_str().unwrap());
    let output = haversack(dir, &["site", "forget", "plant", first]);
    let said = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines[..2],
        [
            &*format!("plant: carry {first} forgotten"),
            &*format!(
                "  carry {third} stays, and is built on it: it can be unpacked only where that was unpacked before"
            ),
        ]
    );
    assert!(lines.len() == 3 && lines[2].starts_with("plant: ") && lines[2].ends_with(" are free"), "{said}");
    done(dir, &["site", "forget", "plant", "--all"]);
    assert_eq!(done(dir, &["site", "show"]), json!([]));
    assert!(!dir.join(LEDGER).join("plant").exists());
}

/// A layer of one release: most of it is as in every other, the rest differs in a line.
pub(crate) fn release(number: u64) -> Vec<u8> {
    let mut files: Vec<(String, Vec<u8>)> = (0..150)
        .map(|file| {
            let mut body = text(file, 400);
            if file % 10 == 0 {
                body.splice(4000..4000, format!("#define RELEASE {number}\n").into_bytes());
            }
            (format!("usr/src/linux-6.1.{number}/include/config-{file}.h"), body)
        })
        .collect();
    let changes = [format!("release {number}\n").into_bytes(), text(900, 3000)].concat();
    files.push((format!("usr/share/doc/linux-6.1.{number}/changelog.gz"), gzip(&changes, "-9")));
    files.push((format!("boot/vmlinuz-6.1.{number}"), noise(number, 20_000)));
    let mut large = noise(77, 11 << 20);
    large[6 << 20..(6 << 20) + 100].copy_from_slice(&noise(number, 100));
    files.push((format!("usr/lib/modules-6.1.{number}.img"), large));
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, body)| (&**name, &**body)).collect();
    tar(&files)
}

/// The carry of a release for a site that has another, both layouts beside it.
pub(crate) fn second_release(dir: &Path, layers: &[(&str, Vec<u8>); 2]) -> Value {
    for (name, (kind, layer)) in ["one", "two"].into_iter().zip(layers) {
        let layout = Layout::create(&dir.join(name)).unwrap();
        image(&layout, Some(&format!("example.org/linux:{name}")), &[(kind, layer)]);
    }
    pack(dir, "one", "carry-1", &[]);
    let code = done(dir, &["unpack", "carry-1", "--to", "oci:far"])["receipt"]["code"].clone();
    done(dir, &["site", "confirm", "plant", code.as_str().unwrap()]);
    pack(dir, "two", "carry-2", &[])
}

#[test]
fn a_release_after_a_release_travels_as_what_differs() {
    for (kind, level) in [(GZIP, "-6"), (TAR, "")] {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let layer = |number| {
            let tar = release(number);
            if kind == TAR { tar } else { gzip(&tar, level) }
        };
        let second = second_release(dir, &[(kind, layer(10)), (kind, layer(11))]);
        let carried = second["totals"]["carriedBytes"].as_u64().unwrap();
        // What differs: 20,000 bytes of a kernel, a piece of a large file (4 MiB at most), and lines.
        assert!(carried < 5 << 20, "{carried}");
        let full = pack(dir, "two", "carry-full", &["--full"]);
        let all = full["totals"]["carriedBytes"].as_u64().unwrap();
        assert!(all > 11 << 20, "{all}");
        done(dir, &["verify", "carry-2"]);
        let code = done(dir, &["unpack", "carry-2", "--to", "oci:far"])["receipt"]["code"].clone();
        done(dir, &["verify", "oci:far"]);
        let (far, two) = (files(&dir.join("far/blobs")), files(&dir.join("two/blobs")));
        assert!(two.iter().all(|(name, bytes)| far[name] == *bytes));
        let again = pack(dir, "two", "carry-3", &[]);
        assert_eq!(again["id"], second["id"], "the same ledger, the same bytes");
        done(dir, &["site", "confirm", "plant", code.as_str().unwrap()]);
        assert_eq!(pack(dir, "two", "carry-4", &[])["totals"]["blobs"], 1, "the manifest alone");
        // What a forgotten carry brought is not there for the others either.
        done(dir, &["site", "forget", "plant", second["needs"][0]["carry"].as_str().unwrap()]);
        assert_eq!(
            needs(&pack(dir, "one", "carry-5", &[])),
            1,
            "built on the second release, which is said to be there"
        );
        // What came of it once comes of it again where the same release is there.
        done(dir, &["unpack", "carry-1", "--to", "oci:other"]);
        done(dir, &["unpack", "carry-2", "--to", "oci:other"]);
        assert_same(&dir.join("far"), &dir.join("other"));
    }
}

#[test]
fn a_plan_is_the_carry_to_the_byte_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    layouts(dir);
    let plan = |more: &[&str]| {
        let before = names(dir);
        let planned = done(dir, &[&["pack", "oci:one", "--out", "carry", "--no-program", "--plan"][..], more].concat());
        assert_eq!(names(dir).difference(&before).collect::<Vec<_>>(), Vec::<&String>::new());
        planned
    };
    let planned = plan(&["--parity", "1"]);
    done(dir, &["site", "show"]);
    assert_eq!(planned, done(dir, &["pack", "oci:one", "--out", "carry", "--no-program", "--parity", "1"]));
    std::fs::remove_dir_all(dir.join("carry")).unwrap();
    pack(dir, "two", "carry-2", &[]);
    assert_eq!(needs(&plan(&["--site", "plant", "--assume-arrived"])), 1);
    assert_eq!(done(dir, &["site", "show"]).as_array().unwrap().len(), 1, "a plan is not written down");
    let said = haversack(dir, &["pack", "oci:one", "--out", "carry", "--no-program", "--plan"]);
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.starts_with("nothing was made; it would be\ncarry: carry "), "{said}");
}

/// Every name below a directory, but for indexes of what the ledger has, which may come and go.
fn names(dir: &Path) -> BTreeSet<String> {
    let walk = walkdir::WalkDir::new(dir).into_iter().map(Result::unwrap);
    let walk = walk.filter(|entry| !entry.path().components().any(|part| part.as_os_str() == "index"));
    walk.map(|entry| entry.path().display().to_string()).collect()
}

#[test]
fn a_pack_that_is_killed_leaves_a_ledger_with_which_the_next_one_packs_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let right = second_release(dir, &[(TAR, release(10)), (TAR, release(11))]);
    for step in 0..12_u64 {
        let mut command = Command::new(cargo_bin!("haversack"));
        command.args(["pack", "oci:two", "--site", "plant", "--no-program", "--out", "carry-3"]).current_dir(dir);
        command.env("HOME", dir).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(step * step * 15));
        child.kill().unwrap();
        child.wait().unwrap();
        // What has its name is whole, and known.
        if dir.join("carry-3").exists() {
            done(dir, &["verify", "carry-3"]);
            std::fs::remove_dir_all(dir.join("carry-3")).unwrap();
        }
    }
    let again = pack(dir, "two", "carry-3", &[]);
    assert_eq!(again["id"], right["id"]);
    let code = done(dir, &["unpack", "carry-3", "--to", "oci:far"])["receipt"]["code"].clone();
    done(dir, &["site", "confirm", "plant", code.as_str().unwrap()]);
    done(dir, &["verify", "oci:far"]);
    // Nothing half-made is left beside, or in the ledger.
    let left = names(dir).into_iter().filter(|name| name.contains(".work") || name.contains("/images")).count();
    assert_eq!(left, 0);
}

#[test]
fn a_base_that_is_damaged_is_named_on_either_side() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let second = second_release(dir, &[(TAR, release(10)), (TAR, release(11))]);
    let need = second["needs"][0]["digest"].as_str().unwrap().replace(':', "/");
    let damage = |layout: &Path| {
        let blob = layout.join("blobs").join(&need);
        let right = std::fs::read(&blob).unwrap();
        let mut bytes = right.clone();
        // In the first file, which travels as nothing but its number.
        bytes[700] ^= 1;
        // Not in place: what the ledger has may be another name of the same file.
        std::fs::remove_file(&blob).unwrap();
        std::fs::write(&blob, bytes).unwrap();
        (blob, right)
    };
    let (blob, right) = damage(&dir.join("far"));
    let told = error(dir, &["unpack", "carry-2", "--to", "oci:far"]);
    let expected = format!("far/blobs/{need}: is not what its name says, and the carry is built on it");
    assert!(told.starts_with(&expected), "{told}");
    let listed = std::fs::read_to_string(dir.join("far/index.json")).unwrap();
    assert!(!listed.contains("example.org/linux:two"), "{listed}");
    std::fs::write(&blob, right).unwrap();
    done(dir, &["unpack", "carry-2", "--to", "oci:far"]);
    done(dir, &["verify", "oci:far"]);

    damage(&dir.join(LEDGER).join("plant/layout"));
    let told = error(dir, &["pack", "oci:two", "--out", "carry-3", "--site", "plant", "--no-program"]);
    assert!(told.contains("is not what its name says, and the carry is built on it"), "{told}");
    assert!(!dir.join("carry-3").exists());
}
