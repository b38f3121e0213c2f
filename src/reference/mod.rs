//! Where an image is, in skopeo's words: a transport and what it needs to find the image.
//!
//! ```text
//! docker://HOST[:PORT]/REPOSITORY[:TAG][@DIGEST]    a registry; with both, the digest says which image
//! oci:DIR[:NAME]            oci-archive:FILE[:NAME]  a layout, and a tar of one
//! docker-archive:FILE[:NAME:TAG[,NAME:TAG …]]        what `docker save` writes
//! dir:DIR                                            one image, its blobs side by side
//! ```
//!
//! Where an image is read, `@N` for a name is the Nth that is listed, counted from 0, and a digest the one that has it.
//!
//! As in containers/image, a path ends at the first colon and everything behind it is the name, so that
//! `oci:store:localhost/tools:1.2` is the image `localhost/tools:1.2` in `store`. A path with a colon in it can be written for
//! `dir:` only, which has no names: `skopeo sync` makes such directories. Short names (`alpine`) are not guessed: which registry they mean depends on the machine.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::Url;

use crate::digest::{self, Digest};

/// A place that holds an image or takes one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ImageRef {
    /// `docker://`: a repository of a registry.
    Docker(Remote),
    /// `oci:`: a layout directory, and the name of an image in it where one is given.
    Oci {
        /// The directory.
        path: PathBuf,
        /// `org.opencontainers.image.ref.name` of the image.
        name: Option<String>,
    },
    /// `oci-archive:`: a tar of a layout, and the name of an image in it where one is given.
    OciArchive {
        /// The tar file.
        path: PathBuf,
        /// `org.opencontainers.image.ref.name` of the image.
        name: Option<String>,
    },
    /// `docker-archive:`: what `docker save` writes, and the `NAME:TAG` of an image in it where one is given.
    DockerArchive {
        /// The tar file.
        path: PathBuf,
        /// One of the image's `RepoTags`.
        name: Option<String>,
    },
    /// `dir:`: a directory with one image's manifest and blobs.
    Dir {
        /// The directory.
        path: PathBuf,
    },
}

/// An image in a registry; never a short name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Remote {
    /// Host, and port where one is given.
    pub registry: String,
    /// The repository's path in the registry.
    pub repository: String,
    /// What is meant in the repository.
    pub target: Target,
}

/// A repository's path in a registry, as its grammar allows it (distribution-spec, "Pulling manifests"): parts of lower-case
/// letters and digits between slashes, at most 255 bytes together.
///
/// What a registry lists is one of these or is refused: `..\\..\\x` in a URL is the path of another repository, and a line
/// feed in a configuration file is another entry of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryName(String);

/// A tag as its grammar allows it: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}` (distribution-spec).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(String);

/// The tag that is meant where none is named.
const LATEST: &str = "latest";

/// Which image of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// None was named; where one is needed it is the tag `latest`.
    Unnamed,
    /// A tag.
    Tag(String),
    /// A digest.
    Digest(Digest),
    /// A tag, and the digest that it is expected to have. What is read is what the digest names, as with other clients.
    Pinned {
        /// The tag.
        tag: String,
        /// The digest; rarely there, and so beside.
        digest: Box<Digest>,
    },
}

impl Target {
    /// The digest that says which image is meant, if one does.
    pub fn digest(&self) -> Option<&Digest> {
        match self {
            Target::Digest(digest) => Some(digest),
            Target::Pinned { digest, .. } => Some(digest),
            Target::Unnamed | Target::Tag(_) => None,
        }
    }

    /// The tag that an image gets that is written there: none where a digest alone says which image it is.
    pub fn tag(&self) -> Option<&str> {
        match self {
            Target::Unnamed => Some(LATEST),
            Target::Tag(tag) | Target::Pinned { tag, .. } => Some(tag),
            Target::Digest(_) => None,
        }
    }
}

