//! The upload of an image, from the checks to the record.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::pin::pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::causes;
use crate::digest::Digest;
use crate::progress::{Progress, Unit};
use crate::publish::ims::api::{self, Ims, Record};
use crate::publish::ims::journal::{Creating, Journal};
use crate::publish::ims::manifest::{Entry, Link, Manifest};
use crate::publish::ims::order::{Error, Order, Published};
use crate::publish::s3::{self, Bucket};

/// An upload under way. Its parts are separate so that a run can be broken off at any time and cleaned up after.
pub struct Upload<'a> {
    pub(super) ims: &'a Ims,
    pub(super) bucket: &'a Bucket,
    pub(super) order: &'a Order,
    journal: Mutex<Journal>,
    left: Mutex<Left>,
    pub(super) sent: AtomicU64,
    /// Whether a request for a new record is on its way.
    is_creating: AtomicBool,
    is_stopping: AtomicBool,
}

/// What is on the other side and would be useless without the rest.
#[derive(Clone, Default)]
pub(super) struct Left {
    /// Whether a record is being created, and which ones were there before.
    creating: Option<HashSet<String>>,
    image: Option<String>,
    /// By key.
    pub(super) uploads: BTreeMap<String, String>,
    pub(super) objects: BTreeSet<String>,
}

impl<'a> Upload<'a> {
    /// Prepares an upload; contacts nobody.
    pub fn new(ims: &'a Ims, bucket: &'a Bucket, order: &'a Order) -> Self {
        let (journal, left, no) = (Mutex::default(), Mutex::default(), || AtomicBool::new(false));
        let (is_creating, is_stopping) = (no(), no());
        Upload { ims, bucket, order, journal, left, sent: AtomicU64::new(0), is_creating, is_stopping }
    }

    /// Does everything. After an error, or when it is dropped, [`Upload::clean_up`] or [`Upload::left`] is to follow.
    pub async fn run(&self, progress: &Progress) -> Result<Published, Error> {
        let records = self.check().await?;
        self.open_journal();
        if self.order.skip_existing
            && let Some(record) = self.find_existing(&self.ims.images().await?).await?
        {
            let (record, job) = self.finish(record).await?;
            self.journal().remove();
            return Ok(Published { record, entries: Vec::new(), job, is_existing: true, sent: 0 });
        }
        let (record, is_resumed) = match self.resumable(records.clone()).await? {
            Some(record) => (record, true),
            None => (self.create(records).await?, false),
        };
        let id = record.id.clone();
        self.left().image = Some(id.clone());
        if self.is_stopping.load(Ordering::Relaxed) {
            return Err(Error::Stopped);
        }
        let mut entries = Vec::new();
        if !self.order.artifacts.is_empty() {
            let total = self.order.artifacts.iter().map(|artifact| artifact.size).sum();
            let task = progress.task("upload", Unit::Bytes, Some(total));
            for artifact in &self.order.artifacts {
                entries.push(self.artifact(&id, artifact, is_resumed, &task).await?);
            }
        }
        let record = match &record.link {
            // Killed after the link was set.
            Some(link) => {
                let bytes = self.bucket.get(&format!("{id}/{MANIFEST}"), MANIFEST_LIMIT).await?;
                entries.push(Entry::of_manifest(link.clone(), &bytes));
                record
            }
            None if entries.is_empty() => record,
            None => self.manifest(&id, &mut entries).await?,
        };
        let (record, job) = self.finish(record).await?;
        *self.left() = Left::default();
        self.journal().remove();
        Ok(Published { record, entries, job, is_existing: false, sent: self.sent.load(Ordering::Relaxed) })
    }

    /// The same, until `stop` comes. A record that is just being created is waited for a while: only its answer says what
    /// is to be removed.
    pub async fn run_until<S>(
        &self,
        progress: &Progress,
        stop: impl Future<Output = S>,
    ) -> Result<Result<Published, Error>, S> {
        let mut run = pin!(self.run(progress));
        let why = tokio::select! { result = &mut run => return Ok(result), why = stop => why };
        if self.is_creating.load(Ordering::Relaxed) {
            self.is_stopping.store(true, Ordering::Relaxed);
            // Nothing is begun after it: what was begun could be done after it was removed.
            let _ = tokio::time::timeout(ANSWER, run).await;
        }
        Err(why)
    }

