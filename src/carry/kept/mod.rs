//! Contents that stay where a carry was unpacked (`unpack --keep-contents`): a later carry that is built on them need not take
//! layers apart again.
//!
//! ```text
//! LAYOUT/.haversack/contents/contents.db   SQLite; see `database`
//!                            1.pack …      contents one after another, each once whatever layers have it, and skeletons
//! ```
//!
//! Nothing needs it: it may be removed at any time, and where something in it is not what it was, the layer itself is read. What is
//! kept of layers that have left the layout goes with the next unpacking that keeps contents, or with `haversack gc`.

mod add;
mod database;
mod read;
mod sweep;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

pub(super) use self::add::keep;
pub(super) use self::database::room_taken;
pub(super) use self::read::{Kept, OfLayer};
pub use self::sweep::{collect_contents, collectable_contents};
use crate::carry::entries::Hash;

/// What was kept, or removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KeptContents {
    /// Layers.
    pub layers: u64,
    /// Bytes on the disk, uncompressed.
    pub bytes: u64,
}

/// What a layer's contents are, in one hash: of its skeleton's and of each number with its content's.
struct Sums(Sha256);

impl Sums {
    fn new(skeleton: &Hash) -> Self {
        Sums(Sha256::new_with_prefix(skeleton))
    }

    fn add(&mut self, number: u32, hash: &Hash) {
        self.0.update(number.to_le_bytes());
        self.0.update(hash);
    }

    fn finish(self) -> Hash {
        self.0.finalize().into()
    }
}
