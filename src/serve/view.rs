//! What the layouts hold at one instant, as a registry sees it: repositories with their tags, manifests, blobs and referrers.
//!
//! A view is made from the layouts (see [`build`](super::build)) and never changed; a change of an `index.json` or a push makes
//! another one. So a request sees one state, and takes no lock to look at it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use crate::digest::Digest;
use crate::serve::bad::Bad;
use crate::serve::document::Document;
use crate::serve::names;
use crate::serve::stamp::Stamp;

/// All repositories of all layouts.
#[derive(Debug, Default)]
pub(super) struct View {
    /// By key: `quay.io/org/app`.
    pub(super) repositories: BTreeMap<String, Repository>,
    /// Keys by the path without the registry.
    pub(super) short: HashMap<String, Vec<String>>,
    /// What is known of each manifest; of one that cannot be read, why.
    pub(super) documents: HashMap<Digest, Result<Arc<Document>, Bad>>,
    /// What the operator should know of the names.
    pub(super) notes: Vec<String>,
    /// The `index.json` of each layout that it was made of.
    pub(super) stamps: Vec<Option<Stamp>>,
    /// When to make another one though these are the same, for something could not be read that may be readable then.
    pub(super) again: Option<Instant>,
}

/// One repository.
#[derive(Debug, Default)]
pub(super) struct Repository {
    /// Its name in layouts, where that is another than its key.
    pub(super) written: String,
    pub(super) tags: BTreeMap<String, Digest>,
    /// Tags that name several images in one layout, which no client can mean.
    pub(super) conflicts: BTreeMap<String, BTreeSet<Digest>>,
    pub(super) manifests: HashSet<Digest>,
    pub(super) blobs: HashSet<Digest>,
    /// By subject.
    pub(super) referrers: HashMap<Digest, Vec<Digest>>,
}

/// The answer to the question which manifest is meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// That one.
    One(Digest),
    /// None.
    Nothing,
    /// One of several, in words.
    Unclear(String),
}

impl View {
    /// Whether it is of layouts whose `index.json` are these, and not to be made again.
    pub(super) fn is_of(&self, stamps: &[Option<Stamp>]) -> bool {
        self.stamps == stamps && self.again.is_none_or(|again| Instant::now() < again)
    }

    /// The repositories that a path may mean: the one with exactly that name first, then those of registries that are left out.
    pub(super) fn candidates(&self, path: &str, ns: Option<&str>) -> Vec<(&str, &Repository)> {
        let exact = self.repositories.get_key_value(&names::key(path, ns));
        let short = self.short.get(path).filter(|_| ns.is_none()).into_iter().flatten();
        let short = short.filter_map(|key| self.repositories.get_key_value(key));
        exact.into_iter().chain(short).map(|(key, repository)| (key.as_str(), repository)).collect()
    }

    /// The manifest with that tag.
    pub(super) fn tagged(&self, path: &str, ns: Option<&str>, tag: &str) -> Found {
        let candidates = self.candidates(path, ns);
        let exact = names::key(path, ns);
        let mut found: Vec<(&str, &Digest)> = Vec::new();
        for (key, repository) in candidates {
            if let Some(digests) = repository.conflicts.get(tag) {
                let digests: Vec<&str> = digests.iter().map(Digest::as_str).collect();
                return Found::Unclear(format!(
                    "{key}:{tag} names {} images, ask by digest: {}",
                    digests.len(),
                    digests.join(", ")
                ));
            }
            let Some(digest) = repository.tags.get(tag) else { continue };
            if key == exact {
                return Found::One(digest.clone());
            }
            found.push((key, digest));
        }
        match &found[..] {
            [] => Found::Nothing,
            [(_, first), others @ ..] if others.iter().all(|(_, other)| other == first) => Found::One((*first).clone()),
            several => {
                let keys: Vec<&str> = several.iter().map(|(key, _)| *key).collect();
                Found::Unclear(format!(
                    "{path}:{tag} is another image in each of {}; name one of them",
                    keys.join(", ")
                ))
            }
        }
    }

    /// Whether a manifest belongs to a repository of that path.
    pub(super) fn has_manifest(&self, path: &str, ns: Option<&str>, digest: &Digest) -> bool {
        self.candidates(path, ns).iter().any(|(_, repository)| repository.manifests.contains(digest))
    }

    /// Whether a manifest of such a repository needs a blob.
    pub(super) fn has_blob(&self, path: &str, ns: Option<&str>, digest: &Digest) -> bool {
        self.candidates(path, ns).iter().any(|(_, repository)| repository.blobs.contains(digest))
    }

    /// The tags of a path in order; `None` for one that no repository has.
    pub(super) fn tags(&self, path: &str, ns: Option<&str>) -> Option<BTreeSet<&str>> {
        let candidates = self.candidates(path, ns);
        let tags = candidates.iter().flat_map(|(_, repository)| repository.tags.keys().map(String::as_str));
        (!candidates.is_empty()).then(|| tags.collect())
    }

    /// What refers to a manifest in the repositories of a path, each once.
    pub(super) fn referrers(&self, path: &str, ns: Option<&str>, subject: &Digest) -> BTreeSet<&Digest> {
        let candidates = self.candidates(path, ns);
        candidates.iter().filter_map(|(_, repository)| repository.referrers.get(subject)).flatten().collect()
    }
}
