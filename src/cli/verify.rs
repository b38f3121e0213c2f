//! `haversack verify`: is everything what its name says?

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::carry::{self, Checked, PublicKey, RepairReport, State};
use crate::cli::outcome::{Exit, Failure, Outcome};
use crate::cli::registries::OneRegistryArgs;
use crate::cli::stop::stoppable;
use crate::cli::{Context, block_on, place};
use crate::escape::in_line;
use crate::fs;
use crate::image::Store;
use crate::image::store::verify::{self, VerifyOptions, VerifyReport};
use crate::ops::Scratch;
use crate::ops::evidence::{By, Evidence};
use crate::progress::{Unit, amount};
use crate::reference::{ImageRef, Remote};
use crate::registry::RemoteImage;

/// Check every digest, size and diff id of a layout or an archive, and find what is missing or not needed; or the volumes of
/// a carry
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(super) struct VerifyArgs {
    /// An image of any transport, or a whole layout or archive (oci:DIR, oci-archive:FILE, docker-archive:FILE, dir:DIR),
    /// or just its path; or a carry
    #[arg(value_name = "REF|LAYOUT|CARRY", value_parser = place::image_or_path)]
    place: ImageRef,
    /// Remove what is broken from a layout, so that a copy fetches it again; make lost and damaged volumes of a carry again from
    /// its parity volumes, all in one directory
    #[arg(long)]
    repair: bool,
    /// Refuse a carry unless this public key (PEM) signed it [default: nobody's signature is asked for]
    #[arg(long, value_name = "PUB")]
    key: Option<PathBuf>,
    /// Write what was checked and found into this directory, for whoever has to answer for it: report.json, and report.html to
    /// read or to print
    #[arg(long, value_name = "DIR", conflicts_with = "repair")]
    report: Option<PathBuf>,
    /// Most GiB that one layer may decompress to
    #[arg(long, value_name = "GIB", default_value_t = 64)]
    max_layer_size: u64,
    #[command(flatten)]
    registry: OneRegistryArgs,
}

#[derive(Serialize)]
struct Verified {
    place: ImageRef,
    #[serde(flatten)]
    report: VerifyReport,
    removed: Vec<PathBuf>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    written: Vec<PathBuf>,
}

#[derive(Serialize)]
struct CarryVerified {
    #[serde(flatten)]
    report: carry::VerifyReport,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    written: Vec<PathBuf>,
}

pub(super) fn run(args: &VerifyArgs, context: &Context) -> Outcome {
    if let ImageRef::Oci { path, name: None } = &args.place
        && path.join(carry::CARRY).is_file()
        && !path.join("oci-layout").exists()
    {
        return carry_verified(path, args, context);
    }
    if args.key.is_some() {
        return Err(Failure::usage("--key is for carries")
            .hint("signatures of images are their referrers: `haversack inspect` lists them"));
    }
    let options = VerifyOptions { layer_limit: args.max_layer_size.saturating_mul(1 << 30) };
    let (report, removed, written) = match &args.place {
        ImageRef::Docker(remote) if args.repair => {
            return Err(Failure::usage(format!("docker://{remote}: a registry's image cannot be repaired"))
                .hint("copy it there again"));
        }
        ImageRef::Docker(remote) if args.report.is_some() => {
            return Err(Failure::usage(format!("docker://{remote}: --report is for what lies on a disk"))
                .hint("copy it to oci:DIR, and check that"));
        }
        ImageRef::Docker(remote) => (remote_report(remote, args, &options, context)?, Vec::new(), Vec::new()),
        local => local_report(local, args, &options, context)?,
    };
    let exit = if report.findings.is_empty() { Exit::Done } else { Exit::No };
    let verified = Verified { place: args.place.clone(), report, removed, written };
    context.ui.result(&verified, Verified::to_text)?;
    Ok(exit)
}

fn carry_verified(directory: &Path, args: &VerifyArgs, context: &Context) -> Outcome {
    let key = args.key.as_deref().map(PublicKey::read).transpose()?;
    if args.repair {
        let report = carry::repair(directory, key.as_ref(), context.ui.progress())?;
        context.ui.result(&report, repaired)?;
        return Ok(if report.lost.is_empty() { Exit::Done } else { Exit::No });
    }
    let report = carry::verify(directory, key.as_ref(), context.ui.progress())?;
    let mut written = Vec::new();
    if let Some(to) = &args.report {
        let scratch = Scratch::default();
        written = stoppable(
            &scratch,
            |signal| context.stopped(signal),
            || {
                let work = scratch.directory("haversack-verify-")?;
                let by = checked_by(context)?;
                let (volumes, bytes) = (&report.volumes, report.bytes);
                let evidence = Evidence::of_carry(directory, key.as_ref(), volumes, bytes, by, work.path())?;
                Ok::<_, Failure>(evidence.write(to)?.to_vec())
            },
        )?;
    }
    let verified = CarryVerified { report, written };
    context.ui.result(&verified, |CarryVerified { report, written }| {
        let text: String = report.volumes.iter().filter_map(Checked::finding).map(|it| it + "\n").collect();
        let bad = report.volumes.iter().filter(|volume| volume.state != State::Good).count();
        let found = match bad {
            0 => "nothing is wrong".to_owned(),
            1 => "1 finding".to_owned(),
            n => format!("{n} findings"),
        };
        let bytes = amount(report.bytes, Unit::Bytes);
        let signed = if report.signature_checked { ", signed" } else { "" };
        let volumes = report.volumes.len();
        text + &format!("carry {}{signed}: {volumes} volumes, {bytes}: {found}\n", report.carry) + &lines_of(written)
    })?;
    Ok(if verified.report.is_good() { Exit::Done } else { Exit::No })
}

