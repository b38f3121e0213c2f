//! Logins: tried at the registry, written where podman and docker look for them, and taken out again.
//!
//! A file is what [`auth`] reads. All else that is in it stays: other registries, helpers, keys that are not ours.

use std::io::Write;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::StatusCode;
use reqwest::header::AUTHORIZATION;
use serde_json::{Map, Value, json};

use crate::fs::{self, AtomicFile, PathContext};
use crate::http;
use crate::registry::auth::credential_helper;
use crate::registry::auth::files;
use crate::registry::auth::token::Scope;
use crate::registry::auth::{self, Login};
use crate::registry::client::{Error, Registry};

/// Where a login is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// In the file itself.
    File,
    /// By a program that the file names, `docker-credential-NAME`.
    Helper(String),
}

impl Registry {
    /// Whether it takes the login that it was [connected](Registry::connect) with. `false` when nobody can tell: it lets everybody
    /// in and does not look. What it refuses is [`Error::WrongLogin`].
    pub async fn takes_login(&self) -> Result<bool, Error> {
        let login = self.0.auth.login(&self.0.host, "")?;
        let Login::Basic { user, password } = &login else { return Ok(false) };
        let wrong = || Error::WrongLogin { host: self.0.host.clone(), user: user.clone() };
        let request = || self.0.http.get(&self.0.base);
        let is_open = self.0.http.send(request()).await?.status() != StatusCode::UNAUTHORIZED;
        if is_open {
            // Who lets everybody read may still look at what it is told.
            let authorization = format!("Basic {}", encoded(user, password));
            let told = request().header(AUTHORIZATION, http::sensitive(&authorization));
            return match self.0.http.send(told).await?.status() {
                StatusCode::UNAUTHORIZED => Err(wrong()),
                _ => Ok(false),
            };
        }
        let scope = Scope { repository: "", actions: "", from: None };
        let response = self.send(&scope, request).await.map_err(|error| match error {
            Error::Unauthorized(_) => wrong(),
            other => other,
        })?;
        match response.status() {
            StatusCode::OK => Ok(true),
            _ => Err(http::Error::status(response).await.into()),
        }
    }
}

/// Writes a login for `HOST[:PORT][/NAMESPACE]` into a file, which is made with its directory where there is none, or gives it
/// to the helper that the file names for it. Only this user may read the file afterwards.
pub fn keep(path: &Path, place: &str, user: &str, password: &str) -> Result<Kept, auth::Error> {
    let mut file = read(path)?;
    if let Some(name) = helper_for(&file, place) {
        let told = json!({ "ServerURL": place, "Username": user, "Secret": password });
        credential_helper::tell(&name, "store", place, told.to_string().as_bytes())?;
        return Ok(Kept::Helper(name));
    }
    let auths = file.entry("auths").or_insert_with(|| json!({}));
    let Some(auths) = auths.as_object_mut() else { return Err(not_credentials(path)) };
    auths.insert(place.to_owned(), json!({ "auth": encoded(user, password) }));
    write(path, &file)?;
    Ok(Kept::File)
}

/// Takes a login out of a file, or tells the helper that the file names for it. `false` when there is none.
pub fn forget(path: &Path, place: &str) -> Result<bool, auth::Error> {
    if !path.exists() {
        return Ok(false);
    }
    let mut file = read(path)?;
    let name = helper_for(&file, place);
    let by_helper = name.map(|name| credential_helper::erase(&name, place)).transpose();
    let auths = file.get_mut("auths").and_then(Value::as_object_mut);
    let by_file = auths.and_then(|auths| auths.remove(place)).is_some();
    if by_file {
        write(path, &file)?;
    }
    Ok(by_helper?.unwrap_or(false) || by_file)
}

/// The helper that a file names for a registry, or for all.
fn helper_for(file: &Map<String, Value>, place: &str) -> Option<String> {
    let own = file.get("credHelpers").and_then(|helpers| helpers.get(place));
    let name = own.or_else(|| file.get("credsStore"))?.as_str()?;
    (!name.is_empty()).then(|| name.to_owned())
}

fn read(path: &Path) -> Result<Map<String, Value>, auth::Error> {
    if !path.exists() {
        return Ok(Map::new());
    }
    let bytes = fs::read(path, files::FILE_LIMIT)?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    serde_json::from_slice(&bytes).map_err(|source| auth::Error::Parse { path: path.to_owned(), source })
}

fn write(path: &Path, file: &Map<String, Value>) -> Result<(), auth::Error> {
    let parent = fs::parent(path);
    if !parent.exists() {
        fs::create_dir_all(parent)?;
    }
    let mut text = serde_json::to_string_pretty(file).expect("names and values are text");
    text.push('\n');
    let mut new = AtomicFile::create_private(path)?;
    new.write_all(text.as_bytes()).at("write", path)?;
    Ok(new.finish()?)
}

fn not_credentials(path: &Path) -> auth::Error {
    let source = <serde_json::Error as serde::de::Error>::custom("`auths` is not an object");
    auth::Error::Parse { path: path.to_owned(), source }
}

fn encoded(user: &str, password: &str) -> String {
    STANDARD.encode(format!("{user}:{password}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::registry::AuthFiles;

    #[test]
    fn a_login_is_found_afterwards_and_all_else_in_the_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/auth.json");
        assert_eq!(keep(&path, "reg:5000", "a", "b:c").unwrap(), Kept::File);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let files = AuthFiles { paths: vec![path.clone()], ..AuthFiles::default() };
        let basic = |user: &str, password: &str| Login::Basic { user: user.into(), password: password.into() };
        assert_eq!(files.login("reg:5000", "x").unwrap(), basic("a", "b:c"));

        let others = r#"{ "auths": { "o.io": { "auth": "YTpi", "email": "x" } }, "psFormat": "y" }"#;
        fs::write(&path, others.as_bytes()).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        keep(&path, "reg:5000/team", "d", "e").unwrap();
        keep(&path, "reg:5000/team", "d", "f").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(files.login("reg:5000", "team/x").unwrap(), basic("d", "f"));
        assert_eq!(files.login("reg:5000", "x").unwrap(), Login::Anonymous);
        assert!(forget(&path, "reg:5000/team").unwrap());
        assert!(!forget(&path, "reg:5000/team").unwrap());
        let left: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(left, serde_json::from_str::<Value>(others).unwrap());
        assert!(!forget(&dir.path().join("missing.json"), "o.io").unwrap());
    }

    #[test]
    fn what_is_no_file_of_credentials_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("auth.json");
        for text in ["7", "{", r#"{ "auths": [] }"#] {
            fs::write(&path, text.as_bytes()).unwrap();
            let error = keep(&path, "r.io", "a", "b").unwrap_err();
            assert_eq!(error.to_string(), format!("{}: not a file of credentials", path.display()));
            assert_eq!(std::fs::read(&path).unwrap(), text.as_bytes());
        }
        fs::write(&path, br#"{ "credHelpers": { "r.io": "haversack-has-none" } }"#).unwrap();
        let error = keep(&path, "r.io", "a", "b").unwrap_err().to_string();
        assert_eq!(error, "the credential helper `docker-credential-haversack-has-none` failed to store for r.io");
    }
}
