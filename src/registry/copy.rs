//! Copies images between registries and layouts, byte for byte.
//!
//! What an image is made of is listed first, documents and all. Blobs that the target lacks then travel side by side,
//! each in one pass from source to target with its digest checked on the way; manifests follow, children before what
//! refers to them, so that a target never names what it does not have. What refers to the image comes last.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::stream::{self, TryStreamExt};
use oci_spec::image::{Descriptor, ImageIndex};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::digest::Digest;
use crate::fs::PathContext;
use crate::http::Retry;
use crate::image::{Layout, Platform, Store, layout, manifest};
use crate::progress::{Progress, Task, Unit};
use crate::registry::client::Error;
use crate::registry::referrers;
use crate::registry::repository::{Chunks, Repository};

/// Where images come from.
#[derive(Clone)]
pub enum Source {
    /// A registry.
    Repository(Repository),
    /// A layout or an archive.
    Store(Arc<Store>),
}

/// Where images go.
#[derive(Clone)]
pub enum Target {
    /// A registry.
    Repository(Repository),
    /// A layout.
    Layout(Layout),
}

/// How to copy.
#[derive(Clone, Debug)]
pub struct CopyOptions {
    /// Only these of an index; none means all. The index is then another one, with another digest.
    pub platforms: Vec<Platform>,
    /// Whether signatures, SBOMs and attestations travel along.
    pub referrers: bool,
    /// Blobs under way at one time.
    pub parallel: usize,
    /// Count what would move, and move nothing.
    pub dry_run: bool,
    /// How often a blob is tried again.
    pub retry: Retry,
}

impl Default for CopyOptions {
    fn default() -> Self {
        CopyOptions { platforms: Vec::new(), referrers: true, parallel: 6, dry_run: false, retry: Retry::default() }
    }
}

/// What was copied, or with `dry_run` would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CopyReport {
    /// Digest of the image at the target.
    pub digest: Digest,
    /// Whether the index was rewritten for the platforms that were asked for.
    pub rewritten: bool,
    /// Blobs that were sent, and their bytes.
    pub sent_blobs: u64,
    /// Bytes of the blobs that were sent.
    pub sent_bytes: u64,
    /// Blobs that the registry took from another of its repositories.
    pub mounted_blobs: u64,
    /// Blobs that were there.
    pub present_blobs: u64,
    /// Bytes of the blobs that were there.
    pub present_bytes: u64,
    /// Manifests and indexes that were written.
    pub documents: u64,
    /// Signatures, SBOMs and attestations that came along.
    pub referrers: u64,
}

/// Copies an image and names it `name` at the target: a tag, or a name in a layout.
pub async fn copy(
    source: &Source,
    image: &Descriptor,
    target: &Target,
    name: Option<&str>,
    options: &CopyOptions,
    progress: &Progress,
) -> Result<CopyReport, Error> {
    let mut parts = Parts::default();
    source.gather(image, &mut parts, 0).await?;
    let mut top = image.clone();
    let rewritten = match options.platforms.is_empty() || !manifest::is_index(image.media_type()) {
        true => false,
        false => parts.choose(&mut top, &options.platforms)?,
    };
    let counts = Counts::default();
    let task = progress.task("copying", Unit::Bytes, Some(parts.blobs.values().map(Descriptor::size).sum()));
    let job = Job { source, target, options, counts: &counts, task: &task };
    job.parts(&parts, &top, name).await?;
    if options.referrers {
        let documents = parts.documents.iter().map(|(described, _)| described.clone()).collect();
        job.referrers(documents).await?;
    }
    counts.report(layout::digest_of(&top)?, rewritten)
}

/// Everything that one image is made of.
#[derive(Default)]
struct Parts {
    /// Manifests and indexes, children first.
    documents: Vec<(Descriptor, Vec<u8>)>,
    /// Configurations and layers.
    blobs: BTreeMap<String, Descriptor>,
}

#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    sent_bytes: AtomicU64,
    mounted: AtomicU64,
    present: AtomicU64,
    present_bytes: AtomicU64,
    documents: AtomicU64,
    referrers: AtomicU64,
}

struct Job<'a> {
    source: &'a Source,
    target: &'a Target,
    options: &'a CopyOptions,
    counts: &'a Counts,
    task: &'a Task,
}

