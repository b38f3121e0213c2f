//! `.haversack/serve.db` in the layout that takes pushes: what a registry knows and a layout cannot say. Of other layouts only
//! `checked` is kept, in the directory for such things that the server is given.
//!
//! ```text
//! member   repository, digest    a blob that was pushed or mounted there; needed until a manifest there needs it
//! upload   id, repository        uploads under way, whose bytes are in .haversack/uploads/ID
//! checked  digest, stamp, good   what was found when a blob's bytes were read, and when: no restart reads a terabyte again
//! ```
//!
//! Everything else is in the layout: tags as names, and manifests that only their digest is known of as `REPOSITORY@DIGEST`. So a
//! layout that is carried elsewhere without this file has lost nothing but blobs that no manifest needs, and when the file is
//! damaged another one is begun. It is not in `index.json` because that lists manifests, not blobs, and is written whole for each
//! change.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use crate::digest::Digest;
use crate::fs::{self, PathError};
use crate::serve::stamp::{Checked, Stamp, now};
use crate::sqlite;

/// The file, open.
pub(super) struct Ledger {
    connection: Mutex<Connection>,
}

/// Why it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database.
    #[error("{}: cannot be used", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// Of a newer haversack.
    #[error("{}: made by a newer haversack (version {found}, this one knows {VERSION})", path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i32,
    },
    /// Its directory.
    #[error("{0}")]
    Path(#[from] PathError),
}

type Result<T> = std::result::Result<T, rusqlite::Error>;

impl Ledger {
    /// Opens the file in a directory, or makes one. A damaged one is put aside.
    pub(super) fn open(directory: &Path) -> std::result::Result<Self, Error> {
        let path = directory.join(NAME);
        match connect(&path) {
            Err(Error::Sqlite { source, .. }) if sqlite::is_damaged(&source) => {
                let aside = directory.join("serve.db.damaged");
                tracing::warn!("{}: damaged ({source}), moved to {}", path.display(), aside.display());
                fs::rename(&path, &aside)?;
                connect(&path)
            }
            connected => connected,
        }
        .map(|connection| Ledger { connection: Mutex::new(connection) })
    }

    /// Whether a blob was pushed to a repository.
    pub(super) fn is_member(&self, repository: &str, digest: &Digest) -> Result<bool> {
        let sql = "SELECT 1 FROM member WHERE repository = ?1 AND digest = ?2";
        self.with(|it| it.prepare_cached(sql)?.exists(params![repository, digest.as_str()]))
    }

    /// Whether it was pushed to any.
    pub(super) fn is_anywhere(&self, digest: &Digest) -> Result<bool> {
        self.with(|it| it.prepare_cached("SELECT 1 FROM member WHERE digest = ?1")?.exists([digest.as_str()]))
    }

    pub(super) fn add_member(&self, repository: &str, digest: &Digest) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO member VALUES (?1, ?2, ?3)";
        self.with(|it| it.prepare_cached(sql)?.execute(params![repository, digest.as_str(), now()])).map(drop)
    }

    /// Whether it was one.
    pub(super) fn remove_member(&self, repository: &str, digest: &Digest) -> Result<bool> {
        let sql = "DELETE FROM member WHERE repository = ?1 AND digest = ?2";
        self.with(|it| it.prepare_cached(sql)?.execute(params![repository, digest.as_str()])).map(|n| n > 0)
    }

    /// Says that a blob was asked for where it was pushed: whoever did may not push it again.
    pub(super) fn renew_member(&self, repository: &str, digest: &Digest) -> Result<()> {
        let sql = "UPDATE member SET since = ?3 WHERE repository = ?1 AND digest = ?2 AND since < ?3 - 60";
        self.with(|it| it.prepare_cached(sql)?.execute(params![repository, digest.as_str(), now()])).map(drop)
    }

    /// Every blob that was pushed, and when last, in seconds since 1970.
    pub(super) fn members(&self) -> Result<HashMap<Digest, i64>> {
        let read = |row: &rusqlite::Row| Ok((row.get::<_, String>(0)?, row.get(1)?));
        let sql = "SELECT digest, max(since) FROM member GROUP BY digest";
        let rows: Vec<(String, i64)> = self.with(|it| it.prepare(sql)?.query_map([], read)?.collect())?;
        Ok(rows.into_iter().filter_map(|(digest, since)| Some((digest.parse().ok()?, since))).collect())
    }

    /// Forgets blobs that are gone.
    pub(super) fn forget(&self, digests: &[Digest]) -> Result<()> {
        self.with(|it| {
            let transaction = it.unchecked_transaction()?;
            for digest in digests {
                transaction.prepare_cached("DELETE FROM member WHERE digest = ?1")?.execute([digest.as_str()])?;
                transaction.prepare_cached("DELETE FROM checked WHERE digest = ?1")?.execute([digest.as_str()])?;
            }
            transaction.commit()
        })
    }

    pub(super) fn add_upload(&self, id: &str, repository: &str) -> Result<()> {
        let sql = "INSERT INTO upload VALUES (?1, ?2)";
        self.with(|it| it.prepare_cached(sql)?.execute([id, repository])).map(drop)
    }

    /// The repository of an upload.
    pub(super) fn upload(&self, id: &str) -> Result<Option<String>> {
        let sql = "SELECT repository FROM upload WHERE id = ?1";
        self.with(|it| it.prepare_cached(sql)?.query_row([id], |row| row.get(0)).optional())
    }

    pub(super) fn remove_upload(&self, id: &str) -> Result<()> {
        self.with(|it| it.prepare_cached("DELETE FROM upload WHERE id = ?1")?.execute([id])).map(drop)
    }

    pub(super) fn uploads(&self) -> Result<Vec<String>> {
        self.with(|it| it.prepare("SELECT id FROM upload")?.query_map([], |row| row.get(0))?.collect())
    }

    /// Remembers what a blob's bytes are.
    pub(super) fn add_checked(&self, digest: &Digest, checked: Checked) -> Result<()> {
        let Checked { stamp: Stamp { size, modified, changed, inode }, is_good, at } = checked;
        let sql = "INSERT OR REPLACE INTO checked (digest, size, modified, changed, inode, good, at)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        // SQLite's integers have a sign; an inode is all 64 bits.
        let row = params![digest.as_str(), size.cast_signed(), modified, changed, inode.cast_signed(), is_good, at];
        self.with(|it| it.prepare_cached(sql)?.execute(row)).map(drop)
    }

    /// Blobs whose bytes were read.
    pub(super) fn checked(&self) -> Result<Vec<(Digest, Checked)>> {
        let read = |row: &rusqlite::Row| {
            let unsigned = |at| row.get::<_, i64>(at).map(i64::cast_unsigned);
            let stamp = Stamp { size: unsigned(1)?, modified: row.get(2)?, changed: row.get(3)?, inode: unsigned(4)? };
            Ok((row.get::<_, String>(0)?, Checked { stamp, is_good: row.get(5)?, at: row.get(6)? }))
        };
        let sql = "SELECT digest, size, modified, changed, inode, good, at FROM checked";
        let rows: Vec<(String, Checked)> = self.with(|it| it.prepare(sql)?.query_map([], read)?.collect())?;
        Ok(rows.into_iter().filter_map(|(digest, checked)| Some((digest.parse().ok()?, checked))).collect())
    }

    fn with<T>(&self, use_it: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        use_it(&self.connection.lock().expect("no holder panics"))
    }
}

