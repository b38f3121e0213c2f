//! Checks that everything in a layout, an archive or a registry's image is what its name says, and finds all that is not in one run.
//!
//! Documents are followed from `index.json`. Every blob is read once: its digest and size, and of a layer also what is
//! in it, decompressed and compared with the diff id that the configuration has. Files that no layout
//! has and what killed writers left are findings, too; blobs that nothing refers to are counted.

mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufReader, Read};
use std::path::PathBuf;

use oci_spec::image::{Descriptor, MediaType};
use rayon::prelude::*;

pub use self::report::{Finding, Problem, Unneeded, VerifyReport};
use crate::compression::{self, Compression, LimitedReader};
use crate::digest::{Algorithm, Digest, HashingReader};
use crate::image::manifest::{self, Manifest};
use crate::image::store::layout::{self, Entries};
use crate::image::store::{self, Store};
use crate::limits;
use crate::progress::{Progress, Task, Unit};

/// What is checked, and what is done about it.
#[derive(Clone, Copy, Debug)]
pub struct VerifyOptions {
    /// Most bytes that one layer may decompress to: beyond it is a bomb.
    pub layer_limit: u64,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        VerifyOptions { layer_limit: 64 << 30 }
    }
}

/// Where images are read from to be checked: a [`Store`], or a registry.
pub trait Contents: Sync {
    /// Why it cannot be read.
    type Error: std::error::Error;

    /// What to call it while it is checked.
    fn place(&self) -> String;

    /// Every image in it.
    fn images(&self) -> Result<Vec<Descriptor>, Self::Error>;

    /// How large a blob is there; `None` when it is missing.
    fn size(&self, described: &Descriptor, digest: &Digest) -> Option<u64>;

    /// Reads a manifest, an index or a configuration: at most 4 MiB, checked.
    fn read_document(&self, described: &Descriptor) -> Result<Vec<u8>, Self::Error>;

    /// A reader of a blob as it is, whatever its name says.
    fn open(&self, described: &Descriptor, digest: &Digest) -> Result<Box<dyn Read + Send>, Self::Error>;

    /// Every blob with its size, as far as can be known.
    fn blobs(&self) -> Result<Vec<(Digest, u64)>, Self::Error>;

    /// Files that do not belong there, and whether they are what a killed writer left.
    fn strays(&self) -> Result<Vec<(PathBuf, bool)>, Self::Error>;
}

impl Contents for Store {
    type Error = store::Error;

    fn place(&self) -> String {
        self.path().display().to_string()
    }

    fn images(&self) -> Result<Vec<Descriptor>, store::Error> {
        Ok(self.index()?.manifests().clone())
    }

    fn size(&self, _described: &Descriptor, digest: &Digest) -> Option<u64> {
        self.blob_size(digest)
    }

    fn read_document(&self, described: &Descriptor) -> Result<Vec<u8>, store::Error> {
        Store::read_document(self, described)
    }

    fn open(&self, _described: &Descriptor, digest: &Digest) -> Result<Box<dyn Read + Send>, store::Error> {
        self.open_raw(digest)
    }

    fn blobs(&self) -> Result<Vec<(Digest, u64)>, store::Error> {
        Store::blobs(self)
    }

    fn strays(&self) -> Result<Vec<(PathBuf, bool)>, store::Error> {
        Store::strays(self)
    }
}

/// Checks some images, or all there are when none are given.
///
/// An error is what keeps it from being checked at all, such as an index that does not parse.
pub fn verify<C: Contents>(
    store: &C,
    only: Option<&[Descriptor]>,
    options: &VerifyOptions,
    progress: &Progress,
) -> Result<VerifyReport, C::Error> {
    let images = match only {
        Some(images) => images.to_vec(),
        None => store.images()?,
    };
    let mut walk = Walk { store, seen: BTreeMap::new(), findings: BTreeSet::new(), referred: BTreeSet::new() };
    for image in &images {
        walk.document(image, "index.json", 0);
    }
    let Walk { seen, mut findings, referred, .. } = walk;
    let total = limits::total(seen.values().map(|blob| blob.described.size()));
    let task = progress.task(format!("verifying {}", store.place()), Unit::Bytes, Some(total));
    let (blobs, bytes) = (seen.len(), total);
    let found: Vec<Vec<Finding>> =
        seen.into_par_iter().map(|(digest, blob)| check(store, &digest, &blob, options, &task)).collect();
    findings.extend(found.into_iter().flatten());
    let mut unneeded = Vec::new();
    if only.is_none() {
        let blobs = store.blobs()?.into_iter().filter(|(digest, _)| !referred.contains(digest));
        unneeded.extend(blobs.map(|(digest, size)| Unneeded { digest, size }));
        unneeded.sort();
        for (name, leftover) in store.strays()? {
            let problem = if leftover { Problem::Leftover } else { Problem::Stray };
            findings.insert(Finding { subject: name.display().to_string(), problem });
        }
    }
    let Entries { images, referrers } = Entries::of(&images);
    Ok(VerifyReport { images, referrers, blobs, bytes, findings: findings.into_iter().collect(), unneeded })
}

