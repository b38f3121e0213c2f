//! `publish artifactory` against a stand-in that keeps files, knows content, and has a fault on demand.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use haversack::digest::Digest;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Run, haversack};

struct Server {
    url: String,
    shared: Arc<Mutex<Shared>>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Default)]
struct Shared {
    files: BTreeMap<String, Vec<u8>>,
    requests: Vec<(String, HeaderMap)>,
    /// Method and part of the path, how often, and which answer; 0 breaks the connection off.
    faults: Vec<(Method, &'static str, usize, u16)>,
    properties: BTreeMap<String, String>,
}

impl Server {
    fn start() -> Self {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
        let url = format!("http://{}/artifactory", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(shared.clone());
        runtime.spawn(async move { axum::serve(listener, router).await });
        Server { url, shared, _runtime: runtime }
    }

    fn fault(&self, method: Method, part: &'static str, times: usize, status: u16) {
        self.shared.lock().unwrap().faults.push((method, part, times, status));
    }

    fn files(&self) -> Vec<String> {
        self.shared.lock().unwrap().files.keys().cloned().collect()
    }

    /// Requests since the last call.
    fn requests(&self) -> Vec<(String, HeaderMap)> {
        std::mem::take(&mut self.shared.lock().unwrap().requests)
    }

    fn run(&self, dir: &TempDir, args: &[&str]) -> Run {
        let mut command = haversack(dir.path());
        let fixed = ["publish", "artifactory", "packages", "--url", &self.url, "--repo", "redhat-sources", "--json"];
        command.args(fixed).args(args).env("ARTIFACTORY_TOKEN", "t0ken");
        Run::of(command.output().unwrap())
    }
}

async fn answer(
    State(shared): State<Arc<Mutex<Shared>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut shared = shared.lock().unwrap();
    let line = format!("{method} {uri}");
    shared.requests.push((line.clone(), headers.clone()));
    if headers.get("authorization").is_none_or(|value| value != "Bearer t0ken")
        && headers.get("x-jfrog-art-api").is_none_or(|value| value != "k3y")
    {
        return errors(401, "Bad credentials");
    }
    let is_meant = |(wanted, part, times, _): &&mut (Method, &str, usize, u16)| {
        *times > 0 && *wanted == method && line.contains(*part)
    };
    if let Some((_, _, times, status)) = shared.faults.iter_mut().find(is_meant) {
        *times -= 1;
        return match *status {
            0 => {
                let broken = futures_util::stream::iter([Err::<Bytes, _>(std::io::Error::other("broken off"))]);
                Response::builder().header("content-length", 10).body(axum::body::Body::from_stream(broken)).unwrap()
            }
            429 => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "0")], "").into_response(),
            status => errors(status, "not now"),
        };
    }
    let path = uri.path().strip_prefix("/artifactory/").unwrap();
    let header = |name: &str| headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    match (method.as_str(), path) {
        ("GET", "api/storage/redhat-sources") => {
            assert_eq!(uri.query(), Some("list&deep=1&listFolders=0"));
            let listed = shared.files.iter().map(|(path, content)| {
                json!({ "uri": format!("/{path}"), "size": content.len(), "folder": false, "sha1": "x", "sha2": Digest::sha256(content).hex() })
            });
            let listed: Vec<Value> = listed.collect();
            json!({ "uri": "u", "created": "c", "files": listed }).to_string().into_response()
        }
        ("POST", "api/search/aql") => {
            assert!(body.starts_with(br#"items.find({"repo": "redhat-sources"})"#));
            let found = shared.files.iter().map(|(path, content)| {
                let (folder, name) = path.rsplit_once('/').unwrap_or((".", path));
                json!({ "repo": "redhat-sources", "path": folder, "name": name, "sha256": Digest::sha256(content).hex() })
            });
            let found: Vec<Value> = found.collect();
            json!({ "results": found, "range": { "total": found.len() } }).to_string().into_response()
        }
        ("PUT", path) => {
            let path = path.strip_prefix("redhat-sources/").unwrap();
            let (path, properties) = path.split_once(';').unwrap_or((path, ""));
            let sha256 = header("x-checksum-sha256");
            assert_eq!((sha256.len(), header("x-checksum-sha1").len(), header("x-checksum-md5").len()), (64, 40, 32));
            let content = match header("x-checksum-deploy").as_str() {
                "true" => match shared.files.values().find(|content| Digest::sha256(content).hex() == sha256) {
                    Some(content) => content.clone(),
                    None => return errors(404, "Checksum deploy failed"),
                },
                _ if Digest::sha256(&body).hex() != sha256 => return errors(409, "Checksum mismatch"),
                _ => body.to_vec(),
            };
            let path = &path.replace("%20", " ").replace("%2B", "+");
            shared.files.insert(path.to_owned(), content);
            shared.properties.insert(path.to_owned(), properties.to_owned());
            let created = json!({ "repo": "redhat-sources", "path": path, "checksums": { "sha256": sha256 } });
            (StatusCode::CREATED, created.to_string()).into_response()
        }
        _ => errors(404, "Unable to find item"),
    }
}

fn errors(status: u16, message: &str) -> Response {
    let body = json!({ "errors": [{ "status": status, "message": message }] }).to_string();
    (StatusCode::from_u16(status).unwrap(), body).into_response()
}

/// Three packages, two of the same content, and something that is being written.
fn packages() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("packages/el 9")).unwrap();
    for (name, content) in
        [("a.rpm", "one"), ("b.rpm", "two"), ("el 9/c+1.rpm", "three"), (".a.rpm.XXXXXX.partial", "on")]
    {
        std::fs::write(dir.path().join("packages").join(name), content).unwrap();
    }
    dir
}

