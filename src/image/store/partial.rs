//! A blob that arrives in a layout piece by piece, over several runs if need be.
//!
//! What has arrived lies in `.sha256-HEX.partial` in the layout and stays there when the connection or the process
//! ends; the next one goes on behind it. As with every other blob, nothing has the blob's own name before its digest is
//! known to be right.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use oci_spec::image::Descriptor;

use crate::digest::{Digest, Hasher};
use crate::fs::{self, PathContext};
use crate::image::store::layout::{self, Error, Layout};

/// A blob on its way. Dropped unfinished, what has arrived is kept for the next attempt.
pub struct PartialBlob {
    layout: Layout,
    file: File,
    path: PathBuf,
    digest: Digest,
    size: u64,
    hasher: Hasher,
    arrived: u64,
    /// Up to here the disk has it, or has begun to write it.
    handed_on: u64,
}

impl PartialBlob {
    /// Starts a blob, or goes on with what an earlier attempt left of it, which is read to be hashed. `None` when
    /// somebody else is at it.
    pub fn open(layout: &Layout, described: &Descriptor) -> Result<Option<Self>, Error> {
        let digest = layout::digest_of(described)?;
        let path = path_in(layout, &digest);
        let mut file = fs::resume(&path)?;
        // Who finished it renamed the file that we may have opened just before.
        if file.try_lock().is_err() || !fs::is_same_file(&file, &path) {
            return Ok(None);
        }
        let mut hasher = Hasher::new(digest.algorithm());
        let mut arrived = 0;
        let mut buffer = vec![0; 256 << 10];
        loop {
            let n = file.read(&mut buffer).at("read", &path)?;
            if n == 0 {
                break;
            }
            hasher.update(&buffer[..n]);
            arrived += n as u64;
        }
        let (layout, size, handed_on) = (layout.clone(), described.size(), arrived);
        let mut blob = PartialBlob { layout, file, path, digest, size, hasher, arrived, handed_on };
        if blob.arrived > blob.size {
            blob.restart()?;
        }
        Ok(Some(blob))
    }

    /// Whether an earlier attempt left a beginning of a blob.
    pub fn is_begun(layout: &Layout, digest: &Digest) -> bool {
        std::fs::symlink_metadata(path_in(layout, digest)).is_ok_and(|found| found.len() > 0)
    }

    /// How many bytes are there.
    pub fn arrived(&self) -> u64 {
        self.arrived
    }

    /// Adds what follows.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).at("write", &self.path)?;
        self.hasher.update(bytes);
        self.arrived += bytes.len() as u64;
        if self.arrived - self.handed_on >= HANDED_ON {
            fs::begin_writing(&self.file, self.handed_on, self.arrived);
            self.handed_on = self.arrived;
        }
        Ok(())
    }

    /// Gives the blob its name, if it is what was described; else what arrived is worth nothing and goes away.
    pub fn finish(self) -> Result<(), Error> {
        let found = self.hasher.finish();
        let (expected_text, found_text) = match self.arrived == self.size {
            true => (self.digest.to_string(), found.to_string()),
            false => (format!("{} bytes", self.size), format!("{} bytes", self.arrived)),
        };
        if expected_text != found_text {
            fs::remove_file(&self.path)?;
            return Err(Error::Mismatch { name: self.digest.to_string(), expected: expected_text, found: found_text });
        }
        self.file.sync_all().at("sync", &self.path)?;
        let path = self.layout.blob_path(&self.digest);
        fs::create_dir_all(fs::parent(&path))?;
        fs::rename(&self.path, &path)?;
        Ok(fs::sync_dir(fs::parent(&path))?)
    }

    /// Gives up. What has arrived is kept for the next attempt; a beginning of nothing is none.
    pub fn leave(self) {
        if self.arrived == 0 {
            let _ = fs::remove_file(&self.path);
        }
    }

    fn restart(&mut self) -> Result<(), Error> {
        self.file.set_len(0).and_then(|()| io::Seek::rewind(&mut self.file)).at("write", &self.path)?;
        self.hasher = Hasher::new(self.digest.algorithm());
        (self.arrived, self.handed_on) = (0, 0);
        Ok(())
    }
}

fn path_in(layout: &Layout, digest: &Digest) -> PathBuf {
    layout.root().join(format!(".{}-{}.partial", digest.algorithm().name(), digest.hex()))
}

/// So many bytes are given to the disk at one time.
const HANDED_ON: u64 = 8 << 20;

#[cfg(test)]
mod tests {
    use oci_spec::image::MediaType;

    use super::*;

    fn blob(bytes: &[u8]) -> (tempfile::TempDir, Layout, Descriptor) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(dir.path()).unwrap();
        let described = layout::descriptor(MediaType::ImageLayer, &Digest::sha256(bytes), bytes.len() as u64);
        (dir, layout, described)
    }

    #[test]
    fn the_next_run_goes_on_where_the_last_one_ended() {
        let (_dir, layout, described) = blob(b"a whole blob");
        let mut first = PartialBlob::open(&layout, &described).unwrap().unwrap();
        first.write(b"a whole").unwrap();
        assert!(PartialBlob::open(&layout, &described).unwrap().is_none());
        drop(first);
        Layout::create(layout.root()).unwrap();
        let mut second = PartialBlob::open(&layout, &described).unwrap().unwrap();
        assert_eq!(second.arrived(), 7);
        second.write(b" blob").unwrap();
        second.finish().unwrap();
        assert_eq!(layout.read_document(&described).unwrap(), b"a whole blob");
        assert_eq!(layout.strays().unwrap(), []);
    }

    #[test]
    fn wrong_bytes_get_no_name_and_are_not_kept() {
        for (bytes, found) in [(&b"a whole blub"[..], "found sha256:"), (b"a", "found 1 bytes")] {
            let (_dir, layout, described) = blob(b"a whole blob");
            let mut partial = PartialBlob::open(&layout, &described).unwrap().unwrap();
            partial.write(bytes).unwrap();
            assert!(partial.finish().unwrap_err().to_string().contains(found));
            assert!(!layout.holds(&layout::digest_of(&described).unwrap(), 12));
            assert_eq!(PartialBlob::open(&layout, &described).unwrap().unwrap().arrived(), 0);
        }
        // What is too long already cannot become right.
        let (_dir, layout, described) = blob(b"short");
        let mut partial = PartialBlob::open(&layout, &described).unwrap().unwrap();
        partial.write(b"too long").unwrap();
        drop(partial);
        assert_eq!(PartialBlob::open(&layout, &described).unwrap().unwrap().arrived(), 0);
    }
}
