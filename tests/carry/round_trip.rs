//! What is packed arrives as it was.

use std::path::Path;

use haversack::image::Layout;

use crate::images::{TAR, image, noise, tar, text, varied};
use crate::{assert_same, done, error, files, haversack, json};

#[test]
fn images_of_every_kind_arrive_with_every_byte_and_their_names() {
    let dir = tempfile::tempdir().unwrap();
    varied(&dir.path().join("from"));
    let packed = done(dir.path(), &["pack", "oci:from", "--out", "carry", "--site", "plant", "--no-program"]);
    let made = |class: &str| packed["madeBy"][class]["blobs"].as_u64().unwrap_or_default();
    assert_eq!((made("gnu-6"), made("tar"), made("zstd")), (2, 1, 1), "{packed}");
    let whole = packed["whole"].as_array().unwrap();
    assert_eq!((whole.len(), &whole[0]["reason"]), (1, &"no known encoder makes these bytes".into()), "{packed}");
    let names: Vec<String> = files(&dir.path().join("carry")).into_keys().collect();
    assert_eq!(names, ["README.txt", "carry.json", "volume-001.zst"]);
    let index: serde_json::Value = serde_json::from_slice(&files(&dir.path().join("from"))["index.json"]).unwrap();
    let digest = |at: usize| index["manifests"][at]["digest"].as_str().unwrap();
    let readme = std::fs::read_to_string(dir.path().join("carry/README.txt")).unwrap();
    let expected = format!(
        "Images:\n\n    {} example.org/kernels:1\n    {} example.org/kernels:2\n    {} example.org/list:1\n\n\
         Signatures, SBOMs and attestations of them:\n\n    {}\n",
        digest(0),
        digest(1),
        digest(2),
        digest(3)
    );
    assert_eq!(readme[readme.find("Images:").unwrap()..], expected);

    let verified = done(dir.path(), &["verify", "carry"]);
    assert_eq!(verified["volumes"][0]["state"], "good");
    let unpacked = done(dir.path(), &["unpack", "carry", "--to", "oci:to"]);
    assert_same(&dir.path().join("from"), &dir.path().join("to"));
    let blobs = packed["totals"]["blobs"].clone();
    assert_eq!((&unpacked["made_blobs"], &unpacked["present_blobs"]), (&blobs, &0.into()));
    done(dir.path(), &["verify", "oci:to"]);
    let again = done(dir.path(), &["unpack", "carry", "--to", "oci:to"]);
    assert_eq!((&again["made_blobs"], &again["present_blobs"]), (&0.into(), &blobs));
    assert_same(&dir.path().join("from"), &dir.path().join("to"));
}

#[test]
fn inspect_says_which_encoder_made_each_layer() {
    let dir = tempfile::tempdir().unwrap();
    varied(&dir.path().join("from"));
    let of = |image: &str| {
        let inspected = done(dir.path(), &["inspect", "--encoder", image]);
        let layers = inspected["encoders"]["layers"].as_array().unwrap().clone();
        let told = |layer: &serde_json::Value, key: &str| layer[key].as_str().unwrap_or("-").to_owned();
        assert_eq!(inspected["encoders"]["left_out"], serde_json::json!([]));
        layers.iter().map(|layer| (told(layer, "encoder"), told(layer, "reason"))).collect::<Vec<_>>()
    };
    let known = |encoder: &str| (encoder.to_owned(), "-".to_owned());
    // The first is by GNU gzip itself, the last by nobody.
    let odd = ("-".to_owned(), "no known encoder makes these bytes".to_owned());
    assert_eq!(
        of("oci:from:example.org/list:1"),
        [known("gnu-6"), known("tar"), known("zstd"), odd],
        "an index: its images' layers, each once"
    );
    done(dir.path(), &["copy", "oci:from:example.org/kernels:2", "oci-archive:one.tar:two"]);
    let archive = haversack(dir.path(), &["inspect", "--encoder", "oci-archive:one.tar:two"]);
    let text = String::from_utf8(archive.stdout).unwrap();
    let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("encoder  ")).collect();
    let names: Vec<&str> = lines.iter().filter_map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(names, ["gnu-6", "tar"], "{text}");
    // Without the option nothing is read but documents.
    assert_eq!(done(dir.path(), &["inspect", "oci-archive:one.tar:two"])["encoders"], serde_json::Value::Null);
}

#[test]
fn a_damaged_layer_has_no_encoder_but_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::create(&dir.path().join("from")).unwrap();
    image(&layout, Some("a:1"), &[(TAR, &tar(&[("a", b"a")]))]);
    let inspected = done(dir.path(), &["inspect", "--encoder", "oci:from:a:1"]);
    let digest: haversack::digest::Digest =
        inspected["encoders"]["layers"][0]["digest"].as_str().unwrap().parse().unwrap();
    let mut bytes = std::fs::read(layout.blob_path(&digest)).unwrap();
    bytes[600] ^= 1;
    std::fs::write(layout.blob_path(&digest), bytes).unwrap();
    let told = error(dir.path(), &["inspect", "--encoder", "oci:from:a:1"]);
    assert!(told.contains(&digest.to_string()), "{told}");
}

