//! Registries: reading from them, writing to them, copying between them and layouts.
//!
//! The protocol is distribution-spec 1.1. What travels keeps its digest; what a target has is not sent.

mod along;
pub mod auth;
mod choice;
pub mod client;
mod copied;
pub mod copy;
pub mod download;
pub mod ends;
pub mod existing;
mod lists;
pub mod memory;
pub mod referrers;
pub mod repository;
pub mod session;
mod stored;
pub mod sync;
pub mod upload;
pub mod verify;

pub use auth::AuthFiles;
pub use client::{Error, Registry};
pub use copied::{CopyReport, LeftOut};
pub use copy::{CopyOptions, copy, fetch};
pub use ends::{Source, Target};
pub use existing::{Existing, existing};
pub use lists::Listed;
pub use memory::Memory;
pub use repository::Repository;
pub use session::Session;
pub use verify::RemoteImage;
