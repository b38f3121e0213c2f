//! Which repository and tag an image's name in a layout means, and which repository a request means. Drawn in
//! [`serve`](crate::serve).

use crate::digest::Digest;
use crate::image::store::referrers::subject_of_tag;
use crate::reference::{Remote, Target, is_repository, is_tag};

/// What the name of an entry in `index.json` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// A tag of a repository.
    Tag { repository: Repository, tag: String },
    /// Nothing but that it belongs to the repository: `REPOSITORY@DIGEST`.
    Digest { repository: Repository },
    /// cosign's or the fallback tag of what refers to another manifest; a tag wherever that one is.
    Beside { subject: Digest, tag: String },
    /// A tag, and no word of a repository, as skopeo writes it (`oci:DIR:latest`).
    TagOnly(String),
}

/// A repository by its two names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Repository {
    /// How it is served, and the key of everything: `quay.io/org/app`, `host_5000/app`, `org/app`.
    pub(super) key: String,
    /// How it is written in a layout: `host:5000/app`.
    pub(super) written: String,
    /// Its path without the registry, where it has one.
    pub(super) path: Option<String>,
}

impl Repository {
    /// The repository of a registry, or of none.
    fn of(registry: Option<&str>, path: &str) -> Self {
        let Some(registry) = registry else { return Repository::plain(path) };
        let host = host(registry);
        let path = docker_path(&host, path);
        let part = part(&host);
        // An IPv6 address cannot be written in a path: such images are served without their registry.
        let key = if is_repository(&part) { format!("{part}/{path}") } else { path.clone() };
        let short = (key != path).then(|| path.clone());
        Repository { key, written: format!("{registry}/{path}"), path: short }
    }

    /// A repository that no registry is known of.
    pub(super) fn plain(path: &str) -> Self {
        Repository { key: path.to_owned(), written: path.to_owned(), path: None }
    }

    /// The repository that a path in a request names, where it is to be written to.
    pub(super) fn asked(path: &str, ns: Option<&str>) -> Self {
        let key = key(path, ns);
        // What the key says of a registry is told as it is told of a name in a layout, so that both get the same path.
        match key.parse::<Remote>() {
            Ok(remote) => {
                Repository { written: key.clone(), ..Repository::of(Some(&remote.registry), &remote.repository) }
            }
            Err(_) => Repository::plain(&key),
        }
    }
}

/// Reads the name of an entry. `None` for one that no registry could have.
pub(super) fn read(name: &str) -> Option<Name> {
    if let Some(subject) = subject_of_tag(name).filter(|_| is_tag(name)) {
        return Some(Name::Beside { subject, tag: name.to_owned() });
    }
    if let Ok(remote) = name.parse::<Remote>() {
        let repository = Repository::of(Some(&remote.registry), &remote.repository);
        return Some(match remote.target {
            Target::Unnamed => Name::Tag { repository, tag: "latest".to_owned() },
            Target::Tag(tag) => Name::Tag { repository, tag },
            Target::Digest(_) => Name::Digest { repository },
            // Nobody can ask for both.
            Target::Pinned { .. } => return None,
        });
    }
    if is_tag(name) {
        return Some(Name::TagOnly(name.to_owned()));
    }
    if let Some((path, digest)) = name.split_once('@') {
        let is_both = is_repository(path) && digest.parse::<Digest>().is_ok();
        return is_both.then(|| Name::Digest { repository: Repository::plain(path) });
    }
    let (path, tag) = name.rsplit_once(':').unwrap_or((name, "latest"));
    let is_both = is_repository(path) && is_tag(tag);
    is_both.then(|| Name::Tag { repository: Repository::plain(path), tag: tag.to_owned() })
}

/// The key of the repository that a request's path names exactly.
pub(super) fn key(path: &str, ns: Option<&str>) -> String {
    if let Some(ns) = ns {
        let host = host(ns);
        let part = part(&host);
        // A mirror with a path (`override_path`) says it twice.
        let rest = path.strip_prefix(&part).and_then(|rest| rest.strip_prefix('/')).unwrap_or(path);
        return format!("{part}/{}", docker_path(&host, rest));
    }
    match path.split_once('/') {
        Some((first, rest)) if host(first) == DOCKER => format!("{DOCKER}/{}", docker_path(DOCKER, rest)),
        _ => path.to_owned(),
    }
}

