//! What is needed: everything that `index.json` leads to, as far as it is not there for the sake of something that is gone.
//!
//! A document needs whatever digest it mentions, wherever and of whatever type: this is asked to take away, and what is new in a
//! specification must not be lost for that. Only `subject` and annotations are no need: a referrer lives as long as what it is
//! about, and not the other way round.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use oci_spec::image::{Descriptor, MediaType};
use rayon::prelude::*;
use serde_json::Value;

use crate::causes;
use crate::digest::{Digest, Hasher};
use crate::fs::{self, PathContext};
use crate::image::manifest;
use crate::image::store::gc::{Error, UNTAGGED};
use crate::image::store::layout::{self, DOCUMENT_LIMIT, INDEX, Layout, digest_of, ref_name};
use crate::image::store::referrers::subject_of_tag;

/// What is known of the documents of a layout: digests have one content, so it stays true.
#[derive(Default)]
pub(super) struct Documents(HashMap<Digest, Option<Arc<Document>>>);

/// What a document mentions.
struct Document {
    /// What is listed as a manifest, and whether its type is that of one.
    manifests: Vec<(Digest, bool)>,
    others: Vec<Digest>,
    subject: Option<Digest>,
}

/// What an `index.json` leads to.
pub(super) struct Mark {
    /// All of `index.json`.
    pub(super) entries: Vec<Descriptor>,
    /// When it was changed last: what is not needed was needed at that time at the latest.
    pub(super) changed: SystemTime,
    pub(super) live: HashSet<Digest>,
    /// Entries that are there for nothing any more, by their places in `entries`, and since when if that is known.
    pub(super) dead: Vec<(usize, Digest, Option<i64>)>,
    /// Manifests that a list names and that are not there, as when only some platforms were copied.
    pub(super) missing: usize,
}

impl Mark {
    /// Follows everything from `index.json`. With `untagged`, images whose tag went to another are not followed.
    ///
    /// An error when something cannot be read that is named there: what it needs cannot be known then.
    pub(super) fn of(layout: &Layout, untagged: bool, documents: &mut Documents) -> Result<Self, Error> {
        let path = layout.root().join(INDEX);
        // Before it is read: what comes meanwhile is younger.
        let changed = std::fs::metadata(&path).and_then(|found| found.modified()).at("read", &path)?;
        let entries = layout.index()?.manifests().clone();
        let digests = entries.iter().map(digest_of).collect::<Result<Vec<_>, _>>().map_err(layout::Error::from)?;
        documents.load(layout, entries.iter().zip(&digests))?;
        let mut mark = Mark { entries, changed, live: HashSet::new(), dead: Vec::new(), missing: 0 };
        let mut waiting = Vec::new();
        for (at, digest) in digests.into_iter().enumerate() {
            let entry = &mark.entries[at];
            match (untagged.then(|| lost_its_tag(entry)).flatten(), documents.subject(entry, &digest)) {
                (Some(since), _) => mark.dead.push((at, digest, Some(since))),
                (None, Some(subject)) => waiting.push((at, digest, subject)),
                (None, None) => documents.add(&digest, &mut mark.live),
            }
        }
        loop {
            let (alive, rest): (Vec<_>, Vec<_>) =
                waiting.into_iter().partition(|(_, _, subject)| mark.live.contains(subject));
            waiting = rest;
            if alive.is_empty() {
                break;
            }
            alive.iter().for_each(|(_, digest, _)| documents.add(digest, &mut mark.live));
        }
        mark.dead.extend(waiting.into_iter().map(|(at, digest, _)| (at, digest, None)));
        mark.missing = mark.live.iter().filter(|digest| matches!(documents.0.get(*digest), Some(None))).count();
        Ok(mark)
    }
}

impl Documents {
    /// Adds a document and everything below it.
    pub(super) fn add(&self, digest: &Digest, to: &mut HashSet<Digest>) {
        let mut waiting = vec![digest];
        while let Some(digest) = waiting.pop() {
            if to.insert(digest.clone())
                && let Some(Some(document)) = self.0.get(digest)
            {
                waiting.extend(document.manifests.iter().map(|(digest, _)| digest));
                waiting.extend(&document.others);
            }
        }
    }

    /// What an entry is there for, if not for itself. A tag of its own keeps it, but one that says what it is about.
    fn subject(&self, entry: &Descriptor, digest: &Digest) -> Option<Digest> {
        match ref_name(entry).filter(|name| !name.contains('@')) {
            Some(name) => {
                let last = name.rsplit('/').next().unwrap_or(name);
                subject_of_tag(last.rsplit(':').next().unwrap_or(last))
            }
            None => self.0.get(digest)?.as_ref()?.subject.clone(),
        }
    }

