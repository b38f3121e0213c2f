//! Clients that are not ours push and pull by TLS, with a password: lists of platforms, and what refers to them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use haversack::digest::Digest;
use haversack::image::Layout;
use haversack::image::store::layout::canonical;
use oci_client::Reference;
use oci_client::client::{Client, ClientConfig};
use oci_client::secrets::RegistryAuth;
use oci_spec::image::{Descriptor, MediaType};
use serde_json::json;

use crate::conformance::go_program;
use crate::server::{Answer, Serve, arg, artifact, bytes, index, layout, manifest};

/// A server by TLS with passwords, and a layout beside with a list of two platforms and an SBOM of it.
struct Site {
    dir: tempfile::TempDir,
    serve: Serve,
    source: Layout,
    list: Descriptor,
    images: Vec<Descriptor>,
    sbom: Descriptor,
}

impl Site {
    /// `named` is what the list is called in the layout that is served, if it is to be there.
    fn start(named: Option<&str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (store, source) = (layout(dir.path(), "store"), layout(dir.path(), "source"));
        let images: Vec<Descriptor> = ["amd64", "arm64"].iter().map(|machine| unpackable(&source, machine)).collect();
        let list = index(&source, &images.iter().collect::<Vec<_>>());
        let sbom = artifact(&source, &list, "application/spdx+json", "what is in it");
        source.tag(&list, Some("list")).unwrap();
        if let Some(named) = named {
            images.iter().chain([&list]).for_each(|described| copy(&source, &store, described));
            store.tag(&list, Some(named)).unwrap();
        }
        let users = dir.path().join("users");
        std::fs::write(&users, format!("ann:{}\n", bcrypt::hash("se:cret", 4).unwrap())).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let name = format!("127.0.0.1:{port}");
        let [authority, nodes] = ["authority", "nodes"].map(|name| dir.path().join(name).to_str().unwrap().to_owned());
        let args = ["--writable", arg(&store), "--htpasswd", users.to_str().unwrap(), "--tls-self-signed", &authority];
        let named = ["--name", &name, "--mirror-config", &nodes];
        let serve = Serve::start_with(&["--listen", &name], &[&args[..], &named].concat());
        Site { dir, serve, source, list, images, sbom }
    }

    fn at(&self, name: &str) -> String {
        format!("{}/{name}", self.serve.address)
    }

    fn authority(&self) -> PathBuf {
        self.dir.path().join("authority/ca.crt")
    }

    /// A command that knows the authority, for programs of Go that have no option for it.
    fn command(&self, program: impl AsRef<Path>, args: &[&str]) -> Command {
        let mut command = Command::new(program.as_ref());
        command.args(args).current_dir(self.dir.path()).env("HOME", self.dir.path()).env_remove("DOCKER_CONFIG");
        command.env("SSL_CERT_FILE", self.authority()).env("COSIGN_PASSWORD", "");
        command
    }

