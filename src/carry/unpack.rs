//! Making images of a carry again.
//!
//! Frames are decompressed into a directory in the layout, one file each, as their volumes arrive; nothing is taken that is
//! not what the volume's table says. When all are there, blobs are put together side by side, each checked before it gets
//! its name; documents follow, the list of images last.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::image::{Descriptor, MediaType};
use rayon::prelude::*;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::carry::contents::Recent;
use crate::carry::document::CarryDocument;
use crate::carry::sign::PublicKey;
use crate::carry::skeleton::Joined;
use crate::carry::table::{Blob, Form, Packing, Table};
use crate::carry::volume::{Placed, Volume};
use crate::carry::{Error, Lookup, Receipt};
use crate::compression::encode::GzipRecipe;
use crate::compression::{Compression, Encoder, LimitedReader};
use crate::digest::Digest;
use crate::fs::{self, Lock, PathContext, Slice};
use crate::image::manifest;
use crate::image::store::layout::{self, BlobWriter, Layout, descriptor};
use crate::progress::{Progress, Unit};

/// What was unpacked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UnpackReport {
    /// The carry.
    pub carry: String,
    /// Whether it was asked who signed it, and it was the key that was given.
    pub signature_checked: bool,
    /// Whether the images are in the layout; otherwise volumes are missing.
    pub complete: bool,
    /// Volumes that are still to come, or are damaged, by the names of their files.
    pub missing: Vec<String>,
    /// What is wrong with volumes; a line each.
    pub damaged: Vec<String>,
    /// Images and what refers to them, as they are listed.
    pub images: Vec<Descriptor>,
    /// Blobs that were made.
    pub made_blobs: u64,
    /// Their bytes.
    pub made_bytes: u64,
    /// Blobs that were there.
    pub present_blobs: u64,
    /// Blobs that did not travel, as an earlier carry brought them.
    pub needed_blobs: u64,
    /// What the side that packed it is to be told, once the images are there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Receipt>,
}

/// Unpacks a carry, or as much of it as is there, into a layout.
///
/// With a key, nothing is touched of a carry that it did not sign. What was imported stays when volumes are missing, and the
/// next call goes on with it. `now` is the time for the receipt, RFC 3339. Needs room for the contents and the blobs; holds some 300 MB.
pub fn unpack(
    directory: &Path,
    key: Option<&PublicKey>,
    layout: &Layout,
    now: &str,
    progress: &Progress,
) -> Result<UnpackReport, Error> {
    let carry = CarryDocument::read(directory, key)?;
    carry.check_base(layout.root())?;
    let work = layout.root().join(format!(".carry-{}.partial", carry.id));
    fs::create_dir_all(&work)?;
    let lock = Lock::directory(&work, "another unpack is at work on this carry")?;
    has_room(&carry, &work)?;
    let mut import = Import { carry: &carry, work: &work, frames: None, damaged: Vec::new(), progress };
    for file in &carry.volumes {
        import.volume(&directory.join(&file.file))?;
    }
    let (frames, damaged) = (import.frames, import.damaged);
    let lacking = |number: &u64| !frame_path(&work, *number).exists();
    let mut report = UnpackReport {
        carry: carry.id.clone(),
        signature_checked: key.is_some(),
        complete: false,
        missing: Vec::new(),
        damaged,
        images: Vec::new(),
        made_blobs: 0,
        made_bytes: 0,
        present_blobs: 0,
        needed_blobs: carry.needs.len() as u64,
        receipt: None,
    };
    if frames.is_none_or(|all| (0..all).any(|number| lacking(&number))) {
        report.missing = missing_volumes(&carry, &work);
        return Ok(report);
    }
    let store = Arc::new(Store::open(&work)?);
    let total = store.table.blobs.iter().map(|blob| blob.size).fold(0, u64::saturating_add);
    let task = progress.task("putting together", Unit::Bytes, Some(total));
    let documents = documents_of(&carry, &store)?;
    let is_document = |blob: &&Blob| documents.contains(&blob.digest);
    let make = |blob: &Blob| -> Result<Option<u64>, Error> {
        let made = store.blob(blob, layout)?;
        task.add(blob.size);
        Ok(made.then_some(blob.size))
    };
    let mut made: Vec<Option<u64>> =
        store.table.blobs.par_iter().filter(|blob| !is_document(blob)).map(make).collect::<Result<_, Error>>()?;
    // Children first, as they were packed.
    for blob in store.table.blobs.iter().filter(is_document) {
        made.push(make(blob)?);
    }
    // A table may leave out what manifests name: no image is listed that is not whole.
    for image in &carry.images {
        let mut visit = |described: &Descriptor| -> Result<(), Error> {
            let digest = layout::digest_of(described).map_err(layout::Error::from)?;
            match layout.holds(&digest, described.size()) || manifest::is_foreign(described.media_type().as_ref()) {
                true => Ok(()),
                false => Err(Error::Incomplete { image: image.digest().to_string(), digest }),
            }
        };
        manifest::walk(image, &mut |described| Ok::<_, Error>(layout.read_document(described)?), &mut visit)?;
    }
    layout.tag_all(&carry.images)?;
    report.receipt = Some(Receipt::of(&carry, layout, now)?);
    report.images = carry.images.clone();
    report.complete = true;
    report.made_blobs = made.iter().flatten().count() as u64;
    report.made_bytes = made.iter().flatten().sum();
    report.present_blobs = made.len() as u64 - report.made_blobs;
    drop((store, lock));
    fs::remove_dir_all(&work)?;
    Ok(report)
}

