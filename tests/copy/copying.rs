//! Copies between a real registry, layouts and archives.

use std::process::{Command, Stdio};
use std::time::Duration;

use assert_cmd::cargo::cargo_bin;
use haversack::digest::Digest;

use crate::real::{Real, certificates, large, two_platforms};
use crate::{clean, done, error, haversack};

#[test]
#[ignore = "needs docker-registry and skopeo; scripts/test.sh runs it where they are"]
fn index_and_referrers_go_from_registry_to_archive_to_registry_with_their_digests() {
    let (one, two, dir) = (Real::start(), Real::start(), tempfile::tempdir().unwrap());
    let digest = two_platforms(dir.path());
    let insecure = ["--src-tls-verify=false", "--dest-tls-verify=false", "--json"];
    let copy = |from: &str, to: &str| done(&haversack(dir.path(), &[&["copy", from, to], &insecure[..]].concat()));
    let steps = [
        ("oci:store:x".to_owned(), one.at("team/x:1")),
        (one.at("team/x:1"), "oci-archive:x.tar:x".to_owned()),
        ("oci-archive:x.tar:x".to_owned(), two.at("far/side:2")),
        (two.at("far/side:2"), "oci:back:x".to_owned()),
    ];
    for (from, to) in &steps {
        let report = copy(from, to);
        assert_eq!((&report["digest"], &report["referrers"]), (&digest.clone().into(), &1.into()), "{from} -> {to}");
    }
    assert_eq!(copy(&steps[2].0, &steps[2].1)["sent_blobs"], 0);
    // In the same registry, blobs need not travel at all.
    let mounted = copy(&two.at("far/side:2"), &two.at("far/other:3"));
    assert_eq!((&mounted["sent_blobs"], &mounted["digest"]), (&0.into(), &digest.clone().into()));
    for place in ["oci:store", "oci:back", "oci-archive:x.tar"] {
        let output = haversack(dir.path(), &["verify", place]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    let names = |store: &str| {
        let mut names: Vec<_> = std::fs::read_dir(dir.path().join(store).join("blobs/sha256"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        names
    };
    // And the list of what refers to it, for those who look there.
    let back = haversack::image::Layout::open(&dir.path().join("back")).unwrap();
    let list = back.find(Some(&digest.replace(':', "-"))).unwrap().digest().to_string();
    let but_the_list = names("back").into_iter().filter(|name| !list.ends_with(name.to_str().unwrap()));
    assert_eq!(names("store"), but_the_list.collect::<Vec<_>>());
    let far = two.at("far/side:2");
    let seen = done(&haversack(dir.path(), &["inspect", "--json", "--tls-verify=false", &far]));
    let platforms: Vec<_> =
        seen["images"].as_array().unwrap().iter().map(|image| image["platform"].as_str().unwrap()).collect();
    assert_eq!((&seen["digest"], platforms), (&digest.clone().into(), vec!["linux/amd64", "linux/arm64"]));
    assert_eq!(seen["referrers"].as_array().unwrap().len(), 1);
    let skopeo =
        Command::new("skopeo").args(["inspect", "--raw", "--tls-verify=false", &two.at("far/side:2")]).output();
    assert_eq!(Digest::sha256(skopeo.unwrap().stdout).to_string(), digest);
}

#[test]
#[ignore = "needs docker-registry and openssl; scripts/test.sh runs it where they are"]
fn a_registry_gets_the_client_certificate_that_lies_in_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    two_platforms(dir.path());
    let at = |name: &str| dir.path().join(name).display().to_string();
    let registry = Real::with(&format!(
        "  tls: {{certificate: {}, key: {}, clientcas: [{}]}}\n",
        at("server.pem"),
        at("server.key"),
        at("ca.pem")
    ));
    let to = registry.at("x:1");
    let copy = |options: &[&str]| {
        haversack(dir.path(), &[&["copy", "oci:store:x", &to, "--json", "--retries=0"], options].concat())
    };
    let host = dir.path().join("certs.d").join(&registry.address);
    std::fs::create_dir_all(&host).unwrap();
    let place = |name: &str, from: &str| assert!(std::fs::copy(dir.path().join(from), host.join(name)).unwrap() > 0);

    let untrusted = error(&copy(&["--cert-dir=certs.d"]));
    assert!(untrusted.starts_with(&format!("{}: TLS certificate not trusted", registry.address)), "{untrusted}");
    place("ca.crt", "ca.pem");
    let unknown = error(&copy(&["--cert-dir=certs.d"]));
    assert!(unknown.contains(&registry.address), "{unknown}");
    place("me.cert", "client.pem");
    let half = error(&copy(&["--cert-dir=certs.d"]));
    assert!(half.contains("me.key is not there\nhint: a client certificate is a NAME.cert and"), "{half}");
    place("me.key", "client.key");
    assert_eq!(done(&copy(&["--cert-dir=certs.d"]))["sent_blobs"], 7);

    // Without checks, for this registry alone; the certificate is shown all the same.
    std::fs::remove_file(host.join("ca.crt")).unwrap();
    assert_eq!(done(&copy(&["--cert-dir=certs.d", "--dest-tls-verify=false"]))["sent_blobs"], 0);
    error(&copy(&["--cert-dir=certs.d", "--src-tls-verify=false"]));

    // And from where podman keeps it.
    place("ca.crt", "ca.pem");
    std::fs::create_dir_all(dir.path().join(".config/containers")).unwrap();
    std::fs::rename(dir.path().join("certs.d"), dir.path().join(".config/containers/certs.d")).unwrap();
    assert_eq!(done(&copy(&[]))["sent_blobs"], 0);
}

#[test]
#[ignore = "needs docker-registry; scripts/test.sh runs it where it is"]
fn a_platform_that_was_asked_for_comes_alone_and_the_index_says_so() {
    let (registry, dir) = (Real::start(), tempfile::tempdir().unwrap());
    let digest = two_platforms(dir.path());
    let to = registry.at("x:1");
    let arguments = ["copy", "oci:store:x", &to, "--dest-tls-verify=false", "--json", "--platform"];
    let report = done(&haversack(dir.path(), &[&arguments[..], &["linux/arm64"]].concat()));
    assert_ne!(report["digest"], digest);
    assert_eq!(
        (&report["rewritten"], &report["documents"], &report["sent_blobs"]),
        (&true.into(), &2.into(), &3.into())
    );
    let missing = error(&haversack(dir.path(), &[&arguments[..], &["linux/s390x"]].concat()));
    assert_eq!(missing, "no image for linux/s390x in it; it has linux/amd64, linux/arm64");
}

#[test]
#[ignore = "needs docker-registry; scripts/test.sh runs it where it is"]
fn a_broken_blob_is_refused_and_its_file_is_named() {
    let (registry, dir) = (Real::start(), tempfile::tempdir().unwrap());
    two_platforms(dir.path());
    let layout = haversack::image::Layout::open(&dir.path().join("store")).unwrap();
    let other = Digest::sha256(b"an SBOM");
    std::fs::write(layout.blob_path(&other), b"an sbom").unwrap();
    let to = registry.at("x:1");
    let copy = ["copy", "oci:store:x", &to, "--dest-tls-verify=false"];
    // An SBOM is no part of the image.
    let output = haversack(dir.path(), &copy);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(
        said.contains(&format!(" left out: store/blobs/sha256/{}: expected {other}, found sha256:", other.hex())),
        "{said}"
    );
    // A layer is.
    let image = layout.find(Some("x")).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&layout.read_document(&image).unwrap()).unwrap();
    let manifest: Digest = index["manifests"][0]["digest"].as_str().unwrap().parse().unwrap();
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(layout.blob_path(&manifest)).unwrap()).unwrap();
    let layer: Digest = manifest["layers"][0]["digest"].as_str().unwrap().parse().unwrap();
    let mut bytes = std::fs::read(layout.blob_path(&layer)).unwrap();
    bytes[0] ^= 1;
    std::fs::write(layout.blob_path(&layer), bytes).unwrap();
    let to = Real::start();
    let error = error(&haversack(dir.path(), &["copy", "oci:store:x", &to.at("x:1"), "--dest-tls-verify=false"]));
    let file = format!("store/blobs/sha256/{}", layer.hex());
    assert!(error.contains(&format!("{file}: expected {layer}, found sha256:")), "{error}");
    assert!(error.contains("hint: what it was read from is damaged: `haversack verify`"), "{error}");
}

#[test]
#[ignore = "needs docker-registry; scripts/test.sh runs it where it is"]
fn a_copy_that_is_killed_any_time_leaves_a_layout_that_the_next_one_completes() {
    let (registry, dir) = (Real::start(), tempfile::tempdir().unwrap());
    large(dir.path(), 12, 2 << 20);
    let at = registry.at("x:1");
    done(&haversack(dir.path(), &["copy", "oci:from:x", &at, "--dest-tls-verify=false", "--json"]));
    let mut interrupted = 0;
    for milliseconds in (5..).step_by(15).take(12) {
        let mut child = Command::new(cargo_bin!("haversack"))
            .args(["copy", &at, "oci:store:x", "--src-tls-verify=false", "--parallel=2", "--quiet"])
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(milliseconds));
        child.kill().unwrap();
        interrupted += usize::from(!child.wait().unwrap().success());
    }
    assert!(interrupted > 0, "no copy was interrupted");
    let report = done(&haversack(dir.path(), &["copy", &at, "oci:store:x", "--src-tls-verify=false", "--json"]));
    assert!(report["present_blobs"].as_u64() > Some(0), "{report}");
    clean(dir.path());
}

