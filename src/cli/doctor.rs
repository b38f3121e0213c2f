//! `haversack doctor`: what stands in the way on this machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use url::Url;

use crate::cli::outcome::{Exit, Outcome};
use crate::cli::registries::OneRegistryArgs;
use crate::cli::{Args, Context, VERSION, block_on};
use crate::ops::doctor::{self, Check, DoctorOptions, Source, Subject};
use crate::plural;

/// Check what commonly goes wrong: clock, disk space, certificates, proxies, credentials, servers, layouts, podman
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(super) struct DoctorArgs {
    /// What to check besides this machine: a registry (HOST[:PORT] or docker://…), a layout (DIR or oci:DIR) or a URL
    #[arg(value_name = "WHAT")]
    subjects: Vec<Subject>,
    #[command(flatten)]
    registry: OneRegistryArgs,
}

pub(super) fn run(args: &DoctorArgs, context: &Context) -> Outcome {
    let access = args.registry.access(context)?.impatient();
    let mut sources: Vec<Source> = Vec::new();
    let named = args.subjects.iter().filter_map(|subject| match subject {
        Subject::Url(url) => Some(("named here".to_owned(), url.clone(), true)),
        _ => None,
    });
    // What several commands ask is asked once.
    let mut at: BTreeMap<Url, usize> = BTreeMap::new();
    for (option, url, is_chosen) in named.chain(context.config.addresses(&Args::command())) {
        match at.get(&url) {
            Some(known) => sources[*known].is_chosen |= is_chosen,
            None => {
                at.insert(url.clone(), sources.len());
                sources.push(Source { option, url, is_chosen });
            }
        }
    }
    let registries = args.subjects.iter().filter_map(|subject| match subject {
        Subject::Registry(host) => Some(host.clone()),
        _ => None,
    });
    let layouts = args.subjects.iter().filter_map(|subject| match subject {
        Subject::Layout(path) => Some(path.clone()),
        _ => None,
    });
    let cache = context.config.environment.cache_dir().map(|path| ("cache in", path));
    let places = [("working directory", PathBuf::from(".")), ("temporary files in", std::env::temp_dir())];
    let options = DoctorOptions {
        version: format!("haversack {VERSION}"),
        config: context.config.file().map(Path::to_owned),
        places: places.into_iter().chain(cache).collect(),
        proxies: context.config.environment.proxies(),
        path: context.config.environment.path().cloned(),
        sources,
        registries: registries.collect(),
        layouts: layouts.collect(),
        access,
    };
    let report = block_on(async { Ok(doctor::doctor(&options).await) })?;
    context.ui.result(&report, |report| report.checks.iter().map(Check::to_text).collect())?;
    let (warned, failed, skipped) = (report.warned, report.failed, report.skipped);
    context.ui.say(format_args!(
        "{}: {failed} failed, {}, {skipped} skipped",
        plural::count(report.checks.len(), "check"),
        plural::count(warned, "warning")
    ));
    Ok(Exit::of(failed == 0))
}

const HELP: &str = "\
The doctor asks every registry that there are credentials for, and every address that commands ask unless their options name \
another one: the default, or what haversack.toml or the environment says. A default that cannot be reached is only a warning. Of a \
layout, the doctor looks for what is missing; `haversack verify` reads all of it.

A line begins with what was found: ok; note, for a server that answers, but not with success, such as 404; skip, for what was not \
asked; warn, for what may be a fault; fail.

Examples:
  haversack doctor
  haversack doctor registry.local:5000 oci:mirror
  haversack doctor --offline --json

Exit status: 0 no check failed (some may be skipped), 2 wrong command line, 3 some checks failed";