    /// Removes everything that was created, and returns what could not be removed.
    pub async fn clean_up(&self) -> Vec<String> {
        let Left { creating, image, uploads, objects } = self.left().clone();
        for (key, upload) in uploads {
            if self.bucket.abort(&key, &upload).await.is_ok() {
                self.left().uploads.remove(&key);
            }
        }
        // The record first, so that at no time one leads to what is not there.
        if let Some(image) = image
            && self.ims.delete_image(&image).await.is_ok()
        {
            self.left().image = None;
        }
        for round in [Duration::ZERO, LATE] {
            tokio::time::sleep(if objects.is_empty() { Duration::ZERO } else { round }).await;
            for key in &objects {
                // What was on its way when the run was broken off may arrive after it was removed.
                if !round.is_zero() && !matches!(self.bucket.head(key).await, Ok(Some(_))) {
                    continue;
                }
                match self.bucket.delete(key).await {
                    Ok(()) => self.left().objects.remove(key),
                    Err(_) => self.left().objects.insert(key.clone()),
                };
            }
        }
        let mut left = self.left_list();
        if let Some(known) = creating {
            match self.ims.images().await {
                // Another run may have created it, so it is not ours to remove.
                Ok(records) => {
                    let unsure = self.own(records, &known).into_iter();
                    left.extend(unsure.map(|record| format!("image record {} (perhaps; it has no link)", record.id)));
                }
                Err(error) => {
                    let (name, error) = (&self.order.name, causes::line(&error));
                    left.push(format!("an image record `{name}` (perhaps; the records could not be listed: {error})"));
                }
            }
        }
        if left.is_empty() {
            self.journal().remove();
        }
        left
    }

    /// Names what was created, and leaves it for a next run to go on with.
    pub fn left_list(&self) -> Vec<String> {
        let Left { image, uploads, objects, .. } = &*self.left();
        let mut list = Vec::new();
        list.extend(image.iter().map(|image| format!("image record {image}")));
        list.extend(objects.iter().map(|key| self.bucket.place(key)));
        list.extend(uploads.iter().map(|(key, id)| format!("multipart upload {id} of {}", self.bucket.place(key))));
        list
    }

