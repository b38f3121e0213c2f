//! The one HTTP client: TLS roots, proxies, time-outs, `--offline`, limits on what is read, and when to try again.
//!
//! Services (the catalog, registries, package mirrors) are structs elsewhere that hold an [`Http`] and a base URL. They
//! decide what a status means to them; what is the same for all is here. Retries follow one rule: an error knows
//! whether trying again can help ([`Retriable`]), and [`Retry`] says how often and how long. Only requests that may be
//! repeated without harm may be run under it.

mod tls;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER,
};
use reqwest::{Client, Method, Request, RequestBuilder, Response, StatusCode};
use url::Url;

use self::tls::Clients;
pub use self::tls::{ClientIdentity, HostTls, authority};
use crate::fs::PathError;

/// A client with the settings of this run. Cheap to clone: clones share connections.
#[derive(Clone)]
pub struct Http {
    clients: Arc<Clients>,
    deadline: Duration,
    offline: bool,
    retry: Retry,
}

/// How the client is set up.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// Refuses every request before it is made, name look-ups included.
    pub offline: bool,
    /// PEM files with further trusted certificate authorities.
    pub ca_files: Vec<PathBuf>,
    /// Directories in which hosts have certificates: `DIR/HOST[:PORT]/*.{crt,cert,key}`. A `*.crt` directly in one is
    /// trusted for all hosts.
    pub cert_dirs: Vec<PathBuf>,
    /// What single hosts need: a client certificate, or not to be checked. It never holds for where they redirect to.
    pub hosts: Vec<HostTls>,
    /// Whether answers may come compressed, and are decompressed. Not for content that is known by its digest.
    pub gzip: bool,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for the next byte of an answer. There is no limit on a whole download, which may be large.
    pub read_timeout: Duration,
    /// When and how often requests are tried again.
    pub retry: Retry,
}

impl Default for HttpOptions {
    fn default() -> Self {
        HttpOptions {
            offline: false,
            ca_files: Vec::new(),
            cert_dirs: Vec::new(),
            hosts: Vec::new(),
            gzip: true,
            connect_timeout: Duration::from_secs(20),
            // The catalog's own front end gives up after a minute; its answer is worth more than our time-out.
            read_timeout: Duration::from_secs(90),
            retry: Retry::default(),
        }
    }
}

/// How often something is tried again, and with which pauses.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// Tries after the first.
    pub retries: u32,
    /// Pause before the second try; each further one is twice as long.
    pub first_wait: Duration,
    /// Longest pause, whatever the doubling or the server says.
    pub longest_wait: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Retry { retries: 5, first_wait: Duration::from_secs(1), longest_wait: Duration::from_secs(120) }
    }
}

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
pub trait Retriable: fmt::Display {
    /// Whether trying again can help.
    fn verdict(&self) -> Verdict;
}

/// What can go wrong with a request, before anybody looks at what the answer means.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `--offline` was given.
    #[error("{}: not requested, because this run is offline", shown(url))]
    Offline {
        /// What would have been requested.
        url: Box<Url>,
    },
    /// No answer, or one that broke off.
    #[error("{}: {}", shown(url), transport_kind(source))]
    Transport {
        /// What was requested.
        url: Box<Url>,
        /// What the client said, without the URL.
        source: Box<reqwest::Error>,
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
        source: Box<reqwest::Error>,
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
        source: Box<reqwest::Error>,
    },
}

impl Http {
    /// Sets up the client. Reads certificates, contacts nobody.
    pub fn new(options: &HttpOptions) -> Result<Self, Error> {
        Ok(Http {
            clients: Clients::new(options)?,
            deadline: options.read_timeout * DEADLINE_FACTOR,
            offline: options.offline,
            retry: options.retry,
        })
    }

    /// When and how often requests are tried again in this run.
    pub fn retry(&self) -> Retry {
        self.retry
    }

