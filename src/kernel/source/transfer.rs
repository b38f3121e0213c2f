//! Metadata fetched whole when it is small, and into a temporary file when it is not; the digest is right or it is an error.

use std::fs::File;
use std::io::{Seek, Write};

use reqwest::StatusCode;
use url::Url;

use crate::fs::PathContext;
use crate::http::{self, Http, read_limited};
use crate::kernel::checksum::Checksum;
use crate::kernel::source::cache::{Cache, Kept};
use crate::kernel::source::{Error, Mismatch, Options};

/// What an index is expected to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expected {
    /// The digest of the file as it is transferred.
    pub(super) digest: Checksum,
    /// Its size in bytes, where that is stated.
    pub(super) size: Option<u64>,
}

impl Expected {
    /// Says so where an index is stated by a digest alone that others can meet, which a signature cannot vouch for.
    pub(super) fn is_good_enough(&self, url: &Url, options: &Options) -> Result<(), Error> {
        if self.digest.is_strong() {
            return Ok(());
        }
        if options.keyring.is_some() {
            return Err(Error::malformed(
                url,
                "it states its indexes by MD5 or SHA-1 alone, so that the signature does not cover them",
            ));
        }
        let kind = self.digest.kind();
        tracing::warn!("{}: its index is stated by {kind} alone, which tells damage and not forgery", http::shown(url));
        Ok(())
    }
}

/// Fetches a small file whole, or what `cache` has when the server says that it is still the same.
pub(super) async fn small(http: &Http, url: &Url, limit: u64, cache: Option<&Cache>) -> Result<Vec<u8>, http::Error> {
    http.retry()
        .run(async || {
            let kept = cache.and_then(|cache| cache.answer(url, limit));
            let conditions = kept.as_ref().map(Kept::conditions).unwrap_or_default();
            let response = http.send(http.get(url).headers(conditions)).await?;
            match (response.status(), kept) {
                (StatusCode::NOT_MODIFIED, Some(kept)) => return Ok(kept.body),
                (StatusCode::OK, _) => {}
                _ => return Err(http::Error::status(response).await),
            }
            let headers = response.headers().clone();
            let body = read_limited(response, limit).await?;
            if let Some(cache) = cache {
                cache.keep_answer(url, &headers, &body);
            }
            Ok(body)
        })
        .await
}

/// Whether a server has a file. One that does not answer well is asked once.
pub(super) async fn is_there(http: &Http, url: &Url) -> bool {
    http.send(http.get(url)).await.is_ok_and(|response| response.status() == StatusCode::OK)
}

/// Fetches a file into an unnamed temporary file, which stands at its beginning then; or finds it in `cache`.
pub(super) async fn large(http: &Http, url: &Url, expected: &Expected, cache: Option<&Cache>) -> Result<File, Error> {
    if let Some(file) = cache.and_then(|cache| cache.index(&expected.digest)) {
        return Ok(file);
    }
    let limit = expected.size.unwrap_or(LARGE_LIMIT).min(LARGE_LIMIT);
    let (mut file, actual) = http.retry().run(async || once(http, url, &expected.digest, limit).await).await?;
    if actual != expected.digest {
        let (expected, actual) = (expected.digest.to_string(), actual.to_string());
        return Err(Mismatch { url: Box::new(url.clone()), expected, actual }.into());
    }
    if let Some(cache) = cache {
        cache.keep_index(&expected.digest, &mut file)?;
    }
    Ok(file)
}

async fn once(http: &Http, url: &Url, expected: &Checksum, limit: u64) -> Result<(File, Checksum), Error> {
    let mut response = http.send(http.get(url)).await?;
    if response.status() != StatusCode::OK {
        return Err(http::Error::status(response).await.into());
    }
    let file = tempfile::tempfile().at("create a file in", std::env::temp_dir())?;
    let mut writer = expected.hasher(file);
    let mut size = 0;
    let broke = |source| http::Error::transport(url.clone(), source);
    while let Some(chunk) = response.chunk().await.map_err(broke)? {
        size += chunk.len() as u64;
        if size > limit {
            return Err(http::Error::TooLarge { url: Box::new(url.clone()), limit }.into());
        }
        writer.write_all(&chunk).at("write to", std::env::temp_dir())?;
    }
    let (digest, mut file) = writer.finish();
    file.rewind().at("read from", std::env::temp_dir())?;
    Ok((file, digest))
}

/// The largest compressed index there is, of a whole distribution with all its files, has 100 MiB.
const LARGE_LIMIT: u64 = 2 << 30;