    /// Reads what entries lead to, on all cores, list by list.
    fn load<'a>(
        &mut self,
        layout: &Layout,
        entries: impl Iterator<Item = (&'a Descriptor, &'a Digest)>,
    ) -> Result<(), Error> {
        let is_typed = |media_type: &MediaType| manifest::is_index(media_type) || manifest::is_manifest(media_type);
        let mut wanted: HashMap<Digest, bool> = HashMap::new();
        for (entry, digest) in entries {
            // Under a name that is there twice it is one document.
            *wanted.entry(digest.clone()).or_default() |= is_typed(entry.media_type());
        }
        let named: HashSet<Digest> = wanted.keys().cloned().collect();
        while !wanted.is_empty() {
            wanted.retain(|digest, _| !self.0.contains_key(digest));
            let read = std::mem::take(&mut wanted).into_par_iter().map(|(digest, is_typed)| {
                let document = Document::read(layout, &digest, is_typed)?;
                if document.is_none() && named.contains(&digest) && !layout.blob_path(&digest).exists() {
                    let reason = "it is not there".to_owned();
                    return Err(Error::Unreadable { layout: layout.root().to_owned(), digest, reason });
                }
                Ok((digest, document.map(Arc::new)))
            });
            for (digest, document) in read.collect::<Result<Vec<_>, Error>>()? {
                for (child, is_typed) in document.iter().flat_map(|document| &document.manifests) {
                    *wanted.entry(child.clone()).or_default() |= is_typed;
                }
                self.0.insert(digest, document);
            }
        }
        Ok(())
    }
}

impl Document {
    /// Reads a document. `None` for what is not there, and for what is none and need not be one.
    fn read(layout: &Layout, digest: &Digest, is_typed: bool) -> Result<Option<Self>, Error> {
        let path = layout.blob_path(digest);
        let refused = |reason: String| match is_typed {
            true => Err(Error::Unreadable { layout: layout.root().to_owned(), digest: digest.clone(), reason }),
            false => Ok(None),
        };
        match std::fs::symlink_metadata(&path) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return refused(error.to_string()),
        }
        let bytes = match fs::read_regular(&path, DOCUMENT_LIMIT) {
            Ok(bytes) => bytes,
            Err(error) => return refused(causes::line(&error.source)),
        };
        let mut hasher = Hasher::new(digest.algorithm());
        hasher.update(&bytes);
        if hasher.finish() != *digest {
            // It may be a document whose type nobody told.
            return Err(Error::Unreadable {
                layout: layout.root().to_owned(),
                digest: digest.clone(),
                reason: "its content has another digest".to_owned(),
            });
        }
        match serde_json::from_slice::<Value>(&bytes) {
            Ok(value @ Value::Object(_)) => Ok(Some(Document::of(&value))),
            Ok(_) => refused("it is not a manifest or an index".to_owned()),
            Err(error) => refused(error.to_string()),
        }
    }

    fn of(value: &Value) -> Self {
        let mut document = Document { manifests: Vec::new(), others: Vec::new(), subject: None };
        let digest = |value: &Value| value.as_str()?.parse::<Digest>().ok();
        document.subject = value.pointer("/subject/digest").and_then(digest);
        for listed in value.get("manifests").and_then(Value::as_array).into_iter().flatten() {
            let media_type = listed.get("mediaType").and_then(Value::as_str).unwrap_or_default();
            let media_type = MediaType::from(media_type);
            let is_typed = manifest::is_index(&media_type) || manifest::is_manifest(&media_type);
            document.manifests.extend(listed.get("digest").and_then(digest).map(|digest| (digest, is_typed)));
        }
        for (key, value) in value.as_object().into_iter().flatten() {
            if !["subject", "annotations", "manifests"].contains(&key.as_str()) {
                mentioned(value, &mut document.others);
            }
        }
        document
    }
}

/// Every digest in a value but those in annotations.
fn mentioned(value: &Value, digests: &mut Vec<Digest>) {
    match value {
        Value::String(text) => digests.extend(text.parse::<Digest>().ok()),
        Value::Array(values) => values.iter().for_each(|value| mentioned(value, digests)),
        Value::Object(fields) => {
            for (_, value) in fields.iter().filter(|(key, _)| *key != "annotations") {
                mentioned(value, digests);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Since when an image is there without the tag that it had, in seconds since 1970.
fn lost_its_tag(entry: &Descriptor) -> Option<i64> {
    entry.annotations().as_ref()?.get(UNTAGGED)?.parse().ok().map(jiff::Timestamp::as_second)
}
