//! Writes tars whose bytes depend on nothing but their entries.
//!
//! Headers are ustar; a PAX header (POSIX.1-2001) precedes an entry that ustar cannot describe: names or link targets
//! above 100 bytes or outside ASCII, files of 8 GiB and more, large owners, extended attributes (`SCHILY.xattr.`, as
//! containers write them). There are no user names, no device numbers, no access times: what a header could tell about
//! the machine it was written on is not in it. One buffer is all that is held in memory.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use tar::{EntryType, Header};

/// What an entry has beside its name and content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits, with set-id and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Extended attributes by name.
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// Writes the entries of a tar in the order they are given, under names without a leading slash.
pub struct TarWriter<W: Write> {
    inner: W,
    buffer: Vec<u8>,
}

impl<W: Write> TarWriter<W> {
    /// Starts a tar.
    pub fn new(inner: W) -> Self {
        TarWriter { inner, buffer: vec![0; BUFFER] }
    }

    /// Adds a directory.
    pub fn directory(&mut self, path: &Path, meta: &Meta) -> io::Result<()> {
        self.header(EntryType::Directory, path, None, meta, 0)
    }

    /// Adds a file of exactly `size` bytes; a reader that gives fewer or more is an error.
    pub fn file(&mut self, path: &Path, meta: &Meta, size: u64, content: impl Read) -> io::Result<()> {
        self.header(EntryType::Regular, path, None, meta, size)?;
        let mut content = content.take(size.saturating_add(1));
        let mut read = 0;
        loop {
            let n = match content.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.inner.write_all(&self.buffer[..n])?;
            read += n as u64;
        }
        if read != size {
            let path = path.display();
            return Err(io::Error::other(format!("{path}: changed while it was read: expected {size} bytes")));
        }
        self.pad(size)
    }

    /// Adds a symbolic link with `target` as it stands.
    pub fn symlink(&mut self, path: &Path, meta: &Meta, target: &Path) -> io::Result<()> {
        self.header(EntryType::Symlink, path, Some(target), meta, 0)
    }

    /// Adds another name for the file `target`, which must have been added before.
    pub fn hard_link(&mut self, path: &Path, meta: &Meta, target: &Path) -> io::Result<()> {
        self.header(EntryType::Link, path, Some(target), meta, 0)
    }

    /// Removes `path` of the layers below (image-spec, `layer.md#whiteouts`).
    pub fn whiteout(&mut self, path: &Path, mtime: i64) -> io::Result<()> {
        let mut name = std::ffi::OsString::from(".wh.");
        name.push(path.file_name().unwrap_or_default());
        self.file(&path.with_file_name(name), &Meta { mtime, ..Meta::default() }, 0, io::empty())
    }

    /// Hides all that layers below have in the directory `path` (image-spec, `layer.md#opaque-whiteout`).
    pub fn opaque(&mut self, path: &Path, mtime: i64) -> io::Result<()> {
        self.file(&path.join(".wh..wh..opq"), &Meta { mtime, ..Meta::default() }, 0, io::empty())
    }

    /// Ends the tar and gives the writer underneath back.
    pub fn finish(mut self) -> io::Result<W> {
        self.inner.write_all(&[0; 2 * BLOCK])?;
        Ok(self.inner)
    }

    fn header(
        &mut self,
        kind: EntryType,
        path: &Path,
        target: Option<&Path>,
        meta: &Meta,
        size: u64,
    ) -> io::Result<()> {
        let mut name = path.as_os_str().as_bytes().to_vec();
        if kind == EntryType::Directory {
            name.push(b'/');
        }
        let target = target.map(|target| target.as_os_str().as_bytes()).unwrap_or_default();
        let mut pax = Vec::new();
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(meta.mode & 0o7777);
        header.set_size(fitting(size, MAX_12_DIGITS, "size", &mut pax));
        header.set_uid(fitting(meta.uid, MAX_8_DIGITS, "uid", &mut pax));
        header.set_gid(fitting(meta.gid, MAX_8_DIGITS, "gid", &mut pax));
        match u64::try_from(meta.mtime) {
            Ok(mtime) => header.set_mtime(fitting(mtime, MAX_12_DIGITS, "mtime", &mut pax)),
            Err(_) => record(&mut pax, "mtime", meta.mtime.to_string().as_bytes()),
        }
        if !fits(&name) {
            record(&mut pax, "path", &name);
        }
        if !fits(target) {
            record(&mut pax, "linkpath", target);
        }
        for (key, value) in &meta.xattrs {
            record(&mut pax, &format!("SCHILY.xattr.{key}"), value);
        }
        if !pax.is_empty() {
            let mut extended = Header::new_ustar();
            extended.set_entry_type(EntryType::XHeader);
            extended.set_mode(0o644);
            extended.set_uid(0);
            extended.set_gid(0);
            extended.set_mtime(0);
            extended.set_size(pax.len() as u64);
            put(&mut extended.as_ustar_mut().expect("made as ustar").name, b"PaxHeaders/entry");
            extended.set_cksum();
            self.inner.write_all(extended.as_bytes())?;
            self.inner.write_all(&pax)?;
            self.pad(pax.len() as u64)?;
        }
        let ustar = header.as_ustar_mut().expect("made as ustar");
        put(&mut ustar.name, &name);
        put(&mut ustar.linkname, target);
        header.set_cksum();
        self.inner.write_all(header.as_bytes())
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let over = usize::try_from(size % BLOCK as u64).expect("less than a block");
        if over > 0 { self.inner.write_all(&[0; BLOCK][over..]) } else { Ok(()) }
    }
}

