//! Clients that are not ours push to it and pull from it.

use std::path::Path;
use std::process::{Command, Output};

use haversack::digest::Digest;

use crate::conformance::go_program;
use crate::server::{Serve, arg, bytes, image, index, layout};

fn run(program: impl AsRef<std::ffi::OsStr>, dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(program.as_ref());
    let output = command.args(args).current_dir(dir).env("HOME", dir).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{:?} {args:?}: {}{}",
        program.as_ref(),
        text(&output.stdout),
        text(&output.stderr)
    );
    output
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap().trim().to_owned()
}

#[test]
#[ignore = "needs skopeo; it copies whole images and their lists to and fro"]
fn skopeo_copies_there_and_back_without_a_changed_byte() {
    let dir = tempfile::tempdir().unwrap();
    let (store, source) = (layout(dir.path(), "store"), layout(dir.path(), "source"));
    let (amd64, arm64) = (image(&source, &vec![1; 3 << 20]), image(&source, b"arm64"));
    let list = index(&source, &[&amd64, &arm64]);
    source.tag(&list, Some("list")).unwrap();
    let serve = Serve::start(&["--writable", arg(&store)]);
    let at = format!("docker://{}/quay.io/org/app:1", serve.address);
    run(
        "skopeo",
        dir.path(),
        &["copy", "--all", "--preserve-digests", "--dest-tls-verify=false", "oci:source:list", &at],
    );
    // Its blobs are mounted from the first.
    let other = format!("docker://{}/quay.io/org/other:1", serve.address);
    run(
        "skopeo",
        dir.path(),
        &["copy", "--all", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false", &at, &other],
    );
    for at in [&at, &other] {
        let raw = run("skopeo", dir.path(), &["inspect", "--raw", "--tls-verify=false", at]);
        assert_eq!(raw.stdout, bytes(&source, &list));
    }
    run("skopeo", dir.path(), &["copy", "--all", "--preserve-digests", "--src-tls-verify=false", &at, "oci:back:list"]);
    for described in [&list, &amd64, &arm64] {
        let digest: Digest = described.digest().to_string().parse().unwrap();
        let back = dir.path().join("back/blobs/sha256").join(digest.hex());
        assert_eq!(std::fs::read(back).unwrap(), bytes(&source, described));
    }
    let repository = at.strip_suffix(":1").unwrap();
    let tags = run("skopeo", dir.path(), &["list-tags", "--tls-verify=false", repository]);
    assert!(text(&tags).contains("\"1\""), "{tags:?}");
    run("skopeo", dir.path(), &["delete", "--tls-verify=false", &other]);
    let gone = serve.head("/v2/quay.io/org/other/manifests/1");
    assert_eq!(gone.status, 404);
    // Our own client, from the registry and from the layout.
    let haversack = assert_cmd::cargo::cargo_bin!("haversack");
    for (from, to) in [(at.as_str(), "oci:ours:x"), ("oci:store:quay.io/org/app:1", "oci:ours:y")] {
        let copied = run(haversack, dir.path(), &["copy", "--src-tls-verify=false", from, to]);
        assert!(text(&copied).contains(list.digest().as_ref()), "{copied:?}");
    }
}

#[test]
#[ignore = "needs podman; it builds, pushes and pulls by name and as a mirror"]
fn podman_pushes_and_pulls_by_name_and_as_a_mirror() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    let serve = Serve::start(&["--writable", arg(&store)]);
    let at = format!("{}/example.com/team/app:1", serve.address);
    std::fs::write(dir.path().join("hello"), "hello").unwrap();
    std::fs::write(dir.path().join("Containerfile"), "FROM scratch\nCOPY hello /hello\n").unwrap();
    let conf = dir.path().join("registries.conf");
    let mirror = format!(
        "[[registry]]\nprefix = \"example.com\"\nlocation = \"example.com\"\n\
         [[registry.mirror]]\nlocation = \"{0}/example.com\"\ninsecure = true\n",
        serve.address
    );
    std::fs::write(&conf, mirror).unwrap();
    let storage = ["--root", "root", "--runroot", "runroot", "--storage-driver", "vfs"];
    let podman = |args: &[&str]| {
        let mut command = Command::new("podman");
        command.args(storage).args(args).current_dir(dir.path()).env("CONTAINERS_REGISTRIES_CONF", &conf);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        text(&output)
    };
    podman(&["build", "-q", "-t", &at, "."]);
    podman(&["push", "--tls-verify=false", &at]);
    let digest = serve.head("/v2/example.com/team/app/manifests/1").header("docker-content-digest").to_owned();
    podman(&["rmi", "-af"]);
    let pulled = podman(&["pull", "-q", "--tls-verify=false", &at]);
    podman(&["rmi", "-af"]);
    // The origin is not there; the mirror answers.
    assert_eq!(podman(&["pull", "-q", "example.com/team/app:1"]), pulled);
    podman(&["rmi", "-af"]);
    assert_eq!(podman(&["pull", "-q", &format!("example.com/team/app@{digest}")]), pulled);
}

