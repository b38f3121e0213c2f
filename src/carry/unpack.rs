//! Making images of a carry again.
//!
//! Frames are decompressed into a directory in the layout, one file each, as their volumes arrive; nothing is taken that is
//! not what the volume's table says. When all are there, blobs are put together side by side, each checked before it gets
//! its name; documents follow, the list of images last.

use std::collections::{BTreeSet, HashMap};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use oci_spec::image::Descriptor;
use rayon::prelude::*;
use serde::Serialize;

use crate::carry::base::Ground;
use crate::carry::document::{CarryDocument, Totals};
use crate::carry::import::{Import, expand, is_here, missing_volumes};
use crate::carry::kept::{self, Kept, KeptContents};
use crate::carry::maker::threads;
use crate::carry::sign::PublicKey;
use crate::carry::store::{self, Store};
use crate::carry::table::{Blob, Form};
use crate::carry::{Error, Receipt};
use crate::causes;
use crate::digest::Digest;
use crate::fs::{self, Lock};
use crate::image::manifest;
use crate::image::store::layout::{self, Layout};
use crate::progress::{Progress, Unit};

/// What was unpacked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UnpackReport {
    /// The carry.
    pub carry: String,
    /// Whether it was asked who signed it, and it was the key that was given.
    pub signature_checked: bool,
    /// Whether the images are in the layout; otherwise volumes are missing.
    pub complete: bool,
    /// Volumes that are still to come, or are damaged, by the names of their files.
    pub missing: Vec<String>,
    /// What is wrong with volumes; a line each.
    pub damaged: Vec<String>,
    /// Images and what refers to them, as they are listed.
    pub images: Vec<Descriptor>,
    /// Blobs that were made.
    pub made_blobs: u64,
    /// Their bytes.
    pub made_bytes: u64,
    /// Blobs that were there.
    pub present_blobs: u64,
    /// Blobs that did not travel, as an earlier carry brought them.
    pub needed_blobs: u64,
    /// Layers that the carry is built on and that had not to be read, as their contents were kept.
    pub from_kept_contents: u64,
    /// What is kept for later carries, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_contents: Option<KeptContents>,
    /// Layers whose contents were to be kept and could not be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_kept: Option<NotKept>,
    /// What the side that packed it is to be told, once the images are there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Receipt>,
}

/// Layers whose contents are not kept for later carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotKept {
    /// How many.
    pub layers: u64,
    /// Why, with all causes.
    pub reason: String,
}

/// What becomes of the contents of layers when a carry is unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Contents {
    /// They go when the images are there.
    #[default]
    Dropped,
    /// They stay for later carries, see [`KeptContents`].
    Kept,
}

/// Unpacks a carry, or as much of it as is there, into a layout.
///
/// With a key, nothing is touched of a carry that it did not sign. Contents that cannot be kept are an entry of the report: the images
/// are there by then. What was imported stays when volumes are missing, and the next call goes on with it. `now`
/// is the time for the receipt, RFC 3339. Needs room for the contents and the blobs; holds some 300 MB.
pub fn unpack(
    directory: &Path,
    key: Option<&PublicKey>,
    layout: &Layout,
    contents: Contents,
    now: &str,
    progress: &Progress,
) -> Result<UnpackReport, Error> {
    let carry = CarryDocument::read(directory, key)?;
    carry.check_base(layout.root())?;
    let work = layout.root().join(format!(".carry-{}.partial", carry.id));
    fs::create_dir_all(&work)?;
    let lock = Lock::directory(&work, "another unpack is at work on this carry")?;
    has_room(&carry, layout, &work, contents)?;
    let mut import = Import { carry: &carry, work: &work, frames: None, damaged: Vec::new(), progress };
    for file in &carry.volumes {
        import.volume(&directory.join(&file.file))?;
    }
    let (frames, damaged) = (import.frames, import.damaged);
    let lacking = |number: &u64| !is_here(&work, *number);
    let mut report = UnpackReport {
        carry: carry.id.clone(),
        signature_checked: key.is_some(),
        complete: false,
        missing: Vec::new(),
        damaged,
        images: Vec::new(),
        made_blobs: 0,
        made_bytes: 0,
        present_blobs: 0,
        needed_blobs: carry.needs.len() as u64,
        from_kept_contents: 0,
        kept_contents: None,
        not_kept: None,
        receipt: None,
    };
    if frames.is_none_or(|all| (0..all).any(|number| lacking(&number))) {
        report.missing = missing_volumes(&carry, &work);
        return Ok(report);
    }
    let Making { made, layers, from_kept, is_damaged } = make(&carry, &work, layout, progress)?;
    // A table may leave out what manifests name: no image is listed that is not whole.
    for image in &carry.images {
        let mut visit = |described: &Descriptor| -> Result<(), Error> {
            let digest = layout::digest_of(described).map_err(layout::Error::from)?;
            match layout.holds(&digest, described.size()) || manifest::is_foreign(described.media_type().as_ref()) {
                true => Ok(()),
                false => Err(Error::Incomplete { image: image.digest().to_string(), digest }),
            }
        };
        manifest::walk(image, &mut |described| Ok::<_, Error>(layout.read_document(described)?), &mut visit)?;
    }
    layout.tag_all(&carry.images)?;
    if contents == Contents::Kept {
        let task = progress.task("keeping contents", Unit::Items, Some(layers.len() as u64));
        let wanted: Vec<&Digest> = layers.iter().collect();
        match threads()?.install(|| kept::keep(layout, &wanted, is_damaged, &task)) {
            Ok(kept) => report.kept_contents = Some(kept),
            Err(error) => {
                report.not_kept = Some(NotKept { layers: layers.len() as u64, reason: causes::line(&error) });
            }
        }
    }
    report.from_kept_contents = from_kept;
    report.receipt = Some(Receipt::of(&carry, layout, now)?);
    report.images = carry.images.clone();
    report.complete = true;
    report.made_blobs = made.iter().flatten().count() as u64;
    report.made_bytes = made.iter().flatten().sum();
    report.present_blobs = made.len() as u64 - report.made_blobs;
    drop(lock);
    fs::remove_dir_all(&work)?;
    Ok(report)
}

