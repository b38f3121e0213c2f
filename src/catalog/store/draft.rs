//! A snapshot that is being made: the work file beside the old one.
//!
//! The work file `.NAME.work` has the tables of a snapshot and a few more: which ranges of the walk are done, and what
//! the run is for. Pages are committed as they arrive, so that a killed run goes on where it stopped. [`Draft::finish`]
//! writes a compact copy beside the old snapshot, syncs it and renames it into place: until then the old one answers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use crate::catalog::entry::{Bundle, Chart, Image, Instant, Kind, split_csv_name};
use crate::catalog::store::query::{FACTS, fact};
use crate::catalog::store::{Error, Info, KindInfo, Snapshot, packed_digest, packed_id, schema, sqlite, unpacked};
use crate::causes;
use crate::digest::{Algorithm, Hasher};
use crate::fs::{self, Lock, PathContext, PathError};

/// A snapshot that is being made.
pub struct Draft {
    connection: Connection,
    /// The work file.
    work: PathBuf,
    /// What it will become.
    target: PathBuf,
    /// Held while the draft lives, so that two runs do not write one work file.
    _lock: Lock,
}

/// How a draft came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// Empty.
    New,
    /// A copy of the snapshot there is.
    Copied,
    /// Left by an interrupted run for the same purpose.
    Resumed,
}

impl Draft {
    /// Starts to make the snapshot that will become `target`, or goes on with what an interrupted run left.
    ///
    /// `purpose` says what the run fetches (sources and options): a work file with another one is thrown away. With
    /// `copy` a new draft starts as a copy of the snapshot at `target`.
    ///
    /// Fails when another process is at it (the lock is on `.NAME.work.lock`), and when `target` is a file that is no
    /// snapshot or a newer one: nothing foreign is ever replaced.
    pub fn open(target: &Path, purpose: &str, copy: bool) -> Result<(Self, Open), Error> {
        // A link keeps pointing to what it points to; what it points to is replaced.
        let target = &target.canonicalize().unwrap_or_else(|_| target.to_owned());
        let base = if target.exists() { Some(Snapshot::open(target)?.info()?) } else { None };
        let base = base.map_or_else(|| "nothing".to_owned(), |base| format!("{} {}", base.taken, base.digest));
        let purpose = &format!("{purpose} from {base}");
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let work = fs::parent(target).join(format!(".{name}.work"));
        let lock = Lock::take(&work.with_extension("work.lock"), target, "another haversack is writing this snapshot")?;
        if fs::is_resumable(&work) {
            let draft = Self::connect(&work, target, lock)?;
            // Whatever is wrong with it, a work file is only worth the requests that it saves.
            let ours = schema::identify(&draft.connection).ok() == Some((schema::APPLICATION_ID, schema::VERSION));
            if ours && draft.note("purpose").ok().flatten().as_ref() == Some(purpose) {
                return Ok((draft, Open::Resumed));
            }
            let Draft { connection, _lock, .. } = draft;
            drop(connection);
            return Self::begin(&work, target, purpose, copy, _lock);
        }
        Self::begin(&work, target, purpose, copy, lock)
    }

    fn begin(work: &Path, target: &Path, purpose: &str, copy: bool, lock: Lock) -> Result<(Self, Open), Error> {
        let begun = Self::begin_anew(work, target, purpose, copy, lock);
        if begun.as_ref().is_err_and(|error| causes::is_full_disk(error)) {
            remove_work(work)?;
        }
        begun
    }

    fn begin_anew(work: &Path, target: &Path, purpose: &str, copy: bool, lock: Lock) -> Result<(Self, Open), Error> {
        remove_work(work)?;
        let open = if copy && target.exists() { Open::Copied } else { Open::New };
        if open == Open::Copied {
            fs::copy(target, work)?;
        } else {
            // Now it is ours: SQLite would take what somebody put there meanwhile.
            fs::create_new(work)?;
        }
        let draft = Self::connect(work, target, lock)?;
        draft.sql(|connection| {
            if open == Open::New {
                schema::create_tables(connection)?;
                schema::create_indexes(connection)?;
            }
            connection.execute_batch(WORK_TABLES)?;
            connection.execute("INSERT INTO work VALUES ('purpose', ?1)", [purpose])
        })?;
        Ok((draft, open))
    }

