//! Makes a [`View`] of what layouts hold.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use rayon::prelude::*;

use crate::digest::Digest;
use crate::image::Layout;
use crate::image::store::layout::{self, INDEX, digest_of, kind_of, ref_name};
use crate::image::store::referrers::{cosign_tags, fallback_tag, subject_of_tag};
use crate::limits;
use crate::plural;
use crate::serve::bad::{AGAIN, Bad};
use crate::serve::document::Document;
use crate::serve::names::{self, Name};
use crate::serve::stamp::Stamp;
use crate::serve::view::{Repository, View};

/// A layout that is served.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) layout: Layout,
    /// The repository of what has none in its name.
    pub(super) repository: String,
}

/// An entry of an `index.json`.
struct Entry {
    layout: usize,
    digest: Digest,
    media_type: String,
    name: Option<String>,
    place: Place,
}

enum Place {
    /// In a repository, under a tag where one is given.
    In { repository: names::Repository, tag: Option<String> },
    /// Where what it is about is, under a tag.
    Beside { subject: Digest, tag: String },
    /// Where what it is about is, or else in the repository of what has none.
    Unnamed,
}

/// Reads the layouts. Documents that an older view has are taken from there: a digest has one content.
pub(super) fn build(sources: &[Source], older: Option<&View>) -> Result<View, layout::Error> {
    let mut view = View::default();
    let mut entries = Vec::new();
    for (at, source) in sources.iter().enumerate() {
        // Before it is read: what comes meanwhile makes another view.
        view.stamps.push(Stamp::at(&source.layout.root().join(INDEX)));
        read_entries(at, source, &mut entries, &mut view.notes)?;
    }
    let layouts: Vec<&Layout> = sources.iter().map(|source| &source.layout).collect();
    view.documents = load(&layouts, &entries, older);
    let mut builder = Builder { view, ..Builder::default() };
    builder.place(&entries, sources);
    Ok(builder.finish())
}

fn read_entries(
    at: usize,
    source: &Source,
    entries: &mut Vec<Entry>,
    notes: &mut Vec<String>,
) -> Result<(), layout::Error> {
    let index = source.layout.index()?;
    let (mut without, mut unusable) = (0, Vec::new());
    // `cosign save` gives an image's name to its signatures.
    let mut saved: HashMap<Option<&str>, Digest> = HashMap::new();
    for listed in index.manifests().iter().filter(|it| matches!(kind_of(it), Some("image" | "imageIndex"))) {
        saved.insert(ref_name(listed), digest_of(listed)?);
    }
    for listed in index.manifests() {
        let (digest, name) = (digest_of(listed)?, ref_name(listed));
        let place = match (cosign_tag(listed, &saved), name.map(names::read)) {
            (Some((subject, tag)), _) => Place::Beside { subject, tag },
            (None, Some(Some(Name::Tag { repository, tag }))) => Place::In { repository, tag: Some(tag) },
            (None, Some(Some(Name::Digest { repository }))) => Place::In { repository, tag: None },
            (None, Some(Some(Name::Beside { subject, tag }))) => Place::Beside { subject, tag },
            (None, Some(Some(Name::TagOnly(tag)))) => {
                without += 1;
                Place::In { repository: names::Repository::plain(&source.repository), tag: Some(tag) }
            }
            (None, Some(None)) => {
                unusable.extend(name);
                Place::Unnamed
            }
            (None, None) => Place::Unnamed,
        };
        let media_type = listed.media_type().to_string();
        entries.push(Entry { layout: at, digest, media_type, name: name.map(str::to_owned), place });
    }
    let root = source.layout.root().display();
    if without > 0 {
        let repository = &source.repository;
        notes.push(format!(
            "{root}: {} without a repository, so served as tags of `{repository}` (--repository)",
            plural::count(without, "name")
        ));
    }
    if let [first, others @ ..] = &unusable[..] {
        let more =
            if others.is_empty() { String::new() } else { format!(" and {}", plural::count(others.len(), "other")) };
        notes.push(format!(
            "{root}: `{first}`{more} cannot be a repository and a tag; such images are served by digest from `{}`",
            source.repository
        ));
    }
    Ok(())
}