/// The other paths under which a repository of a registry is found by those who leave the registry out.
pub(super) fn short_paths(path: &str) -> impl Iterator<Item = &str> {
    // Docker asks for `library/alpine`, people for `alpine`.
    std::iter::once(path).chain(path.strip_prefix(LIBRARY))
}

/// What a directory's name becomes as the name of a repository.
pub(super) fn from_directory(name: &str) -> String {
    let mut path = String::new();
    for c in name.to_lowercase().chars() {
        let separates = !path.is_empty() && !path.ends_with('-');
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            path.push(c);
        } else if separates {
            path.push('-');
        }
    }
    let path = path.trim_end_matches('-');
    if path.is_empty() { "images".to_owned() } else { path.to_owned() }
}

fn host(registry: &str) -> String {
    let host = registry.to_lowercase();
    if matches!(host.as_str(), "index.docker.io" | "registry-1.docker.io") { DOCKER.to_owned() } else { host }
}

/// A host as a part of a path, in which there is no colon.
fn part(host: &str) -> String {
    host.replace(':', "_")
}

fn docker_path(host: &str, path: &str) -> String {
    if host == DOCKER && !path.contains('/') { format!("{LIBRARY}{path}") } else { path.to_owned() }
}

const DOCKER: &str = "docker.io";
const LIBRARY: &str = "library/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_layout_is_one_repository_and_tag() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let (by_digest, plain_digest) = (format!("quay.io/a/b@sha256:{hex}"), format!("a/b@sha256:{hex}"));
        let signature = format!("sha256-{hex}.sig");
        for (name, key, tag) in [
            ("quay.io/org/app:1.2", "quay.io/org/app", "1.2"),
            ("quay.io/org/app", "quay.io/org/app", "latest"),
            ("localhost:5000/x:y", "localhost_5000/x", "y"),
            ("Registry.Example/x:y", "registry.example/x", "y"),
            ("docker.io/alpine:3", "docker.io/library/alpine", "3"),
            ("index.docker.io/library/alpine:3", "docker.io/library/alpine", "3"),
            ("org/app:1", "org/app", "1"),
            ("org/app", "org/app", "latest"),
            ("alpine:3", "alpine", "3"),
            ("[::1]:5000/x:y", "x", "y"),
            (&by_digest, "quay.io/a/b", ""),
            (&plain_digest, "a/b", ""),
            ("latest", "", "latest"),
            (&signature, "", &signature),
            ("a+b/c:1", "none", ""),
            ("quay.io/Org/app:1", "none", ""),
        ] {
            let found = match read(name) {
                Some(Name::Tag { repository, tag }) => (repository.key, tag),
                Some(Name::Digest { repository }) => (repository.key, String::new()),
                Some(Name::TagOnly(tag) | Name::Beside { tag, .. }) => (String::new(), tag),
                None => ("none".to_owned(), String::new()),
            };
            assert_eq!(found, (key.to_owned(), tag.to_owned()), "{name}");
        }
    }

    #[test]
    fn a_request_names_a_repository_with_its_registry_in_the_path_or_in_ns() {
        for (path, ns, expected) in [
            ("quay.io/a/b", None, "quay.io/a/b"),
            ("a/b", None, "a/b"),
            ("a/b", Some("quay.io"), "quay.io/a/b"),
            ("quay.io/a/b", Some("quay.io"), "quay.io/a/b"),
            ("a/b", Some("localhost:5000"), "localhost_5000/a/b"),
            ("alpine", Some("docker.io"), "docker.io/library/alpine"),
            ("docker.io/alpine", None, "docker.io/library/alpine"),
            ("docker.io/alpine", Some("docker.io"), "docker.io/library/alpine"),
        ] {
            assert_eq!(key(path, ns), expected, "{path} {ns:?}");
        }
        let asked = Repository::asked("quay.io/a/b", None);
        assert_eq!(read("quay.io/a/b:1"), Some(Name::Tag { repository: asked, tag: "1".to_owned() }));
    }

    #[test]
    fn directories_get_names_that_repositories_may_have() {
        for (directory, expected) in
            [("Mirror Of_2026", "mirror-of-2026"), ("..", "images"), ("é", "images"), ("a", "a")]
        {
            assert_eq!(from_directory(directory), expected);
        }
    }
}
