//! Which packages an image has installed, by the databases of its package managers.
//!
//! ```text
//! /var/lib/dpkg/status, /var/lib/dpkg/status.d/*      dpkg; the second in images without a shell
//! /lib/apk/db/installed, /usr/lib/apk/db/installed    apk
//! /var/lib/rpm/rpmdb.sqlite, /usr/lib/sysimage/rpm/rpmdb.sqlite    rpm 4.16 and later: SQLite, a header each
//! ```
//!
//! rpm's older databases (Berkeley DB, NDB) are told and not read.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use crate::fs::{self, PathContext, PathError};
use crate::limits::{self, Count};
use crate::tarball;

/// Packages by name, `NAME.ARCHITECTURE` where a manager has several of one name; each with its versions.
pub type Packages = BTreeMap<String, BTreeSet<String>>;

/// What was found in layers.
#[derive(Debug, Default)]
pub struct Databases {
    /// Files by their name in the image; contents lie where they were put.
    found: BTreeMap<String, PathBuf>,
    /// Names that an upper layer has taken away, or replaced by something else.
    hidden: BTreeSet<String>,
    /// Files that were written.
    written: usize,
    /// Their bytes.
    bytes: u64,
}

/// Why a database cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One of a kind that is not read.
    #[error("/{0} is a database of rpm's in a format that is not read")]
    Format(String),
    /// One that is damaged.
    #[error("/{name}: {why}")]
    Damaged {
        /// Its name in the image.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// The file system failed.
    #[error("{0}")]
    Path(#[from] PathError),
    /// Reading a layer failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Databases {
    /// Looks through a layer, given as its uncompressed tar; the uppermost comes first. Files are put into `work`, which
    /// takes [`limits::PACKAGE_DATABASES`] bytes at most for all layers.
    pub fn look(&mut self, tar: impl Read, work: &Path) -> Result<(), Error> {
        let mut count = Count::new("entries in layers", limits::ENTRIES);
        let (mut here, mut gone) = (BTreeMap::new(), Vec::new());
        let mut archive = tarball::open(tar);
        for entry in archive.entries()? {
            let mut entry = entry?;
            count.one().map_err(io::Error::from)?;
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let name = path.trim_start_matches("./").trim_matches('/').to_owned();
            let (parent, last) = name.rsplit_once('/').unwrap_or(("", &name));
            if last == ".wh..wh..opq" {
                gone.push(parent.to_owned());
            } else if let Some(hidden) = last.strip_prefix(".wh.") {
                gone.push(if parent.is_empty() { hidden.to_owned() } else { format!("{parent}/{hidden}") });
            } else if is_database(&name) && !self.is_settled(&name) {
                // What is a link or a directory there is no database, and hides one below.
                if !entry.header().entry_type().is_file() {
                    gone.push(name);
                    continue;
                }
                let to = work.join(format!("database-{}", self.written));
                self.written += 1;
                let mut file = fs::create_new(&to)?;
                let room = limits::PACKAGE_DATABASES - self.bytes;
                let copied = io::copy(&mut entry.by_ref().take(room + 1), &mut file).at("write", &to)?;
                if copied > room {
                    let why = format!("up to here the databases have more than {} bytes", limits::PACKAGE_DATABASES);
                    return Err(Error::Damaged { name, why });
                }
                self.bytes += copied;
                here.insert(name, to);
            }
        }
        self.found.extend(here);
        self.hidden.extend(gone);
        Ok(())
    }

    /// Whether an upper layer has said what the name is.
    fn is_settled(&self, name: &str) -> bool {
        let under = |hidden: &String| {
            name.strip_prefix(hidden.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.found.contains_key(name) || self.hidden.iter().any(under)
    }

    /// Whether nothing was found and nothing taken away: what lies below counts.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty() && self.hidden.iter().all(|hidden| !may_hide(hidden))
    }

    /// Reads them.
    pub fn packages(&self) -> Result<Packages, Error> {
        let mut packages = Packages::new();
        for (name, path) in &self.found {
            if name.ends_with(".sqlite") {
                rpm(name, path, &mut packages)?;
            } else if name.contains("rpm/") {
                return Err(Error::Format(name.clone()));
            } else {
                let bytes = fs::read(path, limits::PACKAGE_DATABASES)?;
                let text = String::from_utf8_lossy(&bytes);
                if name.contains("apk/") { apk(&text, &mut packages) } else { dpkg(&text, &mut packages) }
            }
        }
        Ok(packages)
    }
}

fn is_database(name: &str) -> bool {
    NAMES.contains(&name)
        || name
            .strip_prefix("var/lib/dpkg/status.d/")
            .is_some_and(|file| !file.contains('/') && !file.ends_with(".md5sums"))
}

fn may_hide(hidden: &str) -> bool {
    let under = |name: &&str| name.strip_prefix(hidden).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    hidden.is_empty() || NAMES.iter().any(under) || hidden.starts_with("var/lib/dpkg/status.d")
}

fn dpkg(text: &str, packages: &mut Packages) {
    for paragraph in text.split("\n\n") {
        let field =
            |name: &str| paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim));
        // What was removed and has left its settings is not installed; images without a shell have no status.
        let is_installed = field("Status").is_none_or(|status| status.ends_with(" installed"));
        if let (Some(name), Some(version), true) = (field("Package"), field("Version"), is_installed) {
            let name = match field("Architecture") {
                Some(architecture) => format!("{name}.{architecture}"),
                None => name.to_owned(),
            };
            packages.entry(name).or_default().insert(version.to_owned());
        }
    }
}

