//! The transfer of one file: from the start, or from where an earlier answer broke off.
//!
//! A transfer is continued (`Range`) where the end shows whether the beginning was right: by a digest, or, within a run, by
//! what the server said of the state of the file that it began to send (`If-Range` with a strong validator, RFC 9110, 13.1.5).
//! A server that says nothing of the kind is asked for all of it.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::PathBuf;

use reqwest::header::{CONTENT_RANGE, DATE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_RANGE, LAST_MODIFIED, RANGE};
use reqwest::{Response, StatusCode};
use url::Url;

use crate::fs::{self, PathContext};
use crate::http;
use crate::kernel::download::{Error, Origin};
use crate::kernel::package::Package;
use crate::progress::Task;

/// A file that is being transferred.
pub(super) struct Part {
    pub(super) path: PathBuf,
    /// Which state of it lies there, as its server called it.
    state: RefCell<Option<State>>,
    /// Whether it is made of more than one answer, or of what lay there.
    is_pieced: Cell<bool>,
}

/// A state of a file on a server.
#[derive(Clone)]
struct State {
    url: Url,
    /// The header that named it, and how.
    header: HeaderName,
    validator: HeaderValue,
}

impl Part {
    pub(super) fn new(path: PathBuf) -> Self {
        Part { path, state: RefCell::new(None), is_pieced: Cell::new(false) }
    }

    /// How much of it is there, in bytes.
    pub(super) fn size(&self) -> u64 {
        self.path.metadata().map_or(0, |metadata| metadata.len())
    }

    /// Whether it is made of more than one answer, or of what lay there: then its pieces may be of two files.
    pub(super) fn is_pieced(&self) -> bool {
        self.is_pieced.get()
    }
}

impl State {
    /// What a server says of the state of what it sends, if that is said so that no two states are called the same.
    fn of(url: &Url, headers: &HeaderMap) -> Option<Self> {
        let state = |header: HeaderName, validator: &HeaderValue| State {
            url: url.clone(),
            header,
            validator: validator.clone(),
        };
        if let Some(tag) = headers.get(ETAG) {
            return tag.as_bytes().starts_with(b"\"").then(|| state(ETAG, tag));
        }
        // A file that changes twice in a second has one date: only an old one is a validator.
        let time = |name| jiff::fmt::rfc2822::parse(headers.get(name)?.to_str().ok()?).ok();
        let modified = headers.get(LAST_MODIFIED)?;
        let age = time(DATE)?.timestamp().as_second() - time(LAST_MODIFIED)?.timestamp().as_second();
        (age >= OLD).then(|| state(LAST_MODIFIED, modified))
    }

    /// Whether an answer is about the same state, as far as it says.
    fn is_in(&self, headers: &HeaderMap) -> bool {
        headers.get(&self.header).is_none_or(|validator| *validator == self.validator)
    }
}

/// Appends what is missing of `url` to `part`.
pub(super) async fn transfer(
    origin: &Origin,
    url: &Url,
    part: &Part,
    package: &Package,
    task: &Task,
) -> Result<(), Error> {
    let (size, path) = (package.size, &part.path);
    let mut file = fs::resume(path)?;
    let state = part.state.borrow().clone().filter(|state| state.url == *url);
    // Whether its beginning is right is seen by its digest, at the end. Without one, the server may have another version of the
    // file by now, and nothing would tell that two were mixed.
    if !package.has_digest() && state.is_none() {
        empty(&mut file).at("write", path)?;
    }
    let have = file.seek(io::SeekFrom::End(0)).at("read", path)?;
    part.is_pieced.set(have > 0);
    if size == Some(have) && have > 0 {
        return Ok(());
    }
    let mut response = origin.get(url, have, state.as_ref()).await?;
    let continues = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let continues = continues.is_some_and(|range| range.starts_with(&format!("bytes {have}-")))
        && state.as_ref().is_none_or(|state| state.is_in(response.headers()));
    match response.status() {
        StatusCode::PARTIAL_CONTENT if continues => {}
        // The server sends the whole, or something that was not asked for.
        StatusCode::OK => empty(&mut file).at("write", path)?,
        StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::PARTIAL_CONTENT => {
            empty(&mut file).at("write", path)?;
            response = origin.get(url, 0, None).await?;
            if response.status() != StatusCode::OK {
                return Err(http::Error::status(response).await.into());
            }
        }
        _ => return Err(http::Error::status(response).await.into()),
    }
    if response.status() == StatusCode::OK {
        part.is_pieced.set(false);
        *part.state.borrow_mut() = State::of(url, response.headers());
    }
    let limit = size.unwrap_or(PACKAGE_LIMIT);
    let mut length = file.metadata().at("read", path)?.len();
    while let Some(chunk) = response.chunk().await.map_err(|source| http::Error::transport(url.clone(), source))? {
        length += chunk.len() as u64;
        if length > limit {
            fs::remove_file(path)?;
            return Err(http::Error::TooLarge { url: Box::new(url.clone()), limit }.into());
        }
        file.write_all(&chunk).at("write", path)?;
        task.add(chunk.len() as u64);
    }
    Ok(())
}

fn empty(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()
}

impl Origin {
    /// Asks for a file from its byte `from` on, if it is still in that state.
    async fn get(&self, url: &Url, from: u64, state: Option<&State>) -> Result<Response, Error> {
        let request = || {
            let request = self.http.get(url);
            match (from, state) {
                (0, _) => request,
                (from, None) => request.header(RANGE, format!("bytes={from}-")),
                (from, Some(state)) => {
                    request.header(RANGE, format!("bytes={from}-")).header(IF_RANGE, state.validator.clone())
                }
            }
        };
        match &self.redhat {
            Some(redhat) if redhat.owns(url) => Ok(redhat.send(request).await?),
            _ => Ok(self.http.send(request()).await?),
        }
    }
}

/// How many seconds a date lies back that tells states apart.
const OLD: i64 = 60;

/// The largest kernel package, with debug information, has 1 GiB.
const PACKAGE_LIMIT: u64 = 8 << 30;
