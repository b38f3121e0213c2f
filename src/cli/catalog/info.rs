//! `haversack catalog info` and `diff`: what a snapshot is, and what two differ in.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use crate::catalog::diff::{self, Diff};
use crate::catalog::entry::Instant;
use crate::catalog::{Info, Snapshot};
use crate::cli::Context;
use crate::cli::outcome::{Exit, Outcome};
use crate::escape::in_line;

#[derive(Args)]
pub(super) struct DiffArgs {
    /// The old snapshot
    old: PathBuf,
    /// The new snapshot
    new: PathBuf,
    /// End with status 1 when they differ
    #[arg(long)]
    exit_code: bool,
}

pub(super) fn compare(args: &DiffArgs, context: &Context) -> Outcome {
    let diff = diff::diff(&Snapshot::open(&args.old)?, &Snapshot::open(&args.new)?)?;
    context.ui.result(&diff, diff_text)?;
    Ok(if args.exit_code && !diff.is_empty() { Exit::No } else { Exit::Done })
}

fn diff_text(diff: &Diff) -> String {
    let mut text = String::new();
    for fact in &diff.removed {
        let _ = writeln!(text, "- {}", in_line(fact));
    }
    for fact in &diff.added {
        let _ = writeln!(text, "+ {}", in_line(fact));
    }
    for change in &diff.changed {
        let _ = writeln!(text, "~ {}: {} -> {}", in_line(&change.what), in_line(&change.old), in_line(&change.new));
    }
    let _ =
        writeln!(text, "{} added, {} removed, {} changed", diff.added.len(), diff.removed.len(), diff.changed.len());
    text
}

pub(super) fn info(db: &Path, context: &Context) -> Outcome {
    #[derive(Serialize)]
    struct About {
        #[serde(flatten)]
        info: Info,
        age_seconds: i64,
        bytes: u64,
    }
    let snapshot = Snapshot::open(db)?;
    let info = snapshot.info()?;
    let bytes = std::fs::metadata(db)?.len();
    let about = About { age_seconds: age(info.taken), bytes, info };
    context.ui.result(&about, |About { info, bytes, .. }| {
        let mut text = format!(
            "taken: {}, {}\ncontent: {}\nsize: {}\n",
            info.taken,
            age_text(info.taken),
            info.digest,
            crate::progress::amount(*bytes, crate::progress::Unit::Bytes)
        );
        for (kind, about) in &info.kinds {
            let _ = writeln!(text, "{}: {} rows, {} answers", kind.plural(), about.rows, about.answers);
            let _ = writeln!(text, "  from {}", in_line(&about.source));
            if !about.filter.is_empty() {
                let _ = writeln!(text, "  where {}", in_line(&about.filter));
            }
            let _ = match about.walked.is_known() {
                true => writeln!(text, "  taken {}, last read in full {}", about.taken, about.walked),
                false => writeln!(text, "  imported; written {}", about.taken),
            };
        }
        text
    })?;
    Ok(Exit::Done)
}

pub(in crate::cli) fn age(taken: Instant) -> i64 {
    (Instant::now().micros() - taken.micros()).max(0) / 1_000_000
}

/// How old what was taken then is, in words.
pub(in crate::cli) fn age_text(taken: Instant) -> String {
    let ahead = taken.micros() - Instant::now().micros();
    match (ahead / 3_600_000_000, age(taken) / 3600) {
        // Clocks differ by minutes.
        (0, _) if ahead > 300_000_000 => "in the future by this host's clock".into(),
        (hours @ 1.., _) => format!("{hours} h in the future by this host's clock"),
        (_, hours @ ..48) => format!("{hours} h old"),
        (_, hours) => format!("{} days old", hours / 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_from_the_future_is_said_to_be() {
        let hours = |hours: i64| age_text(Instant::now().plus_seconds(hours * 3600 + 30));
        assert_eq!(hours(-3), "2 h old");
        assert_eq!(hours(-72), "2 days old");
        assert_eq!(hours(5), "5 h in the future by this host's clock");
    }
}
