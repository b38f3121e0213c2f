//! Contents that stay where a carry was unpacked (`unpack --keep-contents`): a later carry that is built on them need not take
//! layers apart again.
//!
//! ```text
//! LAYOUT/.haversack/contents/contents.db   SQLite; see TABLES
//!                            1.pack …      contents one after another, each once whatever layers have it, and skeletons
//! ```
//!
//! Nothing needs it: it may be removed at any time, and where something in it is not what it was, the layer itself is read. What is kept of layers that have left the layout goes with the next
//! unpacking that keeps contents, or with `haversack gc`.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rayon::prelude::*;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use rustix::fs::FallocateFlags;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::carry::entries::Hash;
use crate::carry::table::BaseLayer;
use crate::carry::{Error, numbering};
use crate::digest::{self, Algorithm, Digest};
use crate::fs::{self, Lock, PathContext, Slice};
use crate::image::Layout;
use crate::image::store::layout::WORK;
use crate::limits;
use crate::progress::Task;

/// What was kept, or removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KeptContents {
    /// Layers.
    pub layers: u64,
    /// Bytes on the disk, uncompressed.
    pub bytes: u64,
}

/// Contents that are kept, for reading: nobody changes them meanwhile.
pub(super) struct Kept {
    place: PathBuf,
    _lock: Lock,
    /// Whether something was not what it was.
    pub(super) is_damaged: bool,
    connection: Connection,
    packs: HashMap<i64, Slice>,
}

/// What is taken of a layer.
pub(super) struct OfLayer {
    /// The contents that were asked for, in order.
    pub(super) contents: Vec<Slice>,
    /// The skeleton, with the layer's own numbers.
    pub(super) skeleton: Slice,
}

