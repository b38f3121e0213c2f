//! Where a bucket and its objects are.

use url::{Host, Url};

use crate::publish::s3::Error;
use crate::publish::s3::sign::encode;

/// Where in addresses a bucket's name stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addressing {
    /// `https://HOST/BUCKET/KEY`, which every server understands.
    #[default]
    Path,
    /// `https://BUCKET.HOST/KEY`, which some want; their names and certificates cover `*.HOST`.
    Virtual,
}

/// The address of a bucket at `endpoint`, to which keys are appended.
#[expect(clippy::disallowed_methods, reason = "every part is encoded as S3 signs it")]
pub(super) fn base(endpoint: &Url, bucket: &str, addressing: Addressing) -> Result<Url, Error> {
    let bad = |why| Err(Error::BadName { name: bucket.to_owned(), why });
    if bucket.contains('/') {
        return bad("a bucket's name has no slash");
    }
    let mut url = endpoint.clone();
    let path = url.path().trim_end_matches('/').to_owned();
    if addressing == Addressing::Path {
        url.set_path(&format!("{path}/{}", encode(bucket)));
        return Ok(url);
    }
    let Some(Host::Domain(host)) = endpoint.host() else {
        return bad("virtual addressing needs a server with a name: no bucket's name can stand before a number");
    };
    // Hosts' names are written in lower case, by which another bucket would be meant.
    let is_label = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
    if !bucket.bytes().all(is_label) || url.set_host(Some(&format!("{bucket}.{host}"))).is_err() {
        return bad("it cannot be part of a host's name, as virtual addressing has it");
    }
    Ok(url)
}

/// The address of an object, or of the bucket when `key` is empty.
#[expect(clippy::disallowed_methods, reason = "every part is encoded as S3 signs it")]
pub(super) fn of(base: &Url, key: &str, query: &[(&str, &str)]) -> Url {
    let mut url = base.clone();
    let mut path = url.path().trim_end_matches('/').to_owned();
    for part in key.split('/').filter(|part| !part.is_empty()) {
        path.push('/');
        path.push_str(&encode(part));
    }
    url.set_path(&path);
    let query: Vec<String> = query.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    url.set_query((!query.is_empty()).then(|| query.join("&")).as_deref());
    url
}

/// `Host` as the HTTP client writes it.
pub(super) fn host(url: &Url) -> String {
    let host = match url.host() {
        Some(Host::Ipv6(address)) => format!("[{address}]"),
        Some(host) => host.to_string(),
        None => String::new(),
    };
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_in_the_path_or_before_the_host() {
        let of = |endpoint: &str, bucket: &str, addressing| {
            let base = base(&endpoint.parse().unwrap(), bucket, addressing).map_err(|error| error.to_string())?;
            Ok::<_, String>(of(&base, "id/a b", &[("uploads", "")]).to_string())
        };
        let (path, host) = (Addressing::Path, Addressing::Virtual);
        for (endpoint, bucket, addressing, expected) in [
            ("http://10.0.0.1:8080", "boot", path, Ok("http://10.0.0.1:8080/boot/id/a%20b?uploads=")),
            ("https://rgw.local/s3/", "boot", path, Ok("https://rgw.local/s3/boot/id/a%20b?uploads=")),
            ("https://rgw.local:8443", "boot", host, Ok("https://boot.rgw.local:8443/id/a%20b?uploads=")),
            ("https://rgw.local/s3/", "b.c", host, Ok("https://b.c.rgw.local/s3/id/a%20b?uploads=")),
            ("https://rgw.local", "boot/sub", path, Err("no slash")),
            ("http://10.0.0.1:8080", "boot", host, Err("a server with a name")),
            ("http://[::1]:8080", "boot", host, Err("a server with a name")),
            ("https://rgw.local", "Boot", host, Err("part of a host's name")),
            ("https://rgw.local", "b?c", host, Err("part of a host's name")),
        ] {
            match (of(endpoint, bucket, addressing), expected) {
                (Ok(url), Ok(expected)) => assert_eq!(url, expected),
                (Err(error), Err(words)) => assert!(error.contains(words), "{error}"),
                (found, _) => panic!("{endpoint} {bucket}: {found:?}"),
            }
        }
    }

    #[test]
    fn hosts_are_named_as_the_client_names_them() {
        for (url, name) in [
            ("http://127.0.0.1:9000/x", "127.0.0.1:9000"),
            ("https://rgw.local:443/", "rgw.local"),
            ("http://[::1]:80/", "[::1]"),
        ] {
            assert_eq!(host(&url.parse().unwrap()), name);
        }
    }
}
