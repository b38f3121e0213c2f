//! Who may read and who may write.
//!
//! Users and the bcrypt hashes of their passwords are in a file of `htpasswd -B`, which is read again when it changes. A check
//! costs as much as the hash was made to cost, 60 ms and more, on purpose; so an answer is remembered for some minutes, or every
//! request of a pull would cost it. What was sent is not remembered, but a hash of it with a key of this process: nobody learns
//! from how long two of those are compared what would be right, and no password stays in memory. What fails is counted by address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine;
use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue, ORIGIN, RETRY_AFTER, WWW_AUTHENTICATE};
use sha2::Digest as _;

use crate::fs::{self, PathError};
use crate::serve::answer::Refusal;
use crate::serve::request::Request;
use crate::serve::stamp::Stamp;

/// Who may do what.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Users and their passwords' hashes. Without it everybody may do everything that the server does.
    pub htpasswd: Option<PathBuf>,
    /// Whether those who have not logged in may read.
    pub anonymous_pull: bool,
    /// Who may push and delete, and where; all users everywhere when it is empty.
    pub push: Vec<PushRule>,
    /// What this server is called by those who use it.
    pub names: Vec<String>,
    /// Whether it listens on the loopback interface only.
    pub is_loopback: bool,
}

/// `USER` or `USER=PREFIX,PREFIX`: who may push to which repositories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushRule {
    user: String,
    /// None is everywhere.
    prefixes: Vec<String>,
}

impl FromStr for PushRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (user, prefixes) = text.split_once('=').map_or((text, None), |(user, prefixes)| (user, Some(prefixes)));
        let prefixes: Vec<String> =
            prefixes.into_iter().flat_map(|it| it.split(',')).map(|it| it.trim_end_matches('/').to_owned()).collect();
        if user.is_empty() || prefixes.iter().any(|prefix| !crate::reference::is_repository(prefix)) {
            return Err("expected USER or USER=REPOSITORY,REPOSITORY".to_owned());
        }
        Ok(PushRule { user: user.to_owned(), prefixes })
    }
}

impl PushRule {
    fn allows(&self, user: &str, repository: &str) -> bool {
        let inside = |prefix: &String| {
            repository.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.user == user && (self.prefixes.is_empty() || self.prefixes.iter().any(inside))
    }
}

/// Why a file of users cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A line that is none.
    #[error("{}: line {line}: expected USER:HASH with a bcrypt hash, as `htpasswd -B` writes it", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
    /// The file.
    #[error("{0}")]
    Path(#[from] PathError),
}

/// Decides on requests.
pub(super) struct Guard {
    access: Access,
    users: Mutex<Users>,
    key: [u8; 32],
    /// Answers by the keyed hash of the header that was sent.
    known: Mutex<HashMap<Key, Known>>,
    failures: Mutex<HashMap<IpAddr, (Instant, u32)>>,
    /// Checks at one time: they are work for the processor. One answer is looked for in one place only, so that all connections
    /// of a client wait for one check, instead of making the same.
    places: Vec<tokio::sync::Mutex<()>>,
    /// How many were made.
    checks: AtomicU64,
}

/// What a check found.
#[derive(Clone)]
struct Known {
    user: Arc<str>,
    /// What it was checked against, and holds for.
    hash: Option<Arc<str>>,
    is_right: bool,
    since: Instant,
}

/// The keyed hash of a header.
type Key = [u8; 32];
/// Users and the hashes of their passwords.
type Hashes = HashMap<String, Arc<str>>;

#[derive(Default)]
struct Users {
    stamp: Option<Stamp>,
    hashes: Arc<Hashes>,
    /// When the file was last looked at.
    looked: Option<Instant>,
}

impl Guard {
    pub(super) fn new(access: Access) -> Result<Self, Error> {
        let mut key = [0_u8; 32];
        // Without random numbers nothing is remembered wrongly, but what is remembered could be looked for.
        let _ = rustix::rand::getrandom(&mut key, rustix::rand::GetRandomFlags::empty());
        let users = match &access.htpasswd {
            Some(path) => Users { stamp: Stamp::at(path), hashes: Arc::new(read(path)?), looked: None },
            None => Users::default(),
        };
        let places = std::thread::available_parallelism().map_or(2, |cores| cores.get().min(MOST_CHECKS));
        Ok(Guard {
            access,
            users: Mutex::new(users),
            key,
            known: Mutex::default(),
            failures: Mutex::default(),
            places: std::iter::repeat_with(tokio::sync::Mutex::default).take(places).collect(),
            checks: AtomicU64::new(0),
        })
    }

    /// How many passwords were compared with their hashes since the start.
    pub(super) fn checks(&self) -> u64 {
        self.checks.load(Ordering::Relaxed)
    }

