//! `haversack publish`: packages to Artifactory, boot artifacts to S3 and the Image Management Service.

mod artifactory;
mod ims;
mod settings;

use std::ffi::OsString;

use clap::Subcommand;

use super::Context;
use super::outcome::Outcome;
use super::usage::refusal;
use crate::publish::ims::manifest::pretty;
use crate::settings::Config;
use crate::terminal::Ui;

#[derive(Subcommand)]
pub(super) enum Command {
    Ims(Box<ims::ImsArgs>),
    ImsJobStatus(ims::JobStatusArgs),
    Artifactory(artifactory::ArtifactoryArgs),
}

/// After the help of `haversack publish`.
pub(super) const GROUP_HELP: &str = "\
Examples:
  haversack publish artifactory packages --url https://host/artifactory --repo kernels --dry-run
  haversack publish ims my-image -r rootfs.squashfs -k vmlinuz -i initrd --dry-run

Exit status: 0 uploaded, 1 failed, 2 wrong command line, 3 some files failed; each is named";

pub(super) fn run(command: &Command, context: &Context) -> Outcome {
    match command {
        Command::Ims(args) => ims::upload(args, context),
        Command::ImsJobStatus(args) => ims::set_job_status(args, context),
        Command::Artifactory(args) => artifactory::run(args, context),
    }
}

/// How much is to be said, where the command has an option of its own for that.
pub(super) fn verbosity(command: &Command, config: &Config) -> u8 {
    match command {
        Command::Ims(args) => args.service.verbosity(config),
        Command::ImsJobStatus(args) => args.service.verbosity(config),
        Command::Artifactory(_) => 0,
    }
}

/// Lets options stand before the names of the commands for IMS, as the old helper had them. `commands` are the names of
/// all commands.
pub(super) fn names_first(mut args: Vec<OsString>, commands: &[String]) -> Vec<OsString> {
    let place = |names: &[&str], from: usize| {
        args.iter().skip(from).position(|arg| names.iter().any(|name| arg == name)).map(|at| at + from)
    };
    let is_option = |at: usize| args.get(at).is_some_and(|arg| arg.as_encoded_bytes().starts_with(b"-"));
    let all: Vec<&str> = commands.iter().map(String::as_str).collect();
    // Behind another command's name it is an argument of that one.
    let Some(group) = place(&all, 1).filter(|at| args[*at] == "publish" && (*at == 1 || is_option(1))) else {
        return args;
    };
    let name = place(&["artifactory", "ims", "ims-job-status"], group + 1);
    if let Some(name) = name.filter(|at| args[*at] != "artifactory" && (*at == group + 1 || is_option(group + 1))) {
        let name = args.remove(name);
        let group = args.remove(group);
        args.splice(1..1, [group, name]);
    }
    args
}

/// Says on stdout, too, that a command line makes no sense, for those who read the one JSON object of `publish ims`; whether it did.
pub(super) fn tell_usage(args: &[OsString], error: &clap::Error, ui: &Ui) -> bool {
    let is_ims = args.iter().any(|arg| arg == "publish")
        && args.iter().any(|arg| arg == "ims" || arg == "ims-job-status")
        && error.use_stderr();
    if is_ims {
        let document = serde_json::json!({ "error": refusal(error), "result": "failure" });
        // When stdout is gone there is nobody to tell.
        let _ = ui.data(String::from_utf8_lossy(&pretty(&document)));
    }
    is_ims
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_commands_come_first_wherever_the_options_stand() {
        for (given, expected) in [
            ("h publish ims n -r f", "h publish ims n -r f"),
            ("h publish --ims-url u ims n", "h publish ims --ims-url u n"),
            ("h --quiet publish --ims-url u ims-job-status j s", "h publish ims-job-status --quiet --ims-url u j s"),
            ("h --json publish artifactory ims", "h --json publish artifactory ims"),
            ("h build publish ims", "h build publish ims"),
            ("h -q build publish ims", "h -q build publish ims"),
            ("h publish -q artifactory ims --repo r", "h publish -q artifactory ims --repo r"),
            ("h", "h"),
        ] {
            let words = given.split(' ').map(OsString::from).collect();
            let commands = ["build", "publish"].map(str::to_owned);
            assert_eq!(
                names_first(words, &commands),
                expected.split(' ').map(OsString::from).collect::<Vec<_>>(),
                "{given}"
            );
        }
    }
}
