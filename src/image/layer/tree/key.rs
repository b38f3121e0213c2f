//! What tells a tree from others, without looking into files.

use std::io::{self, Write};

use crate::digest::{Algorithm, Digest, HashingWriter};
use crate::image::layer::tree::{Kind, Tree};

impl Tree {
    /// A digest that within one process only equal trees have: of names and metadata, and of which contents they are.
    pub(crate) fn key(&self) -> Digest {
        let mut hash = HashingWriter::new(io::sink(), Algorithm::Sha256);
        let mut field = |bytes: &[u8]| {
            // With its length before it, no field can run into the next.
            let written = hash.write_all(&(bytes.len() as u64).to_le_bytes()).and_then(|()| hash.write_all(bytes));
            written.expect("a sink takes everything");
        };
        for (name, node) in &self.nodes {
            field(name.path().as_os_str().as_encoded_bytes());
            field(&node.mode.to_le_bytes());
            field(&node.uid.to_le_bytes());
            field(&node.gid.to_le_bytes());
            field(&node.mtime.map_or(Vec::new(), |time| time.to_le_bytes().to_vec()));
            field(&(node.xattrs.len() as u64).to_le_bytes());
            for (attribute, value) in &node.xattrs {
                field(attribute.as_bytes());
                field(value);
            }
            match &node.kind {
                Kind::Directory => field(b"directory"),
                Kind::Parent => field(b"parent"),
                Kind::Opaque => field(b"opaque"),
                Kind::Whiteout => field(b"whiteout"),
                Kind::Bytes(bytes) => [&b"bytes"[..], bytes].into_iter().for_each(&mut field),
                Kind::Yielding(bytes) => [&b"yielding"[..], bytes].into_iter().for_each(&mut field),
                Kind::File { source, size } => {
                    [&b"file"[..], source.as_os_str().as_encoded_bytes(), &size.to_le_bytes()[..]]
                        .into_iter()
                        .for_each(&mut field);
                }
                Kind::Slice(slice) => {
                    field(b"slice");
                    slice.identity().iter().for_each(|number| field(&number.to_le_bytes()));
                }
                Kind::Symlink(to) => {
                    [&b"symlink"[..], to.as_os_str().as_encoded_bytes()].into_iter().for_each(&mut field);
                }
                Kind::Merge(to) => [&b"merge"[..], to.as_os_str().as_encoded_bytes()].into_iter().for_each(&mut field),
                Kind::HardLink(to) => {
                    [&b"link"[..], to.as_os_str().as_encoded_bytes()].into_iter().for_each(&mut field);
                }
            }
        }
        hash.finish().0
    }
}
