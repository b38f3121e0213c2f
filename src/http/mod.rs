//! The one HTTP client: TLS roots, proxies, time-outs, `--offline`, limits on what is read, and when to try again.
//!
//! Services (the catalog, registries, package mirrors) are structs elsewhere that hold an [`Http`] and a base URL. They
//! decide what a status means to them; what is the same for all is here. Retries follow one rule: an error knows
//! whether trying again can help ([`Retriable`]), and [`Retry`] says how often and how long. Only requests that may be
//! repeated without harm may be run under it.

mod error;
mod leaf;
mod redirect;
mod tls;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::{HeaderValue, LOCATION};
use reqwest::{Client, RequestBuilder, Response};
use url::Url;

pub use self::error::{Error, Retriable, Verdict, not_followed, reason_in, retry_after, shown, without_secrets};
use self::tls::Clients;
pub use self::tls::{ClientIdentity, HostTls, RootsFound, authority, roots_found};
use crate::causes;

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
    /// Redirects are followed where the request can be made again (a body that is a stream cannot) and where they lead
    /// nowhere worse: see [`redirect`]. What goes to another host goes without credentials, client certificates and the leave
    /// to skip checks. A redirect that is not followed is returned as it is.
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
            let (method, started) = (request.method().clone(), Instant::now());
            let sent = self.clients.of(&url)?.execute(request).await;
            let status = sent.as_ref().map_or("no answer".to_owned(), |response| response.status().to_string());
            tracing::debug!("{method} {}: {status} in {:.0?}", shown(&url), started.elapsed());
            let mut response = sent.map_err(|source| Error::transport(url, source))?;
            let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
            let next = location.zip(again).and_then(|(to, again)| redirect::next(again, response.status(), to));
            match next {
                Some(next) => request = next,
                None => {
                    response.extensions_mut().insert(Patience(self.deadline));
                    return Ok(response);
                }
            }
        }
        Err(Error::Redirects { url: Box::new(first) })
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
        self.pause_saying(error, tries, true).await
    }

    /// The same, where why is only said with `-v` unless it is news.
    pub async fn pause_saying(&self, error: &impl Retriable, tries: &mut u32, is_news: bool) -> bool {
        let Verdict::Again { after } = error.verdict() else { return false };
        let why = causes::line(error);
        let say = |text: String| if is_news { tracing::warn!("{text}") } else { tracing::info!("{text}") };
        if *tries == self.retries {
            if *tries > 0 {
                say(format!("{why}; given up after {} tries", *tries + 1));
            }
            return false;
        }
        let wait = self.wait(*tries, after);
        *tries += 1;
        say(format!("{why}; trying again in {:.1} s ({tries} of {})", wait.as_secs_f64(), self.retries));
        tokio::time::sleep(wait).await;
        true
    }

    /// How long to pause after the try with this number, counted from 0.
    pub fn wait(&self, tries: u32, after: Option<Duration>) -> Duration {
        let doubled = self.first_wait.saturating_mul(1_u32.checked_shl(tries).unwrap_or(u32::MAX));
        after.unwrap_or(Duration::ZERO).max(doubled).min(self.longest_wait)
    }
}

/// How long the body of an answer may take, beside what its size takes.
#[derive(Clone, Copy)]
struct Patience(Duration);

/// Reads a whole body of at most `limit` bytes; a longer one is [`Error::TooLarge`].
///
/// A server that sends a byte now and then, so that no wait for the next one is long, is given up ([`Error::TooSlow`]): after
/// [`Http::deadline`] and what the bytes take at [`SLOWEST`].
pub async fn read_limited(response: Response, limit: u64) -> Result<Vec<u8>, Error> {
    read_watched(response, limit, |_| {}).await
}

/// The same, and `watch` is told how many bytes each piece has.
pub async fn read_watched(mut response: Response, limit: u64, watch: impl Fn(u64)) -> Result<Vec<u8>, Error> {
    let url = response.url().clone();
    let Patience(patience) = response.extensions().get().copied().unwrap_or(Patience(DEADLINE));
    let started = Instant::now();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|source| Error::transport(url.clone(), source))? {
        if body.len() as u64 + chunk.len() as u64 > limit {
            return Err(Error::TooLarge { url: Box::new(url), limit });
        }
        body.extend_from_slice(&chunk);
        watch(chunk.len() as u64);
        if started.elapsed() > patience + Duration::from_secs(body.len() as u64 / SLOWEST) {
            return Err(Error::TooSlow {
                url: Box::new(url),
                bytes: body.len() as u64,
                seconds: started.elapsed().as_secs(),
            });
        }
    }
    Ok(body)
}

/// When a token of which its server says that it lives so many seconds (300 where it says nothing) is to be renewed: a little
/// before it expires, and after a day at the latest, whatever the server says.
pub fn renewal(expires_in: Option<u64>) -> Instant {
    Instant::now() + Duration::from_secs(expires_in.unwrap_or(300).min(24 * 60 * 60)).mul_f64(0.8)
}

/// Reads the URL of a web server.
pub fn web_url(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("{error}"))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        _ => Err("expected an http:// or https:// URL".into()),
    }
}

/// The value of a header that is a secret: it is not sent on to another host. What no header can hold becomes empty.
pub fn sensitive(secret: &str) -> HeaderValue {
    let mut value = HeaderValue::from_str(secret).unwrap_or(HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

/// Bytes a second of which no document comes slower but from a server that means to keep us.
pub const SLOWEST: u64 = 16 << 10;

/// For answers that did not come through [`Http::send`].
const DEADLINE: Duration = Duration::from_secs(360);

/// How much longer a whole answer may take than the wait for its next byte.
const DEADLINE_FACTOR: u32 = 4;

/// Redirects that are followed for one request, as by browsers and curl within a few.
const REDIRECTS: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

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

    #[tokio::test]
    async fn an_offline_run_makes_no_request() {
        let http = Http::new(&HttpOptions { offline: true, ..Default::default() }).unwrap();
        let url: Url = "http://127.0.0.1:9/".parse().unwrap();
        let error = http.send(http.get(&url)).await.unwrap_err();
        assert_eq!(error.to_string(), "http://127.0.0.1:9/: not requested, because this run is offline");
        assert_eq!(error.verdict(), Verdict::Permanent);
    }
}
