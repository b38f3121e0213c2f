//! Who packed it. The judges are rcgen's keys and openssl.

use std::path::Path;
use std::process::Command;

use rcgen::KeyPair;

use crate::images::varied;
use crate::{done, error, haversack};

/// A pair of keys of another library, in files.
pub(crate) fn pair(dir: &Path, name: &str) {
    let pair = KeyPair::generate().unwrap();
    std::fs::write(dir.join(format!("{name}.key")), pair.serialize_pem()).unwrap();
    std::fs::write(dir.join(format!("{name}.pub")), pair.public_key_pem()).unwrap();
}

#[test]
fn only_what_the_key_signed_is_unpacked() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    varied(&dir.join("from"));
    pair(dir, "ours");
    pair(dir, "other");
    done(dir, &["pack", "oci:from", "--out", "carry", "--sign", "ours.key", "--no-program"]);
    done(dir, &["pack", "oci:from", "--out", "again", "--sign", "ours.key", "--no-program"]);
    assert_eq!(crate::files(&dir.join("carry")), crate::files(&dir.join("again")), "one carry, one signature");
    assert_eq!(done(dir, &["verify", "carry", "--key", "ours.pub"])["signature_checked"], true);
    assert_eq!(done(dir, &["verify", "carry"])["signature_checked"], false);

    let document = std::fs::read(dir.join("carry/carry.json")).unwrap();
    let signature = std::fs::read(dir.join("carry/carry.json.sig")).unwrap();
    let changed = String::from_utf8(document.clone()).unwrap().replace("example.org/list:1", "example.org/list:2");
    let another_key = "carry/carry.json: another key signed it, or it was changed (asked for";
    for (document, signature, key, expected) in [
        (&document[..], Some(&signature[..]), "other.pub", format!("{another_key} other.pub)")),
        (changed.as_bytes(), Some(&signature), "ours.pub", format!("{another_key} ours.pub)")),
        (&document, None, "ours.pub", "carry/carry.json: it is not signed (asked for ours.pub)".to_owned()),
        (
            &document,
            Some(b"odd"),
            "ours.pub",
            "carry/carry.json: carry.json.sig is no signature (asked for ours.pub)".into(),
        ),
        (&document, Some(&signature), "ours.key", "ours.key: no public key for P-256 in PEM".to_owned()),
    ] {
        std::fs::write(dir.join("carry/carry.json"), document).unwrap();
        match signature {
            Some(signature) => std::fs::write(dir.join("carry/carry.json.sig"), signature).unwrap(),
            None => std::fs::remove_file(dir.join("carry/carry.json.sig")).unwrap(),
        }
        for command in [&["unpack", "carry", "--to", "oci:to", "--key", key][..], &["verify", "carry", "--key", key]] {
            let told = error(dir, command);
            assert!(told.starts_with(&expected), "{told}");
            assert!(!dir.join("to").exists(), "{expected}");
        }
    }
    std::fs::write(dir.join("carry/carry.json"), &document).unwrap();
    std::fs::write(dir.join("carry/carry.json.sig"), &signature).unwrap();
    assert_eq!(done(dir, &["unpack", "carry", "--to", "oci:to", "--key", "ours.pub"])["signature_checked"], true);
    crate::assert_same(&dir.join("from"), &dir.join("to"));
}

#[test]
fn what_is_no_key_is_refused_before_anything_is_packed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    varied(&dir.join("from"));
    pair(dir, "ours");
    for bad in ["ours.pub", "from/oci-layout", "none"] {
        let told = error(dir, &["pack", "oci:from", "--out", "carry", "--sign", bad]);
        assert!(told.contains(bad), "{told}");
        assert!(!dir.join("carry").exists());
    }
}

#[test]
#[ignore = "needs openssl; scripts/test.sh runs it where that is"]
fn openssl_takes_the_signature_with_the_line_in_the_readme() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    varied(&dir.join("from"));
    let sh = |directory: &Path, line: &str| {
        let output = Command::new("sh").args(["-c", line]).current_dir(directory).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    // Both forms that openssl writes.
    for make in [
        "openssl ecparam -name prime256v1 -genkey -out k.pem",
        "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out k.pem",
    ] {
        assert!(sh(dir, make).0, "{make}");
        assert!(sh(dir, "openssl pkey -in k.pem -pubout -out pub.pem; rm -rf carry").0);
        done(dir, &["pack", "oci:from", "--out", "carry", "--sign", "k.pem", "--no-program"]);
        std::fs::copy(dir.join("pub.pem"), dir.join("carry/pub.pem")).unwrap();
        let readme = std::fs::read_to_string(dir.join("carry/README.txt")).unwrap();
        let line = readme.lines().map(str::trim).find(|line| line.starts_with("openssl dgst")).unwrap();
        assert_eq!(sh(&dir.join("carry"), line), (true, "Verified OK\n".to_owned()));
        let verified = haversack(dir, &["verify", "carry", "--key", "pub.pem"]);
        assert!(String::from_utf8(verified.stdout).unwrap().contains(", signed: "));
        // The bundle has the same signature, and the digest that openssl computes.
        let bundle = std::fs::read(dir.join("carry/carry.sigstore.json")).unwrap();
        let bundle: serde_json::Value = serde_json::from_slice(&bundle).unwrap();
        let (_, signature) = sh(&dir.join("carry"), "openssl base64 -A -in carry.json.sig");
        let (_, digest) = sh(&dir.join("carry"), "openssl dgst -sha256 -binary carry.json | openssl base64 -A");
        assert_eq!(bundle["messageSignature"]["signature"], signature);
        assert_eq!(bundle["messageSignature"]["messageDigest"]["digest"], digest);
    }
}

