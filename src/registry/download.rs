//! A blob of a repository on its way here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use oci_spec::image::Descriptor;
use reqwest::header::{CONTENT_RANGE, HeaderValue, RANGE};
use reqwest::{RequestBuilder, Response, StatusCode};
use tokio::sync::mpsc;

use crate::http::{self, Retriable, Verdict};
use crate::progress::Task;
use crate::registry::client::Error;
use crate::registry::repository::Repository;

/// A blob on its way, in pieces.
pub struct Chunks {
    receiver: mpsc::Receiver<Result<Bytes, Error>>,
    watch: Option<(Arc<Watch>, u64)>,
}

/// How far a blob is on its way, for those who watch: each byte counts once, however often it is sent.
pub struct Watch {
    task: Arc<Task>,
    arrived: AtomicU64,
}

impl Chunks {
    pub(super) fn new(receiver: mpsc::Receiver<Result<Bytes, Error>>) -> Self {
        Chunks { receiver, watch: None }
    }

    /// Tells `watch` of what arrives, of which the first byte is at `offset`.
    pub(super) fn watched(self, watch: &Arc<Watch>, offset: u64) -> Self {
        watch.is_at(offset);
        Chunks { watch: Some((watch.clone(), offset)), ..self }
    }

    /// The next piece; `None` at the end.
    pub async fn recv(&mut self) -> Option<Result<Bytes, Error>> {
        let piece = self.receiver.recv().await;
        self.count(piece)
    }

    /// The same, on a thread that may block.
    pub fn blocking_recv(&mut self) -> Option<Result<Bytes, Error>> {
        let piece = self.receiver.blocking_recv();
        self.count(piece)
    }

    fn count(&mut self, piece: Option<Result<Bytes, Error>>) -> Option<Result<Bytes, Error>> {
        if let (Some((watch, at)), Some(Ok(bytes))) = (&mut self.watch, &piece) {
            *at += bytes.len() as u64;
            watch.is_at(*at);
        }
        piece
    }
}

impl Watch {
    pub(super) fn new(task: Arc<Task>) -> Arc<Self> {
        Arc::new(Watch { task, arrived: AtomicU64::new(0) })
    }

    /// The blob is there up to this byte.
    pub(super) fn is_at(&self, at: u64) {
        let before = self.arrived.fetch_max(at, Ordering::Relaxed);
        self.task.add(at.saturating_sub(before));
    }
}

impl Repository {
    /// Reads a blob in pieces from `offset` on, exactly as many bytes as described. The digest is for the receiver to
    /// check.
    ///
    /// A connection that breaks is taken up again where it broke, as often as requests are tried again; what arrives
    /// in between starts the count anew.
    pub fn blob(&self, described: &Descriptor, offset: u64) -> Chunks {
        let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
        let (repository, described) = (self.clone(), described.clone());
        tokio::spawn(async move {
            if let Err(error) = repository.pump(&described, offset, &sender).await {
                // When nobody listens any more, nobody needs to know.
                let _ = sender.send(Err(error)).await;
            }
        });
        Chunks::new(receiver)
    }

    async fn pump(
        &self,
        described: &Descriptor,
        mut offset: u64,
        sender: &mpsc::Sender<Result<Bytes, Error>>,
    ) -> Result<(), Error> {
        let (size, retry) = (described.size(), self.registry.0.http.retry());
        let mut tries = 0;
        while offset < size {
            let before = offset;
            let error = match self.pump_from(described, &mut offset, sender).await {
                Ok(()) if offset == size => return Ok(()),
                Ok(()) => Error::Http(http::Error::Status {
                    url: Box::new(self.url(&format!("blobs/{}", described.digest()))),
                    status: StatusCode::GATEWAY_TIMEOUT,
                    detail: format!("ended after {offset} of {size} bytes"),
                    code: None,
                    retry_after: None,
                }),
                Err(error) => error,
            };
            let Verdict::Again { after } = error.verdict() else { return Err(error) };
            tries = if offset > before { 0 } else { tries + 1 };
            if tries > retry.retries {
                return Err(error);
            }
            tracing::info!("{error}; going on at byte {offset}");
            tokio::time::sleep(retry.wait(tries, after)).await;
        }
        Ok(())
    }

    async fn pump_from(
        &self,
        described: &Descriptor,
        offset: &mut u64,
        sender: &mpsc::Sender<Result<Bytes, Error>>,
    ) -> Result<(), Error> {
        let url = self.url(&format!("blobs/{}", described.digest()));
        let start = *offset;
        let ranged = |request: RequestBuilder| match start {
            0 => request,
            start => request.header(RANGE, format!("bytes={start}-")),
        };
        let what = described.digest().to_string();
        let mut response = self.get(&url, &what, ranged).await?;
        let range = |response: &Response| response.headers().get(CONTENT_RANGE).cloned();
        let is_asked_for =
            |range: &HeaderValue| range.to_str().is_ok_and(|it| it.starts_with(&format!("bytes {start}-")));
        if start > 0 && range(&response).is_some_and(|range| !is_asked_for(&range)) {
            tracing::info!("{url}: answers with another range than asked for, so it is read from its beginning");
            response = self.get(&url, &what, |request| request).await?;
            if let Some(range) = range(&response) {
                return Err(Error::Protocol { url, problem: format!("another range than asked for: {range:?}") });
            }
        }
        // A server that ignores the range begins anew.
        let mut skip = if response.status() == StatusCode::PARTIAL_CONTENT { 0 } else { start };
        loop {
            // Taken from the connection only when there is room for it: the client's pieces have up to 400 KiB.
            let Ok(room) = sender.reserve().await else {
                // The receiver gave up and knows why; the count says that all is done.
                *offset = described.size();
                return Ok(());
            };
            let chunk = response.chunk().await.map_err(|error| http::Error::transport(url.clone(), error))?;
            let Some(mut chunk) = chunk else { return Ok(()) };
            let skipped = skip.min(chunk.len() as u64);
            skip -= skipped;
            let _ = chunk.split_to(usize::try_from(skipped).expect("at most a chunk"));
            *offset += chunk.len() as u64;
            if *offset > described.size() {
                let (expected, found) = (format!("{} bytes", described.size()), "more".to_owned());
                return Err(Error::Mismatch { place: self.place(&what), expected, found });
            }
            if !chunk.is_empty() {
                room.send(Ok(chunk));
            }
        }
    }
}

/// How many pieces of a blob may wait for the other end.
const CHUNKS_AHEAD: usize = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::{Progress, Unit};

    #[tokio::test]
    async fn bytes_are_counted_as_they_arrive_and_once_when_they_come_again() {
        let task = Arc::new(Progress::off().task("x", Unit::Bytes, Some(10)));
        let watch = Watch::new(task.clone());
        let mut counted = Vec::new();
        // Broken off after six bytes, begun anew, and broken off; then gone on with behind the eighth.
        for (offset, pieces) in [(0, &[4_usize, 2][..]), (0, &[5, 3]), (8, &[2])] {
            let (sender, receiver) = mpsc::channel(4);
            for piece in pieces {
                sender.send(Ok(Bytes::from(vec![0; *piece]))).await.unwrap();
            }
            drop(sender);
            let mut chunks = Chunks::new(receiver).watched(&watch, offset);
            while chunks.recv().await.is_some() {
                counted.push(task.done());
            }
        }
        assert_eq!(counted, [4, 6, 6, 8, 10]);
    }
}