impl Job<'_> {
    /// Brings blobs and documents to the target. Returns whether the last document is listed as a referrer there.
    async fn parts(&self, parts: &Parts, top: &Descriptor, name: Option<&str>) -> Result<bool, Error> {
        let digest = layout::digest_of(top)?;
        if let Target::Repository(repository) = self.target {
            // A registry takes a manifest only when it has all that the manifest names.
            if repository.digest_of(digest.as_str()).await?.is_some() {
                parts.blobs.values().for_each(|blob| self.present(blob));
                return self.name_only(repository, parts, &digest, name).await;
            }
        }
        stream::iter(parts.blobs.values().map(Ok))
            .try_for_each_concurrent(self.options.parallel, |blob| self.blob(blob))
            .await?;
        if self.options.dry_run {
            return Ok(true);
        }
        let mut listed = false;
        for (described, bytes) in &parts.documents {
            let last = described.digest() == top.digest();
            listed = self.document(described, bytes, name.filter(|_| last)).await?;
            self.counts.documents.fetch_add(1, Ordering::Relaxed);
        }
        if let (Target::Layout(layout), Some(name)) = (self.target, name) {
            layout.tag(top, Some(name))?;
        }
        Ok(listed)
    }

    /// Gives what a registry holds already another tag, where it has not got it.
    async fn name_only(
        &self,
        repository: &Repository,
        parts: &Parts,
        digest: &Digest,
        name: Option<&str>,
    ) -> Result<bool, Error> {
        let (Some(name), Some((described, bytes))) = (name, parts.documents.last()) else { return Ok(true) };
        if self.options.dry_run || repository.digest_of(name).await?.as_ref() == Some(digest) {
            return Ok(true);
        }
        self.counts.documents.fetch_add(1, Ordering::Relaxed);
        repository.put_document(name, described.media_type(), bytes).await
    }

    async fn blob(&self, described: &Descriptor) -> Result<(), Error> {
        let digest = layout::digest_of(described)?;
        let there = match self.target {
            Target::Layout(layout) => layout.holds(&digest, described.size()),
            Target::Repository(repository) => repository.holds(&digest).await?,
        };
        if there {
            self.present(described);
            return Ok(());
        }
        if self.options.dry_run {
            self.sent(described);
            return Ok(());
        }
        if let (Source::Repository(from), Target::Repository(to)) = (self.source, self.target) {
            let same = from.registry().host() == to.registry().host() && from.name() != to.name();
            if same && to.mount(&digest, from.name()).await? {
                self.counts.mounted.fetch_add(1, Ordering::Relaxed);
                self.task.add(described.size());
                return Ok(());
            }
        }
        let attempt = async || {
            let chunks = self.source.blob(described);
            match self.target {
                Target::Repository(repository) => repository.put_blob(described, chunks).await,
                Target::Layout(layout) => receive(layout.clone(), described.clone(), chunks).await,
            }
        };
        self.options.retry.run(attempt).await?;
        self.sent(described);
        Ok(())
    }

    async fn document(&self, described: &Descriptor, bytes: &[u8], tag: Option<&str>) -> Result<bool, Error> {
        match self.target {
            Target::Repository(repository) => {
                let digest = described.digest().to_string();
                repository.put_document(tag.unwrap_or(&digest), described.media_type(), bytes).await
            }
            Target::Layout(layout) => {
                let digest = layout::digest_of(described)?;
                let mut blob = layout.blob_writer(digest.algorithm())?;
                blob.write_all(bytes)?;
                blob.finish_expecting(described)?;
                Ok(false)
            }
        }
    }

    /// Copies what refers to these documents, and what refers to that.
    async fn referrers(&self, mut subjects: Vec<Descriptor>) -> Result<(), Error> {
        for _ in 0..manifest::DEPTH {
            let mut next = Vec::new();
            for subject in &subjects {
                let subject = layout::digest_of(subject)?;
                for referrer in referrers::list(self.source, &subject).await? {
                    let mut parts = Parts::default();
                    self.source.gather(&referrer.described, &mut parts, 0).await?;
                    let listed = self.parts(&parts, &referrer.described, referrer.tag.as_deref()).await?;
                    if !self.options.dry_run {
                        referrers::attach(self.target, &subject, &referrer, listed).await?;
                    }
                    self.counts.referrers.fetch_add(1, Ordering::Relaxed);
                    next.push(referrer.described);
                }
            }
            subjects = next;
        }
        Ok(())
    }

    fn present(&self, described: &Descriptor) {
        self.counts.present.fetch_add(1, Ordering::Relaxed);
        self.counts.present_bytes.fetch_add(described.size(), Ordering::Relaxed);
        self.task.add(described.size());
    }

    fn sent(&self, described: &Descriptor) {
        self.counts.sent.fetch_add(1, Ordering::Relaxed);
        self.counts.sent_bytes.fetch_add(described.size(), Ordering::Relaxed);
        self.task.add(described.size());
    }
}

impl Source {
    /// Reads a manifest or an index, exactly as described.
    pub async fn document(&self, described: &Descriptor) -> Result<Vec<u8>, Error> {
        match self {
            Source::Repository(repository) => {
                let (found, bytes) = repository.document(described.digest().as_ref()).await?;
                if found.size() != described.size() {
                    let place = described.digest().to_string();
                    let (expected, found) = (format!("{} bytes", described.size()), format!("{} bytes", found.size()));
                    return Err(Error::Mismatch { place, expected, found });
                }
                Ok(bytes)
            }
            Source::Store(store) => Ok(store.read_document(described)?),
        }
    }

    /// Reads a configuration.
    pub async fn config(&self, described: &Descriptor) -> Result<Vec<u8>, Error> {
        match self {
            Source::Repository(repository) => repository.small_blob(described).await,
            Source::Store(store) => Ok(store.read_document(described)?),
        }
    }

