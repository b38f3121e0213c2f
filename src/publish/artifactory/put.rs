//! One file to the server: by its checksums, and with its bytes where those are not known.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::CONTENT_LENGTH;
use reqwest::{Response, StatusCode};
use serde::Deserialize;

use crate::fs;
use crate::http::{self, read_limited};
use crate::publish::artifactory::files::{Sums, Wanted};
use crate::publish::artifactory::request::ANSWER_LIMIT;
use crate::publish::artifactory::there::Found;
use crate::publish::artifactory::{Artifactory, Error};
use crate::publish::s3::file_body;

/// The answer to a file that was taken.
#[derive(Deserialize)]
struct Created {
    checksums: Checksums,
}

#[derive(Deserialize)]
struct Checksums {
    #[serde(default)]
    sha256: Option<String>,
    #[serde(default)]
    sha1: Option<String>,
}

#[derive(Default, Deserialize)]
struct Properties {
    properties: BTreeMap<String, Vec<String>>,
}

impl Artifactory {
    /// Sends a file, or only its checksums when the server knows the content; then the answer is true.
    pub(super) async fn put(
        &self,
        wanted: &Wanted,
        sums: &Sums,
        properties: &[(String, String)],
    ) -> Result<bool, Error> {
        let mut url = self.url(&wanted.path, properties);
        let request = |url: &url::Url| {
            let request = self.http.client().put(url.clone());
            let request = request.header("x-checksum-sha256", sums.sha256.hex());
            self.authorised(request.header("x-checksum-sha1", &sums.sha1).header("x-checksum-md5", &sums.md5))
        };
        let by_checksum = self
            .patience
            .run(async || {
                let request = request(&url).header("x-checksum-deploy", "true").header(CONTENT_LENGTH, 0);
                self.send(request.timeout(self.http.deadline())).await
            })
            .await;
        match by_checksum {
            Ok(response) => return self.check(response, wanted, sums).await.map(|()| true),
            // Not known, or a server or a proxy that does not know the question. With its bytes it would be refused alike
            // where the repository takes nothing (405) or not this (409).
            Err(Error::Http(http::Error::Status { url: asked, status, .. })) if is_refused_question(status) => {
                // Where a redirect led to that keeps the method (307, 308), the bytes go at once: they cannot be sent twice.
                if asked.origin() == url.origin() {
                    url = *asked;
                }
            }
            Err(error) => return Err(error),
        }
        let file = Arc::new(fs::open_file(&wanted.file)?);
        let time = self.http.deadline() + Duration::from_secs(sums.size / SLOWEST);
        let response = self
            .patience
            .run(async || {
                let content = file_body(file.clone(), 0, sums.size);
                let request = request(&url).header("content-type", "application/octet-stream");
                self.send(request.header(CONTENT_LENGTH, sums.size).timeout(time).body(content)).await
            })
            .await?;
        self.check(response, wanted, sums).await.map(|()| false)
    }

    /// Whether a file has its properties. A server drops them without a word where the login may not annotate
    /// (jfrog-cli#1174).
    pub(super) async fn check_properties(&self, path: &str, expected: &[(String, String)]) -> Result<(), Error> {
        let parts: Vec<&str> = ["storage", &self.repository].into_iter().chain(path.split('/')).collect();
        let mut url = self.api(&parts);
        url.set_query(Some("properties"));
        let Properties { properties } = match self.json(&url, || self.http.get(&url)).await {
            // None at all.
            Err(Error::Http(error)) if error.status_code() == Some(StatusCode::NOT_FOUND) => Properties::default(),
            result => result?,
        };
        let has =
            |key: &str, value: &str| properties.get(key).is_some_and(|values| values.iter().any(|it| it == value));
        let lacking = expected.iter().filter(|(key, value)| !has(key, value));
        let names: BTreeSet<&str> = lacking.map(|(key, _)| key.as_str()).collect();
        match names.is_empty() {
            true => Ok(()),
            false => Err(Error::WithoutProperties { names: names.into_iter().collect::<Vec<_>>().join(", ") }),
        }
    }

    /// Whether the server has what was sent: as it answers, or else as it says when it is asked. Any server and every login
    /// page answers a `PUT` with 200; only who states the checksums has stored the file.
    async fn check(&self, response: Response, wanted: &Wanted, sums: &Sums) -> Result<(), Error> {
        let (url, status) = (Box::new(response.url().clone()), response.status());
        let body = read_limited(response, ANSWER_LIMIT).await?;
        let stated = match serde_json::from_slice::<Created>(&body) {
            Ok(Created { checksums: Checksums { sha256: Some(sha256), .. } }) => Some((sha256, sums.sha256.hex())),
            Ok(Created { checksums: Checksums { sha1: Some(sha1), .. } }) => Some((sha1, sums.sha1.as_str())),
            _ => None,
        };
        match stated {
            Some((found, expected)) if found != expected => {
                return Err(Error::Different { url, found, expected: expected.to_owned() });
            }
            Some(_) => return Ok(()),
            None => {}
        }
        let Found::File(there) = self.ask(&wanted.path).await? else { return Err(Error::Unconfirmed { url, status }) };
        match (there.is(sums.sha256.hex(), &sums.sha1), there.stated()) {
            (Some(true), _) => Ok(()),
            (Some(false), Some(found)) => Err(Error::Different { url, found, expected: sums.sha256.hex().to_owned() }),
            _ => Err(Error::Unconfirmed { url, status }),
        }
    }
}

fn is_refused_question(status: StatusCode) -> bool {
    let is_final = matches!(
        status,
        StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::CONFLICT
            | StatusCode::URI_TOO_LONG
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS
    );
    status.is_client_error() && !is_final || status == StatusCode::NOT_IMPLEMENTED
}

/// Bytes a second below which a server is given up.
const SLOWEST: u64 = 50 << 10;
