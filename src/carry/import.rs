//! Volumes as they arrive: frames into files of the directory for work, each when it is right.
//!
//! A frame that is compressed against something waits as it is until table and base are there.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

use crate::carry::base::Ground;
use crate::carry::document::{CarryDocument, FIRST_FORMAT};
use crate::carry::table::{self, Prefix, Table};
use crate::carry::volume::{Placed, Volume};
use crate::carry::{Error, frame};
use crate::compression::LimitedReader;
use crate::fs::{self, PathContext, Slice};
use crate::progress::{Progress, Unit};

/// What has come of a carry.
pub(super) struct Import<'a> {
    pub(super) carry: &'a CarryDocument,
    pub(super) work: &'a Path,
    /// Frames of the carry, once a volume has said.
    pub(super) frames: Option<u64>,
    pub(super) damaged: Vec<String>,
    pub(super) progress: &'a Progress,
}

impl Import<'_> {
    /// Takes the frames of a volume that are not there yet.
    pub(super) fn volume(&mut self, path: &Path) -> Result<(), Error> {
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
        let here = |frame: &&Placed| !is_here(self.work, frame.number);
        let wanted: Vec<&Placed> = volume.listing.frames.iter().filter(here).collect();
        let task = self.progress.task(
            format!("reading {}", path.display()),
            Unit::Bytes,
            Some(wanted.iter().map(|it| it.length).sum()),
        );
        // Each takes some 70 MB.
        let threads = rayon::ThreadPoolBuilder::new().num_threads(2).build().map_err(io::Error::other)?;
        let (work, waits) = (self.work, self.carry.format != FIRST_FORMAT);
        let taken: Vec<Result<(), Error>> = threads.install(|| {
            wanted
                .par_iter()
                .map(|frame| {
                    let taken = match waits && frame.number > 0 {
                        true => keep(&volume, frame, work),
                        false => take(&volume, frame, work),
                    };
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
            self.damaged.push(format!("{}: damaged frames: {bad} of {}; bytes {ranges}", path.display(), wanted.len()));
        }
        Ok(())
    }
}

/// Decompresses a frame into its file, which appears when it is right.
pub(super) fn take(volume: &Volume, frame: &Placed, work: &Path) -> Result<(), Error> {
    let mut hashed = Hashed { inner: volume.frame(frame), hash: Sha256::new() };
    let most = if frame.number == 0 { table::MOST } else { FRAME_PLAIN };
    let path = frame_path(work, frame.number);
    let partial = path.with_extension("new");
    let decoded = {
        let mut decoder = zstd::stream::read::Decoder::new(&mut hashed)?.single_frame();
        decoder.window_log_max(WINDOW)?;
        filled(&partial, &mut LimitedReader::new(decoder, most))?
    };
    // What the decoder did not ask for counts, too.
    let rest = io::copy(&mut hashed, &mut io::sink());
    if decoded.is_err() || rest.is_err() || hashed.hash.finalize()[..] != frame.sha256 {
        fs::remove_file(&partial)?;
        return Err(Error::Frame);
    }
    Ok(fs::rename(&partial, &path)?)
}

/// Keeps a frame as it is.
pub(super) fn keep(volume: &Volume, frame: &Placed, work: &Path) -> Result<(), Error> {
    let mut hashed = Hashed { inner: volume.frame(frame), hash: Sha256::new() };
    let path = waiting_path(work, frame.number);
    let partial = path.with_extension("new");
    let copied = filled(&partial, &mut hashed)?;
    if copied.is_err() || hashed.hash.finalize()[..] != frame.sha256 {
        fs::remove_file(&partial)?;
        return Err(Error::Frame);
    }
    Ok(fs::rename(&partial, &path)?)
}

/// Fills a new file; the inner error is the reader's, which is not this side's.
fn filled(partial: &Path, from: &mut dyn Read) -> Result<io::Result<()>, Error> {
    match fs::remove_file(partial) {
        Err(error) if error.source.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let mut to = fs::create_new(partial)?;
    let mut buffer = vec![0; 128 << 10];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) => return Ok(Err(error)),
        };
        io::Write::write_all(&mut to, &buffer[..read]).at("write", partial)?;
    }
    // A name after a loss of power must mean that the bytes are there.
    to.sync_data().at("write", partial)?;
    Ok(Ok(()))
}

