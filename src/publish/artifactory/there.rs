//! What is in a repository already.
//!
//! A listing is whole; who may not have one gets a search, which shows what the login may read and is trimmed at a limit of
//! the server's (`range.notification`, jfrog-cli#2845). So a search never says that a file is not there: what it does not
//! show is asked for by itself, and so is everything where both are refused.

use std::collections::BTreeMap;

use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde::Deserialize;

use crate::publish::artifactory::{Artifactory, Error};
use crate::publish::s3::encode;

/// What is known of a repository before the work begins.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// By path.
    files: BTreeMap<String, There>,
    /// Whether what is not in `files` is not there.
    is_whole: bool,
}

/// The content of a file that is there, as far as the server states it.
#[derive(Clone, Debug, Default)]
pub(super) struct There {
    sha256: Option<String>,
    sha1: Option<String>,
}

/// What the server says of one path.
pub(super) enum Found {
    /// There is nothing.
    Nothing,
    /// There is a file.
    File(There),
    /// It does not say.
    Unknown {
        /// Why not.
        why: Error,
    },
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
struct Search {
    results: Vec<SearchResult>,
    #[serde(default)]
    range: Range,
}

#[derive(Deserialize)]
struct SearchResult {
    path: String,
    name: String,
    #[serde(default)]
    actual_sha1: Option<String>,
    #[serde(default)]
    sha256: Option<String>,
}

#[derive(Default, Deserialize)]
struct Range {
    #[serde(default)]
    notification: Option<String>,
}

impl There {
    /// Of `X-Checksum-Sha256` and `X-Checksum-Sha1`.
    fn of(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name)?.to_str().ok().map(|value| value.trim().to_lowercase());
        There { sha256: text("x-checksum-sha256"), sha1: text("x-checksum-sha1") }
    }

    /// Whether SHA-256 alone tells whether it is the same.
    pub(super) fn has_sha256(&self) -> bool {
        self.sha256.is_some()
    }

    /// Whether it is this content; none where the server states nothing of it.
    pub(super) fn is(&self, sha256: &str, sha1: &str) -> Option<bool> {
        match (&self.sha256, &self.sha1) {
            (Some(found), _) => Some(found == sha256),
            (None, Some(found)) => Some(found == sha1),
            (None, None) => None,
        }
    }

    /// What is stated of the content.
    pub(super) fn stated(&self) -> Option<String> {
        self.sha256.clone().or_else(|| self.sha1.clone())
    }
}

impl Artifactory {
    /// What is in the repository, as far as it can be had in one answer.
    pub(super) async fn known(&self) -> Result<Known, Error> {
        let mut url = self.api(&["storage", &self.repository]);
        url.set_query(Some("list&deep=1&listFolders=0"));
        let refused = match self.json::<Listing>(&url, || self.http.get(&url)).await {
            Ok(Listing { files }) => {
                let file = |file: Listed| {
                    (file.uri.trim_start_matches('/').to_owned(), There { sha256: file.sha2, sha1: file.sha1 })
                };
                let files = files.into_iter().filter(|file| !file.folder).map(file).collect();
                return Ok(Known { files, is_whole: true });
            }
            Err(Error::Http(error)) if error.status_code() == Some(StatusCode::NOT_FOUND) => {
                let (base, repository) = (Box::new(self.base.clone()), self.repository.clone());
                return Err(Error::NoRepository { base, repository });
            }
            // Without a paid licence, or without the right to read all.
            Err(error) if self.is_refusal(&error) => error,
            Err(error) => return Err(error),
        };
        tracing::info!("{refused}: no listing; searching instead");
        let files = match self.search().await {
            Ok(Search { results, range }) => {
                if let Some(notification) = range.notification {
                    tracing::warn!("{}: {notification}; each file that is not shown is asked for", self.repository);
                }
                results.into_iter().map(SearchResult::file).collect()
            }
            Err(error) if self.is_refusal(&error) => {
                tracing::info!("{error}: no search; asking for each file");
                BTreeMap::new()
            }
            Err(error) => return Err(error),
        };
        Ok(Known { files, is_whole: false })
    }

    /// What is at one path: as it is known, or as the server answers when it is asked for.
    pub(super) async fn find(&self, path: &str, known: &Known) -> Result<Found, Error> {
        match known.files.get(path) {
            Some(there) => Ok(Found::File(there.clone())),
            // A name that a list may have in another spelling, as percent-encoded, is asked for.
            None if known.is_whole && path.split('/').all(|part| encode(part) == part) => Ok(Found::Nothing),
            None => self.ask(path).await,
        }
    }

    /// Asks for one path.
    pub(super) async fn ask(&self, path: &str) -> Result<Found, Error> {
        let url = self.url(path, &[]);
        let head = || self.authorised(self.http.client().head(url.clone())).timeout(self.http.deadline());
        match self.patience.run(async || self.send(head()).await).await {
            Ok(response) => Ok(Found::File(There::of(response.headers()))),
            Err(Error::Http(error)) if error.status_code() == Some(StatusCode::NOT_FOUND) => Ok(Found::Nothing),
            Err(why) if self.is_refusal(&why) => Ok(Found::Unknown { why }),
            Err(error) => Err(error),
        }
    }

    async fn search(&self) -> Result<Search, Error> {
        let url = self.api(&["search", "aql"]);
        let repository = serde_json::to_string(&self.repository).expect("a text");
        let query = format!(
            r#"items.find({{"repo": {repository}}}).include("repo","path","name","size","actual_sha1","sha256")"#
        );
        let search = || self.http.client().post(url.clone()).header("content-type", "text/plain").body(query.clone());
        self.json(&url, search).await
    }
}

impl SearchResult {
    fn file(self) -> (String, There) {
        let path = if self.path == "." { self.name } else { format!("{}/{}", self.path, self.name) };
        (path, There { sha256: self.sha256, sha1: self.actual_sha1 })
    }
}
