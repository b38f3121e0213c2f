//! What a carry takes of layers whose contents are kept; all of it is compared before it is used.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};

use crate::carry::entries::Hash;
use crate::carry::kept::Sums;
use crate::carry::kept::database::{self, Unusable, is_there, pack_path, place_in};
use crate::carry::table::BaseLayer;
use crate::digest::{self, Algorithm, Digest};
use crate::fs::{self, Lock, Slice};
use crate::image::Layout;

/// Contents that are kept, for reading: nobody changes them meanwhile.
pub(in crate::carry) struct Kept {
    place: PathBuf,
    _lock: Lock,
    /// Whether something was not what it was.
    pub(in crate::carry) is_damaged: bool,
    connection: Connection,
    packs: HashMap<i64, Slice>,
}

/// What is taken of a layer.
pub(in crate::carry) struct OfLayer {
    /// The contents that were asked for, in order.
    pub(in crate::carry) contents: Vec<Slice>,
    /// The skeleton, with the layer's own numbers.
    pub(in crate::carry) skeleton: Slice,
}

impl Kept {
    /// Opens what is kept in a layout: nothing where there is none, or where it cannot be used, which is said.
    pub(in crate::carry) fn open(layout: &Layout) -> Option<Self> {
        let place = &place_in(layout);
        if !is_there(layout) {
            return None;
        }
        let opened = Lock::share_directory(place).map_err(Unusable::from);
        match opened.and_then(|lock| Ok((lock, database::to_read(place)?))) {
            Ok((lock, connection)) => Some(Kept {
                place: place.to_owned(),
                _lock: lock,
                is_damaged: false,
                connection,
                packs: HashMap::new(),
            }),
            Err(error) => {
                tracing::warn!("{}: cannot be used ({error}), so layers are read instead", place.display());
                None
            }
        }
    }

    /// What a carry takes of a layer; `None` where it is not kept, or not as it was.
    pub(in crate::carry) fn of(&mut self, base: &BaseLayer) -> Option<OfLayer> {
        match self.find(base) {
            Ok(found) => found,
            Err(error) => {
                let place = self.place.display();
                tracing::warn!("{place}: of {} cannot be used ({error}), so the layer is read instead", base.digest);
                self.is_damaged = true;
                None
            }
        }
    }

    fn find(&mut self, base: &BaseLayer) -> Result<Option<OfLayer>, Unusable> {
        let sql = "SELECT layer.id, layer.sum, content.hash, content.pack, content.offset, content.size
            FROM layer JOIN content ON content.id = layer.skeleton WHERE layer.digest = ?1";
        let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, Hash>(1)?, Laid::read(row, 2)?));
        let found = self.connection.query_row(sql, [base.digest.as_str()], read).optional()?;
        let Some((layer, sum, skeleton)) = found else { return Ok(None) };
        let mut wanted = Vec::new();
        let mut sums = Sums::new(&skeleton.hash);
        {
            let sql = "SELECT part.number, content.hash, content.pack, content.offset, content.size
                FROM part JOIN content ON content.id = part.content WHERE part.layer = ?1 ORDER BY part.number";
            let mut statement = self.connection.prepare(sql)?;
            let mut rows = statement.query([layer])?;
            let mut runs = base.contents.iter().peekable();
            while let Some(row) = rows.next()? {
                let (number, laid) = (row.get::<_, u32>(0)?, Laid::read(row, 1)?);
                sums.add(number, &laid.hash);
                while runs.next_if(|run| run.end <= number).is_some() {}
                if runs.peek().is_some_and(|run| run.contains(&number)) {
                    if wanted.len() as u64 == base.count() {
                        return Err(Unusable::Changed);
                    }
                    wanted.push(laid);
                }
            }
        }
        // A row that is wrong would make a content that is right pass for another one.
        if sums.finish() != sum || wanted.len() as u64 != base.count() {
            return Err(Unusable::Changed);
        }
        let contents = wanted.iter().map(|laid| self.read(laid)).collect::<Result<_, _>>()?;
        Ok(Some(OfLayer { contents, skeleton: self.read(&skeleton)? }))
    }

    /// The bytes of a content, which are what they were.
    fn read(&mut self, laid: &Laid) -> Result<Slice, Unusable> {
        let pack = match self.packs.entry(laid.pack) {
            Entry::Occupied(pack) => pack.into_mut(),
            Entry::Vacant(place) => {
                let path = pack_path(&self.place, laid.pack);
                let file = fs::open_regular(&path)?;
                let size = file.metadata()?.len();
                place.insert(Slice::of(Arc::new(file), 0, size))
            }
        };
        let end = laid.offset.checked_add(laid.size).filter(|end| *end <= pack.size());
        end.ok_or(Unusable::Changed)?;
        let slice = pack.part(laid.offset, laid.size);
        let (found, _) = Digest::of_reader(slice.reader(), Algorithm::Sha256)?;
        if found.hex() == digest::hex(&laid.hash) { Ok(slice) } else { Err(Unusable::Changed) }
    }
}

/// Where a content lies.
struct Laid {
    hash: Hash,
    pack: i64,
    /// Bytes.
    offset: u64,
    size: u64,
}

impl Laid {
    fn read(row: &rusqlite::Row<'_>, from: usize) -> rusqlite::Result<Self> {
        let hash = row.get(from)?;
        Ok(Laid { hash, pack: row.get(from + 1)?, offset: row.get(from + 2)?, size: row.get(from + 3)? })
    }
}
