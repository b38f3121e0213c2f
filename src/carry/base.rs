//! What a site holds: what need not travel, and what a carry is then built on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use oci_spec::image::{Descriptor, MediaType};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::carry::kept::{Kept, OfLayer};
use crate::carry::numbering;
use crate::carry::parts::Parts;
use crate::carry::table::{BaseLayer, Table};
use crate::carry::{CarryDocument, Error};
use crate::digest::Digest;
use crate::fs::{Slice, Spool};
use crate::image::manifest::{self, Manifest};
use crate::image::store::layout::{self, Layout, descriptor, ref_name};
use crate::image::store::referrers::subject_of_tag;

/// Blobs that a site holds, and where this side has them, too.
#[derive(Clone, Debug)]
pub struct Base {
    /// Their bytes, here.
    pub layout: Layout,
    /// A directory for what is known of their contents; it may be removed at any time.
    pub index: PathBuf,
    /// Each with the carry that brought it.
    pub held: BTreeMap<Digest, Held>,
    /// Images that are listed there, and what refers to them, with their names.
    pub images: BTreeSet<(String, Option<String>)>,
}

impl Base {
    /// Whether all of these are listed there under the same names.
    pub(super) fn lists(&self, images: &[Descriptor]) -> bool {
        images.iter().all(|image| {
            let name = layout::ref_name(image).map(str::to_owned);
            self.images.contains(&(image.digest().to_string(), name))
        })
    }
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
    pub fn check_base(&self, root: &Path) -> Result<(), Error> {
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

/// What a carry is built on, taken out of layers on the far side.
#[derive(Default)]
pub(super) struct Ground {
    /// Contents that are held, in order.
    pub(super) contents: Vec<Slice>,
    /// The skeleton of each layer, with its own numbers.
    pub(super) skeletons: Vec<Slice>,
    /// Layers that had not to be read.
    pub(super) kept: u64,
}

impl Ground {
    /// Takes what a table names from what is kept, or out of the layers of a layout, into unnamed files in `work`.
    pub(super) fn of(
        carry: &CarryDocument,
        table: &Table,
        layout: &Layout,
        work: &Path,
        kept: Option<&mut Kept>,
    ) -> Result<Self, Error> {
        let spool = Spool::new(work);
        let kept: Vec<Option<OfLayer>> = match kept {
            Some(kept) => table.bases.iter().map(|base| kept.of(base)).collect(),
            None => table.bases.iter().map(|_| None).collect(),
        };
        let one = |(base, kept): (&BaseLayer, &Option<OfLayer>)| -> Result<(Vec<Slice>, Slice), Error> {
            // It was looked for before anything was begun.
            if carry.needs.iter().all(|need| need.digest != base.digest) {
                return Err(Error::Odd {
                    what: "the table of the carry",
                    why: "a layer that carry.json does not name",
                });
            }
            if let Some(OfLayer { contents, skeleton }) = kept {
                return Ok((contents.clone(), skeleton.clone()));
            }
            let mut writer = spool.writer()?;
            let (mut runs, mut taken) = (base.contents.iter(), Vec::new());
            let mut run = runs.next();
            let skeleton = numbering::split(layout, &base.digest, &mut |met| {
                while run.is_some_and(|run| run.end <= met.number) {
                    run = runs.next();
                }
                if run.is_some_and(|run| run.contains(&met.number)) {
                    taken.push(writer.keep(met.bytes)?);
                }
                Ok(())
            })?;
            if taken.len() as u64 != base.count() {
                return Err(Error::BaseDamaged { path: layout.blob_path(&base.digest) });
            }
            Ok((taken, writer.keep(&skeleton.to_bytes(|number| number))?))
        };
        let mut ground = Ground { kept: kept.iter().flatten().count() as u64, ..Ground::default() };
        for (contents, skeleton) in table.bases.par_iter().zip(&kept).map(one).collect::<Result<Vec<_>, _>>()? {
            ground.contents.extend(contents);
            ground.skeletons.push(skeleton);
        }
        Ok(ground)
    }
}

/// All blobs of images, documents too, that may be distributed, as what `carry` brought.
///
/// Each is with the name of an image that has it; a signature or an SBOM, which has none, is with that of what it is of.
pub fn held_by(layout: &Layout, images: &[Descriptor], carry: &str) -> Result<BTreeMap<Digest, Held>, Error> {
    let mut held: BTreeMap<Digest, Held> = BTreeMap::new();
    let name = |image: &Descriptor| ref_name(image).filter(|name| subject_of_tag(name).is_none()).map(str::to_owned);
    let (named, mut others): (Vec<&Descriptor>, Vec<&Descriptor>) =
        images.iter().partition(|image| name(image).is_some());
    for image in named {
        add(layout, image, carry, name(image).as_deref(), &mut held)?;
    }
    // What refers to a referrer comes after it.
    while !others.is_empty() {
        let before = others.len();
        let mut left = Vec::new();
        for image in others {
            match subject(layout, image)?.and_then(|subject| held.get(&subject)) {
                Some(of) => {
                    let name = of.image.clone();
                    add(layout, image, carry, name.as_deref(), &mut held)?;
                }
                None => left.push(image),
            }
        }
        others = left;
        if others.len() == before {
            break;
        }
    }
    for image in others {
        add(layout, image, carry, None, &mut held)?;
    }
    Ok(held)
}

/// What an entry refers to: by its manifest, or by its name as cosign gives it.
fn subject(layout: &Layout, image: &Descriptor) -> Result<Option<Digest>, Error> {
    if let Some(subject) = ref_name(image).and_then(subject_of_tag) {
        return Ok(Some(subject));
    }
    if !manifest::is_manifest(image.media_type()) {
        return Ok(None);
    }
    let manifest = Manifest::parse(image.digest().as_ref(), &layout.read_document(image)?)?;
    Ok(manifest.subject.as_ref().map(layout::digest_of).transpose().map_err(layout::Error::from)?)
}

fn add(
    layout: &Layout,
    image: &Descriptor,
    carry: &str,
    name: Option<&str>,
    held: &mut BTreeMap<Digest, Held>,
) -> Result<(), Error> {
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
            image: name.map(str::to_owned),
        });
    }
    Ok(())
}
