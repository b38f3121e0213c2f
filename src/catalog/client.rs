//! The catalog's API: one page of a list at a time, checked before anybody uses it.
//!
//! A page counts only when the status is 200, the body is JSON, `data` is a list, and every row has an `_id` and dates that
//! are dates. Everything else that this service has been seen to answer (HTML from a front end after a minute,
//! error documents with status 200, bodies that break off) is an error that says so, and is tried again where that can
//! help. Whether the rows are the ones asked for is for the walk to judge.
//!
//! Requests: `API/v1/operators/bundles` and `API/v1/images` with `filter` (RSQL), `sort_by`, `page`, `page_size` and
//! `include`; see <https://catalog.redhat.com/api/containers/docs/>.

use std::collections::BTreeSet;
use std::sync::Arc;

use reqwest::StatusCode;
use reqwest::header::DATE;
use serde::Deserialize;
use url::Url;

use crate::catalog::entry::{Bundle, Image, Instant, Kind, Repository, stored_registry};
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

/// A body that was parsed and checked, before anybody asks what it was the answer to.
pub(super) struct Body {
    pub(super) rows: Vec<Row>,
    pub(super) page: Option<u64>,
    pub(super) page_size: Option<u64>,
    pub(super) total: Option<u64>,
}

/// Parses and checks the body of a page; `url` is for messages.
pub(super) fn parse(body: &[u8], kind: Kind, fields: Fields, url: &Url) -> Result<Body, Error> {
    let document: Document = serde_json::from_slice(body).map_err(|source| {
        if source.classify() == serde_json::error::Category::Data {
            return Error::Shape { url: Box::new(url.clone()), source };
        }
        let start: String = String::from_utf8_lossy(&body[..body.len().min(200)]).chars().take(40).collect();
        Error::NotJson { url: Box::new(url.clone()), start: start.trim().replace('\n', " "), source }
    })?;
    let Some(data) = document.data else { return Err(Error::NoRows { url: Box::new(url.clone()) }) };
    let mut rows = Vec::with_capacity(data.len());
    for (index, row) in data.into_iter().enumerate() {
        let bad = |what: String| Error::BadRow { url: Box::new(url.clone()), index, what };
        rows.push(row.checked(kind, fields).map_err(bad)?);
    }
    Ok(Body { rows, page: document.page, page_size: document.page_size, total: document.total })
}

#[derive(Deserialize)]
struct Document {
    data: Option<Vec<WireRow>>,
    page: Option<u64>,
    page_size: Option<u64>,
    total: Option<u64>,
}

/// The fields of both lists; each row has those of one.
#[derive(Deserialize)]
struct WireRow {
    _id: Option<String>,
    creation_date: Option<String>,
    last_update_date: Option<String>,
    csv_name: Option<String>,
    ocp_version: Option<String>,
    channel_name: Option<String>,
    package: Option<String>,
    organization: Option<String>,
    certified: Option<bool>,
    deleted: Option<bool>,
    architecture: Option<String>,
    image_id: Option<String>,
    docker_image_digest: Option<String>,
    repositories: Option<Vec<Option<WireRepository>>>,
}

#[derive(Deserialize)]
struct WireRepository {
    registry: Option<String>,
    repository: Option<String>,
    manifest_list_digest: Option<String>,
    manifest_schema2_digest: Option<String>,
    tags: Option<Vec<Option<WireTag>>>,
}

#[derive(Deserialize)]
struct WireTag {
    name: Option<String>,
    removed_date: Option<String>,
}

