//! `haversack publish ims` and `ims-job-status`, in place of ims-python-helper's `image upload_artifacts` and
//! `image set_job_status`.
//!
//! Both print one JSON object with a `result`, whatever happens, as the old helper did when it could.

use std::path::PathBuf;
use std::str::FromStr;

use clap::ArgAction;
use serde_json::{Map, Value, json};

use super::input::{Files, Input, input};
use super::key_value;
use super::settings::{S3Args, ServiceArgs, state_directory, variable};
use crate::cli::outcome::{Exit, Failure, Outcome};
use crate::cli::registries::AuthArgs;
use crate::cli::stop::{stoppable, stopped};
use crate::cli::{Context, block_on};
use crate::fs::PathContext;
use crate::ops::Scratch;
use crate::progress::{Unit, amount};
use crate::publish::ims::bundle::Bundle;
use crate::publish::ims::manifest::{Entry, Manifest, pretty};
use crate::publish::ims::{Artifact, Kind, Order, Published, Upload};

/// Upload an image's boot artifacts to S3 and register the image with IMS
#[derive(clap::Args)]
#[command(after_help = "Takes the place of `python -m ims_python_helper image upload_artifacts`.")]
pub(in crate::cli) struct ImsArgs {
    /// Name of the image [default: the name in the bundle given with --from]
    #[arg(required_unless_present = "from")]
    pub(super) name: Option<String>,
    /// Job that built the image [default: $IMS_JOB_ID]
    #[arg(value_name = "JOB-ID")]
    job: Option<JobId>,
    /// Root file system, a squashfs
    #[arg(short, long, value_name = "FILE")]
    pub(super) rootfs: Option<PathBuf>,
    /// Kernel
    #[arg(short, long, value_name = "FILE")]
    pub(super) kernel: Option<PathBuf>,
    /// Initial RAM disk
    #[arg(short, long, value_name = "FILE")]
    pub(super) initrd: Option<PathBuf>,
    /// Kernel with debug information
    #[arg(short, long, value_name = "FILE")]
    pub(super) debug: Option<PathBuf>,
    /// File with kernel parameters
    #[arg(short = 'p', long, value_name = "FILE")]
    pub(super) boot_parameters: Option<PathBuf>,
    /// Architecture of the image [default: the one in the bundle, otherwise x86_64]
    #[arg(long, value_parser = ["x86_64", "aarch64"])]
    pub(super) arch: Option<String>,
    /// Take the files out of an image, in which the other options then name them; without `--rootfs`, mksquashfs makes one of
    /// all its files. Or the directory of a bundle
    #[arg(long, value_name = "REF|DIR")]
    pub(super) from: Option<String>,
    /// Write everything into this directory, for an upload with `--from DIR` from where the service can be reached
    #[arg(long, value_name = "DIR", conflicts_with = "dry_run")]
    bundle: Option<PathBuf>,
    /// Register an image without a root file system, which cannot boot
    #[arg(long)]
    pub(super) allow_no_rootfs: bool,
    /// Take an image that is there with the same name, architecture and content
    #[arg(long)]
    skip_existing: bool,
    /// Metadata entry for the image's record; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub(super) metadata: Vec<(String, String)>,
    /// Print what would be uploaded and the manifest without contacting any server
    #[arg(long)]
    dry_run: bool,
    /// After a failure, keep what was uploaded so that the next run can resume
    #[arg(long)]
    keep: bool,
    /// Maximum number of parallel parts
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=32))]
    parallel: u16,
    /// Whether the certificate of the registry of `--from docker://…` is checked; `false` also takes plain HTTP
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = true)]
    pub(super) src_tls_verify: bool,
    #[command(flatten)]
    pub(super) auth: AuthArgs,
    #[command(flatten)]
    pub(super) service: ServiceArgs,
    #[command(flatten)]
    s3: S3Args,
}

/// Set the status of a job of IMS
#[derive(clap::Args)]
#[command(after_help = "Takes the place of `python -m ims_python_helper image set_job_status`.")]
pub(in crate::cli) struct JobStatusArgs {
    /// ID of the job
    #[arg(value_name = "JOB-ID")]
    job: JobId,
    /// New status: packaging_artifacts, success, error or another one that the service accepts
    status: String,
    #[command(flatten)]
    pub(super) service: ServiceArgs,
}

