//! A carry that is read where it lies: single blobs of it, without unpacking the rest.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use oci_spec::image::Descriptor;

use crate::carry::base::Ground;
use crate::carry::contents::{Chained, Recent};
use crate::carry::document::CarryDocument;
use crate::carry::import::{self, expand_one, frame_path};
use crate::carry::sign::PublicKey;
use crate::carry::skeleton::{Joined, Skeleton};
use crate::carry::store;
use crate::carry::table::{Blob, Form, Table};
use crate::carry::volume::{Placed, Volume};
use crate::carry::{Error, Lookup};
use crate::compression::LimitedReader;
use crate::digest::Digest;
use crate::fs::{self, PathContext, Slice};
use crate::image::Layout;
use crate::image::store::layout;

/// A carry, opened for reading.
///
/// Frames are decompressed into a directory for work when something in them is asked for, and stay there until that goes away:
/// for documents alone one or two, 64 MiB each; for all layers as many bytes as unpacking needs. A frame is used when it is what
/// its volume says; the SHA-256 of volumes is not asked for (see [`verify`](crate::carry::verify)).
pub struct Reading {
    /// What `carry.json` says.
    pub carry: CarryDocument,
    opened: Arc<Opened>,
    blobs: HashMap<Digest, Blob>,
}

struct Opened {
    table: Table,
    volumes: Vec<Volume>,
    /// Of each frame that is there, its volume and its place in it.
    frames: HashMap<u64, (usize, Placed)>,
    /// Of each frame behind the table, its first content.
    firsts: Vec<usize>,
    /// Of each content with bytes of its own, where it begins in its frame.
    starts: Vec<u64>,
    ground: Ground,
    work: PathBuf,
    decompressed: Mutex<HashMap<u64, Arc<File>>>,
    recent: Recent,
}

impl Reading {
    /// Opens the carry in `directory`; with a key, only one that it signed. `base` is a layout with what the carry is built on;
    /// without it, what is made of that cannot be read. `work` is an empty directory.
    pub fn open(directory: &Path, key: Option<&PublicKey>, base: Option<&Layout>, work: &Path) -> Result<Self, Error> {
        let carry = CarryDocument::read(directory, key)?;
        let mut volumes = Vec::new();
        let mut frames = HashMap::new();
        for file in &carry.volumes {
            let path = directory.join(&file.file);
            // One that is elsewhere is missed when something of it is asked for.
            if std::fs::symlink_metadata(&path).is_err() {
                continue;
            }
            let volume = Volume::open(&path)?;
            if volume.listing.carry() != carry.id {
                return Err(Error::Volume { path, why: "is a volume of another carry" });
            }
            frames.extend(volume.listing.frames.iter().map(|frame| (frame.number, (volumes.len(), frame.clone()))));
            volumes.push(volume);
        }
        let (at, first) = frames.get(&0).ok_or_else(|| Error::Away { directory: directory.to_owned() })?;
        import::take(&volumes[*at], first, work)?;
        let mut table = store::table(work)?;
        let ground = match base {
            Some(layout) => Ground::of(&carry, &table, layout, work, None)?,
            None => Ground::default(),
        };
        let (firsts, starts) = table.places();
        let blobs = std::mem::take(&mut table.blobs).into_iter().map(|blob| (blob.digest.clone(), blob)).collect();
        let (decompressed, work) = (Mutex::default(), work.to_owned());
        let recent = Recent::default();
        let opened = Opened { table, volumes, frames, firsts, starts, ground, work, decompressed, recent };
        Ok(Reading { carry, opened: Arc::new(opened), blobs })
    }

    /// The bytes of a manifest, an index or a configuration, checked; `None` for one that does not travel.
    pub fn document(&self, described: &Descriptor) -> Result<Option<Vec<u8>>, Error> {
        let digest = layout::digest_of(described).map_err(layout::Error::from)?;
        let Some(Blob { form: Form::Whole(refs), .. }) = self.blobs.get(&digest) else { return Ok(None) };
        let mut bytes = Vec::new();
        self.chained(refs).take(layout::DOCUMENT_LIMIT + 1).read_to_end(&mut bytes)?;
        let (found, _) = Digest::of_reader(&bytes[..], digest.algorithm())?;
        if found != digest {
            let why = "a document that it names has another digest";
            return Err(Error::Odd { what: "the carry", why });
        }
        Ok(Some(bytes))
    }

