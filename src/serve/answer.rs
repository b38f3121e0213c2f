//! Answers: headers that all of them have, and errors in the form that clients read (distribution-spec, "Error Codes").

use bytes::Bytes;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use crate::serve::body::{Body, Part};

pub(super) type Answer = Response<Body>;

/// Why a request is refused.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    /// For people: what failed, why, and what to do.
    pub(super) message: String,
    pub(super) headers: Vec<(HeaderName, String)>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Refusal { status, code, message: message.into(), headers: Vec::new() }
    }

    pub(super) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn manifest_unknown(message: impl Into<String>) -> Self {
        Refusal::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", message)
    }

    pub(super) fn blob_unknown(message: impl Into<String>) -> Self {
        Refusal::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", message)
    }

    pub(super) fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Refusal::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// What went wrong on this side; the log has more.
    pub(super) fn internal(message: impl Into<String>) -> Self {
        let message = message.into();
        tracing::error!("{message}");
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", message)
    }

    pub(super) fn answer(&self) -> Answer {
        let error = serde_json::json!({ "code": self.code, "message": self.message, "detail": null });
        let mut answer = json(self.status, &serde_json::json!({ "errors": [error] }), JSON);
        for (name, value) in &self.headers {
            set(&mut answer, name.clone(), value);
        }
        answer
    }
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Answer {
    with_body(status, Body::empty())
}

/// A document of a type.
pub(super) fn json(status: StatusCode, value: &impl serde::Serialize, media_type: &'static str) -> Answer {
    let bytes = Bytes::from(serde_json::to_vec(value).expect("answers can be written"));
    let mut answer = with_body(status, Body::new(vec![Part::Bytes(bytes)]));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    answer
}

/// An answer with a body, its length said.
pub(super) fn with_body(status: StatusCode, body: Body) -> Answer {
    let length = body.len();
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    if status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED {
        answer.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    answer
}

/// Sets a header. A value that cannot be one, which ours never are, is left out.
pub(super) fn set(answer: &mut Answer, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
}

pub(super) const JSON: &str = "application/json";
pub(super) const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
