//! Publishing: packages to Artifactory, boot artifacts to S3 and the Image Management Service.

pub mod artifactory;
pub mod ims;
mod input;
mod refusal;
pub mod settings;

use std::path::Path;

use url::Url;

pub use self::refusal::Refusal;
use crate::fs;
use crate::ops::Error;

/// The content of a file with a secret, without white space around it.
fn secret(path: &Path) -> Result<String, Error> {
    let bytes = fs::read(path, SECRET_LIMIT)?;
    let text = String::from_utf8(bytes).map_err(|_| Error::NotAText(path.to_owned()))?;
    Ok(text.trim().to_owned())
}

/// Parses the address of a server, `https://HOST` or `http://HOST`, without a user. The error says what was expected.
pub fn server(text: &str) -> Result<Url, String> {
    let text = text.trim();
    // `localhost:80` would be a scheme and a path.
    if !text.contains("://") {
        return Err(format!("the scheme is missing: write https://{text}, or http://{text} for a server without TLS"));
    }
    let url: Url = text.parse().map_err(|error| format!("{error}"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err("expected https://HOST or http://HOST".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "user names and passwords are not accepted in addresses, where everybody on the machine can read them; use the \
                    environment or a file"
                .into(),
        );
    }
    Ok(url)
}

/// Parses `KEY=VALUE`.
pub fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".into()),
    }
}

/// Bytes of a file with a secret, at most.
const SECRET_LIMIT: u64 = 64 << 10;