impl WireRow {
    fn checked(self, kind: Kind, fields: Fields) -> Result<Row, String> {
        let id = self._id.filter(|id| !id.is_empty()).ok_or("has no `_id`")?;
        let date = |name: &str, text: &str| {
            text.parse::<Instant>().map_err(|_| format!("(_id {id}) has the {name} `{text}`, which is no date"))
        };
        // Rows without a date are met only where they are asked for, see `Job::outside`.
        let created = match self.creation_date.as_deref() {
            Some(text) if !text.is_empty() => date("creation_date", text)?,
            _ => Instant::default(),
        };
        let updated = self.last_update_date.as_deref().map_or(Ok(created), |text| date("last_update_date", text))?;
        let content = match (fields, kind) {
            (Fields::Ids, _) => Content::Id,
            (Fields::All, Kind::Operator) => Content::Bundle(Bundle {
                id: id.clone(),
                // A bundle without a name answers nothing, but it is a row, and one such row must not stop the rest.
                csv_name: self.csv_name.unwrap_or_default(),
                ocp_version: self.ocp_version.unwrap_or_default(),
                channel: self.channel_name.unwrap_or_default(),
                package: self.package.unwrap_or_default(),
                organization: self.organization.unwrap_or_default(),
                created,
                updated,
            }),
            (Fields::All, _) => {
                let repositories: Vec<_> = self.repositories.into_iter().flatten().flatten().collect();
                // The image's own digest first; a manifest list's is what nodes report of images for several platforms.
                let mut digests: Vec<String> = Vec::new();
                let lists = repositories.iter().flat_map(|repository| {
                    [repository.manifest_list_digest.clone(), repository.manifest_schema2_digest.clone()]
                });
                let mut seen = BTreeSet::new();
                for digest in [self.image_id, self.docker_image_digest].into_iter().chain(lists).flatten() {
                    if !digest.is_empty() && seen.insert(digest.clone()) {
                        digests.push(digest);
                    }
                }
                Content::Image(Image {
                    id: id.clone(),
                    architecture: self.architecture.unwrap_or_default(),
                    digests,
                    repositories: repositories.into_iter().map(WireRepository::with_live_tags).collect(),
                    created,
                    updated,
                })
            }
        };
        let counts = self.certified != Some(false) && self.deleted != Some(true);
        Ok(Row { id, created, updated, counts, content })
    }
}

impl WireRepository {
    /// A tag that was removed keeps its element, with the date of its removal.
    fn with_live_tags(self) -> Repository {
        let tags = self.tags.into_iter().flatten().flatten().filter(|tag| tag.removed_date.is_none());
        Repository {
            registry: stored_registry(&self.registry.unwrap_or_default()).to_owned(),
            repository: self.repository.unwrap_or_default(),
            tags: tags.filter_map(|tag| tag.name).filter(|name| !name.is_empty()).collect(),
        }
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

    fn error(body: &str) -> String {
        parse(body.as_bytes(), Kind::Operator, Fields::All, &url()).err().unwrap().to_string()
    }

    #[test]
    fn a_row_without_a_date_is_a_row() {
        for fields in [r#""_id":"a""#, r#""_id":"a","creation_date":null"#, r#""_id":"a","creation_date":"""#] {
            let body = parse(format!(r#"{{"data":[{{{fields}}}]}}"#).as_bytes(), Kind::Operator, Fields::Ids, &url());
            assert_eq!(body.ok().unwrap().rows[0].created, Instant::default(), "{fields}");
        }
    }

    #[test]
    fn bodies_that_are_no_page_are_refused_by_what_is_wrong_with_them() {
        let row = |fields: &str| format!(r#"{{"data":[{{{fields}}}]}}"#);
        for (body, why) in [
            ("<html>504</html>".to_owned(), "the answer is no complete JSON document, it begins `<html>504</html>`"),
            (
                r#"{"data":[{"_id":"a""#.to_owned(),
                "the answer is no complete JSON document, it begins `{\"data\":[{\"_id\":\"a\"`",
            ),
            (r#"{"title":"oops","status":500}"#.to_owned(), "the answer has no list `data`"),
            (row(""), "row 0 has no `_id`"),
            (
                row(r#""_id":"a","creation_date":"soon""#),
                "row 0 (_id a) has the creation_date `soon`, which is no date",
            ),
            (r#"{"data":[{"_id":7}]}"#.to_owned(), "a field is not of the kind that is known of it"),
        ] {
            assert_eq!(error(&body), format!("{}: {why}", url()));
        }
    }

    #[test]
    fn an_image_keeps_every_digest_once_and_no_removed_tag() {
        let body = r#"{"data":[{"_id":"a","creation_date":"2022-01-01T00:00:00+00:00","certified":true,
            "architecture":"amd64","image_id":"sha256:1","docker_image_digest":"sha256:1","repositories":[
            {"registry":"registry.redhat.io","repository":"r","manifest_list_digest":"sha256:2",
             "manifest_schema2_digest":"sha256:1",
             "tags":[{"name":"1"},{"name":"old","removed_date":"2022-01-02T00:00:00+00:00"},{"name":null}]}]}]}"#;
        let page = parse(body.as_bytes(), Kind::Container, Fields::All, &url()).unwrap();
        let created: Instant = "2022-01-01T00:00:00Z".parse().unwrap();
        let image = Image {
            id: "a".into(),
            architecture: "amd64".into(),
            digests: vec!["sha256:1".into(), "sha256:2".into()],
            repositories: vec![Repository {
                registry: "registry.access.redhat.com".into(),
                repository: "r".into(),
                tags: vec!["1".into()],
            }],
            created,
            updated: created,
        };
        let row = Row { id: "a".into(), created, updated: created, counts: true, content: Content::Image(image) };
        assert_eq!(page.rows, [row]);
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