/// Removes what is broken from a layout or a directory, so that a copy fetches it again, and what killed writers left.
///
/// Blobs that nothing needs are not broken and stay: they may be what a copy has fetched so far. Returns what was
/// removed.
pub fn repair(store: &Store, report: &VerifyReport) -> Result<Vec<PathBuf>, store::Error> {
    let mut removed = BTreeSet::new();
    for finding in &report.findings {
        let path = match &finding.problem {
            Problem::Digest { .. } | Problem::Size { .. } => match finding.subject.parse::<Digest>() {
                // A document may be wrong about the size of a blob that is right.
                Ok(digest) if !holds_what_it_says(store, &digest) => store.blob_path(&digest),
                _ => continue,
            },
            Problem::Leftover => Some(store.path().join(&finding.subject)),
            _ => continue,
        };
        // In an archive nothing can be taken away.
        let Some(path) = path else { continue };
        match path.is_dir() {
            true => crate::fs::remove_dir_all(&path)?,
            false => crate::fs::remove_file(&path)?,
        }
        removed.insert(path);
    }
    Ok(removed.into_iter().collect())
}

fn holds_what_it_says(store: &Store, digest: &Digest) -> bool {
    let Ok(file) = store.open_raw(digest) else { return true };
    Digest::of_reader(file, digest.algorithm()).is_ok_and(|(found, _)| found == *digest)
}

/// A blob that is not a document, or one that is: to be read once, whoever refers to it.
struct Blob {
    described: Descriptor,
    /// What the tar in it should be, for layers.
    diff_id: Option<String>,
}

struct Walk<'a, C> {
    store: &'a C,
    seen: BTreeMap<Digest, Blob>,
    findings: BTreeSet<Finding>,
    /// Also what is missing or wrong.
    referred: BTreeSet<Digest>,
}

impl<C: Contents> Walk<'_, C> {
    fn find(&mut self, subject: &(impl ToString + ?Sized), problem: Problem) {
        self.findings.insert(Finding { subject: subject.to_string(), problem });
    }

    /// Notes a blob; true when it is there and new.
    fn note(&mut self, described: &Descriptor, referred_by: &str, diff_id: Option<String>) -> bool {
        let digest = match layout::digest_of(described) {
            Ok(digest) => digest,
            Err(error) => {
                let problem = Problem::BadDigest { referred_by: referred_by.to_owned(), reason: error.to_string() };
                self.find(described.digest(), problem);
                return false;
            }
        };
        self.referred.insert(digest.clone());
        match self.store.size(described, &digest) {
            // It is where its URLs lead.
            None if manifest::is_foreign(described.media_type().as_ref()) => false,
            None => {
                self.find(&digest, Problem::Missing { referred_by: referred_by.to_owned() });
                false
            }
            Some(found) => {
                if found != described.size() {
                    self.find(&digest, Problem::Size { expected: described.size(), found });
                }
                // It is read as long as it is: its digest may still be right.
                let mut described = described.clone();
                described.set_size(found);
                let new = !self.seen.contains_key(&digest);
                let blob = self.seen.entry(digest).or_insert(Blob { described, diff_id: None });
                blob.diff_id = blob.diff_id.take().or(diff_id);
                new
            }
        }
    }

    /// Notes an index or a manifest and what it refers to.
    fn document(&mut self, described: &Descriptor, referred_by: &str, depth: usize) {
        if !self.note(described, referred_by, None) {
            return;
        }
        let name = described.digest().to_string();
        let mut exact = described.clone();
        exact.set_size(self.store.size(described, &name.parse().expect("noted")).unwrap_or(described.size()));
        // A digest that is wrong is found when the blob is read; its content is nobody's word.
        let bytes = match self.store.read_document(&exact) {
            Ok(bytes) => bytes,
            Err(error) if exact.size() > layout::DOCUMENT_LIMIT => {
                return self.find(&name, Problem::Unreadable { reason: chain(&error) });
            }
            Err(_) => return,
        };
        if depth > limits::INDEX_LEVELS {
            return self.find(&name, Problem::Unreadable { reason: "lists of manifests are nested too deeply".into() });
        }
        let inside = serde_json::from_slice::<serde_json::Value>(&bytes).ok();
        let own = inside.as_ref().and_then(|inside| inside.get("mediaType")?.as_str());
        if let Some(own) = own.filter(|own| *own != described.media_type().as_ref()) {
            let (expected, found) = (described.media_type().to_string(), own.to_owned());
            self.find(&name, Problem::MediaType { expected, found });
        }
        let children = match manifest::children(described, &bytes) {
            Ok(children) => children,
            Err(error) => return self.find(&name, Problem::Unreadable { reason: chain(&error) }),
        };
        if manifest::is_index(described.media_type()) {
            for child in &children {
                self.document(child, &name, depth + 1);
            }
            return;
        }
        let diff_ids = self.diff_ids(&name, &bytes);
        for (number, child) in children.iter().enumerate() {
            // The first is the configuration.
            let diff_id = number.checked_sub(1).and_then(|layer| diff_ids.get(layer).cloned());
            // Of other layers only digest and size are known: in-toto, cosign, wasm, encrypted.
            let is_tar = manifest::is_layer(child.media_type()) && !manifest::is_encrypted(child.media_type());
            let diff_id = diff_id.filter(|_| is_tar);
            self.note(child, &name, diff_id);
        }
    }

    /// The diff ids that the configuration of a manifest has, in the order of its layers.
    fn diff_ids(&mut self, name: &str, bytes: &[u8]) -> Vec<String> {
        let Ok(parsed) = Manifest::parse(name, bytes) else { return Vec::new() };
        let Some(config) = &parsed.config else { return Vec::new() };
        let image = [MediaType::ImageConfig.as_ref(), "application/vnd.docker.container.image.v1+json"];
        if !image.contains(&config.media_type().as_ref()) {
            // An artifact: its configuration is something else, its layers are no tars that would be listed there.
            return Vec::new();
        }
        // cosign and buildx give such a configuration to what is no image, with whatever is in it.
        if !parsed.layers().is_empty() && !parsed.layers().iter().any(|layer| manifest::is_layer(layer.media_type())) {
            return Vec::new();
        }
        let Ok(bytes) = self.store.read_document(config) else { return Vec::new() };
        match manifest::configuration(config.digest().as_ref(), &bytes) {
            Ok(config) => {
                let diff_ids = config.rootfs().diff_ids().clone();
                if diff_ids.len() != parsed.layers().len() {
                    let (configured, listed) = (diff_ids.len(), parsed.layers().len());
                    self.find(name, Problem::LayerCount { configured, listed });
                }
                diff_ids
            }
            Err(error) => {
                self.find(config.digest(), Problem::Unreadable { reason: error.to_string() });
                Vec::new()
            }
        }
    }
}