/// Why a text is no image reference.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// There is no known transport before the first colon.
    #[error("`{0}`: expected a transport: docker://, oci:, oci-archive:, docker-archive: or dir:")]
    Transport(String),
    /// A registry reference without a registry.
    #[error("`{0}`: short names are not guessed; write docker://HOST/REPOSITORY:TAG")]
    ShortName(String),
    /// A registry alone.
    #[error("`{0}`: the repository is missing; write docker://{0}/REPOSITORY:TAG")]
    NoRepository(String),
    /// A repository with characters that registries refuse.
    #[error("`{0}`: a repository has lower-case letters, digits and separators (. _ __ -) between slashes")]
    Repository(String),
    /// A tag with characters that registries refuse, or too long.
    #[error("`{0}`: a tag has at most 128 letters, digits, `_`, `.` and `-`, and starts with none of the last two")]
    Tag(String),
    /// What follows the `@` is no digest.
    #[error("`{text}`: no valid digest after the @")]
    Digest {
        /// The whole text.
        text: String,
        /// What is wrong with it.
        source: digest::Error,
    },
    /// A part of a URL's path that would lead out of it, or is none.
    #[error("`{0}` cannot be a part of a URL's path")]
    Segment(String),
    /// What is to lead somewhere and leads to nothing that is asked by HTTP.
    #[error("`{0}` is not an HTTP URL, nor the path of one")]
    Place(String),
    /// No path after the transport.
    #[error("`{0}`: no path after the transport")]
    NoPath(String),
    /// An image name that other tools do not accept.
    #[error("`{0}`: not a valid image name after the path (a path ends at the first colon)")]
    Name(String),
}

impl Remote {
    /// The tag or digest as it stands in a registry's URL; `latest` when none was named.
    pub fn target(&self) -> &str {
        match &self.target {
            Target::Unnamed => LATEST,
            Target::Tag(tag) => tag,
            Target::Digest(digest) => digest.as_str(),
            Target::Pinned { digest, .. } => digest.as_str(),
        }
    }

    /// The path of the repository, as the same is called in a registry that has copies: Docker's own `alpine` is `library/alpine`,
    /// which clients ask a mirror for.
    pub fn path(&self) -> Cow<'_, str> {
        match self.registry.as_str() {
            "docker.io" | "index.docker.io" | "registry-1.docker.io" if !self.repository.contains('/') => {
                format!("library/{}", self.repository).into()
            }
            _ => self.repository.as_str().into(),
        }
    }

    /// The same repository with another target.
    pub fn with(&self, target: Target) -> Self {
        Remote { target, ..self.clone() }
    }
}

impl FromStr for Remote {
    type Err = Error;

    /// Parses `HOST[:PORT]/REPOSITORY[:TAG][@DIGEST]`, as it stands after `docker://`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let short = || Error::ShortName(text.to_owned());
        let host = text.strip_suffix('/').unwrap_or(text);
        if is_host(host) {
            return Err(Error::NoRepository(host.to_owned()));
        }
        let (registry, rest) = text.split_once('/').ok_or_else(short)?;
        if registry != "localhost" && !registry.contains(['.', ':']) {
            return Err(short());
        }
        let host = registry.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b));
        if !host || registry.starts_with(['.', ':', '-']) {
            return Err(short());
        }
        let (name, digest) = match rest.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (rest, None),
        };
        let (repository, tag) = match name.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (name, None),
        };
        if repository.parse::<RepositoryName>().is_err() {
            return Err(Error::Repository(text.to_owned()));
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(Error::Tag(text.to_owned()));
        }
        let digest = digest.map(str::parse).transpose();
        let digest = digest.map_err(|source| Error::Digest { text: text.to_owned(), source })?;
        let target = match (tag.map(str::to_owned), digest) {
            (None, None) => Target::Unnamed,
            (Some(tag), None) => Target::Tag(tag),
            (None, Some(digest)) => Target::Digest(digest),
            (Some(tag), Some(digest)) => Target::Pinned { tag, digest: Box::new(digest) },
        };
        Ok(Remote { registry: registry.to_owned(), repository: repository.to_owned(), target })
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        match &self.target {
            Target::Unnamed => Ok(()),
            Target::Tag(tag) => write!(f, ":{tag}"),
            Target::Digest(digest) => write!(f, "@{digest}"),
            Target::Pinned { tag, digest } => write!(f, ":{tag}@{digest}"),
        }
    }
}

