//! What stands in the way on this machine, found before it does: what `haversack doctor` says.
//!
//! Each check is one line: [ok](State::Ok), a [note](State::Note) of what came back where only the user knows whether that is right,
//! [skipped](State::Skip), a [warning](State::Warn) for what may be meant, or a [failure](State::Fail), with what to do next. Nothing is changed, no secret is looked at more closely than to tell whose it is, and a registry is asked no more than
//! whether it lets us in.

mod credentials;
mod layouts;
mod machine;
mod network;
mod subject;

use std::error::Error;
use std::ffi::OsString;
use std::path::PathBuf;

use serde::Serialize;
use url::Url;

pub use self::subject::Subject;
use crate::causes;
use crate::http;
use crate::ops::{Access, hints};

/// What is looked at.
pub struct DoctorOptions {
    /// Name, version and commit of the program.
    pub version: String,
    /// The configuration file that is in use.
    pub config: Option<PathBuf>,
    /// Where large things are written: what for, and the directory.
    pub places: Vec<(&'static str, PathBuf)>,
    /// Proxies that the environment names: variable and value.
    pub proxies: Vec<(String, String)>,
    /// Where programs are looked for (`PATH`).
    pub path: Option<OsString>,
    /// Addresses that commands would ask.
    pub sources: Vec<Source>,
    /// Registries beside those that there are credentials for, `HOST[:PORT]`.
    pub registries: Vec<String>,
    /// Layouts.
    pub layouts: Vec<PathBuf>,
    /// How all of them are spoken to, and where credentials are.
    pub access: Access,
}

/// An address that commands would ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Which option has it: `catalog snapshot --api`.
    pub option: String,
    /// The address.
    pub url: Url,
    /// Whether somebody chose it. What is a default only may well be out of reach.
    pub is_chosen: bool,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nothing stands in the way.
    Ok,
    /// Something answered, and not that all is well.
    Note,
    /// Nobody was asked.
    Skip,
    /// Something may.
    Warn,
    /// Something does.
    Fail,
}

/// One check.
#[derive(Debug, Serialize)]
pub struct Check {
    /// What was looked at: `clock`, `room`, `registry`.
    pub check: &'static str,
    /// How it came out.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// All checks.
#[derive(Debug, Serialize)]
pub struct DoctorReport {
    /// In the order in which they were made.
    pub checks: Vec<Check>,
    /// How many say what came back, and no more.
    pub noted: usize,
    /// How many were not made.
    pub skipped: usize,
    /// How many are warnings.
    pub warned: usize,
    /// How many failed.
    pub failed: usize,
}

/// Makes all checks; none ends the others.
pub async fn doctor(options: &DoctorOptions) -> DoctorReport {
    let mut checks = vec![machine::program(options)];
    let mut network = Vec::new();
    // The client reads certificates of its own first; without it nobody can be asked.
    let client = http::Http::new(&options.access.http);
    let mut clocks = Vec::new();
    match &client {
        Ok(_) if options.access.http.offline => network::skipped(options, "this run is offline", &mut network),
        Ok(client) => {
            network::sources(options, client, &mut network, &mut clocks).await;
            network::registries(options, &mut network).await;
        }
        Err(_) => network::skipped(options, "the certificates to trust cannot be read (see trust)", &mut network),
    }
    checks.push(machine::clock(&clocks));
    checks.extend(options.places.iter().map(|(what, path)| machine::room(what, path)));
    checks.extend(machine::trust(options, client.as_ref().err()));
    checks.extend(options.proxies.iter().map(|(variable, value)| machine::proxy(variable, value)));
    checks.extend(credentials::files(options));
    checks.extend(network);
    checks.extend(options.layouts.iter().map(|path| layouts::layout(path)));
    checks.push(machine::podman(options.path.as_deref()));
    let count = |state| checks.iter().filter(|check| check.state == state).count();
    DoctorReport {
        noted: count(State::Note),
        skipped: count(State::Skip),
        warned: count(State::Warn),
        failed: count(State::Fail),
        checks,
    }
}

impl Check {
    /// The check in a line, and what to do next in another.
    pub fn to_text(&self) -> String {
        let state = match self.state {
            State::Ok => "ok",
            State::Note => "note",
            State::Skip => "skip",
            State::Warn => "warn",
            State::Fail => "fail",
        };
        let next = self
            .next
            .as_ref()
            .map(|next| format!("      next: {}\n", next.replace("\nhint: ", "; ")))
            .unwrap_or_default();
        format!("{state:<4}  {:<11}  {}\n{next}", self.check, self.found)
    }

    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Check { check, state: State::Ok, found: found.into(), next: None }
    }

    fn note(check: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Check { check, state: State::Note, found: found.into(), next: Some(next.into()) }
    }

    fn skip(check: &'static str, found: impl Into<String>) -> Self {
        Check { check, state: State::Skip, found: found.into(), next: None }
    }

    fn warn(check: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Check { check, state: State::Warn, found: found.into(), next: Some(next.into()) }
    }

    fn fail(check: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Check { check, state: State::Fail, found: found.into(), next: Some(next.into()) }
    }
}

/// What to do about an error that has a hint, or else `otherwise`.
fn advice(error: &(dyn Error + 'static), otherwise: &str) -> String {
    causes::of(error).find_map(hints::hint).unwrap_or_else(|| otherwise.to_owned())
}