impl Kept {
    /// Opens what is kept in a layout: nothing where there is none, or where it cannot be used, which is said.
    pub(super) fn open(layout: &Layout) -> Option<Self> {
        let place = &place_in(layout);
        if !is_there(layout) {
            return None;
        }
        let opened = Lock::share_directory(place).map_err(Unusable::from);
        match opened.and_then(|lock| Ok((lock, connect(place, false)?))) {
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
    pub(super) fn of(&mut self, base: &BaseLayer) -> Option<OfLayer> {
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
            std::collections::hash_map::Entry::Occupied(pack) => pack.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
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

/// Why something that is kept is of no use.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("it is not what was written")]
    Changed,
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("{0}")]
    Path(#[from] fs::PathError),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Unusable {
    fn of(self, place: &Path) -> Error {
        match self {
            Unusable::Sqlite(source) => Error::Kept { place: place.to_owned(), source },
            Unusable::Path(error) => error.into(),
            Unusable::Io(error) => error.into(),
            Unusable::Changed => Error::Odd { what: NAME, why: "it was made by another version of haversack" },
        }
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

/// What a layer's contents are, in one hash: of its skeleton's and of each number with its content's.
struct Sums(Sha256);

impl Sums {
    fn new(skeleton: &Hash) -> Self {
        Sums(Sha256::new_with_prefix(skeleton))
    }

    fn add(&mut self, number: u32, hash: &Hash) {
        self.0.update(number.to_le_bytes());
        self.0.update(hash);
    }

    fn finish(self) -> Hash {
        self.0.finalize().into()
    }
}

/// Keeps the contents of layers that are in a layout, and removes those of layers that are not in it any more.
///
/// Who else is at work there is waited for. All is kept or nothing; what is damaged, as a reader found or is found now, is begun
/// `anew`.
pub(super) fn keep(layout: &Layout, layers: &[&Digest], anew: bool, task: &Task) -> Result<KeptContents, Error> {
    let place = &place_in(layout);
    fs::create_dir_beneath(layout.root(), &Path::new(WORK).join(CONTENTS))?;
    let _lock = Lock::wait_for_directory(place)?;
    if anew || has_lost_a_pack(place) {
        clear(place)?;
    }
    match add(place, layout, layers, task) {
        Err(Error::Kept { source, .. }) if is_damaged(&source) => {
            tracing::warn!("{}: cannot be used ({source}), so contents are kept anew", place.display());
            clear(place)?;
            add(place, layout, layers, task)
        }
        added => added,
    }
}

/// Whether a pack is not there, or shorter than it was.
fn has_lost_a_pack(place: &Path) -> bool {
    let lost = || -> Result<bool, Unusable> {
        let connection = connect(place, false)?;
        let mut packs = connection.prepare("SELECT id, bytes FROM pack")?;
        for pack in packs.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, u64>(1)?)))? {
            let (number, bytes) = pack?;
            if std::fs::symlink_metadata(pack_path(place, number)).map_or(true, |found| found.len() < bytes) {
                return Ok(true);
            }
        }
        Ok(false)
    };
    // Whatever else is wrong is found when it is written to.
    lost().unwrap_or(false)
}

/// Removes what is kept, and nothing else that may be there.
fn clear(place: &Path) -> Result<(), Error> {
    for path in fs::list(place)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(NAME) || number_of(&path).is_some() {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn add(place: &Path, layout: &Layout, layers: &[&Digest], task: &Task) -> Result<KeptContents, Error> {
    let sqlite = |source| Error::Kept { place: place.to_owned(), source };
    let connection = begin(place)?;
    let swept = Swept::of(&connection, layout).map_err(sqlite)?;
    let pack: i64 = connection
        .query_row("INSERT INTO pack (bytes) VALUES (0) RETURNING id", [], |row| row.get(0))
        .map_err(sqlite)?;
    let path = pack_path(place, pack);
    let adding = Mutex::new(Adding { connection, pack, file: fs::create_new(&path)?, end: 0 });
    let mut new = Vec::new();
    for layer in layers {
        if adding.lock().expect("no holder panics").begins(layer).map_err(sqlite)? {
            new.push(*layer);
        }
    }
    let one = |layer: &&Digest| -> Result<(), Error> {
        let mut known: Vec<(u32, i64, Hash)> = Vec::new();
        let skeleton = numbering::split(layout, layer, &mut |met| {
            let content = adding.lock().expect("no holder panics").content(&met.hash, met.bytes);
            known.push((met.number, content.map_err(|error| error.of(place, &path))?, met.hash));
            Ok(())
        })?;
        let bytes = skeleton.to_bytes(|number| number);
        let hash: Hash = Sha256::digest(&bytes).into();
        let mut adding = adding.lock().expect("no holder panics");
        let content = adding.content(&hash, &bytes).map_err(|error| error.of(place, &path))?;
        adding.finish_layer(layer, (content, &hash), &known).map_err(sqlite)?;
        task.add(1);
        Ok(())
    };
    let added = new.par_iter().map(one).collect::<Result<(), Error>>();
    let Adding { connection, file, end, .. } = adding.into_inner().expect("no holder panics");
    let done = added.and_then(|()| {
        // A row that is there after a loss of power must mean that the bytes are.
        file.sync_data().at("write", &path)?;
        fs::sync_dir(place)?;
        match end {
            0 => connection.execute("DELETE FROM pack WHERE id = ?1", [pack]),
            _ => connection.execute("UPDATE pack SET bytes = ?2 WHERE id = ?1", params![pack, end]),
        }
        .and_then(|_| connection.execute_batch("COMMIT"))
        .map_err(sqlite)
    });
    if let Err(error) = done {
        fs::remove_file(&path)?;
        return Err(error);
    }
    swept.give_back(place, &connection)?;
    Ok(KeptContents { layers: new.len() as u64, bytes: end })
}

/// What adds contents, one at a time.
struct Adding {
    connection: Connection,
    pack: i64,
    file: File,
    end: u64,
}

enum NotAdded {
    Sqlite(rusqlite::Error),
    Write(io::Error),
}

impl NotAdded {
    fn of(self, place: &Path, pack: &Path) -> Error {
        match self {
            NotAdded::Sqlite(source) => Error::Kept { place: place.to_owned(), source },
            NotAdded::Write(source) => fs::PathError { action: "write", path: pack.to_owned(), source }.into(),
        }
    }
}

impl Adding {
    /// Whether a layer is not kept yet.
    fn begins(&self, layer: &Digest) -> rusqlite::Result<bool> {
        let sql = "INSERT INTO layer (digest) VALUES (?1) ON CONFLICT DO NOTHING";
        Ok(self.connection.prepare_cached(sql)?.execute([layer.as_str()])? > 0)
    }

    /// The row of a content, which is written unless it is there.
    fn content(&mut self, hash: &Hash, bytes: &[u8]) -> Result<i64, NotAdded> {
        let known = self
            .connection
            .prepare_cached("SELECT id FROM content WHERE hash = ?1")
            .and_then(|mut it| it.query_row([hash], |row| row.get(0)).optional());
        if let Some(id) = known.map_err(NotAdded::Sqlite)? {
            return Ok(id);
        }
        self.file.write_all_at(bytes, self.end).map_err(NotAdded::Write)?;
        let (offset, size) = (self.end, bytes.len() as u64);
        self.end += size;
        let sql = "INSERT INTO content (hash, pack, offset, size) VALUES (?1, ?2, ?3, ?4)";
        let added =
            self.connection.prepare_cached(sql).and_then(|mut it| it.insert(params![hash, self.pack, offset, size]));
        added.map_err(NotAdded::Sqlite)
    }

    /// Writes down what a layer has.
    fn finish_layer(
        &self,
        layer: &Digest,
        (skeleton, hash): (i64, &Hash),
        contents: &[(u32, i64, Hash)],
    ) -> rusqlite::Result<()> {
        let mut sums = Sums::new(hash);
        contents.iter().for_each(|(number, _, hash)| sums.add(*number, hash));
        let sql = "UPDATE layer SET skeleton = ?2, sum = ?3 WHERE digest = ?1 RETURNING id";
        let row = params![layer.as_str(), skeleton, sums.finish()];
        let layer: i64 = self.connection.query_row(sql, row, |row| row.get(0))?;
        let mut part = self.connection.prepare_cached("INSERT INTO part VALUES (?1, ?2, ?3)")?;
        contents.iter().try_for_each(|(number, content, _)| part.execute(params![layer, number, content]).map(drop))
    }
}

/// Removes what is kept of layers that a layout does not have any more.
pub fn collect_contents(layout: &Layout) -> Result<KeptContents, Error> {
    let place = &place_in(layout);
    if !is_there(layout) {
        return Ok(KeptContents::default());
    }
    let _lock = Lock::wait_for_directory(place)?;
    let sqlite = |source| Error::Kept { place: place.to_owned(), source };
    let connection = begin(place)?;
    let swept = Swept::of(&connection, layout).map_err(sqlite)?;
    let bytes = limits::total(swept.holes.iter().map(|hole| hole.size));
    connection.execute_batch("COMMIT").map_err(sqlite)?;
    swept.give_back(place, &connection)?;
    Ok(KeptContents { layers: swept.layers, bytes })
}

/// What [`collect_contents`] would remove once the blobs `gone` have left the layout. Nothing is changed.
pub fn collectable_contents(layout: &Layout, gone: &[Digest]) -> Result<KeptContents, Error> {
    let place = &place_in(layout);
    if !is_there(layout) {
        return Ok(KeptContents::default());
    }
    let _lock = Lock::share_directory(place)?;
    let gone: HashSet<&str> = gone.iter().map(Digest::as_str).collect();
    let look = || -> Result<KeptContents, Unusable> {
        let connection = connect(place, false)?;
        connection.execute_batch("CREATE TEMP TABLE gone (id INTEGER PRIMARY KEY)")?;
        let layers = absent(&connection, layout, &gone)?;
        for id in &layers {
            connection.execute("INSERT INTO gone VALUES (?1)", [id])?;
        }
        let sql = "SELECT coalesce(sum(size), 0) FROM content
            WHERE id NOT IN (SELECT content FROM part WHERE layer NOT IN (SELECT id FROM gone))
                AND id NOT IN (SELECT skeleton FROM layer WHERE skeleton NOT NULL AND id NOT IN (SELECT id FROM gone))";
        let bytes = connection.query_row(sql, [], |row| row.get(0))?;
        Ok(KeptContents { layers: layers.len() as u64, bytes })
    };
    look().map_err(|error| error.of(place))
}

/// Layers that a layout does not have, or will not have.
fn absent(connection: &Connection, layout: &Layout, gone: &HashSet<&str>) -> rusqlite::Result<Vec<i64>> {
    let mut statement = connection.prepare("SELECT id, digest FROM layer")?;
    let layers: Vec<(i64, String)> =
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    let is_there =
        |digest: &str| !gone.contains(digest) && digest.parse().is_ok_and(|digest| layout.blob_path(&digest).exists());
    Ok(layers.into_iter().filter(|(_, digest)| !is_there(digest)).map(|(id, _)| id).collect())
}

/// What is left of layers that are gone, when their rows are.
struct Swept {
    layers: u64,
    holes: Vec<Hole>,
}

/// Bytes of a pack that nothing needs.
struct Hole {
    pack: i64,
    offset: u64,
    size: u64,
}

impl Swept {
    /// Takes the rows of what no layer in a layout has away.
    fn of(connection: &Connection, layout: &Layout) -> rusqlite::Result<Self> {
        let gone = absent(connection, layout, &HashSet::new())?;
        if gone.is_empty() {
            return Ok(Swept { layers: 0, holes: Vec::new() });
        }
        for id in &gone {
            connection.execute("DELETE FROM part WHERE layer = ?1", [id])?;
            connection.execute("DELETE FROM layer WHERE id = ?1", [id])?;
        }
        let mut holes: Vec<Hole> = Vec::new();
        let mut statement = connection.prepare(
            "DELETE FROM content WHERE id NOT IN (SELECT content FROM part) AND id NOT IN (SELECT skeleton FROM layer WHERE skeleton NOT NULL)
                RETURNING pack, offset, size",
        )?;
        for hole in
            statement.query_map([], |row| Ok(Hole { pack: row.get(0)?, offset: row.get(1)?, size: row.get(2)? }))?
        {
            holes.push(hole?);
        }
        connection.execute("DELETE FROM pack WHERE id NOT IN (SELECT pack FROM content)", [])?;
        holes.sort_by_key(|hole| (hole.pack, hole.offset));
        holes.dedup_by(|next, hole| {
            let goes_on = next.pack == hole.pack && next.offset == hole.offset + hole.size;
            hole.size += if goes_on { next.size } else { 0 };
            goes_on
        });
        Ok(Swept { layers: gone.len() as u64, holes })
    }

    /// Gives the room on the disk back: of packs that nothing needs, and of what nothing needs in others where the file system can.
    fn give_back(&self, place: &Path, connection: &Connection) -> Result<(), Error> {
        remove_strays(place, connection)?;
        let mut open: Option<(i64, Option<File>)> = None;
        for Hole { pack, offset, size } in self.holes.iter().filter(|hole| hole.size > 0) {
            let path = pack_path(place, *pack);
            if open.as_ref().is_none_or(|(number, _)| number != pack) {
                // One that is gone as a whole, or that somebody else sees by another name, gets no holes.
                open = Some((*pack, fs::open_to_change(&path).ok()));
            }
            if let Some((_, Some(file))) = &open {
                let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                match rustix::fs::fallocate(file, how, *offset, *size) {
                    Err(rustix::io::Errno::OPNOTSUPP) => return Ok(()),
                    done => done.map_err(io::Error::from).at("give room back of", &path)?,
                }
            }
        }
        Ok(())
    }
}

/// Removes packs that have no row, as of a run that was ended before it was done.
fn remove_strays(place: &Path, connection: &Connection) -> Result<(), Error> {
    for path in fs::list(place)? {
        let Some(number) = number_of(&path) else { continue };
        let known = connection.query_row("SELECT 1 FROM pack WHERE id = ?1", [number], |_| Ok(())).optional();
        if known.map_err(|source| Error::Kept { place: place.to_owned(), source })?.is_none() {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Opens the database for a change, which begins.
fn begin(place: &Path) -> Result<Connection, Error> {
    let opened = connect(place, true).and_then(|connection| {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        Ok(connection)
    });
    let connection = opened.map_err(|error| error.of(place))?;
    remove_strays(place, &connection)?;
    Ok(connection)
}

fn connect(place: &Path, is_new: bool) -> Result<Connection, Unusable> {
    let access = match is_new {
        true => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        false => OpenFlags::SQLITE_OPEN_READ_ONLY,
    };
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    // A link on the way to the layout is the user's.
    let connection = Connection::open_with_flags(place.canonicalize()?.join(NAME), flags)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.pragma_update(None, "trusted_schema", false)?;
    match connection.pragma_query_value(None, "user_version", |row| row.get::<_, i32>(0))? {
        0 if is_new => connection.execute_batch(TABLES)?,
        VERSION => {}
        _ => return Err(Unusable::Changed),
    }
    Ok(connection)
}

fn is_damaged(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
}

fn place_in(layout: &Layout) -> PathBuf {
    layout.root().join(WORK).join(CONTENTS)
}

/// Whether something is kept in a layout, and not elsewhere where a link leads.
fn is_there(layout: &Layout) -> bool {
    let work = layout.root().join(WORK);
    let is_directory = |path: &Path| std::fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
    is_directory(&work) && is_directory(&work.join(CONTENTS)) && work.join(CONTENTS).join(NAME).exists()
}

/// The number of a pack, by its name.
fn number_of(path: &Path) -> Option<i64> {
    path.file_name()?.to_str()?.strip_suffix(PACK)?.parse().ok()
}

fn pack_path(place: &Path, number: i64) -> PathBuf {
    place.join(format!("{number}{PACK}"))
}

const CONTENTS: &str = "contents";
const NAME: &str = "contents.db";
const PACK: &str = ".pack";
const VERSION: i32 = 1;

/// `hash` is SHA-256; numbers are those of [`numbering`]; `sum` is that of [`Sums`]. A skeleton is a content, too.
const TABLES: &str = "BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS pack (id INTEGER PRIMARY KEY AUTOINCREMENT, bytes INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS content (id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, pack INTEGER NOT NULL, offset INTEGER NOT NULL,
    size INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS layer (id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, skeleton INTEGER, sum BLOB);
CREATE TABLE IF NOT EXISTS part (layer INTEGER, number INTEGER, content INTEGER NOT NULL, PRIMARY KEY (layer, number)) WITHOUT ROWID;
PRAGMA user_version = 1;
COMMIT;";
