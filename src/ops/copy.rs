//! An image from one place to another, unchanged: what `haversack copy` does.

use serde::Serialize;

use crate::image::manifest;
use crate::image::store::archive;
use crate::ops::connect::Destination;
use crate::ops::{Access, Error, block_on};
use crate::plural;
use crate::progress::{Progress, Unit, amount};
use crate::reference::ImageRef;
use crate::registry::{CopyOptions, CopyReport, copy};
use crate::table;

/// What is copied where.
#[derive(Clone, Debug)]
pub struct CopyImageOptions {
    /// From where.
    pub source: ImageRef,
    /// To where. A digest in it is what the copy must have.
    pub destination: ImageRef,
    /// How. A directory (`dir:`) has no place for what refers to an image, which is left out and named there.
    pub copying: CopyOptions,
    /// How the source is spoken to.
    pub from: Access,
    /// How the destination is spoken to.
    pub to: Access,
}

/// What was copied where, or with `dry_run` would be.
#[derive(Debug, Serialize)]
pub struct Copied {
    /// From where.
    pub source: ImageRef,
    /// To where.
    pub destination: ImageRef,
    /// Whether nothing was sent.
    pub dry_run: bool,
    /// What was copied.
    #[serde(flatten)]
    pub report: CopyReport,
}

/// Copies an image. In a place on the disk it appears when it is whole.
pub fn copy_image(options: &CopyImageOptions, progress: &Progress) -> Result<Copied, Error> {
    let CopyImageOptions { source: from, destination, copying, .. } = options;
    let copying = CopyOptions {
        takes_referrers: !matches!(destination, ImageRef::Dir { .. }),
        expected: match destination {
            ImageRef::Docker(remote) => remote.target.digest().cloned(),
            _ => None,
        },
        ..copying.clone()
    };
    // It outlives the runtime: when a copy fails, others of its writers may still be at work in what then goes away.
    let mut held = None;
    let (image, mut report) = block_on(async {
        let (source, image) = options.from.open(from).await?;
        if let ImageRef::DockerArchive { path, .. } = destination
            && manifest::is_index(image.media_type())
            && copying.platforms.len() != 1
        {
            let platforms = manifest::children(&image, &source.document(&image).await?)?.len();
            if platforms != 1 {
                return Err(archive::Error::SeveralPlatforms { path: path.clone(), platforms }.into());
            }
        }
        let place = Destination::open(destination, &options.to, copying.dry_run).await?;
        let place = held.insert(place);
        let report = copy(&source, &image, &place.target, place.name.as_deref(), &copying, progress).await?;
        Ok::<_, Error>((image, report))
    })?;
    if let Some(place) = held.filter(|_| !copying.dry_run) {
        report.digest = place.finish(&image, &report)?;
    }
    let (source, destination) = (from.clone(), destination.clone());
    Ok(Copied { source, destination, dry_run: copying.dry_run, report })
}

impl Copied {
    /// What was copied, for people.
    pub fn to_text(&self) -> String {
        let report = &self.report;
        let place = match &self.destination {
            ImageRef::Docker(remote) if remote.target.digest().is_some() => self.destination.to_string(),
            destination => format!("{destination}@{}", report.digest),
        };
        let verb = if self.dry_run { "would be sent" } else { "sent" };
        let mut text = format!(
            "{place}\n  {} {verb}: {}\n",
            plural::count(report.sent_blobs, "blob"),
            amount(report.sent_bytes, Unit::Bytes)
        );
        let mounted = match self.dry_run {
            true => ["blob would be mounted from another repository", "blobs would be mounted from another repository"],
            false => ["blob mounted from another repository", "blobs mounted from another repository"],
        };
        let along = match self.dry_run {
            true => [
                "signature, SBOM or attestation would come along",
                "signatures, SBOMs or attestations would come along",
            ],
            false => ["signature, SBOM or attestation came along", "signatures, SBOMs or attestations came along"],
        };
        text += &table::counts([
            (report.present_blobs, ["blob was there", "blobs were there"]),
            (report.mounted_blobs, mounted),
            (report.referrers, along),
            (
                report.foreign,
                [
                    "layer may not be distributed and is not in the source: it stays where its URLs lead",
                    "layers may not be distributed and are not in the source: they stay where their URLs lead",
                ],
            ),
            (
                report.not_asked,
                [
                    "entry of the source without a name stays there: nothing says what it belongs to",
                    "entries of the source without names stay there: nothing says what they belong to",
                ],
            ),
        ]);
        text.extend(report.left_out.iter().map(|left_out| format!("  {left_out}\n")));
        text
    }
}