#[test]
fn a_carry_holds_what_two_images_share_once_and_is_the_same_each_time() {
    let dir = tempfile::tempdir().unwrap();
    varied(&dir.path().join("from"));
    let pack = |out: &str| done(dir.path(), &["pack", "oci:from", "--out", out, "--no-program"]);
    let one = pack("one");
    pack("two");
    let bytes = |out: &str| files(&dir.path().join(out));
    assert!(bytes("one") == bytes("two"));
    let number = |name: &str| one["totals"][name].as_u64().unwrap();
    // The kernel that all five layers have is noise; one layer that no encoder makes travels as it is.
    assert!(number("carriedBytes") < 400_000, "{one}");
    assert!(number("blobBytes") > 1_700_000, "{one}");
}

#[test]
fn an_image_is_packed_alone_and_an_archive_whole() {
    let dir = tempfile::tempdir().unwrap();
    varied(&dir.path().join("from"));
    done(dir.path(), &["copy", "oci:from:example.org/kernels:1", "oci-archive:one.tar:example.org/kernels:1"]);
    for (reference, out) in [("oci:from:example.org/kernels:1", "one"), ("oci-archive:one.tar", "two")] {
        let packed = done(dir.path(), &["pack", reference, "--out", out, "--no-program"]);
        assert_eq!(packed["images"].as_array().unwrap().len(), 1, "{packed}");
        done(dir.path(), &["unpack", out, "--to", &format!("oci:{out}-to")]);
    }
    assert_same(&dir.path().join("one-to"), &dir.path().join("two-to"));
}

#[test]
fn two_images_that_would_have_one_tag_in_a_registry_are_refused_before_it_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let layout = Layout::create(&dir.join("from")).unwrap();
    for (name, seed) in [("quay.io/acme/app:1", 1), ("docker.io/acme/app:1", 2)] {
        image(&layout, Some(name), &[(TAR, &tar(&[("file", &text(seed, 3))]))]);
    }
    done(dir, &["pack", "oci:from", "--out", "carry", "--no-program"]);
    // Nobody listens there.
    let told = error(dir, &["unpack", "carry", "--to", "docker://127.0.0.1:1/mirror", "--retries", "0"]);
    assert_eq!(
        told,
        "docker.io/acme/app:1 and quay.io/acme/app:1 would both be 127.0.0.1:1/mirror/acme/app:1\nhint: unpack into a layout with \
         `--to oci:DIR`, and copy them from there with `haversack copy`, each to a name of its own"
    );
    // One image with two names is no contradiction.
    let layout = Layout::create(&dir.join("same")).unwrap();
    for name in ["quay.io/acme/app:1", "docker.io/acme/app:1"] {
        image(&layout, Some(name), &[(TAR, &tar(&[("file", &text(1, 3))]))]);
    }
    done(dir, &["pack", "oci:same", "--out", "same-carry", "--no-program"]);
    let told = error(dir, &["unpack", "same-carry", "--to", "docker://127.0.0.1:1/mirror", "--retries", "0"]);
    assert!(told.contains("127.0.0.1:1") && !told.contains("would both be"), "{told}");
}

#[test]
fn volumes_are_taken_one_by_one_in_any_order() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::create(&dir.path().join("from")).unwrap();
    for number in 0..3 {
        let files: Vec<(String, Vec<u8>)> =
            (0..4).map(|file| (format!("{number}/{file}"), noise(number * 10 + file, 6 << 20))).collect();
        let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (&**name, &**bytes)).collect();
        image(&layout, Some(&format!("example.org/noise:{number}")), &[(TAR, &tar(&files))]);
    }
    let packed = done(dir.path(), &["pack", "oci:from", "--out", "carry", "--medium", "32MiB", "--no-program"]);
    let volumes: Vec<&str> =
        packed["volumes"].as_array().unwrap().iter().map(|volume| volume["file"].as_str().unwrap()).collect();
    assert!(volumes.len() >= 3, "{packed}");
    for volume in &volumes {
        let size = std::fs::metadata(dir.path().join("carry").join(volume)).unwrap().len();
        assert!(size <= 32 << 20, "{volume}: {size}");
    }
    // Each medium has the document, and one volume.
    let mut left: Vec<&str> = volumes.clone();
    while let Some(volume) = left.pop() {
        let medium = dir.path().join(format!("medium-{volume}"));
        std::fs::create_dir(&medium).unwrap();
        for file in ["carry.json", volume] {
            std::fs::copy(dir.path().join("carry").join(file), medium.join(file)).unwrap();
        }
        let (status, report) = json(dir.path(), &["unpack", medium.to_str().unwrap(), "--to", "oci:to"]);
        let missing: Vec<&str> = report["missing"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
        assert_eq!((status, missing), (Some(if left.is_empty() { 0 } else { 3 }), left.clone()), "{report}");
        let is_there = Path::new(&dir.path().join("to/index.json")).exists();
        assert!(is_there);
        // Nothing is wrong meanwhile, and nothing is taken away.
        let id = report["carry"].as_str().unwrap();
        let half = format!(".carry-{id}.partial");
        let verified = done(dir.path(), &["verify", "oci:to", "--repair"]);
        let text = String::from_utf8(haversack(dir.path(), &["verify", "oci:to"]).stdout).unwrap();
        let (half_unpacked, said) = match left.is_empty() {
            true => (serde_json::Value::Null, String::new()),
            false => (
                serde_json::json!([half]),
                format!(
                    "oci:to: 0 images, 0 blobs, 0 B: nothing is wrong\ncarry {id} is half unpacked: bring its other volumes \
                     (`haversack unpack`), or remove {half} where they are not to come\n"
                ),
            ),
        };
        assert_eq!((&verified["half_unpacked"], &verified["findings"]), (&half_unpacked, &serde_json::json!([])));
        assert!(left.is_empty() || text == said, "{text}");
        assert!(!text.contains("half") || !left.is_empty(), "{text}");
    }
    assert_same(&dir.path().join("from"), &dir.path().join("to"));
}

