//! `LIST.toml`: what is to be where.
//!
//! ```toml
//! to = "docker://mirror.example:5000/mirror"   # for all: repositories keep their path below it
//! platforms = ["linux/amd64"]                  # for all; all platforms without
//!
//! [registries."quay.io"]                       # how a registry is spoken to
//! tls-verify = true
//! parallel = 4
//!
//! [[images]]
//! registry = "quay.io"
//! repositories = ["org/app", "team/*"]         # names, and patterns for what the registry lists
//! tags = ["1.0", "v2.*"]                       # names and patterns
//! semver = ">=1.2, <2"                         # tags that are versions in a range: three numbers
//! short-versions = true                        # tags such as 1.2 and 8, too
//! digests = ["sha256:…"]
//!
//! [[images]]
//! from = "oci:store"                           # images of a layout or an archive, by their names
//! names = ["quay.io/org/*"]
//! to = "docker://other.example/backup"
//! ```
//!
//! In a pattern `*` is any text without a slash, `**` any text, `?` one character and `[ab]` one of several. Unknown keys
//! are errors.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use glob::{MatchOptions, Pattern};
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::fs;
use crate::image::Platform;
pub use crate::image::build::definition::Error;
use crate::image::build::definition::{Keys, unknown_key};
use crate::limits;
use crate::reference::{self, ImageRef, Remote, Target};

/// What is to be where.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct List {
    to: Option<Destination>,
    #[serde(default)]
    platforms: Vec<Platform>,
    referrers: Option<bool>,
    /// How registries are spoken to, by `HOST[:PORT]`.
    #[serde(default)]
    pub registries: BTreeMap<String, RegistrySettings>,
    /// The entries.
    #[serde(default)]
    pub images: Vec<Entry>,
}

/// How one registry is spoken to.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RegistrySettings {
    /// Whether its certificate is checked; `false` also takes plain HTTP.
    pub tls_verify: Option<bool>,
    /// Blobs on their way to or from it at one time.
    pub parallel: Option<usize>,
}

/// Some images and where they go.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Entry {
    /// The registry, `HOST[:PORT]`; this or `from`.
    pub registry: Option<String>,
    /// Repositories of it.
    #[serde(default)]
    pub repositories: Vec<Name>,
    /// Tags of each.
    #[serde(default)]
    pub tags: Vec<Name>,
    /// Tags that are versions in one of these ranges, with a `v` before them or not.
    #[serde(default, deserialize_with = "ranges")]
    pub semver: Vec<semver::VersionReq>,
    /// Whether such ranges also take tags with less than three numbers, in which those that are missing are zero.
    #[serde(default)]
    pub short_versions: bool,
    /// Images without a tag.
    #[serde(default)]
    pub digests: Vec<Digest>,
    /// A layout or an archive.
    pub from: Option<ImageRef>,
    /// Which images of it, by their names there; all without.
    #[serde(default)]
    pub names: Vec<Name>,
    platforms: Option<Vec<Platform>>,
    referrers: Option<bool>,
    to: Option<Destination>,
    /// The repository's path at the target, in place of its own.
    #[serde(rename = "as")]
    pub renamed: Option<String>,
}

/// A name, or a pattern for several.
#[derive(Clone, Debug)]
pub struct Name {
    text: String,
    /// `None` for a plain name.
    pattern: Option<Pattern>,
}

/// Where images go.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Destination {
    /// A registry, and a path below which repositories keep theirs.
    Registry {
        /// `HOST[:PORT]`
        host: String,
        /// The path; may be empty.
        prefix: String,
    },
    /// A layout or an archive, in which images have their full names.
    Store(ImageRef),
}

/// An image's way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Way {
    /// From where.
    pub source: ImageRef,
    /// To where.
    pub destination: ImageRef,
    /// Only these platforms; none means all.
    #[serde(skip)]
    pub platforms: Vec<Platform>,
    /// Whether what refers to it goes along.
    #[serde(skip)]
    pub referrers: bool,
}

impl List {
    /// Reads a list.
    pub fn read(path: &Path) -> Result<Self, Error> {
        List::parse(path, &String::from_utf8_lossy(&fs::read(path, 16 << 20)?))
    }

