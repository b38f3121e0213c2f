//! `contents.db`, and where it and its packs are.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use crate::carry::Error;
use crate::fs;
use crate::image::Layout;
use crate::image::store::layout::WORK;
use crate::limits;

/// Opens the database for a change, which begins.
pub(super) fn begin(place: &Path) -> Result<Connection, Error> {
    let begun = || -> Result<Connection, Unusable> {
        let (connection, version) = open(place, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        match version {
            0 => connection.execute_batch(TABLES)?,
            VERSION => {}
            _ => return Err(Unusable::Changed),
        }
        connection.execute_batch("BEGIN IMMEDIATE")?;
        Ok(connection)
    };
    let connection = begun().map_err(|error| error.of(place))?;
    remove_strays(place, &connection)?;
    Ok(connection)
}

/// Opens the database for nothing but reading.
pub(super) fn to_read(place: &Path) -> Result<Connection, Unusable> {
    match open(place, OpenFlags::SQLITE_OPEN_READ_ONLY)? {
        (connection, VERSION) => Ok(connection),
        _ => Err(Unusable::Changed),
    }
}

/// Opens the database, of whichever version it is.
fn open(place: &Path, access: OpenFlags) -> Result<(Connection, i32), Unusable> {
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    // A link on the way to the layout is the user's.
    let connection = Connection::open_with_flags(place.canonicalize()?.join(NAME), flags)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.pragma_update(None, "trusted_schema", false)?;
    let version = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok((connection, version))
}

/// Removes packs that have no row, as of a run that was ended before it was done.
pub(super) fn remove_strays(place: &Path, connection: &Connection) -> Result<(), Error> {
    for path in fs::list(place)? {
        let Some(number) = number_of(&path) else { continue };
        let known = connection.query_row("SELECT 1 FROM pack WHERE id = ?1", [number], |_| Ok(())).optional();
        if known.map_err(|source| Error::Kept { place: place.to_owned(), source })?.is_none() {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Why something that is kept is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
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
    pub(super) fn of(self, place: &Path) -> Error {
        match self {
            Unusable::Sqlite(source) => Error::Kept { place: place.to_owned(), source },
            Unusable::Path(error) => error.into(),
            Unusable::Io(error) => error.into(),
            Unusable::Changed => Error::Odd { what: NAME, why: "it was made by another version of haversack" },
        }
    }
}

pub(super) fn place_in(layout: &Layout) -> PathBuf {
    layout.root().join(WORK).join(CONTENTS)
}

/// Whether something is kept in a layout, and not elsewhere where a link leads.
pub(super) fn is_there(layout: &Layout) -> bool {
    let work = layout.root().join(WORK);
    let is_directory = |path: &Path| std::fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
    is_directory(&work) && is_directory(&work.join(CONTENTS)) && work.join(CONTENTS).join(NAME).exists()
}

/// Bytes that packs take on the disk.
pub(in crate::carry) fn room_taken(layout: &Layout) -> u64 {
    let Some(paths) = is_there(layout).then(|| fs::list(&place_in(layout)).ok()).flatten() else { return 0 };
    let packs = paths.iter().filter(|path| number_of(path).is_some());
    let blocks = packs.filter_map(|path| std::fs::symlink_metadata(path).ok()).map(|found| found.blocks());
    limits::total(blocks).saturating_mul(BLOCK)
}

/// The number of a pack, by its name.
pub(super) fn number_of(path: &Path) -> Option<i64> {
    path.file_name()?.to_str()?.strip_suffix(PACK)?.parse().ok()
}

pub(super) fn pack_path(place: &Path, number: i64) -> PathBuf {
    place.join(format!("{number}{PACK}"))
}

/// Bytes of the blocks in which stat(2) counts.
const BLOCK: u64 = 512;
pub(super) const CONTENTS: &str = "contents";
pub(super) const NAME: &str = "contents.db";
const PACK: &str = ".pack";
const VERSION: i32 = 1;

/// `hash` is SHA-256; numbers are those of [`numbering`](crate::carry::numbering); `sum` is that of [`Sums`](crate::carry::kept::Sums). A skeleton is a content, too.
const TABLES: &str = "BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS pack (id INTEGER PRIMARY KEY AUTOINCREMENT, bytes INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS content (id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, pack INTEGER NOT NULL, offset INTEGER NOT NULL,
    size INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS layer (id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, skeleton INTEGER, sum BLOB);
CREATE TABLE IF NOT EXISTS part (layer INTEGER, number INTEGER, content INTEGER NOT NULL, PRIMARY KEY (layer, number)) WITHOUT ROWID;
PRAGMA user_version = 1;
COMMIT;";
