//! The calls of the Image Management Service that an upload makes.
//!
//! ```text
//! GET    /images                      all records
//! POST   /images       name, arch     → 201 with the new record, whose link is null
//! GET    /images/ID
//! PATCH  /images/ID    link | metadata {operation, key, value}      the same link again is fine, another is 409
//! DELETE /images/ID                   the record, what its manifest lists, the manifest
//! GET    /jobs/ID
//! PATCH  /jobs/ID      resultant_image_id | status
//! ```
//!
//! Paths without a version are those of v2, whose `DELETE` is for good and answers 204. Errors come in three forms, all of which are read:
//! `application/problem+json` with `detail` and `errors`, JSON with `message`, and an HTML page of a gateway.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use url::Url;

use crate::http::{self, Http, Retriable, Verdict, read_limited};
use crate::publish::Patience;
use crate::publish::ims::manifest::Link;
use crate::publish::ims::token::{self, ClientCredentials, Tokens};
use crate::reference;

/// The service, with tokens for it.
pub struct Ims {
    http: Http,
    base: Url,
    tokens: Tokens,
    pub(super) patience: Arc<Patience>,
}

/// The record of an image. What we do not know of it is kept, since it is printed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// A UUID in lower case.
    pub id: String,
    /// Not unique.
    #[serde(default)]
    pub name: String,
    /// Records from before 2023 have none, and mean `x86_64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// Where the manifest is, once there is one.
    #[serde(default)]
    pub link: Option<Link>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Why the service cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer.
    #[error("{0}")]
    Http(#[from] http::Error),
    /// No token.
    #[error("{0}")]
    Token(#[from] token::Error),
    /// A record whose id is none.
    #[error("{0}")]
    Id(#[from] reference::Error),
    /// The service says no.
    #[error("{call}: {status}{}{detail}", if detail.is_empty() { "" } else { ": " })]
    Refused {
        /// `PATCH https://HOST/images/ID`
        call: String,
        /// The answer's status.
        status: StatusCode,
        /// The service's words.
        detail: String,
        /// Whether the service itself answered, and not something before it.
        is_problem: bool,
        /// How long the server asked to wait.
        retry_after: Option<Duration>,
    },
    /// An answer that is not what it should be.
    #[error("{call}: the answer cannot be understood")]
    Malformed {
        /// `POST https://HOST/images`
        call: String,
        /// Why not.
        source: serde_json::Error,
    },
}

impl Error {
    /// Whether the service has no such record, in its own words: a gateway's 404 means that the address is wrong.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Error::Refused { status: StatusCode::NOT_FOUND, is_problem: true, .. })
    }
}

impl Retriable for Error {
    fn verdict(&self) -> Verdict {
        match self {
            Error::Http(error) => error.verdict(),
            Error::Token(error) => error.verdict(),
            // A 500 with an explanation has one that will not change: the service could not reach Kubernetes, for example.
            Error::Refused { status: StatusCode::INTERNAL_SERVER_ERROR, is_problem: true, .. } => Verdict::Permanent,
            Error::Refused { status, retry_after, .. }
                if matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504) =>
            {
                Verdict::Again { after: *retry_after }
            }
            Error::Id(_) | Error::Refused { .. } | Error::Malformed { .. } => Verdict::Permanent,
        }
    }
}

impl Ims {
    /// Prepares the service at `base`; contacts nobody.
    pub fn new(http: Http, patience: Arc<Patience>, base: Url, credentials: ClientCredentials) -> Self {
        let tokens = Tokens::new(http.clone(), patience.clone(), credentials);
        Ims { http, base, tokens, patience }
    }

    /// Where the service is.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// Fetches a token, so that wrong credentials are found out before anything is done.
    pub async fn authenticate(&self) -> Result<(), Error> {
        self.tokens.token(None).await?;
        Ok(())
    }

    /// All records.
    pub async fn images(&self) -> Result<Vec<Record>, Error> {
        self.call(Method::GET, &["images"], None).await
    }

    /// One record, or none.
    pub async fn image(&self, id: &str) -> Result<Option<Record>, Error> {
        match self.call(Method::GET, &["images", id], None).await {
            Err(Error::Refused { status: StatusCode::NOT_FOUND, .. }) => Ok(None),
            result => result.map(Some),
        }
    }

