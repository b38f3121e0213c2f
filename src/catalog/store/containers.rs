//! All images with the keys that they have in a tree, read once and then shared by all who write them.
//!
//! There are a hundred thousand of each, so that what is asked for each counts: texts lie in a few long strings instead of
//! allocations of their own, images are numbered from 0, and nothing is looked up in a map.

use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;
use rusqlite::types::ValueRef;

use crate::catalog::entry::Instant;
use crate::catalog::store::{DIGEST_PREFIX, Error, Snapshot, unpacked_into};

/// Every digest with the images that it names, in memory: some 300 bytes a digest.
pub struct Containers {
    images: Images,
    /// Of each image, its first key.
    first: Vec<Option<usize>>,
    keys: Keys,
    /// Which images the rows of `keys` name; `None` for one that is not there.
    named: Vec<Option<usize>>,
    tags: Tags,
    /// Of each image, which of `tags` are its own.
    tags_of: Vec<Range<usize>>,
}

/// What containers.db says under one key.
pub struct Entry<'a> {
    /// The digest, or what stands for one.
    pub key: &'a str,
    /// The catalog's `_id`.
    pub id: &'a str,
    /// The platform.
    pub architecture: &'a str,
    /// When the image was made.
    pub created: Instant,
    /// The digest that the image is known by first; empty where it has none.
    pub digest: &'a str,
    /// Where it lies.
    pub repositories: Vec<Tagged<'a>>,
}

/// A repository with the tags that one key has in it.
pub struct Tagged<'a> {
    /// Host name.
    pub registry: &'a str,
    /// Name below it.
    pub repository: &'a str,
    /// Tags, sorted.
    pub tags: Vec<&'a str>,
}

/// Images, by number.
#[derive(Default)]
struct Images {
    numbers: Vec<i64>,
    created: Vec<Instant>,
    /// Whether `_id` is stored as bytes; texts sort before those.
    is_packed: Vec<bool>,
    ids: Texts,
    architectures: Texts,
}

/// Keys in order, and the image rows of each.
#[derive(Default)]
struct Keys {
    texts: Texts,
    /// Of each key, which of `rows`.
    rows_of: Vec<Range<usize>>,
    /// Number of an image, and whether the key is its first digest.
    rows: Vec<(i64, bool)>,
}

#[derive(Default)]
struct Tags {
    /// Registry and name, sorted.
    repositories: Vec<(String, String)>,
    /// Sorted by image, repository and text.
    tags: Vec<Tag>,
    texts: String,
}

#[derive(Clone, Copy)]
struct Tag {
    image: i64,
    /// Which of `repositories`.
    repository: usize,
    /// Where in `texts`: here, so that one look brings it.
    start: usize,
    end: usize,
}

impl Tags {
    fn text(&self, tag: &Tag) -> &str {
        &self.texts[tag.start..tag.end]
    }
}

/// Texts, one after another.
#[derive(Default)]
struct Texts {
    all: String,
    ends: Vec<usize>,
}

impl Texts {
    fn get(&self, number: usize) -> &str {
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.all[start..self.ends[number]]
    }

    fn push(&mut self, write: impl FnOnce(&mut String)) {
        write(&mut self.all);
        self.ends.push(self.all.len());
    }

    /// Whether the last text is the one that `write` gives; it is added where it is not.
    fn is_again(&mut self, write: impl FnOnce(&mut String)) -> bool {
        let before = self.ends.len();
        self.push(write);
        let is_again = before > 0 && self.get(before) == self.get(before - 1);
        if is_again {
            self.ends.pop();
            self.all.truncate(self.ends[before - 1]);
        }
        is_again
    }
}

impl Containers {
    /// Reads them from a snapshot's file, over several connections at once.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let (images, (keys, tags)) =
            rayon::join(|| Images::read(path), || rayon::join(|| Keys::read(path), || Tags::read(path)));
        let (images, mut keys, tags) = (images?, keys?, tags?);
        let mut named: Vec<Option<usize>> =
            keys.rows.par_iter().map(|(number, _)| images.numbers.binary_search(number).ok()).collect();
        for image in images.without(&named) {
            keys.push_without_digest(images.ids.get(image), images.numbers[image]);
            named.push(Some(image));
        }
        let mut first = vec![None; images.numbers.len()];
        for (key, rows) in keys.rows_of.iter().enumerate() {
            for row in rows.clone() {
                if let (Some(image), (_, true)) = (named[row], keys.rows[row])
                    && first[image].is_none()
                {
                    first[image] = Some(key);
                }
            }
        }
        let mut tags_of = vec![0..0; images.numbers.len()];
        let mut start = 0;
        for some in tags.tags.chunk_by(|one, other| one.image == other.image) {
            if let Ok(image) = images.numbers.binary_search(&some[0].image) {
                tags_of[image] = start..start + some.len();
            }
            start += some.len();
        }
        Ok(Containers { images, first, keys, named, tags, tags_of })
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.rows_of.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.rows_of.is_empty()
    }

    /// The entries of some of the keys, which come in order. Where several images share a digest, as those of a manifest list
    /// do, it is the first of them with the repositories of all. Images without any digest come last, each under `_id:` and
    /// its `_id` or number, so that their tags are not lost.
    pub fn entries(&self, range: Range<usize>) -> impl Iterator<Item = Entry<'_>> {
        range.filter_map(|key| {
            let named = &self.named[self.keys.rows_of[key].clone()];
            let image = named.first().copied().flatten()?;
            Some(Entry {
                key: self.keys.texts.get(key),
                id: self.images.ids.get(image),
                architecture: self.images.architectures.get(image),
                created: self.images.created[image],
                digest: self.first[image].map_or("", |key| self.keys.texts.get(key)),
                repositories: self.repositories(named),
            })
        })
    }

    fn repositories(&self, images: &[Option<usize>]) -> Vec<Tagged<'_>> {
        let tags = images.iter().flatten().flat_map(|image| &self.tags.tags[self.tags_of[*image].clone()]);
        let mut tags: Vec<(usize, &str)> = tags.map(|tag| (tag.repository, self.tags.text(tag))).collect();
        if images.len() > 1 {
            tags.sort_unstable();
            tags.dedup();
        }
        tags.chunk_by(|one, other| one.0 == other.0)
            .map(|some| {
                let (registry, repository) = &self.tags.repositories[some[0].0];
                Tagged { registry, repository, tags: some.iter().map(|(_, tag)| *tag).collect() }
            })
            .collect()
    }
}

