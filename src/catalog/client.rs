//! The catalog's API: one page of a list at a time, checked before anybody uses it.
//!
//! A page counts only when the status is 200, the body is JSON, `data` is a list, and every row has an `_id` and dates that
//! are dates. Everything else that this service has been seen to answer (HTML from a front end after a minute,
//! error documents with status 200, bodies that break off) is an error that says so, and is tried again where that can
//! help. Whether the rows are the ones asked for is for the walk to judge.
//!
//! Requests: `API/v1/operators/bundles` and `API/v1/images` with `filter` (RSQL), `sort_by`, `page`, `page_size` and
//! `include`; see <https://catalog.redhat.com/api/containers/docs/>.

use std::sync::Arc;

use reqwest::StatusCode;
use reqwest::header::DATE;
use url::Url;

use crate::catalog::entry::{Bundle, Image, Instant, Kind};
use crate::catalog::wire::parse;
use crate::http::{self, Http, Retriable, Verdict};
use crate::progress::Task;
use crate::reference;

/// The API at a base URL.
#[derive(Clone)]
pub struct Catalog {
    http: Http,
    base: Url,
    task: Option<Arc<Task>>,
}

/// Which page of which list.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// Bundles or images.
    pub kind: Kind,
    /// RSQL.
    pub filter: String,
    /// `field[asc]` or `field[desc]`.
    pub sort_by: String,
    /// Whether rows that are equal by `sort_by` are to come by `_id`, so that they come in the same order each time.
    pub ties_by_id: bool,
    /// Rows with all we keep of them, or with `_id` and instants only.
    pub fields: Fields,
    /// Counted from 0.
    pub page: u64,
    /// Rows asked for; the server may give fewer and says so.
    pub page_size: u64,
    /// Whether the server is to count all rows that match, which is expensive for images.
    pub total: bool,
}

/// How much of a row is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fields {
    /// All we keep.
    All,
    /// `_id` and instants.
    Ids,
}

/// A page that has been checked.
#[derive(Clone, Debug)]
pub struct Page {
    /// The rows, in the server's order.
    pub rows: Vec<Row>,
    /// The page size that the server says it used.
    pub page_size: Option<u64>,
    /// How many rows match, where it was asked for and said.
    pub total: Option<u64>,
    /// The server's clock.
    pub date: Option<Instant>,
    /// What was requested, for messages.
    pub url: Url,
}

/// A row of either list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The catalog's `_id`.
    pub id: String,
    /// When the row was made; unknown (1970) where the row does not say.
    pub created: Instant,
    /// When it last changed; equals `created` where the row does not say.
    pub updated: Instant,
    /// Whether it answers anything: certified and not deleted.
    pub counts: bool,
    /// What we keep of it.
    pub content: Content,
}

/// What we keep of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Only the `_id` was asked for.
    Id,
    /// An operator bundle.
    Bundle(Bundle),
    /// A container image.
    Image(Image),
}

/// An answer that is no page.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer, or one with another status than 200.
    #[error("{0}")]
    Http(#[from] http::Error),
    /// The body is not JSON, or breaks off.
    #[error("{}: the answer is no complete JSON document, it begins `{start}`", http::shown(url))]
    NotJson {
        /// What was requested.
        url: Box<Url>,
        /// The first characters of the body.
        start: String,
        /// Where it stops being JSON.
        source: serde_json::Error,
    },
    /// JSON of another shape than the documented one.
    #[error("{}: a field is not of the kind that is known of it", http::shown(url))]
    Shape {
        /// What was requested.
        url: Box<Url>,
        /// Which one.
        source: serde_json::Error,
    },
    /// JSON without a list of rows.
    #[error("{}: the answer has no list `data`", http::shown(url))]
    NoRows {
        /// What was requested.
        url: Box<Url>,
    },
    /// A row without what every row has.
    #[error("{}: row {index} {what}", http::shown(url))]
    BadRow {
        /// What was requested.
        url: Box<Url>,
        /// Which row, counted from 0.
        index: usize,
        /// What is wrong with it.
        what: String,
    },
    /// Another page than the one asked for.
    #[error("{}: asked for page {asked}, got page {got}", http::shown(url))]
    WrongPage {
        /// What was requested.
        url: Box<Url>,
        /// The page asked for.
        asked: u64,
        /// The page that the answer says it is.
        got: u64,
    },
}