/// Refuses before anything is written where the contents cannot fit. What images need beside them depends on what is there.
fn has_room(carry: &CarryDocument, work: &Path) -> Result<(), Error> {
    let mut there = 0_u64;
    for path in fs::list(work)? {
        there = there.saturating_add(std::fs::symlink_metadata(&path).map_or(0, |found| found.len()));
    }
    let needed = carry.totals.content_bytes.saturating_sub(there);
    // Where the file system does not say, it is tried.
    let Ok(found) = rustix::fs::statvfs(work) else { return Ok(()) };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    if free > 0 && needed > free {
        return Err(Error::NoRoom { path: work.to_owned(), needed, free });
    }
    Ok(())
}

struct Import<'a> {
    carry: &'a CarryDocument,
    work: &'a Path,
    /// Frames of the carry, once a volume has said.
    frames: Option<u64>,
    damaged: Vec<String>,
    progress: &'a Progress,
}

impl Import<'_> {
    /// Takes the frames of a volume that are not there yet.
    fn volume(&mut self, path: &Path) -> Result<(), Error> {
        match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            found => found.at("open", path)?,
        };
        let volume = match Volume::open(path) {
            Ok(volume) => volume,
            Err(Error::Path(error)) => return Err(error.into()),
            Err(error) => {
                self.damaged.push(error.to_string());
                return Ok(());
            }
        };
        if volume.listing.carry() != self.carry.id {
            let why = format!("{}: is a volume of another carry: {}", path.display(), volume.listing.carry());
            self.damaged.push(why);
            return Ok(());
        }
        self.frames = Some(volume.listing.all);
        let here = |frame: &&Placed| !frame_path(self.work, frame.number).exists();
        let wanted: Vec<&Placed> = volume.listing.frames.iter().filter(here).collect();
        let task = self.progress.task(
            format!("reading {}", path.display()),
            Unit::Bytes,
            Some(wanted.iter().map(|it| it.length).sum()),
        );
        // Each takes some 70 MB.
        let threads = rayon::ThreadPoolBuilder::new().num_threads(2).build().map_err(io::Error::other)?;
        let work = self.work;
        let taken: Vec<Result<(), Error>> = threads.install(|| {
            wanted
                .par_iter()
                .map(|frame| {
                    let taken = take(&volume, frame, work);
                    task.add(frame.length);
                    taken
                })
                .collect()
        });
        let mut bad = 0;
        for result in taken {
            match result {
                Ok(()) => {}
                Err(Error::Frame) => bad += 1,
                Err(error) => return Err(error),
            }
        }
        if bad == 0 {
            fs::write(&taken_path(self.work, volume.listing.number.into()), b"")?;
        } else {
            let ranges = match volume.damaged() {
                Ok(ranges) => {
                    ranges.iter().map(|(from, to)| format!("{from}-{}", to - 1)).collect::<Vec<_>>().join(", ")
                }
                Err(_) => "its end is missing".to_owned(),
            };
            self.damaged.push(format!(
                "{}: {bad} of {} frames are damaged; bytes {ranges}",
                path.display(),
                wanted.len()
            ));
        }
        Ok(())
    }
}