impl Images {
    fn read(path: &Path) -> Result<Self, Error> {
        let mut images = Images::default();
        Snapshot::open(path)?.each("SELECT image, id, architecture, created FROM image ORDER BY image", [], |row| {
            images.numbers.push(row.get(0)?);
            let (id, architecture) = (row.get_ref(1)?, row.get_ref(2)?.as_str()?);
            images.is_packed.push(matches!(id, ValueRef::Blob(_)));
            images.ids.push(|text| unpacked_into(id, "", text));
            images.architectures.push(|text| text.push_str(architecture));
            images.created.push(Instant::from_micros(row.get(3)?));
            Ok(())
        })?;
        Ok(images)
    }

    /// Those that `named` leaves out, in the order of what is stored for their `_id`.
    fn without(&self, named: &[Option<usize>]) -> Vec<usize> {
        let mut is_named = vec![false; self.numbers.len()];
        for image in named.iter().flatten() {
            is_named[*image] = true;
        }
        let mut without: Vec<usize> = (0..is_named.len()).filter(|image| !is_named[*image]).collect();
        without.sort_unstable_by_key(|image| (self.is_packed[*image], self.ids.get(*image), self.numbers[*image]));
        without
    }
}

impl Keys {
    fn read(path: &Path) -> Result<Self, Error> {
        let snapshot = Snapshot::open(path)?;
        let mut keys = Keys::default();
        // In the order of the table, so that nobody sorts.
        snapshot.each("SELECT digest, image, main FROM digest ORDER BY digest, image", [], |row| {
            keys.push(row.get_ref(0)?, DIGEST_PREFIX, (row.get(1)?, row.get(2)?));
            Ok(())
        })?;
        Ok(keys)
    }

    fn push_without_digest(&mut self, id: &str, number: i64) {
        self.rows_of.push(self.rows.len()..self.rows.len() + 1);
        self.rows.push((number, false));
        self.texts.push(|text| {
            text.push_str(NO_DIGEST);
            match id {
                "" => text.push_str(&number.to_string()),
                id => text.push_str(id),
            }
        });
    }

    fn push(&mut self, digest: ValueRef<'_>, prefix: &'static str, row: (i64, bool)) {
        self.rows.push(row);
        let end = self.rows.len();
        if self.texts.is_again(|text| unpacked_into(digest, prefix, text)) {
            self.rows_of.last_mut().expect("it has a text").end = end;
        } else {
            self.rows_of.push(end - 1..end);
        }
    }
}

impl Tags {
    fn read(path: &Path) -> Result<Self, Error> {
        let snapshot = Snapshot::open(path)?;
        let mut all = Tags::default();
        let mut places: Vec<(i64, usize)> = Vec::new();
        snapshot.each("SELECT registry, name, repository FROM repository ORDER BY registry, name", [], |row| {
            places.push((row.get(2)?, all.repositories.len()));
            all.repositories.push((row.get(0)?, row.get(1)?));
            Ok(())
        })?;
        places.sort_unstable();
        // In the order of the table; sorting them here is faster than asking SQLite to.
        snapshot.each("SELECT image, repository, tag FROM tag", [], |row| {
            let number: i64 = row.get(1)?;
            if let Ok(place) = places.binary_search_by_key(&number, |(number, _)| *number) {
                let tag = row.get_ref(2)?.as_str()?;
                let (repository, start) = (places[place].1, all.texts.len());
                all.tags.push(Tag { image: row.get(0)?, repository, start, end: start + tag.len() });
                all.texts.push_str(tag);
            }
            Ok(())
        })?;
        let Tags { tags, texts, .. } = &mut all;
        tags.par_sort_unstable_by(|one, other| {
            let key = |tag: &Tag| (tag.image, tag.repository);
            key(one).cmp(&key(other)).then_with(|| texts[one.start..one.end].cmp(&texts[other.start..other.end]))
        });
        Ok(all)
    }
}

/// What stands before the `_id` of an image without digests where a digest would stand.
pub(in crate::catalog) const NO_DIGEST: &str = "_id:";
