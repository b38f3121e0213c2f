//! Layouts: whether what their index names is there. What is in the blobs is for `haversack verify`, which reads them all.

use std::path::Path;

use crate::causes;
use crate::digest::Digest;
use crate::image::store::inspect;
use crate::image::store::layout::{self, Entries, Layout};
use crate::ops::doctor::{Check, advice};
use crate::progress::{Unit, amount};

pub(super) fn layout(path: &Path) -> Check {
    let shown = path.display();
    let next = format!("`haversack verify oci:{shown}` names all that is wrong; copy the image there again");
    match look(path) {
        Ok(Found { images, bytes, missing: None }) => {
            let bytes = amount(bytes, Unit::Bytes);
            Check::ok("layout", format!("{shown}: {images}, {bytes}; nothing is missing"))
        }
        Ok(Found { missing: Some(missing), .. }) => Check::fail("layout", format!("{shown}: {missing}"), next),
        Err(error) => {
            let next = advice(&error, &next);
            Check::fail("layout", causes::line(&error), next)
        }
    }
}

struct Found {
    images: Entries,
    bytes: u64,
    /// The first thing that is not there.
    missing: Option<String>,
}

fn look(path: &Path) -> Result<Found, layout::Error> {
    let layout = Layout::open(path)?;
    let index = layout.index()?;
    let mut found = Found { images: Entries::of(index.manifests()), bytes: 0, missing: None };
    for image in index.manifests() {
        let name = layout::ref_name(image).unwrap_or(image.digest().as_ref()).to_owned();
        let bytes = layout.read_document(image)?;
        let mut read = |described: &oci_spec::image::Descriptor| {
            layout.read_document(described).map_err(|error| causes::line(&error))
        };
        let report = inspect::inspect(image, &bytes, &mut read)?;
        for image in report.images {
            let absent = image.layers.iter().find(|layer| {
                // Layers of Windows, which may not be passed on, need not be there.
                let may_lack = layer.media_type.contains("nondistributable") || layer.media_type.contains("foreign");
                let is_there = layer.digest.parse().is_ok_and(|digest: Digest| layout.holds(&digest, layer.size));
                !is_there && !may_lack
            });
            let missing = image.problem.or_else(|| absent.map(|layer| format!("{} is not whole", layer.digest)));
            found.missing = found.missing.or(missing.map(|missing| format!("{name}: {missing}")));
            found.bytes += image.layer_bytes;
        }
    }
    Ok(found)
}
