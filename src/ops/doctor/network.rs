//! Who answers: the addresses that commands would ask, and registries.

use std::collections::BTreeSet;

use jiff::Timestamp;
use reqwest::StatusCode;
use reqwest::header::DATE;
use url::Url;

use crate::causes;
use crate::http::{self, Http};
use crate::ops::doctor::{Check, DoctorOptions, Source, State, advice, credentials};
use crate::registry;
use crate::registry::auth::Login;

/// Says of all who would be asked that they were not.
pub(super) fn skipped(options: &DoctorOptions, because: &str, checks: &mut Vec<Check>) {
    let sources = options.sources.iter().map(|source| ("source", shown(source)));
    let registries = hosts(options).into_iter().map(|host| ("registry", host));
    checks.extend(
        sources
            .chain(registries)
            .map(|(check, who)| Check::skip(check, format!("{who}: not asked, because {because}"))),
    );
}

/// Asks each address once. That there is no page is no fault, as commands ask for what is behind it; what time it is there goes to
/// `clocks`.
pub(super) async fn sources(
    options: &DoctorOptions,
    client: &Http,
    checks: &mut Vec<Check>,
    clocks: &mut Vec<(String, Timestamp)>,
) {
    for source in &options.sources {
        let shown = shown(source);
        let check = match client.send(client.get(&source.url).timeout(client.deadline())).await {
            Ok(response) if response.status().is_server_error() => Check::fail(
                "source",
                format!("{shown}: {}", response.status()),
                "the server, or a proxy on the way, is in trouble: try again later",
            ),
            Ok(response) => {
                let date = response.headers().get(DATE).and_then(|date| date.to_str().ok());
                let date = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
                clocks.extend(date.map(|date| (host(&source.url), date.timestamp())));
                match response.status() {
                    status if status.is_success() => Check::ok("source", format!("{shown}: answers")),
                    status => Check::note("source", format!("{shown}: answers {status}"), next_of(status)),
                }
            }
            Err(error) => {
                let next = advice(&error, "check the address and the network");
                Check::fail("source", format!("{shown}: {}", without_url(&error)), next)
            }
        };
        // What nobody chose is perhaps not needed here.
        let state = if check.state == State::Fail && !source.is_chosen { State::Warn } else { check.state };
        checks.push(Check { state, ..check });
    }
}

/// Asks the registries that there are credentials for, and those that are named, whether they let us in.
pub(super) async fn registries(options: &DoctorOptions, checks: &mut Vec<Check>) {
    for host in &hosts(options) {
        checks.push(match let_in(options, host).await {
            Ok(check) => check,
            Err(error) => {
                let tls = match &error {
                    registry::Error::Plain { .. } => {
                        Some("if no TLS is intended there, add `--tls-verify=false`".to_owned())
                    }
                    _ => None,
                };
                let login =
                    format!("log in again with `haversack login {host}`, or out with `haversack logout {host}`");
                let next = match &error {
                    registry::Error::WrongLogin { .. } => login,
                    _ => tls.unwrap_or_else(|| advice(&error, "check the name and the network")),
                };
                let found = causes::line(&error);
                Check::fail("registry", if found.contains(host) { found } else { format!("{host}: {found}") }, next)
            }
        });
    }
}

/// The registries that are named, and then those that there are credentials for.
fn hosts(options: &DoctorOptions) -> Vec<String> {
    let named: BTreeSet<String> = options.registries.iter().cloned().collect();
    let known = credentials::registries(&options.access.auth);
    named.iter().chain(known.difference(&named)).cloned().collect()
}

fn shown(source: &Source) -> String {
    format!("{} ({})", http::shown(&source.url), source.option)
}

/// What an answer that is no success may mean.
fn next_of(status: StatusCode) -> &'static str {
    match status {
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            "the proxy wants a user and a password: HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT"
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "the server is there; whether it lets the command in shows when that runs"
        }
        _ => "the server is there; commands ask for what is below this address: check its path if they find nothing",
    }
}

async fn let_in(options: &DoctorOptions, host: &str) -> Result<Check, registry::Error> {
    let of_host = |found: String| Check::ok("registry", format!("{host}: {found}"));
    let registry = match options.access.registry(host).await {
        Ok(registry) => registry,
        Err(crate::ops::Error::Registry(error)) => return Err(error),
        Err(crate::ops::Error::Http(error)) => return Err(error.into()),
        Err(other) => return Ok(Check::skip("registry", format!("{host}: not asked, because {other}"))),
    };
    let checked = registry.takes_login().await?;
    Ok(of_host(match (options.access.auth.login(host, "")?, checked) {
        (Login::Basic { user, .. }, true) => format!("answers and lets {user} in"),
        (Login::Basic { user, .. }, false) => format!("answers and lets everybody in, not only {user}"),
        (Login::Identity(_), _) => "answers; there is a token for it".to_owned(),
        (Login::Anonymous, _) => "answers; there are no credentials for it".to_owned(),
    }))
}

fn host(url: &Url) -> String {
    http::authority(url)
}

/// What is wrong, without the address, which stands before it.
fn without_url(error: &http::Error) -> String {
    let line = causes::line(error);
    match error {
        http::Error::Transport { url, .. } => {
            line.strip_prefix(&format!("{}: ", http::shown(url))).map(str::to_owned).unwrap_or(line)
        }
        _ => line,
    }
}
