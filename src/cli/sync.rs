//! `haversack sync`: the images of a list to where it says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Serialize;

use crate::cli::outcome::{Exit, Failure, Outcome};
use crate::cli::registries::RegistryArgs;
use crate::cli::{Context, block_on};
use crate::escape::in_line;
use crate::http::{HostTls, Http, HttpOptions};
use crate::image::Layout;
use crate::limits;
use crate::ops::connect::Destination;
use crate::progress::{Unit, amount};
use crate::reference::ImageRef;
use crate::registry::sync::{Failed, List, Status, SyncOptions, Synced, Way, mirror_config, plan, sync};
use crate::registry::{CopyOptions, Memory, Session};

/// Copy the images of a list between registries, layouts and archives; what is there is not sent again
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(super) struct SyncArgs {
    /// The list: which images of which registries, and where to
    #[arg(value_name = "LIST.toml")]
    list: PathBuf,
    /// Maximum number of parallel transfers with one host, where the list says nothing else
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: u16,
    /// Maximum number of parallel images
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel_images: u16,
    /// Print what would be sent, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// Look for every blob at registries that hold the image already, and send those that they lost
    #[arg(long)]
    check_blobs: bool,
    /// Write there what OpenShift, podman and containerd need to use the mirror
    #[arg(long, value_name = "DIR")]
    mirror_config: Option<PathBuf>,
    #[command(flatten)]
    registries: RegistryArgs,
}

/// What a run did, or with `--dry-run` would do.
#[derive(Serialize)]
struct Report {
    dry_run: bool,
    images: Vec<Synced>,
    failed: Vec<FailedItem>,
    sent_blobs: u64,
    sent_bytes: u64,
    mounted_blobs: u64,
    present_blobs: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mirror_config: Vec<PathBuf>,
}

#[derive(Serialize)]
struct FailedItem {
    source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<ImageRef>,
    error: String,
}

pub(super) fn run(args: &SyncArgs, context: &Context) -> Outcome {
    let list = List::read(&args.list)?;
    let tls = list.registries.iter().filter_map(|(host, it)| Some((host.clone(), it.tls_verify?))).collect();
    let tls = args.tls(&list, tls);
    let report = block_on(async {
        // What is known by its digest must arrive as it is.
        let mut options = HttpOptions { gzip: false, ..context.http.clone() };
        let lax = tls.iter().filter(|(_, verify)| !**verify);
        options.hosts.extend(lax.map(|(host, _)| HostTls { verify: false, ..HostTls::new(host) }));
        let session = Session::new(Http::new(&options)?, args.registries.source(context)?.auth, tls.clone());
        let options = SyncOptions {
            images: args.parallel_images.into(),
            copy: CopyOptions {
                parallel: args.parallel.into(),
                dry_run: args.dry_run,
                retry: context.http.retry,
                memory: Memory::new(context.config.cache_dir(), args.parallel.into(), list.limits()),
                check_blobs: args.check_blobs,
                ..CopyOptions::default()
            },
        };
        let planned = plan(&list, &session, options.images).await;
        let mut places = Vec::new();
        let mut stores: BTreeMap<ImageRef, Layout> = BTreeMap::new();
        for store in list.stores() {
            let place = Destination::local(&store, args.dry_run)?;
            stores.extend(place.layout().map(|layout| (store.clone(), layout)));
            places.push((store, place));
        }
        let (images, failed) = sync(&planned, &session, &stores, &options, context.ui.progress()).await;
        for (store, place) in places.into_iter().filter(|_| !args.dry_run) {
            let there = images.iter().map(|image| &image.way.destination).filter(|it| it.path() == store.path());
            place.finish_all(there.filter_map(ImageRef::name))?;
        }
        let written = list.destination_hosts();
        let failed =
            planned.failures.into_iter().chain(failed).map(|failed| FailedItem::new(failed, &written)).collect();
        let mut report = Report::new(args.dry_run, images, failed);
        if let (Some(directory), false) = (&args.mirror_config, args.dry_run) {
            // Consumers are led to what arrived, and to nothing else.
            let arrived: Vec<Way> = report.images.iter().map(|image| image.way.clone()).collect();
            report.mirror_config = write_mirror_config(&arrived, &tls, directory, context)?;
        }
        Ok(report)
    })?;
    context.ui.result(&report, Report::to_text)?;
    // What is to be done is the same for many, and said once.
    let mut told = BTreeSet::new();
    for failed in &report.failed {
        let (what, hint) = failed.error.split_once("\nhint: ").unwrap_or((&failed.error, ""));
        let hint = if !hint.is_empty() && told.insert(hint) { format!("\nhint: {hint}") } else { String::new() };
        context.ui.error(format_args!("{}: {what}{hint}", failed.source));
    }
    let nothing_left = report.images.iter().all(|image| image.report.left_out.is_empty());
    Ok(Exit::of(report.failed.is_empty() && nothing_left))
}

