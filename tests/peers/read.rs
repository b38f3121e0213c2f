//! What others wrote, read by us: the digests are those that it had.

use crate::shop::Shop;

#[test]
#[ignore = "needs crane, oras, regctl, cosign, skopeo, podman and docker-registry; scripts/peers.sh builds the first four"]
fn every_format_of_every_program_is_read_with_its_digest() {
    let shop = Shop::open();
    let digest = shop.image("a/x:1", "x", true);
    let near = shop.near("a/x:1");
    shop.run("crane", &["pull", "--format=oci", &near, "crane"]);
    shop.run("crane", &["pull", "--format=tarball", &near, "crane.tar"]);
    shop.run("crane", &["pull", "--format=legacy", &near, "legacy.tar"]);
    shop.run("oras", &["cp", "--from-plain-http", "--to-oci-layout", &near, "oras:1"]);
    shop.run("oras", &["backup", "--plain-http", "--output", "backup.tar", &near]);
    shop.run("regctl", &["image", "export", &near, "regctl.tar"]);
    shop.run("regctl", &["image", "copy", &near, "ocidir://regctl:1"]);
    let from = format!("docker://{near}");
    for to in
        ["oci:skopeo:x", "dir:skopeo-dir", "docker-archive:skopeo.tar:localhost/x:1", "oci-archive:skopeo-oci.tar:x"]
    {
        shop.run("skopeo", &["copy", "--insecure-policy", "--src-tls-verify=false", &from, to]);
    }
    let podman = |args: &[&str]| {
        shop.run("podman", &[&["--root", "storage", "--runroot", "run", "--storage-driver", "vfs"][..], args].concat())
    };
    podman(&["pull", "-q", "--tls-verify=false", &near]);
    for format in ["docker-archive", "oci-archive", "docker-dir"] {
        podman(&["save", "-q", "--format", format, "-o", &format!("podman-{format}"), &near]);
    }
    shop.run("gzip", &["-k", "skopeo-oci.tar"]);
    // podman keeps what it decompressed: the manifest is another, of the same layers.
    let has_manifest = [
        "oci:crane",
        "oci:oras:1",
        "oci-archive:backup.tar:1",
        "oci-archive:regctl.tar",
        "oci:regctl:1",
        "oci:skopeo:x",
        "dir:skopeo-dir",
        "oci-archive:skopeo-oci.tar:x",
        "oci-archive:skopeo-oci.tar.gz:x",
    ];
    for from in has_manifest {
        let copied = shop.copy(from, &format!("docker://{}", shop.far(&format!("b/{}:1", from.len()))));
        assert_eq!(copied["digest"], digest, "{from}");
        assert_eq!(copied["referrers"], 0, "{from}");
    }
    // These keep configuration and layers only. The configuration is the image's name there: it is the same.
    let config = |at: &str| {
        let manifest: serde_json::Value = serde_json::from_str(&shop.run("crane", &["manifest", at])).unwrap();
        manifest["config"]["digest"].as_str().unwrap().to_owned()
    };
    let expected = config(&near);
    for from in [
        "docker-archive:crane.tar",
        "docker-archive:legacy.tar",
        "docker-archive:skopeo.tar",
        "docker-archive:podman-docker-archive",
        "oci-archive:podman-oci-archive",
        "dir:podman-docker-dir",
    ] {
        let at = shop.far("c/x:1");
        shop.copy(from, &format!("docker://{at}"));
        assert_eq!(config(&at), expected, "{from}");
        // `crane validate` takes every layer for one of gzip.
        if from.starts_with("dir:") {
            // podman says of a layer that it is compressed with gzip, and it is not: which `verify` finds.
            continue;
        }
        let verify = ["verify", &format!("docker://{at}"), "--tls-verify=false"];
        assert_eq!(shop.haversack(&verify)["findings"], serde_json::json!([]), "{from}");
    }
}