fn apk(text: &str, packages: &mut Packages) {
    for paragraph in text.split("\n\n") {
        let field = |name: &str| paragraph.lines().find_map(|line| line.strip_prefix(name));
        if let (Some(name), Some(version)) = (field("P:"), field("V:")) {
            packages.entry(name.to_owned()).or_default().insert(version.to_owned());
        }
    }
}

fn rpm(name: &str, path: &Path, packages: &mut Packages) -> Result<(), Error> {
    let damaged = |why: String| Error::Damaged { name: name.to_owned(), why };
    let sql = |error: rusqlite::Error| damaged(error.to_string());
    let mut start = Vec::new();
    fs::open_regular(path)?.take(16).read_to_end(&mut start).at("read", path)?;
    if start != b"SQLite format 3\0" {
        return Err(damaged("it is no database of SQLite".to_owned()));
    }
    // Its log is not in the layer; nothing else writes it.
    let mut uri = url::Url::from_file_path(path).map_err(|()| damaged("its path is not absolute".to_owned()))?;
    uri.set_query(Some("immutable=1"));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(uri.as_str(), flags).map_err(sql)?;
    let mut statement = connection.prepare("SELECT blob FROM Packages").map_err(sql)?;
    let mut rows = statement.query([]).map_err(sql)?;
    while let Some(row) = rows.next().map_err(sql)? {
        let header = row.get_ref(0).and_then(|value| Ok(value.as_blob()?)).map_err(sql)?;
        let package = Header::parse(header).and_then(|header| header.package());
        let (name, version) = package.ok_or_else(|| damaged("a package's header is cut off".to_owned()))?;
        packages.entry(name).or_default().insert(version);
    }
    Ok(())
}

/// A header as rpm's database has it: numbers of entries and of bytes, the entries, the bytes.
struct Header<'a> {
    entries: &'a [u8],
    data: &'a [u8],
}

impl<'a> Header<'a> {
    fn parse(blob: &'a [u8]) -> Option<Self> {
        let (counts, rest) = blob.split_at_checked(8)?;
        let entries = usize::try_from(word(counts)?).ok()?.checked_mul(ENTRY)?;
        let (entries, data) = rest.split_at_checked(entries)?;
        Some(Header { entries, data: data.get(..usize::try_from(word(&counts[4..])?).ok()?)? })
    }

    /// The bytes of a tag, from its first on.
    fn tag(&self, tag: u32) -> Option<&'a [u8]> {
        let entry = self.entries.chunks_exact(ENTRY).find(|entry| word(entry) == Some(tag))?;
        self.data.get(usize::try_from(word(&entry[8..])?).ok()?..)
    }

    fn text(&self, tag: u32) -> Option<String> {
        let bytes = self.tag(tag)?;
        let end = bytes.iter().position(|byte| *byte == 0)?;
        Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }

    /// `NAME.ARCHITECTURE` and `[EPOCH:]VERSION-RELEASE`. Keys that were imported are no packages of an architecture.
    fn package(&self) -> Option<(String, String)> {
        let (name, version, release) = (self.text(1000)?, self.text(1001)?, self.text(1002)?);
        let epoch = self.tag(1003).and_then(word).map(|epoch| format!("{epoch}:")).unwrap_or_default();
        let name = match self.text(1022) {
            Some(architecture) => format!("{name}.{architecture}"),
            None => name,
        };
        Some((name, format!("{epoch}{version}-{release}")))
    }
}

fn word(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|word| u32::from_be_bytes(*word))
}

/// Bytes of an entry of a header: tag, type, offset, count.
const ENTRY: usize = 16;

