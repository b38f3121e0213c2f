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
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};

use crate::causes;
use crate::fs;
use crate::registry::auth::credential_helper::{helper, is_not_installed};
use crate::registry::auth::login::{Error, Login};

/// Where credentials are looked for, in this order. Files that are not there are passed over.
#[derive(Clone, Debug, Default)]
pub struct AuthFiles {
    /// The files.
    pub paths: Vec<PathBuf>,
    /// Whether somebody named them, so that they should be there.
    pub is_named: bool,
    /// A login that is known without them, for whichever registry.
    pub given: Option<Login>,
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
            if let Some(name) = aliases(registry).iter().find_map(|alias| file.cred_helpers.get(alias)) {
                return Ok(match helper(name, registry) {
                    Ok(Login::Anonymous) => None,
                    Ok(login) => Some((login, by_helper(name))),
                    // Public images are there without it.
                    Err(error) if is_not_installed(&error) => {
                        tracing::warn!("{}: {}", path.display(), causes::line(&error));
                        None
                    }
                    Err(error) => return Err(error),
                });
            }
            for (key, entry) in entries(&file.auths, registry, repository) {
                // With a helper, docker leaves an empty entry in its place.
                if let Some(token) = entry.identitytoken.as_ref().filter(|token| !token.is_empty()) {
                    return Ok(Some((Login::Identity(token.clone()), place)));
                }
                if let Some(auth) = entry.auth.as_ref().filter(|auth| !auth.is_empty()) {
                    let login = decode(auth).ok_or_else(|| Error::Entry { path: path.clone(), key: key.to_owned() })?;
                    return Ok(Some((login, place)));
                }
                if let (Some(user), Some(password)) = (&entry.username, &entry.password) {
                    return Ok(Some((Login::Basic { user: user.clone(), password: password.clone() }, place)));
                }
            }
            if let Some(name) = file.creds_store.as_ref().filter(|name| !name.is_empty()) {
                // A store is asked about every registry, and need not know them all.
                match helper(name, registry) {
                    Ok(Login::Anonymous) => {}
                    Err(error) => tracing::warn!("{}: {}", path.display(), causes::line(&error)),
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
    let has_some = |entry: &Entry| {
        [&entry.auth, &entry.identitytoken, &entry.password].into_iter().flatten().any(|it| !it.is_empty())
    };
    let is_kept = |entry: &Option<Entry>| entry.as_ref().is_some_and(has_some);
    let places = file.auths.into_iter().filter(|(_, entry)| is_kept(entry)).map(|(place, _)| place).collect();
    Ok(Contents { places, helpers: file.cred_helpers, store: file.creds_store.filter(|name| !name.is_empty()) })
}

/// A file of credentials. Some programs write `null` for what is not there.
#[derive(Deserialize)]
struct File {
    #[serde(default, deserialize_with = "null_is_none")]
    auths: BTreeMap<String, Option<Entry>>,
    #[serde(default, rename = "credHelpers", deserialize_with = "null_is_none")]
    cred_helpers: BTreeMap<String, String>,
    #[serde(default, rename = "credsStore")]
    creds_store: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    auth: Option<String>,
    identitytoken: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

fn null_is_none<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The entries for a repository, the most specific first: as they are named today, then as programs used to name them, with a
/// scheme, a path of the protocol or a slash at the end.
fn entries<'a>(
    auths: &'a BTreeMap<String, Option<Entry>>,
    registry: &str,
    repository: &str,
) -> Vec<(&'a str, &'a Entry)> {
    let parts: Vec<&str> = repository.split('/').collect();
    let prefixes = (1..=parts.len()).rev().map(|n| format!("/{}", parts[..n].join("/")));
    let mut found = Vec::new();
    for prefix in prefixes.chain([String::new()]) {
        for alias in aliases(registry) {
            let wanted = format!("{alias}{prefix}");
            let (exact, old): (Vec<_>, Vec<_>) =
                auths.iter().filter(|(key, _)| plain(key) == wanted).partition(|(key, _)| **key == wanted);
            found.extend(exact.into_iter().chain(old).filter_map(|(key, entry)| Some((key.as_str(), entry.as_ref()?))));
        }
    }
    found
}

/// A key without what older programs put around the host: `https://index.docker.io/v1/` is `index.docker.io`.
fn plain(key: &str) -> &str {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key)
}

/// What a registry is called in files of credentials. Docker's hub has three names.
fn aliases(registry: &str) -> Vec<String> {
    const HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];
    let names = if HUB.contains(&registry) { HUB.to_vec() } else { vec![registry] };
    // Helpers are named for the first of these, too.
    let hub = HUB.contains(&registry).then(|| "https://index.docker.io/v1/".to_owned());
    names.into_iter().map(str::to_owned).chain(hub).collect()
}

