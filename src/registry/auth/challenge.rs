//! What a registry asks for before it answers: `WWW-Authenticate` (RFC 9110, 11.6.1).
//!
//! ```text
//! WWW-Authenticate: Bearer realm="https://auth.example/token",service="reg",scope="repository:a/b:pull"
//! WWW-Authenticate: Negotiate, Basic realm=registry
//! ```
//!
//! Read leniently, as registries and what stands before them write it: several challenges in one header, values without quotes
//! (also those that need them), blanks around `=`, names in any case, parameters before the scheme's first comma or behind it.

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};
use url::Url;

use crate::reference;

/// A challenge that can be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// With user and password.
    Basic,
    /// With a token of a service.
    Bearer {
        /// The service's address, which may be relative to the registry's.
        realm: String,
        /// What the registry is called there.
        service: Option<String>,
        /// What it wants the token to be good for; several with blanks between.
        scope: Option<String>,
    },
}

impl Challenge {
    /// Where tokens are to be had, for a registry at `base`.
    pub(crate) fn realm(realm: &str, base: &Url) -> Option<Url> {
        reference::resolve(base, realm).ok()
    }
}

/// The best of the challenges in an answer: Bearer before Basic, whatever stands first.
pub(crate) fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let mut basic = None;
    for header in headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|text| text.to_str().ok()) {
        for Offered { scheme, parameters } in offered(header) {
            let parameter = |name: &str| {
                let found = parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
            };
            if scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Challenge::Basic);
            } else if scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = parameter("realm")
            {
                return Some(Challenge::Bearer { realm, service: parameter("service"), scope: parameter("scope") });
            }
        }
    }
    basic
}

/// One challenge as it stands there.
struct Offered<'a> {
    scheme: &'a str,
    parameters: Vec<(&'a str, String)>,
}

fn offered(header: &str) -> Vec<Offered<'_>> {
    let mut found: Vec<Offered<'_>> = Vec::new();
    for part in outside_quotes(header) {
        let (before, value) = match part.split_once('=') {
            Some((before, value)) => (before.trim(), Some(value.trim())),
            None => (part.trim(), None),
        };
        // `Bearer realm`, or a parameter of what came before.
        let (scheme, name) = match (before.split_once(char::is_whitespace), value) {
            (Some((scheme, name)), Some(_)) => (Some(scheme), name.trim()),
            (None, Some(_)) => (None, before),
            (_, None) => (before.split_whitespace().next(), ""),
        };
        found.extend(scheme.map(|scheme| Offered { scheme, parameters: Vec::new() }));
        if let (Some(value), Some(last)) = (value, found.last_mut()) {
            last.parameters.push((name, unquoted(value)));
        }
    }
    found
}

/// What stands between commas that are not in quotes.
fn outside_quotes(text: &str) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |c: char| {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted ^= true,
            _ => {}
        }
        c == ',' && !is_quoted
    })
}

fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"') else { return value.to_owned() };
    let mut text = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => text.extend(chars.next()),
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_however_they_are_written() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            let [service, scope] = [service, scope].map(|text| text.map(str::to_owned));
            Some(Challenge::Bearer { realm: realm.to_owned(), service, scope })
        };
        let whole = bearer("https://a/t", Some("reg"), Some("repository:a/b:pull,push"));
        let simple = bearer("https://a/t", None, None);
        for (headers, expected) in [
            (&[r#"Bearer realm="https://a/t",service="reg",scope="repository:a/b:pull,push""#][..], whole.clone()),
            (&[r#"bearer Realm = "https://a/t" , SERVICE="reg", scope="repository:a/b:pull,push""#], whole.clone()),
            (&[r#"Basic realm="x", Bearer realm="https://a/t",service=reg,scope="repository:a/b:pull,push""#], whole),
            (&["Bearer realm=https://a/t"], simple.clone()),
            (&["Basic realm=\"x\"", "Bearer realm=\"https://a/t\""], simple.clone()),
            (&["Bearer realm=\"https://a/t\"", "Basic realm=\"x\""], simple.clone()),
            (&["Negotiate", "Basic"], Some(Challenge::Basic)),
            (&["Negotiate, Basic realm=x"], Some(Challenge::Basic)),
            (&["Negotiate YII==, bearer realm=\"https://a/t\""], simple),
            (&[r#"Basic realm="a, Bearer realm=b""#], Some(Challenge::Basic)),
            (&[r#"Bearer realm="a\"b",service="""#], bearer("a\"b", None, None)),
            (&["Bearer", "Basic"], Some(Challenge::Basic)),
            (&["Bearer realm=\"\""], None),
            (&["Negotiate"], None),
            (&["", ",,=,"], None),
            (&[], None),
        ] {
            let headers: HeaderMap = headers.iter().map(|text| (WWW_AUTHENTICATE, text.parse().unwrap())).collect();
            assert_eq!(challenge(&headers), expected, "{headers:?}");
        }
    }

    #[test]
    fn a_realm_may_be_relative() {
        let base: Url = "https://reg.example/v2/".parse().unwrap();
        for (realm, expected) in [
            ("https://auth.example/token", Some("https://auth.example/token")),
            ("/token", Some("https://reg.example/token")),
            ("//auth.example/token?x=1", Some("https://auth.example/token?x=1")),
            ("ftp://auth.example/", None),
            ("https://", None),
        ] {
            assert_eq!(Challenge::realm(realm, &base).map(String::from).as_deref(), expected, "{realm}");
        }
    }
}