#[test]
fn the_program_itself_is_in_the_carry_and_unpacks_it() {
    let dir = tempfile::tempdir().unwrap();
    varied(&dir.path().join("from"));
    done(dir.path(), &["pack", "oci:from", "--out", "carry"]);
    let program = dir.path().join("carry/haversack");
    assert!(std::fs::read(&program).unwrap() == std::fs::read(assert_cmd::cargo::cargo_bin!("haversack")).unwrap());
    let mut command = std::process::Command::new("./haversack");
    let output = command.args(["unpack", ".", "--to", "oci:../to"]).current_dir(dir.path().join("carry")).output();
    assert!(output.unwrap().status.success());
    assert_same(&dir.path().join("from"), &dir.path().join("to"));
    let size = std::fs::metadata(&program).unwrap().len();
    let small = (size - 1).max(32 << 20).to_string();
    let text = error(dir.path(), &["pack", "oci:from", "--out", "x", "--medium", &small]);
    assert!(text.starts_with(&format!("the program has {size} bytes")), "{text}");
}

#[test]
fn what_is_there_and_what_is_too_small_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    varied(&dir.path().join("from"));
    std::fs::create_dir(dir.path().join("carry")).unwrap();
    std::fs::write(dir.path().join("carry/mine"), "x").unwrap();
    let text = error(dir.path(), &["pack", "oci:from", "--out", "carry"]);
    assert!(text.starts_with("carry: is there already; a carry is a new directory"), "{text}");
    assert_eq!(files(&dir.path().join("carry")).len(), 1);
    for (arguments, expected) in [
        (&["pack", "oci:from", "--out", "x", "--medium", "1M"][..], "a volume has at least 32MiB"),
        (&["pack", "oci:from", "--out", "x", "--medium", "floppy"], "expected cd, dvd"),
        (&["unpack", "x", "--to", "dir:y"], "a carry is unpacked to oci:DIR"),
    ] {
        let output = haversack(dir.path(), arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && text.contains(expected), "{text}");
    }
    let left: Vec<String> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("carry") && name != "carry" || name == "x" || name == "y")
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

/// What was packed once is unpacked for ever: these files are never made anew.
#[test]
fn a_carry_of_the_second_format_is_unpacked_on_its_base() {
    let dir = tempfile::tempdir().unwrap();
    let carry = |name: &str| format!("{}/testdata/carry/format-2/{name}", env!("CARGO_MANIFEST_DIR"));
    done(dir.path(), &["unpack", &carry("base"), "--to", "oci:to"]);
    let unpacked = done(dir.path(), &["unpack", &carry("delta"), "--to", "oci:to"]);
    assert_eq!(
        unpacked["images"][0]["digest"],
        "sha256:bec6355e7067e201ad46911ef135aec4a18bae8115d75fa50c8d6e903dc7b8fa"
    );
    assert_eq!(
        (&unpacked["made_blobs"], &unpacked["made_bytes"], &unpacked["needed_blobs"]),
        (&3.into(), &140_099.into(), &1.into())
    );
    assert_eq!(unpacked["receipt"]["code"], "5YKN-ROQA-OULN-UNQH-KDAM-GHBA-KZ5D-HTH3");
    done(dir.path(), &["verify", "oci:to"]);
}

#[test]
fn a_carry_of_the_first_format_is_unpacked() {
    let dir = tempfile::tempdir().unwrap();
    let carry = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/carry/format-1");
    let unpacked = done(dir.path(), &["unpack", carry, "--to", "oci:to"]);
    assert_eq!(
        unpacked["images"][0]["digest"],
        "sha256:d16aa8d38541b47e441ed7b97a0c86cfe70a3641ab07fa00e9662d649aabe329"
    );
    assert_eq!((&unpacked["made_blobs"], &unpacked["made_bytes"]), (&4.into(), &29_060.into()));
    done(dir.path(), &["verify", "oci:to"]);
}
