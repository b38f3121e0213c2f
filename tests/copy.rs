//! `haversack copy` against registries that misbehave in one way each, and against a real one.

use std::collections::HashMap;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use haversack::digest::Digest;
use tempfile::TempDir;

/// A registry with one image, `r/i:1`, that answers as its quirk says and remembers what it was asked.
struct Quirky {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
    blobs: Arc<HashMap<String, Vec<u8>>>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Clone)]
enum Quirk {
    None,
    /// Breaks off the first answers with a large blob half-way.
    BreaksOff {
        times: usize,
        ranges: bool,
    },
    /// One byte of the blob is another.
    WrongByte,
    /// Says that the blob is longer than it is described.
    MoreBytes,
    /// Sends blobs from another host, for whoever has the password.
    Redirects {
        to: String,
    },
    /// Wants a token, and a password for the token.
    Token,
    /// Answers with a web page.
    Html,
    /// Has a manifest of more than 4 MiB.
    HugeManifest,
    /// Its manifest is not the one that was asked for.
    WrongManifest,
    /// Says 503 twice before it answers.
    Busy,
}

#[derive(Clone)]
struct Shared {
    quirk: Quirk,
    asked: Arc<Mutex<Vec<String>>>,
    blobs: Arc<HashMap<String, Vec<u8>>>,
    address: String,
}

const LAYER_SIZE: usize = 300_000;

impl Quirky {
    fn start(quirk: Quirk) -> Self {
        let layer: Vec<u8> = (0..LAYER_SIZE).map(|n| u8::try_from(n * n % 251).unwrap()).collect();
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
            Digest::sha256(&layer)
        );
        let describe = |media_type: &str, bytes: &[u8]| {
            let (digest, size) = (Digest::sha256(bytes), bytes.len());
            serde_json::json!({ "mediaType": format!("application/vnd.oci.image.{media_type}"), "digest": digest, "size": size })
        };
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": describe("config.v1+json", config.as_bytes()),
            "layers": [describe("layer.v1.tar", &layer)],
            "annotations": if matches!(quirk, Quirk::HugeManifest) { HashMap::from([("x", "x".repeat(5 << 20))]) } else { HashMap::new() },
        });
        let manifest = manifest.to_string().into_bytes();
        let mut blobs: HashMap<String, Vec<u8>> =
            [layer, config.into_bytes()].into_iter().map(|bytes| (Digest::sha256(&bytes).to_string(), bytes)).collect();
        blobs.insert("1".into(), manifest);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (asked, blobs) = (Arc::default(), Arc::new(blobs));
        let shared = Shared { quirk, asked: Arc::clone(&asked), blobs: Arc::clone(&blobs), address: address.clone() };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(async move {
            let app = axum::Router::new().fallback(answer).with_state(shared);
            axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), app).await
        });
        Quirky { address, asked, blobs, _runtime: runtime }
    }

    fn copy(&self, dir: &Path, args: &[&str]) -> Output {
        let source = format!("docker://{}/r/i:1", self.address);
        let to = ["copy", &source, "oci:store:x", "--src-tls-verify=false", "--retry-delay=0", "--retries=3", "--json"];
        haversack(dir, &[&to[..], args].concat())
    }

    /// What was asked about blobs and tokens, with the credentials that came along.
    fn asked(&self, about: &str) -> Vec<String> {
        self.asked.lock().unwrap().iter().filter(|line| line.contains(about)).cloned().collect()
    }
}

