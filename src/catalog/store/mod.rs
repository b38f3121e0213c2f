//! `catalog.db`: one snapshot in one SQLite file. The only SQL of the catalog is here.
//!
//! A finished file is never written to again: a new snapshot is made as a [`Draft`] beside it and takes its place by a
//! rename. So a [`Snapshot`] opens its file as immutable, which works on a read-only file system and as any user, and
//! keeps answering from the old file while a new one arrives.
//!
//! The **content digest** names what the snapshot answers, not how the file is laid out: the SHA-256 over the sorted,
//! distinct facts, a line each, fields separated by tabs, ended by a newline:
//!
//! ```text
//! chart     NAME  VERSION  KUBE-CONSTRAINT  PROVIDER-TYPE
//! digest    DIGEST
//! operator  CSV-NAME  OCP-VERSION  CHANNEL
//! tag       REGISTRY  REPOSITORY  TAG
//! ```
//!
//! Two snapshots with the same digest give the same answers, whenever and from wherever they were taken.

mod containers;
mod draft;
mod query;
mod schema;
mod search;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rusqlite::types::{Null, ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, OpenFlags, ToSql};
use serde::{Deserialize, Serialize};

pub(in crate::catalog) use self::containers::NO_DIGEST;
pub use self::containers::{Containers, Entry, Tagged};
pub use self::draft::{Draft, Open};
pub use self::query::Answer;
pub use self::search::{Found, Hit};
use crate::catalog::entry::{Instant, Kind};
use crate::fs::{self, PathError};

/// A finished snapshot, open for questions.
pub struct Snapshot {
    connection: Connection,
    path: PathBuf,
}

/// Why a file cannot be used as a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is none.
    #[error("{}: there is no snapshot", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Not SQLite, or SQLite of something else.
    #[error("{}: not a catalog snapshot", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Made by a newer haversack.
    #[error("{}: the snapshot has layout {found}, and this haversack knows layouts up to {known}", path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// The file's layout.
        found: i32,
        /// The newest known one.
        known: i32,
    },
    /// SQLite failed.
    #[error("{}: the snapshot cannot be read or written", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The file system failed.
    #[error("{0}")]
    Path(#[from] PathError),
}

/// What a snapshot is: when, from where, how much.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// The instant that the content is of, by the server's clock.
    pub taken: Instant,
    /// The content digest, see the module.
    pub digest: String,
    /// By kind, in the order operators, containers, charts.
    pub kinds: BTreeMap<Kind, KindInfo>,
}

/// What a snapshot holds of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindInfo {
    /// Bundles, images or chart versions.
    pub rows: u64,
    /// Distinct answers: CSV name and OpenShift version; digest; chart name and version.
    pub answers: u64,
    /// Where they came from: URL, directory or tree.
    pub source: String,
    /// Which of them: the filter that was asked with, or empty.
    #[serde(default)]
    pub filter: String,
    /// The instant that they are of.
    pub taken: Instant,
    /// The newest change of a row.
    #[serde(default)]
    pub newest: Instant,
    /// Most rows that a page of the source had.
    #[serde(default)]
    pub page_rows: u64,
    /// When everything was last read, rather than what changed.
    #[serde(default)]
    pub walked: Instant,
    /// The entity tags of conditional requests, by URL.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub etags: BTreeMap<String, String>,
}

