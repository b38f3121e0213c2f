//! The files of an image: what each is to IMS, and everything that is to be known about it from one read.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use bytes::Bytes;
use md5::Md5;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::digest::hex;
use crate::fs::{self, PathContext, PathError};
use crate::progress::Task;
use crate::publish::s3::{Content, Piece};

/// What a file is to a node that boots the image. The order is that of uploads and of the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The root file system, a squashfs.
    Rootfs,
    /// The kernel.
    Kernel,
    /// The initial RAM disk.
    Initrd,
    /// A kernel with debug information.
    DebugKernel,
    /// Kernel parameters.
    BootParameters,
}

/// A file that is to be uploaded, with the digests of its content.
#[derive(Debug)]
pub struct Artifact {
    /// What it is.
    pub kind: Kind,
    /// Where it was found.
    pub path: PathBuf,
    /// In bytes.
    pub size: u64,
    /// MD5 of the content, in hexadecimal digits.
    pub md5: String,
    /// SHA-256 of the content, in hexadecimal digits.
    pub sha256: String,
    /// How long each part is but the last. A file of one part is sent whole.
    pub part_size: u64,
    /// SHA-256 of each part.
    parts: Vec<String>,
    file: Arc<File>,
    stamp: Stamp,
}

/// Why a file cannot be an artifact.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("{0}")]
    Path(#[from] PathError),
    /// It is a directory, a socket or the like.
    #[error("{}: not a regular file", path.display())]
    NotAFile {
        /// Where it is.
        path: PathBuf,
    },
    /// It has no content.
    #[error("{}: the file is empty", path.display())]
    Empty {
        /// Where it is.
        path: PathBuf,
    },
    /// A root file system of another kind.
    #[error("{}: not a squashfs, which the root file system of an image has to be", path.display())]
    NotSquashfs {
        /// Where it is.
        path: PathBuf,
    },
    /// A squashfs of which the end is missing.
    #[error("{}: the squashfs is cut off: {found} of its {stated} bytes are there", path.display())]
    CutOff {
        /// Where it is.
        path: PathBuf,
        /// How many bytes there are.
        found: u64,
        /// How many its superblock states.
        stated: u64,
    },
    /// It is being written to.
    #[error("{}: the file changed while it was read", path.display())]
    Changed {
        /// Where it is.
        path: PathBuf,
    },
    /// A kernel for other machines than was said.
    #[error("{}: this is a kernel for {found}, the image is for {expected}", path.display())]
    Architecture {
        /// Where it is.
        path: PathBuf,
        /// What the kernel's header says.
        found: &'static str,
        /// What `--arch` says.
        expected: String,
    },
}

/// What tells that a file was changed: its size, and the time of the last change of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: (i64, i64),
}

impl Kind {
    /// All of them, in their order.
    pub const ALL: [Kind; 5] = [Kind::Rootfs, Kind::Kernel, Kind::Initrd, Kind::DebugKernel, Kind::BootParameters];

    /// The last part of its key in S3, and its name in a bundle.
    pub fn key(self) -> &'static str {
        match self {
            Kind::Rootfs => "rootfs",
            Kind::Kernel => "kernel",
            Kind::Initrd => "initrd",
            Kind::DebugKernel => "debug_kernel",
            Kind::BootParameters => "boot_parameters",
        }
    }

    /// Its type in the manifest.
    pub fn media_type(self) -> &'static str {
        match self {
            Kind::Rootfs => "application/vnd.cray.image.rootfs.squashfs",
            Kind::Kernel => "application/vnd.cray.image.kernel",
            Kind::Initrd => "application/vnd.cray.image.initrd",
            Kind::DebugKernel => "application/vnd.cray.image.debug.kernel",
            Kind::BootParameters => "application/vnd.cray.image.parameters.boot",
        }
    }
}

impl Artifact {
    /// Opens a file and reads it once for all digests. Blocks; counts the bytes in `task`.
    pub fn read(kind: Kind, path: &Path, task: &Task) -> Result<Self, Error> {
        if !std::fs::metadata(path).at("read", path)?.is_file() {
            return Err(Error::NotAFile { path: path.to_owned() });
        }
        let file = fs::open_file(path)?;
        let metadata = file.metadata().at("read", path)?;
        let size = metadata.len();
        // Kernel parameters may be none.
        if size == 0 && kind != Kind::BootParameters {
            return Err(Error::Empty { path: path.to_owned() });
        }
        // Nodes mount it as one, and the service takes whatever it is given.
        if kind == Kind::Rootfs {
            check_squashfs(&file, size, path)?;
        }
        let stamp = Stamp::of(&metadata);
        let part_size = part_size(size);
        let digests = digests(&file, part_size, task).at("read", path)?;
        let artifact = Artifact {
            kind,
            path: path.to_owned(),
            size,
            md5: digests.md5,
            sha256: digests.sha256,
            part_size,
            parts: digests.parts,
            file: Arc::new(file),
            stamp,
        };
        if digests.size != size || artifact.is_changed() {
            return Err(Error::Changed { path: artifact.path });
        }
        Ok(artifact)
    }

