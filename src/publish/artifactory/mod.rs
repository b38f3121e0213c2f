//! Files to a repository of Artifactory.
//!
//! ```text
//! GET  URL/api/storage/REPO?list&deep=1    → files: uri, size, sha1, sha2         may need a paid licence
//! POST URL/api/search/aql                  → results: path, name, size, sha256    where that is refused
//! HEAD URL/REPO/PATH                       → X-Checksum-Sha256                    where both leave it open
//! PUT  URL/REPO/PATH[;k=v…]                X-Checksum-Deploy: true, no body       201 when the content is known, else 404
//! PUT  URL/REPO/PATH[;k=v…]                X-Checksum-{Sha256,Sha1,Md5}, the file
//! GET  URL/api/storage/REPO/PATH?properties                                       whether it has them, 404 for none
//! ```
//!
//! A file that is there with the same SHA-256 is passed over, one with another is left unless it is to be overwritten. The
//! server refuses what does not have the stated checksums.

mod error;
mod files;
mod put;
mod request;
mod there;

use std::sync::Arc;

use futures_util::StreamExt;
use reqwest::StatusCode;
use serde::Serialize;
use url::Url;

pub use self::error::Error;
pub use self::files::{LeftOut, Wanted, files_below};
use self::there::{Found, Known};
use crate::causes;
use crate::digest::Digest;
use crate::http::Http;
use crate::progress::{Progress, Unit};
use crate::publish::Patience;

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
    /// Files of `uploaded` of which the server did not say whether there was another one before.
    pub not_compared: Vec<FailedFile>,
    /// Files that were uploaded or replaced and do not have the properties that they were sent with, as far as the server says.
    pub without_properties: Vec<FailedFile>,
    /// Files that were there.
    pub skipped: Vec<String>,
    /// Files that are there with other content, which was left.
    pub different: Vec<Difference>,
    /// Files that could not be uploaded.
    pub failed: Vec<FailedFile>,
    /// Bytes sent; content that the server knew is not.
    pub sent_bytes: u64,
    /// The first that the server refused to this login, for what to do about it.
    #[serde(skip)]
    pub refused: Option<Error>,
}

/// A file that was uploaded.
#[derive(Debug, Serialize)]
pub struct Deployed {
    /// Its path in the repository.
    pub path: String,
    /// Where it is then.
    pub url: Url,
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

/// A file of which something failed.
#[derive(Debug, Serialize)]
pub struct FailedFile {
    /// Its path in the repository.
    pub path: String,
    /// Why.
    pub error: String,
}

/// How a file turned out.
enum Deployment {
    Done(Box<Done>),
    Skipped,
    Different { sha256: Digest, there: Option<String> },
}

/// A file that was uploaded, and what is to be said of it.
struct Done {
    deployed: Deployed,
    is_replaced: bool,
    /// Why it was not compared with what was there.
    not_compared: Option<Error>,
    /// Why it may lack its properties.
    without_properties: Option<Error>,
}

impl DeployReport {
    fn keep_refusal(&mut self, errors: impl IntoIterator<Item = Error>) {
        let mut refusals = errors.into_iter().filter(|error| matches!(error, Error::Unauthorized { .. }));
        self.refused = self.refused.take().or_else(|| refusals.next());
    }
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
        let known = self.known().await?;
        let task = progress.task("files", Unit::Items, Some(wanted.len() as u64));
        let deployments: Vec<_> = futures_util::stream::iter(wanted)
            .map(async |file| {
                let deployment = self.deploy_one(file, &known, options, &starting).await;
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
                Ok(Deployment::Done(done)) => {
                    let Done { deployed, is_replaced, not_compared, without_properties } = *done;
                    if is_replaced { &mut report.replaced } else { &mut report.uploaded }.push(deployed);
                    let said = |why: &Error| FailedFile { path: path.clone(), error: causes::line(why) };
                    report.not_compared.extend(not_compared.as_ref().map(said));
                    report.without_properties.extend(without_properties.as_ref().map(said));
                    report.keep_refusal(not_compared.into_iter().chain(without_properties));
                }
                Ok(Deployment::Skipped) => report.skipped.push(path),
                Ok(Deployment::Different { sha256, there }) => {
                    report.different.push(Difference { path, sha256, there });
                }
                Err(error @ Error::Unauthorized { status: StatusCode::UNAUTHORIZED, .. }) => return Err(error),
                Err(error) => {
                    report.failed.push(FailedFile { path, error: causes::line(&error) });
                    report.keep_refusal([error]);
                }
            }
        }
        let sent = report.uploaded.iter().chain(&report.replaced).filter(|deployed| !deployed.by_checksum);
        report.sent_bytes = if options.dry_run { 0 } else { sent.map(|deployed| deployed.size).sum() };
        Ok(report)
    }

    async fn deploy_one(
        &self,
        wanted: &Wanted,
        known: &Known,
        options: &DeployOptions,
        starting: &impl Fn(&Wanted),
    ) -> Result<Deployment, Error> {
        let found = self.find(&wanted.path, known).await?;
        // The other checksums are needed only for what is sent or cannot be compared otherwise.
        let is_brief = matches!(&found, Found::File(there) if there.has_sha256());
        let mut sums = wanted.sums(is_brief).await?;
        if let Found::File(there) = &found {
            if there.is(sums.sha256.hex(), &sums.sha1) == Some(true) {
                return Ok(Deployment::Skipped);
            }
            if !options.overwrite {
                return Ok(Deployment::Different { sha256: sums.sha256, there: there.stated() });
            }
        }
        let (mut by_checksum, mut without_properties) = (false, None);
        if !options.dry_run {
            starting(wanted);
            if is_brief {
                sums = wanted.sums(false).await?;
            }
            by_checksum = self.put(wanted, &sums, &options.properties).await?;
            if !options.properties.is_empty() {
                without_properties = self.check_properties(&wanted.path, &options.properties).await.err();
            }
        }
        let (path, url) = (wanted.path.clone(), self.url(&wanted.path, &[]));
        let deployed = Deployed { path, url, size: sums.size, sha256: sums.sha256, by_checksum };
        let is_replaced = matches!(&found, Found::File(_));
        let not_compared = if let Found::Unknown { why } = found { Some(why) } else { None };
        Ok(Deployment::Done(Box::new(Done { deployed, is_replaced, not_compared, without_properties })))
    }
}
