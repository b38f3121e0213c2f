//! Lists of a registry, page by page.

use std::collections::BTreeSet;
use std::str::FromStr;

use reqwest::StatusCode;
use reqwest::header::LINK;
use serde::Deserialize;
use url::Url;

use crate::http;
use crate::image::store::layout;
use crate::limits;
use crate::reference::{self, RepositoryName};
use crate::registry::auth::token::Scope;
use crate::registry::client::{Error, Registry, again};
use crate::registry::repository::header;

/// What a registry lists, as far as its names are names.
#[derive(Debug)]
pub struct Listed<T> {
    /// In the registry's order.
    pub names: Vec<T>,
    /// What is no name by the grammar of the specification. It is not used for anything but to be named.
    pub refused: Vec<String>,
}

#[derive(Deserialize)]
struct CatalogPage {
    repositories: Option<Vec<String>>,
}

impl Registry {
    /// The repositories that it lists, where it does. From however many pages.
    pub async fn repositories(&self) -> Result<Listed<RepositoryName>, Error> {
        let url = reference::resolve(&self.0.base, "_catalog?n=1000").expect("a registry's address is an HTTP URL");
        let what = || format!("{}: list of repositories", self.0.host);
        let scope = Scope { repository: CATALOG, actions: "", from: None };
        self.pages(&scope, url, what, |page: CatalogPage| page.repositories).await
    }

    /// Reads a list page by page (distribution-spec, `Link` of RFC 8288). The next page is of this registry, whatever
    /// it says, and there are not endlessly many.
    pub(super) async fn pages<P: serde::de::DeserializeOwned, T: FromStr>(
        &self,
        scope: &Scope<'_>,
        first: Url,
        what: impl Fn() -> String,
        items: impl Fn(P) -> Option<Vec<String>>,
    ) -> Result<Listed<T>, Error> {
        let (mut found, mut url) = (Listed { names: Vec::new(), refused: Vec::new() }, first);
        let mut count = limits::Count::new("names in its list", limits::LISTED);
        let mut seen = BTreeSet::from([url.clone()]);
        for _ in 0..limits::PAGES {
            let attempt = || async {
                let response = self.send(scope, || self.0.http.get(&url)).await?;
                match response.status() {
                    StatusCode::OK => Ok(response),
                    StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Err(Error::NotFound(what())),
                    _ => Err(http::Error::status(response).await.into()),
                }
            };
            let response = again(self.0.http.retry(), attempt).await?;
            let next = header(response.headers(), LINK.as_str()).and_then(|link| next_page(&url, &link));
            let bytes = http::read_limited(response, PAGE_LIMIT).await?;
            if serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_err() {
                return Err(Error::NotARegistry(url));
            }
            for name in items(layout::parse(&http::shown(&url), &bytes)?).unwrap_or_default() {
                count.one().map_err(|exceeded| Error::Protocol { url: url.clone(), problem: exceeded.to_string() })?;
                match name.parse() {
                    Ok(name) => found.names.push(name),
                    Err(_) => found.refused.push(name),
                }
            }
            match next {
                None => return Ok(found),
                Some(next) if next.origin() == self.0.base.origin() && seen.insert(next.clone()) => url = next,
                Some(next) => {
                    let problem = format!("names a next page that is not its own: {}", http::shown(&next));
                    return Err(Error::Protocol { url, problem });
                }
            }
        }
        Err(Error::Protocol { url, problem: format!("lists more than {} pages", limits::PAGES) })
    }
}

/// The address in `<…>; rel="next"` (RFC 8288): in any case, quoted or not, among other relations and links.
pub(super) fn next_page(page: &Url, link: &str) -> Option<Url> {
    link.split('<').find_map(|link| {
        let (address, parameters) = link.split_once('>')?;
        let next =
            parameters.split([';', ',']).filter_map(|parameter| parameter.split_once('=')).any(|(name, value)| {
                let mut relations = value.trim().trim_matches('"').split_whitespace();
                name.trim().eq_ignore_ascii_case("rel") && relations.any(|it| it.eq_ignore_ascii_case("next"))
            });
        next.then(|| reference::resolve(page, address).ok())?
    })
}

/// Stands for no repository: the scope of the list of all.
pub(super) const CATALOG: &str = "*";
/// Size of a page, in bytes.
const PAGE_LIMIT: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found_however_its_link_is_written() {
        let page: Url = "http://r/v2/a/tags/list?n=2".parse().unwrap();
        for (link, next) in [
            (r#"</v2/a/tags/list?last=b>; rel="next""#, Some("http://r/v2/a/tags/list?last=b")),
            ("</v2/b>;rel=next", Some("http://r/v2/b")),
            ("</v2/b>; Rel=Next", Some("http://r/v2/b")),
            (r#"</v2/b>; title="x"; REL = "NEXT""#, Some("http://r/v2/b")),
            (r#"</v2/b>; rel="last next""#, Some("http://r/v2/b")),
            (r#"</v2/first>; rel="first", </v2/b?x=1,2>; rel="next""#, Some("http://r/v2/b?x=1,2")),
            ("<?last=b>; rel=next", Some("http://r/v2/a/tags/list?last=b")),
            ("<http://other/v2/b>; rel=next", Some("http://other/v2/b")),
            (r#"</v2/b>; rel="prev""#, None),
            (r#"</v2/b>; rel="nextish""#, None),
            ("", None),
        ] {
            assert_eq!(next_page(&page, link).map(String::from).as_deref(), next, "{link}");
        }
    }
}
