//! Contents, compressed together: what lies in volumes.
//!
//! A frame is one zstd frame (RFC 8878) of neighbouring contents, one after the other: 64 MiB of them, with a window that
//! sees all of it, and zstd's own checksum. Each is read without any other; one whose contents are like something that the far
//! side holds is shorter, and that is its prefix (`ZSTD_CCtx_refPrefix`): the decoder needs the same bytes.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::ops::Range;

use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

use crate::carry::Error;
use crate::carry::table::Prefix;
use crate::fs::{Slice, Spool};
use crate::progress::Task;

/// A compressed frame, in the spool.
pub(super) struct Frame {
    /// The frame.
    pub(super) data: Slice,
    /// SHA-256 of the frame as it is.
    pub(super) sha256: [u8; 32],
    /// Whether it is read without a prefix.
    pub(super) is_alone: bool,
}

/// Contents that are compressed together.
pub(super) struct Group {
    /// Which of them.
    pub(super) range: Range<usize>,
    /// What they are compressed against.
    pub(super) prefix: Prefix,
    /// The bytes of that, one after another.
    pub(super) against: Vec<Slice>,
}

impl Group {
    /// Contents that are compressed by themselves.
    pub(super) fn alone(range: Range<usize>) -> Self {
        Group { range, prefix: Prefix::None, against: Vec::new() }
    }
}

/// Groups contents, each of which is like the held one of that number: the prefix of a group has all of those, each once.
pub(super) fn related(contents: &[Slice], like: &[u32], held: &HashMap<u32, Slice>, most: u64) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let (mut own, mut prefix) = (0, 0);
    for (number, (content, like)) in contents.iter().zip(like).enumerate() {
        let size = content.size();
        let is_there = |group: &Group| matches!(&group.prefix, Prefix::Contents(refs) if refs.contains(like));
        let more = match groups.last() {
            Some(group) if is_there(group) => 0,
            _ => held[like].size(),
        };
        match groups.last_mut() {
            Some(group) if own + size <= most.min(RELATED) && prefix + more <= PREFIX => {
                group.range.end = number + 1;
                if let (Prefix::Contents(refs), true) = (&mut group.prefix, more > 0) {
                    refs.push(*like);
                    group.against.push(held[like].clone());
                }
                (own, prefix) = (own + size, prefix + more);
            }
            _ => {
                groups.push(Group {
                    range: number..number + 1,
                    prefix: Prefix::Contents(vec![*like]),
                    against: vec![held[like].clone()],
                });
                (own, prefix) = (size, held[like].size());
            }
        }
    }
    groups
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
    groups: &[Group],
    level: i32,
    spool: &Spool,
    task: &Task,
) -> Result<Vec<Frame>, Error> {
    // Each takes some 90 MB at level 9, on however many cores.
    let threads = rayon::ThreadPoolBuilder::new().num_threads(AT_ONCE).build().map_err(io::Error::other)?;
    threads.install(|| {
        let frame = |group: &Group| one(&contents[group.range.clone()], &group.against, level, spool, task);
        groups.par_iter().map(frame).collect::<Result<Vec<_>, _>>()
    })
}

fn one(contents: &[Slice], against: &[Slice], level: i32, spool: &Spool, task: &Task) -> Result<Frame, Error> {
    let mut writer = spool.writer()?;
    let from = writer.position();
    let mut hash = Sha256::new();
    let sink = Tee(|bytes: &[u8]| {
        hash.update(bytes);
        writer.append(bytes).map_err(io::Error::other)
    });
    let prefix = bytes_of(against)?;
    let mut encoder = zstd::stream::write::Encoder::with_ref_prefix(sink, level, &prefix)?;
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
    Ok(Frame { sha256: hash.finalize().into(), data: writer.slice(from)?, is_alone: against.is_empty() })
}

/// The bytes of a prefix, at most [`PREFIX`] and a content.
pub(super) fn bytes_of(slices: &[Slice]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for slice in slices {
        slice.reader().read_to_end(&mut bytes)?;
    }
    Ok(bytes)
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
pub(super) const AT_ONCE: usize = 2;

/// Bytes of contents that are compressed against others: these, the prefix and what zstd keeps are in memory together, twice.
const RELATED: u64 = 16 << 20;

/// Bytes of a prefix, but for its last content: all of it must lie in the window together with what follows.
pub(super) const PREFIX: u64 = 32 << 20;