    /// Creates a record in one try. After an error that is not the service's own, it may be there all the same.
    pub async fn create_image(&self, name: &str, arch: &str) -> Result<Record, Error> {
        self.try_call(&Method::POST, &["images"], Some(&json!({ "name": name, "arch": arch }))).await
    }

    /// Says where the image's manifest is.
    pub async fn link_image(&self, id: &str, link: &Link) -> Result<Record, Error> {
        self.call(Method::PATCH, &["images", id], Some(json!({ "link": link }))).await
    }

    /// Sets one entry of the image's metadata.
    pub async fn annotate_image(&self, id: &str, key: &str, value: &str) -> Result<Record, Error> {
        let change = json!({ "metadata": { "operation": "set", "key": key, "value": value } });
        self.call(Method::PATCH, &["images", id], Some(change)).await
    }

    /// Removes a record and what its manifest lists; one that is not there is fine.
    pub async fn delete_image(&self, id: &str) -> Result<(), Error> {
        let delete = async || {
            let response = self.send(&Method::DELETE, &["images", id], None).await?;
            if response.status() == StatusCode::NO_CONTENT {
                return Ok(());
            }
            // The page of a gateway, to which a redirect may have led.
            let call = format!("DELETE {}", http::shown(response.url()));
            let (status, detail) = (response.status(), "not the answer of the service".to_owned());
            Err(Error::Refused { call, status, detail, is_problem: false, retry_after: None })
        };
        match self.patience.run(delete).await {
            Err(Error::Refused { status: StatusCode::NOT_FOUND, .. }) => Ok(()),
            result => result,
        }
    }

    /// A job's record.
    pub async fn job(&self, id: &str) -> Result<Value, Error> {
        self.job_call(Method::GET, id, None).await
    }

    /// Says which image came of a job.
    pub async fn link_job(&self, job: &str, image: &str) -> Result<Value, Error> {
        self.job_call(Method::PATCH, job, Some(json!({ "resultant_image_id": image }))).await
    }

    /// Sets a job's status; the service knows which there are.
    pub async fn set_job_status(&self, job: &str, status: &str) -> Result<Value, Error> {
        self.job_call(Method::PATCH, job, Some(json!({ "status": status }))).await
    }

    /// A job's record is printed and not read; but it must be one, and no answer of somebody else.
    async fn job_call(&self, method: Method, job: &str, body: Option<Value>) -> Result<Value, Error> {
        let call = format!("{method} {}", http::shown(&self.url(&["jobs", job])?));
        let record: Value = self.call(method, &["jobs", job], body).await?;
        match record.get("id").and_then(Value::as_str) == Some(job) {
            true => Ok(record),
            false => Err(Error::Malformed { call, source: serde::de::Error::custom("it is not the job's record") }),
        }
    }

    async fn call<T: serde::de::DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: Option<Value>,
    ) -> Result<T, Error> {
        self.patience.run(async || self.try_call(&method, path, body.as_ref()).await).await
    }

    async fn try_call<T: serde::de::DeserializeOwned>(
        &self,
        method: &Method,
        path: &[&str],
        body: Option<&Value>,
    ) -> Result<T, Error> {
        let response = self.send(method, path, body).await?;
        let call = format!("{method} {}", http::shown(response.url()));
        let body = read_limited(response, ANSWER_LIMIT).await?;
        serde_json::from_slice(&body).map_err(|source| Error::Malformed { call, source })
    }

    /// The address of a record. An id comes from the service: without one it would be all records, which can be deleted, too.
    fn url(&self, path: &[&str]) -> Result<Url, Error> {
        Ok(reference::url_below(&self.base, path.iter().copied())?)
    }

    /// Sends a request with a token; a stale one is renewed once.
    async fn send(&self, method: &Method, path: &[&str], body: Option<&Value>) -> Result<Response, Error> {
        let url = self.url(path)?;
        let request = |token: &str| {
            let mut request = self.http.client().request(method.clone(), url.clone()).bearer_auth(token);
            if let Some(body) = body {
                request = request.header("content-type", "application/json").body(body.to_string());
            }
            request.header("accept", "*/*").timeout(self.http.deadline())
        };
        let token = self.tokens.token(None).await?;
        let mut response = self.http.send(request(&token)).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            let token = self.tokens.token(Some(&token)).await?;
            response = self.http.send(request(&token)).await?;
        }
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let retry_after = http::retry_after(response.headers());
        let media_type = response.headers().get("content-type").and_then(|value| value.to_str().ok());
        let is_problem = media_type.is_some_and(|media_type| media_type.starts_with("application/problem+json"));
        let elsewhere = http::not_followed(&response);
        let body = read_limited(response, ANSWER_LIMIT).await.unwrap_or_default();
        let call = format!("{method} {}", http::shown(&url));
        let detail = elsewhere.unwrap_or_else(|| explanation(&body));
        Err(Error::Refused { call, status, detail, is_problem, retry_after })
    }
}