/// The id of a job: a UUID, in lower case as the service compares it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct JobId(String);

impl FromStr for JobId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_uuid = text.split('-').map(str::len).eq([8, 4, 4, 4, 12])
            && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
        if is_uuid { Ok(JobId(text.to_lowercase())) } else { Err("expected a UUID".into()) }
    }
}

/// A failure and what it left on the other side.
struct Failed {
    failure: Failure,
    left: Vec<String>,
}

impl<E: Into<Failure>> From<E> for Failed {
    fn from(error: E) -> Self {
        Failed { failure: error.into(), left: Vec::new() }
    }
}

pub(super) fn upload(args: &ImsArgs, context: &Context) -> Outcome {
    report(upload_or_plan(args, context), context)
}

pub(super) fn set_job_status(args: &JobStatusArgs, context: &Context) -> Outcome {
    let set = || {
        let ims = args.service.ims(args.service.patience(context), context)?;
        let job = block_on(async { Ok(ims.set_job_status(&args.job.0, &args.status).await?) })?;
        Ok(json!({ "ims_job_record": job }))
    };
    report(set(), context)
}

/// Prints the one JSON object.
fn report(result: Result<Value, Failed>, context: &Context) -> Outcome {
    let print = |document: Value| context.ui.data(String::from_utf8_lossy(&pretty(&document)));
    match result {
        Ok(mut document) => {
            document["result"] = "success".into();
            print(document)?;
            Ok(Exit::Done)
        }
        Err(Failed { failure, left }) => {
            let mut document = json!({ "error": failure.reason(), "result": "failure" });
            if !left.is_empty() {
                context.ui.warn(format_args!("left behind: {}", left.join(", ")));
                document["left_behind"] = left.into();
            }
            print(document)?;
            Err(failure)
        }
    }
}

fn upload_or_plan(args: &ImsArgs, context: &Context) -> Result<Value, Failed> {
    let scratch = Scratch::default();
    // What was taken out of an image goes away with `_files`.
    let (order, _files) = stoppable(&scratch, |name| stopped_early(name, context), || order(args, &scratch, context))?;
    if let Some(directory) = &args.bundle {
        let bundle = Bundle::new(&order.name, &order.arch, &order.metadata, &order.artifacts);
        stoppable(&scratch, |name| stopped_early(name, context), || bundle.write(&order.artifacts, directory))?;
        context.ui.say(format_args!("upload it with `haversack publish ims --from {}`", directory.display()));
        return Ok(json!({ "bundle": bundle, "directory": directory }));
    }
    if args.dry_run {
        let bucket = args.s3.bucket_name(&context.config).unwrap_or_else(|| "BUCKET".to_owned());
        return Ok(plan(&order, &bucket));
    }
    let patience = args.service.patience(context);
    let ims = args.service.ims(patience.clone(), context)?;
    let bucket = args.s3.bucket(patience, context)?;
    let upload = Upload::new(&ims, &bucket, &order);
    let mut left = Vec::new();
    let published = block_on(async {
        let result = match upload.run_until(context.ui.progress(), stopped()).await {
            Ok(result) => result.map_err(Failure::from),
            Err(signal) => Err(Failure::new(format!("stopped by {signal}"))),
        };
        if result.is_err() {
            left = match args.keep {
                true => upload.left_list(),
                // Asked a second time, it ends at once.
                false => tokio::select! { left = upload.clean_up() => left, _ = stopped() => upload.left_list() },
            };
        }
        result
    });
    let Published { record, entries, job, is_existing, sent } =
        published.map_err(|failure| Failed { failure, left })?;
    match is_existing {
        true => context.ui.say(format_args!("image {} is there already", record.id)),
        false => context.ui.say(format_args!("image {}: {} sent", record.id, amount(sent, Unit::Bytes))),
    }
    let mut document = Map::from_iter([
        ("ims_image_artifacts".to_owned(), json!(entries)),
        ("ims_image_record".to_owned(), json!(record)),
    ]);
    document.extend(job.map(|job| ("ims_job_record".to_owned(), job)));
    Ok(document.into())
}

