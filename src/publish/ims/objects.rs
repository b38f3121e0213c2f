//! The objects of an upload: whole or in parts, compared with what was read, and the manifest that lists them.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use futures_util::{StreamExt, TryStreamExt};
use reqwest::StatusCode;

use crate::digest::hex;
use crate::progress::Task;
use crate::publish::ims::api::Record;
use crate::publish::ims::artifact::{self, Artifact};
use crate::publish::ims::journal::MultipartUpload;
use crate::publish::ims::manifest::{Entry, Link, Manifest};
use crate::publish::ims::order::Error;
use crate::publish::ims::upload::{MANIFEST, Upload};
use crate::publish::s3::{self, Head, Piece, md5, metadata_value, multipart_etag};

impl Upload<'_> {
    /// Uploads an artifact, unless it is there of a run before, and compares what the store then has.
    pub(super) async fn artifact(
        &self,
        id: &str,
        artifact: &Artifact,
        is_resumed: bool,
        task: &Task,
    ) -> Result<Entry, Error> {
        let key = format!("{id}/{}", artifact.kind.key());
        let entry = |etag: String| Entry::of(artifact, self.bucket.place(&key), etag);
        self.unchanged(artifact)?;
        self.left().objects.insert(key.clone());
        if is_resumed
            && let Some(head) = self.bucket.head(&key).await?
            && self.compare(&key, &head, artifact.size, &artifact.md5, artifact.etag()).is_ok()
        {
            task.add(artifact.size);
            return Ok(entry(head.etag));
        }
        let sent = match artifact.is_multipart() {
            true => self.parts(&key, artifact, id, task).await,
            false => self.whole(&key, artifact, id, task).await,
        };
        // What was refused because of a wrong digest, or broke off, may be due to this.
        self.unchanged(artifact)?;
        let etag = sent?;
        let head = self.bucket.head(&key).await?;
        let head = head.ok_or_else(|| Error::Vanished { place: self.bucket.place(&key) })?;
        self.compare(&key, &head, artifact.size, &artifact.md5, etag)?;
        Ok(entry(head.etag))
    }

    fn unchanged(&self, artifact: &Artifact) -> Result<(), Error> {
        match artifact.is_changed() {
            true => Err(artifact::Error::Changed { path: artifact.path.clone() }.into()),
            false => Ok(()),
        }
    }

    /// Compares what the server says of an object with what was read and sent.
    fn compare(&self, key: &str, head: &Head, size: u64, md5: &str, etag: Option<String>) -> Result<(), s3::Error> {
        let different = |what, found: Option<String>, expected: String| match found {
            Some(found) if found != expected => {
                Err(s3::Error::Different { place: self.bucket.place(key), what, found, expected })
            }
            _ => Ok(()),
        };
        different("size", head.size.map(|size| size.to_string()), size.to_string())?;
        different("md5sum", head.metadata.get("md5sum").cloned(), md5.to_owned())?;
        let Some(expected) = etag.filter(|_| !head.is_encrypted) else { return Ok(()) };
        // Of the same form, or it is no MD5.
        let form = |etag: &str| {
            etag.split_once('-').map_or((etag.len(), None), |(md5, parts)| (md5.len(), Some(parts.to_owned())))
        };
        let is_md5 = form(&head.etag) == form(&expected);
        different("ETag", is_md5.then(|| head.etag.clone()), expected)
    }

    async fn whole(&self, key: &str, artifact: &Artifact, id: &str, task: &Task) -> Result<Option<String>, Error> {
        self.bucket.put(key, &artifact.piece(1), &self.metadata(artifact, id)).await?;
        self.count(artifact.size, task);
        Ok(artifact.etag())
    }

    async fn parts(&self, key: &str, artifact: &Artifact, id: &str, task: &Task) -> Result<Option<String>, Error> {
        let MultipartUpload { id: upload, parts: mut done } = self.multipart(key, artifact, id).await?;
        task.add(done.keys().map(|number| artifact.piece(*number).length()).sum());
        let missing: Vec<u32> = (1..=artifact.part_count()).filter(|number| !done.contains_key(number)).collect();
        let sent = futures_util::stream::iter(missing)
            .map(async |number| {
                self.unchanged(artifact)?;
                let piece = artifact.piece(number);
                let etag = self.bucket.upload_part(key, &upload, number, &piece).await?;
                self.journal().add_part(&upload, number, &etag);
                self.count(piece.length(), task);
                Ok::<_, Error>((number, etag))
            })
            .buffer_unordered(self.order.parallel)
            .try_collect::<Vec<_>>()
            .await?;
        done.extend(sent);
        let etags: Vec<String> = done.into_values().collect();
        let etag = multipart_etag(&etags);
        match self.bucket.complete(key, &upload, &etags).await {
            Ok(_) => {}
            // A try whose answer was lost may have completed it; then there is no such upload any more.
            Err(error) => match self.bucket.head(key).await? {
                Some(head) if self.compare(key, &head, artifact.size, &artifact.md5, etag.clone()).is_ok() => {}
                _ => return Err(error.into()),
            },
        }
        self.left().uploads.remove(key);
        Ok(etag)
    }

    /// The multipart upload of an artifact with the parts that are there: the one of the run that was killed, or a new one.
    async fn multipart(&self, key: &str, artifact: &Artifact, id: &str) -> Result<MultipartUpload, Error> {
        let known = self.journal().upload(artifact.kind);
        if let Some(mut upload) = known {
            self.left().uploads.insert(key.to_owned(), upload.id.clone());
            match self.bucket.parts(key, &upload.id).await {
                Ok(parts) if parts.is_empty() && !upload.parts.is_empty() => {}
                Ok(parts) => {
                    let is_there = |number: &u32, etag: &mut String| {
                        let size = artifact.piece(*number).length();
                        parts.iter().any(|part| {
                            part.number == *number
                                && part.size.is_none_or(|found| found == size)
                                && part.etag.as_ref().is_none_or(|found| found == etag)
                        })
                    };
                    upload.parts.retain(is_there);
                    return Ok(upload);
                }
                // The server cannot list them: what was noted was answered with 200.
                Err(s3::Error::Refused {
                    status: StatusCode::NOT_IMPLEMENTED | StatusCode::METHOD_NOT_ALLOWED,
                    ..
                }) => {
                    return Ok(upload);
                }
                Err(s3::Error::Refused { status, .. }) if status.is_client_error() => {}
                Err(error) => return Err(error.into()),
            }
        }
        let upload = self.bucket.create_upload(key, &self.metadata(artifact, id)).await?;
        self.left().uploads.insert(key.to_owned(), upload.clone());
        self.journal().add_upload(artifact.kind, &upload);
        Ok(MultipartUpload { id: upload, parts: BTreeMap::new() })
    }

    /// User metadata: what the service and people find with the object. 2 KiB is what S3 takes of it.
    fn metadata(&self, artifact: &Artifact, id: &str) -> Vec<(String, String)> {
        let mut metadata = vec![
            ("md5sum".to_owned(), artifact.md5.clone()),
            ("x-shasta-ims-image-name".to_owned(), metadata_value(&self.order.name, NAME_LIMIT)),
            ("x-shasta-ims-image-id".to_owned(), id.to_owned()),
        ];
        metadata.extend(self.order.job.iter().map(|job| ("x-shasta-ims-job-id".to_owned(), job.clone())));
        metadata
    }

    /// Writes the manifest, adds it to the entries, and links it to the record.
    pub(super) async fn manifest(&self, id: &str, entries: &mut Vec<Entry>) -> Result<Record, Error> {
        let bytes = Manifest::new(entries.clone()).to_bytes();
        let key = format!("{id}/{MANIFEST}");
        let piece = Piece::bytes(bytes.clone().into());
        self.left().objects.insert(key.clone());
        let md5 = hex(&md5(&bytes));
        self.bucket.put(&key, &piece, &[("md5sum".to_owned(), md5.clone())]).await?;
        let place = self.bucket.place(&key);
        let head = self.bucket.head(&key).await?.ok_or_else(|| Error::Vanished { place: place.clone() })?;
        self.compare(&key, &head, bytes.len() as u64, &md5, Some(md5.clone()))?;
        let link = Link::s3(place, head.etag);
        let record = self.ims.link_image(id, &link).await?;
        entries.push(Entry::of_manifest(link, &bytes));
        Ok(record)
    }

    fn count(&self, bytes: u64, task: &Task) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
        task.add(bytes);
    }
}

/// Bytes of an image's name in an object's metadata.
const NAME_LIMIT: usize = 1024;
