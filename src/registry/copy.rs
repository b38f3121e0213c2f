//! Copies images between registries and layouts, byte for byte.
//!
//! What an image is made of is listed first, documents and all. Blobs that the target lacks then travel side by side,
//! each in one pass from source to target with its digest checked on the way; manifests follow, children before what
//! refers to them, so that a target never names what it does not have. What refers to the image comes last.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use futures_util::stream::{self, TryStreamExt};
use oci_spec::image::Descriptor;
use url::Url;

use crate::digest::Digest;
use crate::http::Retry;
use crate::image::store::layout;
use crate::image::{Layout, Platform, manifest};
use crate::limits;
use crate::progress::{Progress, Task, Unit};
use crate::registry::choice::Choice;
use crate::registry::client::Error;
use crate::registry::copied::{CopyReport, Counts};
use crate::registry::download::Watch;
use crate::registry::ends::{Source, Target};
use crate::registry::memory::{self, Memory};
use crate::registry::referrers;
use crate::registry::repository::Repository;
use crate::registry::stored::receive;
use crate::registry::upload::Mounted;

/// How to copy.
#[derive(Clone, Debug)]
pub struct CopyOptions {
    /// Only these of an index; none means all. The index is then another one, with another digest.
    pub platforms: Vec<Platform>,
    /// Whether signatures, SBOMs and attestations travel along.
    pub referrers: bool,
    /// Whether the target has a place for them; where not, they are left out, each by name.
    pub takes_referrers: bool,
    /// Blobs under way at one time.
    pub parallel: usize,
    /// Count what would move, and move nothing.
    pub dry_run: bool,
    /// How often a blob is tried again.
    pub retry: Retry,
    /// What the run remembers. Its own limits hold beside `parallel`, which is for one image.
    pub memory: Arc<Memory>,
    /// The digest that the image must have at the target, where one was named there.
    pub expected: Option<Digest>,
    /// Look for each blob and each manifest at the target, also where it holds what refers to them.
    pub check_blobs: bool,
}

impl Default for CopyOptions {
    fn default() -> Self {
        CopyOptions {
            platforms: Vec::new(),
            referrers: true,
            takes_referrers: true,
            parallel: memory::PARALLEL,
            dry_run: false,
            retry: Retry::default(),
            memory: Arc::default(),
            expected: None,
            check_blobs: false,
        }
    }
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
    parts.check(source)?;
    if let Some(expected) = options.expected.as_ref().filter(|expected| expected.as_str() != top.digest().as_ref()) {
        let (expected, found) = (expected.to_string(), top.digest().to_string());
        return Err(Error::OtherDigest { place: source.name(), expected, found });
    }
    let rewritten = top.digest() != image.digest();
    let counts = Counts::default();
    // What the path ends in tells more of the image than what it begins with, where there is room for a part of it only.
    let place = source.name();
    let task = progress.task(
        format!("copying {}", place.rsplit('/').next().unwrap_or(&place)),
        Unit::Bytes,
        Some(limits::total(parts.blobs.values().map(Descriptor::size))),
    );
    let job = Job { source, target, options, counts: &counts, task: Arc::new(task) };
    let listed = job.parts(&parts, &top, name).await?;
    if !listed && !options.dry_run {
        job.list_as_referrer(&parts, &top).await?;
    }
    if options.referrers {
        let documents = parts.documents.iter().map(|(described, _)| described.clone()).collect();
        job.referrers(documents).await?;
    }
    let mut report = counts.report(layout::digest_of(&top)?, rewritten);
    if let (Source::Store(store), true) = (source, options.referrers) {
        let seen = counts.documents_seen.lock().expect("no holder panics");
        report.not_asked = referrers::others(store, &store.index()?, &seen);
    }
    Ok(report)
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
    /// Digests of manifests and indexes that the source does not have.
    pub(super) missing: Vec<String>,
}

impl Parts {
    /// Nothing is copied of an image whose documents are not all there. All that is missing is named, of a store on the disk the
    /// blobs, too.
    pub(super) fn check(&self, source: &Source) -> Result<(), Error> {
        if self.missing.is_empty() {
            return Ok(());
        }
        let mut missing = self.missing.clone();
        if let Source::Store(store) = source {
            for blob in self.blobs.values().filter(|blob| !manifest::is_foreign(blob.media_type().as_ref())) {
                if store.blob_size(&layout::digest_of(blob)?).is_none() {
                    missing.push(blob.digest().to_string());
                }
            }
        }
        Err(Error::Incomplete { place: source.name(), missing })
    }
}

