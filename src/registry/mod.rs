//! Registries: reading from them, writing to them, copying between them and layouts.
//!
//! The protocol is distribution-spec 1.1. What travels keeps its digest; what a target has is not sent.

pub mod auth;
pub mod client;
pub mod copy;
pub mod existing;
pub mod referrers;
pub mod repository;

pub use auth::AuthFiles;
pub use client::{Error, Registry};
pub use copy::{CopyOptions, CopyReport, Source, Target, copy};
pub use existing::{Existing, existing};
pub use repository::Repository;