    fn connect(work: &Path, target: &Path, lock: Lock) -> Result<Self, Error> {
        let named = |error| sqlite(work, error);
        let flags = OpenFlags::default() | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let connection = Connection::open_with_flags(work, flags).map_err(named)?;
        connection.busy_timeout(Duration::from_secs(5)).map_err(named)?;
        // A killed process must not corrupt the work file; a power cut may, and then the walk starts again.
        connection
            .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA cache_size = -16000;")
            .or_else(|error| if crate::sqlite::is_damaged(&error) { Ok(()) } else { Err(error) })
            .map_err(named)?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(Draft { connection, work: work.to_owned(), target: target.to_owned(), _lock: lock })
    }

    /// Runs `work` in one transaction: all of it is kept, or nothing. Transactions do not nest.
    pub fn transaction<T, E: From<Error>>(&self, work: impl FnOnce(&Self) -> Result<T, E>) -> Result<T, E> {
        self.sql(|connection| connection.execute_batch("BEGIN IMMEDIATE"))?;
        match work(self) {
            Ok(value) => {
                self.sql(|connection| connection.execute_batch("COMMIT"))?;
                Ok(value)
            }
            Err(error) => {
                // The first error is the one that tells; a failed roll-back has nothing to add.
                let _ = self.connection.execute_batch("ROLLBACK");
                Err(error)
            }
        }
    }

    /// Adds a bundle, or replaces the one with its `_id`.
    pub fn put_bundle(&self, bundle: &Bundle) -> Result<(), Error> {
        let (name, version) = split_csv_name(&bundle.csv_name);
        self.sql(|connection| {
            let csv: i64 = connection
                .prepare_cached(
                    "INSERT INTO csv (csv_name, name, version, package, organization) VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT DO UPDATE SET name = name RETURNING csv",
                )?
                .query_row(params![bundle.csv_name, name, version, bundle.package, bundle.organization], |row| {
                    row.get(0)
                })?;
            connection
                .prepare_cached(
                    "INSERT INTO bundle (id, csv, ocp_version, channel, created, updated)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                     ON CONFLICT (id) WHERE id IS NOT NULL DO UPDATE SET csv = ?2, ocp_version = ?3, channel = ?4,
                        created = ?5, updated = ?6",
                )?
                .execute(params![
                    packed_id(&bundle.id),
                    csv,
                    bundle.ocp_version,
                    bundle.channel,
                    bundle.created.micros(),
                    bundle.updated.micros()
                ])
                .map(drop)
        })
    }

    /// Adds an image, or replaces the one with its `_id`.
    pub fn put_image(&self, image: &Image) -> Result<(), Error> {
        self.sql(|connection| {
            let number: i64 = connection
                .prepare_cached(
                    "INSERT INTO image (id, architecture, created, updated) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (id) WHERE id IS NOT NULL DO UPDATE SET architecture = ?2, created = ?3, updated = ?4
                     RETURNING image",
                )?
                .query_row(
                    params![packed_id(&image.id), image.architecture, image.created.micros(), image.updated.micros()],
                    |row| row.get(0),
                )?;
            for table in ["DELETE FROM digest WHERE image = ?1", "DELETE FROM tag WHERE image = ?1"] {
                connection.prepare_cached(table)?.execute([number])?;
            }
            self.add_names(connection, number, image)
        })
    }

    /// Adds digests and repositories to the image that is known by the first digest of `image`, or adds the image.
    ///
    /// This is how a tree is read, where one image stands under several keys.
    pub fn merge_image(&self, image: &Image) -> Result<(), Error> {
        let known: Option<i64> = if image.id.is_empty() {
            None
        } else {
            self.sql(|connection| {
                connection
                    .prepare_cached("SELECT image FROM image WHERE id = ?1")?
                    .query_row([packed_id(&image.id)], |row| row.get(0))
                    .optional()
            })?
        };
        match known {
            Some(number) => self.sql(|connection| self.add_names(connection, number, image)),
            None => self.put_image(image),
        }
    }