/// Prints the one JSON object of a run that ends before it has contacted anybody, and gives its status.
fn stopped_early(name: &str, context: &Context) -> i32 {
    let stopped = Failure::new(format!("stopped by {name}"));
    if let Err(failure) = report(Err(stopped.into()), context) {
        context.ui.error(failure);
    }
    Exit::No as i32
}

/// Reads and checks the files and the names.
fn order(args: &ImsArgs, scratch: &Scratch, context: &Context) -> Result<(Order, Files), Failure> {
    let Input { name, arch, metadata, files, bundle } = input(args, scratch, context)?;
    let name = name.trim();
    if name.is_empty() {
        return Err(Failure::usage("the image's name is empty"));
    }
    let job = match (&args.job, variable(&context.config, "IMS_JOB_ID")) {
        (Some(job), _) => Some(job.0.clone()),
        (None, Some(text)) => {
            let job: JobId = text.parse().map_err(|error| Failure::usage(format!("IMS_JOB_ID: `{text}`: {error}")))?;
            Some(job.0)
        }
        (None, None) => None,
    };
    if !files.paths.contains_key(&Kind::Rootfs) && !args.allow_no_rootfs {
        return Err(Failure::new("no root file system is given, without which the service takes no image")
            .hint("name it with `--rootfs FILE`; an image that is not to boot is taken with `--allow-no-rootfs`"));
    }
    // All that is missing is named before minutes are spent on the first.
    let sizes = files.paths.values().map(|path| Ok(std::fs::metadata(path).at("open", path)?.len()));
    let total = sizes.sum::<Result<u64, Failure>>()?;
    let task = context.ui.progress().task("read", Unit::Bytes, Some(total));
    let mut artifacts = Vec::new();
    for (kind, path) in &files.paths {
        let artifact = Artifact::read(*kind, path, &task)?;
        if let Some(bundle) = &bundle {
            bundle.check(&artifact)?;
        }
        match kind {
            Kind::Rootfs if !artifact.is_squashfs() => {
                context.ui.warn(format_args!("{}: does not begin as a squashfs does", path.display()));
            }
            Kind::Kernel | Kind::DebugKernel => artifact.check_architecture(&arch)?,
            _ => {}
        }
        artifacts.push(artifact);
    }
    let order = Order {
        name: name.to_owned(),
        arch,
        job,
        artifacts,
        metadata,
        skip_existing: args.skip_existing,
        state: state_directory(&context.config),
        parallel: args.parallel.into(),
    };
    Ok((order, files))
}

/// What would be uploaded where.
fn plan(order: &Order, bucket: &str) -> Value {
    let place = |name: &str| format!("s3://{bucket}/IMAGE-ID/{name}");
    let entries = order.artifacts.iter();
    let etag = |artifact: &Artifact| artifact.etag().unwrap_or_else(|| "ETAG".to_owned());
    let entries = entries.map(|artifact| Entry::of(artifact, place(artifact.kind.key()), etag(artifact))).collect();
    let uploads: Vec<Value> = order
        .artifacts
        .iter()
        .map(|artifact| {
            json!({
                "file": artifact.path,
                "parts": artifact.part_count(),
                "size": artifact.size,
                "to": place(artifact.kind.key()),
            })
        })
        .collect();
    json!({
        "arch": order.arch,
        "dry_run": true,
        "job": order.job,
        "manifest": Manifest::new(entries),
        "metadata": order.metadata.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        "name": order.name,
        "uploads": uploads,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_ids_are_uuids_in_lower_case() {
        let id = "e3a46cf3-1150-4bbf-b7c9-504993917f7d";
        for (text, is_id) in [
            (id, true),
            ("E3A46CF3-1150-4BBF-B7C9-504993917F7D", true),
            ("e3a46cf3-1150-4bbf-b7c9-504993917f7d-junk", false),
            ("notauuid", false),
            ("e3a46cf311504bbfb7c9504993917f7d", false),
            ("", false),
        ] {
            assert_eq!(text.parse::<JobId>().ok(), is_id.then(|| JobId(id.to_owned())), "{text}");
        }
    }
}
