//! One image of several, each for one platform.

use std::collections::HashMap;

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};

use crate::digest::Digest;
use crate::image::build::assemble::{BuildReport, Error};
use crate::image::build::fingerprint::FINGERPRINT;
use crate::image::store::layout::{self, Layout};

/// Makes one image of several, each for one platform. One alone stays as it is.
///
/// The index has the annotations that all of them have.
pub fn join(images: &[(Descriptor, BuildReport)], layout: &Layout) -> Result<(Descriptor, BuildReport), Error> {
    if let [only] = images {
        return Ok(only.clone());
    }
    let mut manifests = Vec::new();
    let mut annotations: Option<HashMap<String, String>> = None;
    for (image, report) in images {
        let document: ImageManifest = layout::parse(image.digest().as_ref(), &layout.read_document(image)?)?;
        let own = document.annotations().clone().unwrap_or_default();
        match &mut annotations {
            None => annotations = Some(own),
            Some(common) => common.retain(|key, value| own.get(key) == Some(value)),
        }
        let mut manifest = image.clone();
        manifest.set_platform(report.images.first().map(|it| it.platform.to_spec()));
        manifests.push(manifest);
    }
    let fingerprints: Vec<&Digest> = images.iter().map(|(_, report)| &report.fingerprint).collect();
    let fingerprint = Digest::sha256(layout::canonical(&fingerprints));
    let mut annotations = annotations.unwrap_or_default();
    annotations.insert(FINGERPRINT.to_owned(), fingerprint.to_string());
    let mut index: ImageIndex = layout::index_of(manifests);
    index.set_annotations(Some(annotations));
    let image = layout.write_blob(MediaType::ImageIndex, &layout::canonical(&index))?;
    let report = BuildReport {
        digest: layout::digest_of(&image).map_err(layout::Error::from)?,
        size: image.size(),
        media_type: image.media_type().clone(),
        created: images.iter().map(|(_, report)| report.created).max().unwrap_or_default(),
        fingerprint,
        images: images.iter().flat_map(|(_, report)| report.images.clone()).collect(),
    };
    Ok((image, report))
}
