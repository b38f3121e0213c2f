//! AWS Signature Version 4 for S3: the `Authorization` header of a request whose payload digest is known.
//!
//! ```text
//! canonical  METHOD \n PATH \n QUERY \n name:value \n … \n \n name;… \n SHA256(payload)
//! to sign    AWS4-HMAC-SHA256 \n DATE \n DAY/REGION/s3/aws4_request \n SHA256(canonical)
//! key        HMAC(HMAC(HMAC(HMAC("AWS4" + SECRET, DAY), REGION), "s3"), "aws4_request")
//! ```
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>, whose examples are the tests.

use std::collections::BTreeMap;
use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use url::Url;

use crate::digest::{Digest, hex};

/// Who signs.
#[derive(Clone)]
pub struct Credentials {
    /// The access key, which is no secret.
    pub access_key: String,
    /// The secret key.
    pub secret_key: String,
    /// What temporary credentials (STS) come with.
    pub session_token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({}, REDACTED)", self.access_key)
    }
}

/// What is signed beside the method and the URL, which must be encoded as [`encode`] does it.
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    pub(super) url: &'a Url,
    /// By lower-case name; `host`, `x-amz-date` and `x-amz-content-sha256` must be there.
    pub(super) headers: &'a BTreeMap<&'a str, String>,
    /// 64 hexadecimal digits.
    pub(super) payload: &'a str,
}

/// The value of `Authorization` for a request in `region` at `date` (`YYYYMMDDTHHMMSSZ`).
pub(super) fn authorization(request: &Request<'_>, credentials: &Credentials, region: &str, date: &str) -> String {
    let signed = request.headers.keys().copied().collect::<Vec<_>>().join(";");
    let scope = format!("{}/{region}/s3/aws4_request", &date[..8]);
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", Digest::sha256(canonical(request, &signed)).hex());
    let secret = format!("AWS4{}", credentials.secret_key);
    let key = scope.split('/').fold(secret.into_bytes(), |key, part| mac(&key, part));
    let signature = hex(&mac(&key, &to_sign));
    format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={signed}, Signature={signature}",
        credentials.access_key
    )
}

/// Percent-encodes all but `A-Z a-z 0-9 - . _ ~`, as signatures require it of paths' parts and queries.
pub(in crate::publish) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

fn canonical(request: &Request<'_>, signed: &str) -> String {
    let mut query: Vec<&str> = request.url.query().unwrap_or_default().split('&').filter(|q| !q.is_empty()).collect();
    query.sort_unstable();
    let mut text = format!("{}\n{}\n{}\n", request.method, request.url.path(), query.join("&"));
    for (name, value) in request.headers {
        let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
        text.push_str(&format!("{name}:{value}\n"));
    }
    text.push_str(&format!("\n{signed}\n{}", request.payload));
    text
}

fn mac(key: &[u8], data: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("keys of any length are taken");
    mac.update(data.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn signatures_are_those_of_the_documented_examples() {
        let credentials = Credentials {
            access_key: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
            session_token: None,
        };
        let content = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
        let cases = [
            (
                "GET",
                "test.txt",
                &[("range", "bytes=0-9")][..],
                EMPTY,
                "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
            ),
            (
                "PUT",
                "test%24file.text",
                &[("date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")],
                content,
                "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
            ),
            ("GET", "?lifecycle=", &[], EMPTY, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
            (
                "GET",
                "?prefix=J&max-keys=2",
                &[],
                EMPTY,
                "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            ),
        ];
        for (method, path, extra, payload, signature) in cases {
            let url: Url = format!("https://examplebucket.s3.amazonaws.com/{path}").parse().unwrap();
            let mut headers = BTreeMap::from([
                ("host", "examplebucket.s3.amazonaws.com".to_owned()),
                ("x-amz-content-sha256", payload.to_owned()),
                ("x-amz-date", "20130524T000000Z".to_owned()),
            ]);
            headers.extend(extra.iter().map(|(name, value)| (*name, (*value).to_owned())));
            let request = Request { method, url: &url, headers: &headers, payload };
            let value = authorization(&request, &credentials, "us-east-1", "20130524T000000Z");
            assert_eq!(value.rsplit('=').next(), Some(signature), "{method} {path}");
        }
    }

    #[test]
    fn secrets_are_not_shown_and_odd_characters_are_encoded() {
        let credentials =
            Credentials { access_key: "me".into(), secret_key: "s3cret".into(), session_token: Some("t0ken".into()) };
        assert_eq!(format!("{credentials:?}"), "Credentials(me, REDACTED)");
        assert_eq!(encode("a b/ö+~"), "a%20b%2F%C3%B6%2B~");
    }
}
