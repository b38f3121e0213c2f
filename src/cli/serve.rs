//! `haversack serve`: a registry over layouts.

use std::net::{SocketAddr, TcpListener};
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use listenfd::ListenFd;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::outcome::{Exit, Failure, Outcome};
use crate::cli::{Context, block_on};
use crate::escape::in_line;
use crate::fs::PathError;
use crate::image::Layout;
use crate::image::store::gc::GcOptions;
use crate::ops::place;
use crate::plural;
use crate::reference::RepositoryName;
use crate::serve::{
    Access, Collecting, Entry, Identity, Limits, Listener, Log, Options, PushRule, Scrubbing, Server, Shown, Summary,
    connections,
};
use crate::terminal::{ProgressMode, Ui, stop};

/// Serve the images of layouts as a registry, straight from their directories
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(super) struct ServeArgs {
    /// Directory of an OCI layout; if two have the same name for different images, the first one counts
    #[arg(value_name = "LAYOUT", required = true, value_parser = place::layout)]
    layouts: Vec<PathBuf>,
    /// Address and port to listen at; port 0 means any free one. Ignored with socket activation by systemd
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5000")]
    listen: SocketAddr,
    /// Repository for images whose names have none [default: the directory's name]
    #[arg(long, value_name = "NAME")]
    repository: Option<RepositoryName>,
    /// Allow pushes and deletes, in the first layout, which is created if it does not exist
    #[arg(long)]
    writable: bool,
    /// Seconds without a byte after which an upload is given up
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400.0, value_parser = crate::cli::seconds)]
    upload_ttl: f64,
    /// Interval at which what no image needs is removed, as `haversack gc` does: 12h, 7d [default: never]
    #[arg(long, value_name = "DURATION", requires = "writable", value_parser = crate::duration::with_unit)]
    gc_every: Option<Duration>,
    /// With --gc-every: keep what was written or needed within this time
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = crate::duration::with_unit)]
    gc_grace: Duration,
    /// With --gc-every: also remove images whose tag was deleted or moved
    #[arg(long, requires = "gc_every")]
    gc_untagged: bool,
    /// Time in which every blob is read once, to find damage on the disk; 0 or off for never
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = or_off)]
    scrub_every: Duration,
    /// With --scrub-every: maximum MiB that are read per second
    #[arg(long, value_name = "MIB", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    scrub_rate: u32,
    /// Directory in which the server notes which blobs it has read, for layouts without --writable [default: $STATE_DIRECTORY,
    /// which systemd sets]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// TLS certificate in PEM, with intermediate certificates; read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key", help_heading = "Access")]
    tls_cert: Option<PathBuf>,
    /// Key of the TLS certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = "Access")]
    tls_key: Option<PathBuf>,
    /// TLS with a certificate authority of the server's own, kept in this directory; clients need its ca.crt
    #[arg(long, value_name = "DIR", conflicts_with = "tls_cert", help_heading = "Access")]
    tls_self_signed: Option<PathBuf>,
    /// Name by which clients reach this server, also for its own certificate; may be repeated
    #[arg(long, value_name = "HOST[:PORT]", help_heading = "Access")]
    name: Vec<String>,
    /// Write files into this directory that make nodes pull from here, by the first --name: for OpenShift, podman, CRI-O and
    /// containerd; with --tls-self-signed also for k3s and RKE2
    #[arg(long, value_name = "DIR", requires = "name")]
    mirror_config: Option<PathBuf>,
    /// Snapshot of the certified catalog to show on the page: its age, and a search for what is certified
    #[arg(long, value_name = "CATALOG.DB", help_heading = "Page")]
    catalog: Option<PathBuf>,
    /// Kernels to show on the page: their packages, and which images here are toolkits for them
    #[arg(long, value_name = "KERNELS.JSON", help_heading = "Page")]
    kernels: Option<PathBuf>,
    /// Show the files of layers on the page; every look reads a layer from its start
    #[arg(long, help_heading = "Page")]
    layer_files: bool,
    /// File with users and passwords, as `htpasswd -B` writes it; read again when it changes
    #[arg(long, value_name = "FILE", help_heading = "Access")]
    htpasswd: Option<PathBuf>,
    /// Allow everybody to pull; only pushes and deletes need a password
    #[arg(long, requires = "htpasswd", help_heading = "Access")]
    anonymous_pull: bool,
    /// User who may push and delete, and in which repositories; may be repeated [default: every user everywhere]
    #[arg(
        long,
        value_name = "USER[=REPOSITORY,…]",
        requires = "htpasswd",
        requires = "writable",
        help_heading = "Access"
    )]
    push: Vec<PushRule>,
    /// Allow passwords without TLS on an address that others can reach
    #[arg(long, help_heading = "Access")]
    plain_passwords: bool,
    /// Maximum number of connections; others wait
    #[arg(long, value_name = "N", default_value_t = Limits::CONNECTIONS, value_parser = clap::value_parser!(u16).range(1..))]
    max_connections: u16,
    /// Seconds without a byte after which a connection is given up
    #[arg(long, value_name = "SECONDS", default_value_t = Limits::IDLE.as_secs_f64(), value_parser = crate::cli::seconds)]
    idle_timeout: f64,
    /// Leave out the access log, a line on stderr for each request
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
    let taken = handed_over()?;
    let address = match &taken {
        Some(socket) => socket.local_addr()?,
        None => args.listen,
    };
    let is_loopback = address.ip().is_loopback();
    let tls = tls(args);
    if tls.is_none() && args.htpasswd.is_some() && !is_loopback && !args.plain_passwords {
        let words = format!("{address}: passwords would be sent for everybody on the way to read");
        let hint = "give a certificate with `--tls-cert`, or `--tls-self-signed DIR`; `--plain-passwords` allows it";
        return Err(Failure::usage(words).hint(hint));
    }
    let open = |(at, path): (usize, &PathBuf)| match args.writable && at == 0 {
        true => Layout::create(path).map(Layout::without_lease),
        false => Layout::open(path),
    };
    let layouts = args.layouts.iter().enumerate().map(open).collect::<Result<Vec<_>, _>>()?;
    let connections = connections(args.max_connections.into());
    if connections < args.max_connections.into() {
        context.ui.warn(format_args!(
            "{} at one time, for this process may not have more open files (ulimit -n, LimitNOFILE)",
            plural::count(connections, "connection")
        ));
    }
    let limits = Limits { idle: Duration::from_secs_f64(args.idle_timeout), connections, ..Limits::default() };
    block_on(async {
        let server = Server::new(Options {
            layouts,
            repository: args.repository.clone().map(String::from),
            limits,
            writable: args.writable.then(|| Duration::from_secs_f64(args.upload_ttl)),
            collecting: args.gc_every.filter(|every| !every.is_zero()).map(|every| Collecting {
                every,
                options: GcOptions { grace: args.gc_grace, untagged: args.gc_untagged, dry_run: false },
            }),
            scrubbing: (!args.scrub_every.is_zero()).then(|| Scrubbing {
                every: args.scrub_every,
                rate: NonZeroU64::from(NonZeroU32::new(args.scrub_rate).unwrap_or(NonZeroU32::MIN)).saturating_mul(MIB),
            }),
            state: state(args, context),
            access: Access {
                htpasswd: args.htpasswd.clone(),
                anonymous_pull: args.anonymous_pull,
                push: args.push.clone(),
                names: args.name.clone(),
                is_loopback,
            },
            shown: Shown {
                catalog: args.catalog.clone(),
                kernels: args.kernels.clone(),
                name: args.name.first().cloned(),
                is_writable: args.writable,
                layer_files: args.layer_files,
            },
            tls: tls.clone(),
            log: log(args, context),
        })?;
        let listener = match taken {
            Some(socket) => Listener::taken(socket),
            None => Listener::bind(args.listen).await,
        };
        let listener =
            listener.map_err(|source| PathError { action: "listen at", path: address.to_string().into(), source })?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.address()?);
        if !is_loopback && tls.is_none() {
            context.ui.warn(format_args!("{url}: without TLS, so anybody on the way can read and change what is sent"));
        }
        if !is_loopback && args.writable && args.htpasswd.is_none() {
            context
                .ui
                .warn(format_args!("{url}: without passwords (--htpasswd), so whoever reaches it can push and delete"));
        }
        if let Some(directory) = &args.tls_self_signed {
            let file = directory.join("ca.crt");
            context.ui.say(format_args!("its authority, for those who are to trust it: {}", in_line(file.display())));
        }
        if !server.remembers() {
            let words = "without `--state DIR`, a restart forgets which blobs were already checked";
            context.ui.say(words);
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
            if let (Some(directory), Some(name)) = (&args.mirror_config, args.name.first()) {
                for path in server.write_mirror_config(name, directory).await? {
                    context.ui.say(format_args!("wrote {}", in_line(path.display())));
                }
            }
            context.ui.say(format_args!(
                "{}, {}, {}",
                plural::count(*repositories, "repository"),
                plural::count(*tags, "tag"),
                plural::count(*manifests, "manifest")
            ));
            let serving = Serving { url: url.clone(), layouts: &args.layouts, summary: &summary };
            context.ui.result(&serving, |serving| format!("{}\n", serving.url))?;
            Ok::<_, Failure>(())
        };
        let reloading = async {
            let Ok(mut hangups) = signal(SignalKind::hangup()) else { return std::future::pending().await };
            while hangups.recv().await.is_some() {
                context.ui.say(format_args!("SIGHUP: the certificate is read again"));
                server.reload();
            }
        };
        tokio::pin!(stopped, reloading);
        let running = server.run(listener, stopped);
        tokio::pin!(running);
        tokio::select! {
            () = &mut running => return Ok(Exit::Done),
            () = &mut reloading => {}
            started = started => started?,
        }
        tokio::select! { () = running => {}, () = reloading => {} }
        Ok(Exit::Done)
    })
}

