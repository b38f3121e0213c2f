//! `haversack serve`: a registry over layouts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::cli::outcome::{Exit, Failure, Outcome};
use crate::cli::ui::{ProgressMode, Ui};
use crate::cli::{Context, block_on, stop};
use crate::escape::in_line;
use crate::fs::PathError;
use crate::image::Layout;
use crate::reference::RepositoryName;
use crate::serve::{Entry, Limits, Listener, Log, Options, Server, Summary};

/// Serve the images of layouts as a registry, from where they lie
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(super) struct ServeArgs {
    /// Directory of an OCI layout; of several, the first decides when two have one name for different images
    #[arg(value_name = "LAYOUT", required = true, value_parser = directory)]
    layouts: Vec<PathBuf>,
    /// Address and port to listen at; port 0 is any free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5000")]
    listen: SocketAddr,
    /// Repository of images that have none in their names, instead of the directory's name
    #[arg(long, value_name = "NAME")]
    repository: Option<RepositoryName>,
    /// Take pushes and deletes, into the first layout, which is made where there is none
    #[arg(long)]
    writable: bool,
    /// Seconds without a byte after which an upload is given up
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400.0, value_parser = crate::cli::seconds)]
    upload_ttl: f64,
    /// Connections at one time; others wait
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u16).range(1..))]
    max_connections: u16,
    /// Seconds without a byte after which a connection is given up
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0, value_parser = crate::cli::seconds)]
    idle_timeout: f64,
    /// No line for each request
    #[arg(long)]
    no_access_log: bool,
}

#[derive(Serialize)]
struct Serving<'a> {
    url: String,
    layouts: &'a [PathBuf],
    #[serde(flatten)]
    summary: &'a Summary,
}

pub(super) fn run(args: &ServeArgs, context: &Context) -> Outcome {
    let open = |(at, path): (usize, &PathBuf)| match args.writable && at == 0 {
        true => Layout::create(path),
        false => Layout::open(path),
    };
    let layouts = args.layouts.iter().enumerate().map(open).collect::<Result<Vec<_>, _>>()?;
    let limits = Limits {
        idle: Duration::from_secs_f64(args.idle_timeout),
        connections: args.max_connections.into(),
        ..Limits::default()
    };
    block_on(async {
        let server = Server::new(Options {
            layouts,
            repository: args.repository.clone().map(String::from),
            limits,
            writable: args.writable.then(|| Duration::from_secs_f64(args.upload_ttl)),
            log: log(args, context),
        })?;
        let listener = Listener::bind(args.listen).await.map_err(|source| PathError {
            action: "listen at",
            path: args.listen.to_string().into(),
            source,
        })?;
        let url = format!("http://{}", listener.address()?);
        if !args.listen.ip().is_loopback() {
            context.ui.warn(format_args!("{url}: without TLS, so anybody on the way can read and change what is sent"));
        }
        let stopped = async {
            let signal = stop::stopped().await;
            context.ui.say(format_args!("{signal}: finishing what is under way"));
        };
        let started = async {
            // It listens already: who comes now waits for this and not for a port.
            let summary = server.summary().await?;
            for note in &summary.notes {
                context.ui.warn(note);
            }
            let Summary { repositories, tags, manifests, .. } = &summary;
            context.ui.say(format_args!("{repositories} repositories, {tags} tags, {manifests} manifests"));
            let serving = Serving { url: url.clone(), layouts: &args.layouts, summary: &summary };
            context.ui.result(&serving, |serving| format!("{}\n", serving.url))?;
            Ok::<_, Failure>(())
        };
        tokio::pin!(stopped);
        let running = server.run(listener, stopped);
        tokio::pin!(running);
        tokio::select! {
            () = &mut running => return Ok(Exit::Done),
            started = started => started?,
        }
        running.await;
        Ok(Exit::Done)
    })
}

/// The access log: a line on stderr for each request, as JSON with `--json`.
fn log(args: &ServeArgs, context: &Context) -> Log {
    if args.no_access_log {
        return Arc::new(|_| {});
    }
    let (ui, is_json) = (Ui::new(context.ui.is_quiet(), false, ProgressMode::None), context.ui.is_json());
    Arc::new(move |entry: &Entry| match is_json {
        true => ui.say(serde_json::to_string(entry).unwrap_or_default()),
        false => ui.say(line(entry)),
    })
}

fn line(entry: &Entry) -> String {
    let Entry { time, client, user, method, path, ns, status, bytes, milliseconds, error } = entry;
    let user = user.as_ref().map(|user| format!(" {}", in_line(user))).unwrap_or_default();
    let ns = ns.as_ref().map(|ns| format!(" ns={}", in_line(ns))).unwrap_or_default();
    let error = error.as_ref().map(|error| format!(": {}", in_line(error))).unwrap_or_default();
    let path = in_line(path);
    format!("{time} {client}{user} {method} {path}{ns} {status} {bytes} B {milliseconds} ms{error}")
}

/// The path of a layout, with or without its transport.
fn directory(text: &str) -> Result<PathBuf, String> {
    let path = text.strip_prefix("oci:").unwrap_or(text);
    if path.is_empty() { Err("expected the directory of a layout".to_owned()) } else { Ok(path.into()) }
}

const HELP: &str = "\
Examples:
  haversack serve mirror
  haversack serve mirror --writable --listen 0.0.0.0:5000
  haversack serve mirror charts --listen 127.0.0.1:0 --no-access-log

It prints its URL on stdout when the layouts are read, and ends at SIGTERM or SIGINT with what is under way finished.

Exit status: 0 ended by a signal, 1 failed, 2 wrong command line";
