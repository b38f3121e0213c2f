//! Boot artifacts of an image: files to S3, a manifest that lists them, a record of the Image Management Service.
//!
//! What ims-python-helper did with `image upload_artifacts` and `image set_job_status`: the same calls, keys, metadata and
//! manifest. What it did not: everything that can be checked is checked before the record is created; an upload that was
//! killed goes on where it stopped ([`journal`]); what was uploaded is compared with what was read; after a failure nothing
//! is left, or what is left is named.

pub mod api;
pub mod artifact;
pub mod bundle;
pub mod image_files;
pub mod journal;
pub mod manifest;
mod objects;
mod order;
pub mod token;
mod upload;

pub use api::Ims;
pub use artifact::{Artifact, Kind};
pub use order::{Error, Order, Published};
pub use token::ClientCredentials;
pub use upload::Upload;
