//! A blob of a repository on its way here.

use bytes::Bytes;
use oci_spec::image::Descriptor;
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{RequestBuilder, StatusCode};
use tokio::sync::mpsc;

use crate::http::{self, Retriable, Verdict};
use crate::registry::client::Error;
use crate::registry::repository::Repository;

/// A blob on its way, in pieces.
pub type Chunks = mpsc::Receiver<Result<Bytes, Error>>;

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
        receiver
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
        // A server that ignores the range begins anew.
        let mut skip = if response.status() == StatusCode::PARTIAL_CONTENT { 0 } else { start };
        let wanted = format!("bytes {start}-");
        let range = response.headers().get(CONTENT_RANGE).filter(|_| skip == 0 && start > 0);
        if let Some(range) = range.filter(|range| !range.to_str().is_ok_and(|range| range.starts_with(&wanted))) {
            return Err(Error::Protocol { url, problem: format!("another range than asked for: {range:?}") });
        }
        while let Some(mut chunk) =
            response.chunk().await.map_err(|error| http::Error::transport(url.clone(), error))?
        {
            let skipped = skip.min(chunk.len() as u64);
            skip -= skipped;
            let _ = chunk.split_to(usize::try_from(skipped).expect("at most a chunk"));
            *offset += chunk.len() as u64;
            if *offset > described.size() {
                let (expected, found) = (format!("{} bytes", described.size()), "more".to_owned());
                return Err(Error::Mismatch { place: self.place(&what), expected, found });
            }
            if !chunk.is_empty() && sender.send(Ok(chunk)).await.is_err() {
                // The receiver gave up and knows why; the count says that all is done.
                *offset = described.size();
                return Ok(());
            }
        }
        Ok(())
    }
}

/// How many pieces of a blob may wait for the other end.
pub(super) const CHUNKS_AHEAD: usize = 4;