async fn answer(State(shared): State<Shared>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let field = |name: header::HeaderName| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let (range, authorization) = (field(header::RANGE), field(header::AUTHORIZATION));
    let query = request.uri().query().unwrap_or_default();
    let line = format!(
        "{} {path} {query} {} {}",
        request.method(),
        range.as_deref().unwrap_or_default(),
        authorization.as_deref().unwrap_or_default()
    );
    let asked_before = {
        let mut asked = shared.asked.lock().unwrap();
        let before = asked.iter().filter(|line| line.contains(&path)).count();
        asked.push(line.trim().to_owned());
        before
    };
    let target = path.rsplit('/').next().unwrap_or_default();
    let status = |code: StatusCode| code.into_response();
    match &shared.quirk {
        Quirk::Html => return ([(header::CONTENT_TYPE, "text/html")], "<html>Welcome</html>").into_response(),
        Quirk::Busy if asked_before < 2 && target == "1" => return status(StatusCode::SERVICE_UNAVAILABLE),
        Quirk::Token if path == "/token" => {
            // user:secret
            return match authorization.as_deref() {
                Some("Basic dXNlcjpzZWNyZXQ=") => r#"{"token":"let-me-in"}"#.into_response(),
                _ => status(StatusCode::UNAUTHORIZED),
            };
        }
        Quirk::Token if authorization.as_deref() != Some("Bearer let-me-in") => {
            let challenge = format!(r#"Bearer realm="http://{}/token",service="quirky""#, shared.address);
            return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response();
        }
        Quirk::Redirects { .. } if authorization.is_none() => {
            return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Basic realm=\"r\"")]).into_response();
        }
        Quirk::Redirects { to } if path.contains("/blobs/") => {
            return (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, format!("http://{to}{path}"))])
                .into_response();
        }
        _ => {}
    }
    if path == "/v2/" {
        return status(StatusCode::OK);
    }
    let manifest = shared.blobs["1"].clone();
    let bytes = match shared.blobs.get(target) {
        Some(bytes) => bytes.clone(),
        None if Digest::sha256(&manifest).as_str() == target => manifest,
        None => return status(StatusCode::NOT_FOUND),
    };
    if request.method() == Method::HEAD {
        return status(StatusCode::OK);
    }
    if path.contains("/manifests/") {
        let body = match (&shared.quirk, target.starts_with("sha256:")) {
            (Quirk::WrongManifest, true) => {
                String::from_utf8(bytes).unwrap().replace("amd64", "arm64").replace("schema", "Schema").into_bytes()
            }
            _ => bytes,
        };
        return ([(header::CONTENT_TYPE, "application/vnd.oci.image.manifest.v1+json")], body).into_response();
    }
    let large = bytes.len() == LAYER_SIZE;
    match &shared.quirk {
        Quirk::WrongByte if large => {
            let mut wrong = bytes;
            wrong[1000] ^= 1;
            wrong.into_response()
        }
        Quirk::MoreBytes if large => [bytes, vec![0]].concat().into_response(),
        Quirk::BreaksOff { times, ranges } if large => {
            let start: usize = match &range {
                Some(range) if *ranges => range["bytes=".len()..range.len() - 1].parse().unwrap(),
                _ => 0,
            };
            let rest = bytes[start..].to_vec();
            let status = if start > 0 { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
            let content_range = format!("bytes {start}-{}/{LAYER_SIZE}", LAYER_SIZE - 1);
            let body = if asked_before < *times {
                let half = rest[..rest.len() / 2].to_vec();
                let pieces = futures_util::stream::iter([Ok(half), Err(std::io::Error::other("cut"))]);
                Body::from_stream(pieces.then(async |piece| {
                    // Time for what went before to leave.
                    let wait = if piece.is_err() { 100 } else { 0 };
                    tokio::time::sleep(Duration::from_millis(wait)).await;
                    piece
                }))
            } else {
                Body::from(rest)
            };
            let mut response = (status, body).into_response();
            if start > 0 {
                response.headers_mut().insert(header::CONTENT_RANGE, content_range.parse().unwrap());
            }
            response
        }
        _ => bytes.into_response(),
    }
}

fn haversack(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(cargo_bin!("haversack"));
    command.args(args).current_dir(dir).env("HOME", dir).env_remove("XDG_RUNTIME_DIR").output().unwrap()
}