const NAMES: [&str; 9] = [
    "var/lib/dpkg/status",
    "lib/apk/db/installed",
    "usr/lib/apk/db/installed",
    "var/lib/rpm/rpmdb.sqlite",
    "usr/lib/sysimage/rpm/rpmdb.sqlite",
    "var/lib/rpm/Packages",
    "usr/lib/sysimage/rpm/Packages",
    "var/lib/rpm/Packages.db",
    "usr/lib/sysimage/rpm/Packages.db",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, name, *bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn packages(layers: &[Vec<u8>]) -> Vec<String> {
        let work = tempfile::tempdir().unwrap();
        let mut databases = Databases::default();
        for layer in layers.iter().rev() {
            databases.look(&layer[..], work.path()).unwrap();
        }
        let found = databases.packages().unwrap();
        found
            .iter()
            .flat_map(|(name, versions)| versions.iter().map(move |version| format!("{name} {version}")))
            .collect()
    }

    const ONE: &[u8] = b"Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5.2-1\n\n\
                         Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n";
    const TWO: &[u8] = b"Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5.2-2\n\n\
                         Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36\n\n\
                         Package: libc6\nStatus: install ok installed\nArchitecture: i386\nVersion: 2.36\n";

    #[test]
    fn many_databases_take_no_more_room_than_one_may() {
        let work = tempfile::tempdir().unwrap();
        let name = |file: char| format!("var/lib/dpkg/status.d/{file}");
        let (a, b) = (name('a'), name('b'));
        let layer = tar(&[(&a, ONE), (&b, TWO)]);
        let both = (ONE.len() + TWO.len()) as u64;
        let mut databases = Databases { bytes: limits::PACKAGE_DATABASES - both, ..Databases::default() };
        databases.look(&layer[..], work.path()).unwrap();
        let mut databases = Databases { bytes: limits::PACKAGE_DATABASES - both + 1, ..Databases::default() };
        let other = tempfile::tempdir().unwrap();
        let error = databases.look(&layer[..], other.path()).unwrap_err().to_string();
        assert_eq!(error, format!("/{b}: up to here the databases have more than 268435456 bytes"));
    }

    #[test]
    fn the_uppermost_database_counts_and_what_is_taken_away_does_not() {
        let status = "var/lib/dpkg/status";
        let one = ["bash.amd64 5.2-1"];
        let two = ["bash.amd64 5.2-2", "libc6.amd64 2.36", "libc6.i386 2.36"];
        let apk = &b"C:Q1\nP:musl\nV:1.2.4-r2\nA:x86_64\n\nC:Q2\nP:zlib\nV:1.3-r0\n\n"[..];
        for (case, layers, expected) in [
            ("one", vec![tar(&[(status, ONE)])], &one[..]),
            ("two", vec![tar(&[(status, ONE)]), tar(&[("./var/lib/dpkg/status", TWO)])], &two[..]),
            ("other layers", vec![tar(&[(status, TWO)]), tar(&[("etc/x", b"")])], &two[..]),
            ("taken away", vec![tar(&[(status, TWO)]), tar(&[("var/lib/dpkg/.wh.status", b"")])], &[]),
            ("with its directory", vec![tar(&[(status, TWO)]), tar(&[("var/lib/.wh.dpkg", b"")])], &[]),
            ("opaque", vec![tar(&[(status, TWO)]), tar(&[("var/.wh..wh..opq", b"")])], &[]),
            ("opaque and new", vec![tar(&[(status, TWO)]), tar(&[("var/.wh..wh..opq", b""), (status, ONE)])], &one[..]),
            (
                "without a shell",
                vec![tar(&[("var/lib/dpkg/status.d/base", b"Package: base\nVersion: 12\n")])],
                &["base 12"],
            ),
            ("apk", vec![tar(&[("lib/apk/db/installed", apk)])], &["musl 1.2.4-r2", "zlib 1.3-r0"]),
        ] {
            assert_eq!(packages(&layers), expected, "{case}");
        }
    }

    #[test]
    fn databases_that_cannot_be_read_are_errors() {
        let of = |name: &str, bytes: &[u8]| {
            let work = tempfile::tempdir().unwrap();
            let mut databases = Databases::default();
            databases.look(&tar(&[(name, bytes)])[..], work.path()).unwrap();
            databases.packages().unwrap_err().to_string()
        };
        for (name, bytes, expected) in [
            (
                "var/lib/rpm/Packages",
                &b"\0"[..],
                "/var/lib/rpm/Packages is a database of rpm's in a format that is not read",
            ),
            ("var/lib/rpm/rpmdb.sqlite", b"", "/var/lib/rpm/rpmdb.sqlite: it is no database of SQLite"),
            (
                "usr/lib/sysimage/rpm/rpmdb.sqlite",
                b"SQLite format 3\0....",
                "/usr/lib/sysimage/rpm/rpmdb.sqlite: file is not a database",
            ),
        ] {
            assert_eq!(of(name, bytes), expected);
        }
    }

    #[test]
    fn headers_that_lie_are_none() {
        for bytes in [&b""[..], b"\0\0\0\x01\0\0\0\x01", &[0xff; 64], b"\0\0\0\0\0\0\0\x09"] {
            assert!(Header::parse(bytes).and_then(|header| header.package()).is_none());
        }
    }
}