/// The image and the tag of an entry of `cosign save` that is no image.
fn cosign_tag(listed: &oci_spec::image::Descriptor, saved: &HashMap<Option<&str>, Digest>) -> Option<(Digest, String)> {
    let at = ["sigs", "atts", "sboms"].iter().position(|kind| kind_of(listed) == Some(kind))?;
    let subject = saved.get(&ref_name(listed))?;
    Some((subject.clone(), cosign_tags(subject)[at].clone()))
}

/// Reads the documents of the entries and of what they list, on all cores.
fn load(layouts: &[&Layout], entries: &[Entry], older: Option<&View>) -> HashMap<Digest, Result<Arc<Document>, Bad>> {
    let mut documents = HashMap::new();
    let mut wanted: BTreeMap<Digest, String> = BTreeMap::new();
    for entry in entries {
        wanted.entry(entry.digest.clone()).or_insert_with(|| entry.media_type.clone());
    }
    // Lists of lists are as deep as elsewhere, and one level more for what refers to them.
    for _ in 0..=limits::INDEX_LEVELS + 1 {
        let known = |digest: &Digest| older?.documents.get(digest)?.as_ref().ok().cloned();
        let read = |(digest, media_type): (Digest, String)| {
            let document = match known(&digest) {
                Some(document) => Ok(document),
                None => Document::load(layouts, &digest, &media_type).map(Arc::new),
            };
            (digest, document)
        };
        let loaded: Vec<_> = std::mem::take(&mut wanted).into_par_iter().map(read).collect();
        for (digest, document) in loaded {
            for part in document.iter().flat_map(|document| &document.manifests) {
                wanted.entry(part.digest.clone()).or_insert_with(|| part.media_type.clone());
            }
            documents.insert(digest, document);
        }
        wanted.retain(|digest, _| !documents.contains_key(digest));
        if wanted.is_empty() {
            break;
        }
    }
    for (digest, _) in wanted {
        documents.insert(digest, Err(Bad::lasting("lists of manifests are nested too deeply")));
    }
    documents
}

#[derive(Default)]
struct Builder {
    view: View,
    /// Entries without a name, by what they are about.
    about: HashMap<Digest, Vec<Digest>>,
    /// Entries with a tag that is about another manifest, by that.
    beside: HashMap<Digest, Vec<(String, Digest)>>,
    /// Those of both that have found their place.
    placed: HashSet<Digest>,
    /// Which layout gave a tag.
    given: HashMap<(String, String), usize>,
}

impl Builder {
    fn place(&mut self, entries: &[Entry], sources: &[Source]) {
        for entry in entries {
            match &entry.place {
                Place::In { .. } => {}
                Place::Beside { subject, tag } => {
                    self.beside.entry(subject.clone()).or_default().push((tag.clone(), entry.digest.clone()));
                }
                Place::Unnamed => {
                    if let Some(subject) = self.subject(&entry.digest) {
                        self.about.entry(subject).or_default().push(entry.digest.clone());
                    }
                }
            }
        }
        for entry in entries {
            if let Place::In { repository, tag } = &entry.place {
                self.add(repository, &entry.digest);
                if let Some(tag) = tag {
                    self.tag(&repository.key, tag, entry, sources);
                }
            }
        }
        for entry in entries.iter().filter(|entry| !self.is_placed(&entry.digest, &entry.place)).collect::<Vec<_>>() {
            let repository = names::Repository::plain(&sources[entry.layout].repository);
            self.add(&repository, &entry.digest);
            if let Place::Beside { tag, .. } = &entry.place {
                self.tag(&repository.key, tag, entry, sources);
            }
        }
    }

    fn is_placed(&self, digest: &Digest, place: &Place) -> bool {
        matches!(place, Place::In { .. }) || self.placed.contains(digest)
    }

    fn subject(&self, digest: &Digest) -> Option<Digest> {
        self.view.documents.get(digest)?.as_ref().ok()?.subject.clone()
    }

