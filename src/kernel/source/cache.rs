//! Metadata kept between runs, in a directory that the user names.
//!
//! ```text
//! DIR/url-SHA256.json    the answer of a URL: {"url", "sha256", "etag", "last_modified"} in the first line, its body behind it
//! DIR/sha256-HEX         an index that something signed or fetched anew names by this digest
//! ```
//!
//! The small files at the root of a repository (`InRelease`, `repomd.xml`) are asked for each time, with what the server
//! said about the last answer, so that it need not send it again (RFC 9110, 13.1). Indexes are named by digests: one that
//! is here and right is not asked for. Signatures and digests are checked as if all had just come; what is broken here
//! counts as not here, and what has not been used for 30 days is removed.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use reqwest::header::{ETAG, HeaderMap, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::digest::Digest;
use crate::fs::{self, AtomicFile, PathContext, PathError};

/// A directory of metadata.
#[derive(Clone, Debug)]
pub struct Cache(PathBuf);

/// An answer of an earlier run.
pub(super) struct Kept {
    validators: Validators,
    pub(super) body: Vec<u8>,
}

#[derive(Deserialize, Serialize)]
struct Validators {
    url: Url,
    /// Of the body.
    sha256: Digest,
    etag: Option<String>,
    last_modified: Option<String>,
}

impl Cache {
    /// Opens the directory, which is created, and removes what is old.
    pub fn open(directory: &Path) -> Result<Self, PathError> {
        fs::create_dir_all(directory)?;
        let oldest = SystemTime::now() - KEPT_FOR;
        for path in fs::list(directory)? {
            let is_ours = path.file_name().is_some_and(|name| {
                let name = name.to_string_lossy();
                ["url-", "sha", "md5sum-"].iter().any(|kind| name.starts_with(kind))
            });
            if is_ours && path.metadata().and_then(|metadata| metadata.modified()).is_ok_and(|used| used < oldest) {
                fs::remove_file(&path)?;
            }
        }
        Ok(Cache(directory.to_owned()))
    }

    /// What a URL answered last time.
    pub(super) fn answer(&self, url: &Url, limit: u64) -> Option<Kept> {
        let mut content = fs::read(&self.answer_path(url), limit + HEAD_LIMIT).ok()?;
        let end = content.iter().position(|byte| *byte == b'\n')?;
        let validators: Validators = serde_json::from_slice(&content[..end]).ok()?;
        let body = content.split_off(end + 1);
        let is_whole = validators.url == *url && validators.sha256 == Digest::sha256(&body);
        is_whole.then_some(Kept { validators, body })
    }

    /// Keeps what a URL answered, if the answer can be asked about again.
    pub(super) fn keep_answer(&self, url: &Url, headers: &HeaderMap, body: &[u8]) {
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let sha256 = Digest::sha256(body);
        let validators =
            Validators { url: url.clone(), sha256, etag: header(ETAG), last_modified: header(LAST_MODIFIED) };
        if validators.etag.is_none() && validators.last_modified.is_none() {
            return;
        }
        let mut content = serde_json::to_vec(&validators).expect("texts are JSON");
        content.push(b'\n');
        content.extend_from_slice(body);
        self.said(fs::write(&self.answer_path(url), &content));
    }

    /// The index with this digest, which was compared with it.
    pub(super) fn index(&self, digest: &Checksum) -> Option<File> {
        let path = self.index_path(digest);
        let mut file = fs::open_regular(&path).ok()?;
        let mut hasher = digest.hasher(io::sink());
        io::copy(&mut file, &mut hasher).ok()?;
        if hasher.finish().0 != *digest {
            self.said(fs::remove_file(&path));
            return None;
        }
        // So that what is in use does not grow old.
        let _touched = file.set_modified(SystemTime::now());
        file.rewind().ok().map(|()| file)
    }

    /// Keeps an index, read from where `file` stands, which is at its beginning again then.
    pub(super) fn keep_index(&self, digest: &Checksum, file: &mut File) -> Result<(), PathError> {
        let path = self.index_path(digest);
        let copy = |file: &mut File| {
            let mut kept = AtomicFile::create(&path)?;
            io::copy(file, &mut kept).at("write", &path)?;
            kept.flush().at("write", &path)?;
            kept.finish()
        };
        self.said(copy(file));
        file.rewind().at("read from", std::env::temp_dir())
    }

    fn answer_path(&self, url: &Url) -> PathBuf {
        self.0.join(format!("url-{}.json", Digest::sha256(url.as_str()).hex()))
    }

    fn index_path(&self, digest: &Checksum) -> PathBuf {
        self.0.join(format!("{}-{}", digest.directory().to_ascii_lowercase(), digest.hex()))
    }

    /// A full disk here is no reason to fail: the next run asks again.
    fn said(&self, result: Result<(), PathError>) {
        if let Err(error) = result {
            tracing::warn!("{error}: {}; metadata is not kept", error.source);
        }
    }
}

impl Kept {
    /// The headers that ask whether this is still the answer.
    pub(super) fn conditions(&self) -> HeaderMap {
        let conditions = [(IF_NONE_MATCH, &self.validators.etag), (IF_MODIFIED_SINCE, &self.validators.last_modified)];
        conditions.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?.parse().ok()?))).collect()
    }
}

const KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The first line of an answer.
const HEAD_LIMIT: u64 = 16 << 10;
use crate::kernel::checksum::Checksum;