    fn run(&self, program: impl AsRef<Path>, args: &[&str]) -> String {
        let output = self.command(program, args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// What a command says that has to fail.
    fn refused(&self, program: impl AsRef<Path>, args: &[&str]) -> String {
        let output = self.command(program, args).output().unwrap();
        assert!(!output.status.success(), "{args:?}: {}", said(&output));
        said(&output)
    }

    /// What curl gets for a path, as `ann`.
    fn get(&self, path: &str) -> Answer {
        let url = format!("https://{}", self.at(path.trim_start_matches('/')));
        let mut command = self.command("curl", &["-sSi", "--http1.1", "-u", "ann:se:cret", "--cacert"]);
        let output = command.arg(self.authority()).arg(&url).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        Answer::read(&mut &output.stdout[..], false)
    }

    /// Checks that a repository has the list under that tag, and every image of it; which digests are about it.
    fn holds(&self, repository: &str, tag: &str) -> Vec<String> {
        let list = self.get(&format!("/v2/{repository}/manifests/{tag}"));
        assert_eq!((list.status, &list.body), (200, &bytes(&self.source, &self.list)), "{repository}");
        for image in &self.images {
            let found = self.get(&format!("/v2/{repository}/manifests/{}", image.digest()));
            assert_eq!(found.body, bytes(&self.source, image), "{repository}");
        }
        let referrers = self.get(&format!("/v2/{repository}/referrers/{}", self.list.digest())).json();
        let digest = |it: &serde_json::Value| it["digest"].as_str().unwrap().to_owned();
        referrers["manifests"].as_array().unwrap().iter().map(digest).collect()
    }

    /// Whether a layout that a client wrote has the same bytes under the same digests.
    fn is_back(&self, directory: &str, others: &[&Descriptor]) {
        let blobs = self.dir.path().join(directory).join("blobs/sha256");
        for described in self.images.iter().chain([&self.list]).chain(others.iter().copied()) {
            let digest: Digest = described.digest().to_string().parse().unwrap();
            let found = std::fs::read(blobs.join(digest.hex())).unwrap_or_else(|error| panic!("{digest}: {error}"));
            assert_eq!(found, bytes(&self.source, described));
        }
    }
}

fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

/// An image whose layer is what its configuration says, so that engines unpack it.
fn unpackable(layout: &Layout, architecture: &str) -> Descriptor {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    let content = architecture.repeat(100_000);
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "etc/machine", content.as_bytes()).unwrap();
    let tar = tar.into_inner().unwrap();
    let mut layer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut layer, &tar).unwrap();
    let layer = layout.write_blob(MediaType::ImageLayerGzip, &layer.finish().unwrap()).unwrap();
    let rootfs = json!({ "type": "layers", "diff_ids": [Digest::sha256(&tar)] });
    let config = json!({ "architecture": architecture, "os": "linux", "rootfs": rootfs });
    let config = layout.write_blob(MediaType::ImageConfig, &canonical(&config)).unwrap();
    let mut described = manifest(layout, &json!({ "config": config, "layers": [layer] }));
    let platform = json!({ "architecture": architecture, "os": "linux" });
    described.set_platform(Some(serde_json::from_value(platform).unwrap()));
    described
}

#[test]
#[ignore = "needs go and curl; crane, from the module proxy"]
fn crane_by_tls_with_a_password() {
    let site = Site::start(None);
    let crane = go_program("github.com/google/go-containerregistry/cmd/crane@v0.22.1");
    let (to, copy) = (site.at("a/b:crane"), site.at("a/c:crane"));
    let denied = site.refused(&crane, &["push", "source", &to]);
    assert!(denied.contains("401 Unauthorized"), "{denied}");
    site.run(&crane, &["auth", "login", &site.serve.address, "-u", "ann", "-p", "se:cret"]);
    site.run(&crane, &["push", "source", &to]);
    site.holds("a/b", "crane");
    site.run(&crane, &["copy", &to, &copy]);
    site.holds("a/c", "crane");
    site.run(&crane, &["validate", "--remote", &to]);
    site.run(&crane, &["pull", "--format", "oci", &to, "back"]);
    site.is_back("back", &[]);
    assert_eq!(site.run(&crane, &["catalog", &site.serve.address]), "a/b\na/c");
    let mut untrusting = site.command(&crane, &["digest", &to]);
    let output = untrusting.env("SSL_CERT_FILE", "/dev/null").env("SSL_CERT_DIR", "/dev/null").output().unwrap();
    assert!(said(&output).contains("failed to verify certificate"), "{}", said(&output));
}

#[test]
#[ignore = "needs go and curl; oras, from the module proxy"]
fn oras_by_tls_with_a_password_and_with_what_refers() {
    let site = Site::start(None);
    site.source.tag(&site.sbom, None).unwrap();
    let oras = go_program("oras.land/oras/cmd/oras@v1.3.6");
    let (to, ca) = (site.at("a/b:oras"), site.authority());
    let ca = ca.to_str().unwrap();
    let push = ["cp", "-r", "--from-oci-layout", "source:list", "--to-ca-file", ca, &to];
    let denied = site.refused(&oras, &push);
    assert!(denied.to_lowercase().contains("basic credential not found"), "{denied}");
    let wrong = site.refused(&oras, &["login", "--ca-file", ca, "-u", "ann", "-p", "wrong", &site.serve.address]);
    assert!(wrong.contains("the password is wrong"), "{wrong}");
    site.run(&oras, &["login", "--ca-file", ca, "-u", "ann", "-p", "se:cret", &site.serve.address]);
    site.run(&oras, &push);
    assert_eq!(site.holds("a/b", "oras"), [site.sbom.digest().to_string()]);
    site.run(&oras, &["cp", "-r", "--from-ca-file", ca, &to, "--to-oci-layout", "back:list"]);
    site.is_back("back", &[&site.sbom]);
    std::fs::write(site.dir.path().join("note.txt"), "checked").unwrap();
    let attach = ["attach", "--ca-file", ca, "--artifact-type", "example/note", &to, "note.txt:text/plain"];
    site.run(&oras, &attach);
    let found = site.run(&oras, &["discover", "--ca-file", ca, "--format", "json", &to]);
    assert!(found.contains("example/note") && found.contains("application/spdx+json"), "{found}");
    assert_eq!(site.run(&oras, &["repo", "tags", "--ca-file", ca, &site.at("a/b")]), "oras");
}

