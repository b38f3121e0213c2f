//! Images of one layer.

use haversack::digest::Digest;
use haversack::image::Layout;
use haversack::image::store::layout::canonical;
use oci_spec::image::{Descriptor, MediaType};

/// Writes down an image of one layer that is there, whose tar has that digest.
pub(crate) fn write(layout: &Layout, layer: &Descriptor, tar: &Digest, tag: &str) {
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [tar] },
    });
    let config = layout.write_blob(MediaType::ImageConfig, &canonical(&config)).unwrap();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": MediaType::ImageManifest, "config": config, "layers": [layer],
    });
    let made = layout.write_blob(MediaType::ImageManifest, &canonical(&manifest)).unwrap();
    layout.tag(&made, Some(tag)).unwrap();
}
