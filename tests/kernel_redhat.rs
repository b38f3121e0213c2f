//! The subscriber API, with its faults: tokens that expire, too many requests, errors in answers with status 200, a CDN on
//! another host.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use haversack::digest::Digest;
use serde_json::json;

/// What the stand-in saw and does next.
#[derive(Default)]
struct Api {
    tokens: u32,
    /// Requests that a token is still good for.
    left: u32,
    pages: Vec<usize>,
    failures: Vec<&'static str>,
    /// `Authorization` as it came to the CDN.
    at_cdn: Vec<Option<String>>,
    cdn: String,
    at_once: u32,
    most_at_once: u32,
}

type Shared = Arc<Mutex<Api>>;

const CONTENT: &[u8] = b"the package";

fn authorised(api: &mut Api, headers: &HeaderMap) -> bool {
    let current = format!("Bearer token-{}", api.tokens);
    let is_current = headers.get(header::AUTHORIZATION).is_some_and(|value| *value == *current);
    let is_good = is_current && api.left > 0;
    api.left = api.left.saturating_sub(u32::from(is_good));
    is_good
}

async fn token(State(shared): State<Shared>, body: String) -> Response {
    if !body.contains("refresh_token=offline") || !body.contains("grant_type=refresh_token&client_id=rhsm-api") {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let mut api = shared.lock().unwrap();
    api.tokens += 1;
    api.left = 6;
    json!({ "access_token": format!("token-{}", api.tokens), "expires_in": 300 }).to_string().into_response()
}

async fn page(
    State(shared): State<Shared>,
    Path((set, _)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    {
        let mut api = shared.lock().unwrap();
        api.at_once += 1;
        api.most_at_once = api.most_at_once.max(api.at_once);
    }
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let mut api = shared.lock().unwrap();
    api.at_once -= 1;
    if !authorised(&mut api, &headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    match api.failures.pop() {
        Some("429") => return (StatusCode::TOO_MANY_REQUESTS, [("x-ratelimit-delay", "0")]).into_response(),
        Some("200") => return json!({ "error": { "code": 500, "message": "Internal" } }).to_string().into_response(),
        Some("502") => return StatusCode::BAD_GATEWAY.into_response(),
        _ => {}
    }
    let (limit, offset): (usize, usize) = query
        .as_deref()
        .and_then(|query| query.strip_prefix("limit=")?.split_once("&offset="))
        .map(|(limit, offset)| (limit.parse().unwrap(), offset.parse().unwrap()))
        .unwrap();
    api.pages.push(offset);
    // 3,000 packages in order, or out of order; kernels are the 1,050th to the 1,059th.
    let name = |n: usize| match n {
        1050..1055 => "kernel-core".to_owned(),
        1055..1060 => "kernel-devel".to_owned(),
        1060..1070 => "kernel-devel-matched".to_owned(),
        n if set == "unsorted" => format!("z{}", 9999 - n),
        n if n < 1050 => format!("a{n:04}"),
        n => format!("z{n:04}"),
    };
    let body: Vec<_> = (offset..(offset + limit).min(3000))
        .map(|n| {
            let mut package = json!({
                "name": name(n), "version": "5.14.0", "release": format!("{n}.el9"), "epoch": "0", "arch": "x86_64",
                "checksum": Digest::sha256(CONTENT).hex(), "size": CONTENT.len(),
                "href": format!("http://{}/packages/{n}", headers["host"].to_str().unwrap()),
            });
            if n % 2 == 0 {
                package["downloadHref"] = format!("{}/download", package["href"].as_str().unwrap()).into();
            }
            package
        })
        .collect();
    // An empty page has no body at all.
    let body = if body.is_empty() { serde_json::Value::Null } else { body.into() };
    json!({ "pagination": { "offset": offset, "limit": limit, "count": 1 }, "body": body }).to_string().into_response()
}

async fn download(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let mut api = shared.lock().unwrap();
    if !authorised(&mut api, &headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, format!("{}/file", api.cdn))]).into_response()
}

async fn cdn(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let mut api = shared.lock().unwrap();
    let seen = headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
    api.at_cdn.push(seen);
    // A refusal by the CDN must not bring the token here either.
    if api.at_cdn.len() == 1 { StatusCode::UNAUTHORIZED.into_response() } else { CONTENT.into_response() }
}

fn serve(runtime: &tokio::runtime::Runtime, router: Router) -> String {
    let listener = runtime.block_on(tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    runtime.spawn(async move { axum::serve(listener, router).await });
    url
}

fn start() -> (tokio::runtime::Runtime, Shared, String) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let shared = Shared::default();
    let cdn = serve(&runtime, Router::new().route("/file", get(cdn)).with_state(shared.clone()));
    shared.lock().unwrap().cdn = cdn;
    let router = Router::new()
        .route("/token", post(token))
        .route("/packages/cset/{set}/arch/{machine}", get(page))
        .route("/packages/{n}/download", get(download))
        .with_state(shared.clone());
    let url = serve(&runtime, router);
    (runtime, shared, url)
}

fn haversack(url: &str, token: &str, arguments: &[&str]) -> (i32, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, format!("{token}\n")).unwrap();
    let (api, sso) = (format!("{url}/"), format!("{url}/token"));
    let options =
        ["--token-file", file.to_str().unwrap(), "--redhat-api", &api, "--redhat-sso", &sso, "--retry-delay", "0"];
    let mut command = assert_cmd::Command::cargo_bin("haversack").unwrap();
    let output = command.args(arguments).args(options).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_content_set_is_listed_whole_through_expired_tokens_and_faults_and_no_further_than_needed() {
    let (_runtime, shared, url) = start();
    shared.lock().unwrap().failures = vec!["429", "200", "502", "429"];
    let (status, stdout, stderr) = haversack(&url, "offline", &["kernel", "list", "redhat:sorted"]);
    assert_eq!(status, 0, "{stderr}");
    assert_eq!(stdout.lines().count(), 11, "{stdout}");
    let mut api = shared.lock().unwrap();
    api.pages.sort_unstable();
    // Twelve pages hold all names up to the last one wanted; the rest of 30 is not asked for.
    assert_eq!(api.pages, (0..12).map(|page| page * 100).collect::<Vec<_>>());
    assert_eq!(api.tokens, 3);
    assert_eq!(api.most_at_once, 4);
}

#[test]
fn an_unsorted_content_set_is_walked_to_its_end() {
    let (_runtime, shared, url) = start();
    let (status, stdout, stderr) = haversack(&url, "offline", &["kernel", "list", "redhat:unsorted"]);
    assert_eq!((status, stdout.lines().count()), (0, 11), "{stderr}");
    assert_eq!(shared.lock().unwrap().pages.iter().max(), Some(&3100));
}

#[test]
fn packages_are_fetched_from_the_cdn_without_the_token() {
    let (_runtime, shared, url) = start();
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().to_str().unwrap();
    let arguments = ["kernel", "fetch", "redhat:sorted", "--latest", "3", "--to", to, "--parallel", "1", "--json"];
    let (status, stdout, stderr) = haversack(&url, "offline", &arguments);
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(status, 3, "{stderr}");
    assert_eq!(report["fetched"].as_array().unwrap().len(), 2, "{stderr}");
    assert!(stderr.contains("401 Unauthorized"), "{stderr}");
    assert_eq!(shared.lock().unwrap().at_cdn, [None, None, None]);
}

#[test]
fn pages_and_packages_are_marked_as_the_old_downloader_marked_them() {
    let (_runtime, _, url) = start();
    let (status, _, stderr) = haversack(&url, "offline", &["-q", "kernel", "list", "-i", "redhat:sorted"]);
    assert_eq!((status, &*stderr), (0, "sorted............\n"));
    let (_, _, stderr) = haversack(&url, "offline", &["kernel", "list", "redhat:sorted"]);
    let lines: Vec<&str> = stderr.lines().filter_map(|line| Some(line.split_once("] INFO - ")?.1)).collect();
    assert_eq!(lines, ["Scraping bucket sorted", "Done scraping bucket sorted"]);
}

#[test]
fn a_token_that_is_not_taken_is_said_to_be_so_and_never_shown() {
    let (_runtime, _, url) = start();
    let (status, _, stderr) = haversack(&url, "stolen", &["-vv", "kernel", "list", "redhat:sorted"]);
    assert_eq!(status, 1);
    assert!(stderr.contains("the offline token is invalid or has expired"), "{stderr}");
    assert!(!stderr.contains("stolen"), "{stderr}");
}