impl SyncArgs {
    /// Of which hosts certificates are checked: as the list says, else as the options for sources and destinations do.
    fn tls(&self, list: &List, said: BTreeMap<String, bool>) -> BTreeMap<String, bool> {
        let mut tls = BTreeMap::new();
        let sources = list.images.iter().filter_map(|entry| entry.registry.clone());
        for (hosts, verify) in [
            (sources.collect::<Vec<_>>(), self.registries.src_tls_verify),
            (list.destination_hosts(), self.registries.dest_tls_verify),
        ] {
            tls.extend(hosts.into_iter().filter(|_| !verify).map(|host| (host, false)));
        }
        tls.extend(said);
        tls
    }
}

fn write_mirror_config(
    ways: &[Way],
    tls: &BTreeMap<String, bool>,
    directory: &std::path::Path,
    context: &Context,
) -> Result<Vec<PathBuf>, Failure> {
    let insecure = |host: &str| tls.get(host) == Some(&false);
    let written = mirror_config::write(ways, &insecure, directory)?;
    if written.files.is_empty() {
        let place = directory.display();
        context
            .ui
            .warn(format_args!("{place}: nothing was written, because no image went from a registry to a registry"));
    }
    for repository in &written.renamed {
        context.ui.warn(format_args!("{repository}: containerd cannot be told of a mirror with another path"));
    }
    Ok(written.files)
}

impl FailedItem {
    /// `written` are the hosts that are written to.
    fn new(Failed { what, destination, error }: Failed, written: &[String]) -> Self {
        let is_written = |host: &str| written.iter().any(|known| known == host);
        let option = |host: &str| if is_written(host) { "--dest-tls-verify=false" } else { "--src-tls-verify=false" };
        FailedItem { source: what, destination, error: Failure::from(error).without_tls(option).to_string() }
    }
}

impl Report {
    fn new(dry_run: bool, images: Vec<Synced>, failed: Vec<FailedItem>) -> Self {
        let sum = |of: fn(&Synced) -> u64| limits::total(images.iter().map(of));
        Report {
            dry_run,
            sent_blobs: sum(|image| image.report.sent_blobs),
            sent_bytes: sum(|image| image.report.sent_bytes),
            mounted_blobs: sum(|image| image.report.mounted_blobs),
            present_blobs: sum(|image| image.report.present_blobs),
            images,
            failed,
            mirror_config: Vec::new(),
        }
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        for Synced { way, status, report } in &self.images {
            let what = match status {
                Status::Present => "is there".to_owned(),
                Status::Copied | Status::ToCopy => {
                    let (blobs, bytes) = (report.sent_blobs, amount(report.sent_bytes, Unit::Bytes));
                    format!("{blobs} blobs {}, {bytes}", if self.dry_run { "to send" } else { "sent" })
                }
            };
            text += &format!("{} -> {}: {what}\n", in_line(&way.source), in_line(&way.destination));
            for left_out in &report.left_out {
                text += &format!("  left out: {}: {}\n", in_line(&left_out.what), in_line(&left_out.because));
            }
        }
        let (images, failed) = (self.images.len(), self.failed.len());
        let verb = if self.dry_run { "to send" } else { "sent" };
        let bytes = amount(self.sent_bytes, Unit::Bytes);
        text += &format!("{images} images, {} blobs {verb}, {bytes}", self.sent_blobs);
        for (count, what) in
            [(self.mounted_blobs, "mounted"), (self.present_blobs, "there before"), (failed as u64, "failures")]
        {
            if count > 0 {
                text += &format!(", {count} {what}");
            }
        }
        text.push('\n');
        for path in &self.mirror_config {
            text += &format!("wrote {}\n", path.display());
        }
        text
    }
}

const HELP: &str = "\
Example:
  haversack sync LIST.toml --dry-run

Exit status: 0 all copied, 1 failed, 2 wrong command line, 3 finished, but some images failed; each is named";
