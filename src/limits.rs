//! How much of anything is taken from outside: one table for every reader.
//!
//! A small input must not become gigabytes of memory, an endless loop or an abort. Each limit is far above what is met in
//! the field and far below what hurts; its reason stands beside it. A reader that meets more says so with [`Exceeded`],
//! which names what there was too much of, and never cuts off in silence.
//!
//! What is streamed (blobs, packages, files in layers) needs no limit of memory and has none here.

use std::io::{self, BufRead, Read};

/// Bytes of a path in an archive, a header or a list: `PATH_MAX` of Linux, beyond which no file could be opened.
pub const NAME_BYTES: usize = 4096;

/// Directories in such a path. Linux's own tree is 20 deep, node_modules some 60; each level costs a node in memory and a
/// step of every walk.
pub const NAME_DEPTH: usize = 256;

/// Bytes of an extended header before the thing it describes: a PAX record set, a GNU long name, a deb's or an ar's
/// member name. Real ones have a few KiB (extended attributes, ACLs, capabilities).
pub const HEADER: u64 = 1 << 20;

/// Bytes of an attribute, a tag or a text in XML. The longest in real `primary.xml` files are descriptions of 20 KiB.
pub const XML_PIECE: usize = 64 << 10;

/// How deep elements, brackets, arrays or alternatives may be nested. Real documents stay below ten.
pub const NESTING: usize = 64;

/// Packages in one list. All of Debian has 70,000, all of Fedora 80,000.
pub const PACKAGES: usize = 1_000_000;

/// Bytes of what is kept of the packages of one list: their names, places and relations. All kernels of Ubuntu take 20 MiB, all
/// of Fedora 150.
pub const KEPT: usize = 256 << 20;

/// What a package takes beside its texts, in bytes.
pub const PACKAGE_OVERHEAD: usize = 512;

/// What a name that a package requires or provides takes beside its text, in bytes.
pub const RELATION_OVERHEAD: usize = 128;

/// Names that a package requires or provides, in one package. kernel-core provides 4,000 symbols and modules.
pub const RELATIONS: usize = 100_000;

/// Entries of an rpm's header. rpm's own bounds are 64 Ki and 256 MiB of data.
pub const RPM_ENTRIES: usize = 1 << 16;

/// Bytes of an rpm's header. Those of the largest kernel packages have 4 MiB.
pub const RPM_HEADER: usize = 32 << 20;

/// Texts in an rpm's header: six for each of 300,000 files.
pub const RPM_TEXTS: usize = 2_000_000;

/// Lines of a deb's control file. Those of kernels have 30, descriptions some hundred.
pub const CONTROL_LINES: usize = 100_000;

/// Packages that one choice is made of. Whole distributions' minimal systems have some 500; Debian's longest chain is some 60.
pub const CHOSEN: usize = 5000;

/// Steps of the search for packages that fit together. A toolkit has some 150 packages; going back a few times multiplies that.
pub const SEARCHED: u32 = 200_000;

/// Bytes of a document that is held whole: a manifest, an index, an image's configuration (distribution-spec: registries
/// refuse manifests above 4 MiB).
pub const DOCUMENT: u64 = 4 << 20;

/// How many lists of manifests may lie in each other.
pub const INDEX_LEVELS: usize = 4;

/// Bytes of the package databases in all layers of an image, which wait in files. rpm's of a full desktop has 200 MiB.
pub const PACKAGE_DATABASES: u64 = 256 << 20;

/// Bytes of a key ring.
pub const KEYRING: u64 = 16 << 20;

/// Bytes of a kernel set. One of 100,000 kernels has some 100 MiB.
pub const KERNEL_SET: u64 = 1 << 30;

/// Bytes of a chart index. charts.openshift.io has 11 MB.
pub const CHART_INDEX: u64 = 64 << 20;

/// How many times its size an archive that is compressed as a whole may take when it is decompressed into a temporary file: layers
/// are compressed already, or are programs and texts that become a fifth. gzip's most is 1,032.
pub const SPOOLED_RATIO: u64 = 100;

/// What such an archive may take in any case, in bytes: small ones of zeros are made for tests.
pub const SPOOLED: u64 = 1 << 30;

/// Entries of a tar, cpio or ar archive, of a layer's tree, of a layout's index. The largest images have 500,000 files.
pub const ENTRIES: usize = 4_000_000;

/// Bytes of the manifests and configurations that are shown of one image, whatever its index lists. Real ones have 100 KiB; JSON takes
/// up to thirty times its size in memory.
pub const SHOWN: usize = 8 << 20;

/// Names in a registry's list of tags or repositories. quay.io's largest have 100,000.
pub const LISTED: usize = 1_000_000;

/// Requests for the pages of one list.
pub const PAGES: usize = 10_000;

/// Requests for the pages of one list of referrers.
pub const REFERRER_PAGES: usize = 1_000;

