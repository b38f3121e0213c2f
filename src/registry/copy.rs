//! Copies images between registries and layouts, byte for byte.
//!
//! What an image is made of is listed first, documents and all. Blobs that the target lacks then travel side by side,
//! each in one pass from source to target with its digest checked on the way; manifests follow, children before what
//! refers to them, so that a target never names what it does not have. What refers to the image comes last.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::stream::{self, TryStreamExt};
use oci_spec::image::Descriptor;
use serde::Serialize;
use url::Url;

use crate::digest::Digest;
use crate::http::Retry;
use crate::image::store::layout;
use crate::image::{Layout, Platform, Store, manifest};
use crate::limits;
use crate::progress::{Progress, Task, Unit};
use crate::registry::choice::Choice;
use crate::registry::client::Error;
use crate::registry::download::Watch;
use crate::registry::memory::{self, Memory};
use crate::registry::referrers;
use crate::registry::repository::Repository;
use crate::registry::stored::receive;
use crate::registry::upload::Mounted;

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
    /// What the run remembers. Its own limits hold beside `parallel`, which is for one image.
    pub memory: Arc<Memory>,
}

impl Default for CopyOptions {
    fn default() -> Self {
        CopyOptions {
            platforms: Vec::new(),
            referrers: true,
            parallel: memory::PARALLEL,
            dry_run: false,
            retry: Retry::default(),
            memory: Arc::default(),
        }
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
    let top = match &options.platforms[..] {
        [] => {
            source.gather(image, &mut parts, 0).await?;
            image.clone()
        }
        _ => Choice::new(source, options).apply(image, &mut parts).await?,
    };
    let rewritten = top.digest() != image.digest();
    let counts = Counts::default();
    let task = progress.task(
        format!("copying {}", source.name()),
        Unit::Bytes,
        Some(limits::total(parts.blobs.values().map(Descriptor::size))),
    );
    let job = Job { source, target, options, counts: &counts, task: Arc::new(task) };
    job.parts(&parts, &top, name).await?;
    if options.referrers {
        let documents = parts.documents.iter().map(|(described, _)| described.clone()).collect();
        job.referrers(documents).await?;
    }
    counts.report(layout::digest_of(&top)?, rewritten)
}

/// Fetches blobs of a source into a layout, those that are not there, each checked.
pub async fn fetch(source: &Source, blobs: &[Descriptor], layout: &Layout, options: &CopyOptions) -> Result<(), Error> {
    // Whoever wants them shows what becomes of them.
    let task = &Arc::new(Progress::off().task("", Unit::Bytes, None));
    stream::iter(blobs.iter().map(Ok::<_, Error>))
        .try_for_each_concurrent(options.parallel, |blob| async move {
            let watch = Watch::new(task.clone());
            if !layout.holds(&layout::digest_of(blob)?, blob.size()) {
                options.retry.run(async || receive(source, layout, blob, &watch).await).await?;
            }
            Ok(())
        })
        .await
}

/// Everything that one image is made of.
#[derive(Default)]
pub(super) struct Parts {
    /// Manifests and indexes, children first.
    pub(super) documents: Vec<(Descriptor, Vec<u8>)>,
    /// Configurations and layers.
    pub(super) blobs: BTreeMap<String, Descriptor>,
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
    task: Arc<Task>,
}

impl Job<'_> {
    /// Brings blobs and documents to the target. Returns whether the last document is listed as a referrer there.
    async fn parts(&self, parts: &Parts, top: &Descriptor, name: Option<&str>) -> Result<bool, Error> {
        let digest = layout::digest_of(top)?;
        if let Target::Repository(repository) = self.target {
            // A registry takes a manifest only when it has all that the manifest names.
            if repository.digest_of(digest.as_str()).await?.is_some() {
                parts.blobs.values().try_for_each(|blob| self.present(blob))?;
                return self.name_only(repository, parts, &digest, name).await;
            }
        }
        stream::iter(parts.blobs.values().map(Ok))
            .try_for_each_concurrent(self.options.parallel, |blob| self.blob(blob))
            .await?;
        let mut listed = self.options.dry_run;
        for (described, bytes) in &parts.documents {
            let last = described.digest() == top.digest();
            if let Target::Layout(layout) = self.target
                && layout.holds(&layout::digest_of(described)?, described.size())
            {
                continue;
            }
            let digest = layout::digest_of(described)?;
            // Some registries cannot take one manifest twice at one time, and images of one run may share some.
            let _turn = self.options.memory.turn(&self.target.store(), &digest).await;
            if !(last && name.is_some()) && self.is_written(&digest) {
                continue;
            }
            self.counts.documents.fetch_add(1, Ordering::Relaxed);
            if !self.options.dry_run {
                listed = self.document(described, bytes, name.filter(|_| last)).await?;
            }
            if let Target::Repository(to) = self.target {
                self.options.memory.note(to.registry().host(), to.name(), &digest, false);
            }
        }
        if let (Target::Layout(layout), Some(name), false) = (self.target, name, self.options.dry_run)
            && layout.find(Some(name)).map(|there| there.digest().clone()).ok().as_ref() != Some(top.digest())
        {
            layout.tag(top, Some(name))?;
        }
        Ok(listed)
    }

