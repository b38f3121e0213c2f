//! Images: how they are described, put together, stored, packed into one file and checked. Nothing here knows a
//! network.
//!
//! Three rooms:
//!
//! ```text
//!  build   a Definition and its Inputs become a Plan: a Tree for each layer; assemble writes layers, manifests, index
//!    │
//!    ├──►  layer   trees of files, the tar that they become, compressed and hashed while it flows
//!    ▼
//!  store   layouts, archives and directories that images lie in: opened, written, inspected, verified
//! ```
//!
//! Beside them: what all of them need of names, platforms and manifests.

pub mod build;
pub mod installed;
pub mod layer;
pub mod manifest;
pub mod name;
pub mod platform;
pub mod store;

#[cfg(test)]
pub(crate) mod fixture;

pub use build::{Definition, Inputs, Part, Template};
pub use layer::{Layer, LayerCache, LayerOptions, LayerWriter, Tree};
pub use platform::Platform;
pub use store::{Archive, Dir, DockerArchive, Layout, PartialBlob, Place, Store};
