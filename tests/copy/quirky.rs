//! A registry in the test's own process that misbehaves in one way.

use std::collections::HashMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use haversack::digest::Digest;

use crate::haversack;

/// A registry with one image, `r/i:1`, that answers as its quirk says and remembers what it was asked.
pub(crate) struct Quirky {
    pub(crate) address: String,
    asked: Arc<Mutex<Vec<String>>>,
    pub(crate) blobs: Arc<HashMap<String, Vec<u8>>>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Clone)]
pub(crate) enum Quirk {
    None,
    /// Breaks off the first answers with a large blob half-way.
    BreaksOff {
        at: usize,
        times: usize,
        ranges: bool,
    },
    /// The same once, half-way; then it answers requests for the rest with this range, and with all bytes from there on.
    OtherRange {
        says: &'static str,
        from: usize,
    },
    /// One byte of the blob is another.
    WrongByte,
    /// Says that the blob is longer than it is described.
    MoreBytes,
    /// Sends blobs from another host, for whoever has the password.
    Redirects {
        to: String,
    },
    /// Wants a token, and a password for the token; this is what it is answered.
    Token(&'static str),
    /// Answers with a web page.
    Html,
    /// Has a manifest of more than 4 MiB.
    HugeManifest,
    /// Its manifest is not the one that was asked for.
    WrongManifest,
    /// Describes its layer with another digest than can be.
    Digest(&'static str),
    /// Ends an answer early, as if it were whole.
    FewerBytes,
    /// Says that its tag is another image than it sends.
    OtherAnnounced,
    /// Lists its tags in pages, the last of which is said to be there.
    Pages {
        next: &'static str,
    },
    /// Says 503 twice before it answers.
    Busy,
}

#[derive(Clone)]
pub(crate) struct Shared {
    quirk: Quirk,
    asked: Arc<Mutex<Vec<String>>>,
    blobs: Arc<HashMap<String, Vec<u8>>>,
    address: String,
}

pub(crate) const LAYER_SIZE: usize = 300_000;

impl Quirky {
    pub(crate) fn start(quirk: Quirk) -> Self {
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
        let mut manifest = manifest.to_string();
        if let Quirk::Digest(other) = quirk {
            manifest = manifest.replace(Digest::sha256(&layer).as_str(), other);
        }
        let manifest = manifest.into_bytes();
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

    pub(crate) fn copy(&self, dir: &Path, args: &[&str]) -> Output {
        let source = format!("docker://{}/r/i:1", self.address);
        let to = ["copy", &source, "oci:store:x", "--src-tls-verify=false", "--retry-delay=0", "--retries=3", "--json"];
        haversack(dir, &[&to[..], args].concat())
    }

    /// What was asked about blobs and tokens, with the credentials that came along.
    pub(crate) fn asked(&self, about: &str) -> Vec<String> {
        self.asked.lock().unwrap().iter().filter(|line| line.contains(about)).cloned().collect()
    }
}

pub(crate) async fn answer(State(shared): State<Shared>, request: Request) -> Response {
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
        Quirk::Token(answer) if path == "/token" => {
            // user:secret
            return match authorization.as_deref() {
                Some("Basic dXNlcjpzZWNyZXQ=") => answer.into_response(),
                _ => status(StatusCode::UNAUTHORIZED),
            };
        }
        Quirk::Token(_) if authorization.as_deref() != Some("Bearer let-me-in") => {
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
    if let (Quirk::Pages { next }, "list") = (&shared.quirk, target) {
        let page = |tags: &'static str| format!(r#"{{"name":"r/i","tags":[{tags}]}}"#);
        return match query {
            "n=1000" => ([(header::LINK, format!(r#"<{next}>; rel="next""#))], page(r#""1","b""#)).into_response(),
            _ => page("null").replace("[null]", "null").into_response(),
        };
    }
    let bytes = match shared.blobs.get(target) {
        Some(bytes) => bytes.clone(),
        None if Digest::sha256(&manifest).as_str() == target => manifest,
        None => return status(StatusCode::NOT_FOUND),
    };
    if request.method() == Method::HEAD {
        return status(StatusCode::OK);
    }
    if let Quirk::OtherAnnounced = shared.quirk
        && target == "1"
    {
        return ([("docker-content-digest", Digest::sha256("other").to_string())], bytes).into_response();
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
        Quirk::FewerBytes if large => bytes[..LAYER_SIZE - 1].to_vec().into_response(),
        Quirk::MoreBytes if large => [bytes, vec![0]].concat().into_response(),
        Quirk::OtherRange { says, from } if large && range.is_some() => {
            (StatusCode::PARTIAL_CONTENT, [(header::CONTENT_RANGE, *says)], bytes[*from..].to_vec()).into_response()
        }
        Quirk::OtherRange { .. } if large && asked_before == 0 => cut(bytes[..LAYER_SIZE / 2].to_vec()).into_response(),
        Quirk::BreaksOff { at, times, ranges } if large => {
            let start: usize = match &range {
                Some(range) if *ranges => range["bytes=".len()..range.len() - 1].parse().unwrap(),
                _ => 0,
            };
            let rest = bytes[start..].to_vec();
            let status = if start > 0 { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
            let content_range = format!("bytes {start}-{}/{LAYER_SIZE}", LAYER_SIZE - 1);
            let body =
                if asked_before < *times { cut(rest[..(*at).min(rest.len())].to_vec()) } else { Body::from(rest) };
            let mut response = (status, body).into_response();
            if start > 0 {
                response.headers_mut().insert(header::CONTENT_RANGE, content_range.parse().unwrap());
            }
            response
        }
        _ => bytes.into_response(),
    }
}

/// A body that breaks off behind these bytes.
fn cut(bytes: Vec<u8>) -> Body {
    let pieces = futures_util::stream::iter([Ok(bytes), Err(std::io::Error::other("cut"))]);
    Body::from_stream(pieces.then(async |piece| {
        // Time for what went before to leave.
        let wait = if piece.is_err() { 100 } else { 0 };
        tokio::time::sleep(Duration::from_millis(wait)).await;
        piece
    }))
}
