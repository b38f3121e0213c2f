//! haversack packs what a disconnected site needs into OCI images, carries it across the air gap in few bytes, and
//! serves it on the far side. One static binary does every step on both sides.
//!
//! ```text
//!  main ─► cli  (settings: defaults from outside; terminal: what people meet)
//!           ▼
//!  catalog   kernel   registry   carry   serve   publish      six siblings; none knows another, but
//!                                                             serve::page reads snapshots and kernel sets
//!              │          │        │       │        │
//!              └──────────┴────────┴───────┴────────┴──►  image      offline: never knows http
//!  catalog::{client,charts,snapshot}  kernel::{source,download}  registry  publish  ──►  http
//!  image, http and all above ──►  digest  compression  reference  fs  limits  tarball  …    leaves: only each other
//! ```
//!
//! Work that spans siblings (a build takes from the catalog and gives to an image) is put together in [`ops`], and [`cli`]
//! calls it. `tests/layering.rs` holds the table of who may know whom and fails when a `use` breaks it.
//!
//! Ideas that hold everywhere:
//!
//! * **A synchronous core, asynchronous edges.** Archives, hashing, compression and SQLite are plain `std::io` code,
//!   spread over cores with rayon or scoped threads. Only what touches the network is async.
//! * **Nothing is visible until it is whole.** See [`fs::AtomicFile`] and [`fs::AtomicDir`].
//! * **Everything from outside is checked while it flows:** size limit, decompress limit, digest, then parse.
//! * **Same input, same bytes.** Entries sorted, times given, owners numeric, one fixed compressor.

#![warn(clippy::disallowed_methods)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make their own files"))]

pub mod carry;
pub mod catalog;
pub mod causes;
pub mod cli;
pub mod compression;
pub mod digest;
pub mod duration;
pub mod environment;
pub mod escape;
pub mod format;
pub mod fs;
pub mod http;
pub mod image;
pub mod kernel;
pub mod limits;
pub mod mirrors;
pub mod natural;
pub mod ops;
pub mod plural;
pub mod progress;
pub mod publish;
pub mod readers;
pub mod reference;
pub mod registry;
pub mod serve;
mod settings;
pub mod shard;
pub mod site;
pub mod sqlite;
pub mod table;
pub mod tarball;
mod terminal;
pub mod varint;