    fn add_names(&self, connection: &Connection, number: i64, image: &Image) -> rusqlite::Result<()> {
        for (index, digest) in image.digests.iter().enumerate() {
            connection
                .prepare_cached("INSERT OR IGNORE INTO digest (digest, image, main) VALUES (?1, ?2, ?3)")?
                .execute(params![packed_digest(digest), number, index == 0])?;
        }
        for repository in &image.repositories {
            let place: i64 = connection
                .prepare_cached(
                    "INSERT INTO repository (registry, name) VALUES (?1, ?2)
                     ON CONFLICT DO UPDATE SET name = name RETURNING repository",
                )?
                .query_row(params![repository.registry, repository.repository], |row| row.get(0))?;
            let mut insert =
                connection.prepare_cached("INSERT OR IGNORE INTO tag (repository, tag, image) VALUES (?1, ?2, ?3)")?;
            for tag in repository.tags.iter().filter(|tag| !tag.is_empty()) {
                insert.execute(params![place, tag, number])?;
            }
        }
        Ok(())
    }

    /// Takes the row with this `_id` out; one that is not there is fine.
    pub fn remove(&self, kind: Kind, id: &str) -> Result<(), Error> {
        self.sql(|connection| {
            let id = packed_id(id);
            match kind {
                Kind::Operator => {
                    connection.prepare_cached("DELETE FROM bundle WHERE id = ?1")?.execute([id]).map(drop)
                }
                Kind::Container => {
                    for sql in [
                        "DELETE FROM digest WHERE image = (SELECT image FROM image WHERE id = ?1)",
                        "DELETE FROM tag WHERE image = (SELECT image FROM image WHERE id = ?1)",
                        "DELETE FROM image WHERE id = ?1",
                    ] {
                        connection.prepare_cached(sql)?.execute([&id])?;
                    }
                    Ok(())
                }
                Kind::Chart => Ok(()),
            }
        })
    }

    /// Takes out everything of a kind, before a full walk or an import.
    pub fn clear(&self, kind: Kind) -> Result<(), Error> {
        self.sql(|connection| {
            connection.execute_batch(match kind {
                Kind::Operator => "DELETE FROM bundle; DELETE FROM csv;",
                Kind::Container => "DELETE FROM digest; DELETE FROM tag; DELETE FROM repository; DELETE FROM image;",
                Kind::Chart => "DELETE FROM chart;",
            })
        })
    }

