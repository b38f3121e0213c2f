//! What a run has done so far, for the next one to go on with after a `kill -9`.
//!
//! One file for each upload under way, named by the digest of what is uploaded and to where, of one JSON object a line:
//!
//! ```json
//! {"creating":["5a6b9e2c-…"],"at":1763712000}
//! {"image":"18a6414f-52d5-475d-b925-4f532c537540"}
//! {"artifact":"rootfs","upload":"UPLOAD-ID"}
//! {"upload":"UPLOAD-ID","part":3,"etag":"…"}
//! ```
//!
//! A line is added after what it says is true, and the first before: a record is being created, and those with these ids
//! were there. The last line may be torn. The file is locked by the run that writes it, so a
//! second run of the same upload takes another file, and starts from the beginning. It is removed at the end.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::fs::{self, PathContext, PathError};
use crate::publish::ims::artifact::Kind;

/// The journal of one upload, or a blank one that is kept nowhere.
#[derive(Default)]
pub struct Journal {
    file: Option<(File, PathBuf)>,
    creating: Option<Creating>,
    image: Option<String>,
    uploads: BTreeMap<Kind, MultipartUpload>,
}

/// A record that was being created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Creating {
    /// The ids of the records that were there before.
    #[serde(rename = "creating")]
    pub known: HashSet<String>,
    /// When that was begun, in seconds since 1970.
    pub at: i64,
}

/// A multipart upload that was begun.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MultipartUpload {
    /// What S3 calls it.
    pub id: String,
    /// The ETags of the parts that were sent.
    pub parts: BTreeMap<u32, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Creating(Creating),
    Image { image: String },
    Upload { artifact: Kind, upload: String },
    Part { upload: String, part: u32, etag: String },
}

impl Journal {
    /// Opens the journal called `name` in a directory, which is created. Where another run holds it, `wait` says whether to
    /// wait for its end; otherwise the next free one is taken.
    pub fn open(directory: &Path, name: &str, wait: bool) -> Result<Self, PathError> {
        fs::create_dir_all(directory)?;
        for number in 0.. {
            let path = directory.join(format!("{name}.{number}.jsonl"));
            // Whoever held it may have removed it just before it was locked.
            let file = loop {
                let file = fs::append(&path)?;
                if wait {
                    file.lock().at("lock", &path)?;
                } else if file.try_lock().is_err() {
                    break None;
                }
                if fs::is_same_file(&file, &path) {
                    break Some(file);
                }
            };
            if let Some(file) = file {
                return Journal::read(file, path);
            }
        }
        unreachable!("the numbers do not end")
    }

    fn read(mut file: File, path: PathBuf) -> Result<Self, PathError> {
        let mut text = String::new();
        file.read_to_string(&mut text).at("read", &path)?;
        let mut journal = Journal::default();
        let mut whole = 0;
        for line in text.split_inclusive('\n') {
            let Ok(entry) = serde_json::from_str(line) else { break };
            if !line.ends_with('\n') {
                break;
            }
            whole += line.len() as u64;
            journal.apply(entry);
        }
        file.set_len(whole).at("write", &path)?;
        file.rewind().at("write", &path)?;
        journal.file = Some((file, path));
        Ok(journal)
    }

    /// What is known of a record that was being created, when it is not known which it is.
    pub fn creating(&self) -> Option<&Creating> {
        self.creating.as_ref()
    }

    /// The record that was created.
    pub fn image(&self) -> Option<&str> {
        self.image.as_deref()
    }

    /// The multipart upload of an artifact.
    pub fn upload(&self, kind: Kind) -> Option<MultipartUpload> {
        self.uploads.get(&kind).cloned()
    }

    /// Notes that a record is about to be created beside these.
    pub fn add_creating(&mut self, known: &HashSet<String>) {
        let at = jiff::Timestamp::now().as_second();
        self.add(Line::Creating(Creating { known: known.clone(), at }));
    }

    /// Notes the record.
    pub fn add_image(&mut self, image: &str) {
        self.add(Line::Image { image: image.to_owned() });
    }

    /// Notes a multipart upload, in place of an earlier one of the artifact.
    pub fn add_upload(&mut self, artifact: Kind, upload: &str) {
        self.add(Line::Upload { artifact, upload: upload.to_owned() });
    }

    /// Notes a part.
    pub fn add_part(&mut self, upload: &str, part: u32, etag: &str) {
        self.add(Line::Part { upload: upload.to_owned(), part, etag: etag.to_owned() });
    }

    /// Forgets everything: the record is not there any more.
    pub fn clear(&mut self) {
        if let Some((file, _)) = &self.file {
            let _ = file.set_len(0);
        }
        (self.creating, self.image, self.uploads) = (None, None, BTreeMap::new());
    }

    /// Removes the file: nothing is left to go on with.
    pub fn remove(&mut self) {
        if let Some((_, path)) = self.file.take() {
            let _ = fs::remove_file(&path);
        }
        self.clear();
    }

    fn add(&mut self, line: Line) {
        if let Some((file, path)) = &mut self.file {
            let mut text = serde_json::to_string(&line).expect("a line has no odd keys");
            text.push('\n');
            // Without it, a next run would begin anew. That is no reason to end this one.
            if let Err(error) = file.write_all(text.as_bytes()) {
                tracing::warn!("{}: {error}; this upload cannot be resumed", path.display());
            }
        }
        self.apply(line);
    }

    fn apply(&mut self, line: Line) {
        match line {
            Line::Creating(creating) => self.creating = Some(creating),
            Line::Image { image } => {
                (self.creating, self.image) = (None, Some(image));
                self.uploads.clear();
            }
            Line::Upload { artifact, upload } => {
                self.uploads.insert(artifact, MultipartUpload { id: upload, parts: BTreeMap::new() });
            }
            Line::Part { upload, part, etag } => {
                if let Some(known) = self.uploads.values_mut().find(|known| known.id == upload) {
                    known.parts.insert(part, etag);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_is_read_up_to_its_torn_line_and_goes_away_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path(), "x", false).unwrap();
        journal.add_image("i");
        journal.add_upload(Kind::Rootfs, "u");
        journal.add_part("u", 3, "e");
        // Held by this one, so another gets a file of its own.
        let other = Journal::open(dir.path(), "x", false).unwrap();
        assert_eq!(other.image(), None);
        drop((journal, other));

        let path = dir.path().join("x.0.jsonl");
        File::options().append(true).open(&path).unwrap().write_all(b"{\"upload\":\"u\",\"pa").unwrap();
        let mut journal = Journal::open(dir.path(), "x", false).unwrap();
        assert_eq!(journal.image(), Some("i"));
        let expected = MultipartUpload { id: "u".into(), parts: BTreeMap::from([(3, "e".into())]) };
        assert_eq!(journal.upload(Kind::Rootfs), Some(expected));
        journal.add_part("u", 4, "f");
        drop(journal);
        let mut journal = Journal::open(dir.path(), "x", false).unwrap();
        assert_eq!(journal.upload(Kind::Rootfs).unwrap().parts.len(), 2);
        journal.remove();
        assert!(!path.exists());
    }
}
