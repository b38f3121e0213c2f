//! The images of a list to where it says: what `haversack sync` does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::causes;
use crate::escape::in_line;
use crate::http::{HostTls, Http, HttpOptions};
use crate::image::Layout;
use crate::limits;
use crate::ops::connect::Destination;
use crate::ops::{Access, Done, Error, block_on, hints};
use crate::plural;
use crate::progress::{Progress, Unit, amount};
use crate::reference::ImageRef;
use crate::registry::sync::{Failed, List, Status, SyncOptions, Synced, Way, mirror_config, plan, sync};
use crate::registry::{CopyOptions, Memory, Session};

/// What is copied, and how.
#[derive(Clone, Debug)]
pub struct SyncListOptions {
    /// The list, a file.
    pub list: PathBuf,
    /// Maximum number of images at a time.
    pub images: usize,
    /// How each image is copied, where the list says nothing else.
    pub copying: CopyOptions,
    /// Where what was sent is remembered for the next run.
    pub cache: Option<PathBuf>,
    /// Where what nodes need to use the mirror is written.
    pub mirror_config: Option<PathBuf>,
    /// How sources are spoken to, and the credentials of all.
    pub from: Access,
    /// How destinations are spoken to.
    pub to: Access,
}

/// What a run did, or with `dry_run` would do.
#[derive(Debug, Serialize)]
pub struct SyncReport {
    /// Whether nothing was sent.
    pub dry_run: bool,
    /// What became of each image.
    pub images: Vec<Synced>,
    /// What could not be done.
    pub failed: Vec<FailedItem>,
    /// Blobs that were sent.
    pub sent_blobs: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Blobs that registries took from another of their repositories.
    pub mounted_blobs: u64,
    /// Blobs that were there.
    pub present_blobs: u64,
    /// Files that nodes need to use the mirror.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mirror_config: Vec<PathBuf>,
    /// Repositories of which containerd cannot be told, since they have another path in the mirror.
    #[serde(skip)]
    pub not_for_containerd: Vec<String>,
}

/// An image, a repository or a registry that something is wrong with.
#[derive(Debug, Serialize)]
pub struct FailedItem {
    /// Which.
    pub source: String,
    /// Where it was to go, where that was known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<ImageRef>,
    /// What is wrong, why, and after `hint: ` what to do.
    pub error: String,
}

/// Copies the images of a list. One that cannot be had does not keep the others.
pub fn sync_list(options: &SyncListOptions, progress: &Progress) -> Result<SyncReport, Error> {
    let list = List::read(&options.list)?;
    let tls = tls(&list, options);
    let dry_run = options.copying.dry_run;
    block_on(async {
        // What is known by its digest must arrive as it is.
        let mut http = HttpOptions { gzip: false, ..options.from.http.clone() };
        let lax = tls.iter().filter(|(_, verify)| !**verify);
        http.hosts.extend(lax.map(|(host, _)| HostTls { verify: false, ..HostTls::new(host) }));
        let session = Session::new(Http::new(&http)?, options.from.auth.clone(), tls.clone());
        let memory = Memory::new(options.cache.clone(), options.copying.parallel, list.limits());
        let copy = CopyOptions { memory, ..options.copying.clone() };
        let each = SyncOptions { images: options.images, copy };
        let planned = plan(&list, &session, each.images).await;
        let mut places = Vec::new();
        let mut stores: BTreeMap<ImageRef, Layout> = BTreeMap::new();
        for store in list.stores() {
            let place = Destination::local(&store, dry_run)?;
            stores.extend(place.layout().map(|layout| (store.clone(), layout)));
            places.push((store, place));
        }
        let (images, failed) = sync(&planned, &session, &stores, &each, progress).await;
        for (store, place) in places.into_iter().filter(|_| !dry_run) {
            let there = images.iter().map(|image| &image.way.destination).filter(|it| it.path() == store.path());
            place.finish_all(there.filter_map(ImageRef::name))?;
        }
        let written = list.destination_hosts();
        let failed = planned.failures.into_iter().chain(failed).map(|failed| FailedItem::new(failed, &written));
        let mut report = SyncReport::new(dry_run, images, failed.collect());
        if let (Some(directory), false) = (&options.mirror_config, dry_run) {
            report.write_mirror_config(&tls, directory)?;
        }
        Ok(report)
    })
}

/// Of which hosts certificates are checked: as the list says, else as is said for sources and destinations.
fn tls(list: &List, options: &SyncListOptions) -> BTreeMap<String, bool> {
    let mut tls = BTreeMap::new();
    let sources = list.images.iter().filter_map(|entry| entry.registry.clone());
    for (hosts, verify) in
        [(sources.collect::<Vec<_>>(), options.from.verify_tls), (list.destination_hosts(), options.to.verify_tls)]
    {
        tls.extend(hosts.into_iter().filter(|_| !verify).map(|host| (host, false)));
    }
    tls.extend(list.registries.iter().filter_map(|(host, it)| Some((host.clone(), it.tls_verify?))));
    tls
}

