//! Names and values of settings: options as keys of the file and as variables, and which of them decide whom we trust.

use std::ffi::OsString;

use clap::Command;

/// The addresses among the values that options have without the command line, each with its command and option.
pub(super) fn addresses_in(command: &Command, prefix: &str, found: &mut Vec<(String, url::Url)>) {
    for arg in command.get_arguments() {
        let Some(long) = arg.get_long() else { continue };
        for value in arg.get_default_values() {
            let url = value.to_str().filter(|text| text.starts_with("http://") || text.starts_with("https://"));
            found.extend(url.and_then(|text| text.parse().ok()).map(|url| (format!("{prefix}--{long}"), url)));
        }
    }
    for sub in command.get_subcommands() {
        addresses_in(sub, &format!("{prefix}{} ", sub.get_name()), found);
    }
}

/// The environment variable of an option.
pub(super) fn variable_of(option: &str) -> String {
    format!("HAVERSACK_{}", option.to_uppercase().replace('-', "_"))
}

/// Whether an option says where credentials go to or come from, whom TLS and signatures trust, or who is let in.
pub(crate) fn is_trust(option: &str) -> bool {
    let parts = [
        "url", "endpoint", "tls", "ca", "cert", "auth", "authfile", "token", "secret", "key", "keyring", "sso",
        "insecure",
    ];
    let whole = [
        "client-cert",
        "client-key",
        "registry-map",
        "allow-unsigned",
        "allow-local",
        "allow-expired",
        "redhat-api",
        // Who is let in by `serve`, and to what.
        "listen",
        "writable",
        "htpasswd",
        "anonymous-pull",
        "plain-passwords",
        // What asks before it destroys something.
        "yes",
        // In whose name a carry goes out, and what is known of whom it goes to.
        "sign",
        "ledger",
    ];
    whole.contains(&option) || option.split('-').any(|part| parts.contains(&part) || part.starts_with("oauth"))
}

/// The settings of a file, as `catalog.snapshot.page-size`.
pub(super) fn keys(table: &toml::Table, prefix: &str) -> Vec<String> {
    let key = |(key, value): (&String, &toml::Value)| match value {
        toml::Value::Table(inner) => keys(inner, &format!("{prefix}{key}.")),
        _ => vec![format!("{prefix}{key}")],
    };
    table.iter().flat_map(key).collect()
}

/// A value of the file as clap takes it.
pub(super) fn strings(value: &toml::Value) -> Vec<OsString> {
    match value {
        toml::Value::Array(values) => values.iter().flat_map(strings).collect(),
        toml::Value::String(text) => vec![text.into()],
        other => vec![other.to_string().into()],
    }
}

/// The first key that is no option or command.
pub(super) fn unknown_key(command: &Command, table: &toml::Table, prefix: &str) -> Option<String> {
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

/// Whether the value of an option is a secret, and not the file that has it.
pub(super) fn is_secret(option: &str) -> bool {
    let is_one = |part: &str| matches!(part, "secret" | "password" | "token");
    let is_key = option.ends_with("api-key") || option.ends_with("access-key");
    is_key || option.split('-').any(is_one) && !["-file", "-url", "-stdin"].iter().any(|end| option.ends_with(end))
}
