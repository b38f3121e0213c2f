//! Files to a repository of Artifactory.
//!
//! ```text
//! GET  URL/api/storage/REPO?list&deep=1    → files: uri, size, sha1, sha2         may need a paid licence
//! POST URL/api/search/aql                  → results: path, name, size, sha256    where that is refused
//! PUT  URL/REPO/PATH[;k=v…]                X-Checksum-Deploy: true, no body       201 when the content is known, else 404
//! PUT  URL/REPO/PATH[;k=v…]                X-Checksum-{Sha256,Sha1,Md5}, the file
//! ```
//!
//! A file that is there with the same SHA-256 is passed over, one with another is left unless it is to be overwritten. The
//! server refuses what does not have the stated checksums.

mod files;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use reqwest::header::CONTENT_LENGTH;
use reqwest::{RequestBuilder, Response, StatusCode};
use serde::{Deserialize, Serialize};
use url::Url;

use self::files::{Sums, sums};
pub use self::files::{Wanted, files_below};
use crate::digest::Digest;
use crate::fs::{self, PathError};
use crate::http::{self, Http, Retriable, Verdict, read_limited};
use crate::progress::{Progress, Unit};
use crate::publish::Patience;
use crate::publish::s3::{encode, file_body};

/// One repository.
pub struct Artifactory {
    http: Http,
    patience: Arc<Patience>,
    base: Url,
    repository: String,
    login: Login,
}

/// How requests are authorised.
#[derive(Clone)]
pub enum Login {
    /// Not at all.
    Anonymous,
    /// An access or identity token.
    Bearer(String),
    /// An API key, as long as the server takes them.
    ApiKey(String),
}

/// What to do beside it.
#[derive(Clone, Debug)]
pub struct DeployOptions {
    /// Replace files that are there with other content.
    pub overwrite: bool,
    /// Properties for what is uploaded.
    pub properties: Vec<(String, String)>,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Files under way at one time.
    pub parallel: usize,
}

/// What was done to each file.
#[derive(Debug, Default, Serialize)]
pub struct DeployReport {
    /// Files that are there now (or would be) and were not before.
    pub uploaded: Vec<Deployed>,
    /// Files that were there with other content, which was replaced.
    pub replaced: Vec<Deployed>,
    /// Files that were there.
    pub skipped: Vec<String>,
    /// Files that are there with other content, which was left.
    pub different: Vec<Difference>,
    /// Files that could not be uploaded.
    pub failed: Vec<FailedFile>,
    /// Bytes sent; content that the server knew is not.
    pub sent_bytes: u64,
}

/// A file that was uploaded.
#[derive(Debug, Serialize)]
pub struct Deployed {
    /// Its path in the repository.
    pub path: String,
    /// In bytes.
    pub size: u64,
    /// Its content.
    pub sha256: Digest,
    /// Whether the server knew the content, so that nothing was sent.
    pub by_checksum: bool,
}

/// A file with other content than there.
#[derive(Debug, Serialize)]
pub struct Difference {
    /// Its path in the repository.
    pub path: String,
    /// The content here.
    pub sha256: Digest,
    /// The content there, where it is stated.
    pub there: Option<String>,
}

/// A file that could not be uploaded.
#[derive(Debug, Serialize)]
pub struct FailedFile {
    /// Its path in the repository.
    pub path: String,
    /// Why.
    pub error: String,
}

