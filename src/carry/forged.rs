//! Carries that somebody has made who knows the format.

use std::io::Read as _;

use sha2::{Digest as _, Sha256};

use crate::carry::document::CarryDocument;
use crate::carry::frame::Frame;
use crate::carry::table::Table;
use crate::carry::volume::{self, Volume};
use crate::carry::{Contents, Error, PackOptions, pack, unpack};
use crate::fs::Spool;
use crate::image::{Layout, fixture, manifest};
use crate::progress::Progress;

#[test]
fn a_table_without_a_layer_that_a_manifest_names_lists_no_image() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (layout, image) = fixture::image(&at("from"));
    layout.tag(&image, Some("app:1")).unwrap();
    let bytes = layout.read_document(&image).unwrap();
    let layer = manifest::Manifest::parse("image", &bytes).unwrap().layers()[0].clone();
    let report = pack(&layout, &at("carry"), &PackOptions::default(), &Progress::off()).unwrap().finish().unwrap();

    // The same carry, by its id and its document, but for one blob.
    let path = at("carry/volume-001.zst");
    let volume = Volume::open(&path).unwrap();
    let mut writer = Spool::new(&at("spool")).writer().unwrap();
    let mut frames = Vec::new();
    for placed in &volume.listing.frames {
        let mut bytes = Vec::new();
        volume.frame(placed).read_to_end(&mut bytes).unwrap();
        if placed.number == 0 {
            let mut table = Table::from_bytes(&zstd::decode_all(&bytes[..]).unwrap()).unwrap();
            let before = table.blobs.len();
            table.blobs.retain(|blob| blob.digest.as_str() != layer.digest().as_ref());
            assert_eq!(table.blobs.len() + 1, before);
            bytes = zstd::encode_all(&table.to_bytes()[..], 3).unwrap();
        }
        let data = writer.keep(&bytes).unwrap();
        frames.push(Frame { sha256: Sha256::digest(&bytes).into(), data, is_alone: true });
    }
    let all: Vec<usize> = (0..frames.len()).collect();
    volume::write(&path, (volume.listing.id, 1, 1), &frames, &all).unwrap();
    assert_eq!(CarryDocument::read(&at("carry"), None).unwrap(), report.carry);

    let to = Layout::create(&at("to")).unwrap();
    match unpack(&at("carry"), None, &to, Contents::Dropped, "2026-11-26T00:00:00Z", &Progress::off()).unwrap_err() {
        Error::Incomplete { image: found, digest } => {
            assert_eq!((found, digest.as_str()), (image.digest().to_string(), layer.digest().as_ref()));
        }
        error => panic!("{error}"),
    }
    assert!(to.index().unwrap().manifests().is_empty());
    // Where the layer is there already, nothing is missing.
    to.take_blob(&layout, &layer).unwrap();
    assert!(
        unpack(&at("carry"), None, &to, Contents::Dropped, "2026-11-26T00:00:00Z", &Progress::off()).unwrap().complete
    );
}
