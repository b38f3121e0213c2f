//! Images: how they are described, put together, stored, packed into one file and checked. Nothing here knows a
//! network.
//!
//! A [`Definition`] says what an image is to be. [`plan`] turns it and its [`Inputs`] into a [`Tree`] for each layer,
//! [`assemble`] writes these as layers, with manifests and an index, into a [`Layout`]. An [`Archive`] is a layout in a
//! tar.

pub mod archive;
pub mod assemble;
pub mod definition;
pub mod dir;
pub mod docker_archive;
pub mod fingerprint;
pub mod inspect;
pub mod layer;
pub mod layout;
pub mod manifest;
pub(crate) mod members;
pub mod name;
pub mod packages;
pub mod partial;
pub mod pax;
pub mod place;
pub mod plan;
pub mod platform;
pub mod roots;
pub mod sbom;
pub(crate) mod sparse;
pub mod store;
pub mod template;
pub mod tree;
pub mod verify;

#[cfg(test)]
pub(crate) mod fixture;

pub use archive::Archive;
pub use assemble::assemble;
pub use definition::Definition;
pub use dir::Dir;
pub use docker_archive::DockerArchive;
pub use fingerprint::fingerprint;
pub use layer::{Layer, LayerOptions, LayerWriter};
pub use layout::Layout;
pub use packages::{LayerCache, Part};
pub use partial::PartialBlob;
pub use place::Place;
pub use plan::{Inputs, plan};
pub use platform::Platform;
pub use store::Store;
pub use template::Template;
pub use tree::Tree;
