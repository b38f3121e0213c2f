//! What pushes and deletes change in `index.json`.
//!
//! A tag is an entry with the name `REPOSITORY:TAG`. A manifest that no tag and no index of its repository leads to is an entry
//! with the name `REPOSITORY@DIGEST`: that of a platform, until the index that lists it is there, and that of an image whose tag
//! went to another one or was removed, which its annotation [`UNTAGGED`] says.

use std::collections::HashSet;

use oci_spec::image::{Descriptor, MediaType};

use crate::digest::Digest;
use crate::image::store::gc::UNTAGGED;
use crate::image::store::layout::{descriptor, named, ref_name};
use crate::serve::names::{self, Name};

/// One change.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// A manifest was pushed.
    Put(Put),
    /// A tag goes; its manifest stays.
    DeleteTag { repository: names::Repository, tag: String },
    /// A manifest goes, and its tags with it.
    DeleteManifest { repository: names::Repository, digest: Digest },
}

/// A manifest that was pushed.
#[derive(Clone, Debug)]
pub(super) struct Put {
    pub(super) repository: names::Repository,
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) media_type: String,
    pub(super) artifact_type: Option<String>,
    pub(super) tags: Vec<String>,
    /// Whether something in the repository leads to it already.
    pub(super) is_known: bool,
    /// Everything that it lists, however deep.
    pub(super) below: HashSet<Digest>,
}

/// Makes changes to the entries of an `index.json`; `default` is the repository of names that have none.
pub(super) fn apply(changes: &[Change], entries: &mut Vec<Descriptor>, default: &str) {
    for change in changes {
        match change {
            Change::Put(put) => add(put, entries, default),
            Change::DeleteTag { repository, tag } => {
                untag(entries, default, repository, tag, None);
            }
            Change::DeleteManifest { repository, digest } => {
                entries.retain(|entry| {
                    let is_it = entry.digest().as_ref() == digest.as_str();
                    !is_it || place(entry, default).is_some_and(|(key, _)| key != repository.key)
                });
            }
        }
    }
}

fn add(put: &Put, entries: &mut Vec<Descriptor>, default: &str) {
    let Put { repository, digest, tags, below, .. } = put;
    // What the new manifest leads to needs no entry of its own.
    entries.retain(|entry| {
        let is_below = place(entry, default) == Some((repository.key.clone(), None));
        !is_below || !entry.digest().as_ref().parse().is_ok_and(|digest: Digest| below.contains(&digest))
    });
    let mut entry = descriptor(MediaType::from(put.media_type.as_str()), digest, put.size);
    entry.set_artifact_type(put.artifact_type.as_deref().map(MediaType::from));
    for tag in tags {
        untag(entries, default, repository, tag, Some(digest));
        entries.push(named(&entry, &format!("{}:{tag}", repository.written)));
    }
    // Who pushes it by its digest wants it without a tag, too.
    for there in entries.iter_mut().filter(|there| is_of(there, default, repository, digest)) {
        annotate(there, UNTAGGED, None);
    }
    let is_listed = entries.iter().any(|entry| is_of(entry, default, repository, digest));
    if !is_listed && !put.is_known {
        entries.push(named(&entry, &format!("{}@{digest}", repository.written)));
    } else if !tags.is_empty() {
        entries.retain(|entry| {
            let is_it = entry.digest().as_ref() == digest.as_str();
            !is_it || place(entry, default) != Some((repository.key.clone(), None))
        });
    }
}

/// Takes a tag away. The manifest that had it, unless it is to have it again, is kept by its digest.
fn untag(
    entries: &mut Vec<Descriptor>,
    default: &str,
    repository: &names::Repository,
    tag: &str,
    next: Option<&Digest>,
) {
    let mut gone = Vec::new();
    entries.retain(|entry| {
        let is_it = place(entry, default)
            .is_some_and(|(key, there)| key == repository.key && there.as_deref() == Some(tag))
            || next.is_none() && ref_name(entry) == Some(tag) && matches!(names::read(tag), Some(Name::Beside { .. }));
        if is_it {
            gone.push(entry.clone());
        }
        !is_it
    });
    for entry in gone {
        let Ok(digest) = entry.digest().to_string().parse::<Digest>() else { continue };
        if next != Some(&digest) && !entries.iter().any(|entry| is_of(entry, default, repository, &digest)) {
            let mut entry = named(&entry, &format!("{}@{digest}", repository.written));
            annotate(&mut entry, UNTAGGED, Some(jiff::Timestamp::now().to_string()));
            entries.push(entry);
        }
    }
}