    /// How many parts it is sent in.
    pub fn part_count(&self) -> u32 {
        u32::try_from(self.parts.len()).expect("there are 10,000 at most")
    }

    /// A part to be sent, by its number from 1.
    pub fn piece(&self, number: u32) -> Piece {
        let offset = u64::from(number - 1) * self.part_size;
        let length = self.part_size.min(self.size - offset);
        let sha256 = self.parts[number as usize - 1].clone();
        Piece { content: Content::File { file: self.file.clone(), offset, length }, sha256 }
    }

    /// The ETag that S3 gives it when it is sent whole. That of parts is known once they are sent.
    pub fn etag(&self) -> Option<String> {
        (!self.is_multipart()).then(|| self.md5.clone())
    }

    /// Whether it goes in parts, as the old helper's transfer manager sends what has 8 MiB or more.
    pub fn is_multipart(&self) -> bool {
        self.size >= MULTIPART_FROM
    }

    /// Whether it is no longer what was read.
    pub fn is_changed(&self) -> bool {
        self.file.metadata().map(|metadata| Stamp::of(&metadata)).ok() != Some(self.stamp)
    }

    /// Its first bytes, fewer for a shorter file.
    pub fn first<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        // What cannot be read now was read before, and will fail when it is sent.
        let _ = self.file.read_at(&mut bytes, 0);
        bytes
    }

    /// Refuses a kernel whose header names another architecture; one without a header that is known passes.
    pub fn check_architecture(&self, expected: &str) -> Result<(), Error> {
        let header = self.first::<0x206>();
        let found = match () {
            // Documentation/arch/x86/boot.rst, Documentation/arch/arm64/booting.rst
            () if &header[0x202..0x206] == b"HdrS" => "x86_64",
            () if &header[0x38..0x3c] == b"ARM\x64" => "aarch64",
            () => return Ok(()),
        };
        if found == expected {
            return Ok(());
        }
        Err(Error::Architecture { path: self.path.clone(), found, expected: expected.to_owned() })
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Stamp { size: metadata.len(), modified: (metadata.mtime(), metadata.mtime_nsec()) }
    }
}

/// Refuses what the kernel would not mount: a file that does not begin with the superblock of a squashfs of version 4, or that has
/// fewer bytes than it states (Linux, fs/squashfs/squashfs_fs.h: `squashfs_super_block`; super.c compares `bytes_used` with the device).
fn check_squashfs(file: &File, size: u64, path: &Path) -> Result<(), Error> {
    let mut superblock = [0; 96];
    let is_whole = file.read_at(&mut superblock, 0).at("read", path)? == superblock.len();
    let (magic, major) = (&superblock[..4], u16::from_le_bytes([superblock[28], superblock[29]]));
    if !is_whole || magic != b"hsqs" || major != 4 {
        return Err(Error::NotSquashfs { path: path.to_owned() });
    }
    let stated = superblock[40..48].try_into().map(u64::from_le_bytes).expect("eight bytes");
    match stated > size {
        true => Err(Error::CutOff { path: path.to_owned(), found: size, stated }),
        false => Ok(()),
    }
}

/// 8 MiB, or as much more as keeps a file within 1,000 parts.
fn part_size(size: u64) -> u64 {
    size.div_ceil(MOST_PARTS).next_multiple_of(1 << 20).max(MULTIPART_FROM)
}

struct Digests {
    md5: String,
    sha256: String,
    parts: Vec<String>,
    size: u64,
}

/// Reads a file once; each kind of digest has a thread, since MD5 is what takes the longest.
fn digests(file: &File, part_size: u64, task: &Task) -> io::Result<Digests> {
    let part_size = usize::try_from(part_size).expect("parts fit into memory's addresses");
    thread::scope(|scope| {
        let mut senders = Vec::new();
        let mut blocks = || {
            let (sender, receiver) = sync_channel::<Bytes>(AHEAD);
            senders.push(sender);
            receiver
        };
        let (a, b, c) = (blocks(), blocks(), blocks());
        let md5 = scope.spawn(move || whole::<Md5>(&a));
        let sha256 = scope.spawn(move || whole::<Sha256>(&b));
        let parts = scope.spawn(move || each::<Sha256>(&c, part_size));
        let size = send_blocks(file, part_size, &senders, task)?;
        // Without them, the threads come to their end.
        drop(senders);
        let lost = |_| io::Error::other("a thread that computes a digest failed");
        let (md5, sha256) = (md5.join().map_err(lost)?, sha256.join().map_err(lost)?);
        let parts = parts.join().map_err(lost)?.iter().map(|sha256| hex(sha256)).collect();
        Ok(Digests { md5: hex(&md5), sha256: hex(&sha256), parts, size })
    })
}

