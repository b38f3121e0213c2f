//! `haversack publish ims` and `ims-job-status`, in place of ims-python-helper's `image upload_artifacts` and
//! `image set_job_status`.
//!
//! Both print one JSON object with a `result`, whatever happens, as the old helper did when it could.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::settings::{S3Args, ServiceArgs};
use crate::cli::global::ParallelArgs;
use crate::cli::outcome::{Exit, Failure, Outcome};
use crate::cli::registries::ReadArgs;
use crate::cli::{Context, block_on};
use crate::ops::Scratch;
use crate::ops::publish::ims::{self, JobId, UploadOptions};
use crate::ops::publish::key_value;
use crate::ops::publish::settings::state_directory;
use crate::progress::{Unit, amount};
use crate::publish::ims::bundle::Bundle;
use crate::publish::ims::manifest::pretty;
use crate::publish::ims::{Kind, Published, Upload};
use crate::terminal::stop::{stoppable, stopped};

/// Upload an image's boot artifacts to S3 and register the image with IMS
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(in crate::cli) struct ImsArgs {
    /// Name of the image [default: the name in the bundle given with --from]
    #[arg(required_unless_present = "from")]
    name: Option<String>,
    /// Job that built the image [default: $IMS_JOB_ID]
    #[arg(value_name = "JOB-ID")]
    job: Option<JobId>,
    /// Root file system, a squashfs
    #[arg(short, long, value_name = "FILE")]
    rootfs: Option<PathBuf>,
    /// Kernel
    #[arg(short, long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Initial RAM disk
    #[arg(short, long, value_name = "FILE")]
    initrd: Option<PathBuf>,
    /// Kernel with debug information
    #[arg(short, long, value_name = "FILE")]
    debug: Option<PathBuf>,
    /// File with kernel parameters
    #[arg(short = 'p', long, value_name = "FILE")]
    boot_parameters: Option<PathBuf>,
    /// Architecture of the image [default: the one in the bundle, otherwise x86_64]
    #[arg(long, value_parser = ["x86_64", "aarch64"])]
    arch: Option<String>,
    /// Image to take the files from: the other options then name paths in it, and without --rootfs, mksquashfs makes a squashfs of
    /// all its files. Or the directory of a bundle
    #[arg(long, value_name = "REF|DIR")]
    from: Option<String>,
    /// Upload nothing, and write a bundle into this directory, which `--from DIR` uploads from where the service can be reached
    #[arg(long, value_name = "DIR", conflicts_with = "dry_run")]
    bundle: Option<PathBuf>,
    /// Register an image without a root file system, which cannot boot
    #[arg(long)]
    allow_no_rootfs: bool,
    /// Upload nothing if the service has an image with the same name, architecture and content
    #[arg(long)]
    skip_existing: bool,
    /// Metadata entry for the image's record; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    metadata: Vec<(String, String)>,
    /// Print what would be uploaded and the manifest without contacting any server
    #[arg(long)]
    dry_run: bool,
    /// After a failure, keep what was uploaded so that the next run can resume
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    parallel: ParallelArgs<4>,
    #[command(flatten)]
    pub(super) service: ServiceArgs,
    #[command(flatten)]
    s3: S3Args,
    #[command(flatten)]
    registry: ReadArgs,
}

