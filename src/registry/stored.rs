//! Blobs on their way between a place on the disk and a registry.

use std::io::{self, Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use oci_spec::image::Descriptor;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::digest::Digest;
use crate::fs::{self, PathContext};
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
            let (given_back, mut buffers) = mpsc::unbounded_channel();
            loop {
                let bytes = buffers.try_recv().unwrap_or_else(|_| vec![0; PIECE]);
                let mut piece = Piece { bytes, filled: 0, given_back: given_back.clone() };
                piece.filled = fs::read_full(&mut reader, &mut piece.bytes)?;
                if piece.filled == 0 || sender.blocking_send(Ok(Bytes::from_owner(piece))).is_err() {
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

/// What was read of a blob. Its memory is read into again when the other end is done with it: new memory costs the kernel as much as
/// what is read into it.
struct Piece {
    bytes: Vec<u8>,
    filled: usize,
    given_back: mpsc::UnboundedSender<Vec<u8>>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        // Nobody takes it when the blob was read to its end.
        let _ = self.given_back.send(std::mem::take(&mut self.bytes));
    }
}

/// Bytes of a blob that are read at one time.
const PIECE: usize = 128 << 10;
/// How many of them may wait for the other end.
const PIECES_AHEAD: usize = 2;

#[cfg(test)]
mod tests {
    use oci_spec::image::MediaType;

    use super::*;

    #[tokio::test]
    async fn pieces_are_what_lies_there_however_long_they_are_held() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(dir.path()).unwrap();
        let content: Vec<u8> = (0..3 * PIECE + 1000).map(|n| (n % 251) as u8).collect();
        let blob = layout.write_blob(MediaType::ImageLayer, &content).unwrap();
        let store = Arc::new(Store::Layout(layout));
        for offset in [0, 1, PIECE - 1, PIECE, 3 * PIECE + 999, 3 * PIECE + 1000] {
            let mut pieces = read_blob(store.clone(), blob.clone(), offset as u64);
            let (mut at, mut held) = (offset, Vec::new());
            while let Some(piece) = pieces.recv().await {
                let piece = piece.unwrap();
                assert!(piece == content[at..at + piece.len()], "{at}");
                let end = at + piece.len();
                // Every other one is given back at once, and read into again while the others are still here.
                held.extend((at / PIECE).is_multiple_of(2).then_some((at, piece)));
                at = end;
            }
            assert_eq!(at, content.len());
            assert!(held.iter().all(|(at, piece)| *piece == content[*at..at + piece.len()]), "{offset}");
        }
    }
}
