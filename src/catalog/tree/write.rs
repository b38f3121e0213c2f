//! Writes the tree from a snapshot.

use std::io::{BufRead, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::catalog::chart_index;
use crate::catalog::entry::{COMMUNITY, Kind};
use crate::catalog::store::{Containers, Entry, Snapshot, Tagged};
use crate::catalog::tree::{DumpOptions, DumpReport, Error};
use crate::digest::Digest;
use crate::fs::{self, AtomicDir, AtomicFile, PathContext, PathError};

/// Writes the tree below `directory`, in place of the one that is there, which stays until the new one is whole.
///
/// `directory` is created when only its last part is missing. What else lies in it is left alone.
pub fn dump(snapshot: &Snapshot, directory: &Path, options: &DumpOptions) -> Result<DumpReport, Error> {
    if directory.exists() && !directory.is_dir() {
        return Err(Error::NotADirectory { path: directory.to_owned() });
    }
    if !directory.exists() {
        if !fs::parent(directory).is_dir() {
            return Err(Error::NoDirectory { path: directory.to_owned() });
        }
        std::fs::create_dir(directory).at("create", directory)?;
    }
    let db = directory.join("catalog.db");
    if db.is_dir() {
        let source = std::io::ErrorKind::IsADirectory.into();
        return Err(PathError { action: "replace", path: db, source }.into());
    }
    let data = AtomicDir::create(&directory.join("data"))?;
    let mut report = match &options.ready {
        Some(ready) if !options.without_community => copy_data(ready, data.path())?,
        _ => write_data(snapshot, data.path(), options)?,
    };
    report.directory = directory.to_owned();
    let held = snapshot.info()?.kinds;
    report.missing = Kind::ALL.into_iter().filter(|kind| !held.contains_key(kind)).collect();
    // Dumping beside the snapshot itself must not touch it.
    let itself = db.canonicalize().is_ok_and(|db| snapshot.path().canonicalize().is_ok_and(|path| path == db));
    if itself {
        data.finish()?;
        return Ok(report);
    }
    if options.without_db {
        data.finish()?;
        // What an earlier dump left would be of another snapshot than the tree. Only a snapshot is removed.
        if Snapshot::open(&db).is_ok() {
            fs::remove_file(&db)?;
        }
        return Ok(report);
    }
    // Both are whole before either takes its place.
    fs::remove_abandoned(&db);
    let mut copy = AtomicFile::create(&db)?;
    std::io::copy(&mut fs::open(snapshot.path())?, &mut copy).at("write", &db)?;
    data.finish()?;
    copy.finish()?;
    Ok(report)
}

/// Writes what belongs below `data/` into an existing, empty directory, and reads it back.
pub fn write_data(snapshot: &Snapshot, data: &Path, options: &DumpOptions) -> Result<DumpReport, Error> {
    for kind in ["containers", "helm", "operators"] {
        fs::create_dir_all(&data.join(kind))?;
    }
    let mut charts = snapshot.charts()?;
    charts.retain(|chart| !options.without_community || chart.provider_type != COMMUNITY);
    let taken = snapshot.info()?.taken;
    // Images are most of the tree; the rest is written beside them, each over a connection of its own.
    let path = snapshot.path();
    let (containers, operators) = rayon::join(
        || -> Result<u64, Error> {
            let (keys, written) = write_containers(path, data)?;
            // The disk is at work while what was written is read back from memory.
            let file = data.join(&written.name);
            let (synced, verified) =
                rayon::join(|| fs::open_file(&file)?.sync_data().at("sync", &file), || written.verify(data));
            synced?;
            verified?;
            Ok(keys)
        },
        || -> Result<u64, Error> {
            let (rows, mut written) = write_operators(&Snapshot::open(path)?, data)?;
            let mut helm = File::create(data, "helm/helm.db")?;
            helm.write(|out| chart_index::write(&charts, taken, out))?;
            written.push(helm.finish()?);
            written.iter().try_for_each(|file| file.verify(data))?;
            Ok(rows)
        },
    );
    let (containers, operators, charts) = (containers?, operators?, charts.len() as u64);
    let mut archive = File::create(data, "archive.json")?;
    archive
        .write(|out| write!(out, "{{\"containers\":{containers},\"operators\":{operators},\"charts\":{charts}}}"))?;
    archive.finish()?.verify(data)?;
    Ok(DumpReport { directory: data.to_owned(), containers, operators, charts, missing: Vec::new() })
}

/// Copies a tree that is there already, and compares the copy.
fn copy_data(ready: &Path, data: &Path) -> Result<DumpReport, Error> {
    for entry in walkdir::WalkDir::new(ready).min_depth(1).sort_by_file_name() {
        let entry = entry.map_err(std::io::Error::from).at("list", ready)?;
        let name = entry.path().strip_prefix(ready).expect("what is found lies below the root");
        let to = data.join(name);
        if entry.file_type().is_dir() {
            fs::create_dir_all(&to)?;
            continue;
        }
        fs::copy(entry.path(), &to)?;
        let (mut copied, mut original) = (fs::open(&to)?, fs::open(entry.path())?);
        if !same(&mut copied, &mut original).at("read", &to)? {
            return Err(Error::Copy { path: to, original: entry.into_path() });
        }
    }
    #[derive(Deserialize)]
    struct Counts {
        containers: u64,
        operators: u64,
        charts: u64,
    }
    let archive = data.join("archive.json");
    let text = fs::read(&archive, 1 << 10)?;
    let Counts { containers, operators, charts } =
        serde_json::from_slice(&text).map_err(std::io::Error::from).at("read", &archive)?;
    Ok(DumpReport { directory: data.to_owned(), containers, operators, charts, missing: Vec::new() })
}

/// Whether two readers give the same bytes.
fn same(one: &mut impl BufRead, other: &mut impl BufRead) -> std::io::Result<bool> {
    loop {
        let (left, right) = (one.fill_buf()?, other.fill_buf()?);
        let length = left.len().min(right.len());
        if length == 0 {
            return Ok(left.len() == right.len());
        }
        if left[..length] != right[..length] {
            return Ok(false);
        }
        one.consume(length);
        other.consume(length);
    }
}

/// A file of the tree that is being written, in pieces of which each is hashed by itself.
struct File {
    file: std::fs::File,
    path: PathBuf,
    name: String,
    /// What the next piece begins with.
    begun: Vec<u8>,
    pieces: Vec<Sum>,
}

/// A file of the tree that was written.
struct Written {
    /// Below `data/`.
    name: String,
    /// Its pieces, one after another.
    pieces: Vec<Sum>,
}

/// What a piece of a file was meant to be.
struct Sum {
    /// Bytes.
    length: usize,
    digest: Digest,
}

impl Sum {
    fn of(piece: &[u8]) -> Self {
        Sum { length: piece.len(), digest: Digest::sha256(piece) }
    }
}

impl Written {
    /// Reads the file back, on all cores, and compares it with what was meant to be written, before the tree takes the old
    /// one's place.
    fn verify(&self, data: &Path) -> Result<(), Error> {
        let path = data.join(&self.name);
        let file = fs::open_file(&path)?;
        let length: usize = self.pieces.iter().map(|piece| piece.length).sum();
        let found = file.metadata().at("read", &path)?.len();
        if found != length as u64 {
            return Err(Error::Length { path, expected: length as u64, found });
        }
        let mut end = 0;
        let starts: Vec<u64> = self
            .pieces
            .iter()
            .map(|piece| {
                end += piece.length as u64;
                end - piece.length as u64
            })
            .collect();
        self.pieces.par_iter().zip(starts).try_for_each_init(Vec::new, |bytes, (piece, start)| {
            bytes.resize(piece.length, 0);
            file.read_exact_at(bytes, start).at("read", &path)?;
            let found = Digest::sha256(&bytes);
            if found != piece.digest {
                return Err(Error::Verify { path: path.clone(), expected: piece.digest.clone(), found });
            }
            Ok(())
        })
    }
}

impl File {
    fn create(data: &Path, name: &str) -> Result<Self, PathError> {
        let path = data.join(name);
        let file = fs::create_new(&path)?;
        Ok(File { file, path, name: name.to_owned(), begun: Vec::new(), pieces: Vec::new() })
    }

    fn write(&mut self, write: impl FnOnce(&mut Self) -> std::io::Result<()>) -> Result<(), PathError> {
        let written = write(self);
        written.at("write", &self.path)
    }

    /// Writes a piece that somebody else has hashed.
    fn append(&mut self, piece: &[u8], sum: Sum) -> std::io::Result<()> {
        self.flush()?;
        self.file.write_all(piece)?;
        self.pieces.push(sum);
        Ok(())
    }

    fn finish(mut self) -> Result<Written, PathError> {
        self.write(File::flush)?;
        Ok(Written { name: self.name, pieces: self.pieces })
    }
}

impl Write for File {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.begun.extend_from_slice(buf);
        if self.begun.len() >= PIECE {
            self.flush()?;
        }
        Ok(buf.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if !self.begun.is_empty() {
            self.file.write_all(&self.begun)?;
            self.pieces.push(Sum::of(&self.begun));
            self.begun.clear();
        }
        Ok(())
    }
}

/// Writes containers.db. Entries become text on all cores, a few thousand at a time, and are written in order.
fn write_containers(snapshot: &Path, data: &Path) -> Result<(u64, Written), Error> {
    let containers = Containers::read(snapshot)?;
    let mut file = File::create(data, "containers/containers.db")?;
    file.write(|out| out.write_all(b"{"))?;
    let starts: Vec<usize> = (0..containers.len()).step_by(ENTRIES_A_PIECE).collect();
    let mut ready: Vec<(Vec<u8>, Sum)> = Vec::new();
    for some in starts.chunks(PIECES_AT_ONCE) {
        // What is ready is written while the next becomes text.
        let (next, written) = rayon::join(
            || some.par_iter().map(|start| piece(&containers, *start)).collect::<std::io::Result<Vec<_>>>(),
            || file.write(|out| ready.drain(..).try_for_each(|(piece, sum)| out.append(&piece, sum))),
        );
        written?;
        ready = next.at("write", &file.path)?;
    }
    file.write(|out| {
        ready.drain(..).try_for_each(|(piece, sum)| out.append(&piece, sum))?;
        out.write_all(b"\n}\n")
    })?;
    Ok((containers.len() as u64, file.finish()?))
}

/// Some entries, as they stand in containers.db, hashed while they are at hand.
fn piece(containers: &Containers, start: usize) -> std::io::Result<(Vec<u8>, Sum)> {
    let mut text = Vec::with_capacity(ENTRIES_A_PIECE << 9);
    let end = containers.len().min(start + ENTRIES_A_PIECE);
    for (number, entry) in containers.entries(start..end).enumerate() {
        text.extend_from_slice(if start + number == 0 { b"\n" } else { b",\n" });
        write_entry(&entry, &mut text)?;
    }
    let sum = Sum::of(&text);
    Ok((text, sum))
}

/// The line of one key: an image with its fields in Go's order. Written by hand, since most of the tree is such lines.
fn write_entry(entry: &Entry<'_>, text: &mut Vec<u8>) -> std::io::Result<()> {
    let Entry { key, id, architecture, created, digest, repositories } = entry;
    write_string(key, text)?;
    text.extend_from_slice(b":{\"_id\":");
    write_string(id, text)?;
    text.extend_from_slice(b",\"creation_date\":\"");
    if created.is_known() {
        write!(text, "{created}")?;
    }
    text.extend_from_slice(b"\",\"architecture\":");
    write_string(architecture, text)?;
    text.extend_from_slice(b",\"certified\":true,\"image_id\":");
    write_string(digest, text)?;
    text.extend_from_slice(b",\"repositories\":[");
    for (number, Tagged { registry, repository, tags }) in repositories.iter().enumerate() {
        text.extend_from_slice(if number == 0 { b"{\"registry\":" } else { b",{\"registry\":" });
        write_string(registry, text)?;
        text.extend_from_slice(b",\"repository\":");
        write_string(repository, text)?;
        text.extend_from_slice(b",\"tags\":[");
        for (number, tag) in tags.iter().enumerate() {
            text.extend_from_slice(if number == 0 { b"{\"name\":" } else { b",{\"name\":" });
            write_string(tag, text)?;
            text.push(b'}');
        }
        text.extend_from_slice(b"]}");
    }
    text.extend_from_slice(b"]}");
    Ok(())
}

/// A JSON string. Hardly any text has something to escape.
fn write_string(string: &str, text: &mut Vec<u8>) -> std::io::Result<()> {
    // To the end in any case, which is many bytes at a time.
    let has_odd = |odd, byte: &u8| odd | (*byte < b' ') | (*byte == b'"') | (*byte == b'\\');
    if string.as_bytes().iter().fold(false, has_odd) {
        return Ok(serde_json::to_writer(text, string)?);
    }
    text.push(b'"');
    text.extend_from_slice(string.as_bytes());
    text.push(b'"');
    Ok(())
}

fn write_operators(snapshot: &Snapshot, data: &Path) -> Result<(u64, Vec<Written>), Error> {
    #[derive(Serialize)]
    struct BundleOut<'a> {
        channel_name: &'a str,
        csv_name: &'a str,
        ocp_version: &'a str,
    }
    let end = |mut page: File| -> Result<Written, PathError> {
        page.write(|out| out.write_all(b"\n]}\n"))?;
        page.finish()
    };
    let mut rows = 0;
    let mut page: Option<File> = None;
    let mut written = Vec::new();
    snapshot.each_operator(|csv_name, ocp_version, channel| {
        // The reader drops names without a dot, and finds them when one stands at the end.
        let dotted = if csv_name.contains('.') { csv_name.to_owned() } else { format!("{csv_name}.") };
        let row = BundleOut { channel_name: channel, csv_name: &dotted, ocp_version };
        let mut line = Vec::from(&b",\n"[..]);
        if rows % OPERATORS_A_PAGE == 0 {
            written.extend(page.take().map(end).transpose()?);
            let number = rows / OPERATORS_A_PAGE;
            let name = format!("operators/operator_catalog_page_{number}_{OPERATORS_A_PAGE}.db");
            page = Some(File::create(data, &name)?);
            line = Vec::from(&b"{\"data\":[\n"[..]);
        }
        rows += 1;
        page.as_mut().expect("a page was begun at the first row").write(|out| {
            serde_json::to_writer(&mut line, &row)?;
            out.write_all(&line)
        })?;
        Ok::<_, Error>(())
    })?;
    written.extend(page.map(end).transpose()?);
    Ok((rows, written))
}

const OPERATORS_A_PAGE: u64 = 500;

/// Bytes from which on what was written becomes a piece.
const PIECE: usize = 256 << 10;

/// Entries of containers.db that become one piece of text: some hundred KiB.
const ENTRIES_A_PIECE: usize = 512;

/// Pieces that are held before they are written: some ten MiB.
const PIECES_AT_ONCE: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_json_whatever_they_hold() {
        for string in ["", "plain", "ü é 漢", "a\"b", "a\\b", "tab\t", "line\n", "\u{1}\u{7f}\u{2028}"] {
            let mut text = Vec::new();
            write_string(string, &mut text).unwrap();
            assert_eq!(text, serde_json::to_vec(string).unwrap(), "{string:?}");
        }
    }
}