#[test]
#[ignore = "needs skopeo; it finds an image by the file that is written for it"]
fn skopeo_finds_images_with_the_configuration_that_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    store.tag(&image(&store, b"not a real layer"), Some("example.com/team/app:1")).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let name = format!("127.0.0.1:{port}");
    let serve =
        Serve::start(&[arg(&store), "--name", &name, "--mirror-config", dir.path().join("nodes").to_str().unwrap()]);
    serve.log_with("registries.conf.d/50-haversack.conf");
    drop(serve);
    let address = ["--listen", &name];
    let serve = Serve::start_with(&address, &[arg(&store)]);
    assert_eq!(serve.address, name);
    let conf = dir.path().join("nodes/registries.conf.d/50-haversack.conf");
    let output = Command::new("skopeo")
        .args(["--registries-conf", conf.to_str().unwrap()])
        .args(["inspect", "--raw", "docker://example.com/team/app:1"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serve.log_with("GET /v2/example.com/team/app/manifests/1 200");
}

#[test]
#[ignore = "needs go; crane, oras and regctl, from its module proxy"]
fn crane_oras_and_regctl_push_pull_and_list() {
    let dir = tempfile::tempdir().unwrap();
    let (store, source) = (layout(dir.path(), "store"), layout(dir.path(), "source"));
    let one = image(&source, &vec![1; 3 << 20]);
    source.tag(&index(&source, &[&one]), Some("list")).unwrap();
    let serve = Serve::start(&["--writable", arg(&store)]);
    let host = &serve.address;
    let crane = go_program("github.com/google/go-containerregistry/cmd/crane@v0.22.1");
    let to = format!("{host}/a/b:crane");
    run(&crane, dir.path(), &["push", "--insecure", "source", &to]);
    let digest = text(&run(&crane, dir.path(), &["digest", "--insecure", &to]));
    run(&crane, dir.path(), &["copy", "--insecure", &to, &format!("{host}/a/c:copied")]);
    assert_eq!(text(&run(&crane, dir.path(), &["digest", "--insecure", &format!("{host}/a/c:copied")])), digest);
    assert_eq!(text(&run(&crane, dir.path(), &["catalog", "--insecure", host])), "a/b\na/c");
    run(&crane, dir.path(), &["validate", "--fast", "--insecure", "--remote", &to]);
    assert_eq!(text(&run(&crane, dir.path(), &["ls", "--insecure", &format!("{host}/a/b")])), "crane");

    let oras = go_program("oras.land/oras/cmd/oras@v1.3.6");
    std::fs::write(dir.path().join("sbom.json"), "{}").unwrap();
    let attach = ["attach", "--plain-http", "--artifact-type", "example/sbom", &to, "sbom.json:application/json"];
    run(&oras, dir.path(), &attach);
    let found = text(&run(&oras, dir.path(), &["discover", "--plain-http", "--format", "json", &to]));
    assert!(found.contains("example/sbom"), "{found}");
    // No fallback tag: the list of referrers is used.
    assert_eq!(text(&run(&oras, dir.path(), &["repo", "tags", "--plain-http", &format!("{host}/a/b")])), "crane");
    run(&oras, dir.path(), &["cp", "-r", "--from-plain-http", "--to-oci-layout", &to, "copied:x"]);

    let regctl = go_program("github.com/regclient/regclient/cmd/regctl@v0.11.7");
    run(&regctl, dir.path(), &["registry", "set", "--tls", "disabled", host]);
    run(&regctl, dir.path(), &["image", "copy", "--referrers", &to, &format!("{host}/a/d:1")]);
    let list = text(&run(&regctl, dir.path(), &["artifact", "list", &format!("{host}/a/d:1")]));
    assert!(list.contains("example/sbom"), "{list}");
    run(&regctl, dir.path(), &["tag", "delete", &format!("{host}/a/d:1")]);
    assert_eq!(serve.head("/v2/a/d/manifests/1").status, 404);
}