#[test]
#[ignore = "needs go and curl; regctl, from the module proxy"]
fn regctl_by_tls_with_a_password_and_with_what_refers() {
    let site = Site::start(None);
    let regctl = go_program("github.com/regclient/regclient/cmd/regctl@v0.11.7");
    let (to, host) = (site.at("a/b:regctl"), site.serve.address.as_str());
    let ca = std::fs::read_to_string(site.authority()).unwrap();
    site.run(&regctl, &["registry", "set", "--skip-check", "--tls", "enabled", "--cacert", &ca, host]);
    let push = ["image", "copy", "--referrers", "ocidir://source:list", &to];
    let denied = site.refused(&regctl, &push);
    assert!(denied.contains("unauthorized"), "{denied}");
    site.run(&regctl, &["registry", "login", "-u", "ann", "-p", "se:cret", host]);
    site.run(&regctl, &push);
    assert_eq!(site.holds("a/b", "regctl"), [""; 0]);
    std::fs::write(site.dir.path().join("sbom.json"), "{}").unwrap();
    let put = ["artifact", "put", "--artifact-type", "application/spdx+json", "--subject", &to, "--file", "sbom.json"];
    site.run(&regctl, &put);
    let about = site.holds("a/b", "regctl");
    assert_eq!(about.len(), 1);
    site.run(&regctl, &["image", "copy", "--referrers", &to, &site.at("a/d:copied")]);
    assert_eq!(site.holds("a/d", "copied"), about);
    site.run(&regctl, &["image", "copy", "--referrers", &to, "ocidir://back:list"]);
    site.is_back("back", &[]);
    let hex = about[0].strip_prefix("sha256:").unwrap();
    let sbom = site.get(&format!("/v2/a/b/manifests/{}", about[0])).body;
    assert_eq!(std::fs::read(site.dir.path().join("back/blobs/sha256").join(hex)).unwrap(), sbom);
    // In small pieces, too: each is a PATCH with Content-Range.
    site.run(&regctl, &["registry", "set", "--blob-chunk", "256", "--blob-max", "256", host]);
    let (content, big) = ("in pieces ".repeat(500), site.at("a/c:chunked"));
    std::fs::write(site.dir.path().join("big.txt"), &content).unwrap();
    site.run(&regctl, &["artifact", "put", "--artifact-type", "example/big", "--file", "big.txt", &big]);
    assert_eq!(site.run(&regctl, &["artifact", "get", &big]), content.trim());
    site.serve.log_with("PATCH /v2/a/c/blobs/uploads/");
    site.run(&regctl, &["tag", "delete", &to]);
    assert_eq!(site.get("/v2/a/b/manifests/regctl").status, 404);
}