fn repaired(report: &RepairReport) -> String {
    let mut text = String::new();
    for file in &report.repaired {
        text += &format!("made again {}\n", in_line(file));
    }
    for (file, (from, to)) in &report.lost {
        text += &format!("{}: too much is lost; the first is bytes {from}-{to}\n", in_line(file));
    }
    for file in &report.parity_damaged {
        text += &format!("{} is missing or damaged, and stays so\n", in_line(file));
    }
    let (made, lost) = (report.repaired.len(), report.lost.len());
    text + &format!("carry {}: {made} volumes made again, {lost} lost\n", report.carry)
}

/// Says what was written, a line each.
fn lines_of(written: &[PathBuf]) -> String {
    written.iter().map(|path| format!("wrote {}\n", in_line(path.display()))).collect()
}

fn checked_by(context: &Context) -> Result<By, Failure> {
    let host = fs::read(Path::new("/proc/sys/kernel/hostname"), HOST).unwrap_or_default();
    Ok(By { now: context.now()?, host: in_line(String::from_utf8_lossy(&host).trim()) })
}

fn local_report(
    place: &ImageRef,
    args: &VerifyArgs,
    options: &VerifyOptions,
    context: &Context,
) -> Result<(VerifyReport, Vec<PathBuf>, Vec<PathBuf>), Failure> {
    let store = Store::open(place)?;
    let only = place.name().map(|name| store.find(Some(name))).transpose()?;
    let report = verify::verify(&store, only.as_ref(), options, context.ui.progress())?;
    let removed = match (args.repair, &store) {
        (false, _) => Vec::new(),
        (true, Store::Layout(_) | Store::Dir(_)) => verify::repair(&store, &report)?,
        (true, Store::Archive(_) | Store::DockerArchive(_)) => {
            return Err(Failure::usage("an archive cannot be repaired").hint("copy it anew, or repair the layout"));
        }
    };
    let written = match &args.report {
        Some(to) => {
            let by = checked_by(context)?;
            Evidence::of_store(&store, only.as_ref(), place.to_string(), &report, by)?.write(to)?.to_vec()
        }
        None => Vec::new(),
    };
    Ok((report, removed, written))
}

fn remote_report(
    remote: &Remote,
    args: &VerifyArgs,
    options: &VerifyOptions,
    context: &Context,
) -> Result<VerifyReport, Failure> {
    let access = args.registry.access(context)?;
    block_on(async {
        let repository = access.repository(remote, false).await?;
        let (image, _) = repository.document(remote.target()).await?;
        let contents = RemoteImage::new(repository, image);
        // It reads and decompresses on all cores; only what arrives is the runtime's work.
        let verified = || verify::verify(&contents, None, options, context.ui.progress());
        Ok(tokio::task::block_in_place(verified)?)
    })
}

impl Verified {
    fn to_text(&self) -> String {
        let mut lines: Vec<String> = self.report.findings.iter().map(in_line).collect();
        lines.extend(self.removed.iter().map(|path| format!("removed {}", in_line(path.display()))));
        let VerifyReport { images, blobs, bytes, findings } = &self.report;
        let bytes = amount(*bytes, Unit::Bytes);
        let found = match findings.len() {
            0 => "nothing is wrong".to_owned(),
            1 => "1 finding".to_owned(),
            n => format!("{n} findings"),
        };
        lines.push(format!("{}: {images} images, {blobs} blobs, {bytes}: {found}\n", self.place));
        lines.join("\n") + &lines_of(&self.written)
    }
}

/// Bytes of the name of a machine, at most.
const HOST: u64 = 4096;

const HELP: &str = "\
Examples:
  haversack verify oci:mirror
  haversack verify oci-archive:podman.tar
  haversack verify oci:mirror --report evidence

Exit status: 0 nothing is wrong, 1 something is wrong or the check failed, 2 wrong command line";