#[test]
#[ignore = "needs docker-registry; scripts/test.sh runs it where it is"]
fn a_build_is_pushed_under_its_tags_and_is_the_base_of_another() {
    let (registry, dir) = (Real::start(), tempfile::tempdir().unwrap());
    two_platforms(dir.path());
    let to = registry.at("base");
    let arguments = ["build", "def", "--push", &to, "--dest-tls-verify=false", "--json", "--platform=linux/amd64"];
    let built = done(&haversack(dir.path(), &[&arguments[..], &["--binary=linux/amd64=other"]].concat()))[0].clone();
    assert_eq!(built["output"], serde_json::json!([registry.at("base:latest")]));

    std::fs::create_dir(dir.path().join("over")).unwrap();
    let text = format!("name = 'over'\nbase = '{}'\n[[layers]]\nremove = ['/y']\n", registry.at("base:latest"));
    std::fs::write(dir.path().join("over/image.toml"), text).unwrap();
    let arguments =
        ["build", "over", "-o", "oci:over.oci", "--src-tls-verify=false", "--json", "--platform=linux/amd64"];
    done(&haversack(dir.path(), &arguments));
    let seen = done(&haversack(dir.path(), &["inspect", "--json", "oci:over.oci"]));
    assert_eq!(seen["annotations"]["org.opencontainers.image.base.digest"], built["digest"]);
    assert_eq!(seen["images"][0]["layers"].as_array().unwrap().len(), 3);
    assert!(haversack(dir.path(), &["verify", "oci:over.oci"]).status.success());
}

