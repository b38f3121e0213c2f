//! `haversack unpack`: images out of what crossed the gap.

use std::path::PathBuf;

use crate::carry::PublicKey;
use crate::cli::outcome::{Exit, Outcome};
use crate::cli::registries::OneRegistryArgs;
use crate::cli::{Context, block_on};
use crate::escape::in_line;
use crate::ops::carry::{self, UnpackOptions, UnpackTo, Unpacked};
use crate::progress::{Unit, amount};
use crate::reference::ImageRef;

/// Unpack a carry into a layout or a registry; every digest is what it was
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(super) struct UnpackArgs {
    /// The directory with carry.json and volumes; run it again for each medium, in any order
    #[arg(value_name = "CARRY")]
    carry: PathBuf,
    /// Where to: oci:DIR or docker://HOST[:PORT][/PATH]
    #[arg(long, value_name = "TRANSPORT", value_parser = destination)]
    to: UnpackTo,
    /// Refuse the carry unless this public key (PEM) signed it [default: nobody's signature is asked for]
    #[arg(long, value_name = "PUB")]
    key: Option<PathBuf>,
    /// Also write plain files and directories, which `pack file:PATH` packed, into this directory; nothing there is replaced
    #[arg(long, value_name = "DIR")]
    files: Option<PathBuf>,
    /// Where images are made before they are pushed to a registry, and where their receipt is written
    #[arg(long, value_name = "DIR", default_value = ".")]
    work: PathBuf,
    #[command(flatten)]
    registry: OneRegistryArgs,
}

pub(super) fn run(args: &UnpackArgs, context: &Context) -> Outcome {
    let copying = context.copying();
    let options = UnpackOptions {
        key: args.key.as_deref().map(PublicKey::read).transpose()?,
        work: args.work.clone(),
        files: args.files.clone(),
        now: context.now()?,
    };
    let access = args.registry.access(context)?;
    let progress = context.ui.progress();
    let unpacked =
        block_on(async { Ok(carry::unpack(&args.carry, &args.to, &options, &access, &copying, progress).await?) })?;
    context.ui.result(&unpacked, to_text)?;
    for line in &unpacked.report.damaged {
        context.ui.error(line);
    }
    Ok(Exit::of(unpacked.report.complete && unpacked.not_pushed.is_empty()))
}

fn to_text(unpacked: &Unpacked) -> String {
    let report = &unpacked.report;
    if !report.complete {
        return format!(
            "carry {}: not complete; bring these volumes and run it again: {}\n",
            report.carry,
            report.missing.iter().map(in_line).collect::<Vec<_>>().join(", ")
        );
    }
    let mut text = format!(
        "carry {}{}: {} images and referrers\n  {} blobs made: {}\n",
        report.carry,
        if report.signature_checked { ", signed" } else { "" },
        report.images.len(),
        report.made_blobs,
        amount(report.made_bytes, Unit::Bytes)
    );
    if report.present_blobs > 0 {
        text += &format!("  {} blobs were there\n", report.present_blobs);
    }
    if report.needed_blobs > 0 {
        text += &format!("  {} blobs are from earlier carries\n", report.needed_blobs);
    }
    for pushed in &unpacked.pushed {
        text += &format!("  {}@{}\n", pushed.destination, pushed.report.digest);
    }
    for name in &unpacked.not_pushed {
        text += &format!("  not pushed, for it has no name that a registry could have: {}\n", in_line(name));
    }
    for path in &unpacked.files {
        text += &format!("  wrote {}\n", in_line(path.display()));
    }
    if let (Some(receipt), Some(file)) = (&report.receipt, &unpacked.receipt_file) {
        let site = receipt.site.as_deref().unwrap_or("SITE");
        text += &format!(
            "receipt {}\n  {}; whoever packs says `haversack site confirm {} {}`\n",
            receipt.code,
            in_line(file.display()),
            in_line(site),
            receipt.code
        );
    }
    text
}

fn destination(text: &str) -> Result<UnpackTo, String> {
    if let Some(place) = text.strip_prefix("docker://") {
        let place = place.trim_end_matches('/');
        // Whether host and path are well formed is the reference's to say.
        format!("docker://{place}/x").parse::<ImageRef>().map_err(|error| error.to_string())?;
        let (host, path) = place.split_once('/').unwrap_or((place, ""));
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        return Ok(UnpackTo::Registry { host: host.to_owned(), prefix });
    }
    match text.parse::<ImageRef>() {
        Ok(ImageRef::Oci { path, name: None }) => Ok(UnpackTo::Layout(path)),
        Ok(_) => Err("a carry is unpacked to oci:DIR or docker://HOST[/PATH]; images keep their names".into()),
        Err(_) => Err("expected oci:DIR or docker://HOST[:PORT][/PATH]".into()),
    }
}

const HELP: &str = "\
Examples:
  haversack unpack /media/disc --to oci:mirror
  haversack unpack carry --to docker://bastion:5000

Exit status: 0 unpacked, 1 failed, 2 wrong command line, 3 volumes are missing or damaged, or images have no name to be
pushed under";