    /// Reads the documents of an image: indexes, manifests and configurations, by digest.
    pub async fn documents(&self, image: &Descriptor) -> Result<BTreeMap<String, Vec<u8>>, Error> {
        let mut parts = Parts::default();
        self.gather(image, &mut parts, 0).await?;
        let mut documents = BTreeMap::new();
        for (described, bytes) in parts.documents {
            if manifest::is_manifest(described.media_type()) {
                let config = manifest::children(&described, &bytes)?.swap_remove(0);
                documents.insert(config.digest().to_string(), self.config(&config).await?);
            }
            documents.insert(described.digest().to_string(), bytes);
        }
        Ok(documents)
    }

    fn blob(&self, described: &Descriptor) -> Chunks {
        match self {
            Source::Repository(repository) => repository.blob(described),
            Source::Store(store) => read_blob(store.clone(), described.clone()),
        }
    }

    async fn gather(&self, described: &Descriptor, parts: &mut Parts, depth: usize) -> Result<(), Error> {
        if depth > manifest::DEPTH {
            return Err(layout::Error::TooDeep(described.digest().to_string()).into());
        }
        if parts.documents.iter().any(|(known, _)| known.digest() == described.digest()) {
            return Ok(());
        }
        let bytes = self.document(described).await?;
        for child in manifest::children(described, &bytes)? {
            if manifest::is_index(child.media_type()) || manifest::is_manifest(child.media_type()) {
                Box::pin(self.gather(&child, parts, depth + 1)).await?;
            } else {
                parts.blobs.insert(child.digest().to_string(), child);
            }
        }
        parts.documents.push((described.clone(), bytes));
        Ok(())
    }
}

impl Parts {
    /// Leaves only some platforms in the index; true when that changed it.
    fn choose(&mut self, top: &mut Descriptor, platforms: &[Platform]) -> Result<bool, Error> {
        let (_, bytes) = self.documents.pop().expect("the index is gathered last");
        let mut index: ImageIndex = layout::parse(top.digest().as_ref(), &bytes)?;
        let wanted = |there: &Descriptor| {
            there
                .platform()
                .as_ref()
                .is_some_and(|offered| platforms.iter().any(|platform| platform.accepts(&Platform::from(offered))))
        };
        let manifests: Vec<Descriptor> = index.manifests().iter().filter(|there| wanted(there)).cloned().collect();
        if manifests.is_empty() {
            let asked: Vec<String> = platforms.iter().map(Platform::to_string).collect();
            return Err(Error::NoPlatform(asked.join(", ")));
        }
        if manifests.len() == index.manifests().len() {
            self.documents.push((top.clone(), bytes));
            return Ok(false);
        }
        let kept = |digest: &oci_spec::image::Digest| manifests.iter().any(|there| there.digest() == digest);
        self.documents.retain(|(described, _)| kept(described.digest()));
        self.blobs.clear();
        for (described, bytes) in &self.documents {
            for blob in manifest::children(described, bytes)? {
                self.blobs.insert(blob.digest().to_string(), blob);
            }
        }
        index.set_manifests(manifests);
        let bytes = layout::canonical(&index);
        *top = layout::descriptor(top.media_type().clone(), &Digest::sha256(&bytes), bytes.len() as u64);
        self.documents.push((top.clone(), bytes));
        Ok(true)
    }
}

impl Counts {
    fn report(&self, digest: Digest, rewritten: bool) -> Result<CopyReport, Error> {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Ok(CopyReport {
            digest,
            rewritten,
            sent_blobs: of(&self.sent),
            sent_bytes: of(&self.sent_bytes),
            mounted_blobs: of(&self.mounted),
            present_blobs: of(&self.present),
            present_bytes: of(&self.present_bytes),
            documents: of(&self.documents),
            referrers: of(&self.referrers),
        })
    }
}

/// Writes what arrives into a layout; the blob gets its name when it is what was described.
async fn receive(layout: Layout, described: Descriptor, mut chunks: Chunks) -> Result<(), Error> {
    let write = move || {
        let digest = layout::digest_of(&described)?;
        let path = layout.blob_path(&digest);
        let mut blob = layout.blob_writer(digest.algorithm())?;
        while let Some(chunk) = chunks.blocking_recv() {
            blob.write_all(&chunk?).at("write", &path).map_err(layout::Error::from)?;
        }
        Ok(blob.finish_expecting(&described)?)
    };
    spawn_blocking(write).await.expect("writing a blob does not panic")
}

/// Reads a blob of a store in pieces.
fn read_blob(store: Arc<Store>, described: Descriptor) -> Chunks {
    let (sender, receiver) = mpsc::channel(4);
    spawn_blocking(move || {
        let read = || {
            let mut reader = store.open_blob(&described)?;
            loop {
                let mut piece = vec![0; 256 << 10];
                let n = reader.read(&mut piece)?;
                piece.truncate(n);
                if n == 0 || sender.blocking_send(Ok(Bytes::from(piece))).is_err() {
                    return Ok::<(), Error>(());
                }
            }
        };
        if let Err(error) = read() {
            // When nobody listens any more, nobody needs to know.
            let _ = sender.blocking_send(Err(error));
        }
    });
    receiver
}