impl Retriable for Error {
    fn verdict(&self) -> Verdict {
        match self {
            Error::Http(error) => error.verdict(),
            Error::NotJson { .. } | Error::NoRows { .. } | Error::WrongPage { .. } => Verdict::Again { after: None },
            Error::BadRow { .. } | Error::Shape { .. } => Verdict::Permanent,
        }
    }
}

impl Error {
    /// Whether the server asks for fewer requests at once.
    pub fn is_overload(&self) -> bool {
        let busy = |status: StatusCode| matches!(status.as_u16(), 429 | 503);
        matches!(self, Error::Http(error) if error.status_code().is_some_and(busy)) || self.is_slow()
    }

    /// Whether the server refuses what is asked, as one that knows a single key to sort by does.
    pub fn is_bad_request(&self) -> bool {
        matches!(self, Error::Http(error) if error.status_code() == Some(StatusCode::BAD_REQUEST))
    }

    /// Whether it is an answer as the catalog gives none: HTML, or a document without rows. From a server that has given pages
    /// that is a fault which passes; another server will answer no different next time.
    pub fn is_of_another_service(&self) -> bool {
        match self {
            Error::NoRows { .. } => true,
            Error::NotJson { start, .. } => !start.starts_with('{'),
            _ => false,
        }
    }

    /// What kind of failure it is, whichever request it was met by.
    pub fn sort(&self) -> String {
        match self {
            Error::Http(error) => format!("{:?} {:?}", std::mem::discriminant(error), error.status_code()),
            other => format!("{:?}", std::mem::discriminant(other)),
        }
    }

    /// Whether the server needed too long, so that smaller pages are called for.
    pub fn is_slow(&self) -> bool {
        match self {
            Error::Http(http::Error::Status { status, .. }) => *status == StatusCode::GATEWAY_TIMEOUT,
            Error::Http(http::Error::Transport { error, .. }) => error.is_timeout(),
            // After a minute the front end answers with a page of HTML.
            Error::NotJson { start, .. } => start.starts_with('<'),
            _ => false,
        }
    }
}

impl Catalog {
    /// The API below `base`, such as `https://catalog.redhat.com/api/containers`.
    pub fn new(http: Http, base: &Url) -> Self {
        Catalog { http, base: base.clone(), task: None }
    }

    /// The same, where bytes that come are told to a task.
    pub fn watched(&self, task: &Arc<Task>) -> Self {
        Catalog { task: Some(task.clone()), ..self.clone() }
    }

    /// The base that the lists are below, as it is said and kept.
    pub fn name(&self) -> String {
        http::without_secrets(&self.base)
    }

    /// The client that requests go through.
    pub fn http(&self) -> &Http {
        &self.http
    }

    /// Requests one page, once.
    pub async fn page(&self, request: &PageRequest) -> Result<Page, Error> {
        let url = self.url(request);
        let response = self.http.send(self.http.get(&url).timeout(self.http.deadline())).await?;
        if response.status() != StatusCode::OK {
            return Err(http::Error::status(response).await.into());
        }
        let date = response.headers().get(DATE).and_then(|date| date.to_str().ok()).and_then(http_date);
        let watch = |bytes| self.task.iter().for_each(|task| task.arrived(bytes));
        let body = http::read_watched(response, BODY_LIMIT, watch).await?;
        let page = parse(&body, request.kind, request.fields, &url)?;
        if let Some(got) = page.page.filter(|got| *got != request.page) {
            return Err(Error::WrongPage { url: Box::new(url), asked: request.page, got });
        }
        tracing::debug!("{}: {} rows, {} bytes", http::shown(&url), page.rows.len(), body.len());
        Ok(Page { rows: page.rows, page_size: page.page_size.map(|size| size.max(1)), total: page.total, date, url })
    }

