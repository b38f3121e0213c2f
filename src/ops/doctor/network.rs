//! Who answers: the addresses that commands would ask, and registries.

use std::collections::BTreeSet;

use jiff::Timestamp;
use reqwest::header::DATE;
use url::Url;

use crate::causes;
use crate::http::{self, Http};
use crate::ops::doctor::{Check, DoctorOptions, State, advice, credentials};
use crate::registry;
use crate::registry::auth::Login;

/// Asks each host once. Any answer will do, as what is behind the address is not always a page; what time it is there goes to
/// `clocks`.
pub(super) async fn sources(
    options: &DoctorOptions,
    client: &Http,
    checks: &mut Vec<Check>,
    clocks: &mut Vec<(String, Timestamp)>,
) {
    for source in &options.sources {
        let shown = format!("{} ({})", http::shown(&source.url), source.option);
        if options.access.http.offline {
            checks.push(Check::ok("source", format!("{shown}: not asked, because this run is offline")));
            continue;
        }
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
                Check::ok("source", format!("{shown}: answers"))
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
    let named = options.registries.iter().cloned();
    let known = credentials::registries(&options.access.auth);
    let named: BTreeSet<String> = named.collect();
    for host in named.iter().chain(known.difference(&named)) {
        if options.access.http.offline {
            checks.push(Check::ok("registry", format!("{host}: not asked, because this run is offline")));
            continue;
        }
        checks.push(match let_in(options, host).await {
            Ok(found) => Check::ok("registry", format!("{host}: {found}")),
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

async fn let_in(options: &DoctorOptions, host: &str) -> Result<String, registry::Error> {
    let registry = match options.access.registry(host).await {
        Ok(registry) => registry,
        Err(crate::ops::Error::Registry(error)) => return Err(error),
        Err(crate::ops::Error::Http(error)) => return Err(error.into()),
        Err(other) => return Ok(format!("not asked: {other}")),
    };
    let checked = registry.takes_login().await?;
    Ok(match (options.access.auth.login(host, "")?, checked) {
        (Login::Basic { user, .. }, true) => format!("answers and lets {user} in"),
        (Login::Basic { user, .. }, false) => format!("answers and lets everybody in, not only {user}"),
        (Login::Identity(_), _) => "answers; there is a token for it".to_owned(),
        (Login::Anonymous, _) => "answers; there are no credentials for it".to_owned(),
    })
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