/// Set the status of a job of IMS
#[derive(clap::Args)]
#[command(after_help = STATUS_HELP)]
pub(in crate::cli) struct JobStatusArgs {
    /// ID of the job
    #[arg(value_name = "JOB-ID")]
    job: JobId,
    /// New status: packaging_artifacts, success, error or another one that the service accepts
    status: String,
    #[command(flatten)]
    pub(super) service: ServiceArgs,
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
        let patience = args.service.patience(context);
        let warn = |line: &str| context.ui.warn(line);
        let ims = args.service.options().ims(patience, &context.http, &context.config.environment, warn)?;
        let job = block_on(async { Ok(ims.set_job_status(args.job.as_str(), &args.status).await?) })?;
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
    let (say, warn) = (|line: &str| context.ui.say(line), |line: &str| context.ui.warn(line));
    let options = args.options(&say, context)?;
    let order = || ims::order(&options, &scratch, context.ui.progress());
    let (order, _files) = stoppable(|| scratch.remove(), |name| stopped_early(name, context), order)?;
    context.ui.warn_of(ims::lacks(&order));
    if let Some(directory) = &args.bundle {
        let bundle = Bundle::new(&order.name, &order.arch, &order.metadata, &order.artifacts);
        stoppable(
            || scratch.remove(),
            |name| stopped_early(name, context),
            || bundle.write(&order.artifacts, directory),
        )?;
        context.ui.say(format_args!("upload it with `haversack publish ims --from {}`", directory.display()));
        return Ok(json!({ "bundle": bundle, "directory": directory }));
    }
    if args.dry_run {
        let bucket = args.s3.options().bucket_name(&context.config.environment).unwrap_or_else(|| "BUCKET".to_owned());
        return Ok(ims::plan(&order, &bucket));
    }
    let (patience, environment) = (args.service.patience(context), &context.config.environment);
    let ims = args.service.options().ims(patience.clone(), &context.http, environment, warn)?;
    let bucket = args.s3.options().bucket(patience, &context.http, environment)?;
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
    let published = published.map_err(|failure| Failed { failure, left })?;
    let (document, Published { record, is_existing, sent, .. }) = (ims::document(&published), published);
    match is_existing {
        true => context.ui.say(format_args!("image {} is there already", record.id)),
        false => context.ui.say(format_args!("image {}: {} sent", record.id, amount(sent, Unit::Bytes))),
    }
    Ok(document)
}

impl ImsArgs {
    fn options<'a>(&self, say: &'a dyn Fn(&str), context: &Context) -> Result<UploadOptions<'a>, Failure> {
        let files = [&self.rootfs, &self.kernel, &self.initrd, &self.debug, &self.boot_parameters];
        let files = Kind::ALL.into_iter().zip(files).filter_map(|(kind, path)| Some((kind, path.clone()?)));
        let environment = &context.config.environment;
        let job = environment
            .word("IMS_JOB_ID")
            .filter(|_| self.job.is_none())
            .map(|text| text.parse().map_err(|error| Failure::usage(format!("IMS_JOB_ID: `{text}`: {error}"))));
        Ok(UploadOptions {
            name: self.name.clone(),
            job: self.job.clone().or(job.transpose()?),
            files: files.collect(),
            arch: self.arch.clone(),
            from: self.from.clone(),
            allow_no_rootfs: self.allow_no_rootfs,
            metadata: self.metadata.clone(),
            skip_existing: self.skip_existing,
            parallel: self.parallel.count(),
            state: state_directory(environment),
            access: self.registry.access(context)?,
            say,
        })
    }
}

/// Prints the one JSON object of a run that ends before it has contacted anybody, and gives its status.
fn stopped_early(name: &str, context: &Context) -> i32 {
    let stopped = Failure::new(format!("stopped by {name}"));
    if let Err(failure) = report(Err(stopped.into()), context) {
        context.ui.error(failure);
    }
    Exit::No as i32
}

const HELP: &str = "\
Takes the place of `python -m ims_python_helper image upload_artifacts`.

Examples:
  haversack publish ims my-image -r rootfs.squashfs -k vmlinuz -i initrd --dry-run
  haversack publish ims my-image --from docker://registry.local/compute:1 -k /boot/vmlinuz -i /boot/initrd --bundle my-image.bundle

Exit status: 0 uploaded, 1 failed, 2 wrong command line; stdout has one JSON object in each case";

const STATUS_HELP: &str = "\
Takes the place of `python -m ims_python_helper image set_job_status`.

Examples:
  haversack publish ims-job-status 7de80ccc-1e7d-43a9-a6e4-02cad10bb60b packaging_artifacts

Exit status: 0 set, 1 failed, 2 wrong command line; stdout has one JSON object in each case";