/// Decompresses a frame into its file, which appears when it is right.
fn take(volume: &Volume, frame: &Placed, work: &Path) -> Result<(), Error> {
    let mut hashed = Hashed { inner: volume.frame(frame), hash: Sha256::new() };
    let path = frame_path(work, frame.number);
    let partial = path.with_extension("new");
    match fs::remove_file(&partial) {
        Err(error) if error.source.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let mut to = fs::create_new(&partial)?;
    let copied = (|| -> io::Result<io::Result<u64>> {
        let mut decoder = zstd::stream::read::Decoder::new(&mut hashed)?.single_frame();
        decoder.window_log_max(27)?;
        let most = if frame.number == 0 { TABLE } else { FRAME_PLAIN };
        let mut decoder = LimitedReader::new(decoder, most);
        let mut buffer = vec![0; 128 << 10];
        let mut all = 0;
        loop {
            let read = match decoder.read(&mut buffer) {
                Ok(0) => {
                    // A name after a loss of power must mean that the bytes are there.
                    to.sync_data()?;
                    return Ok(Ok(all));
                }
                Ok(read) => read,
                Err(error) => return Ok(Err(error)),
            };
            // Only what cannot be written is an error of this side.
            io::Write::write_all(&mut to, &buffer[..read])?;
            all += read as u64;
        }
    })()
    .at("write", &partial)?;
    // What the decoder did not ask for counts, too.
    let rest = io::copy(&mut hashed, &mut io::sink());
    if copied.is_err() || rest.is_err() || hashed.hash.finalize()[..] != frame.sha256 {
        fs::remove_file(&partial)?;
        return Err(Error::Frame);
    }
    Ok(fs::rename(&partial, &path)?)
}

struct Hashed<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}

/// The files of volumes that have not been taken whole.
fn missing_volumes(carry: &CarryDocument, work: &Path) -> Vec<String> {
    let taken = |number: usize| taken_path(work, number as u64).exists();
    let missing = carry.volumes.iter().enumerate().filter(|(at, _)| !taken(at + 1));
    missing.map(|(_, volume)| volume.file.clone()).collect()
}