/// What keeps which blobs were read. systemd may give several directories; the first is for such things.
fn state(args: &ServeArgs, context: &Context) -> Option<PathBuf> {
    let given =
        || context.config.environment.variable("STATE_DIRECTORY")?.split(':').next().filter(|path| !path.is_empty());
    args.state.clone().or_else(|| Some(given()?.into()))
}

/// A length of time, or none.
fn or_off(text: &str) -> Result<Duration, String> {
    if text == "off" { Ok(Duration::ZERO) } else { crate::duration::parse(text) }
}

/// The socket that systemd or another who started us listens at already (sd_listen_fds(3)).
fn handed_over() -> Result<Option<TcpListener>, Failure> {
    let mut sockets = ListenFd::from_env();
    if sockets.len() > 1 {
        return Err(Failure::usage(format!("{} sockets were handed over; one is served", sockets.len())));
    }
    Ok(sockets.take_tcp_listener(0)?)
}

/// Where the certificate comes from.
fn tls(args: &ServeArgs) -> Option<Identity> {
    if let (Some(certificate), Some(key)) = (&args.tls_cert, &args.tls_key) {
        return Some(Identity::Files { certificate: certificate.clone(), key: key.clone() });
    }
    let directory = args.tls_self_signed.clone()?;
    Some(Identity::own(directory, &args.name, args.listen.ip()))
}

/// The access log: a line on stderr for each request, as JSON with `--json`.
fn log(args: &ServeArgs, context: &Context) -> Log {
    if args.no_access_log {
        return Arc::new(|_| {});
    }
    let (ui, is_json) = (Ui::new(context.ui.is_quiet(), false, ProgressMode::None), context.ui.is_json());
    Arc::new(move |entry: &Entry| match is_json {
        true => ui.say(serde_json::to_string(entry).unwrap_or_default()),
        false => ui.say(entry),
    })
}

const MIB: NonZeroU64 = NonZeroU64::new(1 << 20).expect("it is not zero");

const HELP: &str = "\
An image that has the name HOST/REPOSITORY:TAG in its layout, as after `sync` and `unpack`, is served under REPOSITORY:TAG and under \
HOST/REPOSITORY:TAG; docker.io/alpine is library/alpine. A name of one word is a tag of --repository.

Examples:
  haversack serve mirror
  haversack serve mirror --writable --listen 0.0.0.0:5000
  haversack serve mirror charts --listen 127.0.0.1:0 --no-access-log

It prints its URL on stdout once the layouts are read. SIGTERM or SIGINT ends it after running requests are finished.

Exit status: 0 ended by a signal, 1 failed, 2 wrong command line";
