//! A registry with what people have in theirs, made by the programs that make it, and those programs.

use std::path::Path;
use std::process::{Command, Output};

use assert_cmd::cargo::cargo_bin;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::docker_registry::DockerRegistry;

/// A directory that is everybody's home, and two registries without a list of referrers.
pub(crate) struct Shop {
    dir: TempDir,
    /// Where images are made.
    pub(crate) near: DockerRegistry,
    /// Where they are to be.
    pub(crate) far: DockerRegistry,
}

impl Shop {
    pub(crate) fn open() -> Self {
        let (dir, near, far) = (tempfile::tempdir().unwrap(), DockerRegistry::start(), DockerRegistry::start());
        let shop = Shop { dir, near, far };
        for registry in [&shop.near, &shop.far] {
            shop.run("regctl", &["registry", "set", "--tls", "disabled", &registry.address]);
        }
        shop.run("cosign", &["generate-key-pair"]);
        shop
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Runs a program, which has to succeed, and returns what it printed.
    pub(crate) fn run(&self, program: &str, args: &[&str]) -> String {
        let output = self.output(Command::new(program).args(args));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {args:?}: {said}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Runs haversack, which has to succeed, and returns its result.
    pub(crate) fn haversack(&self, args: &[&str]) -> Value {
        let output = self.output(Command::new(cargo_bin!("haversack")).args(args).arg("--json"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{args:?}: {}{}", text(&output.stdout), text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub(crate) fn copy(&self, from: &str, to: &str) -> Value {
        self.haversack(&["copy", from, to, "--src-tls-verify=false", "--dest-tls-verify=false"])
    }

    fn output(&self, command: &mut Command) -> Output {
        let home = self.dir.path();
        let command = command.current_dir(home).env("HOME", home).env("COSIGN_PASSWORD", "");
        command.env_remove("XDG_RUNTIME_DIR").env_remove("XDG_CONFIG_HOME").output().unwrap()
    }

    /// A reference to something at the near registry, for programs that have no transports.
    pub(crate) fn near(&self, name: &str) -> String {
        format!("{}/{name}", self.near.address)
    }

    /// The same, at the far one.
    pub(crate) fn far(&self, name: &str) -> String {
        format!("{}/{name}", self.far.address)
    }

    /// An image of one file, in Docker's schema 2 or OCI's types, by crane.
    pub(crate) fn image(&self, name: &str, content: &str, is_oci: bool) -> String {
        std::fs::create_dir_all(self.path().join("root")).unwrap();
        std::fs::write(self.path().join("root/hello"), content).unwrap();
        self.run(
            "tar",
            &["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "-C", "root", "-cf", "layer.tar", "hello"],
        );
        let at = self.near(name);
        let oci: &[&str] = if is_oci { &["--oci-empty-base"] } else { &[] };
        self.run("crane", &[&["append", "-f", "layer.tar", "-t", &at][..], oci].concat());
        let platform = if content.ends_with("arm64") { "linux/arm64" } else { "linux/amd64" };
        self.run("crane", &["mutate", "--set-platform", platform, "-t", &at, &at]);
        self.digest(&at)
    }

    /// A list of two platforms, signed by cosign both ways. Returns its digest.
    pub(crate) fn signed_list(&self, name: &str) -> String {
        let repository = name.split(':').next().unwrap();
        let [amd64, arm64] = ["amd64", "arm64"].map(|it| {
            let tag = format!("{repository}:{it}");
            self.image(&tag, it, true);
            self.near(&tag)
        });
        let at = self.near(name);
        self.run("crane", &["index", "append", "-m", &amd64, "-m", &arm64, "-t", &at]);
        self.sign(&at, true);
        self.sign(&at, false);
        self.digest(&at)
    }

    /// Attaches an SBOM with oras.
    pub(crate) fn attach_sbom(&self, name: &str) {
        std::fs::write(self.path().join("sbom.json"), "{}").unwrap();
        let attach = ["attach", "--plain-http", "--artifact-type", "example/sbom"];
        self.run("oras", &[&attach[..], &[&self.near(name), "sbom.json:application/json"]].concat());
    }

    /// Signs an image, in a bundle as cosign does by default, or under its tag.
    pub(crate) fn sign(&self, at: &str, is_bundle: bool) {
        let image = format!("{}@{}", at.rsplit_once(':').unwrap().0, self.digest(at));
        let sign = ["sign", "--key", "cosign.key", "--tlog-upload=false", "--use-signing-config=false", "-y"];
        let format = format!("--new-bundle-format={is_bundle}");
        self.run("cosign", &[&sign[..], &["--allow-http-registry", &format, &image]].concat());
    }

    /// Asks cosign whether an image is signed, in a bundle or under the tag.
    pub(crate) fn is_signed(&self, at: &str, is_bundle: bool) -> bool {
        let format = format!("--new-bundle-format={is_bundle}");
        let verify = ["verify", "--key", "cosign.pub", "--insecure-ignore-tlog", "--allow-http-registry", &format, at];
        // It looks under the tag where it finds no bundle.
        let has_bundle = || self.discovered(&["--plain-http", at]).iter().any(|it| it == BUNDLE);
        (!is_bundle || has_bundle()) && self.output(Command::new("cosign").args(verify)).status.success()
    }

    pub(crate) fn digest(&self, at: &str) -> String {
        self.run("crane", &["digest", at])
    }

    /// Pushes an image as buildx writes it, with an attestation in its index. Returns the index' digest.
    pub(crate) fn attested(&self, name: &str) -> String {
        let layout = haversack::image::Layout::create(&self.path().join("buildx")).unwrap();
        use haversack::image::store::layout::canonical;
        use oci_spec::image::MediaType;
        let image = self.image(name, "buildx amd64", true);
        let pulled = format!("docker://{}", self.near(name));
        self.copy(&pulled, "oci:buildx:image");
        let image = layout.find(Some(&image)).unwrap();
        let statement = json!({ "_type": "https://in-toto.io/Statement/v0.1", "predicateType": "https://slsa.dev/provenance/v0.2" });
        let statement =
            layout.write_blob(MediaType::from("application/vnd.in-toto+json"), &canonical(&statement)).unwrap();
        let config = json!({
            "architecture": "unknown", "os": "unknown", "config": {},
            "rootfs": { "type": "layers", "diff_ids": [statement.digest()] },
        });
        let config = layout.write_blob(MediaType::ImageConfig, &canonical(&config)).unwrap();
        let attestation = json!({
            "schemaVersion": 2, "mediaType": MediaType::ImageManifest, "config": config, "layers": [statement],
        });
        let attestation = layout.write_blob(MediaType::ImageManifest, &canonical(&attestation)).unwrap();
        let listed = |it: &oci_spec::image::Descriptor, os: &str, architecture: &str| {
            json!({
                "mediaType": it.media_type(), "digest": it.digest(), "size": it.size(),
                "platform": { "os": os, "architecture": architecture },
            })
        };
        let mut of = listed(&attestation, "unknown", "unknown");
        of["annotations"] = json!({
            "vnd.docker.reference.digest": image.digest(), "vnd.docker.reference.type": "attestation-manifest",
        });
        let index = json!({
            "schemaVersion": 2, "mediaType": MediaType::ImageIndex, "manifests": [listed(&image, "linux", "amd64"), of],
        });
        let index = layout.write_blob(MediaType::ImageIndex, &canonical(&index)).unwrap();
        layout.tag(&index, Some("list")).unwrap();
        self.run("oras", &["cp", "--from-oci-layout", "--to-plain-http", "buildx:list", &self.near(name)]);
        self.digest(&self.near(name))
    }

    /// Pushes a chart with helm. Returns its digest.
    pub(crate) fn chart(&self) -> String {
        let chart = self.path().join("chart");
        std::fs::create_dir_all(chart.join("templates")).unwrap();
        std::fs::write(chart.join("Chart.yaml"), "apiVersion: v2\nname: app\nversion: 1.0.0\n").unwrap();
        self.run("helm", &["package", "chart"]);
        self.run("helm", &["push", "--plain-http", "app-1.0.0.tgz", &format!("oci://{}", self.near("charts"))]);
        self.digest(&self.near("charts/app:1.0.0"))
    }

    /// The digests and types of what oras finds to refer to an image.
    pub(crate) fn discovered(&self, args: &[&str]) -> Vec<String> {
        let found = self.run("oras", &[&["discover", "--format", "json"][..], args].concat());
        let found: Value = serde_json::from_str(&found).unwrap();
        let mut types: Vec<String> = found["referrers"]
            .as_array()
            .map(|all| all.iter().map(|it| it["artifactType"].as_str().unwrap().to_owned()).collect())
            .unwrap_or_default();
        types.sort();
        types
    }
}

/// What cosign's bundles are called.
pub(crate) const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
