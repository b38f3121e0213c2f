//! Blobs that arrive: in one request, in a stream, in pieces (distribution-spec, "Pushing blobs").
//!
//! What has arrived is in `.haversack/uploads/ID`, and its length is where the next piece begins. The hash goes along; after a
//! restart, or when the client names another algorithm at the end, the file is read again.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderName, LOCATION, RANGE};
use oci_spec::image::MediaType;
use tokio::sync::OwnedMutexGuard;

use crate::digest::{self, Algorithm, Digest, Hasher};
use crate::fs::{self, PathContext, PathError};
use crate::image::store::layout::descriptor;
use crate::serve::answer::{self, Answer, Refusal, set};
use crate::serve::ledger::Ledger;
use crate::serve::names;
use crate::serve::push::{Writer, broken, created, location, not_written};
use crate::serve::request::Request;
use crate::serve::route;
use crate::serve::stamp::Stamp;

/// Uploads under way.
pub(super) struct Uploads {
    directory: PathBuf,
    ledger: Arc<Ledger>,
    sessions: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Session>>>>,
}

/// One of them. No file is open between requests.
struct Session {
    id: String,
    path: PathBuf,
    size: u64,
    /// `None` when it does not know all that is in the file.
    hasher: Option<Hasher>,
}

impl Uploads {
    pub(super) fn new(directory: PathBuf, ledger: Arc<Ledger>) -> Self {
        Uploads { directory, ledger, sessions: Mutex::default() }
    }

    fn start(&self, key: &str, algorithm: Algorithm) -> Result<OwnedMutexGuard<Session>, Refusal> {
        let mut random = [0_u8; 16];
        // Whoever knows the name can write to it.
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| Refusal::internal(format!("no random numbers: {error}")))?;
        let id = digest::hex(&random);
        let path = self.directory.join(&id);
        fs::create_new(&path).map_err(|error| not_written(&error))?;
        self.ledger.add_upload(&id, key).map_err(broken)?;
        let session = Session { id: id.clone(), path, size: 0, hasher: Some(Hasher::new(algorithm)) };
        let session = Arc::new(tokio::sync::Mutex::new(session));
        self.sessions.lock().expect("no holder panics").insert(id, session.clone());
        Ok(session.try_lock_owned().expect("nobody else knows it"))
    }

    /// Finds an upload of a repository, when nobody else is at it.
    async fn find(&self, id: &str, key: &str) -> Result<OwnedMutexGuard<Session>, Refusal> {
        let unknown = || {
            let words = "there is no such upload; it may have ended, or was abandoned for too long: begin again";
            Refusal::new(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", words)
        };
        if id.len() != 32 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(unknown());
        }
        if self.ledger.upload(id).map_err(broken)?.as_deref() != Some(key) {
            return Err(unknown());
        }
        let path = self.directory.join(id);
        let session = {
            let mut sessions = self.sessions.lock().expect("no holder panics");
            let new = || {
                Arc::new(tokio::sync::Mutex::new(Session {
                    id: id.to_owned(),
                    path: path.clone(),
                    size: 0,
                    hasher: None,
                }))
            };
            sessions.entry(id.to_owned()).or_insert_with(new).clone()
        };
        let Ok(mut session) = tokio::time::timeout(PATIENCE, session.lock_owned()).await else {
            let words = "another request is writing to this upload";
            return Err(Refusal::new(StatusCode::CONFLICT, "BLOB_UPLOAD_INVALID", words));
        };
        // Ended while we waited, or swept away.
        let Ok(found) = std::fs::symlink_metadata(&path) else {
            self.forget(id);
            return Err(unknown());
        };
        if found.len() != session.size {
            session.size = found.len();
            session.hasher = None;
        }
        Ok(session)
    }

    /// Ends an upload; what it left goes away.
    fn end(&self, session: &Session) {
        self.forget(&session.id);
        if let Err(error) = fs::remove_file(&session.path) {
            tracing::warn!("{error}: {}", error.source);
        }
    }

    fn forget(&self, id: &str) {
        self.sessions.lock().expect("no holder panics").remove(id);
        if let Err(error) = self.ledger.remove_upload(id) {
            tracing::warn!("{error}");
        }
    }

    /// Ends uploads that nothing arrived for in so long, also those of earlier runs.
    pub(super) fn sweep(&self, ttl: Duration) {
        let ids = self.ledger.uploads().unwrap_or_default();
        let files = fs::list(&self.directory).unwrap_or_default();
        let names = files.iter().filter_map(|path| path.file_name()?.to_str().map(str::to_owned));
        for id in ids.into_iter().chain(names).collect::<std::collections::BTreeSet<_>>() {
            let path = self.directory.join(&id);
            let modified = std::fs::symlink_metadata(&path).and_then(|found| found.modified());
            let age = modified.map(|modified| SystemTime::now().duration_since(modified).unwrap_or_default());
            let session = self.sessions.lock().expect("no holder panics").get(&id).cloned();
            let held = session.as_ref().map(|session| session.try_lock());
            // Somebody writes to it now.
            if matches!(held, Some(Err(_))) || age.is_ok_and(|age| age < ttl) {
                continue;
            }
            tracing::info!("upload {}… was abandoned", id.get(..6).unwrap_or_default());
            self.end(&Session { id, path, size: 0, hasher: None });
        }
    }
}

