//! Signatures and SBOMs, however programs keep them.

use crate::shop::{BUNDLE, Shop};

#[test]
#[ignore = "needs crane, oras, regctl, cosign and docker-registry; scripts/peers.sh builds the first four"]
fn a_signed_list_with_an_sbom_goes_through_every_place_and_all_programs_find_what_refers_to_it() {
    let shop = Shop::open();
    let digest = shop.signed_list("a/x:1");
    shop.attach_sbom("a/x:1");
    let mut from = format!("docker://{}", shop.near("a/x:1"));
    for to in ["oci:layout:x", "oci-archive:x.tar:x", "oci:again:x", &format!("docker://{}", shop.far("b/x:1"))] {
        let copied = shop.copy(&from, to);
        assert_eq!((copied["digest"].as_str(), &copied["referrers"]), (Some(&*digest), &3.into()), "{from} -> {to}");
        assert_eq!(shop.haversack(&["verify", to, "--tls-verify=false"])["findings"], serde_json::json!([]), "{to}");
        from = to.to_owned();
    }
    let at = shop.far("b/x:1");
    assert_eq!(shop.digest(&at), digest);
    shop.run("crane", &["validate", "--remote", &at]);
    assert_eq!(shop.discovered(&["--plain-http", &at]), [BUNDLE, "example/sbom"]);
    assert!(shop.is_signed(&at, true) && shop.is_signed(&at, false));
    assert!(!shop.is_signed(&shop.near("a/x:amd64"), false));
    // In the layout.
    assert_eq!(shop.discovered(&["--oci-layout", "layout:x"]), [BUNDLE, "example/sbom"]);
    let tree = shop.run("regctl", &["artifact", "tree", "ocidir://layout:x"]);
    assert!(tree.contains(BUNDLE) && tree.contains("example/sbom"), "{tree}");
    // cosign loads it, too, as long as there is no bundle: such a manifest it sends before its blobs, which registries refuse.
    let tagged = shop.image("a/tagged:1", "tagged", true);
    shop.sign(&shop.near("a/tagged:1"), false);
    shop.copy(&format!("docker://{}", shop.near("a/tagged:1")), "oci:tagged:x");
    shop.run("cosign", &["load", "--dir", "tagged", "--allow-http-registry", &shop.far("c/x:1")]);
    assert_eq!(shop.digest(&shop.far("c/x:1")), tagged);
    assert!(shop.is_signed(&shop.far("c/x:1"), false));
    // By these programs, from there.
    shop.run("regctl", &["image", "copy", "--referrers", "--digest-tags", "ocidir://layout:x", &shop.far("d/x:1")]);
    assert!(shop.is_signed(&shop.far("d/x:1"), true) && shop.is_signed(&shop.far("d/x:1"), false));
    shop.run("oras", &["cp", "-r", "--from-oci-layout", "--to-plain-http", "layout:x", &shop.far("e/x:1")]);
    assert!(shop.is_signed(&shop.far("e/x:1"), true));
}

#[test]
#[ignore = "needs crane, oras, regctl, cosign and docker-registry; scripts/peers.sh builds the first four"]
fn what_cosign_regctl_and_oras_saved_arrives_with_what_refers_to_it() {
    let shop = Shop::open();
    let digest = shop.signed_list("a/x:1");
    shop.attach_sbom("a/x:1");
    let near = shop.near("a/x:1");
    shop.run("cosign", &["save", "--dir", "cosign", "--allow-http-registry", &near]);
    shop.run("regctl", &["image", "copy", "--referrers", "--digest-tags", &near, "ocidir://regctl:1"]);
    shop.run("oras", &["cp", "-r", "--from-plain-http", "--to-oci-layout", &near, "oras:1"]);
    shop.run("oras", &["backup", "--plain-http", "--include-referrers", "--output", "backup.tar", &near]);
    for (from, referrers, is_bundled, is_tagged) in [
        ("oci:cosign", 1, false, true),
        ("oci:regctl:1", 3, true, true),
        ("oci:oras:1", 2, true, false),
        ("oci-archive:backup.tar:1", 2, true, false),
    ] {
        let name = format!("b/{}:1", from.split(':').nth(1).unwrap());
        let to = format!("docker://{}", shop.far(&name));
        // In one step, and with a layout of ours between.
        for through in ["", "oci:ours:x"] {
            let copied = match through {
                "" => shop.copy(from, &to),
                through => {
                    let _ = std::fs::remove_dir_all(shop.path().join("ours"));
                    shop.copy(from, through);
                    shop.copy(through, &to.replace("/b/", "/c/"))
                }
            };
            assert_eq!(
                (copied["digest"].as_str(), &copied["referrers"]),
                (Some(&*digest), &referrers.into()),
                "{from}"
            );
        }
        for at in [shop.far(&name), shop.far(&name).replace("/b/", "/c/")] {
            assert_eq!(
                (shop.is_signed(&at, true), shop.is_signed(&at, false)),
                (is_bundled, is_tagged),
                "{from}: {at}"
            );
        }
    }
}

#[test]
#[ignore = "needs crane, oras, regctl, cosign and docker-registry; scripts/peers.sh builds the first four"]
fn a_referrer_that_is_copied_by_itself_is_found_under_what_it_refers_to() {
    let shop = Shop::open();
    shop.signed_list("a/x:1");
    shop.attach_sbom("a/x:1");
    let near = format!("docker://{}", shop.near("a/x:1"));
    let far = format!("docker://{}", shop.far("b/x:1"));
    shop.haversack(&["copy", &near, &far, "--no-referrers", "--src-tls-verify=false", "--dest-tls-verify=false"]);
    assert_eq!(shop.discovered(&["--plain-http", &shop.far("b/x:1")]), [""; 0]);
    let found = shop.run("oras", &["discover", "--plain-http", "--format", "json", &shop.near("a/x:1")]);
    let found: serde_json::Value = serde_json::from_str(&found).unwrap();
    let sbom = found["referrers"].as_array().unwrap().iter().find(|it| it["artifactType"] == "example/sbom").unwrap();
    let digest = sbom["digest"].as_str().unwrap();
    let repository = |at: &str| at.rsplit_once(':').unwrap().0.to_owned();
    // To a digest: it gets no tag.
    let to = format!("{}@{digest}", repository(&far));
    let copied = shop.copy(&format!("{}@{digest}", repository(&near)), &to);
    assert_eq!(copied["digest"], digest);
    assert_eq!(shop.discovered(&["--plain-http", &shop.far("b/x:1")]), ["example/sbom"]);
    let tags = shop.run("crane", &["ls", &shop.far("b/x")]);
    let plain: Vec<&str> = tags.lines().filter(|tag| !tag.starts_with("sha256-")).collect();
    assert_eq!(plain, ["1"]);
}
