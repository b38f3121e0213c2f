//! Red Hat's subscriber API: content sets listed page by page, packages fetched with an access token.
//!
//! ```text
//! POST SSO   grant_type=refresh_token, client_id=rhsm-api, refresh_token=OFFLINE TOKEN  → access_token, expires_in
//! GET  API/packages/cset/SET/arch/MACHINE?limit=100&offset=N                            → pagination, body
//! GET  API/packages/SHA256/download                                                     → 307 to the CDN
//! ```
//!
//! An access token lives some minutes: it is renewed a little before it expires, and once when the server calls it stale
//! (401), by one request however many wait for it. It is sent to the API's host alone, never to the CDN that the API
//! redirects to. The API answers the fifth request at once with 429 and says in `x-ratelimit-delay` how long to wait; it
//! also reports its own failures with status 200 and an `error` in the body. Both are tried again.

use std::time::{Duration, Instant};

use reqwest::{RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::sync::Mutex;
use url::Url;

use crate::digest::Digest;
use crate::http::{self, Http, Retriable, Verdict, read_limited};
use crate::kernel::package::{Format, Name, Package};
use crate::kernel::release::Machine;
use crate::limits;
use crate::progress::Narration;
use crate::reference;

/// The API with a subscriber's token.
pub struct RedHat {
    http: Http,
    options: RedHatOptions,
    access: Mutex<Option<Access>>,
    narration: Narration,
}

/// Where the API is and who asks.
#[derive(Clone)]
pub struct RedHatOptions {
    /// `https://api.access.redhat.com/management/v1/`
    pub api: Url,
    /// `https://sso.redhat.com/auth/realms/redhat-external/protocol/openid-connect/token`
    pub sso: Url,
    /// The offline token, which lives as long as it is used every 30 days.
    pub offline_token: String,
    /// The names of packages that are wanted; others are not listed.
    pub names: Vec<String>,
}

impl std::fmt::Debug for RedHatOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let RedHatOptions { api, sso, offline_token: _, names } = self;
        f.debug_struct("RedHatOptions")
            .field("api", api)
            .field("sso", sso)
            .field("names", names)
            .finish_non_exhaustive()
    }
}

struct Access {
    token: String,
    until: Instant,
}

