//! Defaults from the environment and from `haversack.toml`, read once, here.
//!
//! Every long option of every command can be given a default: `HAVERSACK_PAGE_SIZE=100` for `--page-size`, or in the
//! file under the command's name:
//!
//! ```toml
//! offline = true
//! [catalog.snapshot]
//! page-size = 100
//! api = "https://mirror.example/api/containers"
//! ```
//!
//! The command line wins over the environment, and the environment over the file. The file is `$HAVERSACK_CONFIG`, else
//! `./haversack.toml`, else `$XDG_CONFIG_HOME/haversack/haversack.toml` (`~/.config` without that variable).
//!
//! A `./haversack.toml` may have come with what was unpacked or checked out there. So it cannot set where credentials go and
//! come from, nor whom TLS and signatures trust ([`is_trust`]); it is not read when others may write to it; and what it sets is
//! said with `-v`. The other two files and the environment are the user's own.

mod example;
mod keys;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue};
use clap::{ArgAction, Command};
use serde::de;

use self::keys::{addresses_in, is_secret, keys, strings, unknown_key, variable_of};
use crate::environment::Environment;
use crate::fs;
use crate::limits;

pub(crate) use self::example::example;
pub(crate) use self::keys::is_trust;

/// What was found outside the command line.
#[derive(Debug, Default)]
pub(crate) struct Config {
    /// The environment.
    pub(crate) environment: Environment,
    file: toml::Table,
    /// Where `file` was read from.
    path: Option<PathBuf>,
    /// What there is to say about the file, once it is known how much is to be said.
    notes: Vec<(tracing::Level, String)>,
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    Read(#[from] fs::PathError),
    #[error("{}: not a valid configuration", path.display())]
    Parse { path: PathBuf, source: Box<toml::de::Error> },
    #[error("{}: no option or command of haversack is called `{key}`", path.display())]
    UnknownKey { path: PathBuf, key: String },
    #[error("{}: `{key}` cannot be set here: a file in the working directory may be somebody else's", path.display())]
    Trust { path: PathBuf, key: String },
    #[error("{origin}: `{value}` is not a valid value for --{option}{reason}")]
    Value { origin: String, option: String, value: String, reason: String },
}

/// What a user may do about an error, when it is one of the configuration.
pub(crate) fn hint(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let Some(Error::Trust { key, .. }) = error.downcast_ref() else { return None };
    let key = key.rsplit('.').next().unwrap_or(key);
    Some(format!(
        "set it in ~/.config/haversack/haversack.toml, in the file that HAVERSACK_CONFIG names, in the environment, or \
         with --{key}"
    ))
}

impl Config {
    /// A configuration of a file's text alone.
    #[cfg(test)]
    pub(crate) fn of_file(text: &str) -> Self {
        Config { file: toml::from_str(text).unwrap(), ..Config::default() }
    }

    /// Reads the environment and, where there is one, the file.
    pub(crate) fn load(command: &Command) -> Result<Self, Error> {
        let mut config = Config { environment: Environment::of_process(), ..Config::default() };
        if let Some(path) = config.find() {
            let bytes = fs::read(&path, 1 << 20)?;
            let invalid = |source| Error::Parse { path: path.clone(), source: Box::new(source) };
            limits::toml(&String::from_utf8_lossy(&bytes))
                .map_err(|exceeded| invalid(<toml::de::Error as de::Error>::custom(exceeded)))?;
            let file: toml::Table = toml::from_slice(&bytes).map_err(invalid)?;
            if let Some(key) = unknown_key(command, &file, "") {
                return Err(Error::UnknownKey { path, key });
            }
            let keys = keys(&file, "");
            if path == Path::new(FILE) {
                let is_trust = |key: &&String| is_trust(key.rsplit('.').next().unwrap_or(key));
                if let Some(key) = keys.iter().find(is_trust) {
                    return Err(Error::Trust { path, key: key.clone() });
                }
            }
            config.notes.push((tracing::Level::INFO, format!("{} sets {}", path.display(), keys.join(", "))));
            (config.file, config.path) = (file, Some(path));
        }
        Ok(config)
    }

    /// Says what the file sets, or why it was not read; when it is known where to.
    pub(crate) fn tell(&self) {
        for (level, note) in &self.notes {
            match *level {
                tracing::Level::WARN => tracing::warn!("{note}"),
                _ => tracing::info!("{note}"),
            }
        }
    }

    /// What is wrong with a value that clap refuses as that of an option, when it is not the command line that has it.
    pub(crate) fn blamed(&self, error: &clap::Error, args: &[OsString]) -> Option<Error> {
        let text = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => Some(text.clone()),
            _ => None,
        };
        let shown = text(ContextKind::InvalidArg)?;
        let option = shown.strip_prefix("--")?.split([' ', '=', '[']).next()?.to_owned();
        let flag = format!("--{option}");
        let is_given = |arg: &OsString| arg.to_string_lossy().split('=').next() == Some(&flag);
        if args.iter().any(is_given) {
            return None;
        }
        let variable = variable_of(&option);
        let origin = match self.environment.set(&variable) {
            Some(_) => variable,
            _ => {
                let key = keys(&self.file, "").into_iter().find(|key| key.rsplit('.').next() == Some(&option))?;
                format!("{}: {key}", self.path.as_ref()?.display())
            }
        };
        let reason = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
        Some(Error::Value { origin, option, value: text(ContextKind::InvalidValue).unwrap_or_default(), reason })
    }

