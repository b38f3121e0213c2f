//! What a long command shows while it works: bars on a terminal, a line now and then elsewhere, or nothing.
//!
//! `indicatif` is known here only. Work takes a `&Progress` as its last argument and need not care whether anybody
//! watches. A [`Task`] ends its bar when it is dropped.

#![expect(clippy::disallowed_methods, reason = "lines and marks of progress are printed here")]

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::escape;

/// Where progress goes.
pub struct Progress(Mode);

enum Mode {
    Off,
    Plain,
    Bars(MultiProgress),
}

/// What a task counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes, shown as KiB, MiB, GiB.
    Bytes,
    /// Anything else: rows, files, images.
    Items,
}

/// One piece of work that is under way.
pub struct Task {
    display: Display,
    done: AtomicU64,
}

enum Display {
    Nothing,
    Lines { name: String, unit: Unit, total: Option<u64>, started: Instant, next_line: AtomicU64 },
    Bar(ProgressBar),
}

impl Progress {
    /// Shows nothing.
    pub fn off() -> Self {
        Progress(Mode::Off)
    }

    /// A line on stderr every ten seconds for what takes that long.
    pub fn plain() -> Self {
        Progress(Mode::Plain)
    }

    /// Bars on the terminal behind stderr.
    pub fn bars() -> Self {
        Progress(Mode::Bars(MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(15))))
    }

    /// Starts a task; `total` is how much there will be, where that is known.
    pub fn task(&self, name: impl Into<String>, unit: Unit, total: Option<u64>) -> Task {
        let name = escape::line(&name.into()).into_owned();
        let display = match &self.0 {
            Mode::Off => Display::Nothing,
            Mode::Plain => Display::Lines {
                name,
                unit,
                total,
                started: Instant::now(),
                next_line: AtomicU64::new(PLAIN_INTERVAL.as_secs()),
            },
            Mode::Bars(bars) => {
                let bar = bars.add(match total {
                    Some(total) => ProgressBar::new(total),
                    None => ProgressBar::no_length(),
                });
                bar.set_style(style(unit, total.is_some()));
                bar.set_message(name);
                Display::Bar(bar)
            }
        };
        Task { display, done: AtomicU64::new(0) }
    }

    /// Runs `print` with the bars out of the way, so that a line on the terminal does not cut through one.
    pub fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.0 {
            Mode::Bars(bars) => bars.suspend(print),
            Mode::Off | Mode::Plain => print(),
        }
    }
}

impl Task {
    /// Adds `n` to what is done.
    pub fn add(&self, n: u64) {
        let done = self.done.fetch_add(n, Ordering::Relaxed) + n;
        match &self.display {
            Display::Nothing => {}
            Display::Bar(bar) => bar.inc(n),
            Display::Lines { name, unit, total, started, next_line } => {
                let now = started.elapsed().as_secs();
                let due = next_line.load(Ordering::Relaxed);
                if now >= due
                    && next_line
                        .compare_exchange(due, now + PLAIN_INTERVAL.as_secs(), Ordering::Relaxed, Ordering::Relaxed)
                        .is_ok()
                {
                    let of = total.map(|total| format!(" of {}", amount(total, *unit))).unwrap_or_default();
                    // A closed stderr is no reason to stop the work.
                    let _ = writeln!(std::io::stderr(), "{}: {}{of}", escape::line(name), amount(done, *unit));
                }
            }
        }
    }

    /// How much is done.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Display::Bar(bar) = &self.display {
            bar.finish_and_clear();
        }
    }
}

/// What the header downloader before this program printed while it worked, for those who read it or whose jobs do: marks on
/// stderr, one for each page that was listed (`.`) and each package that is about to be fetched (`v`), and lines of a log
/// with the time in front, as build servers show them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Narration {
    /// Whether marks are printed.
    pub marks: bool,
    /// Whether lines are printed.
    pub lines: bool,
}

impl Narration {
    /// Prints a mark.
    pub fn mark(self, mark: &str) {
        if self.marks {
            let _ = write!(std::io::stderr(), "{mark}");
        }
    }

    /// Prints a line: `[2026-11-21 15:40:00,123] INFO - Downloading …`.
    pub fn line(self, text: std::fmt::Arguments<'_>) {
        if self.lines {
            let now = jiff::Zoned::now();
            let millisecond = now.millisecond();
            let _ = writeln!(
                std::io::stderr(),
                "[{},{millisecond:03}] INFO - {}",
                now.strftime("%Y-%m-%d %H:%M:%S"),
                escape::line(&text.to_string())
            );
        }
    }
}

/// `n` bytes as people write them (`1.5 MiB`), or `n` items as they are.
pub fn amount(n: u64, unit: Unit) -> String {
    match unit {
        Unit::Bytes => indicatif::BinaryBytes(n).to_string(),
        Unit::Items => n.to_string(),
    }
}

fn style(unit: Unit, bounded: bool) -> ProgressStyle {
    let template = match (unit, bounded) {
        // 60 columns hold them: a name of 22, a bar of what is left, what is done of how much, how long it will take.
        (Unit::Bytes, true) => "{msg:22!} {wide_bar} {binary_bytes}/{binary_total_bytes} {eta}",
        (Unit::Bytes, false) => "{msg:22!} {spinner} {binary_bytes} {binary_bytes_per_sec}",
        (Unit::Items, true) => "{msg:22!} {wide_bar} {pos}/{len} {eta}",
        (Unit::Items, false) => "{msg:22!} {spinner} {pos}",
    };
    ProgressStyle::with_template(template).expect("the templates above are well-formed")
}

const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_well_formed_and_counting_works_unseen() {
        for unit in [Unit::Bytes, Unit::Items] {
            for bounded in [true, false] {
                style(unit, bounded);
            }
        }
        let task = Progress::off().task("x", Unit::Items, None);
        task.add(2);
        task.add(3);
        assert_eq!(task.done(), 5);
        assert_eq!(amount(1536, Unit::Bytes), "1.50 KiB");
    }
}