fn annotate(entry: &mut Descriptor, key: &str, value: Option<String>) {
    let mut annotations = entry.annotations().clone().unwrap_or_default();
    annotations.remove(key);
    annotations.extend(value.map(|value| (key.to_owned(), value)));
    entry.set_annotations((!annotations.is_empty()).then_some(annotations));
}

fn is_of(entry: &Descriptor, default: &str, repository: &names::Repository, digest: &Digest) -> bool {
    entry.digest().as_ref() == digest.as_str() && place(entry, default).is_some_and(|(key, _)| key == repository.key)
}

/// The repository and the tag that an entry's name says.
fn place(entry: &Descriptor, default: &str) -> Option<(String, Option<String>)> {
    match names::read(ref_name(entry)?)? {
        Name::Tag { repository, tag } => Some((repository.key, Some(tag))),
        Name::Digest { repository } => Some((repository.key, None)),
        Name::TagOnly(tag) => Some((default.to_owned(), Some(tag))),
        Name::Beside { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(name: &str, bytes: &str, tags: &[&str], below: &[&str]) -> Change {
        Change::Put(Put {
            repository: names::Repository::asked(name, None),
            digest: Digest::sha256(bytes),
            size: 1,
            media_type: MediaType::ImageManifest.to_string(),
            artifact_type: None,
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            is_known: false,
            below: below.iter().map(Digest::sha256).collect(),
        })
    }

    fn names(entries: &[Descriptor]) -> Vec<String> {
        let short = |entry: &Descriptor| ref_name(entry).unwrap().split("sha256:").next().unwrap().to_owned();
        let mut names: Vec<String> = entries.iter().map(short).collect();
        names.sort();
        names
    }

    #[test]
    fn entries_follow_what_is_pushed_and_deleted() {
        let mut entries = vec![named(&descriptor(MediaType::ImageManifest, &Digest::sha256("old"), 1), "latest")];
        let mut after = |change: Change, expected: &[&str]| {
            apply(&[change], &mut entries, "mirror");
            assert_eq!(names(&entries), expected);
        };
        after(put("a/b", "platform", &[], &[]), &["a/b@", "latest"]);
        after(put("a/b", "index", &["1"], &["platform"]), &["a/b:1", "latest"]);
        after(put("a/b", "index", &["2"], &["platform"]), &["a/b:1", "a/b:2", "latest"]);
        after(put("a/b", "other", &["1"], &[]), &["a/b:1", "a/b:2", "latest"]);
        after(put("a/b", "third", &["2"], &[]), &["a/b:1", "a/b:2", "a/b@", "latest"]);
        after(put("quay.io/a/b", "third", &[], &[]), &["a/b:1", "a/b:2", "a/b@", "latest", "quay.io/a/b@"]);
        // skopeo's name without a repository is a tag of the default one.
        after(
            put("mirror", "new", &["latest"], &[]),
            &["a/b:1", "a/b:2", "a/b@", "mirror:latest", "mirror@", "quay.io/a/b@"],
        );
        let tag = Change::DeleteTag { repository: names::Repository::plain("mirror"), tag: "latest".to_owned() };
        after(tag, &["a/b:1", "a/b:2", "a/b@", "mirror@", "mirror@", "quay.io/a/b@"]);
        let manifest = |bytes: &str, name: &str| Change::DeleteManifest {
            repository: names::Repository::asked(name, None),
            digest: Digest::sha256(bytes),
        };
        after(manifest("new", "mirror"), &["a/b:1", "a/b:2", "a/b@", "mirror@", "quay.io/a/b@"]);
        after(manifest("third", "a/b"), &["a/b:1", "a/b@", "mirror@", "quay.io/a/b@"]);
    }
}
