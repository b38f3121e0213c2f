//! The command line: parse, call, print.
//!
//! Each command group has a file with its arguments and a `run` that returns an [`Outcome`]. What an error means to a
//! user is in `outcome`; what goes to the terminal is in [`crate::terminal`], where defaults come from in [`crate::settings`].

mod carry;
mod catalog;
mod configure;
mod copy;
mod doctor;
mod entrypoint;
mod gc;
mod global;
mod inspect;
mod kernel;
mod ledger;
mod login;
mod make;
mod manual;
mod outcome;
mod pack;
mod publish;
mod registries;
mod serve;
mod site;
mod snapshots;
mod sources;
mod sync;
mod tags;
#[cfg(test)]
mod tests;
mod unpack;
mod usage;
mod verify;

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use self::global::{Global, seconds};
use self::outcome::{Exit, Failure, Outcome};
use crate::http::{Http, HttpOptions};
use crate::registry::{CopyOptions, Memory};
use crate::settings::Config;
use crate::terminal::{ProgressMode, Ui, log, stop};

/// Pack what a disconnected site needs into OCI images, carry it across the gap, serve it on the far side
#[derive(Parser)]
#[command(name = "haversack", version = VERSION, arg_required_else_help = true, after_help = HELP)]
pub(crate) struct Args {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Catalog(catalog::CatalogArgs),
    #[command(alias = "./run.sh", alias = "run.sh")]
    Run(entrypoint::RunArgs),
    Dump(entrypoint::DumpArgs),
    Refresh(entrypoint::RefreshArgs),
    Build(Box<make::BuildArgs>),
    Copy(copy::CopyArgs),
    Sync(sync::SyncArgs),
    Inspect(inspect::InspectArgs),
    Verify(verify::VerifyArgs),
    Login(login::LoginArgs),
    Logout(login::LogoutArgs),
    ListTags(tags::ListTagsArgs),
    Delete(tags::DeleteArgs),
    Pack(pack::PackArgs),
    Unpack(unpack::UnpackArgs),
    /// Compare carries
    #[command(subcommand, after_help = carry::GROUP_HELP)]
    Carry(carry::Command),
    /// Keep account of what each site holds and which carries have arrived there
    #[command(subcommand, after_help = site::GROUP_HELP)]
    Site(site::Command),
    Serve(serve::ServeArgs),
    Gc(gc::GcArgs),
    /// List, fetch and unpack kernel packages, to build modules with
    #[command(subcommand, after_help = kernel::GROUP_HELP)]
    Kernel(kernel::Command),
    /// Upload boot artifacts to S3 and IMS, or packages to Artifactory
    #[command(subcommand, after_help = publish::GROUP_HELP)]
    Publish(publish::Command),
    Doctor(doctor::DoctorArgs),
    Config(configure::ConfigArgs),
    Completions(manual::CompletionsArgs),
    Man(manual::ManArgs),
}

/// What a command is given beside its own arguments.
struct Context {
    ui: Ui,
    config: Config,
    http: HttpOptions,
}

impl Context {
    /// The HTTP client of this run.
    fn http(&self) -> Result<Http, Failure> {
        Ok(Http::new(&self.http)?)
    }

    /// How images are brought from where they are, with so many transfers at a time.
    fn copying(&self, parallel: usize) -> CopyOptions {
        let memory = Memory::new(self.config.environment.cache_dir(), parallel, HashMap::new());
        CopyOptions { retry: self.http.retry, parallel, memory, ..CopyOptions::default() }
    }

    /// The time that is written down, RFC 3339 in UTC.
    fn now(&self) -> Result<String, Failure> {
        let now = match self.config.environment.source_date_epoch()? {
            Some(seconds) => jiff::Timestamp::from_second(seconds).unwrap_or_default(),
            None => jiff::Timestamp::now(),
        };
        Ok(now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
    }

    /// The same, and what the next run goes on with.
    fn stopped_with(&self, signal: &str, how: &str) -> i32 {
        self.ui.error(Failure::new(format!("stopped by {signal}")).hint(how));
        stop::status(signal)
    }

    /// Says that a signal ends the program; the status.
    fn stopped(&self, signal: &str) -> i32 {
        self.ui.error(Failure::new(format!("stopped by {signal}")));
        stop::status(signal)
    }
}

/// Runs the program with the process's arguments and environment.
pub fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let early = Ui::new(false, usage::is_json(&args), ProgressMode::None);
    let command = Args::command();
    let config = match Config::load(&command) {
        Ok(config) => config,
        Err(error) => return Failure::from(error).exit(Exit::Usage).end(&early),
    };
    let names =
        |command: &clap::Command| command.get_name_and_visible_aliases().into_iter().map(str::to_owned).collect();
    let commands: Vec<String> = command.get_subcommands().flat_map(|it| -> Vec<String> { names(it) }).collect();
    let args = publish::names_first(applet(args), &commands);
    let applied = config.apply(command);
    let early = Ui::new(false, early.is_json() || usage::is_json_by_default(&applied), ProgressMode::None);
    let parsed = applied.try_get_matches_from(&args).and_then(|matches| Args::from_arg_matches(&matches));
    let Args { global, command } = match parsed {
        Ok(args) => args,
        Err(error) => return usage::end(error, &args, &config, &early),
    };
    let asked = match &command {
        Command::Publish(command) => publish::verbosity(command, &config),
        _ => 0,
    };
    log::to_stderr(global.verbose.max(asked), config.environment.variable("HAVERSACK_LOG"));
    config.tell();
    let ui = Ui::new(global.quiet, global.json, global.progress);
    let http = global.http(&config);
    let context = Context { ui, config, http };
    let outcome = match &command {
        // They take back what they made, or finish what they do, before they end.
        Command::Build(_) | Command::Publish(publish::Command::Ims(_)) | Command::Serve(_) => run(command, &context),
        _ => match command.goes_on() {
            Some(how) => stop::resumable(|signal| context.stopped_with(signal, how), || run(command, &context)),
            None => stop::mortal(|signal| context.stopped(signal), || run(command, &context)),
        },
    };
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) if failure.is_broken_pipe() => Exit::Done.into(),
        Err(failure) => failure.end(&context.ui),
    }
}

