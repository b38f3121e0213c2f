//! All images with the keys that they have in a tree, read once and then shared by all who write them.

use std::collections::HashMap;
use std::path::Path;

use crate::catalog::entry::{Image, Repository};
use crate::catalog::store::query::image;
use crate::catalog::store::{DIGEST_PREFIX, Error, Snapshot, unpacked};

/// Every digest with the images that it names, in memory: some 300 bytes a digest.
pub struct Containers {
    /// By number, each with its first digest and without repositories.
    images: HashMap<i64, Image>,
    /// The key of an entry and which of `numbers` are its images. By key.
    keys: Vec<(String, std::ops::Range<usize>)>,
    numbers: Vec<i64>,
    /// Image, repository, tag; sorted.
    tags: Vec<(i64, i64, String)>,
    repositories: HashMap<i64, (String, String)>,
}

impl Containers {
    /// Reads them from a snapshot's file, over several connections at once.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let (named, tagged) = rayon::join(|| Self::digests(path), || Self::tags(path));
        let (keys, numbers, images) = named?;
        let (tags, repositories) = tagged?;
        Ok(Containers { images, keys, numbers, tags, repositories })
    }

    #[expect(clippy::type_complexity, reason = "three fields of one struct")]
    fn digests(path: &Path) -> Result<(Vec<(String, std::ops::Range<usize>)>, Vec<i64>, HashMap<i64, Image>), Error> {
        let snapshot = Snapshot::open(path)?;
        let mut images: HashMap<i64, Image> = HashMap::new();
        snapshot.each("SELECT id, architecture, created, updated, image FROM image", [], |row| {
            images.insert(row.get(4)?, image(row, 0)?);
            Ok(())
        })?;
        let mut keys: Vec<(String, std::ops::Range<usize>)> = Vec::new();
        let mut numbers: Vec<i64> = Vec::new();
        // In the order of the table, so that nobody sorts.
        snapshot.each("SELECT digest, image, main FROM digest ORDER BY digest, image", [], |row| {
            let (digest, number) = (unpacked(row.get_ref(0)?, DIGEST_PREFIX), row.get(1)?);
            if row.get(2)?
                && let Some(image) = images.get_mut(&number)
            {
                image.digests.push(digest.clone());
            }
            numbers.push(number);
            match keys.last_mut() {
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
        Ok((keys, numbers, images))
    }

    #[expect(clippy::type_complexity, reason = "two fields of one struct")]
    fn tags(path: &Path) -> Result<(Vec<(i64, i64, String)>, HashMap<i64, (String, String)>), Error> {
        let snapshot = Snapshot::open(path)?;
        let mut repositories = HashMap::new();
        snapshot.each("SELECT repository, registry, name FROM repository", [], |row| {
            repositories.insert(row.get(0)?, (row.get(1)?, row.get(2)?));
            Ok(())
        })?;
        // In the order of the table; sorting them here is faster than asking SQLite to.
        let mut tags: Vec<(i64, i64, String)> = Vec::new();
        snapshot.each("SELECT image, repository, tag FROM tag", [], |row| {
            tags.push((row.get(0)?, row.get(1)?, row.get(2)?));
            Ok(())
        })?;
        tags.sort_unstable();
        Ok((tags, repositories))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The entries of some of the keys, which come in order: the key and its image. Where several images share a digest, as
    /// those of a manifest list do, it is the first of them with the repositories of all. Images without any digest come last,
    /// each under `_id:` and its `_id` or number, so that their tags are not lost.
    pub fn entries(&self, range: std::ops::Range<usize>) -> impl Iterator<Item = (&str, &Image, Vec<Repository>)> {
        self.keys[range].iter().filter_map(|(key, numbers)| {
            let numbers = &self.numbers[numbers.clone()];
            let image = self.images.get(&numbers[0])?;
            Some((key.as_str(), image, self.repositories(numbers)))
        })
    }

    fn repositories(&self, numbers: &[i64]) -> Vec<Repository> {
        let of_one = |image: i64| {
            let start = self.tags.partition_point(|(of, ..)| *of < image);
            let end = start + self.tags[start..].partition_point(|(of, ..)| *of == image);
            self.tags[start..end].iter().map(|(_, repository, tag)| (*repository, tag.as_str()))
        };
        let mut tags: Vec<(i64, &str)> = numbers.iter().flat_map(|number| of_one(*number)).collect();
        if numbers.len() > 1 {
            tags.sort_unstable();
            tags.dedup();
        }
        let mut repositories: Vec<Repository> = tags
            .chunk_by(|one, other| one.0 == other.0)
            .filter_map(|tags| {
                let (registry, repository) = self.repositories.get(&tags[0].0)?.clone();
                Some(Repository { registry, repository, tags: tags.iter().map(|(_, tag)| (*tag).to_owned()).collect() })
            })
            .collect();
        repositories.sort();
        repositories
    }
}

/// What stands before the `_id` of an image without digests where a digest would stand.
pub(in crate::catalog) const NO_DIGEST: &str = "_id:";
