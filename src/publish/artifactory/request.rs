//! One request to the server: where it goes, who asks, and what its answer means.

use reqwest::{RequestBuilder, Response, StatusCode};
use url::Url;

use crate::http::{self, read_limited};
use crate::publish::artifactory::{Artifactory, Error, Login};
use crate::publish::s3::encode;
use crate::reference;

impl Artifactory {
    /// Asks for a document until there is an answer.
    pub(super) async fn json<T: serde::de::DeserializeOwned>(
        &self,
        url: &Url,
        request: impl Fn() -> RequestBuilder,
    ) -> Result<T, Error> {
        self.patience
            .run(async || {
                let request = self.authorised(request()).header("accept", "application/json");
                let response = self.send(request.timeout(self.http.deadline())).await?;
                let body = read_limited(response, LISTING_LIMIT).await?;
                serde_json::from_slice(&body).map_err(|source| Error::Malformed { url: Box::new(url.clone()), source })
            })
            .await
    }

    /// Sends a request once; an answer that is no success is an error, one of a redirect that was not followed, too.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Response, Error> {
        let response = self.http.send(request).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let url = Box::new(response.url().clone());
        let retry_after = http::retry_after(response.headers());
        let elsewhere = http::not_followed(&response);
        let body = read_limited(response, ANSWER_LIMIT).await.unwrap_or_default();
        let detail = elsewhere.unwrap_or_else(|| reason(&body));
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let is_anonymous = matches!(self.login, Login::Anonymous);
            return Err(Error::Unauthorized { url, status, is_anonymous, detail });
        }
        Err(http::Error::Status { url, status, detail, code: None, retry_after }.into())
    }

    pub(super) fn authorised(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.login {
            Login::Anonymous => request,
            Login::Bearer(token) => request.bearer_auth(token),
            Login::ApiKey(key) => request.header("x-jfrog-art-api", http::sensitive(key)),
        }
    }

    /// The address of a part of the server's API.
    pub(super) fn api(&self, path: &[&str]) -> Url {
        // What would lead elsewhere is no part of it.
        let parts = path.iter().copied().filter(|part| !matches!(*part, "" | "." | ".."));
        reference::url_below(&self.base, std::iter::once("api").chain(parts)).expect("the server's address has a path")
    }

    /// Where a file is, with properties for it: `REPO/PATH;k=v;k2=v2`.
    #[expect(clippy::disallowed_methods, reason = "every part is encoded, and properties stand behind the path")]
    pub(super) fn url(&self, path: &str, properties: &[(String, String)]) -> Url {
        let mut url = self.base.clone();
        let mut text = url.path().trim_end_matches('/').to_owned();
        for part in std::iter::once(self.repository.as_str()).chain(path.split('/')) {
            text.push('/');
            text.push_str(&encode(part));
        }
        for (key, value) in properties {
            text.push_str(&format!(";{}={}", encode(key), encode(value)));
        }
        url.set_path(&text);
        url
    }

    /// Whether an error means that the server does not do this for us, so that it may be asked otherwise.
    pub(super) fn is_refusal(&self, error: &Error) -> bool {
        match error {
            Error::Unauthorized { status, .. } => {
                // Nobody's credentials are wrong who has none.
                *status == StatusCode::FORBIDDEN || matches!(self.login, Login::Anonymous)
            }
            Error::Http(http::Error::TooLarge { .. } | http::Error::TooSlow { .. }) => true,
            Error::Http(error) => error.status_code().is_some_and(|status| {
                status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS
                    || status == StatusCode::NOT_IMPLEMENTED
            }),
            // A list that broke off, as long searches do in the database.
            Error::Malformed { source, .. } => source.is_eof(),
            _ => false,
        }
    }
}

/// The server's words: Artifactory lists `errors`, each with a `message`.
fn reason(body: &[u8]) -> String {
    let document: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let errors = document.get("errors").and_then(|errors| errors.as_array());
    let messages: Vec<&str> = errors.into_iter().flatten().filter_map(|error| error.get("message")?.as_str()).collect();
    if messages.is_empty() { http::reason_in(body) } else { messages.join("; ") }
}

/// Bytes of an answer about one file.
pub(super) const ANSWER_LIMIT: u64 = 1 << 20;

/// A listing of 100,000 files has some 30 MB.
const LISTING_LIMIT: u64 = 256 << 20;
