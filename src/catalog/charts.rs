//! Fetches the Helm chart index, and the list of certified charts that partners distribute themselves, which lies
//! beside it.

use reqwest::StatusCode;
use reqwest::header::{ETAG, IF_NONE_MATCH};
use url::Url;

use crate::catalog::chart_index::{self, Index, IndexError};
use crate::http::{self, Http, Retriable, Verdict, shown};
use crate::limits;
use crate::reference;

/// What a request for an index brought.
#[derive(Debug)]
pub enum Fetched {
    /// It is as it was (304).
    Unchanged,
    /// It is new.
    Index {
        /// What it holds; it is complete.
        index: Index,
        /// What to send next time, where the server gave one.
        etag: Option<String>,
    },
    /// There is none (404).
    Absent,
}

/// Why an index could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer, or one with an unwanted status.
    #[error("{0}")]
    Http(#[from] http::Error),
    /// The answer is no index.
    #[error("{}: not a chart index", shown(url))]
    Index {
        /// What was requested.
        url: Box<Url>,
        /// Whether there was an index before.
        is_known: bool,
        /// What is wrong.
        source: IndexError,
    },
    /// The index ends before `generated`, which Helm writes last.
    #[error("{}: the chart index ends without `generated`: half of it may be missing", shown(url))]
    Half {
        /// What was requested.
        url: Box<Url>,
    },
}

impl Retriable for Error {
    fn verdict(&self) -> Verdict {
        match self {
            Error::Http(error) => error.verdict(),
            // Nothing says that an index was ever there: a wrong address is told at once.
            Error::Index { is_known: false, .. } => Verdict::Permanent,
            // A front end's error page, or a body that broke off, or a file that is being written.
            Error::Index { .. } | Error::Half { .. } => Verdict::Again { after: None },
        }
    }
}

/// Where the list of unpublished certified charts lies: beside the index.
pub fn unpublished_url(index: &Url) -> Url {
    // Only a URL that can have no path, such as `mailto:`, cannot be joined to; asking it fails with its name.
    reference::resolve(index, UNPUBLISHED).unwrap_or_else(|_| index.clone())
}

/// Requests an index, conditionally when an entity tag is known, with the run's retries. `is_known` says that it was read before.
pub async fn fetch(http: &Http, url: &Url, etag: Option<&str>, is_known: bool) -> Result<Fetched, Error> {
    http.retry()
        .run(async || {
            let mut request = http.get(url).timeout(http.deadline());
            if let Some(etag) = etag {
                request = request.header(IF_NONE_MATCH, etag);
            }
            let response = http.send(request).await?;
            match response.status() {
                StatusCode::OK => {}
                StatusCode::NOT_MODIFIED if etag.is_some() => return Ok(Fetched::Unchanged),
                StatusCode::NOT_FOUND => return Ok(Fetched::Absent),
                _ => return Err(http::Error::status(response).await.into()),
            }
            let etag = response.headers().get(ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
            let body = http::read_limited(response, limits::CHART_INDEX).await?;
            let index = tokio::task::block_in_place(|| chart_index::parse(&body)).map_err(|source| Error::Index {
                url: Box::new(url.clone()),
                is_known,
                source,
            })?;
            if !index.complete {
                return Err(Error::Half { url: Box::new(url.clone()) });
            }
            Ok(Fetched::Index { index, etag })
        })
        .await
}

/// The file beside the index.
pub const UNPUBLISHED: &str = "unpublished-certified-charts.yaml";