/// Referrers of one image, those of referrers included.
pub const REFERRERS: usize = 10_000;

/// Links followed on the way to one file (`MAXSYMLINKS` of Linux).
pub const LINKS: usize = 40;

/// There is more of something than is taken.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("more than {limit} {what}")]
pub struct Exceeded {
    /// What there is too much of, in the plural: `packages`, `bytes in a name`.
    pub what: &'static str,
    /// The most that is taken.
    pub limit: u64,
}

impl Exceeded {
    /// More than `limit` of `what`.
    pub fn new(what: &'static str, limit: usize) -> Self {
        Exceeded { what, limit: limit as u64 }
    }
}

impl From<Exceeded> for io::Error {
    fn from(exceeded: Exceeded) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, exceeded)
    }
}

/// Checks the length and the depth of a path from outside.
pub fn name(path: &[u8]) -> Result<(), Exceeded> {
    at_most(path.len(), NAME_BYTES, "bytes in a name")?;
    let parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    at_most(parts.count(), NAME_DEPTH, "directories in a name")
}

/// Checks a count that is known.
pub fn at_most(count: usize, limit: usize, what: &'static str) -> Result<(), Exceeded> {
    if count > limit { Err(Exceeded::new(what, limit)) } else { Ok(()) }
}

/// Checks a size, in bytes, that a header announces, before anything is reserved for it.
pub fn bytes(size: u64, limit: u64, what: &'static str) -> Result<(), Exceeded> {
    if size > limit { Err(Exceeded { what, limit }) } else { Ok(()) }
}

/// Counts what is met one by one, up to a limit.
#[derive(Clone, Debug)]
pub struct Count {
    what: &'static str,
    left: usize,
    limit: usize,
}

impl Count {
    /// Starts at none.
    pub fn new(what: &'static str, limit: usize) -> Self {
        Count { what, left: limit, limit }
    }

    /// Counts one more.
    pub fn one(&mut self) -> Result<(), Exceeded> {
        self.several(1)
    }

    /// Counts so many more.
    pub fn several(&mut self, n: usize) -> Result<(), Exceeded> {
        self.left = self.left.checked_sub(n).ok_or(Exceeded::new(self.what, self.limit))?;
        Ok(())
    }
}

/// Checks how deep the tables of a TOML document are: dotted keys in tables in tables, each within the limits of the parser, make
/// a tree that it, and whoever walks it, goes down with a call for each level.
pub fn toml(text: &str) -> Result<(), Exceeded> {
    let (mut header, mut levels, mut dots) = (0, Vec::new(), 0);
    for line in outside_strings(text).lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if levels.is_empty() && line.starts_with('[') {
            header = line.bytes().filter(|byte| *byte == b'.').count();
            at_most(header, NESTING, "levels of nesting")?;
            continue;
        }
        for byte in line.bytes() {
            match byte {
                b'.' => dots += 1,
                b'{' | b'[' => levels.push(std::mem::take(&mut dots)),
                b'}' | b']' => dots = levels.pop().unwrap_or(0),
                b',' => dots = 0,
                _ => continue,
            }
            at_most(header + dots + levels.len() + levels.iter().sum::<usize>(), NESTING, "levels of nesting")?;
        }
        dots = 0;
    }
    Ok(())
}

/// A TOML document without what is in its strings.
fn outside_strings(text: &str) -> String {
    let mut outside = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['"', '\'', '#']) {
        let (before, from) = rest.split_at(at);
        outside.push_str(before);
        if from.starts_with('#') {
            rest = from.find('\n').map_or("", |end| &from[end..]);
            continue;
        }
        let quote = ["\"\"\"", "\'\'\'", "\"", "\'"].into_iter().find(|quote| from.starts_with(quote)).unwrap_or("\"");
        let inner = &from[quote.len()..];
        let is_end = |(at, _): &(usize, &str)| {
            // A quote behind an odd number of backslashes is none, in the kind of strings that has escapes.
            let escapes = inner[..*at].bytes().rev().take_while(|byte| *byte == b'\\').count();
            quote.starts_with('\'') || escapes % 2 == 0
        };
        let end = inner.match_indices(quote).find(is_end).map(|(at, _)| at + quote.len());
        // A string of one line that has no end there is an error, which the parser finds.
        let end = end.filter(|end| quote.len() == 3 || !inner[..*end].contains('\n'));
        rest = end.map_or_else(|| inner.find('\n').map_or("", |end| &inner[end..]), |end| &inner[end..]);
    }
    outside.push_str(rest);
    outside
}

/// The sum of sizes, in bytes, that documents from outside state: as much as there can be where it would be more.
pub fn total(sizes: impl IntoIterator<Item = u64>) -> u64 {
    sizes.into_iter().fold(0, u64::saturating_add)
}

