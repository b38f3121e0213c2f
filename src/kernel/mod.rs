//! Kernel packages: named, grouped by the kernel they belong to, fetched and unpacked.
//!
//! A package's file name or metadata says which kernel it belongs to ([`classify`]); [`group`] joins packages into
//! kernels, with those that several kernels share; a [`set::KernelSet`] is what is known of them and is written as
//! `kernels.json`. Sources ([`source`]) fill a set, [`unpack`] makes directories of it in which modules can be built.

pub mod checksum;
pub mod classify;
pub mod download;
pub mod group;
pub mod layer;
pub mod matrix;
pub mod package;
pub mod release;
pub mod resolve;
pub mod set;
pub mod source;
mod text;
pub mod unpack;
pub mod version;
