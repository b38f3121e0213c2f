//! `haversack carry`: what changes from one carry to the next.

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::cli::outcome::{Exit, Failure, Outcome};
use crate::cli::stop::stoppable;
use crate::cli::{Context, place};
use crate::escape::in_line;
use crate::ops::Scratch;
use crate::ops::diff::{self, Changes, DiffReport, Side};
use crate::reference::ImageRef;

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Compare two carries for people: images, the packages in them, kernels, the certified catalog
    #[command(after_help = HELP)]
    Diff(DiffArgs),
}

#[derive(clap::Args)]
pub(super) struct DiffArgs {
    /// The old carry; or a layout or an archive, of any transport or just its path
    #[arg(value_name = "OLD", value_parser = side)]
    old: ImageRef,
    /// The new one
    #[arg(value_name = "NEW", value_parser = side)]
    new: ImageRef,
    /// A layout with what the carries are built on, such as that of the site [default: what is made of it is not compared]
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    /// End with 1 where anything differs
    #[arg(long)]
    exit_code: bool,
}

pub(super) fn run(command: &Command, context: &Context) -> Outcome {
    let Command::Diff(args) = command;
    let scratch = Scratch::default();
    stoppable(&scratch, |signal| context.stopped(signal), || compare(args, &scratch, context))
}

/// A carry is known by its path; whether there is one is said when it is opened.
fn side(text: &str) -> Result<ImageRef, String> {
    match place::image_or_path(text) {
        Err(_) if !text.contains(':') => Ok(ImageRef::Oci { path: text.into(), name: None }),
        found => found,
    }
}

fn compare(args: &DiffArgs, scratch: &Scratch, context: &Context) -> Outcome {
    for side in [&args.old, &args.new] {
        if let ImageRef::Docker(remote) = side {
            return Err(Failure::usage(format!("docker://{remote}: what is compared lies on a disk"))
                .hint("copy it to oci:DIR first"));
        }
    }
    let [one, other, work] = ["old", "new", "work"].map(|name| scratch.directory(&format!("haversack-{name}-")));
    let (one, other, work) = (one?, other?, work?);
    let old = Side::open(&args.old, args.base.as_deref(), one.path())?;
    let new = Side::open(&args.new, args.base.as_deref(), other.path())?;
    let report = diff::diff(&old, &new, work.path(), context.ui.progress())?;
    context.ui.result(&report, to_text)?;
    let differs = ![&report.images, &report.kernels, &report.catalog].iter().all(|changes| changes.is_empty())
        || !report.packages.is_empty();
    Ok(if args.exit_code && differs { Exit::No } else { Exit::of(report.not_compared.is_empty()) })
}

fn to_text(report: &DiffReport) -> String {
    let mut text = String::new();
    section(&mut text, "images", &report.images);
    for (image, packages) in &report.packages {
        section(&mut text, &format!("packages of {image}"), packages);
    }
    section(&mut text, "kernels", &report.kernels);
    section(&mut text, "certified catalog", &report.catalog);
    if text.is_empty() {
        text += "nothing differs\n";
    }
    for line in &report.not_compared {
        let _ = writeln!(text, "not compared: {}", in_line(line));
    }
    text
}

fn section(text: &mut String, title: &str, changes: &Changes) {
    if changes.is_empty() {
        return;
    }
    let Changes { added, removed, changed } = changes;
    let _ = writeln!(text, "{title}: {} added, {} removed, {} changed", added.len(), removed.len(), changed.len());
    for (sign, list) in [('-', removed), ('+', added)] {
        for named in list {
            let line = format!("  {sign} {} {}", in_line(&named.name), in_line(&named.version));
            let _ = writeln!(text, "{}", line.trim_end());
        }
    }
    for changed in changed {
        let _ =
            writeln!(text, "  ~ {}: {} -> {}", in_line(&changed.name), in_line(&changed.old), in_line(&changed.new));
    }
}

const HELP: &str = "\
Examples:
  haversack carry diff carry-1 carry-2
  haversack carry diff oci:mirror carry-2 --base mirror

Exit status: 0 compared, 1 failed, or something differs with --exit-code, 2 wrong command line, 3 something could not be
compared";
