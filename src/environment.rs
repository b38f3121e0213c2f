//! What the environment says, beside the defaults of our own options: where credentials, certificates, caches and state of this
//! user are, which proxies there are, and the time of reproducible builds.
//!
//! Names and order are those of the programs that came before: podman, docker, curl, the XDG Base Directory Specification.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// The variables of a process.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<String, OsString>);

/// `SOURCE_DATE_EPOCH` is not a time that a tar header can hold.
#[derive(Debug, thiserror::Error)]
#[error("SOURCE_DATE_EPOCH: `{0}` is not a number of seconds since 1970")]
pub struct EpochError(String);

impl Environment {
    /// The variables of this process whose names are UTF-8.
    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    pub fn of_process() -> Self {
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect()
    }

    /// The value of a variable that is set and not empty.
    pub fn set(&self, name: &str) -> Option<&OsString> {
        self.0.get(name).filter(|value| !value.is_empty())
    }

    /// The names of all variables.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    /// Where programs are looked for.
    pub fn path(&self) -> Option<&OsString> {
        self.0.get("PATH")
    }

    /// Variables of the environment that name proxies, with their values; as curl, in both cases.
    pub fn proxies(&self) -> Vec<(String, String)> {
        let is_proxy = |name: &str| {
            ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"].iter().any(|known| name.eq_ignore_ascii_case(known))
        };
        let set = self.0.iter().filter(|(name, value)| is_proxy(name) && !value.is_empty());
        set.map(|(name, value)| (name.clone(), value.to_string_lossy().into_owned())).collect()
    }

    /// The value of an environment variable that is set and is UTF-8.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.to_str()
    }

    /// The same without white space around it, where something is left.
    pub fn word(&self, name: &str) -> Option<&str> {
        self.variable(name).map(str::trim).filter(|value| !value.is_empty())
    }

    /// Whether a variable is exactly `true`, as the old images' scripts asked.
    pub fn is_true(&self, name: &str) -> bool {
        self.variable(name) == Some("true")
    }

    /// `SOURCE_DATE_EPOCH` (reproducible-builds.org), in seconds since 1970: no time in what is built is later.
    pub fn source_date_epoch(&self) -> Result<Option<i64>, EpochError> {
        let Some(text) = self.variable("SOURCE_DATE_EPOCH").filter(|text| !text.is_empty()) else { return Ok(None) };
        // What a ustar header can hold, which is in the year 2242.
        let epoch = text.parse().ok().filter(|epoch| (0..=0o77_777_777_777).contains(epoch));
        epoch.map(Some).ok_or_else(|| EpochError(text.to_owned()))
    }

    /// Where podman and docker keep credentials, in the order in which podman looks for them.
    pub fn auth_files(&self) -> Vec<PathBuf> {
        if let Some(file) = self.place("REGISTRY_AUTH_FILE") {
            return vec![file];
        }
        let home = self.place("HOME");
        let config = self.place("XDG_CONFIG_HOME").or_else(|| Some(home.as_ref()?.join(".config")));
        let docker = self.place("DOCKER_CONFIG").or_else(|| Some(home.as_ref()?.join(".docker")));
        // As podman has it where nobody logged in by a session of systemd: root, and containers.
        let user = rustix::process::getuid().as_raw();
        let runtime = self.place("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json"));
        let runtime = runtime.or_else(|| Some(format!("/run/containers/{user}/auth.json").into()));
        let files =
            [runtime, config.map(|dir| dir.join("containers/auth.json")), docker.map(|dir| dir.join("config.json"))];
        files.into_iter().flatten().collect()
    }

    /// Where what makes the next run faster is kept, `$XDG_CACHE_HOME/haversack`; it may be removed at any time.
    pub fn cache_dir(&self) -> Option<PathBuf> {
        let cache = self.place("XDG_CACHE_HOME").or_else(|| Some(self.place("HOME")?.join(".cache")))?;
        Some(cache.join("haversack"))
    }

    /// Where what must not be lost is kept, `$XDG_STATE_HOME/haversack` (XDG Base Directory Specification).
    pub fn state_dir(&self) -> Option<PathBuf> {
        let state = self.place("XDG_STATE_HOME").or_else(|| Some(self.place("HOME")?.join(".local/state")))?;
        Some(state.join("haversack"))
    }

    /// Where podman and docker keep the certificates of hosts.
    pub fn cert_dirs(&self) -> Vec<PathBuf> {
        let home = self.place("HOME");
        let user = home.map(|home| home.join(".config/containers/certs.d"));
        user.into_iter().chain(["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from)).collect()
    }

    fn place(&self, name: &str) -> Option<PathBuf> {
        self.set(name).map(PathBuf::from)
    }
}

impl FromIterator<(String, OsString)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, OsString)>>(variables: I) -> Self {
        Environment(variables.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        variables.iter().map(|(name, value)| ((*name).to_owned(), value.into())).collect()
    }

    #[test]
    fn the_source_date_is_seconds_or_an_error() {
        assert_eq!(Environment::default().source_date_epoch().unwrap(), None);
        for (text, epoch) in
            [("", Ok(None)), ("1700000000", Ok(Some(1_700_000_000))), ("-1", Err(())), ("now", Err(()))]
        {
            let found = environment(&[("SOURCE_DATE_EPOCH", text)]).source_date_epoch();
            assert_eq!(found.map_err(drop), epoch, "{text}");
        }
    }

    #[test]
    fn an_empty_variable_counts_as_none() {
        let of = |cache: &str| environment(&[("HOME", "/h"), ("XDG_CACHE_HOME", cache)]).cache_dir();
        assert_eq!(of(""), Some("/h/.cache/haversack".into()));
        assert_eq!(of("/c"), Some("/c/haversack".into()));
        assert_eq!(environment(&[("HOME", "")]).state_dir(), None);
    }
}