    /// Adds a manifest to a repository, with what it needs and what is about it.
    fn add(&mut self, named: &names::Repository, digest: &Digest) {
        let repository = self.view.repositories.entry(named.key.clone()).or_default();
        if repository.written.is_empty() {
            repository.written.clone_from(&named.written);
            for path in named.path.iter().flat_map(|path| names::short_paths(path)) {
                let keys = self.view.short.entry(path.to_owned()).or_default();
                keys.extend((!keys.contains(&named.key)).then(|| named.key.clone()));
            }
        }
        let mut waiting = vec![digest.clone()];
        while let Some(digest) = waiting.pop() {
            if !repository.manifests.insert(digest.clone()) {
                continue;
            }
            for about in self.about.get(&digest).into_iter().flatten() {
                self.placed.insert(about.clone());
                waiting.push(about.clone());
            }
            for (tag, beside) in self.beside.get(&digest).into_iter().flatten() {
                self.placed.insert(beside.clone());
                repository.tags.entry(tag.clone()).or_insert_with(|| beside.clone());
                waiting.push(beside.clone());
            }
            let Some(Ok(document)) = self.view.documents.get(&digest) else { continue };
            repository.blobs.extend(document.blobs.iter().map(|part| part.digest.clone()));
            waiting.extend(document.manifests.iter().map(|part| part.digest.clone()));
            if let Some(subject) = &document.subject {
                repository.referrers.entry(subject.clone()).or_default().push(digest);
            }
        }
    }

    fn tag(&mut self, key: &str, tag: &str, entry: &Entry, sources: &[Source]) {
        let repository = self.view.repositories.get_mut(key).expect("the manifest was added before");
        let given = self.given.entry((key.to_owned(), tag.to_owned())).or_insert(entry.layout);
        let there = repository.tags.entry(tag.to_owned()).or_insert_with(|| entry.digest.clone());
        if *there == entry.digest {
            return;
        }
        let name = entry.name.as_deref().unwrap_or(tag);
        if *given == entry.layout {
            let digests = repository.conflicts.entry(tag.to_owned()).or_default();
            digests.extend([there.clone(), entry.digest.clone()]);
            let root = sources[entry.layout].layout.root().display();
            self.view.notes.push(format!("{root}: `{name}` names several images; they are served by digest only"));
        } else {
            let root = |at: usize| sources[at].layout.root().display();
            let (first, second) = (root(*given), root(entry.layout));
            self.view.notes.push(format!("`{name}` is another image in {second} than in {first}, which is served"));
        }
    }

    /// Adds what fallback tags list, and tells of what cannot be read.
    fn finish(mut self) -> View {
        for repository in self.view.repositories.values_mut() {
            let Repository { tags, conflicts, referrers, .. } = repository;
            tags.retain(|tag, _| !conflicts.contains_key(tag));
            for (tag, digest) in tags.iter() {
                let Some(subject) = subject_of_tag(tag).filter(|subject| fallback_tag(subject) == *tag) else {
                    continue;
                };
                let Some(Ok(list)) = self.view.documents.get(digest) else { continue };
                let there = referrers.entry(subject).or_default();
                for part in &list.manifests {
                    let is_readable = matches!(self.view.documents.get(&part.digest), Some(Ok(_)));
                    if is_readable && !there.contains(&part.digest) {
                        there.push(part.digest.clone());
                    }
                }
            }
        }
        let bad =
            || self.view.documents.iter().filter_map(|(digest, document)| Some((digest, document.as_ref().err()?)));
        let again = bad().any(|(_, bad)| bad.passes).then(|| Instant::now() + AGAIN);
        let mut bad: Vec<String> = bad().map(|(digest, why)| format!("{digest}: {why}; it is not served")).collect();
        self.view.again = again;
        bad.sort();
        let more = bad.len().saturating_sub(NOTES);
        self.view.notes.extend(bad.into_iter().take(NOTES));
        if more > 0 {
            self.view
                .notes
                .push(format!("missing or damaged: {}; see `haversack verify`", plural::count(more, "other manifest")));
        }
        self.view
    }
}

/// How many single manifests are told of.
const NOTES: usize = 10;