    /// Puts charts in place of those of the same list, the published or the unpublished one.
    pub fn replace_charts(&self, charts: &[Chart], unpublished: bool) -> Result<(), Error> {
        self.sql(|connection| {
            connection.execute("DELETE FROM chart WHERE unpublished = ?1", [unpublished])?;
            let mut insert = connection.prepare_cached(
                "INSERT INTO chart (key, name, version, kube_version, provider_type, unpublished, digest, urls)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?;
            for chart in charts {
                insert.execute(params![
                    chart.key,
                    chart.name,
                    chart.version,
                    chart.kube_version,
                    chart.provider_type,
                    chart.unpublished,
                    chart.digest,
                    chart.urls.join("\n")
                ])?;
            }
            Ok(())
        })
    }

    /// The `_id` and the instant of creation of every row of a kind, by creation.
    pub fn ids(&self, kind: Kind) -> Result<Vec<(String, Instant)>, Error> {
        let table = match kind {
            Kind::Operator => "bundle",
            Kind::Container => "image",
            Kind::Chart => return Ok(Vec::new()),
        };
        self.sql(|connection| {
            connection
                .prepare_cached(&format!("SELECT id, created FROM {table} WHERE id IS NOT NULL ORDER BY created, id"))?
                .query_map([], |row| Ok((unpacked(row.get_ref(0)?, ""), Instant::from_micros(row.get(1)?))))?
                .collect()
        })
    }

    /// The newest change of a row of a kind.
    pub fn newest_update(&self, kind: Kind) -> Result<Option<Instant>, Error> {
        self.newest(kind, "updated")
    }

    /// The creation of the newest row of a kind.
    pub fn newest_creation(&self, kind: Kind) -> Result<Option<Instant>, Error> {
        self.newest(kind, "created")
    }

    fn newest(&self, kind: Kind, column: &str) -> Result<Option<Instant>, Error> {
        let table = if kind == Kind::Operator { "bundle" } else { "image" };
        let micros: Option<i64> = self.sql(|connection| {
            connection.query_row(&format!("SELECT max({column}) FROM {table}"), [], |row| row.get(0))
        })?;
        Ok(micros.map(Instant::from_micros))
    }

    /// How many rows of a kind the draft holds.
    pub fn rows(&self, kind: Kind) -> Result<u64, Error> {
        let table = match kind {
            Kind::Operator => "bundle",
            Kind::Container => "image",
            Kind::Chart => "chart",
        };
        self.sql(|connection| connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)))
    }

    /// Something the run wants to find again when it is resumed.
    pub fn note(&self, key: &str) -> Result<Option<String>, Error> {
        self.sql(|connection| {
            connection
                .prepare_cached("SELECT value FROM work WHERE key = ?1")?
                .query_row([key], |row| row.get(0))
                .optional()
        })
    }

    /// Keeps `value` for [`Draft::note`].
    pub fn set_note(&self, key: &str, value: &str) -> Result<(), Error> {
        self.sql(|connection| {
            connection.prepare_cached("INSERT OR REPLACE INTO work VALUES (?1, ?2)")?.execute([key, value]).map(drop)
        })
    }

    /// Whether nothing was fetched yet, so that the work file is worth nothing.
    pub fn is_untouched(&self) -> bool {
        let notes = self.sql(|connection| {
            connection.query_row("SELECT count(*) FROM work WHERE key LIKE 'state %'", [], |row| row.get::<_, u64>(0))
        });
        notes.is_ok_and(|notes| notes == 0)
    }

    /// Writes a compact copy, checks it, puts it in the place of the old snapshot, and removes the work file.
    ///
    /// `kinds` says where each kind came from; rows, answers and digest are counted here. When it fails the draft is as
    /// it was, and can be gone on with; but on a full disk it is thrown away.
    pub fn finish(self, taken: Instant, kinds: Vec<(Kind, KindInfo)>) -> Result<Snapshot, Error> {
        let written = self.write(taken, kinds);
        let Draft { connection, work, target, _lock } = self;
        drop(connection);
        match written {
            Ok(()) => remove_work(&work)?,
            Err(error) => {
                if causes::is_full_disk(&error) {
                    remove_work(&work)?;
                }
                return Err(error);
            }
        }
        Snapshot::open(&target)
    }

    fn write(&self, taken: Instant, kinds: Vec<(Kind, KindInfo)>) -> Result<(), Error> {
        let mut info = Info { taken, digest: self.content_digest()?, kinds: kinds.into_iter().collect() };
        for (kind, about) in &mut info.kinds {
            about.rows = self.rows(*kind)?;
            about.answers = self.answers(*kind)?;
        }
        let info = serde_json::to_string(&info).map_err(std::io::Error::other).at("write", &self.work)?;

        let name = self.target.file_name().unwrap_or_default().to_string_lossy();
        fs::remove_abandoned(&self.target);
        let fresh = tempfile::Builder::new()
            .prefix(&format!(".{name}."))
            .suffix(".partial")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
            .tempfile_in(fs::parent(&self.target))
            .at("create", &self.target)?;
        let _locked = fresh.as_file().try_lock();
        self.copy_to(fresh.path(), &info)?;
        Snapshot::open(fresh.path())?.verify()?;
        fresh.as_file().sync_all().at("sync", &self.target)?;
        fresh.persist(&self.target).map_err(|error| error.error).at("write", &self.target)?;
        Ok(fs::sync_dir(fs::parent(&self.target))?)
    }

    /// Copies what answers are made of, table by table in the order of their keys, which leaves no gaps.
    fn copy_to(&self, fresh: &Path, info: &str) -> Result<(), Error> {
        let named = |error| sqlite(&self.target, error);
        let connection = Connection::open(fresh).map_err(named)?;
        // Synced once, at the end; until then nobody knows the file.
        connection.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;").map_err(named)?;
        schema::create_tables(&connection).map_err(named)?;
        let work = self.work.to_string_lossy();
        connection.execute("ATTACH ?1 AS work", [work.as_ref()]).map_err(named)?;
        connection.execute_batch(COPY_TABLES).map_err(named)?;
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('info', ?1)", [info]).map_err(named)?;
        connection.execute_batch("COMMIT; DETACH work;").map_err(named)?;
        schema::create_indexes(&connection).map_err(named)
    }

    /// Throws away what was fetched.
    pub fn discard(self) -> Result<(), Error> {
        let Draft { connection, work, _lock, .. } = self;
        drop(connection);
        Ok(remove_work(&work)?)
    }

    fn content_digest(&self) -> Result<String, Error> {
        self.sql(|connection| {
            let mut hasher = Hasher::new(Algorithm::Sha256);
            let mut statement = connection.prepare(FACTS)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                hasher.update(fact(row)?.as_bytes());
                hasher.update(b"\n");
            }
            Ok(hasher.finish().to_string())
        })
    }

    /// Counts distinct answers of a kind.
    pub fn answers(&self, kind: Kind) -> Result<u64, Error> {
        let sql = match kind {
            Kind::Operator => "SELECT count(*) FROM (SELECT DISTINCT csv, ocp_version FROM bundle)",
            Kind::Container => "SELECT count(DISTINCT digest) FROM digest",
            Kind::Chart => "SELECT count(*) FROM (SELECT DISTINCT name, version FROM chart)",
        };
        self.sql(|connection| connection.query_row(sql, [], |row| row.get(0)))
    }

    fn sql<T>(&self, run: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Error> {
        run(&self.connection).map_err(|error| sqlite(&self.work, error))
    }
}

