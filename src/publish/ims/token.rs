//! Access tokens by client credentials (RFC 6749, 4.4), as Keycloak gives them.
//!
//! ```text
//! POST URL   Authorization: Basic ID:SECRET   grant_type=client_credentials   → access_token, expires_in
//! ```
//!
//! A token is renewed a little before it expires, and once when the service calls it stale, always by the same request and
//! by one however many wait for it. There are no refresh tokens, and nothing but this form is ever sent.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use reqwest::StatusCode;
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;

use crate::http::{self, Http, Retriable, Verdict, read_limited};
use crate::publish::Patience;

/// Who asks for tokens, and where.
#[derive(Clone)]
pub struct ClientCredentials {
    /// The token endpoint.
    pub url: Url,
    /// The client's id.
    pub id: String,
    /// The client's secret.
    pub secret: String,
}

impl fmt::Debug for ClientCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientCredentials({} at {}, REDACTED)", self.id, self.url)
    }
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer, or one without a reason.
    #[error("{0}")]
    Http(#[from] http::Error),
    /// The credentials are not taken.
    #[error("{}: no token for client `{id}`: {reason}", http::shown(url))]
    Refused {
        /// Who was asked.
        url: Box<Url>,
        /// For whom.
        id: String,
        /// The server's words.
        reason: String,
    },
    /// An answer that is no token.
    #[error("{}: the answer has no bearer token", http::shown(url))]
    Malformed {
        /// Who was asked.
        url: Box<Url>,
    },
}

impl Retriable for Error {
    fn verdict(&self) -> Verdict {
        match self {
            Error::Http(error) => error.verdict(),
            Error::Refused { .. } | Error::Malformed { .. } => Verdict::Permanent,
        }
    }
}

/// The token at hand.
pub(super) struct Tokens {
    http: Http,
    patience: Arc<Patience>,
    credentials: ClientCredentials,
    current: Mutex<Option<Access>>,
}

struct Access {
    token: String,
    until: Instant,
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    #[serde(default)]
    token_type: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
}

#[derive(Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    error: String,
    #[serde(default)]
    error_description: String,
}

impl Tokens {
    pub(super) fn new(http: Http, patience: Arc<Patience>, credentials: ClientCredentials) -> Self {
        Tokens { http, patience, credentials, current: Mutex::new(None) }
    }

    /// The token at hand, or a new one when there is none, when it is about to expire, or when it is the one that was found
    /// stale. The lock is held while a new one is fetched, so that all who wait get it.
    pub(super) async fn token(&self, stale: Option<&str>) -> Result<String, Error> {
        let mut current = self.current.lock().await;
        if let Some(Access { token, until }) = &*current
            && Instant::now() < *until
            && stale != Some(token)
        {
            return Ok(token.clone());
        }
        let answer = self.patience.run(async || self.fetch().await).await?;
        let until = http::renewal(answer.expires_in);
        *current = Some(Access { token: answer.access_token.clone(), until });
        Ok(answer.access_token)
    }

    async fn fetch(&self) -> Result<Answer, Error> {
        let ClientCredentials { url, id, secret } = &self.credentials;
        let request = self
            .http
            .client()
            .post(url.clone())
            .basic_auth(id, Some(secret))
            .header("accept", "application/json")
            .header("content-type", "application/x-www-form-urlencoded")
            .timeout(self.http.deadline())
            .body("grant_type=client_credentials");
        let response = self.http.send(request).await?;
        let status = response.status();
        if matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let body = read_limited(response, ANSWER_LIMIT).await.unwrap_or_default();
            let Refusal { error, error_description } = serde_json::from_slice(&body).unwrap_or_default();
            let reason = match (error.is_empty(), error_description.is_empty()) {
                (true, true) => status.to_string(),
                (false, true) => error,
                (true, false) => error_description,
                (false, false) => format!("{error_description} ({error})"),
            };
            return Err(Error::Refused { url: Box::new(url.clone()), id: id.clone(), reason });
        }
        if !status.is_success() {
            return Err(http::Error::status(response).await.into());
        }
        let body = read_limited(response, ANSWER_LIMIT).await?;
        let answer = serde_json::from_slice::<Answer>(&body).ok();
        let is_bearer =
            |answer: &Answer| answer.token_type.as_ref().is_none_or(|kind| kind.eq_ignore_ascii_case("bearer"));
        answer.filter(is_bearer).ok_or_else(|| Error::Malformed { url: Box::new(url.clone()) })
    }
}

const ANSWER_LIMIT: u64 = 1 << 20;