/// Why the API cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer, or a bad one.
    #[error("{0}")]
    Http(#[from] http::Error),
    /// A content set or a machine that is no part of an address.
    #[error("{0}")]
    Address(#[from] reference::Error),
    /// A list without an end.
    #[error("{content_set}: lists more than {} pages", 4 * limits::PAGES)]
    Endless {
        /// The content set.
        content_set: String,
    },
    /// The offline token is not taken.
    #[error("{}: the offline token is invalid or has expired", http::shown(sso))]
    OfflineToken {
        /// Who was asked.
        sso: Box<Url>,
    },
    /// Too many requests.
    #[error("{}: too many requests", http::shown(url))]
    RateLimited {
        /// What was requested.
        url: Box<Url>,
        /// How long the server asked to wait.
        after: Option<Duration>,
    },
    /// A failure reported in an answer with status 200.
    #[error("{}: error {code} in the answer{}{message}", http::shown(url), if message.is_empty() { "" } else { ": " })]
    InAnswer {
        /// What was requested.
        url: Box<Url>,
        /// The code in the body.
        code: i64,
        /// The message in the body.
        message: String,
    },
    /// An answer that is not what it should be.
    #[error("{}: the answer cannot be understood", http::shown(url))]
    Malformed {
        /// What was requested.
        url: Box<Url>,
        /// Why not.
        source: serde_json::Error,
    },
}

impl Retriable for Error {
    fn verdict(&self) -> Verdict {
        match self {
            Error::Http(error) => error.verdict(),
            Error::RateLimited { after, .. } => Verdict::Again { after: *after },
            Error::InAnswer { .. } => Verdict::Again { after: None },
            Error::Address(_) | Error::OfflineToken { .. } | Error::Malformed { .. } | Error::Endless { .. } => {
                Verdict::Permanent
            }
        }
    }
}

#[derive(Deserialize)]
struct Token {
    access_token: String,
    #[serde(default)]
    expires_in: Option<u64>,
}

#[derive(Deserialize)]
struct Page {
    // Present in every good page; what it says is also seen from the body.
    pagination: Option<IgnoredAny>,
    #[serde(default)]
    body: Option<Vec<Listed>>,
    #[serde(default)]
    error: Option<Failure>,
}

#[derive(Deserialize)]
struct Failure {
    #[serde(default)]
    code: i64,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    name: String,
    version: String,
    release: String,
    arch: String,
    checksum: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    href: Option<String>,
    #[serde(default)]
    download_href: Option<String>,
}

impl RedHat {
    /// Prepares the API; contacts nobody.
    pub fn new(http: Http, options: RedHatOptions) -> Self {
        RedHat { http, options, access: Mutex::new(None), narration: Narration::default() }
    }

    /// Says what is done while it is done.
    pub fn narrated(self, narration: Narration) -> Self {
        RedHat { narration, ..self }
    }

    /// Lists the wanted packages of a content set.
    ///
    /// There is no search by name, so pages are walked, four at once. As long as names come sorted, as they do today, the walk
    /// ends behind the last name that is wanted; once they do not, it goes to the end.
    pub async fn packages(&self, content_set: &str, machine: &Machine) -> Result<Vec<Package>, Error> {
        let last_wanted = self.options.names.iter().max().cloned().unwrap_or_default();
        let mut packages = Vec::new();
        let mut previous = String::new();
        let mut is_sorted = true;
        let narration = self.narration;
        narration.line(format_args!("Scraping bucket {content_set}"));
        narration.mark(content_set);
        for batch in 0..=limits::PAGES {
            if batch == limits::PAGES {
                return Err(Error::Endless { content_set: content_set.to_owned() });
            }
            let page = |n: usize| self.page(content_set, machine, (batch * 4 + n) * PAGE);
            let pages = tokio::try_join!(page(0), page(1), page(2), page(3))?;
            let mut is_last = false;
            for listed in [pages.0, pages.1, pages.2, pages.3] {
                // Those behind the last one were asked for in vain.
                if !is_last {
                    narration.mark(".");
                }
                is_last |= listed.len() < PAGE;
                for package in listed {
                    is_sorted &= previous <= package.name;
                    previous.clone_from(&package.name);
                    packages.extend(self.package(package));
                }
            }
            if is_last || is_sorted && previous > last_wanted {
                break;
            }
        }
        narration.end_marks();
        narration.line(format_args!("Done scraping bucket {content_set}"));
        Ok(packages)
    }

    /// Whether a URL is the API's and needs its token.
    pub fn owns(&self, url: &Url) -> bool {
        url.origin() == self.options.api.origin()
    }

    /// Sends a request to the API with a token. A stale one is renewed once.
    pub async fn send(&self, request: impl Fn() -> RequestBuilder) -> Result<Response, Error> {
        let token = self.token(None).await?;
        let mut response = self.http.send(request().bearer_auth(&token)).await?;
        // What the CDN refuses is no matter of the token.
        if response.status() == StatusCode::UNAUTHORIZED && self.owns(response.url()) {
            let token = self.token(Some(&token)).await?;
            response = self.http.send(request().bearer_auth(&token)).await?;
        }
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            let seconds =
                response.headers().get("x-ratelimit-delay").and_then(|delay| delay.to_str().ok()?.parse().ok());
            let after = seconds.map(Duration::from_secs).or_else(|| http::retry_after(response.headers()));
            return Err(Error::RateLimited { url: Box::new(response.url().clone()), after });
        }
        Ok(response)
    }

    async fn page(&self, content_set: &str, machine: &Machine, offset: usize) -> Result<Vec<Listed>, Error> {
        let mut url =
            reference::url_below(&self.options.api, ["packages", "cset", content_set, "arch", machine.as_str()])?;
        url.query_pairs_mut().append_pair("limit", &PAGE.to_string()).append_pair("offset", &offset.to_string());
        self.http.retry().run(async || self.page_once(&url).await).await
    }

    async fn page_once(&self, url: &Url) -> Result<Vec<Listed>, Error> {
        let response = self.send(|| self.http.get(url).header("accept", "application/json")).await?;
        if response.status() != StatusCode::OK {
            return Err(http::Error::status(response).await.into());
        }
        let body = read_limited(response, PAGE_LIMIT).await?;
        let malformed = |source| Error::Malformed { url: Box::new(url.clone()), source };
        let page: Page = serde_json::from_slice(&body).map_err(malformed)?;
        match page {
            Page { error: Some(Failure { code, message }), .. } => {
                Err(Error::InAnswer { url: Box::new(url.clone()), code, message })
            }
            Page { pagination: None, .. } => Err(malformed(serde::de::Error::missing_field("pagination"))),
            Page { body, .. } => Ok(body.unwrap_or_default()),
        }
    }

    fn package(&self, listed: Listed) -> Option<Package> {
        let Listed { name, version, release, arch, checksum, size, href, download_href } = listed;
        if !self.options.names.contains(&name) {
            return None;
        }
        let name = Name { name, version: format!("{version}-{release}"), architecture: arch, format: Format::Rpm };
        // The parts become a file's name here and must be one.
        if name.to_string().parse::<Name>().ok()? != name {
            return None;
        }
        let location = download_href.or_else(|| Some(format!("{}/download", href?.trim_end_matches('/'))))?;
        // The token goes with it, and a path would be a file of this machine.
        let location = reference::resolve(&self.options.api, &location).ok()?.into();
        let sha256: Option<Digest> = format!("sha256:{}", checksum.to_ascii_lowercase()).parse().ok();
        Some(Package {
            name,
            location,
            size,
            is_digest_stated: sha256.is_some(),
            sha256,
            checksum: None,
            relations: None,
            vendor: None,
        })
    }

    /// The access token: the one at hand, or a new one when there is none, when it is about to expire, or when it is the one
    /// that was found stale. The lock is held while a new one is fetched, so that all who wait get it.
    async fn token(&self, stale: Option<&str>) -> Result<String, Error> {
        let mut access = self.access.lock().await;
        if let Some(Access { token, until }) = &*access
            && Instant::now() < *until
            && stale != Some(token)
        {
            return Ok(token.clone());
        }
        let sso = &self.options.sso;
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "refresh_token")
            .append_pair("client_id", "rhsm-api")
            .append_pair("refresh_token", &self.options.offline_token)
            .finish();
        let token: Token = self
            .http
            .retry()
            .run(async || {
                let request = self
                    .http
                    .client()
                    .post(sso.clone())
                    .header("content-type", "application/x-www-form-urlencoded")
                    .body(form.clone());
                let response = self.http.send(request).await?;
                match response.status() {
                    StatusCode::OK => {}
                    StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED => {
                        return Err(Error::OfflineToken { sso: Box::new(sso.clone()) });
                    }
                    _ => return Err(http::Error::status(response).await.into()),
                }
                let body = read_limited(response, PAGE_LIMIT).await?;
                serde_json::from_slice(&body).map_err(|source| Error::Malformed { url: Box::new(sso.clone()), source })
            })
            .await?;
        // Five minutes today, fifteen once; renewed before it expires on the way.
        let until = http::renewal(token.expires_in);
        *access = Some(Access { token: token.access_token.clone(), until });
        Ok(token.access_token)
    }
}

/// The content sets that hold the kernels of a machine, when none are named.
pub fn default_content_sets(machine: &Machine) -> Vec<String> {
    let machine = machine.as_str();
    let mut sets: Vec<String> = ["8", "9"]
        .into_iter()
        .flat_map(|major| {
            // The headers are in AppStream since 9.
            ["baseos", "baseos-eus", "appstream", "appstream-eus"]
                .iter()
                .filter(move |kind| major == "9" || kind.starts_with("baseos"))
                .map(move |kind| format!("rhel-{major}-for-{machine}-{kind}-rpms"))
        })
        .collect();
    if machine == "x86_64" {
        sets.extend(["rhocp-4.7-for-rhel-8-x86_64-rpms", "rhel-9-for-x86_64-baseos-e4s-rpms"].map(str::to_owned));
    }
    sets
}

/// The most that the API gives at once.
const PAGE: usize = 100;
const PAGE_LIMIT: u64 = 16 << 20;