    /// Gives what a registry holds already another tag, where it has not got it. That it is there does not say that it
    /// is listed as a referrer.
    async fn name_only(
        &self,
        repository: &Repository,
        parts: &Parts,
        digest: &Digest,
        name: Option<&str>,
    ) -> Result<bool, Error> {
        let (Some(name), Some((described, bytes))) = (name, parts.documents.last()) else { return Ok(false) };
        if repository.digest_of(name).await?.as_ref() == Some(digest) {
            return Ok(false);
        }
        self.counts.documents.fetch_add(1, Ordering::Relaxed);
        if self.options.dry_run {
            return Ok(true);
        }
        repository.put_document(name, described.media_type(), bytes).await
    }

    /// Brings one blob to the target, unless it is there. Nobody else in this run brings it there meanwhile.
    async fn blob(&self, described: &Descriptor) -> Result<(), Error> {
        let digest = layout::digest_of(described)?;
        let memory = &self.options.memory;
        let _turn = memory.turn(&self.target.store(), &digest).await;
        let begun = match self.target {
            Target::Layout(layout) if layout.holds(&digest, described.size()) => return self.present(described),
            Target::Layout(_) if self.options.dry_run => {
                // Another image of this run would have brought it.
                let place = self.target.store();
                if !memory.seen(&place, &digest).is_empty() {
                    return self.present(described);
                }
                memory.note(&place, "", &digest, false);
                return self.sent(described);
            }
            Target::Layout(_) => None,
            Target::Repository(repository) => match self.find(repository, described, &digest).await? {
                Found::Here => return self.present(described),
                Found::Taken => return self.mounted(described),
                Found::Nowhere if self.options.dry_run => return self.sent(described),
                Found::Nowhere => None,
                Found::Awaited(url) => Some(url),
            },
        };
        let _permits = memory.permits(self.hosts()).await;
        let (begun, watch) = (Mutex::new(begun), Watch::new(self.task.clone()));
        let attempt = async || match self.target {
            Target::Repository(repository) => {
                let begun = begun.lock().expect("no holder panics").take();
                let open = |offset| self.source.blob(described, offset).watched(&watch, offset);
                repository.put_blob(described, open, begun, memory).await
            }
            Target::Layout(layout) => receive(self.source, layout, described, &watch).await,
        };
        self.options.retry.run(attempt).await?;
        // What was there of it before is done, too.
        watch.is_at(described.size());
        self.note_sent(described)
    }