/// Counts the bytes that are kept of a list of packages.
pub fn kept() -> Count {
    Count::new("bytes of packages in one list", KEPT)
}

/// Depth in something nested: [`Depth::enter`] and [`Depth::leave`] around each level, for readers that keep their own stack.
#[derive(Clone, Debug, Default)]
pub struct Depth(usize);

impl Depth {
    /// One level further in, at most [`NESTING`].
    pub fn enter(&mut self) -> Result<(), Exceeded> {
        self.0 += 1;
        at_most(self.0, NESTING, "levels of nesting")
    }

    /// One level out.
    pub fn leave(&mut self) {
        self.0 = self.0.saturating_sub(1);
    }
}

/// A reader for parsers that collect a piece (an XML event, a line, a header) before they hand it out: no piece may be longer
/// than the limit. [`Pieces::next_piece`] is called between pieces.
pub struct Pieces<R> {
    inner: R,
    what: &'static str,
    limit: usize,
    read: usize,
}

impl<R> Pieces<R> {
    /// Lets pieces of at most `limit` bytes through; `what` names them in the error, such as `bytes in an XML tag or text`.
    pub fn new(inner: R, limit: usize, what: &'static str) -> Self {
        Pieces { inner, what, limit, read: 0 }
    }

    /// What is read from here on belongs to another piece.
    pub fn next_piece(&mut self) {
        self.read = 0;
    }

    /// The reader below.
    pub fn into_inner(self) -> R {
        self.inner
    }
}

impl<R: BufRead> BufRead for Pieces<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let room = self.limit.saturating_sub(self.read);
        let buffer = self.inner.fill_buf()?;
        if room == 0 && !buffer.is_empty() {
            return Err(Exceeded::new(self.what, self.limit).into());
        }
        Ok(&buffer[..buffer.len().min(room)])
    }

    fn consume(&mut self, n: usize) {
        self.read += n;
        self.inner.consume(n);
    }
}

impl<R: BufRead> Read for Pieces<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(buf)?;
        self.consume(n);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_up_to_a_length_and_a_depth() {
        for (path, exceeded) in [
            ("a/b".to_owned(), None),
            ("a".repeat(NAME_BYTES), None),
            ("a".repeat(NAME_BYTES + 1), Some("more than 4096 bytes in a name")),
            ("a/".repeat(NAME_DEPTH), None),
            ("./a//".repeat(NAME_DEPTH), None),
            ("a/".repeat(NAME_DEPTH + 1), Some("more than 256 directories in a name")),
        ] {
            let found = name(path.as_bytes()).err().map(|exceeded| exceeded.to_string());
            assert_eq!(found.as_deref(), exceeded, "{} bytes", path.len());
        }
    }

    #[test]
    fn tables_in_toml_are_as_deep_as_they_look() {
        let dotted = |n: usize| vec!["a"; n].join(".");
        for (text, is_taken) in [
            (format!("[{}]\nb = 1\n", dotted(NESTING)), true),
            (format!("[{}]\nb = 1\n", dotted(NESTING + 2)), false),
            (format!("[{}]\n{} = 1\n", dotted(40), dotted(40)), false),
            (format!("{} = {{ {} = 1 }}\n", dotted(40), dotted(40)), false),
            ("a = [\n".repeat(NESTING + 1), false),
            // Text, and many of one depth.
            (format!("a = '{}'\nb = \"{}\\\".\"\n# {}\n", dotted(500), dotted(500), dotted(500)), true),
            (format!("a = \"\"\"\n{}\n\"\"\"\nb = [{}]\n", dotted(500), "{ c.d = 1.5 }, ".repeat(500)), true),
            ("a.b.c = 1\n".repeat(500), true),
        ] {
            assert_eq!(toml(&text).is_ok(), is_taken, "{text}");
        }
    }

    #[test]
    fn what_is_counted_ends_at_the_limit() {
        let mut count = Count::new("packages", 3);
        assert_eq!((count.several(3), count.one()), (Ok(()), Err(Exceeded::new("packages", 3))));
        let mut depth = Depth::default();
        for _ in 0..1000 {
            depth.enter().unwrap();
            depth.leave();
        }
        assert!((0..=NESTING).map(|_| depth.enter()).collect::<Result<Vec<_>, _>>().is_err());
    }

    #[test]
    fn a_piece_may_be_as_long_as_the_limit_and_the_next_one_too() {
        let text = b"123\n123\n1234\n";
        let mut lines = Pieces::new(&text[..], 4, "bytes in a line");
        let mut line = Vec::new();
        for _ in 0..2 {
            lines.next_piece();
            lines.read_until(b'\n', &mut line).unwrap();
        }
        lines.next_piece();
        let error = lines.read_until(b'\n', &mut line).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string()),
            (io::ErrorKind::InvalidData, "more than 4 bytes in a line".into())
        );
    }
}
