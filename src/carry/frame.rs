//! Contents, compressed together: what lies in volumes.
//!
//! A frame is one zstd frame (RFC 8878) of neighbouring contents, one after the other: 64 MiB of them, with a window that
//! sees all of it, and zstd's own checksum. Each is read without any other.

use std::io::{self, Read, Write};
use std::ops::Range;

use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

use crate::carry::Error;
use crate::fs::{Slice, Spool};
use crate::progress::Task;

/// A compressed frame, in the spool.
pub(super) struct Frame {
    /// The frame.
    pub(super) data: Slice,
    /// SHA-256 of the frame as it is.
    pub(super) sha256: [u8; 32],
}

/// Cuts contents into groups of at most `most` bytes together, a single one that is larger alone.
pub(super) fn groups(contents: &[Slice], most: u64) -> Vec<Range<usize>> {
    let mut groups = Vec::new();
    let (mut start, mut size) = (0, 0);
    for (number, content) in contents.iter().enumerate() {
        if number > start && size + content.size() > most {
            groups.push(start..number);
            (start, size) = (number, 0);
        }
        size += content.size();
    }
    if start < contents.len() {
        groups.push(start..contents.len());
    }
    groups
}

/// Compresses each group to a frame, two at one time.
pub(super) fn compress(
    contents: &[Slice],
    groups: &[Range<usize>],
    level: i32,
    spool: &Spool,
    task: &Task,
) -> Result<Vec<Frame>, Error> {
    // Each takes some 90 MB at level 9, on however many cores.
    let threads = rayon::ThreadPoolBuilder::new().num_threads(AT_ONCE).build().map_err(io::Error::other)?;
    threads.install(|| {
        groups.par_iter().map(|group| one(&contents[group.clone()], level, spool, task)).collect::<Result<Vec<_>, _>>()
    })
}

fn one(contents: &[Slice], level: i32, spool: &Spool, task: &Task) -> Result<Frame, Error> {
    let mut writer = spool.writer()?;
    let from = writer.position();
    let mut hash = Sha256::new();
    let sink = Tee(|bytes: &[u8]| {
        hash.update(bytes);
        writer.append(bytes).map_err(io::Error::other)
    });
    let mut encoder = zstd::stream::write::Encoder::new(sink, level)?;
    encoder.include_checksum(true)?;
    encoder.long_distance_matching(true)?;
    encoder.window_log(WINDOW)?;
    encoder.set_pledged_src_size(Some(contents.iter().map(Slice::size).sum()))?;
    let mut buffer = vec![0; 128 << 10];
    for content in contents {
        let mut reader = content.reader();
        loop {
            let read = reader.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            encoder.write_all(&buffer[..read])?;
        }
        task.add(content.size());
    }
    encoder.finish()?;
    Ok(Frame { sha256: hash.finalize().into(), data: writer.slice(from)? })
}

struct Tee<F>(F);

impl<F: FnMut(&[u8]) -> io::Result<()>> Write for Tee<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Base-two logarithm of how far back a frame may refer.
const WINDOW: u32 = 26;

/// Frames that are compressed at one time: what memory allows.
const AT_ONCE: usize = 2;