/// What was made of a carry.
struct Making {
    /// Of each blob its bytes, unless it was there.
    made: Vec<Option<u64>>,
    /// Layers that are taken apart: those of the carry, and those that it is built on.
    layers: Vec<Digest>,
    /// How many of these had not to be read.
    from_kept: u64,
    /// Whether what is kept is not what it was.
    is_damaged: bool,
}

/// Makes the blobs of a carry of which all has come.
fn make(carry: &CarryDocument, work: &Path, layout: &Layout, progress: &Progress) -> Result<Making, Error> {
    let table = store::table(work)?;
    let mut kept = if table.bases.is_empty() { None } else { Kept::open(layout) };
    let ground = threads()?.install(|| Ground::of(carry, &table, layout, work, kept.as_mut()))?;
    expand(work, &table, &ground, progress)?;
    let is_tar = |blob: &&Blob| !matches!(blob.form, Form::Whole(_));
    let bases = table.bases.iter().map(|base| &base.digest);
    let layers = table.blobs.iter().filter(is_tar).map(|blob| &blob.digest).chain(bases).cloned().collect();
    let from_kept = ground.kept;
    let store = Arc::new(Store::open(work, table, ground.contents)?);
    let total = store.table.blobs.iter().map(|blob| blob.size).fold(0, u64::saturating_add);
    let task = progress.task("putting together", Unit::Bytes, Some(total));
    let documents = documents_of(carry, &store)?;
    let is_document = |blob: &&Blob| documents.contains(&blob.digest);
    let make = |blob: &Blob| -> Result<Option<u64>, Error> {
        let made = store.blob(blob, layout, &task)?;
        Ok(made.then_some(blob.size))
    };
    let mut made: Vec<Option<u64>> =
        store.table.blobs.par_iter().filter(|blob| !is_document(blob)).map(make).collect::<Result<_, Error>>()?;
    // Children first, as they were packed.
    for blob in store.table.blobs.iter().filter(is_document) {
        made.push(make(blob)?);
    }
    let is_damaged = kept.is_some_and(|kept| kept.is_damaged);
    Ok(Making { made, layers, from_kept, is_damaged })
}

/// Refuses before anything is written where the contents cannot fit. What images need beside them depends on what is there.
fn has_room(carry: &CarryDocument, layout: &Layout, work: &Path, contents: Contents) -> Result<(), Error> {
    let mut there = 0_u64;
    for path in fs::list(work)? {
        there = there.saturating_add(std::fs::symlink_metadata(&path).map_or(0, |found| found.len()));
    }
    let kept = match contents {
        Contents::Dropped => None,
        Contents::Kept => Some(kept::room_taken(layout)),
    };
    let needed = room_needed(&carry.totals, there, kept);
    // Where the file system does not say, it is tried.
    let Ok(found) = rustix::fs::statvfs(work) else { return Ok(()) };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    if free > 0 && needed > free {
        return Err(Error::NoRoom { path: work.to_owned(), needed, free });
    }
    Ok(())
}

/// Bytes that contents need in any case: those that are there need none, and those that are to stay may be among the bytes that are
/// `kept`, which only the carry's table tells.
fn room_needed(totals: &Totals, there: u64, kept: Option<u64>) -> u64 {
    let only_now = totals.content_bytes.saturating_add(totals.held_bytes).saturating_sub(there);
    only_now.saturating_add(kept.map_or(0, |kept| totals.content_bytes.saturating_sub(kept)))
}

/// Digests of the manifests and indexes of a carry, read from its contents.
fn documents_of(carry: &CarryDocument, store: &Arc<Store>) -> Result<BTreeSet<Digest>, Error> {
    let blobs: HashMap<&Digest, &Blob> = store.table.blobs.iter().map(|blob| (&blob.digest, blob)).collect();
    let mut documents = BTreeSet::new();
    let mut read = |described: &Descriptor| -> Result<Vec<u8>, Error> {
        let digest = layout::digest_of(described).map_err(layout::Error::from)?;
        let missing = || Error::Odd { what: "the carry", why: "a manifest that it names is not in it" };
        let blob = blobs.get(&digest).ok_or_else(missing)?;
        documents.insert(digest);
        let Form::Whole(refs) = &blob.form else {
            return Err(Error::Odd { what: "the carry", why: "a manifest in it is an archive" });
        };
        let mut bytes = Vec::new();
        store.chained(refs).take(layout::DOCUMENT_LIMIT + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    for image in &carry.images {
        manifest::walk(image, &mut read, &mut |_| Ok(()))?;
    }
    Ok(documents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_asked_for_once_for_what_is_kept_already() {
        let totals = Totals { content_bytes: 100, held_bytes: 10, ..Totals::default() };
        for (there, kept, needed) in [
            (0, None, 110),
            (30, None, 80),
            (500, None, 0),
            (0, Some(0), 210),
            (0, Some(60), 150),
            (0, Some(5000), 110),
            (110, Some(60), 40),
        ] {
            assert_eq!(room_needed(&totals, there, kept), needed, "{there} {kept:?}");
        }
        let beyond = Totals { content_bytes: u64::MAX, ..totals };
        assert_eq!(room_needed(&beyond, 0, Some(0)), u64::MAX);
    }
}
