//! Logging in and out: what `haversack login` and `logout` do.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::ops::{Access, Error};
use crate::reference::{self, Remote, Target};
use crate::registry::AuthFiles;
use crate::registry::auth::Login;
use crate::registry::auth::logins::{self, Kept};

/// What a login is for: `HOST[:PORT]`, or `HOST[:PORT]/NAMESPACE` for a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginPlace {
    /// Host, and port where one is given.
    pub registry: String,
    /// The repository, or what its name starts with.
    pub namespace: Option<String>,
}

/// Who logs in where.
#[derive(Clone, Debug)]
pub struct LoginOptions {
    /// Where.
    pub place: LoginPlace,
    /// The user.
    pub user: String,
    /// The password or token.
    pub password: String,
    /// The file that it is kept in.
    pub file: PathBuf,
    /// How the registry is spoken to; its credentials play no part.
    pub access: Access,
}

/// A login that was kept.
#[derive(Debug, Serialize)]
pub struct LoggedIn {
    /// Where.
    pub registry: LoginPlace,
    /// The user.
    pub user: String,
    /// The file that names it.
    pub file: PathBuf,
    /// The program that keeps it instead of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub helper: Option<String>,
    /// Whether the registry looked at it; some let everybody in.
    pub checked: bool,
}

impl LoggedIn {
    /// What was kept where, in a line.
    pub fn to_text(&self) -> String {
        let kept = self.helper.clone().unwrap_or_else(|| self.file.display().to_string());
        format!("logged in to {} as {}; kept in {kept}\n", self.registry, self.user)
    }
}

impl LoggedOut {
    /// What was taken out of what, in a line.
    pub fn to_text(&self) -> String {
        format!("logged out of {}; taken out of {}\n", self.registry, self.file.display())
    }
}

/// A login that was taken out.
#[derive(Debug, Serialize)]
pub struct LoggedOut {
    /// Where.
    pub registry: LoginPlace,
    /// The file that had it.
    pub file: PathBuf,
    /// Where credentials for the registry are still found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remaining: Option<String>,
}

/// Tries a login at the registry, and keeps it when it is not refused. Nothing is written before.
pub async fn login(options: &LoginOptions) -> Result<LoggedIn, Error> {
    let LoginOptions { place, user, password, file, access } = options;
    let given = Some(Login::Basic { user: user.clone(), password: password.clone() });
    let access = Access { auth: AuthFiles { given, ..AuthFiles::default() }, ..access.clone() };
    let checked = access.registry(&place.registry).await?.takes_login().await?;
    let kept = logins::keep(file, &place.to_string(), user, password)?;
    let helper = match kept {
        Kept::File => None,
        Kept::Helper(name) => Some(format!("docker-credential-{name}")),
    };
    Ok(LoggedIn { registry: place.clone(), user: user.clone(), file: file.clone(), helper, checked })
}

/// Takes a login out of a file. `others` are all files that credentials are looked for in.
pub fn logout(place: &LoginPlace, file: &Path, others: &AuthFiles) -> Result<LoggedOut, Error> {
    let forgotten = logins::forget(file, &place.to_string())?;
    let found = others.find(&place.registry, place.namespace.as_deref().unwrap_or_default())?;
    let remaining = found.map(|(_, origin)| origin);
    match forgotten {
        true => Ok(LoggedOut { registry: place.clone(), file: file.to_owned(), remaining }),
        false => Err(Error::NotLoggedIn { place: Box::new(place.clone()), file: file.to_owned(), remaining }),
    }
}

impl FromStr for LoginPlace {
    type Err = reference::Error;

    /// Takes what people have at hand, too: an address with `https://` or `docker://` before it, a slash behind it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bare = ["docker://", "https://", "http://"].iter().find_map(|start| text.strip_prefix(start));
        let bare = bare.unwrap_or(text).trim_end_matches('/');
        let (host, namespace) = match bare.split_once('/') {
            Some((host, namespace)) => (host, Some(namespace)),
            None => (bare, None),
        };
        // The names of Docker's hub in its own files and documents.
        let host = if matches!(host, "index.docker.io" | "registry-1.docker.io") { "docker.io" } else { host };
        let remote: Remote = format!("{host}/{}", namespace.unwrap_or("x")).parse()?;
        match remote.target {
            Target::Unnamed => {
                Ok(LoginPlace { registry: remote.registry, namespace: namespace.map(|_| remote.repository) })
            }
            _ => Err(reference::Error::Repository(text.to_owned())),
        }
    }
}

impl fmt::Display for LoginPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.registry)?;
        self.namespace.as_ref().map_or(Ok(()), |namespace| write!(f, "/{namespace}"))
    }
}

impl Serialize for LoginPlace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_for_a_registry_is_understood() {
        for (text, place) in [
            ("quay.io", Ok("quay.io")),
            ("https://quay.io/", Ok("quay.io")),
            ("docker://quay.io/team", Ok("quay.io/team")),
            ("localhost:5000", Ok("localhost:5000")),
            ("index.docker.io", Ok("docker.io")),
            ("quay", Err(())),
            ("quay.io/Team", Err(())),
            ("quay.io/team/app:1", Err(())),
            ("", Err(())),
        ] {
            let parsed = text.parse::<LoginPlace>().map(|place| place.to_string()).map_err(drop);
            assert_eq!(parsed.as_deref(), place.as_deref(), "{text}");
        }
    }
}