/// The value, when its field can hold it; else zero, with a PAX record.
fn fitting(value: u64, max: u64, key: &str, pax: &mut Vec<u8>) -> u64 {
    if value <= max {
        return value;
    }
    record(pax, key, value.to_string().as_bytes());
    0
}

fn fits(name: &[u8]) -> bool {
    // A name that is not UTF-8 cannot stand in a PAX header, but as it is it can in a ustar one.
    name.len() <= 100 && (name.is_ascii() || std::str::from_utf8(name).is_err())
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself.
fn record(pax: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    pax.extend_from_slice(format!("{length} {key}=").as_bytes());
    pax.extend_from_slice(value);
    pax.push(b'\n');
}

fn put(field: &mut [u8; 100], bytes: &[u8]) {
    let n = bytes.len().min(field.len());
    field[..n].copy_from_slice(&bytes[..n]);
}

/// What tar counts in.
const BLOCK: usize = 512;
/// As much of a file is read at one time: large enough that neither calls nor the compressor's own buffering count.
const BUFFER: usize = 128 << 10;
const MAX_12_DIGITS: u64 = 0o77_777_777_777;
const MAX_8_DIGITS: u64 = 0o7_777_777;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ustar_cannot_hold_is_read_back_from_pax() {
        let long = format!("{}/{}", "d".repeat(120), "f".repeat(130));
        let xattrs = BTreeMap::from([("security.capability".to_owned(), vec![1, 0, 0, 2])]);
        let meta = Meta { mode: 0o4755, uid: 3_000_000, gid: 7, mtime: 1_700_000_000, xattrs };
        let mut writer = TarWriter::new(Vec::new());
        writer.file(Path::new(&long), &meta, 3, &b"abc"[..]).unwrap();
        writer.hard_link(Path::new("Grüße"), &Meta::default(), Path::new(&long)).unwrap();
        let bytes = writer.finish().unwrap();

        let mut archive = tar::Archive::new(&bytes[..]);
        let mut seen = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let pax: Vec<_> = match entry.pax_extensions().unwrap() {
                Some(records) => records.map(|record| record.unwrap().key().unwrap().to_owned()).collect(),
                None => Vec::new(),
            };
            let link = entry.link_name().unwrap().map(|link| link.display().to_string());
            seen.push((entry.path().unwrap().display().to_string(), link, entry.header().mode().unwrap(), pax));
        }
        assert_eq!(
            seen,
            [
                (
                    long.clone(),
                    None,
                    0o4755,
                    vec!["uid".to_owned(), "path".into(), "SCHILY.xattr.security.capability".into()]
                ),
                ("Grüße".to_owned(), Some(long), 0, vec!["path".into(), "linkpath".into()]),
            ]
        );
    }

    #[test]
    fn a_file_of_8_gib_has_its_size_in_pax() {
        let mut writer = TarWriter::new(Vec::new());
        let mut pax = Vec::new();
        assert_eq!(fitting(8 << 30, MAX_12_DIGITS, "size", &mut pax), 0);
        assert_eq!(pax, b"19 size=8589934592\n");
        writer.header(EntryType::Regular, Path::new("big"), None, &Meta::default(), 8 << 30).unwrap();
        // A PAX header, its record and the entry's own header.
        assert_eq!(writer.inner.len(), 3 * 512);
    }

    #[test]
    fn a_record_counts_its_own_length() {
        for value in [1, 80, 90, 91, 92, 93, 94, 95, 980, 990, 995] {
            let mut pax = Vec::new();
            record(&mut pax, "path", &vec![b'x'; value]);
            let text = String::from_utf8(pax).unwrap();
            assert_eq!(text.split_once(' ').unwrap().0.parse(), Ok(text.len()));
        }
    }

    #[test]
    fn a_file_that_shrinks_or_grows_while_it_is_read_is_an_error() {
        for content in ["ab", "abcd"] {
            let error =
                TarWriter::new(Vec::new()).file(Path::new("x"), &Meta::default(), 3, content.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), "x: changed while it was read: expected 3 bytes");
        }
    }
}