    /// Parses a list; `path` is for the errors.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let invalid = |source| Error::Parse { path: path.to_owned(), what: "list of images", source: Box::new(source) };
        limits::toml(text).map_err(|exceeded| invalid(toml::de::Error::custom(exceeded)))?;
        let mut table: toml::Table = toml::from_str(text).map_err(invalid)?;
        let registries = match table.remove("registries") {
            Some(toml::Value::Table(registries)) => registries,
            _ => toml::Table::new(),
        };
        let settings = registries.iter().find_map(|(host, settings)| {
            unknown_key(settings.as_table()?, &REGISTRY, &format!("registries.\"{host}\"."))
        });
        if let Some((key, known)) = settings.or_else(|| unknown_key(&table, &TOP, "")) {
            return Err(Error::UnknownKey { path: path.to_owned(), key, known });
        }
        // From the text once more, for the line numbers in the errors.
        let list: List = toml::from_str(text).map_err(invalid)?;
        let problem = list.images.iter().enumerate().find_map(|(n, entry)| Some((n, list.problem_of(entry)?)));
        match problem {
            Some((n, problem)) => {
                Err(Error::Value { path: path.to_owned(), problem: format!("images[{n}]: {problem}") })
            }
            None if list.registries.values().any(|it| it.parallel == Some(0)) => {
                Err(Error::Value { path: path.to_owned(), problem: "registries: `parallel` is at least 1".into() })
            }
            None if list.images.is_empty() => {
                Err(Error::Value { path: path.to_owned(), problem: "no [[images]] in it".into() })
            }
            None => Ok(list),
        }
    }

    fn problem_of(&self, entry: &Entry) -> Option<String> {
        if entry.to.is_none() && self.to.is_none() {
            return Some("no `to`, here or at the top".into());
        }
        match (&entry.registry, &entry.from) {
            (Some(host), None) => {
                if host.contains('/') || format!("{host}/x").parse::<Remote>().is_err() {
                    return Some(format!("registry: `{host}` is no HOST or HOST:PORT with a dot or a port in it"));
                }
                if entry.repositories.is_empty() {
                    return Some("no `repositories`; all that the registry lists are \"**\"".into());
                }
                let plain = entry.repositories.iter().filter_map(Name::plain);
                for name in plain {
                    if !is_repository(name) {
                        return Some(format!("repositories: `{name}` is no repository's path"));
                    }
                }
                if let Some(name) = entry.tags.iter().filter_map(Name::plain).find(|name| !reference::is_tag(name)) {
                    return Some(format!("tags: `{name}` is no tag"));
                }
                if !entry.names.is_empty() {
                    return Some("names: only with `from`; a registry has `repositories` and `tags`".into());
                }
                if entry.tags.is_empty() && entry.semver.is_empty() && entry.digests.is_empty() {
                    return Some("none of `tags`, `semver` and `digests`; all tags are \"*\"".into());
                }
            }
            (None, Some(ImageRef::Docker(_))) => {
                return Some("from: a registry is given by `registry`, `repositories` and `tags`".into());
            }
            (None, Some(from)) => {
                if from.name().is_some() {
                    return Some("from: which images is said by `names`".into());
                }
                let registry_only = [!entry.repositories.is_empty(), !entry.tags.is_empty(), !entry.digests.is_empty()];
                if registry_only.contains(&true) || !entry.semver.is_empty() {
                    return Some("repositories, tags, semver and digests: only with `registry`".into());
                }
            }
            _ => return Some("give either `registry` or `from`".into()),
        }
        match (&entry.renamed, &entry.repositories[..]) {
            (Some(name), _) if !is_repository(name) => Some(format!("as: `{name}` is no repository's path")),
            (Some(_), [one]) if one.plain().is_some() => None,
            (Some(_), _) => Some("as: only with one repository that is no pattern".into()),
            (None, _) => None,
        }
    }

    /// The way of an image of an entry.
    pub(super) fn way(&self, entry: &Entry, source: ImageRef, image: &Remote) -> Way {
        let destination = entry.to.as_ref().or(self.to.as_ref()).expect("checked when it was parsed");
        let platforms = entry.platforms.clone().unwrap_or_else(|| self.platforms.clone());
        let referrers = entry.referrers.or(self.referrers).unwrap_or(true);
        Way { source, destination: destination.place(image, entry.renamed.as_deref()), platforms, referrers }
    }

    /// Limits of blobs on their way at one time, by host.
    pub fn limits(&self) -> HashMap<String, usize> {
        let limit = |(host, it): (&String, &RegistrySettings)| Some((host.clone(), it.parallel?));
        self.registries.iter().filter_map(limit).collect()
    }

    /// The registries that images go to.
    pub fn destination_hosts(&self) -> Vec<String> {
        let all = self.images.iter().filter_map(|entry| entry.to.as_ref().or(self.to.as_ref()));
        let hosts = all.filter_map(|destination| match destination {
            Destination::Registry { host, .. } => Some(host.clone()),
            Destination::Store(_) => None,
        });
        hosts.collect()
    }

    /// The layouts and archives that images go to.
    pub fn stores(&self) -> Vec<ImageRef> {
        let all = self.images.iter().filter_map(|entry| entry.to.as_ref().or(self.to.as_ref()));
        let mut stores: Vec<ImageRef> = all
            .filter_map(|destination| match destination {
                Destination::Store(store) => Some(store.clone()),
                Destination::Registry { .. } => None,
            })
            .collect();
        stores.sort();
        stores.dedup();
        stores
    }
}