impl Snapshot {
    /// Opens a finished snapshot for reading.
    pub fn open(path: &Path) -> Result<Self, Error> {
        if !path.is_file() {
            return Err(Error::Missing { path: path.to_owned() });
        }
        // SQLite would say "unable to open database file" of one that this user may not read.
        drop(fs::open_file(path)?);
        // In a URI, `?`, `#` and `%` of the path would mean something else, and so would two slashes at its start.
        let absolute = fs::PathContext::at(std::path::absolute(path), "find", path)?;
        let escaped = absolute.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let uri = format!("file://{escaped}?immutable=1");
        let connection = Connection::open_with_flags(uri, flags).map_err(|error| sqlite(path, error))?;
        // Spelled to read nothing that an index could answer: a truncated or foreign file fails here, by name.
        let (application, version) = schema::identify(&connection).map_err(|error| sqlite(path, error))?;
        if application != schema::APPLICATION_ID || version == 0 {
            return Err(Error::Foreign { path: path.to_owned() });
        }
        if version > schema::VERSION {
            return Err(Error::TooNew { path: path.to_owned(), found: version, known: schema::VERSION });
        }
        if !schema::is_ours(&connection, version).map_err(|error| sqlite(path, error))? {
            return Err(Error::Foreign { path: path.to_owned() });
        }
        Ok(Snapshot { connection, path: path.to_owned() })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// When, from where, how much.
    pub fn info(&self) -> Result<Info, Error> {
        let text: String = self
            .connection
            .query_row("SELECT value FROM meta WHERE key = 'info'", [], |row| row.get(0))
            .map_err(|error| sqlite(&self.path, error))?;
        serde_json::from_str(&text).map_err(|_| Error::Foreign { path: self.path.clone() })
    }

    /// Reads every page of the file and checks its structure.
    pub fn verify(&self) -> Result<(), Error> {
        let verdict: String = self
            .connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(|error| sqlite(&self.path, error))?;
        if verdict == "ok" { Ok(()) } else { Err(Error::Foreign { path: self.path.clone() }) }
    }

    /// Copies the file to `to`, which appears when it is whole.
    pub fn copy_to(&self, to: &Path) -> Result<(), Error> {
        let mut file = fs::AtomicFile::create(to)?;
        let mut from = fs::open(&self.path)?;
        fs::PathContext::at(std::io::copy(&mut from, &mut file), "write", to)?;
        Ok(file.finish()?)
    }
}

/// Turns an error of SQLite into ours, telling the ones that have a meaning for the user.
fn sqlite(path: &Path, source: rusqlite::Error) -> Error {
    use rusqlite::ErrorCode;
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => Error::Foreign { path },
        Some(ErrorCode::DiskFull) => {
            let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
            Error::Path(PathError { action: "write", path, source })
        }
        _ => Error::Sqlite { path, source },
    }
}

/// A text as it is stored: bytes where it is nothing but the digits of `prefix` and this many bytes, else as it is.
struct Packed<'a> {
    text: &'a str,
    prefix: &'static str,
    bytes: usize,
}

fn packed_digest(text: &str) -> Packed<'_> {
    Packed { text, prefix: DIGEST_PREFIX, bytes: 32 }
}

/// An empty `_id` is stored as NULL.
fn packed_id(text: &str) -> Packed<'_> {
    Packed { text, prefix: "", bytes: 12 }
}

impl ToSql for Packed<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        if self.text.is_empty() {
            return Null.to_sql().map(|_| ToSqlOutput::Owned(Value::Null));
        }
        let digits = self.text.strip_prefix(self.prefix).filter(|hex| hex.len() == 2 * self.bytes);
        let bytes: Option<Vec<u8>> = digits.and_then(|hex| {
            hex.as_bytes().chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
        });
        Ok(match bytes {
            Some(bytes) => ToSqlOutput::Owned(Value::Blob(bytes)),
            None => ToSqlOutput::Borrowed(ValueRef::Text(self.text.as_bytes())),
        })
    }
}

fn unpacked(value: ValueRef<'_>, prefix: &str) -> String {
    let mut text = String::new();
    unpacked_into(value, prefix, &mut text);
    text
}

/// Writes what [`unpacked`] gives behind what is there.
fn unpacked_into(value: ValueRef<'_>, prefix: &str, text: &mut String) {
    match value {
        ValueRef::Blob(bytes) => {
            text.push_str(prefix);
            crate::digest::hex_into(bytes, text);
        }
        ValueRef::Text(bytes) => text.push_str(&String::from_utf8_lossy(bytes)),
        _ => {}
    }
}

/// Only lower case: an upper-case digest is another text to everybody who compares bytes.
fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    }
}

const DIGEST_PREFIX: &str = "sha256:";
