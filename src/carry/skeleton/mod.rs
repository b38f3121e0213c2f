//! What is left of a tar when the contents of its files are taken out, and the tar again.
//!
//! A tar is a list of blocks of 512 bytes (POSIX.1-2024, pax, "ustar Interchange Format"). Whatever it is, splitting and
//! joining give its very bytes: what is not understood is raw content, to the end.
//!
//! ```text
//! a skeleton   VERSION, then each column: its length and its bytes
//!   ops        what comes next: a byte each
//!   flags      of each header: two bytes, a bit for each field that is as expected (as before, or computed)
//!   numbers    counts of zero blocks, of contents, lengths of what is cut
//!   fields     of each header, those of the 16 fields that are not as expected, a column each
//!   meta       the bodies of PAX headers and long names; the further blocks of GNU's sparse headers
//!   padding    where it is not zeros
//!   refs       which contents, each as the step from the one before
//! ```
//!
//! Headers of one program differ in little, and a column of one field compresses to hardly anything: a checksum that is
//! right, a size that is that of the content, an owner like the one before take a bit.

mod header;
mod join;
mod split;
#[cfg(test)]
mod tests;

pub(super) use self::join::Joined;
pub(super) use self::split::{Sink, Skeleton};
use crate::carry::skeleton::header::FIELDS;

const WHAT: &str = "a skeleton";
const VERSION: u8 = 1;

const OPS: usize = 0;
const FLAGS: usize = 1;
const NUMBERS: usize = 2;
const METAS: usize = 3;
const PADDINGS: usize = 4;
const FIRST_FIELD: usize = 5;
const COLUMNS: usize = FIRST_FIELD + FIELDS.len();

/// The archive is at its end.
const END: u8 = 0;
/// A number of blocks of zeros.
const ZEROS: u8 = 1;
/// A header without a body.
const HEADER: u8 = 2;
/// A header with a body of one content.
const BODY: u8 = 3;
/// A header with a body of a number of contents.
const PIECES: u8 = 4;
/// The same, after which the archive ends early.
const CUT: u8 = 5;
/// A header whose body lies in the column `meta`.
const META: u8 = 6;
/// The same, after which the archive ends early.
const META_CUT: u8 = 7;
/// The padding of the body before is not zeros, or too short.
const PADDING: u8 = 8;
/// A number of contents that are all the rest.
const RAW: u8 = 9;
/// Added to an op: further blocks of a sparse header lie in the column `meta`.
const FURTHER: u8 = 0x40;