    /// What must hold before anything is created. Returns the records that are there, where the service lists them.
    async fn check(&self) -> Result<Option<Vec<Record>>, Error> {
        self.ims.authenticate().await?;
        let records = match self.ims.images().await {
            Ok(records) => Some(records),
            // Whoever may not list may still create; whether the address is right is seen then.
            Err(api::Error::Refused { status, .. })
                if status.is_client_error() && !matches!(status.as_u16(), 401 | 408 | 429) =>
            {
                None
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(job) = &self.order.job
            && let Err(error) = self.ims.job(job).await
            && error.is_unknown()
        {
            return Err(Error::NoSuchJob { job: job.clone() });
        }
        self.bucket.check().await?;
        Ok(records)
    }

    fn open_journal(&self) {
        let Some(state) = &self.order.state else { return };
        let Order { name, arch, job, artifacts, .. } = self.order;
        let what: Vec<_> = artifacts.iter().map(|artifact| (artifact.kind, &artifact.sha256)).collect();
        let place = (self.ims.base(), self.bucket.endpoint(), self.bucket.name());
        let name = serde_json::to_vec(&(place, name, arch, job, what)).expect("these are texts");
        match Journal::open(state, Digest::sha256(name).hex(), self.order.skip_existing) {
            Ok(journal) => *self.journal() = journal,
            Err(error) => tracing::warn!("{error}: {}; this upload cannot be resumed", error.source),
        }
    }

    /// An image with the same name, architecture and content, all of whose objects are there.
    async fn find_existing(&self, records: &[Record]) -> Result<Option<Record>, Error> {
        for record in records.iter().filter(|record| self.is_alike(record)) {
            let Some(key) = record.link.as_ref().and_then(|link| self.key_of(&link.path)) else { continue };
            let Some(manifest) = self.read_manifest(key).await? else { continue };
            if manifest.matches(&self.order.artifacts) && self.are_there(&manifest).await? {
                return Ok(Some(record.clone()));
            }
        }
        Ok(None)
    }

    async fn are_there(&self, manifest: &Manifest) -> Result<bool, Error> {
        for entry in &manifest.artifacts {
            let Some(key) = self.key_of(&entry.link.path) else { return Ok(false) };
            let Some(head) = self.bucket.head(key).await? else { return Ok(false) };
            let md5 = head.metadata.get("md5sum");
            if entry.size.is_some() && head.size != entry.size || md5.is_some_and(|md5| *md5 != entry.md5) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn read_manifest(&self, key: &str) -> Result<Option<Manifest>, Error> {
        match self.bucket.get(key, MANIFEST_LIMIT).await {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(s3::Error::Refused { status, .. }) if status.is_client_error() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn is_alike(&self, record: &Record) -> bool {
        record.name == self.order.name && record.arch() == self.order.arch
    }

    /// The key of an object in our bucket.
    fn key_of<'p>(&self, path: &'p str) -> Option<&'p str> {
        path.strip_prefix("s3://")?.strip_prefix(self.bucket.name())?.strip_prefix('/')
    }

    /// The record of the run that was killed, when it is still ours to complete.
    async fn resumable(&self, records: Option<Vec<Record>>) -> Result<Option<Record>, Error> {
        let state = {
            let journal = self.journal();
            (journal.image().map(str::to_owned), journal.creating().cloned())
        };
        let id = match state {
            (Some(id), _) => id,
            (None, None) => return Ok(None),
            // Killed before it knew what had been created.
            (None, Some(Creating { known, at })) => {
                let mut own = self.own(records.unwrap_or_default(), &known);
                // Somebody else may have one of this name under way, which is not ours to go on with.
                own.retain(|record| record.created().is_some_and(|created| (created - at).abs() <= SAME_TIME));
                let [record] = own.as_slice() else { return Ok(None) };
                self.journal().add_image(&record.id);
                record.id.clone()
            }
        };
        let record = self.ims.image(&id).await?.filter(|record| {
            let is_ours = |link: &Link| link.path == self.bucket.place(&format!("{id}/{MANIFEST}"));
            self.is_alike(record) && record.link.as_ref().is_none_or(is_ours)
        });
        match &record {
            Some(_) => tracing::info!("going on with image {id}"),
            None => self.journal().clear(),
        }
        Ok(record)
    }

    /// Creates the record. A try whose answer was lost may have created it: before another one, it is looked for among
    /// those that were not there before.
    async fn create(&self, known: Option<Vec<Record>>) -> Result<Record, Error> {
        let known: Option<HashSet<String>> = known.map(|records| records.into_iter().map(|record| record.id).collect());
        self.left().creating.clone_from(&known);
        if let Some(known) = &known {
            self.journal().add_creating(known);
        }
        let mut tries = 0;
        let record = loop {
            let started = Instant::now();
            self.is_creating.store(true, Ordering::Relaxed);
            let answer = self.ims.create_image(&self.order.name, &self.order.arch).await;
            self.is_creating.store(false, Ordering::Relaxed);
            let error = match answer {
                Ok(record) => break record,
                Err(error) => error,
            };
            // Without a list of what was there, a second try could make a second record.
            let Some(known) = &known else { return Err(error.into()) };
            let is_again = self.ims.patience.pause(&error, started, &mut tries).await;
            if let api::Error::Refused { is_problem: true, .. } | api::Error::Token(_) = error {
                // The service said no itself.
                self.left().creating = None;
            }
            if !is_again {
                return Err(error.into());
            }
            if self.is_stopping.load(Ordering::Relaxed) {
                return Err(Error::Stopped);
            }
            if let [record] = self.own(self.ims.images().await?, known).as_slice() {
                tracing::info!("the record had been created: {}", record.id);
                break record.clone();
            }
        };
        let mut left = self.left();
        (left.creating, left.image) = (None, Some(record.id.clone()));
        self.journal().add_image(&record.id);
        Ok(record)
    }

    /// Records that can be the one that a lost answer was about.
    fn own(&self, records: Vec<Record>, known: &HashSet<String>) -> Vec<Record> {
        let is_own = |record: &Record| record.link.is_none() && !known.contains(&record.id) && self.is_alike(record);
        records.into_iter().filter(is_own).collect()
    }

    /// What follows once the image is complete: its metadata and the job.
    async fn finish(&self, mut record: Record) -> Result<(Record, Option<Value>), Error> {
        for (key, value) in &self.order.metadata {
            let current = record.other.get("metadata").and_then(|metadata| metadata.get(key)?.as_str());
            if current != Some(value) {
                record = self.ims.annotate_image(&record.id, key, value).await?;
            }
        }
        let job = match &self.order.job {
            Some(job) => Some(self.ims.link_job(job, &record.id).await?),
            None => None,
        };
        Ok((record, job))
    }

    pub(super) fn journal(&self) -> std::sync::MutexGuard<'_, Journal> {
        self.journal.lock().expect("no holder panics")
    }

    pub(super) fn left(&self) -> std::sync::MutexGuard<'_, Left> {
        self.left.lock().expect("no holder panics")
    }
}

/// The last part of a manifest's key.
pub(super) const MANIFEST: &str = "manifest.json";

/// What the service takes.
const MANIFEST_LIMIT: u64 = 1 << 20;

/// Seconds between the clocks of this machine and of the service, and between a request and its record.
const SAME_TIME: i64 = 300;

/// How long the answer about a new record is waited for when the run is to end.
const ANSWER: Duration = Duration::from_secs(10);

/// How much later than its end an upload that was broken off may appear.
const LATE: Duration = Duration::from_millis(300);