impl Record {
    /// What the image is for; records from before 2023 do not say it.
    pub fn arch(&self) -> &str {
        self.arch.as_deref().unwrap_or("x86_64")
    }

    /// When it was created, in seconds since 1970. The service gives the time in UTC and says so or not.
    pub fn created(&self) -> Option<i64> {
        let text = self.other.get("created")?.as_str()?;
        let with_zone = text.parse::<jiff::Timestamp>().ok();
        let without = || text.parse::<jiff::civil::DateTime>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok();
        with_zone.or_else(|| Some(without()?.timestamp())).map(|created| created.as_second())
    }
}

/// The service's words: `detail` and the `errors` of each field, or what a page says.
fn explanation(body: &[u8]) -> String {
    let Ok(Value::Object(problem)) = serde_json::from_slice(body) else { return http::reason_in(body) };
    let detail = ["detail", "message", "error", "title"].iter().find_map(|key| problem.get(*key)?.as_str());
    let mut text = detail.unwrap_or_default().to_owned();
    if let Some(errors) = problem.get("errors") {
        let mut listed = Vec::new();
        flatten("", errors, &mut listed);
        if !listed.is_empty() {
            text = format!("{text} ({})", listed.join("; "));
        }
    }
    match text.char_indices().nth(EXPLANATION) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}

fn flatten(name: &str, errors: &Value, into: &mut Vec<String>) {
    match errors {
        Value::String(text) if name.is_empty() => into.push(text.clone()),
        Value::String(text) => into.push(format!("{name}: {text}")),
        Value::Array(list) => list.iter().for_each(|error| flatten(name, error, into)),
        Value::Object(fields) => {
            for (field, error) in fields {
                flatten(&if name.is_empty() { field.clone() } else { format!("{name}.{field}") }, error, into);
            }
        }
        _ => {}
    }
}

/// A list of 10,000 records has some 4 MB.
const ANSWER_LIMIT: u64 = 64 << 20;

/// Characters of an explanation.
const EXPLANATION: usize = 2000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_services_words_are_found_in_each_of_its_forms() {
        for (body, words) in [
            (
                r#"{"status": 422, "title": "Unprocessable Entity", "detail": "Input data was understood, but failed validation.", "errors": {"link": {"type": ["Type must be one of: s3."]}, "name": ["Unknown field."]}}"#,
                "Input data was understood, but failed validation. (link.type: Type must be one of: s3.; name: Unknown field.)",
            ),
            (
                r#"{"status": 500, "detail": "Errors were encountered.", "errors": ["HTTPConnectionPool"]}"#,
                "Errors were encountered. (HTTPConnectionPool)",
            ),
            (r#"{"message": "Failed to decode JSON object"}"#, "Failed to decode JSON object"),
            ("<html><head><title>502 Bad Gateway</title></head></html>", "502 Bad Gateway"),
            ("{}", ""),
            ("", ""),
        ] {
            assert_eq!(explanation(body.as_bytes()), words);
        }
    }

    #[test]
    fn a_record_keeps_what_is_not_known_of_it() {
        let text = r#"{"arch":"x86_64","created":"2026-11-21T09:50:08.082336","id":"i","link":null,"metadata":{"a":"b"},"name":"n"}"#;
        let record: Record = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_value(&record).unwrap().to_string(), text);
    }
}