impl ImageRef {
    /// Where it is on the disk; `None` for what is in a registry.
    pub fn path(&self) -> Option<&Path> {
        match self {
            ImageRef::Oci { path, .. }
            | ImageRef::OciArchive { path, .. }
            | ImageRef::DockerArchive { path, .. }
            | ImageRef::Dir { path } => Some(path),
            ImageRef::Docker(_) => None,
        }
    }

    /// The same place with another image name; `dir:` and registries have no such name and stay as they are.
    pub fn with_name(&self, new: String) -> Self {
        let mut other = self.clone();
        match &mut other {
            ImageRef::Oci { name, .. } | ImageRef::OciArchive { name, .. } | ImageRef::DockerArchive { name, .. } => {
                *name = Some(new);
            }
            ImageRef::Docker(_) | ImageRef::Dir { .. } => {}
        }
        other
    }

    /// The same reference with a relative path taken from `directory`.
    pub fn below(&self, directory: &Path) -> Self {
        let mut other = self.clone();
        match &mut other {
            ImageRef::Oci { path, .. }
            | ImageRef::OciArchive { path, .. }
            | ImageRef::DockerArchive { path, .. }
            | ImageRef::Dir { path } => *path = directory.join(&*path),
            ImageRef::Docker(_) => {}
        }
        other
    }

    /// The name of an image behind a path, where one is given.
    pub fn name(&self) -> Option<&str> {
        match self {
            ImageRef::Oci { name, .. } | ImageRef::OciArchive { name, .. } | ImageRef::DockerArchive { name, .. } => {
                name.as_deref()
            }
            ImageRef::Docker(_) | ImageRef::Dir { .. } => None,
        }
    }
}

impl FromStr for ImageRef {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some(rest) = text.strip_prefix("docker://") {
            return rest.parse().map(ImageRef::Docker);
        }
        let unknown = || Error::Transport(text.to_owned());
        let (transport, rest) = text.split_once(':').ok_or_else(unknown)?;
        let (path, name) = match rest.split_once(':') {
            Some((path, name)) if transport != "dir" => (path, Some(name)),
            _ => (rest, None),
        };
        let at: fn(PathBuf, Option<String>) -> ImageRef = match transport {
            "oci" => |path, name| ImageRef::Oci { path, name },
            "oci-archive" => |path, name| ImageRef::OciArchive { path, name },
            "docker-archive" => |path, name| ImageRef::DockerArchive { path, name },
            "dir" => |path, _| ImageRef::Dir { path },
            _ => return Err(unknown()),
        };
        if path.is_empty() {
            return Err(Error::NoPath(text.to_owned()));
        }
        let several = |name: &str| transport == "docker-archive" && name.split(',').all(is_image_name);
        if name.is_some_and(|name| !is_image_name(name) && !is_selection(name) && !several(name)) {
            return Err(Error::Name(text.to_owned()));
        }
        Ok(at(PathBuf::from(path), name.map(str::to_owned)))
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (transport, path, name) = match self {
            ImageRef::Docker(remote) => return write!(f, "docker://{remote}"),
            ImageRef::Oci { path, name } => ("oci", path, name),
            ImageRef::OciArchive { path, name } => ("oci-archive", path, name),
            ImageRef::DockerArchive { path, name } => ("docker-archive", path, name),
            ImageRef::Dir { path } => ("dir", path, &None),
        };
        write!(f, "{transport}:{}", path.display())?;
        name.as_ref().map_or(Ok(()), |name| write!(f, ":{name}"))
    }
}

