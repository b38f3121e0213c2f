//! Blobs on their way between a place on the disk and a registry.

use std::io::{self, Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use oci_spec::image::Descriptor;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::digest::Digest;
use crate::fs::PathContext;
use crate::image::store::layout;
use crate::image::{Layout, PartialBlob, Store};
use crate::registry::client::Error;
use crate::registry::download::{Chunks, Watch};
use crate::registry::ends::Source;

/// Writes a blob into a layout, behind what an earlier attempt left of it; it gets its name when it is what was
/// described.
pub(super) async fn receive(
    source: &Source,
    layout: &Layout,
    described: &Descriptor,
    watch: &Arc<Watch>,
) -> Result<(), Error> {
    let open = {
        let (layout, described) = (layout.clone(), described.clone());
        move || PartialBlob::open(&layout, &described)
    };
    let partial = spawn_blocking(open).await.expect("opening a blob does not panic")?;
    let begun = partial.as_ref().map_or(0, PartialBlob::arrived);
    let mut chunks = source.blob(described, begun).watched(watch, begun);
    let (beside, expected) = (layout.clone(), described.clone());
    let is_remote = matches!(source, Source::Repository(_));
    let write = move || {
        let Some(mut partial) = partial else { return receive_beside(&beside, &expected, chunks) };
        while let Some(chunk) = chunks.blocking_recv() {
            match chunk {
                Ok(chunk) => partial.write(&chunk)?,
                Err(error) => {
                    partial.leave();
                    return Err(error);
                }
            }
        }
        // A repository that sends too little is an error already. Here the program ends, because of another blob, and what
        // has arrived is for the next one.
        if is_remote && partial.arrived() < expected.size() {
            let bytes = |count: u64| format!("{count} bytes");
            let (place, expected, found) =
                (expected.digest().to_string(), bytes(expected.size()), bytes(partial.arrived()));
            partial.leave();
            return Err(Error::Mismatch { place, expected, found });
        }
        Ok(partial.finish()?)
    };
    match spawn_blocking(write).await.expect("writing a blob does not panic") {
        // What an earlier attempt left was wrong; it is gone now.
        Err(Error::Layout(layout::Error::Mismatch { .. })) if begun > 0 => {
            Box::pin(receive(source, layout, described, watch)).await
        }
        result => result,
    }
}

/// The same, while somebody else writes the same blob: whoever is ready first gives it its name.
fn receive_beside(layout: &Layout, described: &Descriptor, mut chunks: Chunks) -> Result<(), Error> {
    let digest = layout::digest_of(described)?;
    let path = layout.blob_path(&digest);
    let mut blob = layout.blob_writer(digest.algorithm())?;
    while let Some(chunk) = chunks.blocking_recv() {
        blob.write_all(&chunk?).at("write", &path).map_err(layout::Error::from)?;
    }
    Ok(blob.finish_expecting(described)?)
}

/// Hashes a blob of a store, which is to be what was described.
pub(super) async fn checked(store: Arc<Store>, described: Descriptor) -> Result<(), Error> {
    let check = move || {
        let expected = layout::digest_of(&described)?;
        let place = store.place_of(&expected);
        let (found, size) = Digest::of_reader(store.open_raw(&expected)?, expected.algorithm())?;
        let (expected, found) = match size == described.size() {
            true => (expected.to_string(), found.to_string()),
            false => (format!("{} bytes", described.size()), format!("{size} bytes")),
        };
        if expected == found { Ok(()) } else { Err(Error::Mismatch { place, expected, found }) }
    };
    spawn_blocking(check).await.expect("hashing a blob does not panic")
}

/// Reads a blob of a store in pieces. The receiver finds out whether it is what was described.
pub(super) fn read_blob(store: Arc<Store>, described: Descriptor, offset: u64) -> Chunks {
    let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
    spawn_blocking(move || {
        let read = || {
            // One more byte than described is enough to see that there are too many.
            let mut reader = store.open_raw(&layout::digest_of(&described)?)?.take(described.size().saturating_add(1));
            io::copy(&mut (&mut reader).take(offset), &mut io::sink())?;
            loop {
                // Not zeroed first, which would cost as much as reading it.
                let mut piece = Vec::with_capacity(PIECE);
                (&mut reader).take(PIECE as u64).read_to_end(&mut piece)?;
                if piece.is_empty() || sender.blocking_send(Ok(Bytes::from(piece))).is_err() {
                    return Ok::<(), Error>(());
                }
            }
        };
        if let Err(error) = read() {
            // When nobody listens any more, nobody needs to know.
            let _ = sender.blocking_send(Err(error));
        }
    });
    Chunks::new(receiver)
}

/// Bytes of a blob that are read at one time.
const PIECE: usize = 128 << 10;
/// How many of them may wait for the other end.
const PIECES_AHEAD: usize = 2;