impl FailedItem {
    /// `written` are the hosts that are written to.
    fn new(Failed { what, destination, error }: Failed, written: &[String]) -> Self {
        let is_written = |host: &str| written.iter().any(|known| known == host);
        let option = |host: &str| if is_written(host) { "--dest-tls-verify=false" } else { "--src-tls-verify=false" };
        let hint = hints::without_tls(&error, option).or_else(|| causes::of(&error).find_map(hints::hint));
        let hint = hint.map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        FailedItem { source: what, destination, error: causes::lines(&error).join("\n  because: ") + &hint }
    }
}

impl SyncReport {
    fn new(dry_run: bool, images: Vec<Synced>, failed: Vec<FailedItem>) -> Self {
        let sum = |of: fn(&Synced) -> u64| limits::total(images.iter().map(of));
        SyncReport {
            dry_run,
            sent_blobs: sum(|image| image.report.sent_blobs),
            sent_bytes: sum(|image| image.report.sent_bytes),
            mounted_blobs: sum(|image| image.report.mounted_blobs),
            present_blobs: sum(|image| image.report.present_blobs),
            images,
            failed,
            mirror_config: Vec::new(),
            not_for_containerd: Vec::new(),
        }
    }

    /// Leads consumers to what arrived, and to nothing else.
    fn write_mirror_config(&mut self, tls: &BTreeMap<String, bool>, directory: &Path) -> Result<(), Error> {
        let arrived: Vec<Way> = self.images.iter().map(|image| image.way.clone()).collect();
        let written = mirror_config::write(&arrived, &|host: &str| tls.get(host) == Some(&false), directory)?;
        (self.mirror_config, self.not_for_containerd) = (written.files, written.renamed);
        Ok(())
    }

    /// How much of it was done, with all that belongs to it. A list of nothing is done.
    pub fn done(&self) -> Done {
        let is_whole = self.images.iter().all(|image| image.report.left_out.is_empty());
        match self.failed.is_empty() {
            true if is_whole => Done::All,
            true => Done::Part,
            false => Done::of(self.images.len(), false),
        }
    }

    /// What is wrong with each item that failed, and what to do; what is the same for many is said once.
    pub fn reasons(&self) -> Vec<String> {
        let mut told = BTreeSet::new();
        let reason = |failed: &FailedItem| {
            let (what, hint) = failed.error.split_once("\nhint: ").unwrap_or((&failed.error, ""));
            let is_new = !hint.is_empty() && told.insert(hint.to_owned());
            let hint = if is_new { format!("\nhint: {hint}") } else { String::new() };
            // Most failures of a registry begin with its host, which the image's name has already.
            let host = failed.source.trim_start_matches("docker://").split('/').next().unwrap_or_default();
            let what = what.strip_prefix(host).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(what);
            format!("{}: {what}{hint}", failed.source)
        };
        self.failed.iter().map(reason).collect()
    }

    /// What was done, for people.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for Synced { way, status, report } in &self.images {
            let what = match status {
                Status::Present => "is there".to_owned(),
                Status::Copied | Status::ToCopy => {
                    let (blobs, bytes) = (report.sent_blobs, amount(report.sent_bytes, Unit::Bytes));
                    format!(
                        "{} {}, {bytes}",
                        plural::count(blobs, "blob"),
                        if self.dry_run { "to send" } else { "sent" }
                    )
                }
            };
            text += &format!("{} -> {}: {what}\n", in_line(&way.source), in_line(&way.destination));
            text.extend(report.left_out.iter().map(|left_out| format!("  {left_out}\n")));
        }
        let (images, failed) = (self.images.len(), self.failed.len());
        let verb = if self.dry_run { "to send" } else { "sent" };
        let bytes = amount(self.sent_bytes, Unit::Bytes);
        text +=
            &format!("{}, {} {verb}, {bytes}", plural::count(images, "image"), plural::count(self.sent_blobs, "blob"));
        for (count, what) in [
            (self.mounted_blobs, if self.dry_run { "to mount" } else { "mounted" }),
            (self.present_blobs, "there before"),
            (failed as u64, if failed == 1 { "failure" } else { "failures" }),
        ] {
            if count > 0 {
                text += &format!(", {count} {what}");
            }
        }
        text.push('\n');
        text.extend(self.mirror_config.iter().map(|path| format!("wrote {}\n", path.display())));
        text
    }
}