impl Destination {
    /// Where an image goes.
    fn place(&self, image: &Remote, renamed: Option<&str>) -> ImageRef {
        match self {
            Destination::Registry { host, prefix } => {
                let own = image.path();
                let path = [prefix.as_str(), renamed.unwrap_or(&own)].join("/");
                let repository = path.trim_start_matches('/').to_owned();
                ImageRef::Docker(Remote { registry: host.clone(), repository, target: image.target.clone() })
            }
            Destination::Store(store) => {
                let repository = renamed.unwrap_or(&image.repository);
                let name = Some(Remote { repository: repository.to_owned(), ..image.clone() }.to_string());
                match store.clone() {
                    ImageRef::Oci { path, .. } => ImageRef::Oci { path, name },
                    ImageRef::OciArchive { path, .. } => ImageRef::OciArchive { path, name },
                    ImageRef::DockerArchive { path, .. } => ImageRef::DockerArchive { path, name },
                    other => other,
                }
            }
        }
    }
}

impl<'de> Deserialize<'de> for Destination {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if let Some(rest) = text.strip_prefix("docker://") {
            let (host, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let prefix = prefix.trim_end_matches('/');
            let whole = if prefix.is_empty() { format!("{host}/x") } else { format!("{host}/{prefix}") };
            let remote: Remote = whole.parse().map_err(D::Error::custom)?;
            if remote.target != Target::Unnamed {
                return Err(D::Error::custom(format_args!("`{text}`: repositories and tags are added to it")));
            }
            return Ok(Destination::Registry { host: host.to_owned(), prefix: prefix.to_owned() });
        }
        match text.parse().map_err(D::Error::custom)? {
            ImageRef::Dir { .. } => Err(D::Error::custom(format_args!("`{text}`: holds one image only"))),
            store if store.name().is_some() => {
                Err(D::Error::custom(format_args!("`{text}`: images get their own names in it")))
            }
            store => Ok(Destination::Store(store)),
        }
    }
}

impl Name {
    /// The name, where it is no pattern.
    pub fn plain(&self) -> Option<&str> {
        self.pattern.is_none().then_some(self.text.as_str())
    }

    /// Whether a name is this one, or one of those that the pattern stands for.
    pub fn matches(&self, name: &str) -> bool {
        let options = MatchOptions { require_literal_separator: true, ..MatchOptions::default() };
        match &self.pattern {
            // glob's `**` stands for whole path parts only.
            Some(_) if self.text == "**" => true,
            Some(pattern) => pattern.matches_with(name, options),
            None => self.text == name,
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let pattern = text.contains(['*', '?', '[']).then(|| Pattern::new(&text)).transpose();
        Ok(Name { pattern: pattern.map_err(|error| D::Error::custom(format_args!("`{text}`: {error}")))?, text })
    }
}

/// One range or several.
fn ranges<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<semver::VersionReq>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Ranges {
        One(String),
        Several(Vec<String>),
    }
    let ranges = match Ranges::deserialize(deserializer)? {
        Ranges::One(text) => vec![text],
        Ranges::Several(texts) => texts,
    };
    let parse = |text: String| text.parse().map_err(|error| D::Error::custom(format_args!("`{text}`: {error}")));
    ranges.into_iter().map(parse).collect()
}

fn is_repository(path: &str) -> bool {
    format!("localhost/{path}").parse::<Remote>().is_ok_and(|remote| remote.target == Target::Unnamed)
}

const REGISTRY: Keys = Keys { plain: &["tls-verify", "parallel"], tables: &[] };
const TOP: Keys = Keys { plain: &["to", "platforms", "referrers", "registries"], tables: &[("images", &ENTRY)] };
const ENTRY: Keys = Keys {
    plain: &[
        "registry",
        "repositories",
        "tags",
        "semver",
        "short-versions",
        "digests",
        "from",
        "names",
        "platforms",
        "referrers",
        "to",
        "as",
    ],
    tables: &[],
};

#[cfg(test)]
mod tests;