/// Decompresses the frames that have waited for table and base.
pub(super) fn expand(work: &Path, table: &Table, ground: &Ground, progress: &Progress) -> Result<(), Error> {
    let waiting: Vec<u64> =
        (1..=table.frames.len() as u64).filter(|number| waiting_path(work, *number).exists()).collect();
    let task = progress.task("decompressing", Unit::Items, Some(waiting.len() as u64));
    // Each takes some 110 MB, the prefix among it.
    let threads = rayon::ThreadPoolBuilder::new().num_threads(frame::AT_ONCE).build().map_err(io::Error::other)?;
    let one = |number: &u64| -> Result<(), Error> {
        expand_one(work, *number, table, ground)?;
        task.add(1);
        Ok(())
    };
    threads.install(|| waiting.par_iter().map(one).collect())
}

/// Decompresses a frame that has waited.
pub(super) fn expand_one(work: &Path, number: u64, table: &Table, ground: &Ground) -> Result<(), Error> {
    let against: Vec<Slice> = match usize::try_from(number - 1).ok().and_then(|at| table.prefixes.get(at)) {
        None | Some(Prefix::None) => Vec::new(),
        Some(Prefix::Contents(refs)) => {
            let first = table.nested.len();
            let held = |content: &u32| ground.contents.get(*content as usize - first).cloned().ok_or(Error::NotHere);
            refs.iter().map(held).collect::<Result<_, _>>()?
        }
        Some(Prefix::Skeleton(layer)) => {
            vec![ground.skeletons.get(*layer as usize).cloned().ok_or(Error::NotHere)?]
        }
    };
    if against.iter().map(Slice::size).fold(0, u64::saturating_add) > MOST_PREFIX {
        return Err(Error::Odd { what: "a frame", why: "more to be compared with than there can be" });
    }
    let prefix = frame::bytes_of(&against)?;
    let (path, from) = (frame_path(work, number), waiting_path(work, number));
    let partial = path.with_extension("new");
    let mut decoder = zstd::stream::read::Decoder::with_ref_prefix(fs::open(&from)?, &prefix)?.single_frame();
    decoder.window_log_max(WINDOW)?;
    if filled(&partial, &mut LimitedReader::new(decoder, FRAME_PLAIN))?.is_err() {
        fs::remove_file(&partial)?;
        return Err(Error::Frame);
    }
    fs::rename(&partial, &path)?;
    Ok(fs::remove_file(&from)?)
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
pub(super) fn missing_volumes(carry: &CarryDocument, work: &Path) -> Vec<String> {
    let taken = |number: usize| taken_path(work, number as u64).exists();
    let missing = carry.volumes.iter().enumerate().filter(|(at, _)| !taken(at + 1));
    missing.map(|(_, volume)| volume.file.clone()).collect()
}

/// Says that all frames of a volume were taken.
fn taken_path(work: &Path, number: u64) -> PathBuf {
    work.join(format!("volume-{number}.taken"))
}

/// Where a frame is, decompressed.
pub(super) fn frame_path(work: &Path, number: u64) -> PathBuf {
    work.join(format!("frame-{number}"))
}

/// Where a frame is that waits.
fn waiting_path(work: &Path, number: u64) -> PathBuf {
    work.join(format!("frame-{number}.zst"))
}

/// Whether a frame has come.
pub(super) fn is_here(work: &Path, number: u64) -> bool {
    frame_path(work, number).exists() || waiting_path(work, number).exists()
}

/// Base-two logarithm of how far back a frame may refer.
const WINDOW: u32 = 27;

/// Bytes of a prefix, at most: as many as the packing side takes, and a content.
const MOST_PREFIX: u64 = frame::PREFIX + (8 << 20);

/// Plain bytes of a frame of contents, at most: 64 MiB and a content.
const FRAME_PLAIN: u64 = 80 << 20;
