//! What can go wrong with a request, in words, and whether trying again can help.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use url::Url;

use crate::causes;
use crate::fs::PathError;
use crate::http::{read_limited, redirect};

/// Whether trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It cannot: the answer would be the same.
    Permanent,
    /// It can; the server may have said when (`Retry-After`).
    Again {
        /// How long the server asked us to wait.
        after: Option<Duration>,
    },
}

/// An error that knows whether trying again can help.
pub trait Retriable: std::error::Error + 'static {
    /// Whether trying again can help.
    fn verdict(&self) -> Verdict;
}

/// What can go wrong with a request, before anybody looks at what the answer means.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `--offline` was given.
    #[error("{}: not requested, because this run is offline", place(url))]
    Offline {
        /// What would have been requested.
        url: Box<Url>,
    },
    /// No answer, or one that broke off.
    #[error("{}: {}", shown(url), transport_kind(error))]
    Transport {
        /// What was requested.
        url: Box<Url>,
        /// What the client said, without the URL.
        error: Box<reqwest::Error>,
        /// What the system or the other end said, without the layers of the client in between.
        source: Root,
    },
    /// The host's name has no address here. Trying again would not change that, and there is no more to say.
    #[error("{host}: no such host is known here")]
    NoHost {
        /// The host.
        host: String,
    },
    /// A document that came so slowly that nobody wants to wait for its end.
    #[error("{}: {bytes} bytes in {seconds} seconds are too slow", shown(url))]
    TooSlow {
        /// What was requested.
        url: Box<Url>,
        /// What had come.
        bytes: u64,
        /// How long that took.
        seconds: u64,
    },
    /// An answer with an unwanted status.
    #[error("{}: {status}{}{detail}", shown(url), if detail.is_empty() { "" } else { ": " })]
    Status {
        /// What was requested.
        url: Box<Url>,
        /// The status it was answered with.
        status: StatusCode,
        /// What the body says about it, shortened to a line.
        detail: String,
        /// The code for it of a registry, such as `BLOB_UNKNOWN`.
        code: Option<String>,
        /// How long the server asked to wait.
        retry_after: Option<Duration>,
    },
    /// More bytes than the caller takes.
    #[error("{}: the answer is larger than {limit} bytes", shown(url))]
    TooLarge {
        /// What was requested.
        url: Box<Url>,
        /// The most that the caller takes, in bytes.
        limit: u64,
    },
    /// A certificate file cannot be used.
    #[error("{}: no usable {what}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// Why it does not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// One of the two files of a client certificate is missing.
    #[error("{}: {} is not there", path.display(), lacking.display())]
    Unpaired {
        /// The file that is there.
        path: PathBuf,
        /// The one that is not.
        lacking: PathBuf,
    },
    /// A client certificate that would be shown to everybody.
    #[error("{}: a client certificate is for one host", path.display())]
    Misplaced {
        /// Its file.
        path: PathBuf,
    },
    /// One redirect after the other.
    #[error("{}: redirected too often", shown(url))]
    Redirects {
        /// What was requested first.
        url: Box<Url>,
    },
    /// A certificate file cannot be read.
    #[error("{0}")]
    File(#[from] PathError),
    /// The client cannot be set up.
    #[error("cannot set up the HTTP client")]
    Setup {
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// A connection that failed or broke off.
    pub fn transport(url: Url, source: reqwest::Error) -> Self {
        let error = Box::new(source.without_url());
        match is_unnamed(&*error) {
            true => Error::NoHost { host: url.host_str().unwrap_or_default().to_owned() },
            false => Error::Transport { url: Box::new(url), source: Root::of(&*error), error },
        }
    }

    /// An answer whose status is not what was wanted; reads at most 64 KiB of its body for the reason given there.
    pub async fn status(response: Response) -> Self {
        let (url, status) = (Box::new(response.url().clone()), response.status());
        let retry_after = retry_after(response.headers());
        let elsewhere = not_followed(&response);
        let body = read_limited(response, 64 << 10).await.unwrap_or_default();
        let code = serde_json::from_slice::<serde_json::Value>(&body).unwrap_or_default();
        let code = code.pointer("/errors/0/code").and_then(|code| code.as_str()).map(str::to_owned);
        let detail = elsewhere.unwrap_or_else(|| reason_in(&body));
        // Most pages of errors say the status and nothing else.
        let detail = if detail == status.to_string() { String::new() } else { detail };
        Error::Status { url, status, detail, code, retry_after }
    }

    /// Whether the other end does not speak TLS, or has a certificate that is not trusted: trying again changes nothing.
    pub fn is_tls(&self) -> bool {
        let Error::Transport { error, .. } = self else { return false };
        is_from_rustls(&**error)
    }

    /// Whether the other end answers without TLS. rustls names what it found in place of a TLS record.
    pub fn is_plain(&self) -> bool {
        matches!(self, Error::Transport { source, .. } if self.is_tls() && source.0.contains("InvalidContentType"))
    }

    /// The status of the answer, where there was one.
    pub fn status_code(&self) -> Option<StatusCode> {
        match self {
            Error::Status { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// The innermost cause of a failed connection: `Connection refused (os error 111)`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Root(String);

impl Root {
    fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        let innermost = causes::of(error).last().map(ToString::to_string).unwrap_or_default();
        Root(innermost)
    }
}

/// Whether the resolver gave no address. hyper-util has no other sign of it than this text.
fn is_unnamed(error: &(dyn std::error::Error + 'static)) -> bool {
    causes::of(error).any(|cause| cause.to_string().starts_with("dns error"))
}

impl Retriable for Error {
    fn verdict(&self) -> Verdict {
        match self {
            Error::Transport { error, .. } if !error.is_builder() && !self.is_tls() => Verdict::Again { after: None },
            Error::Status { status, retry_after, .. }
                if matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504) =>
            {
                Verdict::Again { after: *retry_after }
            }
            _ => Verdict::Permanent,
        }
    }
}

/// What to say of an answer that is a redirect and was not followed: where it leads, and why it was left.
#[expect(clippy::disallowed_methods, reason = "it is said, and not asked")]
pub fn not_followed(response: &Response) -> Option<String> {
    let elsewhere = response.headers().get(LOCATION).filter(|_| response.status().is_redirection())?;
    let elsewhere = response.url().join(elsewhere.to_str().ok()?).ok()?;
    // Reads are followed anywhere else, so this was a write.
    let of_a_write = match response.status().as_u16() {
        ..=303 => "uploads and changes do not follow this kind of redirect",
        _ if elsewhere.origin() != response.url().origin() => "it is a different server",
        _ => "a body that is streamed cannot be sent twice",
    };
    let why = redirect::refusal(response.url(), &elsewhere, false).unwrap_or(of_a_write);
    Some(format!("not followed to {}: {why}", shown(&elsewhere)))
}

/// A URL for people: decoded, shortened, without credentials.
pub fn shown(url: &Url) -> String {
    let text = without_secrets(url);
    match text.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}

/// A URL as it may be kept: decoded, without credentials. Signed URLs carry those in their query.
pub fn without_secrets(url: &Url) -> String {
    let mut bare = url.clone();
    bare.set_query(None);
    bare.set_fragment(None);
    // Only fails for URLs that cannot have credentials.
    let _ = bare.set_username("").and_then(|()| bare.set_password(None));
    let mut text = bare.to_string();
    for (number, (name, value)) in url.query_pairs().enumerate() {
        let secret = ["sign", "token", "credential", "key", "password", "x-amz-"];
        let lower = name.to_lowercase();
        let value = if secret.iter().any(|part| lower.contains(part)) { "REDACTED" } else { &value };
        text.push(if number == 0 { '?' } else { '&' });
        text.push_str(&format!("{name}={value}"));
    }
    text
}

/// The same without what is asked there.
fn place(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    shown(&url)
}

/// `Retry-After` as a duration from now: seconds or an HTTP date (RFC 9110, 10.2.3).
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(until.duration_since(jiff::Timestamp::now()).try_into().unwrap_or(Duration::ZERO))
}

/// What an error body says: `detail`, `message` or `title` of a JSON document or of the first of its `errors`, or its
/// text without markup.
pub fn reason_in(body: &[u8]) -> String {
    let text = match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(document) => {
            // Registries list their reasons, of which the first is enough.
            let inner = document.pointer("/errors/0").unwrap_or(&document);
            ["detail", "message", "error", "title", "code"]
                .iter()
                .find_map(|key| inner.get(key)?.as_str().map(str::to_owned))
                .unwrap_or_default()
        }
        Err(_) => {
            let text = String::from_utf8_lossy(body);
            heading(&text).unwrap_or_else(|| without_tags(&text))
        }
    };
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(200) {
        Some((cut, _)) => format!("{}…", &line[..cut]),
        None => line,
    }
}

/// The title of a page, and its first heading where that says something else. What else is on a page is for browsers.
fn heading(html: &str) -> Option<String> {
    let lower = html.to_ascii_lowercase();
    let of = |tag: &str| {
        let start = lower.find(&format!("<{tag}"))?;
        let start = start + lower[start..].find('>')? + 1;
        let end = start + lower[start..].find(&format!("</{tag}"))?;
        let text = without_tags(&html[start..end]).split_whitespace().collect::<Vec<_>>().join(" ");
        (!text.is_empty()).then_some(text)
    };
    match (of("title"), of("h1")) {
        (Some(title), Some(first)) if !title.contains(&first) => Some(format!("{title} {first}")),
        (title, first) => title.or(first),
    }
}

fn without_tags(html: &str) -> String {
    let mut inside = false;
    html.chars()
        .map(|c| {
            match c {
                '<' => inside = true,
                '>' => inside = false,
                _ => {}
            }
            if inside || c == '>' { ' ' } else { c }
        })
        .collect()
}

fn is_from_rustls(error: &(dyn std::error::Error + 'static)) -> bool {
    // The source of an `io::Error` is that of what is in it, which would be passed over.
    let inside = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    let next = inside.map(|inside| inside as &(dyn std::error::Error + 'static)).or(error.source());
    // What the other end says after the handshake, of a missing client certificate for one, comes as a text only.
    let alert = inside.is_some_and(|inside| inside.to_string().starts_with("received fatal alert"));
    error.is::<rustls::Error>() || alert || next.is_some_and(is_from_rustls)
}

fn transport_kind(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "cannot connect"
    } else if error.is_body() || error.is_decode() {
        "the answer broke off"
    } else {
        "the request failed"
    }
}

/// Characters of a URL in messages.
const SHOWN: usize = 220;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_bodies_give_their_reason_in_a_line() {
        for (body, reason) in [
            (
                &br#"{"type":"about:blank","title":"Bad Request","detail":"no such field","status":400}"#[..],
                "no such field",
            ),
            (br#"{"title":"Bad Request"}"#, "Bad Request"),
            (br#"{"errors":[{"code":"X","message":"blob unknown","detail":{"digest":"sha256:0"}}]}"#, "blob unknown"),
            (b"<html><head><title>504</title></head>\n<body><h1>Gateway Time-out</h1></body>", "504 Gateway Time-out"),
            (
                b"<html><head><title>404 Not Found</title></head><body><h1>404 Not Found</h1><hr>nginx</body>",
                "404 Not Found",
            ),
            (b"<!DOCTYPE HTML>\n<TITLE>Sign in</TITLE><style>a{b:c}</style><p>User", "Sign in"),
            (b"<p>no <b>such</b> thing", "no such thing"),
            (b"", ""),
        ] {
            assert_eq!(reason_in(body), reason);
        }
        assert_eq!(reason_in("é".repeat(300).as_bytes()).chars().count(), 201);
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_as_a_date() {
        let header = |text: &str| HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
        assert_eq!(retry_after(&header("7")), Some(Duration::from_secs(7)));
        assert_eq!(retry_after(&header("Wed, 21 Oct 2015 07:28:00 GMT")), Some(Duration::ZERO));
        assert_eq!(retry_after(&header("soon")), None);
    }

    #[test]
    fn shown_urls_are_readable_and_without_secrets() {
        for (url, text) in [
            ("http://a/b?filter=x%3D%3Dy%20and%20z&page=0", "http://a/b?filter=x==y and z&page=0"),
            ("https://me:secret@a/b", "https://a/b"),
            (
                "https://s3/b?X-Amz-Signature=0af&X-Amz-Date=1&part=2",
                "https://s3/b?X-Amz-Signature=REDACTED&X-Amz-Date=REDACTED&part=2",
            ),
        ] {
            assert_eq!(shown(&url.parse().unwrap()), text);
        }
        assert_eq!(shown(&format!("http://a/{}", "x".repeat(500)).parse().unwrap()).chars().count(), SHOWN + 1);
    }
}
