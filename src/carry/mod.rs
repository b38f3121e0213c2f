//! What crosses the gap: images taken apart, each content carried once, every layer made again bit for bit.
//!
//! ```text
//! CARRY/carry.json          what is inside: images by name and digest, volumes with size and SHA-256, totals
//!       volume-001.zst …    frames of zstd, see `volume`; each is verified and taken singly, in any order
//!       parity-001.zst …    where it was asked for, see `parity`
//!       carry.json.sig, carry.sigstore.json    where it is signed, see `sign`
//!       README.txt          what to type
//!       haversack           the program that made it
//!
//! a layer ──► recipe (which encoder made these bytes)  ──► table     frame 0
//!         └─► tar ─► skeleton (headers, by column)     ──► contents  last frames, together
//!                └─► files, large ones in pieces       ──► contents  frames of 64 MiB, neighbours by name
//!                       └─► gzip files: recipe and text, once more
//! ```
//!
//! A carry for a site leaves out what that holds, and names it in `carry.json` with the carry that brought it, see [`Base`];
//! the far side answers with a [`Receipt`].
//!
//! The format has version 1, in `carry.json`, in each volume and in the table; where a carry is built on others, `carry.json`
//! has version 2. Nothing is recorded that was not made again when it was packed; nothing gets a name on the far side whose digest is not right. What no encoder makes travels as it is,
//! and is counted.
//!
//! On the far side frames lie decompressed in `LAYOUT/.carry-ID.partial/` until all have come; that directory goes away
//! with the last step. What may stay for later carries is in `kept`.

mod apart;
mod base;
mod contents;
mod delta;
mod document;
mod encrypted;
mod entries;
#[cfg(test)]
mod forged;
mod frame;
mod import;
mod index;
mod kept;
mod maker;
mod medium;
mod numbering;
mod order;
mod pack;
mod parity;
mod parts;
pub(crate) mod readers;
mod reading;
mod readme;
mod receipt;
mod sign;
mod skeleton;
mod store;
mod table;
mod text;
mod unpack;
mod verify;
mod volume;
mod wire;

use std::io::{self, Read};
use std::path::PathBuf;

pub use self::base::{Base, Held, Need, held_by};
pub use self::document::{
    CARRY, CarryDocument, FIRST_FORMAT, FORMAT, LIMIT as DOCUMENT_LIMIT, Made, Totals, VolumeFile,
};
pub use self::index::forget as forget_index;
pub use self::kept::{KeptContents, collect_contents, collectable_contents};
pub use self::maker::{LayerEncoder, encoders};
pub use self::medium::medium;
pub use self::pack::{PackOptions, PackReport, Packed, Whole, pack};
pub use self::parity::{RepairReport, repair};
pub use self::reading::Reading;
pub use self::receipt::{BadCode, Code, Receipt, state_of};
pub use self::sign::{PrivateKey, PublicKey};
pub use self::unpack::{Contents, NotKept, UnpackReport, unpack};
pub use self::verify::{Checked, State, VerifyReport, verify};
use crate::compression::encode;
use crate::digest::Digest;
use crate::fs::PathError;
use crate::image::store::layout;
use crate::plural;

/// Where contents are found by number.
pub(crate) trait Lookup {
    /// How many bytes a content has.
    fn size(&self, content: u32) -> Result<u64, Error>;
    /// A reader of a content.
    fn open(&self, content: u32) -> Result<Box<dyn Read + Send>, Error>;
}