    /// Looks for a blob in a registry: where it is wanted, then where it was seen before, to be taken from there.
    async fn find(&self, to: &Repository, described: &Descriptor, digest: &Digest) -> Result<Found, Error> {
        let (memory, host) = (&self.options.memory, to.registry().host());
        let mut places = memory.seen(host, digest);
        if places.iter().any(|place| place == to.name()) && self.options.dry_run || to.holds(digest).await? {
            memory.note(host, to.name(), digest, !self.options.dry_run);
            return Ok(Found::Here);
        }
        if let Source::Repository(from) = self.source
            && from.registry().host() == host
            && !places.iter().any(|place| place == from.name())
        {
            places.insert(0, from.name().to_owned());
        }
        memory.forget(host, to.name(), digest);
        places.retain(|place| place != to.name());
        if self.options.dry_run {
            memory.note(host, to.name(), digest, false);
            // Whether it is still there is not asked: a mount would be no dry run.
            return Ok(if places.is_empty() { Found::Nowhere } else { Found::Taken });
        }
        let mut begun = None;
        for place in places {
            match to.mount(digest, &place).await? {
                Mounted::Done => {
                    memory.note(host, to.name(), digest, true);
                    return Ok(Found::Taken);
                }
                Mounted::Upload(url) => begun = Some(url),
                Mounted::No => {}
            }
            memory.forget(host, &place, digest);
        }
        tracing::debug!("{}: {} bytes to be sent", described.digest(), described.size());
        Ok(begun.map_or(Found::Nowhere, Found::Awaited))
    }

    /// The hosts between which a blob travels.
    fn hosts(&self) -> Vec<&str> {
        let source = match self.source {
            Source::Repository(repository) => Some(repository.registry().host()),
            Source::Store(_) => None,
        };
        let target = match self.target {
            Target::Repository(repository) => Some(repository.registry().host()),
            Target::Layout(_) => None,
        };
        source.into_iter().chain(target).collect()
    }

    /// Whether this run wrote a manifest to the repository before.
    fn is_written(&self, digest: &Digest) -> bool {
        let Target::Repository(to) = self.target else { return false };
        self.options.memory.seen(to.registry().host(), digest).iter().any(|place| place == to.name())
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
                let found = referrers::list(self.source, &subject).await?;
                let mut listed = true;
                for referrer in &found {
                    let mut parts = Parts::default();
                    self.source.gather(&referrer.described, &mut parts, 0).await?;
                    // cosign's are found by their tags, whatever the registry lists.
                    listed &= self.parts(&parts, &referrer.described, referrer.tag.as_deref()).await?
                        || referrer.tag.is_some();
                    self.counts.referrers.fetch_add(1, Ordering::Relaxed);
                }
                if !self.options.dry_run {
                    referrers::attach(self.target, &subject, &found, listed, &self.options.memory).await?;
                }
                next.extend(found.into_iter().map(|referrer| referrer.described));
            }
            subjects = next;
        }
        Ok(())
    }

    fn present(&self, described: &Descriptor) -> Result<(), Error> {
        self.task.add(described.size());
        self.counts.present_bytes.fetch_add(described.size(), Ordering::Relaxed);
        self.counts.present.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn mounted(&self, described: &Descriptor) -> Result<(), Error> {
        self.task.add(described.size());
        self.counts.mounted.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// In a dry run: it would be.
    fn sent(&self, described: &Descriptor) -> Result<(), Error> {
        self.task.add(described.size());
        self.note_sent(described)
    }

    fn note_sent(&self, described: &Descriptor) -> Result<(), Error> {
        if let (Target::Repository(to), false) = (self.target, self.options.dry_run) {
            let digest = layout::digest_of(described)?;
            self.options.memory.note(to.registry().host(), to.name(), &digest, true);
        }
        self.counts.sent_bytes.fetch_add(described.size(), Ordering::Relaxed);
        self.counts.sent.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Where a blob was found in a registry.
enum Found {
    Here,
    /// Elsewhere, from where it was taken.
    Taken,
    Nowhere,
    /// Nowhere, and the registry has begun an upload for it.
    Awaited(Url),
}

impl Target {
    /// A name for the place in which a blob needs to be once.
    fn store(&self) -> String {
        match self {
            Target::Repository(repository) => repository.registry().host().to_owned(),
            Target::Layout(layout) => layout.root().display().to_string(),
        }
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
