//! `haversack pack`: images into what crosses the gap.

use std::path::{Path, PathBuf};

use crate::carry::{PackOptions, PackReport, PrivateKey};
use crate::cli::outcome::{Exit, Failure, Outcome};
use crate::cli::registries::OneRegistryArgs;
use crate::cli::site::LedgerArgs;
use crate::cli::{Context, block_on, place};
use crate::fs;
use crate::ops::carry::{self, ForSite, PackSource};
use crate::progress::{Unit, amount};
use crate::registry::CopyOptions;

/// Pack images into a carry: a directory for a disk or discs, in a fraction of the images' bytes
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(super) struct PackArgs {
    /// Images: docker://HOST/REPOSITORY[:TAG|@DIGEST], oci:DIR[:NAME], oci-archive:FILE[:NAME],
    /// docker-archive:FILE[:NAME:TAG] or dir:DIR; without a name, all that a layout or an archive lists. Or plain files and
    /// directories: file:PATH
    #[arg(value_name = "REF", required = true, value_parser = source)]
    sources: Vec<PackSource>,
    /// The directory to make
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// The site that it is for: what arrived there does not travel again (see `haversack site`)
    #[arg(long, value_name = "NAME")]
    site: Option<String>,
    /// Take what was packed for the site and is not confirmed for arrived
    #[arg(long, requires = "site", conflicts_with = "full")]
    assume_arrived: bool,
    /// Pack everything, whatever the site holds: for one that nothing comes back from
    #[arg(long, requires = "site")]
    full: bool,
    #[command(flatten)]
    ledger: LedgerArgs,
    /// Size of a volume: cd, dvd, dvd-dl, bd, bd-dl, fat32, or bytes as 700M, 25G [default: one volume of any size]
    #[arg(long, value_name = "SIZE", value_parser = medium)]
    medium: Option<u64>,
    /// Parity volumes to add: as many lost or damaged volumes can be made again with `haversack verify --repair`
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=255))]
    parity: u32,
    /// Say what the carry would be, to the byte, and leave nothing: it takes the time and the room of packing
    #[arg(long)]
    plan: bool,
    /// Compression level of zstd, 1 to 19
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(i32).range(1..=19))]
    level: i32,
    /// Sign the carry with a private key for P-256 in PEM, or one of `cosign generate-key-pair`; `openssl` and `cosign` can check it
    #[arg(long, value_name = "KEY")]
    sign: Option<PathBuf>,
    /// File whose first line is the password of a key of cosign's [default: $COSIGN_PASSWORD]
    #[arg(long, value_name = "FILE", requires = "sign")]
    sign_passphrase_file: Option<PathBuf>,
    /// Leave the program that unpacks it out
    #[arg(long)]
    no_program: bool,
    /// Leave signatures, SBOMs and attestations behind
    #[arg(long)]
    no_referrers: bool,
    #[command(flatten)]
    registry: OneRegistryArgs,
}

pub(super) fn run(args: &PackArgs, context: &Context) -> Outcome {
    let options = PackOptions {
        level: args.level,
        volume_size: args.medium,
        parity: args.parity,
        plan: args.plan,
        site: args.site.clone(),
        created: context.now()?,
        program: (!args.no_program).then(std::env::current_exe).transpose()?,
        key: args.sign.as_deref().map(|key| signer(key, args, context)).transpose()?,
        ..PackOptions::default()
    };
    let copying = CopyOptions { referrers: !args.no_referrers, ..context.copying() };
    let access = args.registry.access(context)?;
    let progress = context.ui.progress();
    let ledger = match &args.site {
        Some(_) => Some(ForSite {
            ledger: args.ledger.directory(context)?,
            assume_arrived: args.assume_arrived,
            full: args.full,
        }),
        None => None,
    };
    let packing = carry::pack(&args.sources, &args.out, &access, &copying, &options, ledger.as_ref(), progress);
    let report = block_on(async { Ok(packing.await?) })?;
    context.ui.result(&report, |report| {
        let made = if args.plan { "nothing was made; it would be\n" } else { "" };
        format!("{made}{}", to_text(report))
    })?;
    Ok(Exit::Done)
}