fn done(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn error(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    let start = text.find("error: ").unwrap();
    text[start + "error: ".len()..].trim_end().to_owned()
}

fn clean(dir: &Path) {
    let output = haversack(dir, &["verify", "oci:store"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Blobs that are there after a copy that failed.
fn blobs(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("store/blobs/sha256")).unwrap().count()
}

#[test]
fn an_image_arrives_with_its_digest_and_a_second_copy_sends_nothing() {
    let (registry, dir) = (Quirky::start(Quirk::None), tempfile::tempdir().unwrap());
    let digest = Digest::sha256(&registry.blobs["1"]).to_string();
    let dry = done(&registry.copy(dir.path(), &["--dry-run"]));
    assert_eq!((&dry["sent_blobs"], blobs(dir.path())), (&2.into(), 0));
    let first = done(&registry.copy(dir.path(), &[]));
    assert_eq!((&first["digest"], &first["sent_blobs"]), (&digest.into(), &2.into()));
    clean(dir.path());
    let second = done(&registry.copy(dir.path(), &[]));
    assert_eq!((&second["sent_blobs"], &second["present_blobs"]), (&0.into(), &2.into()));
    assert_eq!(registry.asked("/blobs/").len(), 2);
}

#[test]
fn a_connection_that_breaks_is_taken_up_where_it_broke() {
    for (ranges, expected) in
        [(true, ["", "bytes=150000-", "bytes=225000-"]), (false, ["", "bytes=150000-", "bytes=150000-"])]
    {
        let (registry, dir) = (Quirky::start(Quirk::BreaksOff { times: 2, ranges }), tempfile::tempdir().unwrap());
        done(&registry.copy(dir.path(), &[]));
        clean(dir.path());
        let (layer, _) = registry.blobs.iter().find(|(_, bytes)| bytes.len() == LAYER_SIZE).unwrap();
        let asked = registry.asked(layer);
        let ranges: Vec<_> = asked.iter().map(|line| line.split(' ').nth(3).unwrap_or_default()).collect();
        assert_eq!(ranges, expected);
    }
}

#[test]
fn a_server_that_is_busy_is_asked_again() {
    let (registry, dir) = (Quirky::start(Quirk::Busy), tempfile::tempdir().unwrap());
    done(&registry.copy(dir.path(), &[]));
    clean(dir.path());
}

#[test]
fn what_is_not_what_was_described_is_refused_and_not_kept() {
    for (quirk, expected, kept) in [
        (Quirk::WrongByte, "expected sha256:", 1),
        (Quirk::MoreBytes, "expected 300000 bytes, found more", 1),
        (Quirk::BreaksOff { times: 99, ranges: false }, "the answer broke off", 1),
        (Quirk::Html, "no registry answers here", 0),
        (Quirk::HugeManifest, "larger than 4194304 bytes", 0),
        (Quirk::WrongManifest, "expected sha256:", 0),
    ] {
        let (registry, dir) = (Quirky::start(quirk), tempfile::tempdir().unwrap());
        let error = error(&registry.copy(dir.path(), &[]));
        assert!(error.contains(expected), "{error}");
        if dir.path().join("store").exists() {
            assert!(blobs(dir.path()) <= kept, "{error}");
            assert_eq!(haversack(dir.path(), &["inspect", "oci:store:x"]).status.code(), Some(1));
        }
    }
}

#[test]
fn credentials_go_to_the_registry_and_not_where_it_redirects_to() {
    let elsewhere = Quirky::start(Quirk::None);
    let registry = Quirky::start(Quirk::Redirects { to: elsewhere.address.clone() });
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join(".docker")).unwrap();
    let auth = format!(r#"{{"auths":{{"{}":{{"auth":"dXNlcjpzZWNyZXQ="}}}}}}"#, registry.address);
    std::fs::write(dir.path().join(".docker/config.json"), auth).unwrap();
    done(&registry.copy(dir.path(), &[]));
    clean(dir.path());
    assert!(registry.asked("/blobs/").iter().all(|line| line.ends_with("Basic dXNlcjpzZWNyZXQ=")));
    assert_eq!(elsewhere.asked("/blobs/").len(), 2);
    assert_eq!(elsewhere.asked("Basic"), [""; 0]);
}

#[test]
fn a_token_is_asked_for_with_the_password_and_for_this_repository() {
    let (registry, dir) = (Quirky::start(Quirk::Token), tempfile::tempdir().unwrap());
    let refused = error(&registry.copy(dir.path(), &[]));
    assert!(
        refused.starts_with(&format!("{}/r/i: not allowed with the credentials there are", registry.address)),
        "{refused}"
    );
    let file = dir.path().join("auth.json");
    let auth = format!(r#"{{"auths":{{"{}/r":{{"auth":"dXNlcjpzZWNyZXQ="}}}}}}"#, registry.address);
    std::fs::write(&file, auth).unwrap();
    done(&registry.copy(dir.path(), &["--authfile", "auth.json"]));
    clean(dir.path());
    let expected = "GET /token service=quirky&scope=repository%3Ar%2Fi%3Apull  Basic dXNlcjpzZWNyZXQ=";
    assert_eq!(registry.asked("Basic"), [expected]);
}

#[test]
fn a_registry_without_tls_is_told_at_once_with_what_to_do() {
    // What nginx, docker-registry and others say to a TLS hello.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, dir) = (listener.local_addr().unwrap(), tempfile::tempdir().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.unwrap().write_all(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTPS request");
        }
    });
    let started = Instant::now();
    let source = format!("docker://{address}/r/i:1");
    let error = error(&haversack(dir.path(), &["copy", &source, "oci:store:x", "--retries=1", "--retry-delay=10"]));
    assert!(started.elapsed() < Duration::from_secs(10));
    assert!(error.starts_with(&format!("{address}: no trusted connection")), "{error}");
    assert!(error.contains("hint: add its certificate authority with `--ca-file FILE`, or"), "{error}");
}

/// Debian's docker-registry on a free port of the loopback, ended with the test.
struct Real {
    child: Child,
    address: String,
    _dir: TempDir,
}

impl Real {
    fn start() -> Self {
        Real::with("")
    }

    /// With more lines for the `http:` section of its configuration, indented by two.
    fn with(http: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp:\n  addr: {address}\n{http}",
            dir.path().display()
        );
        std::fs::write(dir.path().join("config.yml"), config).unwrap();
        let child = Command::new("docker-registry")
            .args(["serve", "config.yml"])
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(&address).is_err() {
            assert!(Instant::now() < until, "docker-registry does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Real { child, address, _dir: dir }
    }

    fn at(&self, image: &str) -> String {
        format!("docker://{}/{image}", self.address)
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A layout `store` with a two-platform image `x` and a referrer of it.
fn two_platforms(dir: &Path) -> String {
    std::fs::create_dir(dir.join("def")).unwrap();
    std::fs::write(dir.join("other"), "a program").unwrap();
    let text = "name = 'x'\n[[layers]]\nbinary = '/x'\n[[layers]]\nfiles = [{ text = 'data', dest = '/y' }]\n";
    std::fs::write(dir.join("def/image.toml"), text).unwrap();
    let build = [
        "build",
        "def",
        "--json",
        "-o",
        "oci:store:x",
        "--platform=linux/amd64",
        "--platform=linux/arm64",
        "--binary=linux/amd64=other",
        "--binary=linux/arm64=def/image.toml",
    ];
    let digest = done(&haversack(dir, &build))[0]["digest"].as_str().unwrap().to_owned();
    let layout = haversack::image::Layout::open(&dir.join("store")).unwrap();
    let image = layout.find(Some("x")).unwrap();
    let empty = layout.write_blob(oci_spec::image::MediaType::EmptyJSON, b"{}").unwrap();
    let sbom = layout.write_blob("text/spdx+json".into(), b"an SBOM").unwrap();
    let referrer = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "text/spdx+json", "config": empty, "layers": [sbom],
        "subject": { "mediaType": image.media_type(), "digest": image.digest(), "size": image.size() },
    });
    let bytes = haversack::image::layout::canonical(&referrer);
    let referrer = layout.write_blob(oci_spec::image::MediaType::ImageManifest, &bytes).unwrap();
    layout.tag(&referrer, None).unwrap();
    digest
}

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
    assert_eq!(names("store"), names("back"));
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

/// A certificate authority `ca`, and with its signature a server's certificate and `client.pem`, all in `dir`.
fn certificates(dir: &Path) {
    let script = "
        set -e
        new() { openssl req -newkey rsa:2048 -nodes -subj \"/CN=$1\" -keyout $1.key \"${@:2}\" 2>/dev/null; }
        new ca -x509 -days 2 -out ca.pem
        printf 'subjectAltName=IP:127.0.0.1' > extensions
        for name in server client; do
            new $name | openssl x509 -req -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions \
                -out $name.pem 2>/dev/null
        done";
    assert!(Command::new("bash").args(["-c", script]).current_dir(dir).status().unwrap().success());
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
    assert!(untrusted.starts_with(&format!("{}: no trusted connection", registry.address)), "{untrusted}");
    place("ca.crt", "ca.pem");
    let unknown = error(&copy(&["--cert-dir=certs.d"]));
    assert!(unknown.contains("no trusted connection\n"), "{unknown}");
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
    assert_eq!(missing, "no image for linux/s390x in it");
}

#[test]
#[ignore = "needs docker-registry; scripts/test.sh runs it where it is"]
fn a_broken_blob_is_not_sent() {
    let (registry, dir) = (Real::start(), tempfile::tempdir().unwrap());
    two_platforms(dir.path());
    let layout = haversack::image::Layout::open(&dir.path().join("store")).unwrap();
    let other = Digest::sha256(b"an SBOM");
    std::fs::write(layout.blob_path(&other), b"an sbom").unwrap();
    let to = registry.at("x:1");
    let error = error(&haversack(dir.path(), &["copy", "oci:store:x", &to, "--dest-tls-verify=false"]));
    assert!(error.contains(&format!("expected {other}, found sha256:")), "{error}");
}

#[test]
#[ignore = "needs docker-registry; scripts/test.sh runs it where it is"]
fn a_copy_that_is_killed_any_time_leaves_a_layout_that_the_next_one_completes() {
    let (registry, dir) = (Real::start(), tempfile::tempdir().unwrap());
    std::fs::create_dir(dir.path().join("def")).unwrap();
    let mut text = "name = 'x'\n".to_owned();
    for layer in 0..12_u32 {
        // Bytes that do not compress.
        let mut seed = layer + 1;
        let bytes = std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        });
        std::fs::write(dir.path().join(format!("def/{layer}")), bytes.take(2 << 20).collect::<Vec<_>>()).unwrap();
        text += &format!("[[layers]]\nfiles = [{{ src = '{layer}', dest = '/{layer}' }}]\n");
    }
    std::fs::write(dir.path().join("def/image.toml"), text).unwrap();
    done(&haversack(dir.path(), &["build", "def", "--json", "-o", "oci:from:x"]));
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