    /// Lets a request through, or says why not. `writes` is the repository that it would write to.
    pub(super) async fn check(
        &self,
        request: &Request,
        client: IpAddr,
        writes: Option<&str>,
    ) -> Result<Option<String>, Refusal> {
        if writes.is_some() {
            self.same_site(request)?;
        }
        let Some(path) = &self.access.htpasswd else { return Ok(None) };
        // podman and skopeo that know no user send one without a name.
        let is_somebody = |header: &&HeaderValue| basic(header.as_bytes()).is_none_or(|(user, _)| !user.is_empty());
        let user = match request.headers.get(AUTHORIZATION).filter(is_somebody) {
            // Whoever says who he is is checked, for `login` asks whether he is.
            Some(header) => Some(self.login(path, header.as_bytes(), client).await?),
            None => None,
        };
        match (user, writes) {
            (None, None) if self.access.anonymous_pull => Ok(None),
            (None, _) => Err(unauthorized("log in to use this registry")),
            (Some(user), Some(repository)) => {
                let rules = &self.access.push;
                if rules.is_empty() || rules.iter().any(|rule| rule.allows(&user, repository)) {
                    return Ok(Some(user));
                }
                let words = format!("{user} may not push to or delete from {repository}");
                Err(Refusal::new(StatusCode::FORBIDDEN, "DENIED", words))
            }
            (user, None) => Ok(user),
        }
    }

    /// Refuses what a page of another site makes a browser send, with the password that the browser knows.
    fn same_site(&self, request: &Request) -> Result<(), Refusal> {
        let denied = |words: String| Err(Refusal::new(StatusCode::FORBIDDEN, "DENIED", words));
        if let Some(site) = request.header(FETCH_SITE).filter(|site| !matches!(*site, "same-origin" | "none")) {
            return denied(format!("a page of another site sent this ({site})"));
        }
        let host = request.header(HOST).unwrap_or_default();
        if let Some(origin) = request.header(ORIGIN)
            && origin.split_once("://").is_none_or(|(_, at)| !at.eq_ignore_ascii_case(host))
        {
            return denied("a page of another site sent this".to_owned());
        }
        // A name that somebody else's DNS leads to the loopback interface.
        let name = host.rsplit_once(':').map_or(host, |(name, port)| if port.ends_with(']') { host } else { name });
        let is_ours = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
            || name == "localhost"
            || name.ends_with(".localhost")
            || self.access.names.iter().any(|ours| ours == host || ours == name);
        if self.access.is_loopback && !is_ours {
            return denied(format!("this server is not called `{host}` (see --name)"));
        }
        Ok(())
    }

    async fn login(&self, path: &Path, header: &[u8], client: IpAddr) -> Result<String, Refusal> {
        let key: Key = sha2::Sha256::new().chain_update(self.key).chain_update(header).finalize().into();
        let known = match self.known(&key, path, LOOK) {
            Some(known) => known,
            None => self.verify(key, path, header, client).await?,
        };
        if known.is_right {
            return Ok(known.user.as_ref().to_owned());
        }
        self.failed(client);
        Err(unauthorized("the user is not known, or the password is wrong"))
    }

    /// The answer that is remembered, if it still holds; the file of users is not looked at more often than `every`.
    fn known(&self, key: &Key, path: &Path, every: Duration) -> Option<Known> {
        let known = self.known.lock().expect("no holder panics").get(key).cloned()?;
        let users = self.users(path, every);
        let holds = known.since.elapsed() < REMEMBERED && users.get(known.user.as_ref()) == known.hash.as_ref();
        holds.then_some(known)
    }

    /// Does the work that a check is, unless it was done while this waited for its turn, and remembers what it found.
    async fn verify(&self, key: Key, path: &Path, header: &[u8], client: IpAddr) -> Result<Known, Refusal> {
        let (user, password) = basic(header).ok_or_else(|| unauthorized("expected a user and a password (Basic)"))?;
        self.patience(client)?;
        let _place = self.places[usize::from(key[0]) % self.places.len()].lock().await;
        if let Some(known) = self.known(&key, path, LOOK) {
            return Ok(known);
        }
        // Those who guessed beside this one may have been told to wait meanwhile.
        self.patience(client)?;
        let hash = self.users(path, Duration::ZERO).get(&user).cloned();
        self.checks.fetch_add(1, Ordering::Relaxed);
        // As long for a user who is not there, so that nobody learns who is.
        let against = hash.clone().unwrap_or_else(|| NOBODY.into());
        let checked = tokio::task::spawn_blocking(move || bcrypt::verify(password, &against).unwrap_or(false));
        let is_right = checked.await.unwrap_or(false) && hash.is_some();
        let found = Known { user: user.into(), hash, is_right, since: Instant::now() };
        let mut known = self.known.lock().expect("no holder panics");
        if known.len() >= MOST {
            known.retain(|_, known| known.since.elapsed() < REMEMBERED);
        }
        if known.len() < MOST {
            known.insert(key, found.clone());
        }
        Ok(found)
    }