#[test]
#[ignore = "needs docker-registry, skopeo and podman; scripts/test.sh runs it where they are"]
fn podman_and_skopeo_see_the_digest_on_the_far_side_that_the_image_had_on_the_near_one() {
    let (one, two, dir) = (Real::start(), Real::start(), tempfile::tempdir().unwrap());
    let digest = two_platforms(dir.path());
    for (from, to) in [
        ("oci:store:x".to_owned(), one.at("team/x:1")),
        (one.at("team/x:1"), "oci-archive:x.tar:x".to_owned()),
        ("oci-archive:x.tar:x".to_owned(), two.at("far/x:1")),
    ] {
        let insecure = ["--src-tls-verify=false", "--dest-tls-verify=false", "--json"];
        assert_eq!(done(&haversack(dir.path(), &[&["copy", &from, &to], &insecure[..]].concat()))["digest"], digest);
    }
    let output = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).current_dir(dir.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let far = format!("{}/far/x", two.address);
    let (tagged, by_digest) = (format!("{far}:1"), format!("{far}@{digest}"));
    for name in [&tagged, &by_digest] {
        let seen =
            output("skopeo", &["inspect", "--tls-verify=false", "--format={{.Digest}}", &format!("docker://{name}")]);
        assert_eq!(seen.trim(), digest);
    }
    // Storage of its own, which goes away.
    let storage = ["--root=storage", "--runroot=run", "--storage-driver=vfs"].map(|option| {
        let (name, value) = option.split_once('=').unwrap();
        if value == "vfs" { option.to_owned() } else { format!("{name}={}", dir.path().join(value).display()) }
    });
    let storage: Vec<&str> = storage.iter().map(String::as_str).collect();
    let podman = |arguments: &[&str]| output("podman", &[&storage[..], arguments].concat());
    podman(&["pull", "--quiet", "--tls-verify=false", &tagged]);
    let digests = podman(&["image", "inspect", "--format={{json .RepoDigests}}", &tagged]);
    assert!(digests.contains(&by_digest), "{digests}");
    podman(&["pull", "--quiet", "--tls-verify=false", &by_digest]);
}