fn connect(path: &Path) -> std::result::Result<Connection, Error> {
    let sqlite = |source| Error::Sqlite { path: path.to_owned(), source };
    let connection = Connection::open(path).map_err(sqlite)?;
    connection.busy_timeout(Duration::from_secs(10)).map_err(sqlite)?;
    // A crash of the machine may cost the last moments, which clients push again; it damages nothing.
    connection.pragma_update(None, "journal_mode", "wal").map_err(sqlite)?;
    connection.pragma_update(None, "synchronous", "normal").map_err(sqlite)?;
    let found: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(sqlite)?;
    match found {
        0 => connection.execute_batch(TABLES).and_then(|()| connection.execute_batch(SECOND)).map_err(sqlite)?,
        1 => connection.execute_batch(SECOND).map_err(sqlite)?,
        VERSION => {}
        _ => return Err(Error::TooNew { path: path.to_owned(), found }),
    }
    Ok(connection)
}

pub(super) const NAME: &str = "serve.db";
const VERSION: i32 = 2;
const TABLES: &str = "BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS member (repository TEXT, digest TEXT, since INTEGER, PRIMARY KEY (repository, digest)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS member_digest ON member (digest);
CREATE TABLE IF NOT EXISTS upload (id TEXT PRIMARY KEY, repository TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS checked (digest TEXT PRIMARY KEY, size INTEGER, modified INTEGER, changed INTEGER, inode INTEGER) WITHOUT ROWID;
PRAGMA user_version = 1;
COMMIT;";
const SECOND: &str = "BEGIN IMMEDIATE;
ALTER TABLE checked ADD COLUMN good INTEGER NOT NULL DEFAULT 1;
ALTER TABLE checked ADD COLUMN at INTEGER NOT NULL DEFAULT 0;
PRAGMA user_version = 2;
COMMIT;";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_knows_survives_and_a_damaged_one_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (Digest::sha256(b"1"), Digest::sha256(b"2"));
        let stamp = Stamp { size: 1, modified: -2, changed: 3, inode: u64::MAX };
        let ledger = Ledger::open(dir.path()).unwrap();
        ledger.add_member("a/b", &one).unwrap();
        ledger.add_upload("id", "a/b").unwrap();
        let checked = Checked { stamp, is_good: false, at: 7 };
        ledger.add_checked(&one, checked).unwrap();
        drop(ledger);
        let ledger = Ledger::open(dir.path()).unwrap();
        assert!(ledger.is_member("a/b", &one).unwrap() && ledger.is_anywhere(&one).unwrap());
        assert!(!ledger.is_member("a/c", &one).unwrap() && !ledger.is_anywhere(&two).unwrap());
        assert_eq!(ledger.upload("id").unwrap().as_deref(), Some("a/b"));
        assert_eq!(ledger.checked().unwrap(), [(one.clone(), checked)]);
        assert!(ledger.remove_member("a/b", &one).unwrap() && !ledger.remove_member("a/b", &one).unwrap());
        drop(ledger);
        std::fs::write(dir.path().join("serve.db"), "not a database, but long enough to be looked at").unwrap();
        assert!(!Ledger::open(dir.path()).unwrap().is_anywhere(&one).unwrap());
        assert!(dir.path().join("serve.db.damaged").exists());
    }

    #[test]
    fn what_an_older_version_checked_is_known_and_due() {
        let dir = tempfile::tempdir().unwrap();
        let digest = Digest::sha256(b"1");
        let old = Connection::open(dir.path().join(NAME)).unwrap();
        old.execute_batch(TABLES).unwrap();
        old.execute("INSERT INTO checked VALUES (?1, 1, 2, 3, 4)", [digest.as_str()]).unwrap();
        drop(old);
        let stamp = Stamp { size: 1, modified: 2, changed: 3, inode: 4 };
        for _ in 0..2 {
            let ledger = Ledger::open(dir.path()).unwrap();
            assert_eq!(ledger.checked().unwrap(), [(digest.clone(), Checked { stamp, is_good: true, at: 0 })]);
        }
    }
}
