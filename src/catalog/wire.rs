//! Bodies of the catalog's pages: their JSON, and the rows that are in them.

use std::collections::BTreeSet;

use serde::Deserialize;
use url::Url;

use crate::catalog::client::{Content, Error, Fields, Row};
use crate::catalog::entry::{Bundle, Image, Instant, Kind, Repository, stored_registry};

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
}