impl Writer {
    /// `POST /v2/NAME/blobs/uploads/`: begins an upload, takes a whole blob, or takes one from another repository.
    pub(super) async fn start_upload(&self, request: &Request, name: &str, body: Incoming) -> Result<Answer, Refusal> {
        let key = names::key(name, request.ns.as_deref());
        if let Some(wanted) = request.one("mount") {
            let wanted = route::digest(wanted)?;
            if self.mount(request, &key, &wanted).await? {
                return Ok(created(&location(format!("/v2/{name}/blobs/{wanted}"), request), &wanted));
            }
        }
        let whole = request.one("digest").map(route::digest).transpose()?;
        let algorithm = match (&whole, request.one("digest-algorithm")) {
            (Some(digest), _) => digest.algorithm(),
            (None, None | Some("sha256")) => Algorithm::Sha256,
            (None, Some("sha512")) => Algorithm::Sha512,
            (None, Some(other)) => {
                let words = format!("digest algorithm `{other}` is not known (known: sha256, sha512)");
                return Err(Refusal::bad("DIGEST_INVALID", words));
            }
        };
        self.has_room(request)?;
        let mut session = self.uploads.start(&key, algorithm)?;
        match whole.filter(|_| request.one("mount").is_none()) {
            None => Ok(self.accepted(request, name, &session, StatusCode::ACCEPTED)),
            Some(digest) => {
                let received = self.receive(&mut session, body).await;
                if received.is_err() {
                    // Nobody was told of it.
                    self.uploads.end(&session);
                }
                received?;
                self.finish(request, name, &key, session, &digest).await
            }
        }
    }

    /// `PATCH` and `PUT /v2/NAME/blobs/uploads/ID`: a piece, or the last of them or none, and the digest.
    pub(super) async fn receive_upload(
        &self,
        request: &Request,
        name: &str,
        id: &str,
        body: Incoming,
    ) -> Result<Answer, Refusal> {
        let key = names::key(name, request.ns.as_deref());
        let is_last = request.method == hyper::Method::PUT;
        let digest = match request.one("digest") {
            Some(text) if is_last => Some(route::digest(text)?),
            None if is_last => return Err(Refusal::bad("DIGEST_INVALID", "the last request says `?digest=`")),
            _ => None,
        };
        let mut session = self.uploads.find(id, &key).await?;
        self.in_order(request, name, &session)?;
        self.has_room(request)?;
        if let Some(digest) = &digest
            && session.size == 0
        {
            session.hasher = Some(Hasher::new(digest.algorithm()));
        }
        self.receive(&mut session, body).await?;
        match digest {
            Some(digest) => self.finish(request, name, &key, session, &digest).await,
            None => Ok(self.accepted(request, name, &session, StatusCode::ACCEPTED)),
        }
    }

    /// `GET /v2/NAME/blobs/uploads/ID`: how far it is.
    pub(super) async fn upload_status(&self, request: &Request, name: &str, id: &str) -> Result<Answer, Refusal> {
        let session = self.uploads.find(id, &names::key(name, request.ns.as_deref())).await?;
        Ok(self.accepted(request, name, &session, StatusCode::NO_CONTENT))
    }

    /// `DELETE /v2/NAME/blobs/uploads/ID`
    pub(super) async fn cancel_upload(&self, request: &Request, name: &str, id: &str) -> Result<Answer, Refusal> {
        let session = self.uploads.find(id, &names::key(name, request.ns.as_deref())).await?;
        self.uploads.end(&session);
        Ok(answer::empty(StatusCode::NO_CONTENT))
    }

    /// Where an upload goes on. A path, as clients know this server under any name and port.
    fn accepted(&self, request: &Request, name: &str, session: &Session, status: StatusCode) -> Answer {
        let mut answer = answer::empty(status);
        place(&mut answer, request, name, session);
        answer
    }