fn remove_work(work: &Path) -> Result<(), PathError> {
    for suffix in ["", "-wal", "-shm"] {
        let mut path = work.as_os_str().to_owned();
        path.push(suffix);
        fs::remove_file(Path::new(&path))?;
    }
    Ok(())
}

/// What only the making of a snapshot needs: notes, and indexes by `_id` and image. Answers do without them, and a third
/// of the file would be theirs.
const WORK_TABLES: &str = "
    CREATE TABLE work (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE UNIQUE INDEX work_csv ON csv (csv_name, package, organization);
    CREATE UNIQUE INDEX work_bundle ON bundle (id) WHERE id IS NOT NULL;
    CREATE UNIQUE INDEX work_image ON image (id) WHERE id IS NOT NULL;
    CREATE INDEX work_digest ON digest (image);
    CREATE INDEX work_tag ON tag (image);";

const COPY_TABLES: &str = "
    BEGIN;
    INSERT INTO csv SELECT * FROM work.csv WHERE csv IN (SELECT csv FROM work.bundle) ORDER BY csv;
    INSERT INTO bundle SELECT bundle, id, csv, ocp_version, channel, created, 0 FROM work.bundle ORDER BY bundle;
    INSERT INTO image SELECT image, id, architecture, created, 0 FROM work.image ORDER BY image;
    INSERT INTO digest SELECT * FROM work.digest ORDER BY digest, image;
    INSERT INTO repository
        SELECT * FROM work.repository WHERE repository IN (SELECT repository FROM work.tag) ORDER BY repository;
    INSERT INTO tag SELECT * FROM work.tag ORDER BY repository, tag, image;
    INSERT INTO chart SELECT * FROM work.chart ORDER BY chart;
    INSERT INTO words (rowid, text)
        SELECT 4 * min(csv), csv_name FROM csv WHERE csv_name <> '' GROUP BY csv_name
        UNION ALL SELECT 4 * min(csv) + 1, package FROM csv WHERE package <> '' GROUP BY package
        UNION ALL SELECT 4 * repository + 2, registry || '/' || name FROM repository
        UNION ALL SELECT 4 * min(chart) + 3, name || ' ' || version FROM chart GROUP BY name, version
        ORDER BY 1;";