    /// Longest time for a whole answer of a bounded size, for `RequestBuilder::timeout`: a server that sends a byte now
    /// and then would keep us for ever. Downloads, which may be large, go without.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// A `GET` request to be completed by the caller and passed to [`Http::send`].
    pub fn get(&self, url: &Url) -> RequestBuilder {
        self.clients.plain().get(url.clone())
    }

    /// A client to make requests of other methods than `GET` with. They still go through [`Http::send`], which knows
    /// what the host needs.
    pub fn client(&self) -> &Client {
        self.clients.plain()
    }

    /// Sends a request once and returns the answer whatever its status.
    ///
    /// Redirects are followed where the request can be made again (a body that is a stream cannot). What goes to
    /// another host goes without credentials, client certificates and the leave to skip checks.
    pub async fn send(&self, request: RequestBuilder) -> Result<Response, Error> {
        let (_, request) = request.build_split();
        let mut request = request.map_err(|source| Error::Setup { source: Box::new(source) })?;
        let first = request.url().clone();
        for _ in 0..=REDIRECTS {
            let url = request.url().clone();
            if self.offline {
                return Err(Error::Offline { url: Box::new(url) });
            }
            let again = request.try_clone();
            let response =
                self.clients.of(&url)?.execute(request).await.map_err(|source| Error::transport(url, source))?;
            match again.and_then(|again| redirected(&response, again)) {
                Some(next) => request = next,
                None => return Ok(response),
            }
        }
        Err(Error::Redirects { url: Box::new(first) })
    }
}

/// The request that a redirect asks for (RFC 9110, 15.4), without secrets when it goes to another host.
fn redirected(response: &Response, mut request: Request) -> Option<Request> {
    let status = response.status().as_u16();
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    let next = response.url().join(location).ok().filter(|next| matches!(next.scheme(), "http" | "https"))?;
    if status <= 303 && *request.method() != Method::HEAD {
        if *request.method() != Method::GET {
            *request.body_mut() = None;
            let headers = request.headers_mut();
            headers.remove(CONTENT_LENGTH);
            headers.remove(CONTENT_TYPE);
        }
        *request.method_mut() = Method::GET;
    }
    if next.origin() != request.url().origin() {
        let secret = |name: &_, value: &HeaderValue| value.is_sensitive() || *name == AUTHORIZATION || *name == COOKIE;
        let secrets: Vec<_> = (request.headers().iter().filter(|(name, value)| secret(*name, value)))
            .map(|(name, _)| name.clone())
            .collect();
        for name in secrets {
            request.headers_mut().remove(name);
        }
    }
    *request.url_mut() = next;
    Some(request)
}

impl Error {
    /// A connection that failed or broke off.
    pub fn transport(url: Url, source: reqwest::Error) -> Self {
        Error::Transport { url: Box::new(url), source: Box::new(source.without_url()) }
    }

    /// An answer whose status is not what was wanted; reads at most 64 KiB of its body for the reason given there.
    pub async fn status(response: Response) -> Self {
        let (url, status) = (Box::new(response.url().clone()), response.status());
        let retry_after = retry_after(response.headers());
        let body = read_limited(response, 64 << 10).await.unwrap_or_default();
        Error::Status { url, status, detail: reason_in(&body), retry_after }
    }

    /// Whether the other end does not speak TLS, or has a certificate that is not trusted: trying again changes nothing.
    pub fn is_tls(&self) -> bool {
        let Error::Transport { source, .. } = self else { return false };
        is_from_rustls(&**source)
    }

    /// The status of the answer, where there was one.
    pub fn status_code(&self) -> Option<StatusCode> {
        match self {
            Error::Status { status, .. } => Some(*status),
            _ => None,
        }
    }
}

impl Retriable for Error {
    fn verdict(&self) -> Verdict {
        match self {
            Error::Transport { source, .. } if !source.is_builder() && !self.is_tls() => Verdict::Again { after: None },
            Error::Status { status, retry_after, .. }
                if matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504) =>
            {
                Verdict::Again { after: *retry_after }
            }
            _ => Verdict::Permanent,
        }
    }
}

