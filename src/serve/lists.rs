//! Lists: tags, repositories, referrers.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::LINK;
use serde_json::{Value, json};

use crate::serve::answer::{self, Answer, JSON, Refusal, set};
use crate::serve::document::annotations;
use crate::serve::request::Request;
use crate::serve::route;
use crate::serve::store::Store;

/// `GET /v2/NAME/tags/list`
pub(super) async fn tags(store: &Arc<Store>, request: &Request, name: &str) -> Result<Answer, Refusal> {
    let view = request.view(store).await?;
    let Some(tags) = view.tags(name, request.ns.as_deref()) else {
        return Err(Refusal::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", format!("no repository is called {name}")));
    };
    let page = Page::asked(request)?;
    let (tags, last) = page.of(tags.into_iter());
    let mut answer = answer::json(StatusCode::OK, &json!({ "name": name, "tags": tags }), JSON);
    link(&mut answer, &format!("/v2/{name}/tags/list"), &page, last, request);
    Ok(answer)
}

/// `GET /v2/_catalog`
pub(super) async fn catalog(store: &Arc<Store>, request: &Request) -> Result<Answer, Refusal> {
    let view = request.view(store).await?;
    let page = Page::asked(request)?;
    let (repositories, last) = page.of(view.repositories.keys().map(String::as_str));
    let mut answer = answer::json(StatusCode::OK, &json!({ "repositories": repositories }), JSON);
    link(&mut answer, "/v2/_catalog", &page, last, request);
    Ok(answer)
}

/// `GET /v2/NAME/referrers/DIGEST`: never 404, also for a repository that is not there yet.
pub(super) async fn referrers(
    store: &Arc<Store>,
    request: &Request,
    name: &str,
    subject: &str,
) -> Result<Answer, Refusal> {
    let subject = route::digest(subject)?;
    let view = request.view(store).await?;
    let wanted: Vec<&str> = request.all("artifactType").collect();
    let after = request.one("last");
    let (mut manifests, mut size, mut next) = (Vec::new(), 0, None);
    for digest in view.referrers(name, request.ns.as_deref(), &subject) {
        let Some(Ok(document)) = view.documents.get(digest) else { continue };
        let kind = document.artifact_type.as_deref();
        if after.is_some_and(|after| digest.as_str() <= after)
            || !wanted.is_empty() && kind.is_none_or(|kind| !wanted.contains(&kind))
        {
            continue;
        }
        let bytes = document.bytes(&store.layouts()).unwrap_or_default();
        let mut entry = json!({ "mediaType": document.media_type, "size": document.size, "digest": digest });
        let annotations = annotations(&bytes);
        if !annotations.is_empty() {
            entry["annotations"] = json!(annotations);
        }
        if let Some(kind) = kind {
            entry["artifactType"] = json!(kind);
        }
        size += serde_json::to_string(&entry).map_or(0, |text| text.len());
        // Clients read documents of 4 MiB at most. One that is larger alone goes alone.
        if size > LIST && !manifests.is_empty() {
            next = manifests.last().and_then(|last: &Value| last["digest"].as_str()).map(str::to_owned);
            break;
        }
        manifests.push(entry);
    }
    let list = json!({ "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests });
    let mut answer = answer::json(StatusCode::OK, &list, INDEX_TYPE);
    if !wanted.is_empty() {
        set(&mut answer, FILTERS, "artifactType");
    }
    if let Some(last) = next {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("last", &last);
        wanted.iter().for_each(|kind| {
            query.append_pair("artifactType", kind);
        });
        let query = query.finish();
        set(&mut answer, LINK, &format!("</v2/{name}/referrers/{subject}?{query}>; rel=\"next\""));
    }
    Ok(answer)
}

/// Which part of a list.
struct Page {
    n: usize,
    last: Option<String>,
}

impl Page {
    fn asked(request: &Request) -> Result<Self, Refusal> {
        let n = match request.one("n") {
            None => LONGEST,
            Some(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
                text.parse().unwrap_or(LONGEST).min(LONGEST)
            }
            Some(text) => {
                let words = format!("`n={text}`: expected a number, 0 or more");
                return Err(Refusal::bad("PAGINATION_NUMBER_INVALID", words));
            }
        };
        Ok(Page { n, last: request.one("last").map(str::to_owned) })
    }

    /// The items of the page out of sorted ones, and the last of them where there are more.
    fn of<'a>(&self, items: impl Iterator<Item = &'a str>) -> (Vec<&'a str>, Option<&'a str>) {
        let mut rest = items.skip_while(|item| self.last.as_deref().is_some_and(|last| *item <= last));
        let page: Vec<&str> = rest.by_ref().take(self.n).collect();
        let last = page.last().copied().filter(|_| rest.next().is_some());
        (page, last)
    }
}

/// Where the list goes on: a path, as clients refuse other hosts, and they may know this one under any name.
fn link(answer: &mut Answer, path: &str, page: &Page, last: Option<&str>, request: &Request) {
    let Some(last) = last else { return };
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("last", last).append_pair("n", &page.n.to_string());
    if let Some(ns) = &request.ns {
        query.append_pair("ns", ns);
    }
    set(answer, LINK, &format!("<{path}?{}>; rel=\"next\"", query.finish()));
}

/// Longest page; who asks for more is given this and a link.
const LONGEST: usize = 10_000;
/// Bytes of a list of referrers.
const LIST: usize = 3 << 20;
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const FILTERS: hyper::header::HeaderName = hyper::header::HeaderName::from_static("oci-filters-applied");