pub(super) struct Job<'a> {
    pub(super) source: &'a Source,
    pub(super) target: &'a Target,
    pub(super) options: &'a CopyOptions,
    pub(super) counts: &'a Counts,
    task: Arc<Task>,
}

impl Job<'_> {
    /// Brings blobs and documents to the target. Returns whether the last document is listed as a referrer there.
    pub(super) async fn parts(&self, parts: &Parts, top: &Descriptor, name: Option<&str>) -> Result<bool, Error> {
        let digest = layout::digest_of(top)?;
        let names = parts.documents.iter().map(|(described, _)| described.digest().to_string());
        self.counts.documents_seen.lock().expect("no holder panics").extend(names);
        if let (Target::Repository(repository), false) = (self.target, self.options.check_blobs) {
            // A registry takes a manifest only when it has all that the manifest names. Most of what is copied again has its tag.
            let is_named = match name {
                Some(name) => repository.digest_of(name).await?.as_ref() == Some(&digest),
                None => false,
            };
            if is_named || repository.digest_of(digest.as_str()).await?.is_some() {
                parts.blobs.values().try_for_each(|blob| self.present(blob))?;
                let name = name.filter(|_| !is_named);
                return self.name_only(repository, parts, name).await;
            }
        }
        self.blobs(parts.blobs.values()).await?;
        if let (Target::Layout(layout), false) = (self.target, self.options.dry_run) {
            // What was there a while ago may have been taken away meanwhile, which costs little to see.
            let is_gone = |blob: &&Descriptor| {
                !layout::digest_of(blob).is_ok_and(|digest| layout.holds(&digest, blob.size()))
                    && !manifest::is_foreign(blob.media_type().as_ref())
            };
            self.blobs(parts.blobs.values().filter(is_gone)).await?;
        }
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
                listed = self.document(parts, described, bytes, name.filter(|_| last)).await?;
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

    /// Brings blobs side by side. All that the source does not have is named.
    async fn blobs(&self, blobs: impl Iterator<Item = &Descriptor>) -> Result<(), Error> {
        let missing = Mutex::new(Vec::new());
        stream::iter(blobs.map(Ok))
            .try_for_each_concurrent(self.options.parallel, |blob| async {
                match self.blob(blob).await {
                    Err(error) if error.is_missing() => {
                        self.missing(blob, &missing);
                        Ok(())
                    }
                    result => result,
                }
            })
            .await?;
        let mut missing = missing.into_inner().expect("no holder panics");
        if missing.is_empty() {
            return Ok(());
        }
        missing.sort();
        Err(Error::Incomplete { place: self.source.name(), missing })
    }

    /// Gives what a registry holds already another tag. That it is there does not say that it is listed as a referrer.
    async fn name_only(&self, repository: &Repository, parts: &Parts, name: Option<&str>) -> Result<bool, Error> {
        let (Some(name), Some((described, bytes))) = (name, parts.documents.last()) else { return Ok(false) };
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
                repository.put_blob(described, open, self.source.kept(), begun, memory).await
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

    async fn document(
        &self,
        parts: &Parts,
        described: &Descriptor,
        bytes: &[u8],
        tag: Option<&str>,
    ) -> Result<bool, Error> {
        match self.target {
            Target::Repository(repository) => {
                let digest = described.digest().to_string();
                let put = || repository.put_document(tag.unwrap_or(&digest), described.media_type(), bytes);
                match put().await {
                    // Distribution says that it has mounted a blob of SHA-512, and has not.
                    Err(error) if error.is_blob_unknown() && self.counts.mounted.load(Ordering::Relaxed) > 0 => {
                        for blob in manifest::children(described, bytes)? {
                            if parts.blobs.contains_key(blob.digest().as_ref()) {
                                self.send_again(repository, &blob).await?;
                            }
                        }
                        put().await
                    }
                    result => result,
                }
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

    /// Sends a blob whatever the registry said of it.
    async fn send_again(&self, repository: &Repository, blob: &Descriptor) -> Result<(), Error> {
        let open = |offset| self.source.blob(blob, offset);
        let (kept, memory) = (self.source.kept(), &self.options.memory);
        self.options.retry.run(async || repository.put_blob(blob, open, kept, None, memory).await).await
    }

    /// Notes a blob that the source does not have: a layer that may not be distributed is not missed.
    fn missing(&self, blob: &Descriptor, missing: &Mutex<Vec<String>>) {
        if manifest::is_foreign(blob.media_type().as_ref()) {
            self.counts.foreign.fetch_add(1, Ordering::Relaxed);
        } else {
            missing.lock().expect("no holder panics").push(blob.digest().to_string());
        }
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
