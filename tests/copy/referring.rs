//! What refers to an image, between registries that list it in their own ways, and writes that are redirected.

use std::collections::HashMap;
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use haversack::digest::Digest;
use haversack::image::Layout;
use haversack::image::store::layout::canonical;
use oci_spec::image::MediaType;

use crate::{done, error, haversack};

#[test]
fn lists_of_referrers_are_read_to_their_last_page() {
    let dir = tempfile::tempdir().unwrap();
    let referrers = signed(dir.path(), 5);
    let registry = Keeper::start(Quirk { pages: true, ..Quirk::default() });
    done(&copy(dir.path(), "oci:from:x", &registry.at("r/x:1")));
    let report = done(&copy(dir.path(), &registry.at("r/x:1"), "oci:back:x"));
    assert_eq!(report["referrers"], 5);
    let back = Layout::open(&dir.path().join("back")).unwrap();
    let index = back.index().unwrap();
    let found = index.manifests().iter().map(|there| there.digest().to_string());
    assert_eq!(sorted(found.filter(|digest| referrers.contains(digest)).collect()), referrers);
}

#[test]
fn a_list_of_referrers_that_stands_in_is_written_once_and_gets_back_what_it_lost() {
    let dir = tempfile::tempdir().unwrap();
    let referrers = signed(dir.path(), 5);
    let registry = Keeper::start(Quirk::default());
    let to = registry.at("r/x:1");
    done(&copy(dir.path(), "oci:from:x", &to));
    assert_eq!((registry.listed(), registry.list_writes()), (referrers.clone(), 1));
    done(&copy(dir.path(), "oci:from:x", &to));
    assert_eq!(registry.list_writes(), 1);
    // Emptied by somebody, while all manifests are there.
    registry.empty_list();
    done(&copy(dir.path(), "oci:from:x", &to));
    assert_eq!((registry.listed(), registry.list_writes()), (referrers.clone(), 2));
    // And written by another client between our reading and its own writing.
    let (registry, times) = (Keeper::start(Quirk { undone: 2, ..Quirk::default() }), 3);
    done(&copy(dir.path(), "oci:from:x", &registry.at("r/x:1")));
    assert_eq!((registry.listed(), registry.list_writes()), (referrers, times));
    let registry = Keeper::start(Quirk { undone: usize::MAX, ..Quirk::default() });
    let text = error(&copy(dir.path(), "oci:from:x", &registry.at("r/x:1")));
    assert!(text.contains("written 8 times, and each time another client took out what was added"), "{text}");
}

#[test]
fn a_write_that_is_redirected_to_a_page_is_no_success() {
    let dir = tempfile::tempdir().unwrap();
    signed(dir.path(), 0);
    for method in ["POST", "PUT"] {
        for status in [301, 302, 303] {
            let registry = Keeper::start(Quirk { redirected: Some((method, status)), ..Quirk::default() });
            let text = error(&copy(dir.path(), "oci:from:x", &registry.at("r/x:1")));
            assert!(text.contains(&format!("not followed to http://{}/login", registry.address)), "{text}");
        }
    }
    // These repeat the method.
    let registry = Keeper::start(Quirk { redirected: Some(("POST", 307)), ..Quirk::default() });
    done(&copy(dir.path(), "oci:from:x", &registry.at("r/x:1")));
}

fn copy(dir: &Path, from: &str, to: &str) -> std::process::Output {
    let options = ["--src-tls-verify=false", "--dest-tls-verify=false", "--retries=0", "--json"];
    haversack(dir, &[&["copy", from, to][..], &options].concat())
}

/// A layout `from` with an image `x`, and so many artifacts that refer to it, whose digests are returned.
fn signed(dir: &Path, count: usize) -> Vec<String> {
    let layout = Layout::create(&dir.join("from")).unwrap();
    let config = layout.write_blob(MediaType::ImageConfig, br#"{"architecture":"amd64","os":"linux"}"#).unwrap();
    let manifest = |more: serde_json::Value| {
        let mut document = serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config, "layers": [],
        });
        document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        layout.write_blob(MediaType::ImageManifest, &canonical(&document)).unwrap()
    };
    let image = manifest(serde_json::json!({}));
    layout.tag(&image, Some("x")).unwrap();
    let digests = (0..count).map(|number| {
        let more = serde_json::json!({
            "artifactType": "text/spdx+json", "annotations": { "number": number.to_string() },
            "subject": { "mediaType": image.media_type(), "digest": image.digest(), "size": image.size() },
        });
        let referrer = manifest(more);
        layout.tag(&referrer, None).unwrap();
        referrer.digest().to_string()
    });
    sorted(digests.collect())
}

fn sorted(mut digests: Vec<String>) -> Vec<String> {
    digests.sort();
    digests
}

