//! Images of one layer.

use haversack::digest::Digest;
use haversack::image::Layout;
use haversack::image::store::layout::{canonical, descriptor};
use oci_spec::image::MediaType;

/// Writes down an image of one layer that is there, without compression.
pub(crate) fn write(layout: &Layout, digest: &Digest, size: u64, tag: &str) {
    let layer = descriptor(MediaType::ImageLayer, digest, size);
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [digest] },
    });
    let config = layout.write_blob(MediaType::ImageConfig, &canonical(&config)).unwrap();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": MediaType::ImageManifest, "config": config, "layers": [layer],
    });
    let made = layout.write_blob(MediaType::ImageManifest, &canonical(&manifest)).unwrap();
    layout.tag(&made, Some(tag)).unwrap();
}
