//! A small image for tests.

use std::path::Path;

use oci_spec::image::{Descriptor, MediaType};

use crate::compression::Compression;
use crate::digest::Algorithm;
use crate::image::layer::pax::Meta;
use crate::image::layer::{LayerOptions, LayerWriter};
use crate::image::store::layout::{self, Layout};

/// Makes a layout with one image, not named, of a layer with the file `hello`.
pub(crate) fn image(root: &Path) -> (Layout, Descriptor) {
    let layout = Layout::create(root).unwrap();
    let blob = layout.blob_writer(Algorithm::Sha256).unwrap();
    let mut writer = LayerWriter::new(blob, &LayerOptions { compression: Compression::None, level: None }).unwrap();
    writer.file(Path::new("hello"), &Meta { mode: 0o644, ..Meta::default() }, 2, &b"hi"[..]).unwrap();
    let (layer, blob) = writer.finish().unwrap();
    blob.finish().unwrap();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [layer.diff_id] },
    });
    let config = layout.write_blob(MediaType::ImageConfig, &layout::canonical(&config)).unwrap();
    let layer = layout::descriptor(layer.media_type, &layer.digest, layer.size);
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": MediaType::ImageManifest, "config": config, "layers": [layer],
    });
    let manifest = layout.write_blob(MediaType::ImageManifest, &layout::canonical(&manifest)).unwrap();
    (layout, manifest)
}