fn paths(document: &Value, list: &str) -> Vec<String> {
    let path = |item: &Value| item.get("path").unwrap_or(item).as_str().unwrap().to_owned();
    document[list].as_array().unwrap().iter().map(path).collect()
}

#[test]
fn the_first_run_uploads_the_second_nothing_and_a_changed_file_is_reported() {
    let (server, dir) = (Server::start(), packages());
    let run = server.run(&dir, &["-q", "-i", "--property", "origin=rhsm", "--property", "a b=c;d"]);
    let document = run.done();
    assert_eq!(paths(&document, "uploaded"), ["a.rpm", "b.rpm", "el 9/c+1.rpm"]);
    assert_eq!((&document["sent_bytes"], run.stderr.as_str()), (&json!(11), "^^^\n"));
    assert_eq!(server.files(), ["a.rpm", "b.rpm", "el 9/c+1.rpm"]);
    assert_eq!(server.shared.lock().unwrap().properties["a.rpm"], "origin=rhsm;a%20b=c%3Bd");
    let puts = server.requests().iter().filter(|(line, _)| line.starts_with("PUT")).count();
    assert_eq!(puts, 6, "checksums first, then the bytes");

    let run = server.run(&dir, &["--property", "origin=rhsm"]);
    assert_eq!((paths(&run.done(), "skipped").len(), server.requests().len()), (3, 1), "one listing");
}

#[test]
fn identical_files_are_passed_over_and_different_ones_replaced_only_when_asked() {
    let (server, dir) = (Server::start(), packages());
    std::fs::remove_dir_all(dir.path().join("packages/el 9")).unwrap();
    server.run(&dir, &[]).done();
    server.requests();
    let document = server.run(&dir, &[]).done();
    assert_eq!((paths(&document, "skipped").len(), document["uploaded"].as_array().unwrap().len()), (2, 0));
    assert_eq!(server.requests().len(), 1, "one listing");

    std::fs::write(dir.path().join("packages/b.rpm"), "changed").unwrap();
    let run = server.run(&dir, &[]);
    let different =
        json!([{ "path": "b.rpm", "sha256": Digest::sha256("changed"), "there": Digest::sha256("two").hex() }]);
    assert_eq!((run.status, &run.json()["different"]), (3, &different));
    assert_eq!(server.shared.lock().unwrap().files["b.rpm"], b"two");
    let document = server.run(&dir, &["--overwrite", "--dry-run"]).done();
    assert_eq!(paths(&document, "replaced"), ["b.rpm"]);
    assert_eq!(server.shared.lock().unwrap().files["b.rpm"], b"two");
    let document = server.run(&dir, &["--overwrite"]).done();
    assert_eq!(paths(&document, "replaced"), ["b.rpm"]);
    assert_eq!(server.shared.lock().unwrap().files["b.rpm"], b"changed");
}

#[test]
fn content_that_the_server_knows_is_not_sent() {
    let (server, dir) = (Server::start(), packages());
    server.run(&dir, &[]).done();
    let document = server.run(&dir, &["--prefix", "copy/of"]).done();
    let by_checksum = document["uploaded"].as_array().unwrap().iter().all(|deployed| deployed["by_checksum"] == true);
    assert_eq!((by_checksum, &document["sent_bytes"]), (true, &json!(0)));
    assert!(server.files().contains(&"copy/of/a.rpm".to_owned()));
}

#[test]
fn a_server_that_refuses_to_list_is_searched() {
    for status in [403, 400, 501] {
        let (server, dir) = (Server::start(), packages());
        server.run(&dir, &[]).done();
        server.fault(Method::GET, "api/storage", 99, status);
        server.requests();
        let document = server.run(&dir, &[]).done();
        assert_eq!(paths(&document, "skipped").len(), 3, "{status}");
        assert!(server.requests().iter().any(|(line, _)| line == "POST /artifactory/api/search/aql"));
    }
}

