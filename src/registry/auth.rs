//! Credentials, from the files that podman and docker keep them in.
//!
//! ```json
//! { "auths": { "quay.io/team": { "auth": "base64 of USER:PASSWORD" }, "quay.io": { "identitytoken": "…" } },
//!   "credHelpers": { "quay.io": "NAME" }, "credsStore": "NAME" }
//! ```
//!
//! The longest prefix of `HOST/REPOSITORY` counts, as in containers-auth.json(5). A helper is the program
//! `docker-credential-NAME`, asked with the host on its standard input.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::fs::{self, PathError};

/// Where credentials are looked for, in this order. Files that are not there are passed over.
#[derive(Clone, Debug, Default)]
pub struct AuthFiles {
    /// The files.
    pub paths: Vec<PathBuf>,
    /// A login that is known without them, for whichever registry.
    pub given: Option<Login>,
}

/// How to introduce oneself. Its debug form holds no secret.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// Not at all.
    Anonymous,
    /// With a password.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// With a token that others are given for.
    Identity(String),
}

/// Why credentials cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that cannot be read.
    #[error("{0}")]
    Read(#[from] PathError),
    /// A file that is something else.
    #[error("{}: not a file of credentials", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// An entry that cannot be decoded.
    #[error("{}: the entry for `{key}` is not base64 of USER:PASSWORD", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// Which entry.
        key: String,
    },
    /// A helper that does not answer.
    #[error("the credential helper `{program}` gave no credentials for {registry}")]
    Helper {
        /// The program.
        program: String,
        /// For which registry.
        registry: String,
        /// What happened.
        source: io::Error,
    },
    /// A helper that keeps credentials does not do what it is told.
    #[error("the credential helper `{program}` failed to {verb} for {registry}")]
    Told {
        /// The program.
        program: String,
        /// What it was told: `store` or `erase`.
        verb: &'static str,
        /// For which registry.
        registry: String,
        /// What happened.
        source: io::Error,
    },
}

impl AuthFiles {
    /// The credentials for a repository; those of the first file that has any.
    pub fn login(&self, registry: &str, repository: &str) -> Result<Login, Error> {
        Ok(self.find(registry, repository)?.map_or(Login::Anonymous, |(login, _)| login))
    }

    /// The credentials for a repository, and where they are: the file, and the helper that it names.
    pub fn find(&self, registry: &str, repository: &str) -> Result<Option<(Login, String)>, Error> {
        if let Some(login) = &self.given {
            return Ok(Some((login.clone(), "given".to_owned())));
        }
        for path in &self.paths {
            if !path.exists() {
                continue;
            }
            let place = path.display().to_string();
            let by_helper = |name: &str| format!("{place}, docker-credential-{name}");
            let bytes = fs::read(path, FILE_LIMIT)?;
            if bytes.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let file: File =
                serde_json::from_slice(&bytes).map_err(|source| Error::Parse { path: path.clone(), source })?;
            if let Some(name) = file.cred_helpers.get(registry) {
                return Ok(match helper(name, registry)? {
                    Login::Anonymous => None,
                    login => Some((login, by_helper(name))),
                });
            }
            for key in keys(registry, repository) {
                let Some(entry) = file.auths.get(&key) else { continue };
                // With a helper, docker leaves an empty entry in its place.
                if let Some(token) = entry.identitytoken.as_ref().filter(|token| !token.is_empty()) {
                    return Ok(Some((Login::Identity(token.clone()), place)));
                }
                if let Some(auth) = entry.auth.as_ref().filter(|auth| !auth.is_empty()) {
                    let login = decode(auth).ok_or_else(|| Error::Entry { path: path.clone(), key })?;
                    return Ok(Some((login, place)));
                }
            }
            if let Some(name) = file.creds_store.as_ref().filter(|name| !name.is_empty()) {
                // A store is asked about every registry, and need not know them all.
                match helper(name, registry) {
                    Ok(Login::Anonymous) | Err(_) => {}
                    Ok(login) => return Ok(Some((login, by_helper(name)))),
                }
            }
        }
        Ok(None)
    }
}

/// For whom a file has credentials, without them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// `HOST[/NAMESPACE]` of those that are in it.
    pub places: Vec<String>,
    /// The helper of each registry that has one.
    pub helpers: BTreeMap<String, String>,
    /// The helper of all others.
    pub store: Option<String>,
}

/// Reads for whom a file has credentials.
pub fn contents(path: &std::path::Path) -> Result<Contents, Error> {
    let bytes = fs::read(path, FILE_LIMIT)?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Contents::default());
    }
    let file: File = serde_json::from_slice(&bytes).map_err(|source| Error::Parse { path: path.to_owned(), source })?;
    let has_some = |entry: &Entry| [&entry.auth, &entry.identitytoken].into_iter().flatten().any(|it| !it.is_empty());
    let places = file.auths.into_iter().filter(|(_, entry)| has_some(entry)).map(|(place, _)| place).collect();
    Ok(Contents { places, helpers: file.cred_helpers, store: file.creds_store.filter(|name| !name.is_empty()) })
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Login::Anonymous => f.write_str("Anonymous"),
            Login::Basic { user, .. } => write!(f, "Basic({user})"),
            Login::Identity(_) => f.write_str("Identity"),
        }
    }
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default, rename = "credHelpers")]
    cred_helpers: BTreeMap<String, String>,
    #[serde(default, rename = "credsStore")]
    creds_store: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    auth: Option<String>,
    identitytoken: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Username")]
    user: String,
    #[serde(rename = "Secret")]
    secret: String,
}

