//! What is kept of layers that have left a layout goes, and the room that it took.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::Path;

use rusqlite::Connection;
use rustix::fs::FallocateFlags;

use crate::carry::Error;
use crate::carry::kept::KeptContents;
use crate::carry::kept::database::{self, Unusable, is_there, pack_path, place_in};
use crate::digest::Digest;
use crate::fs::{self, Lock, PathContext};
use crate::image::Layout;
use crate::limits;

/// Removes what is kept of layers that a layout does not have any more.
pub fn collect_contents(layout: &Layout) -> Result<KeptContents, Error> {
    let place = &place_in(layout);
    if !is_there(layout) {
        return Ok(KeptContents::default());
    }
    let _lock = Lock::wait_for_directory(place)?;
    let sqlite = |source| Error::Kept { place: place.to_owned(), source };
    let connection = database::begin(place)?;
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
        let connection = database::to_read(place)?;
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
pub(super) struct Swept {
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
    pub(super) fn of(connection: &Connection, layout: &Layout) -> rusqlite::Result<Self> {
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
            "DELETE FROM content WHERE id NOT IN (SELECT content FROM part)
                AND id NOT IN (SELECT skeleton FROM layer WHERE skeleton NOT NULL) RETURNING pack, offset, size",
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
    pub(super) fn give_back(&self, place: &Path, connection: &Connection) -> Result<(), Error> {
        database::remove_strays(place, connection)?;
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
