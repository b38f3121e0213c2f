//! How much was done of what was asked for: the exit statuses of all commands that do several things.

/// How much was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// All of it.
    All,
    /// Some of it; what was not is named.
    Part,
    /// Nothing: all of it failed, or nothing that was looked for is there.
    Nothing,
}

impl Done {
    /// So many things were done or found; `complete` says whether that is all of them.
    pub fn of(count: usize, complete: bool) -> Self {
        match (count, complete) {
            (0, _) => Done::Nothing,
            (_, true) => Done::All,
            (_, false) => Done::Part,
        }
    }
}