impl Command {
    /// What the next run of it goes on with, when it is stopped.
    fn goes_on(&self) -> Option<&'static str> {
        match self {
            Command::Copy(_) | Command::Sync(_) => {
                Some("run the command again: it goes on where it was, and what has arrived is not sent again")
            }
            Command::Kernel(kernel::Command::Fetch(_)) => {
                Some("run the command again: packages that are there stay, and a half one is gone on with")
            }
            Command::Catalog(args) => args.goes_on(),
            _ => None,
        }
    }
}

fn run(command: Command, context: &Context) -> Outcome {
    match command {
        Command::Catalog(args) => catalog::run(args, context),
        Command::Run(args) => entrypoint::run(args, context),
        Command::Dump(args) => entrypoint::dump(&args, context),
        Command::Refresh(args) => entrypoint::refresh(&args, context),
        Command::Build(args) => make::run(&args, context),
        Command::Copy(args) => copy::run(&args, context),
        Command::Sync(args) => sync::run(&args, context),
        Command::Inspect(args) => inspect::run(&args, context).map_err(|failure| failure.without_tls(|_| ONE_REGISTRY)),
        Command::Verify(args) => verify::run(&args, context).map_err(|failure| failure.without_tls(|_| ONE_REGISTRY)),
        Command::Login(args) => login::login(&args, context),
        Command::Logout(args) => login::logout(&args, context),
        Command::ListTags(args) => {
            tags::list_tags(&args, context).map_err(|failure| failure.without_tls(|_| ONE_REGISTRY))
        }
        Command::Delete(args) => tags::delete(&args, context).map_err(|failure| failure.without_tls(|_| ONE_REGISTRY)),
        Command::Pack(args) => pack::run(&args, context).map_err(|failure| failure.without_tls(|_| ONE_REGISTRY)),
        Command::Carry(command) => carry::run(&command, context),
        Command::Unpack(args) => unpack::run(&args, context).map_err(|failure| failure.without_tls(|_| ONE_REGISTRY)),
        Command::Site(command) => site::run(&command, context),
        Command::Serve(args) => serve::run(&args, context),
        Command::Gc(args) => gc::run(&args, context),
        Command::Kernel(command) => kernel::run(&command, context),
        Command::Publish(command) => publish::run(&command, context),
        Command::Config(args) => configure::run(&args, context),
        Command::Doctor(args) => doctor::run(&args, context),
        Command::Completions(args) => manual::completions(&args, context),
        Command::Man(args) => manual::man(&args, context),
    }
}

/// The version, and in programs for others the commit and its date.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), env!("HAVERSACK_COMMIT"));

/// The five jobs, a line each.
const HELP: &str = "\
Examples:
  haversack catalog snapshot
  haversack catalog check operator acme-db-operator.v1.0.0 --ocp-version 4.16
  haversack copy docker://quay.io/podman/stable:v5 oci:mirror:podman
  haversack pack oci:mirror --out carry
  haversack unpack carry --to docker://bastion:5000
  haversack kernel fetch --distro debian:bookworm --latest 1 --to packages
  haversack build driver-toolkit --distro debian:bookworm --latest 1 --output oci:toolkits
  haversack publish artifactory packages --url https://host/artifactory --repo kernels
  haversack doctor

Exit status: 0 done, 1 failed, 2 wrong command line, 3 done in part; each command's help says which";

/// The option of commands that know one registry.
const ONE_REGISTRY: &str = "--tls-verify=false";

/// Runs something that touches the network to its end.
fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    crate::ops::block_on(future)
}

/// Lets people's old commands work: called as `run.sh` (the images hold a link of that name), it is `haversack run`.
fn applet(mut args: Vec<OsString>) -> Vec<OsString> {
    let called = args.first().and_then(|arg| Path::new(arg).file_name());
    if called.is_some_and(|name| name == "run.sh") {
        args.insert(1, "run".into());
    }
    args
}
