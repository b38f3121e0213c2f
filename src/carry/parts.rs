//! What images of a layout are made of.

use std::collections::BTreeSet;

use oci_spec::image::Descriptor;

use crate::carry::Error;
use crate::digest::Digest;
use crate::image::manifest;
use crate::image::store::layout::{self, Layout};

/// The parts of some images, each once, in the order in which images name them.
pub(super) struct Parts {
    /// Layers, configurations and whatever else is no document.
    pub(super) blobs: Vec<Descriptor>,
    /// Manifests and indexes, children first.
    pub(super) documents: Vec<Descriptor>,
    /// Layers that are not in the layout, as they may not be distributed.
    pub(super) left_out: Vec<Digest>,
}

impl Parts {
    /// Finds them. What else is missing is an error.
    pub(super) fn of(layout: &Layout, images: &[Descriptor]) -> Result<Self, Error> {
        let mut seen = BTreeSet::new();
        let mut parts = Parts { blobs: Vec::new(), documents: Vec::new(), left_out: Vec::new() };
        for image in images {
            let mut visit = |described: &Descriptor| -> Result<(), Error> {
                if !seen.insert(described.digest().to_string()) {
                    return Ok(());
                }
                let digest = layout::digest_of(described).map_err(layout::Error::from)?;
                let is_document =
                    manifest::is_index(described.media_type()) || manifest::is_manifest(described.media_type());
                if is_document {
                    parts.documents.push(described.clone());
                } else if layout.holds(&digest, described.size()) {
                    parts.blobs.push(described.clone());
                } else if manifest::is_foreign(described.media_type().as_ref()) {
                    parts.left_out.push(digest);
                } else {
                    return Err(Error::Missing { layout: layout.root().to_owned(), digest });
                }
                Ok(())
            };
            manifest::walk(image, &mut |described| Ok::<_, Error>(layout.read_document(described)?), &mut visit)?;
        }
        Ok(parts)
    }
}
