//! `haversack site`: what sites hold, and which carries have arrived there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::carry::{Code, Held, Receipt};
use crate::cli::Context;
use crate::cli::outcome::{Exit, Failure, Outcome};
use crate::digest::Digest;
use crate::escape::in_line;
use crate::progress::{Unit, amount};
use crate::site::{Record, Site, sites};

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Take receipts: what these carries brought is held by the site from now on
    #[command(after_help = CONFIRM_HELP)]
    Confirm(ConfirmArgs),
    /// Show the carries that were packed for a site, or all sites
    Show(ShowArgs),
    /// List the blobs that a site holds
    Inventory(InventoryArgs),
    /// Forget carries that did not arrive or are lost there; the next carry brings their blobs again
    Forget(ForgetArgs),
}

/// Where the ledger is.
#[derive(clap::Args)]
pub(super) struct LedgerArgs {
    /// Directory of the ledger, which has the blobs that were packed, too [default: $XDG_STATE_HOME/haversack/sites, or
    /// ~/.local/state/haversack/sites]
    #[arg(long, value_name = "DIR")]
    ledger: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(super) struct ConfirmArgs {
    /// The site
    #[arg(value_name = "NAME")]
    site: String,
    /// Codes of 32 characters, or files with receipts
    #[arg(value_name = "CODE|FILE", required = true)]
    receipts: Vec<String>,
    #[command(flatten)]
    ledger: LedgerArgs,
}

#[derive(clap::Args)]
pub(super) struct ShowArgs {
    /// The site [default: all]
    #[arg(value_name = "NAME")]
    site: Option<String>,
    #[command(flatten)]
    ledger: LedgerArgs,
}

#[derive(clap::Args)]
pub(super) struct InventoryArgs {
    /// The site
    #[arg(value_name = "NAME")]
    site: String,
    /// Count what was packed and is not confirmed, too
    #[arg(long)]
    assume_arrived: bool,
    #[command(flatten)]
    ledger: LedgerArgs,
}

#[derive(clap::Args)]
pub(super) struct ForgetArgs {
    /// The site
    #[arg(value_name = "NAME")]
    site: String,
    /// Carries, by their ids or at least four digits of them
    #[arg(value_name = "CARRY", required_unless_present = "all")]
    carries: Vec<String>,
    /// Forget the site
    #[arg(long, conflicts_with = "carries")]
    all: bool,
    #[command(flatten)]
    ledger: LedgerArgs,
}

impl LedgerArgs {
    /// The directory that was given, or the usual one.
    pub(super) fn directory(&self, context: &Context) -> Result<PathBuf, Failure> {
        let usual = || Some(context.config.environment.state_dir()?.join("sites"));
        self.ledger.clone().or_else(usual).ok_or_else(|| {
            Failure::usage("there is no place for the ledger: neither XDG_STATE_HOME nor HOME is set")
                .hint("name a directory with `--ledger DIR`")
        })
    }
}

pub(super) fn run(command: &Command, context: &Context) -> Outcome {
    match command {
        Command::Confirm(args) => confirm(args, context),
        Command::Show(args) => show(args, context),
        Command::Inventory(args) => inventory(args, context),
        Command::Forget(args) => forget(args, context),
    }
}

/// What `site show` says of a carry.
#[derive(Serialize)]
struct Shown {
    site: String,
    carry: String,
    created: String,
    images: usize,
    carried_bytes: u64,
    /// When its arrival was confirmed.
    arrived: Option<String>,
    /// By what.
    confirmed_by: Option<String>,
}

impl Shown {
    fn of(site: &str, record: &Record) -> Self {
        Shown {
            site: site.to_owned(),
            carry: record.carry.clone(),
            created: record.created.clone(),
            images: record.images.len(),
            carried_bytes: record.carried_bytes,
            arrived: record.arrived.as_ref().map(|arrived| arrived.when.clone()),
            confirmed_by: record.arrived.as_ref().map(|arrived| arrived.by.clone()),
        }
    }