    fn url(&self, request: &PageRequest) -> Url {
        let list = match request.kind {
            Kind::Operator => ["v1", "operators", "bundles"].as_slice(),
            Kind::Container | Kind::Chart => &["v1", "images"],
        };
        // An address that can have no path fails with its name when it is asked.
        let mut url = reference::url_below(&self.base, list.iter().copied()).unwrap_or_else(|_| self.base.clone());
        let total = if request.total { "total," } else { "" };
        let data = match (request.fields, request.kind) {
            (Fields::Ids, Kind::Operator) => "data._id,data.creation_date,data.last_update_date",
            (Fields::Ids, _) => "data._id,data.creation_date,data.last_update_date,data.deleted",
            (Fields::All, Kind::Operator) => BUNDLE_FIELDS,
            (Fields::All, _) => IMAGE_FIELDS,
        };
        url.query_pairs_mut()
            .append_pair("filter", &request.filter)
            .append_pair("page", &request.page.to_string())
            .append_pair("page_size", &request.page_size.to_string())
            .append_pair(
                "sort_by",
                &format!("{}{}", request.sort_by, if request.ties_by_id { ",_id[asc]" } else { "" }),
            )
            .append_pair("include", &format!("page,page_size,{total}{data}"));
        // In a query `+` is a space to some and a plus to others; `%20` is a space to everybody.
        let query = url.query().map(|query| query.replace('+', "%20"));
        url.set_query(query.as_deref());
        url
    }
}

fn http_date(text: &str) -> Option<Instant> {
    jiff::fmt::rfc2822::parse(text).ok().map(|zoned| zoned.timestamp().into())
}

/// A page of 500 full bundles has some 4 MB; this is what a server that ignores `page_size` may cost us.
const BODY_LIMIT: u64 = 64 << 20;

const BUNDLE_FIELDS: &str = "data._id,data.creation_date,data.last_update_date,data.csv_name,data.ocp_version,\
                             data.channel_name,data.package,data.organization";

const IMAGE_FIELDS: &str = "data._id,data.creation_date,data.last_update_date,data.certified,data.deleted,\
                            data.architecture,data.image_id,data.docker_image_digest,data.repositories.registry,\
                            data.repositories.repository,data.repositories.manifest_list_digest,\
                            data.repositories.manifest_schema2_digest,data.repositories.tags.name,\
                            data.repositories.tags.removed_date";

#[cfg(test)]
mod tests {
    use super::*;

    fn url() -> Url {
        "http://127.0.0.1/api/containers/".parse().unwrap()
    }

    #[test]
    fn requests_are_spelled_as_the_service_reads_them() {
        let catalog = Catalog::new(Http::new(&http::HttpOptions::default()).unwrap(), &url());
        let request = PageRequest {
            kind: Kind::Operator,
            filter: "organization==certified-operators and creation_date>=2022-01-01T00:00:00+00:00".into(),
            sort_by: "creation_date[asc]".into(),
            ties_by_id: true,
            fields: Fields::Ids,
            page: 0,
            page_size: 500,
            total: true,
        };
        assert_eq!(
            catalog.url(&request).as_str(),
            "http://127.0.0.1/api/containers/v1/operators/bundles?filter=organization%3D%3Dcertified-operators%20and%20\
             creation_date%3E%3D2022-01-01T00%3A00%3A00%2B00%3A00&page=0&page_size=500&\
             sort_by=creation_date%5Basc%5D%2C_id%5Basc%5D&include=page%2Cpage_size%2Ctotal%2Cdata._id%2Cdata.creation_date%2Cdata.last_update_date"
        );
    }
}
