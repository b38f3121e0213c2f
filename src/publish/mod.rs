//! Publishing: boot artifacts to S3 with a record in the Image Management Service, packages to Artifactory.
//!
//! [`ims`] takes the place of ims-python-helper, [`artifactory`] of the upload in the kernel header downloader. [`s3`] is
//! the part of S3 that they need. All requests go through [`crate::http::Http`], and all are tried again under one
//! [`Patience`].

pub mod artifactory;
pub mod ims;
mod patience;
pub mod s3;

pub use patience::Patience;