/// The names an entry may have, the most specific first; then those that docker used to write.
fn keys(registry: &str, repository: &str) -> Vec<String> {
    let parts: Vec<&str> = repository.split('/').collect();
    let prefixes = (1..=parts.len()).rev().map(|n| format!("{registry}/{}", parts[..n].join("/")));
    let hub = (registry == "docker.io").then(|| "https://index.docker.io/v1/".to_owned());
    let old = [format!("https://{registry}"), format!("https://{registry}/v2/"), format!("https://{registry}/v1/")];
    prefixes.chain([registry.to_owned()]).chain(hub).chain(old).collect()
}

fn decode(auth: &str) -> Option<Login> {
    let text = String::from_utf8(STANDARD.decode(auth.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some(Login::Basic { user: user.to_owned(), password: password.trim_end_matches('\0').to_owned() })
}

fn helper(name: &str, registry: &str) -> Result<Login, Error> {
    let program = format!("docker-credential-{name}");
    let failed = |source| Error::Helper { program: program.clone(), registry: registry.to_owned(), source };
    let output = run(&program, "get", registry.as_bytes()).map_err(failed)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if said.contains("not found") {
            return Ok(Login::Anonymous);
        }
        return Err(failed(io::Error::other(said)));
    }
    let answer: Answer = serde_json::from_slice(&output.stdout).map_err(|error| failed(error.into()))?;
    Ok(match answer.user.as_str() {
        "<token>" => Login::Identity(answer.secret),
        _ => Login::Basic { user: answer.user, password: answer.secret },
    })
}

/// Tells a helper to store or to erase credentials, in the words of its protocol.
pub(super) fn tell_helper(name: &str, verb: &'static str, registry: &str, input: &[u8]) -> Result<(), Error> {
    let program = format!("docker-credential-{name}");
    let failed = |source| Error::Told { program: program.clone(), verb, registry: registry.to_owned(), source };
    let output = run(&program, verb, input).map_err(failed)?;
    match output.status.success() {
        true => Ok(()),
        false => Err(failed(io::Error::other(String::from_utf8_lossy(&output.stdout).trim().to_owned()))),
    }
}

fn run(program: &str, verb: &str, input: &[u8]) -> io::Result<Output> {
    let mut child =
        Command::new(program).arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    // A helper that does not read its input answers all the same.
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(input);
    }
    child.wait_with_output()
}

/// Size of a file with credentials, in bytes.
pub(super) const FILE_LIMIT: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn files(dir: &tempfile::TempDir, text: &str) -> AuthFiles {
        let path = dir.path().join("auth.json");
        fs::write(&path, text.as_bytes()).unwrap();
        AuthFiles { paths: vec![dir.path().join("missing.json"), path], given: None }
    }

    #[test]
    fn the_longest_prefix_counts_and_what_is_not_listed_is_anonymous() {
        let dir = tempfile::tempdir().unwrap();
        let entry = |text: &str| format!(r#"{{ "auth": "{}" }}"#, STANDARD.encode(text));
        let text = format!(
            r#"{{ "auths": {{ "quay.io": {}, "quay.io/team": {}, "quay.io/team/app": {}, "reg:5000": {{ "identitytoken": "t" }},
                 "empty.io": {{}} }} }}"#,
            entry("a:1"),
            entry("b:2:3"),
            entry("c:4"),
        );
        let files = files(&dir, &text);
        let basic = |user: &str, password: &str| Login::Basic { user: user.into(), password: password.into() };
        for (registry, repository, login) in [
            ("quay.io", "other/app", basic("a", "1")),
            ("quay.io", "team/x", basic("b", "2:3")),
            ("quay.io", "team/app", basic("c", "4")),
            ("quay.io", "teams/app", basic("a", "1")),
            ("reg:5000", "x", Login::Identity("t".into())),
            ("empty.io", "x", Login::Anonymous),
            ("reg", "x", Login::Anonymous),
        ] {
            assert_eq!(files.login(registry, repository).unwrap(), login, "{registry}/{repository}");
        }
        assert_eq!(format!("{:?}", basic("a", "secret")), "Basic(a)");
    }

    #[test]
    fn files_that_cannot_be_understood_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("auth.json").display().to_string();
        for (text, expected) in [
            ("7", format!("{path}: not a file of credentials")),
            (
                r#"{ "auths": { "a.b": { "auth": "%" } } }"#,
                format!("{path}: the entry for `a.b` is not base64 of USER:PASSWORD"),
            ),
            (
                r#"{ "credHelpers": { "a.b": "haversack-has-none" } }"#,
                "the credential helper `docker-credential-haversack-has-none` gave no credentials for a.b".to_owned(),
            ),
        ] {
            assert_eq!(files(&dir, text).login("a.b", "x").unwrap_err().to_string(), expected);
        }
    }
}
