//! How the writer of a stream cut it into writes, where that shows in what came out.

/// How the plain bytes arrived at an encoder whose output depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Writes {
    /// In pieces of 32 KiB, as Go's `io.Copy` has them.
    Copy,
}

/// The lengths of the writes to come.
pub(super) struct Cutter {
    writes: Writes,
    left: usize,
}

impl Cutter {
    pub(super) fn new(writes: Writes) -> Self {
        Cutter { writes, left: 0 }
    }

    /// How many of the bytes that come next belong to one write, and whether they begin it. At least one if there are any.
    pub(super) fn next(&mut self, data: &[u8]) -> (usize, bool) {
        let begins = self.left == 0;
        if begins {
            self.left = match self.writes {
                Writes::Copy => 32 << 10,
            };
        }
        let length = data.len().min(self.left);
        self.left -= length;
        (length, begins)
    }
}
