//! The tables of `catalog.db`, and how older files become today's.
//!
//! A file is ours when its `application_id` says so; `user_version` counts the migrations that it has seen. Entries of
//! [`MIGRATIONS`] are only ever added: a file of any released version must still open.

use rusqlite::Connection;

/// `HvCt`, in the header of every SQLite file that is a catalog snapshot.
pub(super) const APPLICATION_ID: i32 = 0x4876_4374;

/// The newest layout that this program knows.
pub(super) const VERSION: i32 = MIGRATIONS.len() as i32;

/// Gives a new, empty file its tables.
pub(super) fn create_tables(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("PRAGMA page_size = 4096; PRAGMA auto_vacuum = NONE;")?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    for migration in MIGRATIONS {
        connection.execute_batch(migration)?;
    }
    connection.pragma_update(None, "user_version", VERSION)
}

/// Gives it its indexes; over full tables they come out compact.
pub(super) fn create_indexes(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "CREATE INDEX csv_name ON csv (name, version);
              CREATE INDEX chart_name ON chart (name, version);",
    )
}

/// What a file says it is: its `application_id` and `user_version`.
pub(super) fn identify(connection: &Connection) -> rusqlite::Result<(i32, i32)> {
    let number = |name| connection.pragma_query_value(None, name, |row| row.get(0));
    Ok((number("application_id")?, number("user_version")?))
}

/// Whether a file has exactly the tables and indexes of its version: a view or a trigger in the place of a table could answer
/// anything, and without an end.
pub(super) fn is_ours(connection: &Connection, version: i32) -> rusqlite::Result<bool> {
    let ours = Connection::open_in_memory()?;
    for migration in &MIGRATIONS[..usize::try_from(version).unwrap_or(0).min(MIGRATIONS.len())] {
        ours.execute_batch(migration)?;
    }
    create_indexes(&ours)?;
    Ok(objects(connection)? == objects(&ours)?)
}

/// What a file is made of, with the statements that made it.
fn objects(connection: &Connection) -> rusqlite::Result<Vec<[Option<String>; 4]>> {
    // More than ours need not be read to be others.
    let sql = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name LIMIT 100";
    let mut statement = connection.prepare(sql)?;
    statement.query_map([], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?]))?.collect()
}

/// Digests are 32 bytes where they are `sha256:` and 64 lower-case digits, else text: real trees hold odd keys, and a
/// digest as text would be twice as large. `_id`s are 12 bytes where they are 24 digits, for the same reason. Instants
/// are microseconds after 1970, 0 for unknown; `updated` is 0 in a finished snapshot, which keeps the newest one of a kind
/// in its info. `words` indexes names by rows that say whose: four times the row of the table, plus 0 for the name of a
/// CSV, 1 for its package, 2 for a repository, 3 for a chart.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

    CREATE TABLE csv (
        csv INTEGER PRIMARY KEY,
        csv_name TEXT NOT NULL, name TEXT NOT NULL, version TEXT NOT NULL,
        package TEXT NOT NULL, organization TEXT NOT NULL
    );
    CREATE TABLE bundle (
        bundle INTEGER PRIMARY KEY,
        id, csv INTEGER NOT NULL, ocp_version TEXT NOT NULL, channel TEXT NOT NULL,
        created INTEGER NOT NULL, updated INTEGER NOT NULL
    );
    CREATE INDEX bundle_csv ON bundle (csv, ocp_version);

    CREATE TABLE image (
        image INTEGER PRIMARY KEY,
        id, architecture TEXT NOT NULL, created INTEGER NOT NULL, updated INTEGER NOT NULL
    );
    CREATE TABLE digest (
        digest NOT NULL, image INTEGER NOT NULL, main INTEGER NOT NULL,
        PRIMARY KEY (digest, image)
    ) WITHOUT ROWID;
    CREATE TABLE repository (
        repository INTEGER PRIMARY KEY, registry TEXT NOT NULL, name TEXT NOT NULL,
        UNIQUE (name, registry)
    );
    CREATE TABLE tag (
        repository INTEGER NOT NULL, tag TEXT NOT NULL, image INTEGER NOT NULL,
        PRIMARY KEY (repository, tag, image)
    ) WITHOUT ROWID;

    CREATE TABLE chart (
        chart INTEGER PRIMARY KEY,
        key TEXT NOT NULL, name TEXT NOT NULL, version TEXT NOT NULL, kube_version TEXT NOT NULL,
        provider_type TEXT NOT NULL, unpublished INTEGER NOT NULL, digest TEXT NOT NULL, urls TEXT NOT NULL
    );

    CREATE VIRTUAL TABLE words USING fts5 (text, content = '', detail = none, columnsize = 0);
"];
