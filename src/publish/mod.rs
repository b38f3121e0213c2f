//! Publishing: boot artifacts to S3 with a record in the Image Management Service, packages to Artifactory.
//!
//! [`s3`] is the part of S3 that is needed. All requests go through [`crate::http::Http`], and all are tried again under one
//! [`Patience`].

mod patience;
pub mod s3;

pub use patience::Patience;
