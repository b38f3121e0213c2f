//! What SQLite's errors mean.

use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};

/// Whether a file is no database, or a damaged one: what can be made again is then made again.
pub fn is_damaged(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
}
