//! Which redirects are followed, and what goes along.
//!
//! A redirect is what a server, or who sits before it, wants us to do. So:
//!
//! * nothing that began with TLS goes on without it, whatever it carries: who is asked without TLS can answer anything;
//! * what has a body (a token, a login, an upload) is sent to nobody else: a 307 repeats the body, and it may be a secret;
//! * what has secrets in its headers goes to another origin without them, as registries need for blobs that lie with a
//!   storage service.

use reqwest::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHORIZATION};
use reqwest::{Method, Request, StatusCode};
use url::Url;

use crate::reference;

/// The request that a redirect of `request` to `location` asks for (RFC 9110, 15.4); `None` where it is none, or is not
/// followed.
pub(super) fn next(mut request: Request, status: StatusCode, location: &str) -> Option<Request> {
    if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let next = reference::resolve(request.url(), location).ok()?;
    if refusal(request.url(), &next, has_body(&request)).is_some() {
        return None;
    }
    // A write never becomes a read: a login page's 200 would count as success, and nothing would be stored.
    if status.as_u16() <= 303 && !matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    if next.origin() != request.url().origin() {
        remove_secrets(request.headers_mut());
    }
    *request.url_mut() = next;
    Some(request)
}

/// Why a redirect is not followed.
pub(super) fn refusal(from: &Url, to: &Url, has_body: bool) -> Option<&'static str> {
    match (from.scheme(), to.scheme()) {
        ("https", "http") => Some("it is without TLS"),
        (_, "http" | "https") if has_body && to.origin() != from.origin() => Some("it is another host"),
        (_, "http" | "https") => None,
        _ => Some("it is not HTTP"),
    }
}

fn has_body(request: &Request) -> bool {
    request.body().is_some_and(|body| body.as_bytes().is_none_or(|bytes| !bytes.is_empty()))
}

fn remove_secrets(headers: &mut HeaderMap) {
    let named = [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION];
    let is_secret = |name: &HeaderName, value: &HeaderValue| value.is_sensitive() || named.contains(name);
    let secrets: Vec<_> =
        headers.iter().filter(|(name, value)| is_secret(name, value)).map(|(name, _)| name.clone()).collect();
    for name in secrets {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a redirect of a request becomes: method, URL, its secrets and its body.
    fn followed(method: Method, from: &str, body: Option<&'static str>, status: u16, to: &str) -> Option<String> {
        let client = reqwest::Client::new();
        let mut secret = HeaderValue::from_static("key");
        secret.set_sensitive(true);
        let mut request =
            client.request(method, from).header(AUTHORIZATION, "Bearer t").header("x-api-key", secret).build().unwrap();
        *request.body_mut() = body.map(Into::into);
        let next = next(request, StatusCode::from_u16(status).unwrap(), to)?;
        let secrets = [next.headers().contains_key(AUTHORIZATION), next.headers().contains_key("x-api-key")];
        assert_eq!(secrets[0], secrets[1]);
        let body = next.body().and_then(|body| body.as_bytes()).map_or("", |body| std::str::from_utf8(body).unwrap());
        Some(format!("{} {} {} {body}", next.method(), next.url(), if secrets[0] { "with" } else { "without" }))
    }

    #[test]
    fn secrets_stay_with_whom_they_are_for_and_tls_is_not_left() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (a, a_plain) = ("https://a.example/x", "http://a.example/x");
        for (method, from, body, status, to, expected) in [
            // The same origin.
            (Method::GET, a, None, 302, "/y", Some("GET https://a.example/y with ")),
            (Method::POST, a, Some("token"), 307, "/y", Some("POST https://a.example/y with token")),
            // A page in place of what was to be written is no answer to a write.
            (Method::POST, a, Some("token"), 302, "/y", None),
            (Method::GET, a_plain, None, 301, "http://a.example/z", Some("GET http://a.example/z with ")),
            // Another host, another port, TLS in place of none: another origin.
            (Method::GET, a, None, 307, "https://b.example/y", Some("GET https://b.example/y without ")),
            (Method::HEAD, a, None, 303, "https://b.example/y", Some("HEAD https://b.example/y without ")),
            (Method::GET, a, None, 302, "https://a.example:8443/y", Some("GET https://a.example:8443/y without ")),
            (Method::GET, a_plain, None, 308, a, Some("GET https://a.example/x without ")),
            // A body goes to nobody else, and what it would be answered with is not wanted either.
            (Method::POST, a, Some("token"), 307, "https://b.example/y", None),
            (Method::POST, a, Some("token"), 308, "https://b.example/y", None),
            (Method::POST, a, Some("token"), 302, "https://b.example/y", None),
            (Method::POST, a_plain, Some("token"), 307, "https://a.example/x", None),
            (Method::PUT, a, Some(""), 307, "https://b.example/y", Some("PUT https://b.example/y without ")),
            // TLS is not left, with a secret or without.
            (Method::GET, a, None, 302, a_plain, None),
            (Method::GET, a, None, 302, "http://b.example/y", None),
            (Method::GET, a, None, 302, "ftp://b.example/y", None),
            (Method::GET, a, None, 304, "https://b.example/y", None),
        ] {
            let line = format!("{method} {from} {status} {to}");
            assert_eq!(followed(method, from, body, status, to).as_deref(), expected, "{line}");
        }
    }
}
