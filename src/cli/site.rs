//! `haversack site`: what sites hold, and which carries have arrived there.

use crate::cli::Context;
use crate::cli::ledger::LedgerArgs;
use crate::cli::outcome::{Exit, Outcome};
use crate::ops::sites::{self, Forgotten};
use crate::site::Site;

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Confirm that carries have arrived at a site, by their receipts
    #[command(after_help = CONFIRM_HELP)]
    Confirm(ConfirmArgs),
    /// Show the carries that were packed for a site, or all sites
    #[command(after_help = SHOW_HELP)]
    Show(ShowArgs),
    /// List the blobs that a site holds by the carries that are confirmed
    #[command(after_help = INVENTORY_HELP)]
    Inventory(InventoryArgs),
    /// Forget carries that did not arrive or were lost; the next carry brings their blobs again
    #[command(after_help = FORGET_HELP)]
    Forget(ForgetArgs),
}

#[derive(clap::Args)]
pub(super) struct ConfirmArgs {
    /// Name of the site
    #[arg(value_name = "NAME")]
    site: String,
    /// Receipts that `unpack` gave: codes of 32 characters, or files
    #[arg(value_name = "CODE|FILE", required = true)]
    receipts: Vec<String>,
    #[command(flatten)]
    ledger: LedgerArgs,
}

#[derive(clap::Args)]
pub(super) struct ShowArgs {
    /// Name of the site [default: all]
    #[arg(value_name = "NAME")]
    site: Option<String>,
    #[command(flatten)]
    ledger: LedgerArgs,
}

#[derive(clap::Args)]
pub(super) struct InventoryArgs {
    /// Name of the site
    #[arg(value_name = "NAME")]
    site: String,
    /// Also count the carries that were packed and are not confirmed
    #[arg(long)]
    assume_arrived: bool,
    #[command(flatten)]
    ledger: LedgerArgs,
}

#[derive(clap::Args)]
pub(super) struct ForgetArgs {
    /// Name of the site
    #[arg(value_name = "NAME")]
    site: String,
    /// Carries, by their ids or the first digits of them, at least four
    #[arg(value_name = "CARRY", required_unless_present = "all")]
    carries: Vec<String>,
    /// Forget all carries of the site
    #[arg(long, conflicts_with = "carries")]
    all: bool,
    #[command(flatten)]
    ledger: LedgerArgs,
}

pub(super) fn run(command: &Command, context: &Context) -> Outcome {
    match command {
        Command::Confirm(args) => confirm(args, context),
        Command::Show(args) => show(args, context),
        Command::Inventory(args) => inventory(args, context),
        Command::Forget(args) => forget(args, context),
    }
}

fn confirm(args: &ConfirmArgs, context: &Context) -> Outcome {
    let ledger = args.ledger.directory(context)?;
    let confirmed = sites::confirm(&ledger, &args.site, &args.receipts, &context.now()?)?;
    context.ui.result(&confirmed, |shown| sites::to_text(shown))?;
    Ok(Exit::Done)
}

fn show(args: &ShowArgs, context: &Context) -> Outcome {
    let shown = sites::show(&args.ledger.directory(context)?, args.site.as_deref())?;
    context.ui.result(&shown, |shown| sites::to_text(shown))?;
    Ok(Exit::Done)
}

fn inventory(args: &InventoryArgs, context: &Context) -> Outcome {
    let site = Site::read(&args.ledger.directory(context)?, &args.site)?;
    let held = site.held(args.assume_arrived)?;
    if let Some(line) = sites::not_counted(&args.site, &site.records()?).filter(|_| !args.assume_arrived) {
        context.ui.say(line);
    }
    context.ui.result(&held, sites::inventory_text)?;
    Ok(Exit::Done)
}

fn forget(args: &ForgetArgs, context: &Context) -> Outcome {
    let carries = if args.all { None } else { Some(&*args.carries) };
    let forgotten = sites::forget(&args.ledger.directory(context)?, &args.site, carries)?;
    context.ui.result(&forgotten, Forgotten::to_text)?;
    Ok(Exit::Done)
}

const CONFIRM_HELP: &str = "\
Examples:
  haversack site confirm plant-7 HB2V-NCJ2-IXNY-EPIC-VDPQ-KM6S-A3JS-NPAH
  haversack site confirm plant-7 387556893a45db826ee765cdf73ddf1a.json

Exit status: 0 confirmed, 1 failed, 2 wrong command line";

/// After the help of `haversack site`.
pub(super) const GROUP_HELP: &str = "\
Examples:
  haversack site show
  haversack site confirm plant-7 HB2V-NCJ2-IXNY-EPIC-VDPQ-KM6S-A3JS-NPAH

Exit status: 0 done, 1 failed, 2 wrong command line";

const SHOW_HELP: &str = "\
Examples:
  haversack site show plant-7

Exit status: 0 shown, 1 failed, 2 wrong command line";

const INVENTORY_HELP: &str = "\
Examples:
  haversack site inventory plant-7 --assume-arrived

Exit status: 0 listed, 1 failed, 2 wrong command line";

const FORGET_HELP: &str = "\
Examples:
  haversack site forget plant-7 3875
  haversack site forget plant-7 --all

Exit status: 0 forgotten, 1 failed, 2 wrong command line";