/// Digests of the manifests and indexes of a carry, read from its contents.
fn documents_of(carry: &CarryDocument, store: &Arc<Store>) -> Result<BTreeSet<Digest>, Error> {
    let blobs: HashMap<&Digest, &Blob> = store.table.blobs.iter().map(|blob| (&blob.digest, blob)).collect();
    let mut documents = BTreeSet::new();
    let mut read = |described: &Descriptor| -> Result<Vec<u8>, Error> {
        let digest = layout::digest_of(described).map_err(layout::Error::from)?;
        let missing = || Error::Odd { what: "the carry", why: "a manifest that it names is not in it" };
        let blob = blobs.get(&digest).ok_or_else(missing)?;
        documents.insert(digest);
        let Form::Whole(refs) = &blob.form else {
            return Err(Error::Odd { what: "the carry", why: "a manifest in it is an archive" });
        };
        let mut bytes = Vec::new();
        store.chained(refs)?.take(layout::DOCUMENT_LIMIT + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    for image in &carry.images {
        manifest::walk(image, &mut read, &mut |_| Ok(()))?;
    }
    Ok(documents)
}

/// Contents, decompressed, and what is made of them.
struct Store {
    table: Table,
    /// Of each content with bytes of its own, where it begins in its frame.
    starts: Vec<u64>,
    /// Of each frame, its first content, and its file.
    frames: Vec<(usize, Arc<File>)>,
    recent: Recent,
}

impl Store {
    fn open(work: &Path) -> Result<Self, Error> {
        let table = Table::from_bytes(&fs::read(&frame_path(work, 0), TABLE)?)?;
        let mut starts = Vec::with_capacity(table.lengths.len());
        let mut frames = Vec::new();
        let mut first = 0;
        for (number, contents) in (1_u64..).zip(&table.frames) {
            let path = frame_path(work, number);
            let file = fs::open_regular(&path)?;
            let end = first + usize::try_from(*contents).map_err(|_| Error::TooMany("contents"))?;
            let mut start = 0;
            for length in &table.lengths[first..end] {
                starts.push(start);
                start += length;
            }
            if file.metadata().at("read", &path)?.len() != start {
                return Err(Error::Odd {
                    what: "a frame",
                    why: "its contents have another length than the table says",
                });
            }
            frames.push((first, Arc::new(file)));
            first = end;
        }
        Ok(Store { table, starts, frames, recent: Recent::default() })
    }

    /// Some contents, one after another.
    fn chained(self: &Arc<Self>, refs: &[u32]) -> Result<impl Read + use<>, Error> {
        let (store, refs) = (self.clone(), refs.to_vec());
        let mut next = refs.into_iter();
        let mut current: Option<Box<dyn Read + Send>> = None;
        Ok(FromFn(move |buffer: &mut [u8]| {
            loop {
                if let Some(reader) = &mut current {
                    let read = reader.read(buffer)?;
                    if read > 0 || buffer.is_empty() {
                        return Ok(read);
                    }
                }
                let Some(content) = next.next() else { return Ok(0) };
                current = Some(store.open(content).map_err(io::Error::other)?);
            }
        }))
    }

    /// Makes a blob, unless it is there. Returns whether it was made.
    fn blob(self: &Arc<Self>, blob: &Blob, layout: &Layout) -> Result<bool, Error> {
        if layout.holds(&blob.digest, blob.size) {
            return Ok(false);
        }
        let mut writer = Limited { left: blob.size, inner: layout.blob_writer(blob.digest.algorithm())? };
        let made = self.write(blob, &mut writer);
        let wrong = |source: io::Error| Error::Blob { digest: blob.digest.clone(), source };
        made.map_err(|error| match error {
            Error::Io(source) => wrong(source),
            error => wrong(io::Error::other(error)),
        })?;
        let described = descriptor(MediaType::Other(String::new()), &blob.digest, blob.size);
        writer.inner.finish_expecting(&described)?;
        Ok(true)
    }

    fn write(self: &Arc<Self>, blob: &Blob, out: &mut Limited<'_>) -> Result<(), Error> {
        match &blob.form {
            Form::Whole(refs) => {
                io::copy(&mut self.chained(refs)?, out)?;
            }
            Form::Tar { skeleton, plain, packing } => {
                let mut bytes = Vec::new();
                self.chained(skeleton)?.take(SKELETON).read_to_end(&mut bytes)?;
                let tar = LimitedReader::new(Joined::new(&bytes, self.clone())?, *plain);
                drop(bytes);
                match packing {
                    Packing::None => {
                        io::copy(&mut io::BufReader::with_capacity(128 << 10, tar), out)?;
                    }
                    Packing::Gzip(recipe) => {
                        let recipe = GzipRecipe::from_bytes(recipe)?;
                        recipe.rebuild(io::BufReader::with_capacity(128 << 10, tar), out)?;
                    }
                    Packing::Zstd { level, library } => {
                        if *library != zstd::zstd_safe::version_number() {
                            return Err(Error::Library(*library));
                        }
                        let mut encoder = Encoder::new(out, Compression::Zstd, Some((*level).into()))?;
                        io::copy(&mut io::BufReader::with_capacity(128 << 10, tar), &mut encoder)?;
                        encoder.finish()?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Lookup for Arc<Store> {
    fn size(&self, content: u32) -> Result<u64, Error> {
        let content = content as usize;
        if let Some(nested) = self.table.nested.get(content) {
            return Ok(nested.size);
        }
        let stored = content - self.table.nested.len();
        self.table
            .lengths
            .get(stored)
            .copied()
            .ok_or(Error::Odd { what: "the carry", why: "a content that is not there" })
    }

    fn open(&self, content: u32) -> Result<Box<dyn Read + Send>, Error> {
        if let Some(nested) = self.table.nested.get(content as usize) {
            return nested.open(content, self, &self.recent);
        }
        let size = self.size(content)?;
        let stored = content as usize - self.table.nested.len();
        let frame = self.frames.partition_point(|(first, _)| *first <= stored) - 1;
        Ok(Box::new(Slice::of(self.frames[frame].1.clone(), self.starts[stored], size).reader()))
    }
}

struct FromFn<F>(F);

impl<F: FnMut(&mut [u8]) -> io::Result<usize>> Read for FromFn<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0(buffer)
    }
}

/// Takes no more than a blob has bytes: what is wrong must not fill the disk.
struct Limited<'a> {
    inner: BlobWriter<'a>,
    left: u64,
}

impl io::Write for Limited<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self
            .left
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "more bytes come out than the blob has"))?;
        self.inner.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Says that all frames of a volume were taken.
fn taken_path(work: &Path, number: u64) -> PathBuf {
    work.join(format!("volume-{number}.taken"))
}

fn frame_path(work: &Path, number: u64) -> PathBuf {
    work.join(format!("frame-{number}"))
}

/// Plain bytes of a frame of contents, at most: 64 MiB and a content.
const FRAME_PLAIN: u64 = 80 << 20;

/// Bytes of the table, at most.
const TABLE: u64 = 1 << 30;

/// Bytes of a skeleton, at most.
const SKELETON: u64 = 1 << 30;
