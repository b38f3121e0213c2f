//! What is logged, on stderr: warnings as `Ui` says them, and with `-v` what is being done.

#![expect(clippy::disallowed_methods, reason = "the other place that prints; each line is escaped")]

use std::io::IsTerminal;

use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::escape;
use crate::progress;

/// Logs to stderr from now on: what is wanted, as `TARGET=LEVEL,…`, or else more with each `-v`.
pub(crate) fn to_stderr(verbose: u8, wanted: Option<&str>) {
    let default = match verbose {
        0 => "haversack=warn",
        1 => "haversack=info",
        _ => "haversack=debug",
    };
    // `Targets` rather than `EnvFilter`, which brings an engine for regular expressions.
    let parsed = wanted.map(str::parse::<Targets>);
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .fmt_fields(plain_fields())
        .event_format(Lines);
    let (filter, refused) = match parsed {
        Some(Ok(filter)) => (Some(filter), None),
        Some(Err(error)) => (None, Some(error)),
        None => (None, None),
    };
    let filter = filter.unwrap_or_else(|| default.parse().expect("ours are well formed"));
    tracing_subscriber::registry().with(lines).with(filter).init();
    if let (Some(text), Some(error)) = (wanted, refused) {
        tracing::warn!("HAVERSACK_LOG: `{text}` is not TARGET=LEVEL,… and is ignored: {error}");
    }
}

/// How an event is written: as `Ui` says it of a warning, and nothing but the text of what was asked for with `-v`.
struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> std::fmt::Result {
        writer.write_str(progress::end_of_marks())?;
        let level = *event.metadata().level();
        if level == tracing::Level::WARN {
            writer.write_str("warning: ")?;
        } else if level == tracing::Level::ERROR {
            writer.write_str("error: ")?;
        }
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// Writes what is logged with what controls a terminal spelled out, and in one line.
fn plain_fields() -> impl for<'writer> FormatFields<'writer> {
    debug_fn(|writer, field, value| {
        let text = format!("{value:?}");
        match field.name() {
            "message" => write!(writer, "{}", escape::line(&text)),
            name => write!(writer, "{name}={}", escape::line(&text)),
        }
    })
    .delimited(" ")
}