/// A command with a password in the environment, as cosign takes it.
fn with_password(dir: &Path, password: &str, args: &[&str]) -> std::process::Output {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("haversack"));
    command.args(args).current_dir(dir).env("HOME", dir).env("COSIGN_PASSWORD", password).output().unwrap()
}

#[test]
fn a_key_that_cosign_encrypted_signs_with_its_password_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    varied(&dir.join("from"));
    let key = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/carry/cosign/password-is-secret");
    let (private, public) = (format!("{key}.key"), format!("{key}.pub"));
    let pack = ["pack", "oci:from", "--out", "carry", "--no-program", "--sign", &private];
    let told = error(dir, &pack);
    assert!(told.starts_with(&format!("{private}: it is encrypted, and no password was given\nhint: ")), "{told}");
    let wrong = String::from_utf8(with_password(dir, "Secret", &pack).stderr).unwrap();
    assert!(wrong.contains("the password is wrong, or the key is damaged"), "{wrong}");
    assert!(!dir.join("carry").exists());
    assert!(with_password(dir, "secret", &pack).status.success());
    assert_eq!(done(dir, &["verify", "carry", "--key", &public])["signature_checked"], true);
    // The file counts more than the variable; its first line is the password, however it ends.
    std::fs::write(dir.join("password"), "secret\r\nand a second line").unwrap();
    std::fs::remove_dir_all(dir.join("carry")).unwrap();
    let file = [&pack[..], &["--sign-passphrase-file", "password"]].concat();
    assert!(with_password(dir, "Secret", &file).status.success());
    assert_eq!(done(dir, &["verify", "carry", "--key", &public])["signature_checked"], true);
}

#[test]
fn a_key_that_asks_for_all_memory_is_refused() {
    use base64::Engine as _;
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    varied(&dir.join("from"));
    for (n, r, expected) in [
        (1_u64 << 30, 8, "a key that asks for too much memory"),
        (1 << 20, 4096, "a key that asks for too much memory"),
        (65535, 8, "a key of cosign's that is damaged"),
        (0, 8, "a key of cosign's that is damaged"),
    ] {
        let key = serde_json::json!({
            "kdf": { "name": "scrypt", "params": { "N": n, "r": r, "p": 1 }, "salt": "AAAA" },
            "cipher": { "name": "nacl/secretbox", "nonce": "A".repeat(32) }, "ciphertext": "AAAA",
        });
        let body = base64::engine::general_purpose::STANDARD.encode(key.to_string());
        let label = "ENCRYPTED SIGSTORE PRIVATE KEY";
        std::fs::write(dir.join("key"), format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")).unwrap();
        let pack = ["pack", "oci:from", "--out", "carry", "--no-program", "--sign", "key"];
        let told = String::from_utf8(with_password(dir, "x", &pack).stderr).unwrap();
        assert!(told.contains(expected), "{told}");
    }
}

#[test]
#[ignore = "needs cosign; scripts/peers.sh installs it where Go is"]
fn cosign_takes_the_signature_with_the_line_in_the_readme() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    varied(&dir.join("from"));
    let cosign = |directory: &Path, args: &[&str]| {
        let output =
            Command::new("cosign").args(args).current_dir(directory).env("COSIGN_PASSWORD", "pass word").output();
        let output = output.unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert!(cosign(dir, &["generate-key-pair", "--output-key-prefix", "k"]).0);
    let pack = ["pack", "oci:from", "--out", "carry", "--no-program", "--sign", "k.key"];
    assert!(with_password(dir, "pass word", &pack).status.success());
    std::fs::copy(dir.join("k.pub"), dir.join("carry/pub.pem")).unwrap();
    let readme = std::fs::read_to_string(dir.join("carry/README.txt")).unwrap();
    let line = readme.lines().map(str::trim).find(|line| line.starts_with("cosign verify-blob")).unwrap();
    let words: Vec<&str> = line.split(' ').skip(1).collect();
    let (is_good, said) = cosign(&dir.join("carry"), &words);
    assert!(is_good && said.contains("Verified OK"), "{said}");
    // And not what was changed.
    let document = dir.join("carry/carry.json");
    let changed = std::fs::read_to_string(&document).unwrap().replace("example.org/list:1", "example.org/list:2");
    std::fs::write(&document, changed).unwrap();
    assert!(!cosign(&dir.join("carry"), &words).0);
}