fn decode(auth: &str) -> Option<Login> {
    let text = String::from_utf8(STANDARD.decode(auth.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some(Login::Basic { user: user.to_owned(), password: password.trim_end_matches('\0').to_owned() })
}

/// Size of a file with credentials, in bytes.
pub(super) const FILE_LIMIT: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn files(dir: &tempfile::TempDir, text: &str) -> AuthFiles {
        let path = dir.path().join("auth.json");
        fs::write(&path, text.as_bytes()).unwrap();
        AuthFiles { paths: vec![dir.path().join("missing.json"), path], ..AuthFiles::default() }
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

    /// Docker's hub by its names, keys as older programs wrote them, entries without `auth`, `null`s.
    #[test]
    fn entries_are_found_as_programs_write_them() {
        let dir = tempfile::tempdir().unwrap();
        let entry = format!(r#"{{ "auth": "{}" }}"#, STANDARD.encode("a:1"));
        let keyed = |key: &str| format!(r#"{{ "auths": {{ "{key}": {entry} }} }}"#);
        let plain = r#"{ "auths": { "reg:5000": { "username": "a", "password": "1" } } }"#.to_owned();
        for (registry, text, is_found) in [
            ("docker.io", keyed("https://index.docker.io/v1/"), true),
            ("docker.io", keyed("index.docker.io"), true),
            ("docker.io", keyed("registry-1.docker.io"), true),
            ("docker.io", keyed("docker.io"), true),
            ("registry-1.docker.io", keyed("https://index.docker.io/v1/"), true),
            ("reg:5000", keyed("https://reg:5000"), true),
            ("reg:5000", keyed("http://reg:5000/"), true),
            ("reg:5000", keyed("reg:5000/"), true),
            ("reg:5000", keyed("https://reg:5000/v2/"), true),
            ("reg:5000", keyed("https://reg:5000/team/"), true),
            ("reg:5000", keyed("reg:5000/other"), false),
            ("reg:5000", keyed("index.docker.io"), false),
            ("reg:5000", plain, true),
            ("reg:5000", r#"{ "auths": null, "credHelpers": null, "credsStore": null }"#.to_owned(), false),
            ("reg:5000", r#"{ "auths": { "reg:5000": null } }"#.to_owned(), false),
            ("reg:5000", r#"{ "auths": { "reg:5000": { "auth": null } } }"#.to_owned(), false),
        ] {
            let expected = match is_found {
                true => Login::Basic { user: "a".into(), password: "1".into() },
                false => Login::Anonymous,
            };
            assert_eq!(files(&dir, &text).login(registry, "team/x").unwrap(), expected, "{registry}: {text}");
        }
    }

    #[test]
    fn a_helper_that_is_not_installed_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"{ "credHelpers": { "a.b": "haversack-has-none" }, "credsStore": "haversack-has-none" }"#;
        for registry in ["a.b", "c.d"] {
            assert_eq!(files(&dir, text).login(registry, "x").unwrap(), Login::Anonymous);
        }
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
        ] {
            assert_eq!(files(&dir, text).login("a.b", "x").unwrap_err().to_string(), expected);
        }
    }
}
