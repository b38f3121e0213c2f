//! Keeping the contents of layers.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rayon::prelude::*;
use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest as _, Sha256};

use crate::carry::entries::Hash;
use crate::carry::kept::database::{self, CONTENTS, Unusable, number_of, pack_path, place_in};
use crate::carry::kept::sweep::Swept;
use crate::carry::kept::{KeptContents, Sums};
use crate::carry::{Error, numbering};
use crate::digest::Digest;
use crate::fs::{self, Lock, PathContext};
use crate::image::Layout;
use crate::image::store::layout::WORK;
use crate::progress::Task;
use crate::sqlite;

/// Keeps the contents of layers that are in a layout, and removes those of layers that are not in it any more.
///
/// Who else is at work there is waited for. All is kept or nothing; what is damaged, as a reader found or is found now, is begun
/// `anew`.
pub(in crate::carry) fn keep(
    layout: &Layout,
    layers: &[&Digest],
    anew: bool,
    task: &Task,
) -> Result<KeptContents, Error> {
    let place = &place_in(layout);
    fs::create_dir_beneath(layout.root(), &Path::new(WORK).join(CONTENTS))?;
    let _lock = Lock::wait_for_directory(place)?;
    if anew || has_lost_a_pack(place) {
        clear(place)?;
    }
    match add(place, layout, layers, task) {
        Err(Error::Kept { source, .. }) if sqlite::is_damaged(&source) => {
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
        let connection = database::to_read(place)?;
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
        if name.starts_with(database::NAME) || number_of(&path).is_some() {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn add(place: &Path, layout: &Layout, layers: &[&Digest], task: &Task) -> Result<KeptContents, Error> {
    let sqlite = |source| Error::Kept { place: place.to_owned(), source };
    let connection = database::begin(place)?;
    let swept = Swept::of(&connection, layout).map_err(sqlite)?;
    let pack: i64 = connection
        .query_row("INSERT INTO pack (bytes) VALUES (0) RETURNING id", [], |row| row.get(0))
        .map_err(sqlite)?;
    let path = pack_path(place, pack);
    let file = fs::create_new(&path)?;
    let adding = Mutex::new(Adding { connection, pack, path: path.clone(), file, end: 0 });
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
            known.push((met.number, content.map_err(|error| error.of(place))?, met.hash));
            Ok(())
        })?;
        let bytes = skeleton.to_bytes(|number| number);
        let hash: Hash = Sha256::digest(&bytes).into();
        let mut adding = adding.lock().expect("no holder panics");
        let content = adding.content(&hash, &bytes).map_err(|error| error.of(place))?;
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
    path: PathBuf,
    file: File,
    end: u64,
}

impl Adding {
    /// Whether a layer is not kept yet.
    fn begins(&self, layer: &Digest) -> rusqlite::Result<bool> {
        let sql = "INSERT INTO layer (digest) VALUES (?1) ON CONFLICT DO NOTHING";
        Ok(self.connection.prepare_cached(sql)?.execute([layer.as_str()])? > 0)
    }

    /// The row of a content, which is written unless it is there.
    fn content(&mut self, hash: &Hash, bytes: &[u8]) -> Result<i64, Unusable> {
        let mut known = self.connection.prepare_cached("SELECT id FROM content WHERE hash = ?1")?;
        if let Some(id) = known.query_row([hash], |row| row.get(0)).optional()? {
            return Ok(id);
        }
        self.file.write_all_at(bytes, self.end).at("write", &self.path)?;
        let (offset, size) = (self.end, bytes.len() as u64);
        self.end += size;
        let sql = "INSERT INTO content (hash, pack, offset, size) VALUES (?1, ?2, ?3, ?4)";
        Ok(self.connection.prepare_cached(sql)?.insert(params![hash, self.pack, offset, size])?)
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
