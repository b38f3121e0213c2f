//! From which commit the program is built, and of which date: what `--version` adds to the version.
//!
//! The commit is git's; in an archive that git made (`git archive`, the tarballs of forges) it stands in `version/commit.txt`,
//! which git fills in then; a build of an image writes it there (`Containerfile`). The date is that of `SOURCE_DATE_EPOCH` (reproducible-builds.org) or else the commit's. So two
//! builds of one commit say the same, and none says when it was made. Where neither is known, nothing is said.

use std::path::Path;
use std::process::Command;

/// What is known of the sources in a directory, as ` (0123456789ab 2026-11-26)`; empty for nothing.
pub(crate) fn of(directory: &Path, source_date_epoch: Option<&str>) -> String {
    let (commit, date) = from_git(directory).or_else(|| from_archive(directory)).unzip();
    let date = source_date_epoch.and_then(|text| text.trim().parse().ok()).map(day).or(date);
    let words: Vec<String> = [commit, date].into_iter().flatten().collect();
    if words.is_empty() { String::new() } else { format!(" ({})", words.join(" ")) }
}

/// Files that change when another commit is checked out. Only such as are there: cargo builds anew for a missing one.
pub(crate) fn watched(directory: &Path) -> Vec<String> {
    let branch = git(directory, &["symbolic-ref", "--quiet", "HEAD"]);
    let names = ["HEAD", "packed-refs"].into_iter().chain(branch.as_deref());
    let paths = names.filter_map(|name| git(directory, &["rev-parse", "--git-path", name]));
    paths.filter(|path| directory.join(path).exists()).collect()
}

fn from_git(directory: &Path) -> Option<(String, String)> {
    // A checkout of ours, and not one of somebody else's that these sources were unpacked in.
    let prefix = git(directory, &["rev-parse", "--show-prefix"])?;
    if !prefix.is_empty() {
        return None;
    }
    let commit = git(directory, &["rev-parse", "--short=12", "HEAD"])?;
    let date = git(directory, &["show", "--no-patch", "--format=%ct", "HEAD"])?;
    let is_changed = !git(directory, &["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Some((if is_changed { format!("{commit}{CHANGES}") } else { commit }, day(date.parse().ok()?)))
}

/// `version/commit.txt` is `$Format:%H %ct$`, until git writes it into an archive. `+changes` behind the commit stays there.
fn from_archive(directory: &Path) -> Option<(String, String)> {
    let text = std::fs::read_to_string(directory.join("version/commit.txt")).ok()?;
    let (commit, seconds) = text.trim().split_once(' ')?;
    let (commit, changes) = commit.strip_suffix(CHANGES).map_or((commit, ""), |commit| (commit, CHANGES));
    let is_commit = commit.len() >= 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    Some((is_commit.then(|| format!("{}{changes}", &commit[..12]))?, day(seconds.parse().ok()?)))
}

fn git(directory: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(directory).args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The day of a number of seconds since 1970, as `2026-11-26` (Howard Hinnant, chrono-compatible low-level date algorithms).
fn day(seconds: i64) -> String {
    let days = seconds.div_euclid(86_400) + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Stands behind the commit of sources that were changed since.
const CHANGES: &str = "+changes";
