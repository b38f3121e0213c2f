//! The certified catalog: taken from its API into a snapshot, answered from it, and written as the tree that certsuite
//! reads.
//!
//! ```text
//!  API ─► client ─► snapshot ─► store (catalog.db) ─► check, diff, search
//!  index ─► charts ─┘             │      ▲
//!                                 ▼      │
//!                            tree (data/…)
//! ```
//!
//! Only `client`, `charts` and `snapshot` touch the network. The rest works from the file alone.

pub mod chart_index;
pub mod charts;
pub mod check;
pub mod client;
pub mod constraint;
pub mod diff;
pub mod entry;
pub mod import;
pub mod near;
pub mod question;
pub mod snapshot;
pub mod store;
mod text;
pub mod tree;
mod wire;

pub use self::client::Error as ClientError;
pub use self::snapshot::WalkError;
pub use self::snapshot::recorded;
pub use self::store::{Draft, Info, KindInfo, Snapshot};
