//! What a site holds: what need not travel, and what a carry is then built on.

use std::collections::{BTreeMap, BTreeSet};

use oci_spec::image::{Descriptor, MediaType};
use serde::{Deserialize, Serialize};

use crate::carry::parts::Parts;
use crate::carry::{CarryDocument, Error};
use crate::digest::Digest;
use crate::image::manifest;
use crate::image::store::layout::{self, Layout, descriptor, ref_name};

/// Blobs that a site holds, and where this side has them, too.
#[derive(Clone, Debug)]
pub struct Base {
    /// Their bytes, here.
    pub layout: Layout,
    /// Each with the carry that brought it.
    pub held: BTreeMap<Digest, Held>,
}

/// A blob that a site holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// Bytes.
    pub size: u64,
    /// What the manifest that names it says that it is.
    pub media_type: String,
    /// The carry that brought it.
    pub carry: String,
    /// What the first image with it is called; in a registry it is below that repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// A blob that a carry is built on: in `carry.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    /// Which.
    pub digest: Digest,
    /// Whose, and how large.
    #[serde(flatten)]
    pub held: Held,
}

impl Held {
    /// The blob of that digest as manifests describe it.
    pub fn descriptor(&self, digest: &Digest) -> Descriptor {
        descriptor(MediaType::from(&*self.media_type), digest, self.size)
    }
}

impl CarryDocument {
    /// What the carry is built on and is not in `layout`: nothing where everything is there.
    pub fn lacking<'a>(&'a self, layout: Option<&Layout>) -> Vec<&'a Need> {
        let is_there = |need: &&Need| layout.is_some_and(|layout| layout.holds(&need.digest, need.held.size));
        self.needs.iter().filter(|need| !is_there(need)).collect()
    }

    /// Refuses a layout that lacks what the carry is built on, before anything there is changed. There need be no layout yet.
    pub fn check_base(&self, root: &std::path::Path) -> Result<(), Error> {
        if self.needs.is_empty() {
            return Ok(());
        }
        let lacking = self.lacking(Layout::open(root).ok().as_ref());
        match lacking.len() {
            0 => Ok(()),
            blobs => {
                let carries: BTreeSet<&str> = lacking.iter().map(|need| &*need.held.carry).collect();
                let carries = carries.into_iter().map(str::to_owned).collect();
                Err(Error::Base { layout: root.to_owned(), blobs, carries })
            }
        }
    }
}

/// All blobs of images, documents too, that may be distributed, as what `carry` brought.
pub fn held_by(layout: &Layout, images: &[Descriptor], carry: &str) -> Result<BTreeMap<Digest, Held>, Error> {
    let mut held = BTreeMap::new();
    for image in images {
        let Parts { blobs, documents, .. } = Parts::of(layout, std::slice::from_ref(image))?;
        for described in blobs.iter().chain(&documents) {
            if manifest::is_foreign(described.media_type().as_ref()) {
                continue;
            }
            let digest = layout::digest_of(described).map_err(layout::Error::from)?;
            held.entry(digest).or_insert_with(|| Held {
                size: described.size(),
                media_type: described.media_type().to_string(),
                carry: carry.to_owned(),
                image: ref_name(image).map(str::to_owned),
            });
        }
    }
    Ok(held)
}
