//! What is known of each content of a carry that is being put together. Carries have a million of them, and all are in memory at one
//! time: some 140 bytes for each, its name included.

use std::ops::Index;

use hashbrown::HashTable;

use crate::carry::{Error, table};
use crate::fs::Slice;

/// What a content is told by: its SHA-256.
pub(super) type Hash = [u8; 32];

/// Contents as they come.
#[derive(Default)]
pub(super) struct Known {
    /// The ids, by the hashes that the entries have.
    by_hash: HashTable<u32>,
    entries: Entries,
}

/// Contents by their ids, and their names.
#[derive(Default)]
pub(super) struct Entries {
    list: Vec<Entry>,
    /// All names, one after another, and what was left of some that gave way to others.
    names: Vec<u8>,
}

/// A content.
pub(super) struct Entry {
    pub(super) hash: Hash,
    pub(super) form: Form,
    /// Where its name is, and how long that is.
    name: (u32, u32),
}

/// How a content is carried, unless it is held.
#[derive(Clone)]
pub(super) enum Form {
    Stored(Slice),
    /// What was taken apart, and the file as it was: made again once for proof, it is not made again for each layer that has it.
    Gzip(Box<(Nested, Slice)>),
}

impl Form {
    /// The content's bytes.
    pub(super) fn as_it_was(&self) -> &Slice {
        match self {
            Form::Stored(slice) => slice,
            Form::Gzip(gzip) => &gzip.1,
        }
    }
}

/// A gzip file in a layer, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Nested {
    /// How it is made again ([`GzipRecipe`](crate::compression::encode::GzipRecipe)).
    pub(super) recipe: Vec<u8>,
    /// Bytes of the gzip file.
    pub(super) size: u64,
    /// Its plain bytes.
    pub(super) refs: Vec<u32>,
}

impl Known {
    /// The id of a content that is known, which may get another name.
    pub(super) fn find(&mut self, hash: &Hash, name: &[u8]) -> Result<Option<u32>, Error> {
        let Known { by_hash, entries } = self;
        let Some(id) = by_hash.find(key(hash), |id| entries[*id].hash == *hash) else { return Ok(None) };
        entries.offer_name(*id, name)?;
        Ok(Some(*id))
    }

    /// Adds a content, unless it has become known meanwhile; returns its id.
    pub(super) fn add(&mut self, hash: Hash, form: Form, name: &[u8]) -> Result<u32, Error> {
        if let Some(id) = self.find(&hash, name)? {
            return Ok(id);
        }
        let Known { by_hash, entries } = self;
        let id = entries.add(hash, form, name)?;
        by_hash.insert_unique(key(&hash), id, |id| key(&entries[*id].hash));
        Ok(id)
    }

    /// A content that is known.
    pub(super) fn get(&self, id: u32) -> &Entry {
        &self.entries[id]
    }

    /// Ends the collection.
    pub(super) fn finish(self) -> Result<Entries, Error> {
        let Known { by_hash, mut entries } = self;
        drop(by_hash);
        entries.name_nested()?;
        Ok(entries)
    }
}

impl Entries {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// All of them, each with its id.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Entry)> {
        (0..).zip(&self.list)
    }

    /// What a content is called: the first of the names that it has, which says what it is like.
    pub(super) fn name(&self, id: u32) -> &[u8] {
        let (start, length) = self[id].name;
        &self.names[start as usize..][..length as usize]
    }

    /// Adds a content and returns its id.
    fn add(&mut self, hash: Hash, form: Form, name: &[u8]) -> Result<u32, Error> {
        // Skeletons are contents, too, and come last.
        let id = match u32::try_from(self.list.len()) {
            Ok(id) if u64::from(id) < table::CONTENTS - SPARE => id,
            _ => return Err(Error::TooMany("contents")),
        };
        let name = self.keep(name)?;
        self.list.push(Entry { hash, form, name });
        Ok(id)
    }

    /// Names a content, if that name comes before the one that it has.
    fn offer_name(&mut self, id: u32, name: &[u8]) -> Result<(), Error> {
        let there = self.name(id);
        if name >= there {
            return Ok(());
        }
        let (start, length) = self[id].name;
        let name = match u32::try_from(name.len()) {
            Ok(fits) if fits <= length => {
                self.names[start as usize..][..name.len()].copy_from_slice(name);
                (start, fits)
            }
            _ => self.keep(name)?,
        };
        self.list[id as usize].name = name;
        Ok(())
    }

    /// Names what lies in gzip files after the first of their names, whichever of them was met first.
    fn name_nested(&mut self) -> Result<(), Error> {
        for id in 0..u32::try_from(self.len()).expect("ids are u32") {
            let Form::Gzip(gzip) = &self[id].form else { continue };
            let refs = gzip.0.refs.clone();
            let name = self.name(id).to_vec();
            for (number, content) in refs.iter().enumerate() {
                self.offer_name(*content, &name_inside(&name, (refs.len() > 1).then_some(number)))?;
            }
        }
        Ok(())
    }

    /// Keeps a name.
    fn keep(&mut self, name: &[u8]) -> Result<(u32, u32), Error> {
        let too_many = |_| Error::TooMany("bytes of names");
        let (start, length) = (u32::try_from(self.names.len()), u32::try_from(name.len()));
        let kept = (start.map_err(too_many)?, length.map_err(too_many)?);
        self.names.extend_from_slice(name);
        Ok(kept)
    }
}

impl Index<u32> for Entries {
    type Output = Entry;

    fn index(&self, id: u32) -> &Entry {
        &self.list[id as usize]
    }
}

/// The name of what is in a gzip file of that name: of a piece, where there are several.
pub(super) fn name_inside(path: &[u8], piece: Option<usize>) -> Vec<u8> {
    let name = path.strip_suffix(b".gz").unwrap_or(path);
    piece.map_or(name.to_vec(), |number| piece_name(name, number))
}

/// The name of a piece of something large.
pub(super) fn piece_name(path: &[u8], number: usize) -> Vec<u8> {
    [path, format!("\0{number:08}").as_bytes()].concat()
}

/// What a table finds a hash by: it is spread well enough as it is.
fn key(hash: &Hash) -> u64 {
    u64::from_le_bytes(*hash.first_chunk().expect("a hash has 32 bytes"))
}

/// Numbers that are kept for skeletons.
const SPARE: u64 = 1 << 16;
