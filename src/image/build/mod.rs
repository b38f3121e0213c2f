//! From a description to an image.
//!
//! A [`Definition`] says what an image is to be. [`plan`] turns it and its [`Inputs`] into a
//! [`Tree`](crate::image::Tree) for each layer, [`assemble`] writes these as layers, with manifests and an index, into a
//! [`Layout`](crate::image::Layout).

pub mod assemble;
pub mod base;
pub mod definition;
pub mod embedded;
pub mod fingerprint;
pub mod packages;
pub mod plan;
pub mod sbom;
pub mod template;

pub use assemble::assemble;
pub use base::BaseImage;
pub use definition::Definition;
pub use fingerprint::fingerprint;
pub use packages::{LayerCache, Part};
pub use plan::{Inputs, plan};
pub use template::Template;