    /// Takes a blob from another repository, the one that is named or any.
    async fn mount(&self, request: &Request, key: &str, digest: &Digest) -> Result<bool, Refusal> {
        let _lease = self.lease().await;
        let view = request.view(&self.store).await?;
        let is_there = match request.one("from") {
            Some(from) => {
                let is_needed = view.candidates(from, None).iter().any(|(_, it)| it.blobs.contains(digest));
                is_needed || self.ledger.is_member(&names::key(from, None), digest).map_err(broken)?
            }
            None => {
                let is_needed = view.repositories.values().any(|it| it.blobs.contains(digest));
                is_needed || self.ledger.is_anywhere(digest).map_err(broken)?
            }
        };
        let Some(blob) = self.store.open(digest).ok().filter(|_| is_there) else { return Ok(false) };
        if blob.layout != 0 {
            // The layout that is written to must be whole alone.
            let (store, digest, size) = (self.store.clone(), digest.clone(), blob.stamp.size);
            let taken = tokio::task::spawn_blocking(move || {
                let described = descriptor(MediaType::ImageLayer, &digest, size);
                store.sources[0].layout.take_blob(&store.sources[blob.layout].layout, &described)
            });
            let taken = taken.await.map_err(|error| Refusal::internal(error.to_string()))?;
            taken.map_err(|error| not_written(&error))?;
        }
        self.ledger.add_member(key, digest).map_err(broken)?;
        Ok(true)
    }

    /// Whether a piece begins where the last one ended and is as long as it says.
    fn in_order(&self, request: &Request, name: &str, session: &Session) -> Result<(), Refusal> {
        let Some(text) = request.header(CONTENT_RANGE) else { return Ok(()) };
        let Some((first, last)) = content_range(text) else {
            return Err(Refusal::bad("BLOB_UPLOAD_INVALID", format!("`Content-Range: {text}`: expected FIRST-LAST")));
        };
        let length = request.header(CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok());
        if first == session.size && length.is_none_or(|length| Some(length) == (last + 1).checked_sub(first)) {
            return Ok(());
        }
        let words = format!("{} bytes have arrived, and this piece does not begin there", session.size);
        let mut refusal = Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID", words);
        let mut answer = answer::empty(StatusCode::RANGE_NOT_SATISFIABLE);
        place(&mut answer, request, name, session);
        for (key, value) in answer.headers() {
            if *key != CONTENT_LENGTH {
                refusal = refusal.header(key.clone(), value.to_str().unwrap_or_default());
            }
        }
        Err(refusal)
    }

    /// Whether what is announced can be kept. What is not announced may still fill the disk, which is seen then.
    fn has_room(&self, request: &Request) -> Result<(), Refusal> {
        let Some(length) = request.header(CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok()) else {
            return Ok(());
        };
        let Ok(found) = rustix::fs::statvfs(self.store.sources[0].layout.root()) else { return Ok(()) };
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        if length <= free {
            return Ok(());
        }
        let words = format!("{length} bytes are announced, and the disk of this registry has room for {free}");
        Err(Refusal::new(StatusCode::INSUFFICIENT_STORAGE, "DENIED", words))
    }

    /// Appends a body to an upload. When the client goes away, what has arrived stays.
    async fn receive(&self, session: &mut Session, mut body: Incoming) -> Result<(), Refusal> {
        let mut sink = None;
        let mut piece = Vec::new();
        loop {
            let frame = tokio::time::timeout(self.idle, body.frame()).await;
            let (is_end, why) = match frame {
                Ok(Some(Ok(frame))) => {
                    if let Ok(bytes) = frame.into_data() {
                        piece.extend_from_slice(&bytes);
                    }
                    (false, None)
                }
                Ok(None) => (true, None),
                Ok(Some(Err(error))) => {
                    (true, Some(Refusal::bad("BLOB_UPLOAD_INVALID", format!("the body broke off: {error}"))))
                }
                Err(_) => {
                    let words = format!("nothing arrived for {} seconds", self.idle.as_secs());
                    (true, Some(Refusal::new(StatusCode::REQUEST_TIMEOUT, "BLOB_UPLOAD_INVALID", words)))
                }
            };
            if piece.len() >= PIECE || is_end && !piece.is_empty() {
                let bytes = std::mem::replace(&mut piece, Vec::with_capacity(PIECE + (64 << 10)));
                sink = Some(append(session, sink.take(), bytes).await?);
            }
            match (is_end, why) {
                (false, _) => {}
                (true, None) => return Ok(()),
                (true, Some(why)) => return Err(why),
            }
        }
    }