impl Retry {
    /// Runs `attempt` until it succeeds, fails for good, or the tries are used up; then the last error is returned.
    pub async fn run<T, E: Retriable>(&self, attempt: impl AsyncFn() -> Result<T, E>) -> Result<T, E> {
        let mut tries = 0;
        loop {
            match attempt().await {
                Err(error) if self.pause(&error, &mut tries).await => {}
                result => return result,
            }
        }
    }

    /// Waits before another try, when the error is one that can pass and tries are left; false when it is final.
    pub async fn pause(&self, error: &impl Retriable, tries: &mut u32) -> bool {
        let Verdict::Again { after } = error.verdict() else { return false };
        if *tries == self.retries {
            return false;
        }
        let wait = self.wait(*tries, after);
        *tries += 1;
        tracing::warn!("{error}; trying again in {:.1} s ({tries} of {})", wait.as_secs_f64(), self.retries);
        tokio::time::sleep(wait).await;
        true
    }

    /// How long to pause after the try with this number, counted from 0.
    pub fn wait(&self, tries: u32, after: Option<Duration>) -> Duration {
        let doubled = self.first_wait.saturating_mul(1_u32.checked_shl(tries).unwrap_or(u32::MAX));
        after.unwrap_or(Duration::ZERO).max(doubled).min(self.longest_wait)
    }
}

/// Reads a whole body of at most `limit` bytes; a longer one is [`Error::TooLarge`].
pub async fn read_limited(mut response: Response, limit: u64) -> Result<Vec<u8>, Error> {
    let url = response.url().clone();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|source| Error::transport(url.clone(), source))? {
        if body.len() as u64 + chunk.len() as u64 > limit {
            return Err(Error::TooLarge { url: Box::new(url), limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// A URL for people: decoded, shortened, without credentials. Signed URLs carry those in their query.
pub fn shown(url: &Url) -> String {
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
    match text.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}

/// The value of a header that is a secret: it is not sent on to another host. What no header can hold becomes empty.
pub fn sensitive(secret: &str) -> HeaderValue {
    let mut value = HeaderValue::from_str(secret).unwrap_or(HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
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
        Err(_) => without_tags(&String::from_utf8_lossy(body)),
    };
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(200) {
        Some((cut, _)) => format!("{}…", &line[..cut]),
        None => line,
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

/// How much longer a whole answer may take than the wait for its next byte.
const DEADLINE_FACTOR: u32 = 4;

/// Characters of a URL in messages.
const SHOWN: usize = 220;

/// Redirects that are followed for one request, as by browsers and curl within a few.
const REDIRECTS: usize = 10;

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
            (b"", ""),
        ] {
            assert_eq!(reason_in(body), reason);
        }
        assert_eq!(reason_in("é".repeat(300).as_bytes()).chars().count(), 201);
    }

    #[test]
    fn waits_double_and_retry_after_counts_up_to_the_longest_wait() {
        let retry = Retry { retries: 9, first_wait: Duration::from_secs(1), longest_wait: Duration::from_secs(60) };
        for (tries, after, wait) in
            [(0, None, 1), (3, None, 8), (40, None, 60), (0, Some(30), 30), (0, Some(3600), 60), (5, Some(2), 32)]
        {
            assert_eq!(
                retry.wait(tries, after.map(Duration::from_secs)),
                Duration::from_secs(wait),
                "{tries} {after:?}"
            );
        }
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

    #[tokio::test]
    async fn an_offline_run_makes_no_request() {
        let http = Http::new(&HttpOptions { offline: true, ..Default::default() }).unwrap();
        let url: Url = "http://127.0.0.1:9/".parse().unwrap();
        let error = http.send(http.get(&url)).await.unwrap_err();
        assert_eq!(error.to_string(), "http://127.0.0.1:9/: not requested, because this run is offline");
        assert_eq!(error.verdict(), Verdict::Permanent);
    }
}
