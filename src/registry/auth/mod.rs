//! Being let in by a registry: what it asks for, where credentials are kept, and the tokens that they are exchanged for.

pub(crate) mod challenge;
mod credential_helper;
pub mod files;
pub mod login;
pub mod logins;
pub(super) mod token;

pub use files::{AuthFiles, Contents, contents};
pub use login::{Error, Login};
