//! The part of S3 that an upload needs: one bucket, whole objects and multipart uploads that can be taken up again.
//!
//! ```text
//! HEAD   /BUCKET                               is it there
//! PUT    /BUCKET/KEY                           a small object, metadata in x-amz-meta-*
//! POST   /BUCKET/KEY?uploads                   → UploadId
//! PUT    /BUCKET/KEY?partNumber=N&uploadId=U   → ETag, the MD5 of the part
//! GET    /BUCKET/KEY?uploadId=U                → what is there of it
//! POST   /BUCKET/KEY?uploadId=U                all parts → ETag, MD5 of the parts' MD5s and their number
//! DELETE /BUCKET/KEY[?uploadId=U]
//! ```
//!
//! Requests are signed with the SHA-256 of their payload ([`sign`]), so that a server refuses what was damaged on the way.
//! There are no trailing checksums, which older servers that speak S3 do not know. The address
//! is path style, as such servers want it, or virtual-host style ([`Addressing`]). Why not a ready-made crate: object_store does not list the parts of an upload,
//! so that it cannot be resumed, and brings an HTTP stack of its own.

mod address;
mod answer;
mod error;
mod piece;
mod sign;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use url::Url;

pub use self::address::Addressing;
pub use self::error::{Error, Location};
pub(super) use self::piece::file_body;
pub use self::piece::{Content, Piece, md5, multipart_etag};
pub use self::sign::Credentials;
pub(super) use self::sign::encode;
use crate::http::{self, Http, Retriable, Verdict, read_limited};
use crate::publish::Patience;

/// One bucket and who may write to it.
pub struct Bucket {
    http: Http,
    patience: Arc<Patience>,
    /// The address that keys are appended to.
    base: Url,
    options: BucketOptions,
}

/// Where a bucket is.
#[derive(Clone, Debug)]
pub struct BucketOptions {
    /// The server, `https://rgw-vip.local`.
    pub endpoint: Url,
    /// The bucket's name.
    pub name: String,
    /// What the server calls its region; servers other than Amazon's take any.
    pub region: String,
    /// Where in addresses the bucket's name stands.
    pub addressing: Addressing,
    /// Who signs.
    pub credentials: Credentials,
}

/// What `HEAD` says of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// In bytes.
    pub size: Option<u64>,
    /// Without its quotes.
    pub etag: String,
    /// `x-amz-meta-*` without the prefix.
    pub metadata: BTreeMap<String, String>,
    /// Encrypted with a key service, so that the ETag is no MD5.
    pub is_encrypted: bool,
}

/// A part that a server has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// From 1.
    pub number: u32,
    /// Without its quotes; some servers do not state it.
    pub etag: Option<String>,
    /// In bytes.
    pub size: Option<u64>,
}

impl Bucket {
    /// Prepares the bucket; contacts nobody. A name that cannot be part of the address is refused.
    pub fn new(http: Http, patience: Arc<Patience>, options: BucketOptions) -> Result<Self, Error> {
        let BucketOptions { endpoint, name, addressing, .. } = &options;
        let base = address::base(endpoint, name, *addressing)?;
        Ok(Bucket { http, patience, base, options })
    }

    /// The bucket's name.
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// The server.
    pub fn endpoint(&self) -> &Url {
        &self.options.endpoint
    }