    /// Refuses those who guess.
    fn patience(&self, client: IpAddr) -> Result<(), Refusal> {
        let failures = self.failures.lock().expect("no holder panics");
        match failures.get(&client) {
            Some((since, n)) if *n >= GUESSES && since.elapsed() < PENALTY => {
                let words = "too many wrong passwords from this address; wait a minute";
                let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", words);
                Err(refusal.header(RETRY_AFTER, PENALTY.as_secs().to_string()))
            }
            _ => Ok(()),
        }
    }

    fn failed(&self, client: IpAddr) {
        let mut failures = self.failures.lock().expect("no holder panics");
        if failures.len() >= MOST {
            failures.retain(|_, (since, _)| since.elapsed() < PENALTY);
        }
        let (since, n) = failures.entry(client).or_insert((Instant::now(), 0));
        if since.elapsed() >= PENALTY {
            (*since, *n) = (Instant::now(), 0);
        }
        *n += 1;
    }

    /// The users, read again when the file has changed. It is not looked at more often than `every`.
    fn users(&self, path: &Path, every: Duration) -> Arc<Hashes> {
        let mut users = self.users.lock().expect("no holder panics");
        if users.looked.is_some_and(|looked| looked.elapsed() < every) {
            return users.hashes.clone();
        }
        users.looked = Some(Instant::now());
        let stamp = Stamp::at(path);
        if users.stamp != stamp {
            match read(path) {
                Ok(hashes) => users.hashes = Arc::new(hashes),
                Err(error) => tracing::error!("the users stay as they were: {}", crate::causes::line(&error)),
            }
            users.stamp = stamp;
        }
        users.hashes.clone()
    }
}

fn unauthorized(words: &str) -> Refusal {
    let refusal = Refusal::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", words);
    refusal.header(WWW_AUTHENTICATE, "Basic realm=\"haversack\", charset=\"UTF-8\"")
}

fn basic(header: &[u8]) -> Option<(String, String)> {
    let text = std::str::from_utf8(header).ok()?;
    let (scheme, secret) = text.split_once(' ')?;
    let secret = scheme.eq_ignore_ascii_case("basic").then(|| secret.trim())?;
    let both = String::from_utf8(base64::engine::general_purpose::STANDARD.decode(secret).ok()?).ok()?;
    both.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()))
}

fn read(path: &Path) -> Result<Hashes, Error> {
    let bytes = fs::read(path, 4 << 20)?;
    let mut users = Hashes::new();
    for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let text = std::str::from_utf8(line).map(str::trim).ok();
        let bad = || Error::Line { path: path.to_owned(), line: at + 1 };
        let text = text.ok_or_else(bad)?;
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let (user, hash) = text.split_once(':').ok_or_else(bad)?;
        if user.is_empty() || hash.parse::<bcrypt::HashParts>().is_err() {
            return Err(bad());
        }
        users.insert(user.to_owned(), hash.into());
    }
    Ok(users)
}

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// Of a password that nobody has, at the usual cost.
const NOBODY: &str = "$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy";
/// How often the file is looked at for those whose answer is remembered: not for each of the thousand requests of a pull.
const LOOK: Duration = Duration::from_millis(200);
/// How long an answer holds.
const REMEMBERED: Duration = Duration::from_secs(300);
/// Wrong passwords from one address in the time of a penalty.
const GUESSES: u32 = 20;
const PENALTY: Duration = Duration::from_secs(60);
/// Checks at one time.
const MOST_CHECKS: usize = 4;
/// Addresses and answers that are remembered.
const MOST: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_who_may_push_are_read_and_kept() {
        let rule = |text: &str| text.parse::<PushRule>();
        assert!(rule("ci").unwrap().allows("ci", "any/thing"));
        let ci = rule("ci=team,quay.io/org/").unwrap();
        for (user, repository, allowed) in [
            ("ci", "team", true),
            ("ci", "team/app", true),
            ("ci", "quay.io/org/app", true),
            ("ci", "teams", false),
            ("ci", "other", false),
            ("other", "team", false),
        ] {
            assert_eq!(ci.allows(user, repository), allowed, "{user} {repository}");
        }
        for bad in ["", "=team", "ci=", "ci=../x", "ci=Team"] {
            assert!(rule(bad).is_err(), "{bad}");
        }
    }
}
