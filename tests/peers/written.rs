//! What `copy` wrote, in the hands of others.

use std::path::Path;
use std::process::Command;

use crate::shop::Shop;

/// podman with a storage of its own.
fn podman(dir: &Path, args: &[&str]) -> String {
    let storage = ["--root", "storage", "--runroot", "run", "--storage-driver", "vfs"];
    let output = Command::new("podman").args(storage).args(args).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "podman {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
#[ignore = "needs crane, oras, regctl, cosign, helm, skopeo, podman and docker-registry; scripts/peers.sh builds the first five"]
fn others_read_what_copy_wrote_of_what_people_have() {
    let shop = Shop::open();
    shop.image("a/signed:1", "signed", true);
    shop.sign(&shop.near("a/signed:1"), true);
    shop.sign(&shop.near("a/signed:1"), false);
    shop.attested("a/buildx:1");
    shop.image("a/schema2:1", "schema 2", false);
    for name in ["signed", "buildx", "schema2"] {
        let near = shop.near(&format!("a/{name}:1"));
        let (layout, archive) = (format!("{name}-layout"), format!("{name}.tar"));
        let named = format!("localhost/{name}:1");
        shop.copy(&format!("docker://{near}"), &format!("oci:{layout}:{named}"));
        shop.copy(&format!("oci:{layout}:{named}"), &format!("oci-archive:{archive}:{named}"));
        let raw = shop.run("crane", &["manifest", &near]);
        let unnamed = format!("oci-archive:{archive}");
        let by_name = [format!("oci:{layout}:{named}"), format!("oci-archive:{archive}:{named}")];
        // By its name, skopeo finds in a layout only what has OCI's types.
        let by_name = by_name.iter().filter(|_| name != "schema2");
        for place in by_name.chain([&unnamed]) {
            assert_eq!(shop.run("skopeo", &["inspect", "--raw", place]), raw, "{place}");
        }
        // By the name, as oras writes it, and as regctl does.
        let fetched = shop.run("oras", &["manifest", "fetch", "--oci-layout-path", &layout, &named]);
        assert_eq!(fetched, raw, "{name}");
        shop.run(
            "oras",
            &[
                "cp",
                "--from-oci-layout-path",
                &archive,
                "--to-plain-http",
                &named,
                &shop.far(&format!("oras/{name}:1")),
            ],
        );
        shop.run("regctl", &["image", "import", &shop.far(&format!("regctl/{name}:1")), &archive]);
        for by in ["oras", "regctl"] {
            let at = shop.far(&format!("{by}/{name}:1"));
            assert_eq!(shop.run("crane", &["manifest", &at]), raw, "{at}");
            // An attestation has a configuration of layers that it has not, to crane.
            if name != "buildx" {
                shop.run("crane", &["validate", "--remote", &at]);
            }
        }
        // What has a manifest.json is a tarball to crane, and to podman.
        shop.run("crane", &["push", &archive, &shop.far(&format!("crane/{name}:1"))]);
        shop.run("crane", &["validate", "--remote", &shop.far(&format!("crane/{name}:1"))]);
        let loaded = podman(shop.path(), &["load", "-q", "-i", &archive]);
        assert!(loaded.contains(&named), "{name}: {loaded}");
        let content = podman(shop.path(), &["image", "inspect", "--format", "{{len .RootFS.Layers}}", &named]);
        assert_eq!(content.trim(), "1", "{name}");
        if name != "buildx" {
            let docker = format!("docker-archive:{name}.docker.tar:{named}");
            shop.copy(&format!("docker://{near}"), &docker);
            assert_eq!(shop.run("skopeo", &["inspect", "--format", "{{len .Layers}}", &docker]), "1");
            podman(shop.path(), &["rmi", "-f", &named]);
            assert!(podman(shop.path(), &["load", "-q", "-i", &format!("{name}.docker.tar")]).contains(&named));
        }
    }
    // Signed when it comes back.
    shop.copy("oci-archive:signed.tar", &format!("docker://{}", shop.far("back/signed:1")));
    assert!(shop.is_signed(&shop.far("back/signed:1"), true) && shop.is_signed(&shop.far("back/signed:1"), false));
}

#[test]
#[ignore = "needs crane, regctl, cosign, helm, skopeo, podman and docker-registry; scripts/peers.sh builds the first four"]
fn two_images_and_a_chart_in_one_archive_are_what_they_are_to_everybody() {
    let shop = Shop::open();
    for name in ["one", "two"] {
        shop.image(&format!("a/{name}:1"), name, true);
        let near = format!("docker://{}", shop.near(&format!("a/{name}:1")));
        shop.copy(&near, &format!("oci-archive:all.tar:localhost/{name}:1"));
    }
    let chart = shop.chart();
    shop.copy(&format!("docker://{}", shop.near("charts/app:1.0.0")), "oci-archive:all.tar:localhost/charts/app:1.0.0");
    let loaded = podman(shop.path(), &["load", "-q", "-i", "all.tar"]);
    assert!(loaded.contains("localhost/one:1") && loaded.contains("localhost/two:1"), "{loaded}");
    assert!(!loaded.contains("charts"), "{loaded}");
    for name in ["one", "two"] {
        let place = format!("oci-archive:all.tar:localhost/{name}:1");
        assert_eq!(
            shop.run("skopeo", &["inspect", "--raw", &place]),
            shop.run("crane", &["manifest", &shop.near(&format!("a/{name}:1"))])
        );
    }
    // An image with a chart beside it is the first.
    shop.copy("oci-archive:all.tar:localhost/charts/app:1.0.0", "oci-archive:both.tar:charts/app:1.0.0");
    shop.copy("oci-archive:all.tar:localhost/one:1", "oci-archive:both.tar:localhost/one:1");
    let loaded = podman(shop.path(), &["load", "-q", "-i", "both.tar"]);
    assert!(loaded.contains("localhost/one:1") && !loaded.contains("charts"), "{loaded}");
    // And helm takes it from where it was copied to.
    shop.copy("oci-archive:both.tar:charts/app:1.0.0", &format!("docker://{}", shop.far("charts/app:1.0.0")));
    assert_eq!(shop.digest(&shop.far("charts/app:1.0.0")), chart);
    std::fs::create_dir(shop.path().join("pulled")).unwrap();
    let pull =
        ["pull", "--plain-http", &format!("oci://{}", shop.far("charts/app")), "--version", "1.0.0", "-d", "pulled"];
    shop.run("helm", &pull);
    let read = |name: &str| std::fs::read(shop.path().join(name)).unwrap();
    assert_eq!(read("pulled/app-1.0.0.tgz"), read("app-1.0.0.tgz"));
}