    /// `s3://BUCKET/KEY`
    pub fn place(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.options.name)
    }

    /// Finds out whether the bucket is there and the credentials are taken.
    ///
    /// `HEAD` has no reason in its answer. A refusal is therefore looked into with a listing; one that only says that
    /// listing is not allowed is no reason not to write.
    pub async fn check(&self) -> Result<(), Error> {
        let refused = match self.run("", || self.request(&Method::HEAD, "", &[], &[], None)).await {
            Ok(_) => return Ok(()),
            Err(Error::Refused { place, status: StatusCode::NOT_FOUND, message, retry_after, at, .. }) => {
                let code = "NoSuchBucket".to_owned();
                return Err(Error::Refused { place, status: StatusCode::NOT_FOUND, code, message, retry_after, at });
            }
            Err(error) => error,
        };
        if !matches!(refused, Error::Refused { .. }) || matches!(refused.verdict(), Verdict::Again { .. }) {
            return Err(refused);
        }
        let query = [("list-type", "2"), ("max-keys", "1")];
        match self.run("", || self.request(&Method::GET, "", &query, &[], None)).await {
            Err(error) if !matches!(error.code(), Some("AccessDenied" | "NotImplemented" | "MethodNotAllowed")) => {
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// What is under a key, or none.
    pub async fn head(&self, key: &str) -> Result<Option<Head>, Error> {
        match self.run(key, || self.request(&Method::HEAD, key, &[], &[], None)).await {
            Ok(response) => Ok(Some(Head::read(response.headers()))),
            Err(Error::Refused { status: StatusCode::NOT_FOUND, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads an object of at most `limit` bytes.
    pub async fn get(&self, key: &str, limit: u64) -> Result<Vec<u8>, Error> {
        let response = self.run(key, || self.request(&Method::GET, key, &[], &[], None)).await?;
        Ok(read_limited(response, limit).await?)
    }

    /// Writes an object in one request and returns its ETag.
    pub async fn put(&self, key: &str, piece: &Piece, metadata: &[(String, String)]) -> Result<String, Error> {
        let response = self.run(key, || self.request(&Method::PUT, key, &[], metadata, Some(piece))).await?;
        self.etag(key, &response)
    }

    /// Starts a multipart upload and returns its id.
    pub async fn create_upload(&self, key: &str, metadata: &[(String, String)]) -> Result<String, Error> {
        let query = [("uploads", "")];
        let response = self.run(key, || self.request(&Method::POST, key, &query, metadata, None)).await?;
        let body = read_limited(response, ANSWER_LIMIT).await?;
        answer::text(&body, "UploadId").ok_or_else(|| self.malformed(key, "UploadId"))
    }

    /// Sends a part, whose number is from 1, and returns its ETag.
    pub async fn upload_part(&self, key: &str, upload: &str, number: u32, piece: &Piece) -> Result<String, Error> {
        let number = number.to_string();
        let query = [("partNumber", number.as_str()), ("uploadId", upload)];
        let response = self.run(key, || self.request(&Method::PUT, key, &query, &[], Some(piece))).await?;
        self.etag(key, &response)
    }

    /// The parts that are there of an upload. Not all servers can tell.
    pub async fn parts(&self, key: &str, upload: &str) -> Result<Vec<Part>, Error> {
        let mut parts = Vec::new();
        let mut marker = String::from("0");
        loop {
            let query = [("part-number-marker", marker.as_str()), ("uploadId", upload)];
            let response = self.run(key, || self.request(&Method::GET, key, &query, &[], None)).await?;
            let body = read_limited(response, ANSWER_LIMIT).await?;
            parts.extend(answer::parts(&body));
            match answer::text(&body, "NextPartNumberMarker") {
                Some(next) if answer::text(&body, "IsTruncated").as_deref() == Some("true") && next != marker => {
                    marker = next;
                }
                _ => return Ok(parts),
            }
        }
    }

    /// Makes an object of the parts, whose ETags are given in their order, and returns its ETag.
    pub async fn complete(&self, key: &str, upload: &str, etags: &[String]) -> Result<String, Error> {
        let parts: String = (1..)
            .zip(etags)
            .map(|(number, etag)| {
                format!("<Part><PartNumber>{number}</PartNumber><ETag>&quot;{etag}&quot;</ETag></Part>")
            })
            .collect();
        let body = format!(
            r#"<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{parts}</CompleteMultipartUpload>"#
        );
        let piece = Piece::bytes(body.into());
        let query = [("uploadId", upload)];
        self.patience
            .run(async || {
                let response = self.send(key, self.request(&Method::POST, key, &query, &[], Some(&piece))).await?;
                // It may take minutes, and servers answer 200 before they know how it ends.
                let status = response.status();
                let body = read_limited(response, ANSWER_LIMIT).await?;
                if let Some(code) = answer::text(&body, "Code") {
                    let message = answer::text(&body, "Message").unwrap_or_default();
                    let status = if status == 200 { StatusCode::INTERNAL_SERVER_ERROR } else { status };
                    let (place, at) = (self.place(key), Box::default());
                    return Err(Error::Refused { place, status, code, message, retry_after: None, at });
                }
                answer::text(&body, "ETag").map(unquoted).ok_or_else(|| self.malformed(key, "ETag"))
            })
            .await
    }

    /// Gives up an upload and its parts; one that is not there is fine.
    pub async fn abort(&self, key: &str, upload: &str) -> Result<(), Error> {
        self.remove(key, &[("uploadId", upload)]).await
    }

    /// Removes an object; one that is not there is fine.
    pub async fn delete(&self, key: &str) -> Result<(), Error> {
        self.remove(key, &[]).await
    }

    async fn remove(&self, key: &str, query: &[(&str, &str)]) -> Result<(), Error> {
        match self.run(key, || self.request(&Method::DELETE, key, query, &[], None)).await {
            Err(Error::Refused { status: StatusCode::NOT_FOUND, .. }) => Ok(()),
            // 204, or an empty 200. A page is of somebody who sits in between.
            Ok(response)
                if response
                    .headers()
                    .get(CONTENT_TYPE)
                    .is_some_and(|kind| kind.as_bytes().starts_with(b"text/html")) =>
            {
                Err(self.malformed(key, "sign of S3"))
            }
            result => result.map(drop),
        }
    }

    /// Sends a request until it succeeds; each try is signed anew.
    async fn run(&self, key: &str, request: impl Fn() -> RequestBuilder) -> Result<Response, Error> {
        self.patience.run(async || self.send(key, request()).await).await
    }

    async fn send(&self, key: &str, request: RequestBuilder) -> Result<Response, Error> {
        let response = self.http.send(request).await?;
        let status = response.status();
        let asked = address::of(&self.base, key, &[]);
        // What is signed is signed for one address. A page that a redirect led to would count as success.
        if response.url().origin() != asked.origin() || response.url().path() != asked.path() {
            let (to, endpoint) = (Box::new(response.url().clone()), Box::new(self.options.endpoint.clone()));
            return Err(Error::Redirected { place: self.place(key), to, endpoint });
        }
        if status.is_success() {
            return Ok(response);
        }
        let retry_after = http::retry_after(response.headers());
        let elsewhere = http::not_followed(&response);
        let region = response.headers().get("x-amz-bucket-region").and_then(|region| region.to_str().ok());
        let region = region.map(str::to_owned);
        let body = read_limited(response, ANSWER_LIMIT).await.unwrap_or_default();
        let code = answer::text(&body, "Code");
        let code = code.unwrap_or_else(|| status.canonical_reason().unwrap_or("refused").to_owned());
        let message = answer::text(&body, "Message").or(elsewhere).unwrap_or_default();
        let endpoint = answer::text(&body, "Endpoint");
        let at = Box::new(Location { region: region.or_else(|| answer::text(&body, "Region")), endpoint });
        Err(Error::Refused { place: self.place(key), status, code, message, retry_after, at })
    }

    fn request(
        &self,
        method: &Method,
        key: &str,
        query: &[(&str, &str)],
        metadata: &[(String, String)],
        piece: Option<&Piece>,
    ) -> RequestBuilder {
        let BucketOptions { region, credentials, .. } = &self.options;
        let url = address::of(&self.base, key, query);
        let date = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let payload = piece.map_or(EMPTY_SHA256, |piece| &piece.sha256);
        let names: Vec<String> = metadata.iter().map(|(name, _)| format!("x-amz-meta-{name}")).collect();
        let mut headers: BTreeMap<&str, String> = BTreeMap::from([
            ("host", address::host(&url)),
            ("x-amz-content-sha256", payload.to_owned()),
            ("x-amz-date", date.clone()),
        ]);
        headers.extend(names.iter().map(String::as_str).zip(metadata.iter().map(|(_, value)| value.clone())));
        if let Some(token) = &credentials.session_token {
            headers.insert("x-amz-security-token", token.clone());
        }
        let to_sign = sign::Request { method: method.as_str(), url: &url, headers: &headers, payload };
        let authorization = sign::authorization(&to_sign, credentials, region, &date);
        // Nothing else limits the time that a server takes the body in.
        let length = piece.map_or(0, Piece::length);
        let time = self.http.deadline() + Duration::from_secs(length / SLOWEST);
        let mut request =
            self.http.client().request(method.clone(), url).header("authorization", authorization).timeout(time);
        for (name, value) in headers.into_iter().filter(|(name, _)| *name != "host") {
            request = match name {
                "x-amz-security-token" => request.header(name, http::sensitive(&value)),
                _ => request.header(name, value),
            };
        }
        match piece {
            Some(piece) => request.header(CONTENT_LENGTH, length).body(piece.body()),
            None if *method == Method::POST => request.header(CONTENT_LENGTH, 0),
            None => request,
        }
    }

    fn etag(&self, key: &str, response: &Response) -> Result<String, Error> {
        let etag = response.headers().get(ETAG).and_then(|etag| etag.to_str().ok());
        etag.map(unquoted).ok_or_else(|| self.malformed(key, "ETag"))
    }

    fn malformed(&self, key: &str, what: &'static str) -> Error {
        Error::Malformed { place: self.place(key), what }
    }
}

impl Head {
    fn read(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let metadata = headers.iter().filter_map(|(name, value)| {
            let name = name.as_str().strip_prefix("x-amz-meta-")?;
            Some((name.to_owned(), value.to_str().ok()?.to_owned()))
        });
        Head {
            size: text("content-length").and_then(|size| size.parse().ok()),
            etag: text("etag").map(unquoted).unwrap_or_default(),
            metadata: metadata.collect(),
            is_encrypted: text("x-amz-server-side-encryption").is_some_and(|kind| kind.starts_with("aws:kms")),
        }
    }
}

/// A value that can be user metadata, which is visible ASCII: anything else is written as an encoded word (RFC 2047), cut
/// so that it takes at most `longest` bytes.
pub fn metadata_value(text: &str, longest: usize) -> String {
    let is_plain = text.bytes().all(|byte| (0x20..0x7f).contains(&byte))
        && text.split(' ').all(|word| !word.is_empty())
        && !text.starts_with("=?");
    if is_plain && text.len() <= longest {
        return text.to_owned();
    }
    let room = (longest.saturating_sub("=?UTF-8?B??=".len())) / 4 * 3;
    let mut end = text.len().min(room);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("=?UTF-8?B?{}?=", BASE64.encode(&text[..end]))
}

fn unquoted(etag: impl AsRef<str>) -> String {
    etag.as_ref().trim().trim_start_matches("W/").trim_matches('"').to_owned()
}

/// The digest of nothing.
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Answers are short; a list of 1,000 parts has some 200 KiB.
const ANSWER_LIMIT: u64 = 4 << 20;

/// Bytes a second below which a server is given up.
const SLOWEST: u64 = 50 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_ascii_and_short_whatever_the_name() {
        for (text, value) in [
            ("my new image", "my new image"),
            ("größe", "=?UTF-8?B?Z3LDtsOfZQ==?="),
            ("two  spaces", "=?UTF-8?B?dHdvICBzcGFjZXM=?="),
            ("a\nb", "=?UTF-8?B?YQpi?="),
            ("", "=?UTF-8?B??="),
        ] {
            assert_eq!(metadata_value(text, 1024), value);
        }
        let long = metadata_value(&"ö".repeat(5000), 1024);
        assert!(long.len() <= 1024 && long.starts_with("=?UTF-8?B?w7bDts") && long.ends_with("?="), "{}", long.len());
    }
}