fn to_text(report: &PackReport) -> String {
    let totals = &report.carry.totals;
    let bytes = |bytes| amount(bytes, Unit::Bytes);
    let mut text = format!(
        "{}: carry {}\n  {} images and referrers, {} blobs, {}\n  carried in {} volumes: {}",
        report.directory.display(),
        report.carry.id,
        report.carry.images.len(),
        totals.blobs,
        bytes(totals.blob_bytes),
        report.carry.volumes.len(),
        bytes(totals.carried_bytes),
    );
    let tenths = totals.blob_bytes.saturating_mul(10).checked_div(totals.carried_bytes).unwrap_or_default();
    text += &format!(", 1/{}.{}\n", tenths / 10, tenths % 10);
    let room = totals.content_bytes.saturating_add(totals.held_bytes);
    text += &format!(
        "  unpacking needs {} free, of which {} for a while\n",
        bytes(room.saturating_add(totals.blob_bytes)),
        bytes(room)
    );
    for (class, made) in &report.carry.made_by {
        text += &format!("  {class}: {} blobs, {}\n", made.blobs, bytes(made.bytes));
    }
    for whole in &report.whole {
        text += &format!("  whole: {} ({}): {}\n", whole.digest, bytes(whole.size), whole.reason);
    }
    if !report.carry.parity.is_empty() {
        let parity: u64 = report.carry.parity.iter().map(|file| file.size).sum();
        text += &format!("  parity: {} volumes, {}\n", report.carry.parity.len(), bytes(parity));
    }
    if !report.carry.needs.is_empty() {
        let held: u64 = report.carry.needs.iter().map(|need| need.held.size).sum();
        text += &format!("  held by the site: {} blobs, {}\n", report.carry.needs.len(), bytes(held));
    }
    for digest in &report.left_out {
        text += &format!("  left out, as it may not be distributed: {digest}\n");
    }
    text
}

/// The key that signs, decrypted.
fn signer(key: &Path, args: &PackArgs, context: &Context) -> Result<PrivateKey, Failure> {
    let password = match &args.sign_passphrase_file {
        Some(path) => {
            let text = fs::read(path, PASSWORD)?;
            let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
            Some(line.strip_suffix(b"\r").unwrap_or(line).to_vec())
        }
        None => context.config.variable("COSIGN_PASSWORD").map(|password| password.as_bytes().to_vec()),
    };
    Ok(PrivateKey::read(key, password.as_deref())?)
}

fn source(text: &str) -> Result<PackSource, String> {
    match text.strip_prefix("file:") {
        Some("") => Err("expected file:PATH".into()),
        Some(path) => Ok(PackSource::File(path.into())),
        None => Ok(PackSource::Image(place::image(text)?)),
    }
}

/// Bytes of a medium that files can have. Discs are given with what a file system takes on them subtracted.
fn medium(text: &str) -> Result<u64, String> {
    let disc = |bytes: u64| bytes - (4 << 20);
    let size = match text {
        // Sectors of 2,048 bytes: ECMA-130 (80 minutes), ECMA-267, -279 and the Blu-ray Disc Association's figures.
        "cd" => disc(360_000 * 2048),
        "dvd" => disc(2_295_104 * 2048),
        "dvd-dl" => disc(4_171_712 * 2048),
        "bd" => disc(12_219_392 * 2048),
        "bd-dl" => disc(24_438_784 * 2048),
        // A file on FAT32 is one byte shorter than 4 GiB.
        "fat32" => u64::from(u32::MAX),
        size => {
            let digits = size.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
            let unit = match &size[digits.len()..] {
                "" | "B" => 1,
                "K" | "kB" => 1000,
                "KiB" => 1 << 10,
                "M" | "MB" => 1_000_000,
                "MiB" => 1 << 20,
                "G" | "GB" => 1_000_000_000,
                "GiB" => 1 << 30,
                "T" | "TB" => 1_000_000_000_000,
                _ => return Err("expected cd, dvd, dvd-dl, bd, bd-dl, fat32 or a size as 700M, 25G, 4GiB".into()),
            };
            let number = digits.parse::<u64>().map_err(|_| "expected a number before the unit")?;
            number.checked_mul(unit).ok_or("too large")?
        }
    };
    if size < SMALLEST {
        return Err(format!("a volume has at least {SMALLEST} bytes"));
    }
    Ok(size)
}

/// Bytes of a file with a password, at most.
const PASSWORD: u64 = 64 << 10;

/// Bytes of the smallest volume: the largest content that is not cut has 8 MiB.
const SMALLEST: u64 = 32 << 20;

const HELP: &str = "\
Examples:
  haversack pack docker://quay.io/podman/stable:v5 --out carry
  haversack pack oci:mirror --medium dvd --site plant-7 --out carry
  haversack pack oci:mirror file:site.yaml file:rpms --out carry

Exit status: 0 packed, 1 failed, 2 wrong command line";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_have_the_sizes_that_are_printed_on_them() {
        for (text, expected) in [
            ("cd", Some(737_280_000 - (4 << 20))),
            ("dvd", Some(4_700_372_992 - (4 << 20))),
            ("dvd-dl", Some(8_543_666_176 - (4 << 20))),
            ("bd", Some(25_025_314_816 - (4 << 20))),
            ("bd-dl", Some(50_050_629_632 - (4 << 20))),
            ("fat32", Some(4_294_967_295)),
            ("700M", Some(700_000_000)),
            ("4GiB", Some(4 << 30)),
            ("100000000", Some(100_000_000)),
            ("1M", None),
            ("floppy", None),
            ("99999999999T", None),
        ] {
            assert_eq!(medium(text).ok(), expected, "{text}");
        }
    }
}