#[test]
#[ignore = "needs go, curl and skopeo; cosign, from the module proxy"]
fn cosign_signs_and_verifies_without_any_other_service() {
    let site = Site::start(None);
    let cosign = go_program("github.com/sigstore/cosign/v3/cmd/cosign@v3.1.3");
    let (ca, host) = (site.authority(), site.serve.address.as_str());
    let certs = site.dir.path().join("certs");
    std::fs::create_dir(&certs).unwrap();
    std::fs::copy(&ca, certs.join("ca.crt")).unwrap();
    let to = format!("docker://{}", site.at("a/b:1"));
    let copy = ["copy", "--all", "--dest-creds", "ann:se:cret", "--dest-cert-dir", certs.to_str().unwrap()];
    site.run("skopeo", &[&copy[..], &["oci:source:list", &to]].concat());
    site.run(&cosign, &["generate-key-pair"]);
    let image = site.at(&format!("a/b@{}", site.list.digest()));
    let registry = ["--registry-cacert", ca.to_str().unwrap()];
    // Neither a transparency log nor what sigstore's own services say is asked for.
    let offline = ["--key", "cosign.key", "--tlog-upload=false", "--use-signing-config=false", "--yes"];
    let sign = [&["sign"], &offline[..], &registry, &[&image]].concat();
    let denied = site.refused(&cosign, &sign);
    assert!(denied.contains("UNAUTHORIZED"), "{denied}");
    site.run(&cosign, &["login", "-u", "ann", "-p", "se:cret", host]);
    let by_key = ["--key", "cosign.pub", "--insecure-ignore-tlog=true", "--offline"];
    for (form, is_tag) in [("--new-bundle-format=true", false), ("--new-bundle-format=false", true)] {
        let verify = [&["verify", form], &by_key[..], &registry, &[&image]].concat();
        let unsigned = site.refused(&cosign, &verify);
        assert!(unsigned.contains("no signatures found") || unsigned.contains("no matching"), "{form}: {unsigned}");
        site.run(&cosign, &[&["sign", form], &offline[..], &registry, &[&image]].concat());
        let verified = site.run(&cosign, &verify);
        assert!(verified.contains(&site.list.digest().to_string()), "{form}: {verified}");
        // One is a referrer, the other a tag beside.
        let hex = site.list.digest().digest().to_owned();
        let beside = site.get(&format!("/v2/a/b/manifests/sha256-{hex}.sig")).status;
        let referrers = site.get(&format!("/v2/a/b/referrers/{}", site.list.digest())).json();
        assert_eq!((beside == 200, referrers["manifests"].as_array().unwrap().len()), (is_tag, 1), "{form}");
    }
    std::fs::write(site.dir.path().join("predicate.json"), "{}").unwrap();
    let attest = ["attest", "--type", "custom", "--predicate", "predicate.json", "--new-bundle-format=false"];
    site.run(&cosign, &[&attest, &offline[..], &registry, &[&image]].concat());
    let check = ["verify-attestation", "--type", "custom", "--new-bundle-format=false"];
    site.run(&cosign, &[&check, &by_key[..], &registry, &[&image]].concat());
    // Another key is not the one.
    site.run(&cosign, &["generate-key-pair", "--output-key-prefix", "other"]);
    let other = ["--key", "other.pub", "--insecure-ignore-tlog=true", "--offline", "--new-bundle-format=false"];
    site.refused(&cosign, &[&["verify"], &other[..], &registry, &[&image]].concat());
}