/// Blocks never reach over the end of a part.
fn send_blocks(mut file: &File, part_size: usize, to: &[SyncSender<Bytes>], task: &Task) -> io::Result<u64> {
    let (mut size, mut left) = (0, part_size);
    loop {
        let mut block = vec![0; BLOCK.min(left)];
        let filled = fs::read_full(&mut file, &mut block)?;
        if filled == 0 {
            return Ok(size);
        }
        block.truncate(filled);
        let block = Bytes::from(block);
        for sender in to {
            // A receiver that is gone is told of when it is joined.
            let _ = sender.send(block.clone());
        }
        size += filled as u64;
        task.add(filled as u64);
        left = if left == filled { part_size } else { left - filled };
    }
}

fn whole<D: md5::Digest>(blocks: &Receiver<Bytes>) -> Vec<u8> {
    let mut state = D::new();
    while let Ok(block) = blocks.recv() {
        state.update(&block);
    }
    state.finalize().to_vec()
}

fn each<D: md5::Digest>(blocks: &Receiver<Bytes>, part_size: usize) -> Vec<Vec<u8>> {
    let (mut parts, mut state, mut filled) = (Vec::new(), D::new(), 0);
    while let Ok(block) = blocks.recv() {
        state.update(&block);
        filled += block.len();
        if filled == part_size {
            parts.push(std::mem::replace(&mut state, D::new()).finalize().to_vec());
            filled = 0;
        }
    }
    if filled > 0 || parts.is_empty() {
        parts.push(state.finalize().to_vec());
    }
    parts
}

/// From which size on a file goes in parts.
const MULTIPART_FROM: u64 = 8 << 20;

/// S3 takes 10,000; a tenth of that keeps the list of them short.
const MOST_PARTS: u64 = 1000;

/// What is read at one time.
const BLOCK: usize = 1 << 20;

/// Blocks that may wait for each thread.
const AHEAD: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::{Progress, Unit};
    use crate::publish::s3::md5;

    fn artifact(content: &[u8]) -> Artifact {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, content).unwrap();
        let task = Progress::off().task("read", Unit::Bytes, None);
        Artifact::read(Kind::Kernel, &path, &task).unwrap()
    }

    #[test]
    fn one_read_gives_the_digests_of_the_file_and_of_its_parts() {
        for size in [1, (8 << 20) - 1, 8 << 20, (20 << 20) + 5] {
            let content: Vec<u8> = (0..size).map(|n: u32| (n / 7 + n / 65_536) as u8).collect();
            let artifact = artifact(&content);
            assert_eq!((artifact.size, &artifact.md5), (u64::from(size), &hex(&md5(&content))));
            assert_eq!(artifact.sha256, crate::digest::Digest::sha256(&content).hex());
            assert_eq!(artifact.part_count(), size.div_ceil(8 << 20));
            for (number, part) in (1..).zip(content.chunks(8 << 20)) {
                let piece = artifact.piece(number);
                let expected = (part.len() as u64, crate::digest::Digest::sha256(part).hex().to_owned());
                assert_eq!((piece.length(), piece.sha256), expected, "{size} {number}");
            }
            assert_eq!(artifact.etag(), (size < 8 << 20).then(|| artifact.md5.clone()));
        }
    }

    #[test]
    fn parts_grow_with_the_file_and_stay_whole_mebibytes() {
        for (size, part) in [(1, 8), (8 << 30, 9), (19 << 30, 20), (5 << 40, 5243)] {
            assert_eq!(part_size(size), part << 20, "{size}");
            assert!(size.div_ceil(part_size(size)) <= MOST_PARTS);
        }
    }

    #[test]
    fn a_kernel_for_another_machine_is_refused_and_an_unknown_one_passes() {
        let mut x86 = vec![0; 0x300];
        x86[0x202..0x206].copy_from_slice(b"HdrS");
        let mut arm = vec![0; 0x300];
        arm[0x38..0x3c].copy_from_slice(b"ARM\x64");
        for (kernel, arch, is_right) in [
            (&x86, "x86_64", true),
            (&x86, "aarch64", false),
            (&arm, "aarch64", true),
            (&arm, "x86_64", false),
            (&vec![1; 40], "x86_64", true),
        ] {
            assert_eq!(artifact(kernel).check_architecture(arch).is_ok(), is_right);
        }
    }
}