#[test]
fn trouble_passes_and_what_does_not_is_named_by_file() {
    for (method, part, times, status) in [
        (Method::PUT, "b.rpm", 2, 429),
        (Method::PUT, "b.rpm", 2, 503),
        (Method::PUT, "b.rpm", 2, 0),
        (Method::GET, "api/storage", 2, 0),
        (Method::GET, "api/storage", 2, 429),
    ] {
        let (server, dir) = (Server::start(), packages());
        server.fault(method, part, times, status);
        assert_eq!(paths(&server.run(&dir, &[]).done(), "uploaded").len(), 3, "{part} {status}");
    }
    for (status, words) in
        [(409, "409 Conflict: not now"), (403, "403 Forbidden: not now"), (503, "503 Service Unavailable: not now")]
    {
        let (server, dir) = (Server::start(), packages());
        server.fault(Method::PUT, "b.rpm", 99, status);
        let run = server.run(&dir, &[]);
        assert_eq!((run.status, paths(&run.json(), "uploaded").len()), (3, 2), "{}", run.stderr);
        let error = run.json()["failed"][0]["error"].as_str().unwrap().to_owned();
        assert!(error.ends_with(words), "{error}");
    }
}

#[test]
fn credentials_come_from_the_environment_or_a_file_and_wrong_ones_end_the_run() {
    let (server, dir) = (Server::start(), packages());
    std::fs::write(dir.path().join("token"), "t0ken\n").unwrap();
    std::fs::write(dir.path().join("wrong"), "secret-in-a-file").unwrap();
    let with = |variables: &[(&str, &str)], args: &[&str]| {
        let mut command = haversack(dir.path());
        let fixed = ["publish", "artifactory", "packages", "--url", &server.url, "--repo", "redhat-sources"];
        Run::of(command.args(fixed).args(args).envs(variables.iter().copied()).output().unwrap())
    };
    for (variables, args, status) in [
        (&[("ARTIFACTORY_API_KEY", "k3y")][..], &[][..], 0),
        (&[("JFROG_ACCESS_TOKEN", "t0ken")], &[], 0),
        (&[], &["--token-file", "token"], 0),
        (&[], &["--token-file", "wrong"], 1),
        (&[], &["--api-key-file", "token"], 1),
        (&[], &[], 1),
        (&[("ARTIFACTORY_TOKEN", "t0ken")], &["--repo", "nowhere"], 2),
    ] {
        let run = with(variables, args);
        assert_eq!(run.status, status, "{args:?}: {}", run.stderr);
        assert!(!run.stderr.contains("secret-in-a-file"));
    }
    let mut command = haversack(dir.path());
    command.args(["publish", "artifactory", "packages", "--url", &server.url, "--repo", "nowhere"]);
    let run = Run::of(command.env("ARTIFACTORY_TOKEN", "t0ken").output().unwrap());
    assert!(run.status == 1 && run.stderr.contains("no repository `nowhere`"), "{}", run.stderr);
}

#[test]
fn the_packages_of_a_kernel_set_are_found_as_stated_or_beside_it() {
    let (server, dir) = (Server::start(), packages());
    let package = |name: &str, location: &str| json!({ "role": "headers", "name": name, "version": "6.1.192-2", "architecture": "amd64", "format": "deb", "location": location });
    let set = |packages: &[Value]| {
        let kernel = json!({
            "distribution": "debian", "uname": "6.1.0-56-amd64", "machine": "x86_64", "flavour": "default",
            "build": "6.1.192-2", "packages": packages,
        });
        let set = json!({ "format": "haversack.kernels", "version": 1, "kernels": [kernel] });
        std::fs::write(dir.path().join("kernels.json"), set.to_string()).unwrap();
        let mut command = haversack(dir.path());
        command.args([
            "publish",
            "artifactory",
            "kernels.json",
            "--url",
            &server.url,
            "--repo",
            "redhat-sources",
            "--json",
        ]);
        Run::of(command.env("ARTIFACTORY_TOKEN", "t0ken").output().unwrap())
    };
    std::fs::write(dir.path().join("far.deb"), "far").unwrap();
    let document = set(&[package("a", "packages/a.rpm"), package("far", "https://mirror.example/pool/far.deb")]).done();
    assert_eq!(paths(&document, "uploaded"), ["a.rpm", "far.deb"]);
    let run = set(&[package("gone", "https://mirror.example/pool/gone.deb")]);
    assert!(run.status == 1 && run.stderr.contains("gone.deb: not fetched"), "{}", run.stderr);
}