#[test]
#[ignore = "needs podman and curl; on overlay and on vfs"]
fn podman_logs_in_pulls_by_the_configuration_that_is_written_and_pushes() {
    let site = Site::start(Some("example.com/team/app:1"));
    let certs = site.dir.path().join("certs");
    std::fs::create_dir(&certs).unwrap();
    std::fs::copy(site.authority(), certs.join("ca.crt")).unwrap();
    let (ca, auth) = (certs.to_str().unwrap(), site.dir.path().join("auth.json"));
    std::fs::write(&auth, "{}").unwrap();
    let by_name = site.dir.path().join("nodes/registries.conf.d");
    let written: Vec<_> = std::fs::read_dir(&by_name).unwrap().map(|entry| entry.unwrap().path()).collect();
    for driver in ["overlay", "vfs"] {
        let storage = tempfile::tempdir().unwrap();
        let here = |name: &str| storage.path().join(name).display().to_string();
        let podman = |args: &[&str]| {
            let (root, run) = (here("root"), here("run"));
            let own = ["--root", &root, "--runroot", &run, "--storage-driver", driver];
            let mut command = site.command("podman", &[&own[..], args].concat());
            command.env("CONTAINERS_REGISTRIES_CONF", &written[0]).env("REGISTRY_AUTH_FILE", &auth);
            command.env_remove("SSL_CERT_FILE");
            command.env("CONTAINERS_CONF", concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/podman/containers.conf"));
            command.output().unwrap()
        };
        let done = |args: &[&str]| {
            let output = podman(args);
            assert!(output.status.success(), "{driver}: {args:?}: {}", said(&output));
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        let name = site.at("example.com/team/app:1");
        let denied = podman(&["pull", "-q", "--cert-dir", ca, &name]);
        assert!(
            !denied.status.success() && said(&denied).contains("unauthorized: log in to use this registry"),
            "{}",
            said(&denied)
        );
        let unknown = podman(&["pull", "-q", "--creds", "ann:se:cret", &name]);
        assert!(said(&unknown).contains("x509: certificate signed by unknown authority"), "{}", said(&unknown));
        done(&["login", "-u", "ann", "-p", "se:cret", "--cert-dir", ca, &site.serve.address]);
        // By the name of the origin, which is not there: this server is its mirror.
        let pulled = done(&["pull", "-q", "--cert-dir", ca, "example.com/team/app:1"]);
        let digests = done(&["image", "inspect", "--format", "{{.RepoDigests}}", &pulled]);
        assert!(digests.contains(site.list.digest().as_ref()), "{driver}: {digests}");
        assert_eq!(done(&["pull", "-q", "--cert-dir", ca, &name]), pulled);
        let to = site.at(&format!("pushed/{driver}:1"));
        done(&["push", "--cert-dir", ca, &pulled, &to]);
        let found = site.get(&format!("/v2/pushed/{driver}/manifests/1")).json();
        assert_eq!(found["config"]["digest"], format!("sha256:{pulled}"), "{driver}");
        done(&["logout", &site.serve.address]);
        done(&["rmi", "-af"]);
        if driver == "overlay" {
            let _ = Command::new("umount").arg(storage.path().join("root/overlay")).output();
        }
    }
}

/// containerd with everything of its own below a directory; it ends with the test.
struct Containerd {
    child: Child,
    socket: String,
}

impl Containerd {
    fn start(dir: &Path) -> Self {
        let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
        let (socket, config) = (path("containerd.sock"), path("containerd.toml"));
        // Neither Kubernetes nor a network is needed to pull.
        let text = "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n";
        std::fs::write(&config, text).unwrap();
        let args = ["--config", &config, "--root", &path("root"), "--state", &path("state"), "--address", &socket];
        let log = std::fs::File::create(path("containerd.log")).unwrap();
        let child = Command::new("containerd").args(args).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let containerd = Containerd { child, socket };
        let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while !Command::new("ctr").args(["-a", &containerd.socket, "version"]).output().unwrap().status.success() {
            let log = std::fs::read_to_string(path("containerd.log")).unwrap_or_default();
            assert!(std::time::Instant::now() < until, "containerd does not start: {log}");
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        containerd
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // Asked, it unmounts what it mounted.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "needs containerd, ctr and curl; a daemon of its own"]
fn containerd_pulls_by_the_configuration_that_is_written_and_pushes() {
    let site = Site::start(Some("example.com/team/app:1"));
    let nodes = site.dir.path().join("nodes");
    // The file as it is written, but for where the authority lies: it is not this test's to change /etc.
    let hosts = nodes.join("certs.d/example.com/hosts.toml");
    let text = std::fs::read_to_string(&hosts).unwrap();
    assert!(text.contains("ca = \"/etc/containerd/certs.d/example.com/ca.crt\""), "{text}");
    std::fs::write(&hosts, text.replace("/etc/containerd/certs.d", nodes.join("certs.d").to_str().unwrap())).unwrap();
    let containerd = Containerd::start(site.dir.path());
    let ctr = |args: &[&str]| site.run("ctr", &[&["-a", &containerd.socket], args].concat());
    let hosts = nodes.join("certs.d");
    let pull = ["images", "pull", "--all-platforms", "--snapshotter", "native", "--user", "ann:se:cret", "--hosts-dir"];
    ctr(&[&pull[..], &[hosts.to_str().unwrap(), "example.com/team/app:1"]].concat());
    let log = site.serve.log_with("/app/blobs/sha256:");
    assert!(log.lines().any(|line| line.contains(" ann GET ") && line.contains("ns=example.com")), "{log}");
    let listed = ctr(&["images", "ls"]);
    assert!(listed.contains(&site.list.digest().to_string()), "{listed}");
    // And back, by the server's own name.
    let (to, ca) = (site.at("pushed/app:1"), site.authority());
    // Without such a file, it takes every loopback address to be without TLS.
    let own = hosts.join(&site.serve.address);
    std::fs::create_dir_all(&own).unwrap();
    let url = format!("https://{}", site.serve.address);
    std::fs::write(own.join("hosts.toml"), format!("server = {url:?}\n[host.{url:?}]\nca = {ca:?}\n")).unwrap();
    let push = ["images", "push", "--user", "ann:se:cret", "--hosts-dir", hosts.to_str().unwrap(), &to];
    ctr(&[&push[..], &["example.com/team/app:1"]].concat());
    site.holds("pushed/app", "1");
}

/// Copies a manifest and what it needs from one layout to another.
fn copy(from: &Layout, to: &Layout, described: &Descriptor) {
    let content = bytes(from, described);
    let document: serde_json::Value = serde_json::from_slice(&content).unwrap();
    to.write_blob(described.media_type().clone(), &content).unwrap();
    for part in document["layers"].as_array().into_iter().flatten().chain(document.get("config")) {
        let part: Descriptor = serde_json::from_value(part.clone()).unwrap();
        to.write_blob(part.media_type().clone(), &bytes(from, &part)).unwrap();
    }
}

#[test]
fn oci_client_pushes_and_pulls_by_tls_with_a_password() {
    let site = Site::start(None);
    // It takes the process's.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let certificate = oci_client::client::Certificate {
        encoding: oci_client::client::CertificateEncoding::Pem,
        data: std::fs::read(site.authority()).unwrap(),
    };
    let config = || ClientConfig { tls_certs_only: vec![certificate.clone()], ..ClientConfig::default() };
    let at: Reference = site.at("a/b:1").parse().unwrap();
    let ann = RegistryAuth::Basic("ann".to_owned(), "se:cret".to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let wrong = RegistryAuth::Basic("ann".to_owned(), "wrong".to_owned());
        let denied = Client::new(config()).list_tags(&at, &wrong, None, None).await.unwrap_err().to_string();
        assert!(denied.to_lowercase().contains("not authorized") || denied.contains("401"), "{denied}");
        let client = Client::new(config());
        client.store_auth_if_needed(at.resolve_registry(), &ann).await;
        for described in site.images.iter().chain([&site.list, &site.sbom]) {
            let content = bytes(&site.source, described);
            let document: serde_json::Value = serde_json::from_slice(&content).unwrap();
            for part in document["layers"].as_array().into_iter().flatten().chain(document.get("config")) {
                let part: Descriptor = serde_json::from_value(part.clone()).unwrap();
                let (data, digest) = (bytes(&site.source, &part), part.digest().to_string());
                client.push_blob(&at, data, &digest).await.unwrap();
            }
            let to = at.clone_with_digest(described.digest().to_string());
            client.push_manifest_raw(&to, content, described.media_type().to_string().parse().unwrap()).await.unwrap();
        }
        let list = bytes(&site.source, &site.list);
        let kind = site.list.media_type().to_string();
        client.push_manifest_raw(&at, list.clone(), kind.parse().unwrap()).await.unwrap();
        let (pulled, digest) = client.pull_manifest_raw(&at, &ann, &[&kind]).await.unwrap();
        assert_eq!((pulled.to_vec(), digest), (list, site.list.digest().to_string()));
        // Its own choice of a platform, and the layer of that.
        let (image, _) = client.pull_image_manifest(&at, &ann).await.unwrap();
        let mut layer = Vec::new();
        client.pull_blob(&at, &image.layers[0], &mut layer).await.unwrap();
        assert_eq!(Digest::sha256(&layer).as_str(), image.layers[0].digest);
        let of = at.clone_with_digest(site.list.digest().to_string());
        let referrers = client.pull_referrers(&of, None).await.unwrap();
        let digests: Vec<&str> = referrers.manifests.iter().map(|it| it.digest.as_str()).collect();
        assert_eq!(digests, [site.sbom.digest().to_string()]);
        assert_eq!(client.list_tags(&at, &ann, None, None).await.unwrap().tags, ["1"]);
    });
}
