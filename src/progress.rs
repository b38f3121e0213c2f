//! What a long command shows while it works: bars on a terminal, a line now and then elsewhere, or nothing.
//!
//! `indicatif` is known here only. Work takes a `&Progress` as its last argument and need not care whether anybody
//! watches. A [`Task`] ends its bar when it is dropped.

#![expect(clippy::disallowed_methods, reason = "lines and marks of progress are printed here")]

use std::fmt;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use indicatif::{BinaryBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

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
    /// Anything else: files, images.
    Items,
    /// Rows that come many at a time; what has come of the next ones is shown in bytes.
    Rows,
}

/// One piece of work that is under way.
pub struct Task {
    display: Display,
    done: AtomicU64,
    arrived: Arc<AtomicU64>,
}

enum Display {
    Nothing,
    Lines { name: String, unit: Unit, total: OnceLock<u64>, started: Instant, next_line: AtomicU64 },
    Bar { bar: ProgressBar, unit: Unit },
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

    /// Whether anybody watches.
    pub fn is_shown(&self) -> bool {
        !matches!(self.0, Mode::Off)
    }

    /// Starts a task; `total` is how much there will be, where that is known.
    pub fn task(&self, name: impl Into<String>, unit: Unit, total: Option<u64>) -> Task {
        let name = escape::line(&name.into()).into_owned();
        let arrived = Arc::new(AtomicU64::new(0));
        let display = match &self.0 {
            Mode::Off => Display::Nothing,
            Mode::Plain => Display::Lines {
                name,
                unit,
                total: total.map(OnceLock::from).unwrap_or_default(),
                started: Instant::now(),
                next_line: AtomicU64::new(PLAIN_INTERVAL.as_secs()),
            },
            Mode::Bars(bars) => {
                let bar = bars.add(match total {
                    Some(total) => ProgressBar::new(total),
                    None => ProgressBar::no_length(),
                });
                bar.set_style(style(unit, total.is_some(), &arrived));
                bar.set_message(name);
                Display::Bar { bar, unit }
            }
        };
        Task { display, done: AtomicU64::new(0), arrived }
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
            Display::Bar { bar, .. } => {
                bar.inc(n);
                // A total may have been an estimate.
                if bar.length().is_some_and(|total| total < done) {
                    bar.set_length(done);
                }
            }
            Display::Lines { name, unit, total, started, next_line } => {
                let now = started.elapsed().as_secs();
                let due = next_line.load(Ordering::Relaxed);
                if now >= due
                    && next_line
                        .compare_exchange(due, now + PLAIN_INTERVAL.as_secs(), Ordering::Relaxed, Ordering::Relaxed)
                        .is_ok()
                {
                    let of = total.get().map(|total| format!(" of {}", amount(*total, *unit))).unwrap_or_default();
                    // A closed stderr is no reason to stop the work.
                    let _ = writeln!(std::io::stderr(), "{}: {}{of}", escape::line(name), amount(done, *unit));
                }
            }
        }
    }

    /// So many bytes have come of rows that are not done yet.
    pub fn arrived(&self, bytes: u64) {
        self.arrived.fetch_add(bytes, Ordering::Relaxed);
        if let Display::Bar { bar, .. } = &self.display {
            bar.tick();
        }
    }

    /// Says how much there will be, where that was not known when the task began.
    pub fn set_total(&self, total: u64) {
        match &self.display {
            Display::Bar { bar, unit } if bar.length().is_none() => {
                bar.set_length(total.max(self.done()));
                bar.set_style(style(*unit, true, &self.arrived));
            }
            Display::Lines { total: known, .. } => {
                let _ = known.set(total);
            }
            Display::Bar { .. } | Display::Nothing => {}
        }
    }

    /// A reader of which each byte counts.
    pub fn reading<R: Read>(&self, inner: R) -> impl Read + use<'_, R> {
        Reading { task: self, inner }
    }

    /// How much is done.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Display::Bar { bar, .. } = &self.display {
            bar.finish_and_clear();
        }
    }
}

struct Reading<'a, R> {
    task: &'a Task,
    inner: R,
}

impl<R: Read> Read for Reading<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.task.add(read as u64);
        Ok(read)
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
            MARKED.store(true, Ordering::Relaxed);
            let _ = write!(std::io::stderr(), "{mark}");
        }
    }

    /// Ends the line of marks, where there is one.
    pub fn end_marks(self) {
        let _ = write!(std::io::stderr(), "{}", end_of_marks());
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

/// What comes between marks and a line that is said: the line stands by itself.
pub(crate) fn end_of_marks() -> &'static str {
    if MARKED.swap(false, Ordering::Relaxed) { "\n" } else { "" }
}

/// `n` bytes as people write them (`1.5 MiB`), or `n` items as they are.
pub fn amount(n: u64, unit: Unit) -> String {
    match unit {
        Unit::Bytes => indicatif::BinaryBytes(n).to_string(),
        Unit::Items | Unit::Rows => n.to_string(),
    }
}

fn style(unit: Unit, bounded: bool, arrived: &Arc<AtomicU64>) -> ProgressStyle {
    let rest = match (unit, bounded) {
        (Unit::Bytes, true) => "{wide_bar} {binary_bytes}/{binary_total_bytes} {eta}",
        (Unit::Bytes, false) => "{spinner} {binary_bytes} {binary_bytes_per_sec}",
        (Unit::Items, true) => "{wide_bar} {pos}/{len} {eta}",
        (Unit::Items, false) => "{spinner} {pos}",
        (Unit::Rows, true) => "{wide_bar} {pos}/{len} {arrived} {eta}",
        (Unit::Rows, false) => "{spinner} {pos} {arrived}",
    };
    // 60 columns hold them: a name of 22, a bar of what is left, what is done of how much, how long it will take. Where there is
    // more room, a third of it is for the name.
    let columns = rustix::termios::tcgetwinsize(std::io::stderr()).map_or(0, |size| usize::from(size.ws_col));
    let name = (columns / 3).max(22);
    let arrived = arrived.clone();
    ProgressStyle::with_template(&format!("{{msg:{name}!}} {rest}"))
        .expect("the templates above are well-formed")
        .with_key("arrived", move |_: &ProgressState, out: &mut dyn fmt::Write| {
            let _ = write!(out, "{}", BinaryBytes(arrived.load(Ordering::Relaxed)));
        })
}

/// Whether the last thing on stderr is a mark.
static MARKED: AtomicBool = AtomicBool::new(false);
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_well_formed_and_counting_works_unseen() {
        for unit in [Unit::Bytes, Unit::Items, Unit::Rows] {
            for bounded in [true, false] {
                style(unit, bounded, &Arc::default());
            }
        }
        let task = Progress::off().task("x", Unit::Items, None);
        task.add(2);
        task.add(3);
        assert_eq!(task.done(), 5);
        std::io::copy(&mut task.reading(&b"123"[..]), &mut std::io::sink()).unwrap();
        assert_eq!(task.done(), 8);
        assert_eq!(amount(1536, Unit::Bytes), "1.50 KiB");
    }
}