    /// Gives an upload the name of its digest, if it is that; else nothing of it is kept.
    async fn finish(
        &self,
        request: &Request,
        name: &str,
        key: &str,
        mut session: OwnedMutexGuard<Session>,
        digest: &Digest,
    ) -> Result<Answer, Refusal> {
        let hasher = session.hasher.take();
        let (store, expected, path) = (self.store.clone(), digest.clone(), session.path.clone());
        let kept = tokio::task::spawn_blocking(move || {
            let found = match hasher.map(Hasher::finish) {
                Some(found) if found.algorithm() == expected.algorithm() => found,
                _ => {
                    let file = fs::open_regular(&path)?;
                    Digest::of_reader(file, expected.algorithm()).at("read", &path)?.0
                }
            };
            if found != expected {
                return Ok(Err(found));
            }
            let target = store.sources[0].layout.blob_path(&expected);
            fs::open_regular(&path)?.sync_all().at("sync", &path)?;
            fs::create_dir_all(fs::parent(&target))?;
            fs::rename(&path, &target)?;
            fs::sync_dir(fs::parent(&target))?;
            Ok::<_, PathError>(Ok(Stamp::at(&target)))
        });
        let kept = kept.await.map_err(|error| Refusal::internal(error.to_string()))?;
        let stamp = match kept {
            Ok(Ok(stamp)) => stamp,
            Ok(Err(found)) => {
                self.uploads.end(&session);
                let words = format!("what arrived is {found} ({} bytes), not {digest}; begin again", session.size);
                return Err(Refusal::bad("DIGEST_INVALID", words));
            }
            Err(error) => return Err(not_written(&error)),
        };
        self.uploads.forget(&session.id);
        if let Some(stamp) = stamp {
            self.store.record(0, digest, stamp, true);
        }
        self.ledger.add_member(key, digest).map_err(broken)?;
        Ok(created(&location(format!("/v2/{name}/blobs/{digest}"), request), digest))
    }
}

/// Says where an upload is and how far.
fn place(answer: &mut Answer, request: &Request, name: &str, session: &Session) {
    let path = location(format!("/v2/{name}/blobs/uploads/{}", session.id), request);
    set(answer, LOCATION, &path);
    set(answer, RANGE, &format!("0-{}", session.size.saturating_sub(1)));
    set(answer, UPLOAD, &session.id);
}

/// Writes a piece, off the threads that serve others; the file comes back for the next one.
async fn append(session: &mut Session, file: Option<File>, bytes: Vec<u8>) -> Result<File, Refusal> {
    let (path, mut hasher, size) = (session.path.clone(), session.hasher.take(), session.size);
    let written = tokio::task::spawn_blocking(move || {
        let mut file = file.map_or_else(|| fs::append(&path), Ok)?;
        if let Err(error) = file.write_all(&bytes) {
            // What is half written is not known to the hash.
            let _ = file.set_len(size);
            return Err(error).at("write", &path);
        }
        if let Some(hasher) = &mut hasher {
            hasher.update(&bytes);
        }
        Ok((file, hasher, bytes.len() as u64))
    });
    let written = written.await.unwrap_or_else(|error| Err(io::Error::other(error)).at("write", &session.path));
    let (file, hasher, written) = written.map_err(|error| not_written(&error))?;
    session.hasher = hasher;
    session.size += written;
    Ok(file)
}

/// `FIRST-LAST`, as the specification has it, and as HTTP has it: `bytes FIRST-LAST/TOTAL`.
fn content_range(text: &str) -> Option<(u64, u64)> {
    let text = text.trim();
    let text = text.strip_prefix("bytes").map_or(text, |rest| rest.trim_start_matches(['=', ' ']));
    let (first, last) = text.split('/').next()?.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse::<u64>().ok()?);
    (last < u64::MAX).then_some((first, last))
}

/// Bytes that are written at a time.
const PIECE: usize = 512 << 10;
/// How long a request waits for another one that writes to the same upload, as one whose client went away may for a while.
const PATIENCE: Duration = Duration::from_secs(10);
const UPLOAD: HeaderName = HeaderName::from_static("docker-upload-uuid");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read_in_all_their_spellings() {
        for (text, expected) in [
            ("0-1023", Some((0, 1023))),
            ("bytes 5-6/7", Some((5, 6))),
            ("bytes 5-6/*", Some((5, 6))),
            ("bytes=5-6", Some((5, 6))),
            ("5-", None),
            ("-5", None),
            ("bytes */7", None),
            ("0-18446744073709551615", None),
            ("x", None),
        ] {
            assert_eq!(content_range(text), expected, "{text}");
        }
    }
}
