//! From a description to an image.
//!
//! A [`Definition`] says what an image is to be. [`plan`] turns it and its [`Inputs`] into a
//! [`Tree`](crate::image::Tree) for each layer, [`Assembly`] writes these as layers, with manifests and an index, into a
//! [`Layout`](crate::image::Layout).

pub mod assemble;
pub mod base;
pub mod definition;
pub mod embedded;
pub mod fingerprint;
pub mod join;
pub mod plan;
pub mod sbom;
pub mod template;

pub use assemble::Assembly;
pub use base::BaseImage;
pub use definition::Definition;
pub use fingerprint::fingerprint;
pub use join::join;
pub use plan::{Inputs, Part, plan};
pub use template::Template;