impl Serialize for ImageRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ImageRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A text whose grammar was checked once, when it came in.
macro_rules! checked_text {
    ($type:ident, $is_valid:expr, $error:expr) => {
        impl FromStr for $type {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                if $is_valid(text) { Ok($type(text.to_owned())) } else { Err($error(text.to_owned())) }
            }
        }

        impl std::ops::Deref for $type {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<$type> for String {
            fn from(text: $type) -> Self {
                text.0
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

checked_text!(RepositoryName, is_repository, Error::Repository);
checked_text!(Tag, is_tag, Error::Tag);

/// Where a text from outside leads, as seen from `base`: a link, a place in an index, a `Location`. It may be another host, and only
/// one that is asked by HTTP.
///
/// With [`url_below`], the one way in which a text becomes part of a URL.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub fn resolve(base: &Url, text: &str) -> Result<Url, Error> {
    let url = base.join(text.trim()).map_err(|_| Error::Place(text.to_owned()))?;
    if matches!(url.scheme(), "http" | "https") { Ok(url) } else { Err(Error::Place(text.to_owned())) }
}

/// `base` with further parts of a path below it, each of them one part whatever is in it: `/`, `\\`, `?`, `#` and `%` are
/// encoded. `.`, `..` and an empty part, which servers resolve or drop, are refused. The base keeps no query.
///
/// This is the one way in which a text becomes part of a URL's path.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub fn url_below<'a>(base: &Url, parts: impl IntoIterator<Item = &'a str>) -> Result<Url, Error> {
    let mut url = base.clone();
    url.set_query(None);
    url.set_fragment(None);
    let mut path = url.path_segments_mut().map_err(|()| Error::Segment(base.to_string()))?;
    path.pop_if_empty();
    for part in parts {
        if matches!(part, "" | "." | "..") {
            return Err(Error::Segment(part.to_owned()));
        }
        path.push(part);
    }
    drop(path);
    Ok(url)
}

/// Whether `text` is rather the name of a registry, `HOST[:PORT]`, than a short name and its tag: `alpine:3.20` is one of these.
pub fn is_host(text: &str) -> bool {
    let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
    let is_port = |port: &str| !port.is_empty() && port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    let is_named = name == "localhost" || name.contains('.');
    let has_port = port.is_some_and(|port| is_port(port) && (is_named || port.len() > 2));
    let characters = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    characters && !name.starts_with(['.', '-']) && !name.is_empty() && (has_port || is_named && port.is_none())
}

/// Whether `text` can be the path of a repository.
pub fn is_repository(text: &str) -> bool {
    text.len() <= REPOSITORY && text.split('/').all(is_repository_part)
}

/// Whether `text` can be a tag (distribution-spec, `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`).
pub fn is_tag(text: &str) -> bool {
    text.len() <= 128
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`, one part of a repository between slashes.
fn is_repository_part(part: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !part.starts_with(alphanumeric) || !part.ends_with(alphanumeric) {
        return false;
    }
    part.split(alphanumeric)
        .all(|between| matches!(between, "" | "." | "_" | "__") || between.bytes().all(|b| b == b'-'))
}

/// What containers/image takes as a reference name in a layout: words of letters and digits between `-._:@+/`.
fn is_image_name(name: &str) -> bool {
    let separators: &[char] = &['-', '.', '_', ':', '@', '+', '/'];
    !name.is_empty()
        && name.split(separators).all(|word| word.bytes().all(|b| b.is_ascii_alphanumeric()))
        && !name.starts_with(separators)
        && !name.ends_with(separators)
}

/// `@N` or `@DIGEST`: one of the images that are listed.
fn is_selection(name: &str) -> bool {
    name.strip_prefix('@').is_some_and(|rest| rest.parse::<usize>().is_ok() || rest.parse::<Digest>().is_ok())
}

/// Bytes of a repository's path, as distribution and its clients limit it.
const REPOSITORY: usize = 255;

#[cfg(test)]
mod tests;
