//! `haversack verify`: is everything what its name says?

use std::path::{Path, PathBuf};

use crate::carry::{self, PublicKey, RepairReport};
use crate::cli::Context;
use crate::cli::outcome::{Exit, Failure, Outcome};
use crate::cli::registries::OneRegistryArgs;
use crate::ops::verify::{self, CarryVerified, CheckOptions, EvidenceTo, Verified, VerifyOptions};
use crate::ops::{Scratch, place};
use crate::reference::ImageRef;
use crate::terminal::stop::stoppable;

/// Check a layout, an archive or a carry: every digest and size, what is missing, what is not needed
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(super) struct VerifyArgs {
    /// Image of any transport; a whole layout or archive, by transport (oci:DIR, oci-archive:FILE, docker-archive:FILE, dir:DIR)
    /// or path; or the directory of a carry
    #[arg(value_name = "REF|LAYOUT|CARRY", value_parser = place::image_or_path)]
    place: ImageRef,
    /// Layout: remove what is broken, so that a copy fetches it again. Carry, with all its volumes in one directory: restore lost and
    /// damaged volumes from parity volumes
    #[arg(long)]
    repair: bool,
    /// Refuse a carry unless this public key (PEM) signed it [default: no signature is required]
    #[arg(long, value_name = "PUB")]
    key: Option<PathBuf>,
    /// Write evidence of the check into this directory: report.json, and report.html to read or print
    #[arg(long, value_name = "DIR", conflicts_with = "repair")]
    report: Option<PathBuf>,
    /// Maximum size in GiB that one layer may decompress to
    #[arg(long, value_name = "GIB", default_value_t = 64)]
    max_layer_size: u64,
    #[command(flatten)]
    registry: OneRegistryArgs,
}

pub(super) fn run(args: &VerifyArgs, context: &Context) -> Outcome {
    if let Some(directory) = verify::carry_at(&args.place) {
        return check_carry(directory, args, context);
    }
    if args.key.is_some() {
        return Err(Failure::usage("--key is for carries")
            .hint("signatures of images are their referrers: `haversack inspect` lists them"));
    }
    let options = CheckOptions {
        limits: VerifyOptions { layer_limit: args.max_layer_size.saturating_mul(1 << 30) },
        repair: args.repair,
        evidence: args.evidence(context)?,
    };
    let progress = context.ui.progress();
    let verified = match &args.place {
        // Credentials are of no interest elsewhere, nor whether they can be read.
        ImageRef::Docker(remote) => verify::check_remote(remote, &args.registry.access(context)?, &options, progress)?,
        local => verify::check_local(local, &options, progress)?,
    };
    context.ui.result(&verified, Verified::to_text)?;
    Ok(if verified.report.findings.is_empty() { Exit::Done } else { Exit::No })
}

impl VerifyArgs {
    /// What `--report` asks for. Nothing else has a time in it.
    fn evidence(&self, context: &Context) -> Result<Option<EvidenceTo>, Failure> {
        let Some(directory) = self.report.clone() else { return Ok(None) };
        Ok(Some(EvidenceTo { directory, now: context.now()? }))
    }
}

fn check_carry(directory: &Path, args: &VerifyArgs, context: &Context) -> Outcome {
    let (key, progress) = (args.key.as_deref().map(PublicKey::read).transpose()?, context.ui.progress());
    if args.repair {
        let report = carry::repair(directory, key.as_ref(), progress)?;
        context.ui.result(&report, RepairReport::to_text)?;
        return Ok(if report.lost.is_empty() { Exit::Done } else { Exit::No });
    }
    let (scratch, evidence) = (Scratch::default(), args.evidence(context)?);
    let check = || verify::check_carry(directory, key.as_ref(), evidence.as_ref(), &scratch, progress);
    let verified = stoppable(|| scratch.remove(), |signal| context.stopped(signal), check)?;
    context.ui.result(&verified, CarryVerified::to_text)?;
    Ok(if verified.report.is_good() { Exit::Done } else { Exit::No })
}

const HELP: &str = "\
Examples:
  haversack verify oci:mirror
  haversack verify oci-archive:podman.tar
  haversack verify oci:mirror --report evidence

Exit status: 0 nothing is wrong, 1 something is wrong or the check failed, 2 wrong command line";
