//! `haversack pack`: images into what crosses the gap.

use std::path::{Path, PathBuf};

use crate::carry::{PackOptions, PrivateKey, medium};
use crate::cli::ledger::LedgerArgs;
use crate::cli::outcome::{Exit, Failure, Outcome};
use crate::cli::registries::OneRegistryArgs;
use crate::cli::{Context, block_on};
use crate::fs;
use crate::ops::carry::{self, ForSite, PackSource};
use crate::registry::{CopyOptions, memory};

/// Pack images into a carry: a directory to take to another site, a fraction of the images' size
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(super) struct PackArgs {
    /// Images: docker://HOST/REPOSITORY[:TAG|@DIGEST], oci:DIR[:NAME], oci-archive:FILE[:NAME],
    /// docker-archive:FILE[:NAME:TAG] or dir:DIR; a layout or an archive without NAME stands for all its images. Or plain
    /// files and directories: file:PATH
    #[arg(value_name = "REF", required = true)]
    sources: Vec<PackSource>,
    /// Directory to create
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// Site that the carry is for; what has arrived there is not packed again (see `haversack site`)
    #[arg(long, value_name = "NAME")]
    site: Option<String>,
    /// Assume that all earlier carries for the site have arrived, even those it has not confirmed
    #[arg(long, requires = "site", conflicts_with = "full")]
    assume_arrived: bool,
    /// Pack everything, whatever the site holds; for sites that can send no receipt back
    #[arg(long, requires = "site")]
    full: bool,
    #[command(flatten)]
    ledger: LedgerArgs,
    /// Maximum size of a volume: cd, dvd, dvd-dl, bd, bd-dl, fat32, or a size such as 700M or 25G, at least 32MiB [default: no limit]
    #[arg(long, value_name = "SIZE", value_parser = medium)]
    medium: Option<u64>,
    /// Parity volumes to add; `haversack verify --repair` can then restore as many lost or damaged volumes
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=255))]
    parity: u32,
    /// Print the exact size of the carry and keep nothing; needs as much time and space as packing
    #[arg(long)]
    plan: bool,
    /// Compression level of zstd, 1 to 19
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(i32).range(1..=19))]
    level: i32,
    /// Sign the carry with this private key: P-256 in PEM, or a key of `cosign generate-key-pair`. `openssl` and `cosign` can
    /// check the signature
    #[arg(long, value_name = "KEY")]
    sign: Option<PathBuf>,
    /// File whose first line is the password of a cosign key [default: $COSIGN_PASSWORD]
    #[arg(long, value_name = "FILE", requires = "sign")]
    sign_passphrase_file: Option<PathBuf>,
    /// Leave out the haversack program, which is added so that the site can unpack
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
    let copying = CopyOptions { referrers: !args.no_referrers, ..context.copying(memory::PARALLEL) };
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
        format!("{made}{}", report.to_text())
    })?;
    Ok(Exit::Done)
}

/// The key that signs, decrypted.
fn signer(key: &Path, args: &PackArgs, context: &Context) -> Result<PrivateKey, Failure> {
    let password = match &args.sign_passphrase_file {
        Some(path) => {
            let text = fs::read(path, PASSWORD)?;
            let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
            Some(line.strip_suffix(b"\r").unwrap_or(line).to_vec())
        }
        None => context.config.environment.variable("COSIGN_PASSWORD").map(|password| password.as_bytes().to_vec()),
    };
    Ok(PrivateKey::read(key, password.as_deref())?)
}

/// Bytes of a file with a password, at most.
const PASSWORD: u64 = 64 << 10;

const HELP: &str = "\
Examples:
  haversack pack docker://quay.io/podman/stable:v5 --out carry
  haversack pack oci:mirror --medium dvd --site plant-7 --out carry
  haversack pack oci:mirror file:site.yaml file:rpms --out carry

Exit status: 0 packed, 1 failed, 2 wrong command line";
