//! Which resource a path is. A repository may be called `blobs`, `manifests` or `uploads` at any depth, so paths are told from
//! their right end.

use std::borrow::Cow;

use hyper::StatusCode;

use crate::digest::Digest;
use crate::reference::{is_repository, is_tag};
use crate::serve::answer::Refusal;

/// A resource below `/v2/`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// `/v2/`
    Support,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/NAME/tags/list`
    Tags(&'a str),
    /// `/v2/NAME/manifests/REFERENCE`
    Manifest(&'a str, &'a str),
    /// `/v2/NAME/blobs/DIGEST`
    Blob(&'a str, &'a str),
    /// `/v2/NAME/referrers/DIGEST`
    Referrers(&'a str, &'a str),
    /// `/v2/NAME/blobs/uploads/`
    Uploads(&'a str),
    /// `/v2/NAME/blobs/uploads/ID`
    Upload(&'a str, &'a str),
}

/// What a manifest is asked for by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reference {
    Tag(String),
    Digest(Digest),
}

impl<'a> Route<'a> {
    /// Reads the path of a request; `None` for one that is not below `/v2/` or is nothing there.
    pub(super) fn of(path: &'a str) -> Option<Self> {
        let rest = match path {
            "/v2" | "/v2/" => return Some(Route::Support),
            "/v2/_catalog" => return Some(Route::Catalog),
            _ => path.strip_prefix("/v2/")?,
        };
        let (rest, last) = rest.rsplit_once('/')?;
        let (name, kind) = rest.rsplit_once('/')?;
        match (kind, last) {
            ("tags", "list") => Some(Route::Tags(name)),
            ("manifests", reference) => Some(Route::Manifest(name, reference)),
            ("referrers", digest) => Some(Route::Referrers(name, digest)),
            ("blobs", "uploads") => Some(Route::Uploads(name)),
            ("blobs", digest) => Some(Route::Blob(name, digest)),
            ("uploads", id) => {
                let name = name.strip_suffix("/blobs")?;
                Some(if id.is_empty() { Route::Uploads(name) } else { Route::Upload(name, id) })
            }
            _ => None,
        }
    }

    /// The repository, which is refused where none can be called so.
    pub(super) fn repository(&self) -> Result<&'a str, Refusal> {
        let name = match self {
            Route::Support | Route::Catalog => return Ok(""),
            Route::Tags(name)
            | Route::Manifest(name, _)
            | Route::Blob(name, _)
            | Route::Referrers(name, _)
            | Route::Uploads(name)
            | Route::Upload(name, _) => *name,
        };
        let words = "a repository has lower-case letters, digits and separators (. _ __ -) between slashes";
        is_repository(name).then_some(name).ok_or_else(|| Refusal::bad("NAME_INVALID", format!("`{name}`: {words}")))
    }
}

/// A digest in a path or a query; some clients encode its colon.
pub(super) fn digest(text: &str) -> Result<Digest, Refusal> {
    let text = plain(text);
    text.parse().map_err(|error: crate::digest::Error| Refusal::bad("DIGEST_INVALID", error.to_string()))
}

/// A tag or a digest in a path.
pub(super) fn reference(text: &str) -> Result<Reference, Refusal> {
    let text = plain(text);
    if text.contains(':') {
        return digest(&text).map(Reference::Digest);
    }
    if is_tag(&text) {
        return Ok(Reference::Tag(text.into_owned()));
    }
    let words = "a tag has at most 128 letters, digits, `_`, `.` and `-`, and starts with none of the last two";
    Err(Refusal::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", format!("`{text}`: {words}")))
}

fn plain(text: &str) -> Cow<'_, str> {
    if text.contains('%') { Cow::Owned(text.replace("%3A", ":").replace("%3a", ":")) } else { Cow::Borrowed(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_from_their_right_end() {
        for (path, route) in [
            ("/v2/", Some(Route::Support)),
            ("/v2", Some(Route::Support)),
            ("/v2/_catalog", Some(Route::Catalog)),
            ("/v2/a/b/tags/list", Some(Route::Tags("a/b"))),
            ("/v2/a/manifests/1", Some(Route::Manifest("a", "1"))),
            ("/v2/a/manifests/manifests/list", Some(Route::Manifest("a/manifests", "list"))),
            ("/v2/a/blobs/uploads/manifests/1", Some(Route::Manifest("a/blobs/uploads", "1"))),
            ("/v2/a/manifests/tags/list", Some(Route::Tags("a/manifests"))),
            ("/v2/blobs/blobs/sha256:1", Some(Route::Blob("blobs", "sha256:1"))),
            ("/v2/a/blobs/uploads/", Some(Route::Uploads("a"))),
            ("/v2/a/blobs/uploads", Some(Route::Uploads("a"))),
            ("/v2/a/blobs/uploads/x", Some(Route::Upload("a", "x"))),
            ("/v2/a/blobs/blobs/uploads/x", Some(Route::Upload("a/blobs", "x"))),
            ("/v2/a/referrers/sha256:1", Some(Route::Referrers("a", "sha256:1"))),
            ("/v2/a/uploads/x", None),
            ("/v2/manifests/x", None),
            ("/v2/a", None),
            ("/", None),
            ("/v1/a/manifests/x", None),
        ] {
            assert_eq!(Route::of(path), route, "{path}");
        }
    }

    #[test]
    fn tricks_in_names_and_references_are_refused() {
        for path in [
            "/v2/../manifests/x",
            "/v2/a/../b/manifests/x",
            "/v2/%2e%2e/manifests/x",
            "/v2/a%2fb/manifests/x",
            "/v2/A/manifests/x",
        ] {
            assert_eq!(Route::of(path).unwrap().repository().unwrap_err().code, "NAME_INVALID", "{path}");
        }
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for text in [
            format!("sha256:{}", &hex[1..]),
            format!("sha256:{hex}0"),
            format!("sha256:{}", hex.to_uppercase()),
            "sha256:../../../../etc/passwd".to_owned(),
            "md5:00".to_owned(),
            "..".to_owned(),
            "%2e%2e".to_owned(),
            "a%00".to_owned(),
            "a".repeat(129),
            String::new(),
        ] {
            assert!(reference(&text).is_err() && digest(&text).is_err(), "{text}");
        }
        assert_eq!(reference(&format!("sha256%3A{hex}")).unwrap(), Reference::Digest(Digest::sha256(b"")));
    }
}