    /// The file that was read.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The addresses that options of commands have without the command line: the command and the option, the address, and
    /// whether it is not just the default.
    pub(crate) fn addresses(&self, command: &Command) -> Vec<(String, url::Url, bool)> {
        let of = |command: &Command| {
            let mut found = Vec::new();
            addresses_in(command, "", &mut found);
            found
        };
        let defaults = of(command);
        let chosen = of(&self.apply(command.clone()));
        let is_chosen = |it: &(String, url::Url)| !defaults.contains(it);
        let marked = chosen.into_iter().map(|it| (is_chosen(&it), it));
        marked.map(|(is_chosen, (option, url))| (option, url, is_chosen)).collect()
    }

    /// What is set: by the file, and by variables of options that some command has. Secrets are not shown.
    pub(crate) fn settings(&self, command: &Command) -> Vec<Setting> {
        let shown = |option: &str, value: String| if is_secret(option) { "…".to_owned() } else { value };
        let path = self.path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        let by_file = keys(&self.file, "").into_iter().map(|key| {
            let value = key.split('.').try_fold(None, |table: Option<&toml::Value>, part| {
                Some(Some(table.map_or_else(|| self.file.get(part), |table| table.get(part))?))
            });
            let value = value.flatten().map(ToString::to_string).unwrap_or_default();
            let option = key.rsplit('.').next().unwrap_or(&key).to_owned();
            Setting { value: shown(&option, value), origin: path.clone(), key }
        });
        let mut options = BTreeMap::new();
        variables_of(command, &mut options);
        let by_variable = options.iter().filter_map(|(variable, option)| {
            let value = self.environment.set(variable)?;
            let value = shown(option, value.to_string_lossy().into_owned());
            Some(Setting { key: option.clone(), value, origin: variable.clone() })
        });
        by_file.chain(by_variable).collect()
    }

    /// Variables that look like ours and that nothing reads.
    pub(crate) fn unread(&self, command: &Command) -> Vec<String> {
        let mut options = BTreeMap::new();
        variables_of(command, &mut options);
        let ours = self.environment.names().filter(|name| name.starts_with("HAVERSACK_"));
        let is_known = |name: &String| options.contains_key(name) || OTHERS.contains(&name.as_str());
        ours.filter(|name| !is_known(name)).cloned().collect()
    }

    /// Puts the defaults into the commands' options.
    pub(crate) fn apply(&self, command: Command) -> Command {
        self.apply_at(command, &self.file)
    }

    fn apply_at(&self, command: Command, table: &toml::Table) -> Command {
        let command = command.mut_args(|arg| {
            let Some(long) = arg.get_long() else { return arg };
            let from_environment = || Some(vec![self.environment.set(&variable_of(long))?.clone()]);
            match from_environment().or_else(|| table.get(long).map(strings)) {
                // A flag is set by what people write for yes.
                Some(values) if matches!(arg.get_action(), ArgAction::SetTrue) => {
                    let yes = values.iter().all(|value| value == "1" || value == "yes" || value == "true");
                    arg.default_value(if yes { "true" } else { "false" })
                }
                // What has a default is there, which clap does not say of an option that it requires.
                Some(values) => arg.required(false).default_values(values),
                None => arg,
            }
        });
        let empty = toml::Table::new();
        command.mut_subcommands(|sub| {
            let table = table.get(sub.get_name()).and_then(toml::Value::as_table).unwrap_or(&empty);
            self.apply_at(sub, table)
        })
    }

    fn find(&mut self) -> Option<PathBuf> {
        let set = |name| self.environment.set(name).map(PathBuf::from);
        if let Some(path) = set("HAVERSACK_CONFIG") {
            return Some(path);
        }
        let user = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")));
        let here = PathBuf::from(FILE);
        match fs::is_writable_by_others(&here) {
            Ok(false) if here.is_file() => return Some(here),
            Ok(true) => {
                let note = format!("./{FILE} is not read: others than this user may write to it, or it is theirs");
                self.notes.push((tracing::Level::WARN, note));
            }
            // There is none.
            _ => {}
        }
        user.map(|dir| dir.join("haversack").join(FILE)).filter(|path| path.is_file())
    }
}

/// The variables of all options, with the options.
fn variables_of(command: &Command, found: &mut BTreeMap<String, String>) {
    let options = command.get_arguments().filter_map(clap::Arg::get_long);
    found.extend(options.map(|option| (variable_of(option), option.to_owned())));
    command.get_subcommands().for_each(|sub| variables_of(sub, found));
}

/// Something that is set outside the command line.
#[derive(Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Setting {
    /// The option, in the file with its command before it.
    pub(crate) key: String,
    /// Its value as it is written.
    pub(crate) value: String,
    /// The file or the variable.
    pub(crate) origin: String,
}

/// Variables of ours that are not those of options.
const OTHERS: [&str; 2] = ["HAVERSACK_CONFIG", "HAVERSACK_LOG"];

const FILE: &str = "haversack.toml";