/// What is special about a registry.
#[derive(Clone, Copy, Default)]
struct Quirk {
    /// It lists referrers, two on a page, with links as few write them.
    pages: bool,
    /// So many times, the list that stands in is empty again after it was written.
    undone: usize,
    /// It sends such writes to a login page, which answers 200.
    redirected: Option<(&'static str, u16)>,
}

/// A registry in the test's own process that keeps what it is sent.
struct Keeper {
    address: String,
    kept: Arc<Mutex<Kept>>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Default)]
struct Kept {
    quirk: Quirk,
    /// By the last part of their paths: blobs by digest, manifests by digest and tag.
    content: HashMap<String, Vec<u8>>,
    list_writes: usize,
}

impl Keeper {
    fn start(quirk: Quirk) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let kept = Arc::new(Mutex::new(Kept { quirk, ..Kept::default() }));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let state = Arc::clone(&kept);
        runtime.spawn(async move {
            let app = axum::Router::new().fallback(answer).with_state(state);
            axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), app).await
        });
        Keeper { address, kept, _runtime: runtime }
    }

    fn at(&self, name: &str) -> String {
        format!("docker://{}/{name}", self.address)
    }

    /// What the list that stands in holds, in order.
    fn listed(&self) -> Vec<String> {
        let kept = self.kept.lock().unwrap();
        let list = kept.content.iter().find(|(name, _)| name.starts_with("sha256-")).unwrap().1;
        let list: serde_json::Value = serde_json::from_slice(list).unwrap();
        let manifests = list["manifests"].as_array().unwrap();
        sorted(manifests.iter().map(|there| there["digest"].as_str().unwrap().to_owned()).collect())
    }

    fn list_writes(&self) -> usize {
        self.kept.lock().unwrap().list_writes
    }

    fn empty_list(&self) {
        let mut kept = self.kept.lock().unwrap();
        kept.content.iter_mut().filter(|(name, _)| name.starts_with("sha256-")).for_each(|it| *it.1 = EMPTY.into());
    }
}

async fn answer(State(kept): State<Arc<Mutex<Kept>>>, request: Request) -> Response {
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    let name = path.rsplit('/').next().unwrap_or_default().to_owned();
    let query = request.uri().query().unwrap_or_default().replace("%3A", ":");
    let body = to_bytes(request.into_body(), 1 << 20).await.unwrap().to_vec();
    let mut kept = kept.lock().unwrap();
    match kept.quirk.redirected {
        Some((redirected, status))
            if redirected == method && !path.contains("/login") && path.contains("/uploads/") == (method == "POST") =>
        {
            let to =
                if status < 307 { "/login".to_owned() } else { path.replace("/blobs/uploads/", "/login/uploads/") };
            return (StatusCode::from_u16(status).unwrap(), [(header::LOCATION, to)]).into_response();
        }
        _ => {}
    }
    match method.as_str() {
        "GET" if matches!(path.as_str(), "/v2/" | "/login") => StatusCode::OK.into_response(),
        "GET" if path.contains("/referrers/") && kept.quirk.pages => {
            let referrers = kept.content.iter().filter(|(reference, bytes)| {
                let document: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
                reference.starts_with("sha256:") && document["subject"]["digest"] == name.as_str()
            });
            let all = sorted(referrers.map(|(digest, _)| digest.clone()).collect());
            let start: usize = query.trim_start_matches("last=").parse().unwrap_or(0);
            let end = all.len().min(start + 2);
            let listed = all[start..end].iter().map(|digest| {
                let size = kept.content[digest].len();
                serde_json::json!({ "mediaType": MediaType::ImageManifest, "digest": digest, "size": size })
            });
            let page = serde_json::json!({ "schemaVersion": 2, "manifests": listed.collect::<Vec<_>>() });
            let mut response = ([(header::CONTENT_TYPE, INDEX)], page.to_string()).into_response();
            if end < all.len() {
                let link = format!("<{path}?last={end}>; Rel=Next");
                response.headers_mut().insert(header::LINK, link.parse().unwrap());
            }
            response
        }
        "POST" => (StatusCode::ACCEPTED, [(header::LOCATION, "/v2/r/x/blobs/uploads/1")]).into_response(),
        "PUT" if path.contains("/uploads/") => {
            kept.content.insert(query.trim_start_matches("digest=").to_owned(), body);
            StatusCode::CREATED.into_response()
        }
        "PUT" => {
            let list = name.starts_with("sha256-");
            kept.list_writes += usize::from(list);
            let undone = list && kept.list_writes <= kept.quirk.undone;
            kept.content.insert(Digest::sha256(&body).to_string(), body.clone());
            kept.content.insert(name, if undone { EMPTY.into() } else { body });
            StatusCode::CREATED.into_response()
        }
        _ => match kept.content.get(&name) {
            Some(bytes) => {
                let document: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
                let media_type = document["mediaType"].as_str().unwrap_or("application/octet-stream").to_owned();
                let digest = Digest::sha256(bytes).to_string();
                ([("content-type", media_type), ("docker-content-digest", digest)], bytes.clone()).into_response()
            }
            None => StatusCode::NOT_FOUND.into_response(),
        },
    }
}

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const EMPTY: &[u8] = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