/// Why a carry cannot be made, read or unpacked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no carry in a directory.
    #[error("{}: no carry here (expected carry.json)", .0.display())]
    NoCarry(PathBuf),
    /// Something is in the place of a new carry.
    #[error("{}: is there already; a carry is a new directory", .0.display())]
    Exists(PathBuf),
    /// `carry.json` does not parse.
    #[error("{}: not what a carry says of itself", path.display())]
    Document {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A carry of a later release.
    #[error("{}: format {found} is not known (known: 1 and 2)", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// A file that is no key.
    #[error("{}: {why}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// A carry that a key did not sign.
    #[error("{}: {why} (asked for {})", path.display(), key.display())]
    Signature {
        /// The document.
        path: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// A name in `carry.json` that leads elsewhere.
    #[error("{}: `{}` is no name of a carry's own", path.display(), crate::escape::line(name))]
    Name {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// A volume of which nothing can be read.
    #[error("{}: {why}", path.display())]
    Volume {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// A frame has other bytes than its volume says.
    #[error("a frame is damaged")]
    Frame,
    /// A table or a skeleton that ends too early.
    #[error("{0} is cut off")]
    Cut(&'static str),
    /// A table or a skeleton that cannot be.
    #[error("{what}: {why}")]
    Odd {
        /// In what.
        what: &'static str,
        /// What is wrong.
        why: &'static str,
    },
    /// More than the format has numbers for.
    #[error("more {0} than a carry can hold")]
    TooMany(&'static str),
    /// Volumes that cannot hold the largest piece.
    #[error("volumes of {most} bytes are too small: one piece alone needs {needed}")]
    TooSmall {
        /// What they may have.
        most: u64,
        /// What they would need.
        needed: u64,
    },
    /// The program does not fit on the first volume's medium.
    #[error("the program has {program} bytes, and a volume's medium takes {most}")]
    ProgramTooLarge {
        /// Its bytes.
        program: u64,
        /// What a medium takes.
        most: u64,
    },
    /// A carry whose first volume is elsewhere.
    #[error("{}: its first volume is not here, which says what is in the others", directory.display())]
    Away {
        /// The carry.
        directory: PathBuf,
    },
    /// A part of a carry that is in a volume elsewhere, or in what the carry is built on.
    #[error("it is in a volume that is not here, or in what the carry is built on")]
    NotHere,
    /// An image of which a part is missing.
    #[error("{}: {digest} is missing", layout.display())]
    Missing {
        /// The layout.
        layout: PathBuf,
        /// The part.
        digest: Digest,
    },
    /// A carry that lacks a part of an image.
    #[error("{image}: {digest}, which it needs, is neither in the carry nor in the layout")]
    Incomplete {
        /// The image, by digest.
        image: String,
        /// The part.
        digest: Digest,
    },
    /// A place that lacks what the carry is built on.
    #[error("{}: what this carry is built on is not here: {}, which carry {} brings", layout.display(), plural::count(*blobs, "blob"), carries.join(", "))]
    Base {
        /// The layout, or the registry's host.
        layout: PathBuf,
        /// How many.
        blobs: usize,
        /// The carries that bring them.
        carries: Vec<String>,
    },
    /// A layer that is built on and is not what it was.
    #[error("{}: is not what its name says, and the carry is built on it", path.display())]
    BaseDamaged {
        /// The blob.
        path: PathBuf,
    },
    /// A damaged carry without parity.
    #[error("{}: it was packed without parity, so nothing can be made again", path.display())]
    NoParity {
        /// The carry.
        path: PathBuf,
    },
    /// A receipt whose code does not fit the rest of it.
    #[error("{}: its code is not that of its carry and state", path.display())]
    Receipt {
        /// The file.
        path: PathBuf,
    },
    /// What is kept of layers for later carries.
    #[error("{}: contents that are kept there cannot be read or changed", place.display())]
    Kept {
        /// Where.
        place: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The disk is too small for what a carry holds.
    #[error("{}: the carry's contents need {needed} bytes more, and {free} are free", path.display())]
    NoRoom {
        /// Where they would be.
        path: PathBuf,
        /// Bytes.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// A blob that cannot be made.
    #[error("{digest} cannot be put together")]
    Blob {
        /// Which.
        digest: Digest,
        /// Why.
        source: io::Error,
    },
    /// Layers of our own that another version of zstd compressed.
    #[error("its layers were compressed by zstd {}.{}.{}, which this program has not", .0 / 10_000, .0 / 100 % 100, .0 % 100)]
    Library(u32),
    /// How a gzip file is made.
    #[error("{0}")]
    Recipe(#[from] encode::Error),
    /// The layout failed.
    #[error("{0}")]
    Layout(#[from] layout::Error),
    /// The file system failed.
    #[error("{0}")]
    Path(#[from] PathError),
    /// Reading or writing failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}
