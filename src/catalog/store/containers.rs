//! All images with the keys that they have in a tree, read once and then shared by all who write them.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;

use crate::catalog::entry::Image;
use crate::catalog::store::query::image;
use crate::catalog::store::{DIGEST_PREFIX, Error, Snapshot, unpacked};

/// Every digest with the images that it names, in memory: some 300 bytes a digest.
pub struct Containers {
    names: Names,
    tags: Tags,
}

/// What keys name which images.
#[derive(Default)]
struct Names {
    /// By number, each with its first digest and without repositories.
    images: HashMap<i64, Image>,
    /// The key of an entry and which of `numbers` are its images. In order.
    keys: Vec<(String, Range<usize>)>,
    numbers: Vec<i64>,
}

/// What tags images have.
#[derive(Default)]
struct Tags {
    /// Registry and name, sorted.
    repositories: Vec<(String, String)>,
    /// Sorted by image, repository and text.
    tags: Vec<Tag>,
    /// The texts of all tags, one after another: a hundred thousand small allocations would take longer than all else.
    texts: String,
}

#[derive(Clone, Copy)]
struct Tag {
    image: i64,
    /// Which of `repositories`.
    repository: usize,
    /// Where in `texts`.
    start: usize,
    end: usize,
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

impl Containers {
    /// Reads them from a snapshot's file, over two connections at once.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let (names, tags) = rayon::join(|| Names::read(path), || Tags::read(path));
        Ok(Containers { names: names?, tags: tags? })
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.names.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.names.keys.is_empty()
    }

    /// The entries of some of the keys, which come in order: the key, its image, and the repositories. Where several images
    /// share a digest, as those of a manifest list do, it is the first of them with the repositories of all. Images without any
    /// digest come last, each under `_id:` and its `_id` or number, so that their tags are not lost.
    pub fn entries(&self, range: Range<usize>) -> impl Iterator<Item = (&str, &Image, Vec<Tagged<'_>>)> {
        self.names.keys[range].iter().filter_map(|(key, numbers)| {
            let numbers = &self.names.numbers[numbers.clone()];
            let image = self.names.images.get(&numbers[0])?;
            Some((key.as_str(), image, self.tags.of(numbers)))
        })
    }
}

impl Names {
    fn read(path: &Path) -> Result<Self, Error> {
        let snapshot = Snapshot::open(path)?;
        let Names { mut images, mut keys, mut numbers } = Names::default();
        snapshot.each("SELECT id, architecture, created, updated, image FROM image", [], |row| {
            images.insert(row.get(4)?, image(row, 0)?);
            Ok(())
        })?;
        // In the order of the table, so that nobody sorts.
        snapshot.each("SELECT digest, image, main FROM digest ORDER BY digest, image", [], |row| {
            let (digest, number) = (unpacked(row.get_ref(0)?, DIGEST_PREFIX), row.get(1)?);
            if row.get(2)?
                && let Some(image) = images.get_mut(&number)
            {
                image.digests.push(digest.clone());
            }
            numbers.push(number);
            let last = keys.last_mut();
            match last {
                Some((key, range)) if *key == digest => range.end = numbers.len(),
                _ => keys.push((digest, numbers.len() - 1..numbers.len())),
            }
            Ok(())
        })?;
        snapshot.each(
            "SELECT id, image FROM image WHERE image NOT IN (SELECT image FROM digest) ORDER BY id, image",
            [],
            |row| {
                let (id, number): (_, i64) = (unpacked(row.get_ref(0)?, ""), row.get(1)?);
                let unique = if id.is_empty() { number.to_string() } else { id };
                numbers.push(number);
                keys.push((format!("{NO_DIGEST}{unique}"), numbers.len() - 1..numbers.len()));
                Ok(())
            },
        )?;
        Ok(Names { images, keys, numbers })
    }
}

impl Tags {
    fn read(path: &Path) -> Result<Self, Error> {
        let snapshot = Snapshot::open(path)?;
        let mut all = Tags::default();
        let mut places: HashMap<i64, usize> = HashMap::new();
        snapshot.each("SELECT registry, name, repository FROM repository ORDER BY registry, name", [], |row| {
            places.insert(row.get(2)?, all.repositories.len());
            all.repositories.push((row.get(0)?, row.get(1)?));
            Ok(())
        })?;
        // In the order of the table; sorting them here is faster than asking SQLite to.
        snapshot.each("SELECT image, repository, tag FROM tag", [], |row| {
            if let Some(repository) = places.get(&row.get(1)?) {
                let start = all.texts.len();
                all.texts.push_str(row.get_ref(2)?.as_str()?);
                all.tags.push(Tag { image: row.get(0)?, repository: *repository, start, end: all.texts.len() });
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

    fn of(&self, images: &[i64]) -> Vec<Tagged<'_>> {
        let of_one = |image: i64| {
            let start = self.tags.partition_point(|tag| tag.image < image);
            let end = start + self.tags[start..].partition_point(|tag| tag.image == image);
            self.tags[start..end].iter().map(|tag| (tag.repository, &self.texts[tag.start..tag.end]))
        };
        let mut tags: Vec<(usize, &str)> = images.iter().flat_map(|image| of_one(*image)).collect();
        if images.len() > 1 {
            tags.sort_unstable();
            tags.dedup();
        }
        tags.chunk_by(|one, other| one.0 == other.0)
            .map(|some| {
                let (registry, repository) = &self.repositories[some[0].0];
                Tagged { registry, repository, tags: some.iter().map(|(_, tag)| *tag).collect() }
            })
            .collect()
    }
}

/// What stands before the `_id` of an image without digests where a digest would stand.
pub(in crate::catalog) const NO_DIGEST: &str = "_id:";