/// Reads one blob to its end.
fn check<C: Contents>(store: &C, digest: &Digest, blob: &Blob, options: &VerifyOptions, task: &Task) -> Vec<Finding> {
    let subject = digest.to_string();
    let find = |problem| Finding { subject: subject.clone(), problem };
    let opened = match store.open(&blob.described, digest) {
        Ok(opened) => opened,
        Err(error) => return vec![find(Problem::Unreadable { reason: chain(&error) })],
    };
    let mut findings = Vec::new();
    let counted = Counted { inner: opened, task };
    let mut reader = BufReader::with_capacity(128 << 10, HashingReader::new(counted, digest.algorithm()));
    let mut tar = None;
    if let Some(expected) = &blob.diff_id {
        match hash_tar(&mut reader, options.layer_limit) {
            Ok((compression, found)) => {
                tar = Some(compression);
                if found.as_str() != expected {
                    findings.push(find(Problem::DiffId { expected: expected.clone(), found }));
                }
            }
            Err(error) => findings.push(find(Problem::Unreadable { reason: error.to_string() })),
        }
    }
    if let Err(error) = io::copy(&mut reader, &mut io::sink()) {
        findings.push(find(Problem::Unreadable { reason: error.to_string() }));
        return findings;
    }
    let (found, ..) = reader.into_inner().finish();
    if found != *digest {
        // The rest follows from it.
        return vec![find(Problem::Digest { found })];
    }
    let announced = blob.described.media_type().as_ref();
    let suffix = match tar {
        Some(Compression::Gzip) => "gzip",
        Some(Compression::Zstd) => "zstd",
        Some(Compression::None) => "tar",
        Some(other) => return vec![find(media_type(announced, &format!("{other:?}")))],
        None => return findings,
    };
    if !announced.ends_with(suffix) {
        findings.push(find(media_type(announced, &format!("a {suffix} stream"))));
    }
    findings
}

fn media_type(expected: &str, found: &str) -> Problem {
    Problem::MediaType { expected: expected.to_owned(), found: found.to_owned() }
}

fn hash_tar(reader: &mut (impl io::BufRead + Send), limit: u64) -> io::Result<(Compression, Digest)> {
    let (compression, tar) = compression::decoder(reader)?;
    let mut tar = HashingReader::new(LimitedReader::new(tar, limit), Algorithm::Sha256);
    io::copy(&mut tar, &mut io::sink())?;
    Ok((compression, tar.finish().0))
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Tells a task what passes.
struct Counted<'a, R> {
    inner: R,
    task: &'a Task,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.task.add(n as u64);
        Ok(n)
    }
}

#[cfg(test)]
mod tests;
