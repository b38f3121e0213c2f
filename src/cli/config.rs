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

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{ArgAction, Command};

use crate::fs;

/// What was found outside the command line.
#[derive(Debug, Default)]
pub(crate) struct Config {
    environment: BTreeMap<String, OsString>,
    file: toml::Table,
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
    #[error("SOURCE_DATE_EPOCH: `{0}` are no seconds since 1970")]
    SourceDateEpoch(String),
}

impl Config {
    /// Reads the environment and, where there is one, the file.
    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    pub(crate) fn load(command: &Command) -> Result<Self, Error> {
        let environment: BTreeMap<String, OsString> =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect();
        let mut config = Config { environment, file: toml::Table::new() };
        if let Some(path) = config.path() {
            let bytes = fs::read(&path, 1 << 20)?;
            config.file = toml::from_slice(&bytes)
                .map_err(|source| Error::Parse { path: path.clone(), source: Box::new(source) })?;
            if let Some(key) = unknown_key(command, &config.file, "") {
                return Err(Error::UnknownKey { path, key });
            }
        }
        Ok(config)
    }

    /// The value of an environment variable that is set and is UTF-8.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name)?.to_str()
    }

    /// Whether a variable is exactly `true`, as the old images' scripts asked.
    pub(crate) fn is_true(&self, name: &str) -> bool {
        self.variable(name) == Some("true")
    }

    /// `SOURCE_DATE_EPOCH` (reproducible-builds.org), in seconds since 1970: no time in what is built is later.
    pub(crate) fn source_date_epoch(&self) -> Result<Option<i64>, Error> {
        let Some(text) = self.variable("SOURCE_DATE_EPOCH").filter(|text| !text.is_empty()) else { return Ok(None) };
        // What a ustar header can hold, which is in the year 2242.
        let epoch = text.parse().ok().filter(|epoch| (0..=0o77_777_777_777).contains(epoch));
        epoch.map(Some).ok_or_else(|| Error::SourceDateEpoch(text.to_owned()))
    }

    /// Where podman and docker keep credentials, in the order in which podman looks for them.
    pub(crate) fn auth_files(&self) -> Vec<PathBuf> {
        let path = |name: &str| self.environment.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(file) = path("REGISTRY_AUTH_FILE") {
            return vec![file];
        }
        let home = path("HOME");
        let config = path("XDG_CONFIG_HOME").or_else(|| Some(home.as_ref()?.join(".config")));
        let docker = path("DOCKER_CONFIG").or_else(|| Some(home.as_ref()?.join(".docker")));
        let runtime = path("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json"));
        let files =
            [runtime, config.map(|dir| dir.join("containers/auth.json")), docker.map(|dir| dir.join("config.json"))];
        files.into_iter().flatten().collect()
    }

    /// Where what makes the next run faster is kept, `$XDG_CACHE_HOME/haversack`; it may be removed at any time.
    pub(crate) fn cache_dir(&self) -> Option<PathBuf> {
        let path = |name: &str| self.environment.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let cache = path("XDG_CACHE_HOME").or_else(|| Some(path("HOME")?.join(".cache")))?;
        Some(cache.join("haversack"))
    }

    /// Where podman and docker keep the certificates of hosts.
    pub(crate) fn cert_dirs(&self) -> Vec<PathBuf> {
        let home = self.environment.get("HOME").filter(|home| !home.is_empty());
        let user = home.map(|home| Path::new(home).join(".config/containers/certs.d"));
        user.into_iter().chain(["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from)).collect()
    }

    /// Puts the defaults into the commands' options.
    pub(crate) fn apply(&self, command: Command) -> Command {
        self.apply_at(command, &self.file)
    }

    fn apply_at(&self, command: Command, table: &toml::Table) -> Command {
        let command = command.mut_args(|arg| {
            let Some(long) = arg.get_long() else { return arg };
            let from_environment = || {
                let name = format!("HAVERSACK_{}", long.to_uppercase().replace('-', "_"));
                self.environment.get(&name).filter(|value| !value.is_empty()).map(|value| vec![value.clone()])
            };
            match from_environment().or_else(|| table.get(long).map(strings)) {
                // A flag is set by what people write for yes.
                Some(values) if matches!(arg.get_action(), ArgAction::SetTrue) => {
                    let yes = values.iter().all(|value| value == "1" || value == "yes" || value == "true");
                    arg.default_value(if yes { "true" } else { "false" })
                }
                Some(values) => arg.default_values(values),
                None => arg,
            }
        });
        let empty = toml::Table::new();
        command.mut_subcommands(|sub| {
            let table = table.get(sub.get_name()).and_then(toml::Value::as_table).unwrap_or(&empty);
            self.apply_at(sub, table)
        })
    }

    fn path(&self) -> Option<PathBuf> {
        if let Some(path) = self.environment.get("HAVERSACK_CONFIG") {
            return Some(path.into());
        }
        let home = || Some(Path::new(self.environment.get("HOME")?).join(".config"));
        let user = self.environment.get("XDG_CONFIG_HOME").map(PathBuf::from).or_else(home);
        [Some(PathBuf::from(FILE)), user.map(|dir| dir.join("haversack").join(FILE))]
            .into_iter()
            .flatten()
            .find(|path| path.is_file())
    }
}

fn strings(value: &toml::Value) -> Vec<OsString> {
    match value {
        toml::Value::Array(values) => values.iter().flat_map(strings).collect(),
        toml::Value::String(text) => vec![text.into()],
        other => vec![other.to_string().into()],
    }
}

fn unknown_key(command: &Command, table: &toml::Table, prefix: &str) -> Option<String> {
    table.iter().find_map(|(key, value)| {
        let name = format!("{prefix}{key}");
        match value {
            toml::Value::Table(inner) => match command.find_subcommand(key) {
                Some(sub) => unknown_key(sub, inner, &format!("{name}.")),
                None => Some(name),
            },
            _ => command.get_arguments().all(|arg| arg.get_long() != Some(key)).then_some(name),
        }
    })
}

const FILE: &str = "haversack.toml";

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    fn command() -> Command {
        Command::new("haversack").subcommand(Command::new("sub").arg(Arg::new("page").long("page-size").num_args(1)))
    }

    fn page(config: &Config, args: &[&str]) -> Option<String> {
        let matches = config.apply(command()).get_matches_from([&["haversack", "sub"], args].concat());
        matches.subcommand().unwrap().1.get_one::<String>("page").cloned()
    }

    #[test]
    fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
        let mut config = Config::default();
        assert_eq!(page(&config, &[]), None);
        config.file = toml::from_str("[sub]\npage-size = 1").unwrap();
        assert_eq!(page(&config, &[]).as_deref(), Some("1"));
        config.environment.insert("HAVERSACK_PAGE_SIZE".into(), "2".into());
        assert_eq!(page(&config, &[]).as_deref(), Some("2"));
        assert_eq!(page(&config, &["--page-size", "3"]).as_deref(), Some("3"));
    }

    #[test]
    fn the_source_date_is_seconds_or_an_error() {
        let mut config = Config::default();
        assert_eq!(config.source_date_epoch().unwrap(), None);
        for (text, epoch) in
            [("", Ok(None)), ("1700000000", Ok(Some(1_700_000_000))), ("-1", Err(())), ("now", Err(()))]
        {
            config.environment.insert("SOURCE_DATE_EPOCH".into(), text.into());
            assert_eq!(config.source_date_epoch().map_err(drop), epoch, "{text}");
        }
    }

    #[test]
    fn unknown_keys_of_the_file_are_named() {
        for (file, key) in [
            ("[sub]\npage-size = 1", None),
            ("[sub]\npagesize = 1", Some("sub.pagesize")),
            ("[sup]\npage-size = 1", Some("sup")),
            ("page-size = 1", Some("page-size")),
        ] {
            assert_eq!(unknown_key(&command(), &toml::from_str(file).unwrap(), "").as_deref(), key, "{file}");
        }
    }
}