    /// A reader of a blob's plain bytes: the tar of a layer that is taken apart, or the blob as it is, decompressed where it has to be;
    /// `None` for one that does not travel.
    pub fn plain(&self, digest: &Digest) -> Result<Option<Box<dyn Read + Send + '_>>, Error> {
        let Some(blob) = self.blobs.get(digest) else { return Ok(None) };
        Ok(Some(match &blob.form {
            Form::Whole(refs) => {
                let blob = io::BufReader::with_capacity(128 << 10, self.chained(refs));
                crate::compression::decoder(blob)?.1
            }
            Form::Tar { skeleton, plain, .. } => {
                let mut bytes = Vec::new();
                self.chained(skeleton).take(store::SKELETON).read_to_end(&mut bytes)?;
                Box::new(LimitedReader::new(Joined::new(Skeleton::from_bytes(&bytes)?, self.opened.clone()), *plain))
            }
        }))
    }

    fn chained<'a>(&self, refs: &'a [u32]) -> impl Read + Send + use<'a> {
        let opened = self.opened.clone();
        Chained::new(refs.iter().copied(), move |content| opened.open(content))
    }
}

impl Opened {
    /// A frame, decompressed.
    fn frame(&self, number: u64) -> Result<Arc<File>, Error> {
        // Held while it is decompressed: two who ask for one frame are not to do it twice.
        let mut decompressed = self.decompressed.lock().expect("no holder panics");
        if let Some(file) = decompressed.get(&number) {
            return Ok(file.clone());
        }
        let (volume, placed) = self.frames.get(&number).ok_or(Error::NotHere)?;
        let volume = &self.volumes[*volume];
        let path = frame_path(&self.work, number);
        if self.table.prefixes.is_empty() {
            import::take(volume, placed, &self.work)?;
        } else {
            import::keep(volume, placed, &self.work)?;
            expand_one(&self.work, number, &self.table, &self.ground)?;
        }
        let file = fs::open_regular(&path)?;
        let at = usize::try_from(number - 1).map_err(|_| Error::TooMany("frames"))?;
        if file.metadata().at("read", &path)?.len() != self.table.frame_bytes(&self.firsts, at) {
            return Err(Error::Odd { what: "a frame", why: "its contents have another length than the table says" });
        }
        let file = Arc::new(file);
        decompressed.insert(number, file.clone());
        Ok(file)
    }
}

impl Lookup for Arc<Opened> {
    fn size(&self, content: u32) -> Result<u64, Error> {
        let content = content as usize;
        if let Some(nested) = self.table.nested.get(content) {
            return Ok(nested.size);
        }
        let (place, held) = (content - self.table.nested.len(), self.table.held());
        if (place as u64) < held {
            return self.ground.contents.get(place).map(Slice::size).ok_or(Error::NotHere);
        }
        let stored = self.table.lengths.get(place - usize::try_from(held).map_err(|_| Error::TooMany("contents"))?);
        stored.copied().ok_or(Error::Odd { what: "the carry", why: "a content that is not there" })
    }

    fn open(&self, content: u32) -> Result<Box<dyn Read + Send>, Error> {
        if let Some(nested) = self.table.nested.get(content as usize) {
            return nested.open(content, self, &self.recent);
        }
        let size = self.size(content)?;
        let place = content as usize - self.table.nested.len();
        if let Some(held) = self.ground.contents.get(place) {
            return Ok(Box::new(held.reader()));
        }
        let stored = place - usize::try_from(self.table.held()).map_err(|_| Error::TooMany("contents"))?;
        let at = self.firsts.partition_point(|first| *first <= stored);
        let file = self.frame(at as u64)?;
        Ok(Box::new(Slice::of(file, self.starts[stored], size).reader()))
    }
}