/// Why the repository cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer.
    #[error("{0}")]
    Http(#[from] http::Error),
    /// A file or directory here.
    #[error("{0}")]
    Path(#[from] PathError),
    /// The credentials are not taken.
    #[error("{}: {status}: {detail}", http::shown(url))]
    Unauthorized {
        /// What was requested.
        url: Box<Url>,
        /// 401 or 403.
        status: StatusCode,
        /// The server's words.
        detail: String,
    },
    /// There is no such repository.
    #[error("{}: no repository `{repository}`", http::shown(base))]
    NoRepository {
        /// The server.
        base: Box<Url>,
        /// Its name.
        repository: String,
    },
    /// An answer that is not what it should be.
    #[error("{}: the answer cannot be understood", http::shown(url))]
    Malformed {
        /// What was requested.
        url: Box<Url>,
        /// Why not.
        source: serde_json::Error,
    },
    /// The server has another content than was sent.
    #[error("{}: the server states {found}, expected {expected}", http::shown(url))]
    Different {
        /// Where it was sent.
        url: Box<Url>,
        /// What the server says.
        found: String,
        /// What was sent.
        expected: Digest,
    },
}

impl Retriable for Error {
    fn verdict(&self) -> Verdict {
        match self {
            Error::Http(error) => error.verdict(),
            _ => Verdict::Permanent,
        }
    }
}

/// What is there of a file.
#[derive(Debug, Default)]
struct There {
    sha256: Option<String>,
    sha1: Option<String>,
}

#[derive(Deserialize)]
struct Listing {
    files: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    uri: String,
    #[serde(default)]
    folder: bool,
    #[serde(default)]
    sha1: Option<String>,
    #[serde(default)]
    sha2: Option<String>,
}

#[derive(Deserialize)]
struct Found {
    results: Vec<FoundFile>,
}

#[derive(Deserialize)]
struct FoundFile {
    path: String,
    name: String,
    #[serde(default)]
    actual_sha1: Option<String>,
    #[serde(default)]
    sha256: Option<String>,
}

#[derive(Deserialize)]
struct Created {
    #[serde(default)]
    checksums: Checksums,
}

#[derive(Default, Deserialize)]
struct Checksums {
    #[serde(default)]
    sha256: Option<String>,
}

/// How a file turned out.
enum Deployment {
    New(Deployed),
    Replaced(Deployed),
    Skipped,
    Different { sha256: Digest, there: Option<String> },
}

impl Artifactory {
    /// Prepares the repository at `base`, which mostly ends in `/artifactory`; contacts nobody.
    pub fn new(http: Http, patience: Arc<Patience>, base: Url, repository: &str, login: Login) -> Self {
        Artifactory { http, patience, base, repository: repository.to_owned(), login }
    }

    /// Uploads what is not there. `starting` is told of each file before its bytes or its checksums are sent.
    ///
    /// A file that fails is reported and passed over; credentials that are not taken end the work.
    pub async fn deploy(
        &self,
        wanted: &[Wanted],
        options: &DeployOptions,
        starting: impl Fn(&Wanted),
        progress: &Progress,
    ) -> Result<DeployReport, Error> {
        let there = self.list().await?;
        let task = progress.task("files", Unit::Items, Some(wanted.len() as u64));
        let deployments: Vec<_> = futures_util::stream::iter(wanted)
            .map(async |file| {
                let deployment = self.deploy_one(file, there.get(&file.path), options, &starting).await;
                task.add(1);
                (file, deployment)
            })
            .buffered(options.parallel)
            .collect()
            .await;
        let mut report = DeployReport::default();
        for (file, deployment) in deployments {
            let path = file.path.clone();
            match deployment {
                Ok(Deployment::New(deployed)) => report.uploaded.push(deployed),
                Ok(Deployment::Replaced(deployed)) => report.replaced.push(deployed),
                Ok(Deployment::Skipped) => report.skipped.push(path),
                Ok(Deployment::Different { sha256, there }) => {
                    report.different.push(Difference { path, sha256, there });
                }
                Err(error @ Error::Unauthorized { status: StatusCode::UNAUTHORIZED, .. }) => return Err(error),
                Err(error) => report.failed.push(FailedFile { path, error: with_causes(&error) }),
            }
        }
        let sent = report.uploaded.iter().chain(&report.replaced).filter(|deployed| !deployed.by_checksum);
        report.sent_bytes = if options.dry_run { 0 } else { sent.map(|deployed| deployed.size).sum() };
        Ok(report)
    }

    async fn deploy_one(
        &self,
        wanted: &Wanted,
        there: Option<&There>,
        options: &DeployOptions,
        starting: &impl Fn(&Wanted),
    ) -> Result<Deployment, Error> {
        let path = wanted.file.clone();
        // The other checksums are needed only for what is sent or cannot be compared otherwise.
        let is_brief = there.is_some_and(|there| there.sha256.is_some());
        let mut sums = sums(path, is_brief).await?;
        if let Some(there) = there {
            let is_same = match (&there.sha256, &there.sha1) {
                (Some(sha256), _) => *sha256 == sums.sha256.hex(),
                (None, Some(sha1)) => *sha1 == sums.sha1,
                (None, None) => false,
            };
            if is_same {
                return Ok(Deployment::Skipped);
            }
            if !options.overwrite {
                let there = there.sha256.clone().or_else(|| there.sha1.clone());
                return Ok(Deployment::Different { sha256: sums.sha256, there });
            }
        }
        let mut by_checksum = false;
        if !options.dry_run {
            starting(wanted);
            if is_brief {
                sums = files::sums(wanted.file.clone(), false).await?;
            }
            by_checksum = self.put(wanted, &sums, &options.properties).await?;
        }
        let deployed = Deployed { path: wanted.path.clone(), size: sums.size, sha256: sums.sha256, by_checksum };
        Ok(if there.is_some() { Deployment::Replaced(deployed) } else { Deployment::New(deployed) })
    }

    /// Sends a file, or only its checksums when the server knows the content; then the answer is true.
    async fn put(&self, wanted: &Wanted, sums: &Sums, properties: &[(String, String)]) -> Result<bool, Error> {
        let url = self.url(&wanted.path, properties);
        let request = || {
            let request = self.http.client().put(url.clone());
            let request = request.header("x-checksum-sha256", sums.sha256.hex());
            self.authorised(request.header("x-checksum-sha1", &sums.sha1).header("x-checksum-md5", &sums.md5))
        };
        let by_checksum = self
            .patience
            .run(async || {
                let request = request().header("x-checksum-deploy", "true").header(CONTENT_LENGTH, 0);
                self.send(request.timeout(self.http.deadline())).await
            })
            .await;
        match by_checksum {
            Ok(response) => return self.check(response, sums).await.map(|()| true),
            // 404: not known. Others: a server or a proxy that does not know the question.
            Err(Error::Http(error)) if is_refusal(&error) => {}
            Err(error) => return Err(error),
        }
        let file = Arc::new(fs::open_file(&wanted.file)?);
        let time = self.http.deadline() + Duration::from_secs(sums.size / SLOWEST);
        let response = self
            .patience
            .run(async || {
                let content = file_body(file.clone(), 0, sums.size);
                let request = request().header("content-type", "application/octet-stream");
                self.send(request.header(CONTENT_LENGTH, sums.size).timeout(time).body(content)).await
            })
            .await?;
        self.check(response, sums).await.map(|()| false)
    }

    async fn check(&self, response: Response, sums: &Sums) -> Result<(), Error> {
        let url = Box::new(response.url().clone());
        let body = read_limited(response, ANSWER_LIMIT).await?;
        let stated = serde_json::from_slice::<Created>(&body).ok().and_then(|created| created.checksums.sha256);
        match stated {
            Some(found) if found != sums.sha256.hex() => {
                Err(Error::Different { url, found, expected: sums.sha256.clone() })
            }
            _ => Ok(()),
        }
    }

    /// What is in the repository, by path.
    async fn list(&self) -> Result<BTreeMap<String, There>, Error> {
        let mut url = self.api(&["storage", &self.repository]);
        url.set_query(Some("list&deep=1&listFolders=0"));
        match self.json::<Listing>(&url, || self.http.get(&url)).await {
            Ok(Listing { files }) => {
                let file = |file: Listed| {
                    (file.uri.trim_start_matches('/').to_owned(), There { sha256: file.sha2, sha1: file.sha1 })
                };
                return Ok(files.into_iter().filter(|file| !file.folder).map(file).collect());
            }
            Err(Error::Http(error)) if error.status_code() == Some(StatusCode::NOT_FOUND) => {
                let (base, repository) = (Box::new(self.base.clone()), self.repository.clone());
                return Err(Error::NoRepository { base, repository });
            }
            // Without a paid licence, or without the right to read all.
            Err(Error::Unauthorized { status: StatusCode::FORBIDDEN, .. }) => {}
            Err(Error::Http(error)) if is_refusal(&error) => {}
            Err(error) => return Err(error),
        }
        tracing::info!("{}: listing is refused, searching instead", http::shown(&url));
        let url = self.api(&["search", "aql"]);
        let repository = serde_json::to_string(&self.repository).expect("a text");
        let query = format!(
            r#"items.find({{"repo": {repository}}}).include("repo","path","name","size","actual_sha1","sha256")"#
        );
        let search = || self.http.client().post(url.clone()).header("content-type", "text/plain").body(query.clone());
        let Found { results } = self.json(&url, search).await?;
        let file = |file: FoundFile| {
            let path = if file.path == "." { file.name } else { format!("{}/{}", file.path, file.name) };
            (path, There { sha256: file.sha256, sha1: file.actual_sha1 })
        };
        Ok(results.into_iter().map(file).collect())
    }

    async fn json<T: serde::de::DeserializeOwned>(
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

    async fn send(&self, request: RequestBuilder) -> Result<Response, Error> {
        let response = self.http.send(request).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let url = Box::new(response.url().clone());
            let body = read_limited(response, ANSWER_LIMIT).await.unwrap_or_default();
            return Err(Error::Unauthorized { url, status, detail: reason(&body) });
        }
        let url = Box::new(response.url().clone());
        let retry_after = http::retry_after(response.headers());
        let body = read_limited(response, ANSWER_LIMIT).await.unwrap_or_default();
        Err(http::Error::Status { url, status, detail: reason(&body), code: None, retry_after }.into())
    }

    fn authorised(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.login {
            Login::Anonymous => request,
            Login::Bearer(token) => request.bearer_auth(token),
            Login::ApiKey(key) => request.header("x-jfrog-art-api", http::sensitive(key)),
        }
    }

    fn api(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        url.path_segments_mut().expect("the server's address is an HTTP URL").pop_if_empty().push("api").extend(path);
        url
    }

    /// Where a file is, with properties for it: `REPO/PATH;k=v;k2=v2`.
    fn url(&self, path: &str, properties: &[(String, String)]) -> Url {
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
}

/// Whether a server does not do what it is asked, so that it may be asked otherwise.
fn is_refusal(error: &http::Error) -> bool {
    error.status_code().is_some_and(|status| {
        status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS || status == StatusCode::NOT_IMPLEMENTED
    })
}

/// The server's words: Artifactory lists `errors`, each with a `message`.
fn reason(body: &[u8]) -> String {
    let document: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let errors = document.get("errors").and_then(|errors| errors.as_array());
    let messages: Vec<&str> = errors.into_iter().flatten().filter_map(|error| error.get("message")?.as_str()).collect();
    if messages.is_empty() { http::reason_in(body) } else { messages.join("; ") }
}

fn with_causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

const ANSWER_LIMIT: u64 = 1 << 20;

/// A listing of 100,000 files has some 30 MB.
const LISTING_LIMIT: u64 = 256 << 20;

/// Bytes a second below which a server is given up.
const SLOWEST: u64 = 50 << 10;