    fn to_text(&self) -> String {
        let arrived = match (&self.arrived, &self.confirmed_by) {
            (Some(when), Some(by)) => format!("arrived, by {} of {}", in_line(by), in_line(when)),
            _ => "not confirmed".to_owned(),
        };
        format!(
            "{}  {}  {}  {} images and referrers  {}  {arrived}\n",
            in_line(&self.site),
            in_line(&self.carry),
            in_line(&self.created),
            self.images,
            amount(self.carried_bytes, Unit::Bytes)
        )
    }
}

fn to_text(shown: &[Shown]) -> String {
    shown.iter().map(Shown::to_text).collect()
}

fn confirm(args: &ConfirmArgs, context: &Context) -> Outcome {
    let site = Site::open(&args.ledger.directory(context)?, &args.site)?;
    let mut confirmed = Vec::new();
    for text in &args.receipts {
        let path = Path::new(text);
        let record = match text.parse::<Code>() {
            Ok(code) => site.confirm_code(&code, &context.now()?)?,
            Err(_) if path.exists() => {
                let receipt = Receipt::read(path)?;
                if receipt.site.as_ref().is_some_and(|name| *name != args.site) {
                    let other = receipt.site.unwrap_or_default();
                    return Err(Failure::new(format!("{text}: it is a receipt of {}, not of {}", other, args.site)));
                }
                site.confirm(&receipt, &context.now()?)?
            }
            Err(bad) => {
                let why = format!("{text}: no file, and no code either: {bad}");
                return Err(Failure::new(why).hint("type the code again; `unpack` on the far side said it"));
            }
        };
        confirmed.push(Shown::of(&args.site, &record));
    }
    context.ui.result(&confirmed, |shown| to_text(shown))?;
    Ok(Exit::Done)
}

fn show(args: &ShowArgs, context: &Context) -> Outcome {
    let ledger = args.ledger.directory(context)?;
    let names = match &args.site {
        Some(name) => vec![name.clone()],
        None => sites(&ledger)?,
    };
    let mut shown = Vec::new();
    for name in names {
        shown.extend(Site::read(&ledger, &name)?.records()?.iter().map(|record| Shown::of(&name, record)));
    }
    context.ui.result(&shown, |shown| to_text(shown))?;
    Ok(Exit::Done)
}

fn inventory(args: &InventoryArgs, context: &Context) -> Outcome {
    let held = Site::read(&args.ledger.directory(context)?, &args.site)?.held(args.assume_arrived)?;
    context.ui.result(&held, |held: &BTreeMap<Digest, Held>| {
        let line = |(digest, held): (&Digest, &Held)| {
            format!("{digest} {} {}\n", held.size, in_line(held.image.as_deref().unwrap_or("-")))
        };
        held.iter().map(line).collect()
    })?;
    Ok(Exit::Done)
}

#[derive(Serialize)]
struct Forgotten {
    site: String,
    /// Bytes of blobs that are gone from the ledger.
    freed_bytes: u64,
}

fn forget(args: &ForgetArgs, context: &Context) -> Outcome {
    let site = Site::open(&args.ledger.directory(context)?, &args.site)?;
    let ids: Vec<String> = match args.all {
        true => site.records()?.into_iter().map(|record| record.carry).collect(),
        false => args.carries.clone(),
    };
    let forgotten = Forgotten { site: args.site.clone(), freed_bytes: site.forget(&ids)? };
    if args.all {
        site.remove()?;
    }
    context.ui.result(&forgotten, |forgotten| {
        format!("{}: forgotten, {} are free\n", in_line(&forgotten.site), amount(forgotten.freed_bytes, Unit::Bytes))
    })?;
    Ok(Exit::Done)
}

const CONFIRM_HELP: &str = "\
Examples:
  haversack site confirm plant-7 HB2V-NCJ2-IXNY-EPIC-VDPQ-KM6S-A3JS-NPAH
  haversack site confirm plant-7 387556893a45db826ee765cdf73ddf1a.json

Exit status: 0 confirmed, 1 failed, 2 wrong command line";
