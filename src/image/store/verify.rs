//! Checks that everything in a layout, an archive or a registry's image is what its name says, and finds all that is not in one run.
//!
//! Documents are followed from `index.json`. Every blob is read once: its digest and size, and of a layer also what is
//! in it, decompressed and compared with the diff id that the configuration has. Blobs that nothing refers to, files
//! that no layout has and what killed writers left are findings, too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, BufReader, Read};
use std::path::PathBuf;

use oci_spec::image::{Descriptor, MediaType};
use rayon::prelude::*;
use serde::Serialize;

use crate::compression::{self, Compression, LimitedReader};
use crate::digest::{Algorithm, Digest, HashingReader};
use crate::image::manifest::{self, Manifest};
use crate::image::store::layout;
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

/// What was checked and what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Images named in the index, or the one that was asked for.
    pub images: usize,
    /// Different blobs that were read.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// What is wrong, sorted by what it is wrong with.
    pub findings: Vec<Finding>,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// A digest, or a file's name.
    pub subject: String,
    /// What is wrong with it.
    #[serde(flatten)]
    pub problem: Problem,
}

/// What can be wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "problem", rename_all = "kebab-case")]
pub enum Problem {
    /// It is referred to and not there.
    Missing {
        /// By which document.
        referred_by: String,
    },
    /// It is larger or smaller than whoever refers to it says.
    Size {
        /// As described.
        expected: u64,
        /// As it is.
        found: u64,
    },
    /// Its bytes have another digest.
    Digest {
        /// Theirs.
        found: Digest,
    },
    /// The tar in a layer is another one than the configuration says.
    DiffId {
        /// As configured.
        expected: String,
        /// As it is.
        found: Digest,
    },
    /// It is described as something else than it is.
    MediaType {
        /// As described.
        expected: String,
        /// As it is.
        found: String,
    },
    /// It cannot be read as what it is described as.
    Unreadable {
        /// Why not.
        reason: String,
    },
    /// A digest that is none.
    BadDigest {
        /// In which document.
        referred_by: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A manifest and its configuration do not have the same number of layers.
    LayerCount {
        /// In the configuration.
        configured: usize,
        /// In the manifest.
        listed: usize,
    },
    /// A blob that no image needs.
    Unreferenced {
        /// Its size.
        size: u64,
    },
    /// What a writer that was killed left behind.
    Leftover,
    /// A file that no layout has.
    Stray,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.subject)?;
        match &self.problem {
            Problem::Missing { referred_by } => write!(f, "missing, and {referred_by} refers to it"),
            Problem::Size { expected, found } => write!(f, "expected {expected} bytes, found {found}"),
            Problem::Digest { found } => write!(f, "its content has another digest: {found}"),
            Problem::DiffId { expected, found } => {
                write!(f, "holds another tar than configured: expected {expected}, found {found}")
            }
            Problem::MediaType { expected, found } => write!(f, "described as {expected}, but is {found}"),
            Problem::Unreadable { reason } => write!(f, "cannot be read: {reason}"),
            Problem::BadDigest { referred_by, reason } => write!(f, "no valid digest, in {referred_by}: {reason}"),
            Problem::LayerCount { configured, listed } => {
                write!(f, "lists {listed} layers, and its configuration has {configured}")
            }
            Problem::Unreferenced { size } => write!(f, "no image needs it ({size} bytes)"),
            Problem::Leftover => f.write_str("left by a writer that was killed"),
            Problem::Stray => f.write_str("not a part of a layout"),
        }
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

/// Checks an image, or all there is when none is given.
///
/// An error is what keeps it from being checked at all, such as an index that does not parse.
pub fn verify<C: Contents>(
    store: &C,
    only: Option<&Descriptor>,
    options: &VerifyOptions,
    progress: &Progress,
) -> Result<VerifyReport, C::Error> {
    let images = match only {
        Some(image) => vec![image.clone()],
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
    if only.is_none() {
        for (digest, size) in store.blobs()? {
            if !referred.contains(&digest) {
                let subject = digest.to_string();
                findings.insert(Finding { subject, problem: Problem::Unreferenced { size } });
            }
        }
        for (name, leftover) in store.strays()? {
            let problem = if leftover { Problem::Leftover } else { Problem::Stray };
            findings.insert(Finding { subject: name.display().to_string(), problem });
        }
    }
    Ok(VerifyReport { images: images.len(), blobs, bytes, findings: findings.into_iter().collect() })
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
        if depth > manifest::DEPTH {
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
mod tests {
    use super::*;
    use crate::fs;
    use crate::image::{Layout, fixture};

    fn run(layout: &Layout) -> Vec<Finding> {
        let store = Store::Layout(layout.clone());
        verify(&store, None, &VerifyOptions::default(), &Progress::off()).unwrap().findings
    }

    /// A layout with one named image, and the digests of its manifest, configuration and layer.
    fn good() -> (tempfile::TempDir, Layout, [Descriptor; 3]) {
        let dir = tempfile::tempdir().unwrap();
        let (layout, image) = fixture::image(dir.path());
        layout.tag(&image, Some("x:1")).unwrap();
        let children = manifest::children(&image, &layout.read_document(&image).unwrap()).unwrap();
        let [config, layer] = <[Descriptor; 2]>::try_from(children).unwrap();
        (dir, layout, [image, config, layer])
    }

    fn path(layout: &Layout, described: &Descriptor) -> PathBuf {
        layout.blob_path(&layout::digest_of(described).unwrap())
    }

    #[test]
    fn nothing_is_found_where_nothing_is_wrong() {
        let (_dir, layout, _) = good();
        let store = Store::Layout(layout);
        let report = verify(&store, None, &VerifyOptions::default(), &Progress::off()).unwrap();
        assert_eq!((report.images, report.blobs, report.findings), (1, 3, Vec::new()));
    }

    #[test]
    fn one_changed_byte_anywhere_is_found_and_repair_takes_the_blob_away() {
        for which in 0..3 {
            let (_dir, layout, parts) = good();
            let path = path(&layout, &parts[which]);
            let mut bytes = fs::read(&path, 1 << 20).unwrap();
            bytes[5] ^= 1;
            fs::write(&path, &bytes).unwrap();
            let findings = run(&layout);
            let broken = Finding {
                subject: parts[which].digest().to_string(),
                problem: Problem::Digest { found: Digest::sha256(&bytes) },
            };
            assert!(findings.contains(&broken), "{findings:?}");
            let report = VerifyReport { findings, ..VerifyReport::default() };
            assert_eq!(repair(&Store::Layout(layout.clone()), &report).unwrap(), [path]);
            let missing = run(&layout);
            let gone = |finding: &Finding| matches!(finding.problem, Problem::Missing { .. });
            assert!(missing.iter().any(|finding| gone(finding) && finding.subject == broken.subject), "{missing:?}");
        }
    }

    #[test]
    fn everything_that_is_wrong_is_found_at_once() {
        let (dir, layout, [image, config, layer]) = good();
        let root = dir.path();
        fs::remove_file(&path(&layout, &config)).unwrap();
        let file = path(&layout, &layer);
        fs::write(&file, &[fs::read(&file, 1 << 20).unwrap(), vec![0]].concat()).unwrap();
        let unneeded = layout.write_blob(MediaType::ImageLayer, b"nobody's").unwrap();
        fs::write(&root.join("notes.txt"), b"x").unwrap();
        fs::write(&root.join("blobs/sha256/short"), b"x").unwrap();
        fs::write(&root.join(".blob.killed.partial"), b"x").unwrap();
        let found = Digest::sha256(fs::read(&file, 1 << 20).unwrap());
        let finding = |subject: &dyn ToString, problem| Finding { subject: subject.to_string(), problem };
        let mut expected = vec![
            finding(&config.digest(), Problem::Missing { referred_by: image.digest().to_string() }),
            finding(&layer.digest(), Problem::Size { expected: layer.size(), found: layer.size() + 1 }),
            finding(&layer.digest(), Problem::Digest { found }),
            finding(&unneeded.digest(), Problem::Unreferenced { size: 8 }),
            finding(&"notes.txt", Problem::Stray),
            finding(&"blobs/sha256/short", Problem::Stray),
            finding(&".blob.killed.partial", Problem::Leftover),
        ];
        expected.sort();
        assert_eq!(run(&layout), expected);
    }

    /// An image whose manifest is what `change` makes of the good one.
    fn with_manifest(change: impl Fn(&mut serde_json::Value)) -> Vec<String> {
        let (_dir, layout, [image, ..]) = good();
        let mut document: serde_json::Value = serde_json::from_slice(&layout.read_document(&image).unwrap()).unwrap();
        change(&mut document);
        let other = layout.write_blob(MediaType::ImageManifest, &layout::canonical(&document)).unwrap();
        layout.tag(&other, Some("x:1")).unwrap();
        let findings = run(&layout).into_iter().filter(|f| !matches!(f.problem, Problem::Unreferenced { .. }));
        findings
            .map(|finding| serde_json::to_value(finding.problem).unwrap()["problem"].as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn documents_that_lie_are_found() {
        let upper = format!("sha256:{}", "AB".repeat(32));
        let gzip = MediaType::ImageLayerGzip;
        type Change<'a> = Box<dyn Fn(&mut serde_json::Value) + 'a>;
        let unknown = format!("sha384:{}", "ab".repeat(48));
        let cases: [(&[&str], Change); 7] = [
            (&[], Box::new(|_| {})),
            (&["media-type"], Box::new(|m| m["mediaType"] = MediaType::ImageIndex.to_string().into())),
            (&["media-type"], Box::new(move |m| m["layers"][0]["mediaType"] = gzip.to_string().into())),
            (&["unreadable"], Box::new(|m| m["layers"] = "x".into())),
            (&["layer-count"], Box::new(|m| m["layers"] = serde_json::json!([]))),
            (&["unreadable"], Box::new(|m| m["layers"][0]["digest"] = upper.clone().into())),
            (&["bad-digest"], Box::new(|m| m["layers"][0]["digest"] = unknown.clone().into())),
        ];
        for (number, (expected, change)) in cases.iter().enumerate() {
            assert_eq!(with_manifest(change), *expected, "case {number}");
        }
    }

    /// Each layer stands in an image whose configuration has one diff id for it, which is not that of these bytes.
    #[test]
    fn layers_that_are_no_file_systems_are_right_when_digest_and_size_are() {
        for media_type in [
            "application/vnd.in-toto+json",
            "application/vnd.dev.cosign.simplesigning.v1+json",
            "application/vnd.wasm.content.layer.v1+wasm",
            "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
            "application/octet-stream",
        ] {
            let found = |size: u64| {
                let (_dir, layout, [_, config, _]) = good();
                let layer = layout.write_blob(MediaType::from(media_type), b"no tar").unwrap();
                let layer = layout::descriptor(MediaType::from(media_type), &layout::digest_of(&layer).unwrap(), size);
                let manifest = serde_json::json!({
                    "schemaVersion": 2, "mediaType": MediaType::ImageManifest, "config": config, "layers": [layer],
                });
                let manifest = layout.write_blob(MediaType::ImageManifest, &layout::canonical(&manifest)).unwrap();
                layout.tag(&manifest, Some("x:1")).unwrap();
                let mut findings = run(&layout);
                // The image that was there before has lost its name.
                findings.retain(|finding| !matches!(finding.problem, Problem::Unreferenced { .. }));
                (findings, layer.digest().to_string())
            };
            assert_eq!(found(6).0, [], "{media_type}");
            let (findings, subject) = found(7);
            assert_eq!(
                findings,
                [Finding { subject, problem: Problem::Size { expected: 7, found: 6 } }],
                "{media_type}"
            );
        }
    }

    #[test]
    fn a_bomb_is_given_up_at_the_limit() {
        let (_dir, layout, [_, config, layer]) = good();
        let mut document: serde_json::Value = serde_json::from_slice(&layout.read_document(&config).unwrap()).unwrap();
        let zeros = vec![0; 10 << 20];
        document["rootfs"]["diff_ids"] = serde_json::json!([Digest::sha256(&zeros)]);
        let compressed = |compression| {
            let mut encoder = compression::Encoder::new(Vec::new(), compression, Some(9)).unwrap();
            io::Write::write_all(&mut encoder, &zeros).unwrap();
            encoder.finish().unwrap()
        };
        for (media_type, compression) in
            [(MediaType::ImageLayerZstd, Compression::Zstd), (MediaType::ImageLayerGzip, Compression::Gzip)]
        {
            let bomb = layout.write_blob(media_type, &compressed(compression)).unwrap();
            let config = layout.write_blob(MediaType::ImageConfig, &layout::canonical(&document)).unwrap();
            let manifest = serde_json::json!({ "schemaVersion": 2, "config": config, "layers": [bomb] });
            let image = layout.write_blob(MediaType::ImageManifest, &layout::canonical(&manifest)).unwrap();
            assert_ne!(layer.digest(), bomb.digest());
            let store = Store::Layout(layout.clone());
            let with = |layer_limit| {
                verify(&store, Some(&image), &VerifyOptions { layer_limit }, &Progress::off()).unwrap().findings
            };
            assert_eq!(with(10 << 20), []);
            let reason = "decompresses to more than the limit of 10485759 bytes".to_owned();
            let subject = bomb.digest().to_string();
            assert_eq!(with((10 << 20) - 1), [Finding { subject, problem: Problem::Unreadable { reason } }]);
        }
    }
}
