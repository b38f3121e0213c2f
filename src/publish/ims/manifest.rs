//! `manifest.json`, version 1.0: what belongs to an image, as the service checks it and as nodes find their files.
//!
//! ```json
//! {
//!     "artifacts": [
//!         {
//!             "file": "vmlinuz",
//!             "link": { "etag": "…", "path": "s3://boot-images/IMAGE-ID/kernel", "type": "s3" },
//!             "md5": "…",
//!             "sha256": "…",
//!             "size": 9000,
//!             "type": "application/vnd.cray.image.kernel"
//!         }
//!     ],
//!     "created": "2026-11-21 09:50:08.205478",
//!     "version": "1.0"
//! }
//! ```
//!
//! The service asks for `version` 1.0, a link of type `s3` and a type for each artifact, and exactly one whose type begins
//! with the rootfs's. It takes fields that it does not know, so `file`, `sha256` and `size` are ours.

use serde::{Deserialize, Serialize};
use serde_json::ser::{PrettyFormatter, Serializer};

use crate::digest::{Digest, hex};
use crate::publish::ims::artifact::Artifact;
use crate::publish::s3::md5;

/// The list of an image's artifacts. Fields are in the order of their names, as in the files that are there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// What belongs to the image.
    pub artifacts: Vec<Entry>,
    /// When, in UTC, without a zone: `2026-11-21 09:50:08.205478`.
    pub created: String,
    /// `1.0`
    pub version: String,
}

/// One artifact of a manifest, or the manifest itself in what is printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What the file was called before it became an artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Where it is.
    pub link: Link,
    /// MD5 in hexadecimal digits.
    pub md5: String,
    /// SHA-256 in hexadecimal digits; the old helper wrote none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// In bytes; the old helper wrote none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// `application/vnd.cray.image.…`
    #[serde(rename = "type")]
    pub media_type: String,
}

/// Where an object is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Without quotes.
    #[serde(default)]
    pub etag: String,
    /// `s3://BUCKET/KEY`
    pub path: String,
    /// `s3`
    #[serde(rename = "type")]
    pub kind: String,
}

impl Manifest {
    /// A manifest of this moment.
    pub fn new(artifacts: Vec<Entry>) -> Self {
        let created = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M:%S%.6f").to_string();
        Manifest { artifacts, created, version: "1.0".to_owned() }
    }

    /// As the old helper writes it: four spaces, no newline at the end.
    pub fn to_bytes(&self) -> Vec<u8> {
        pretty(self)
    }

    /// Whether it lists exactly these artifacts: the same types, each with the same content.
    pub fn matches(&self, artifacts: &[Artifact]) -> bool {
        let is_same = |entry: &Entry, artifact: &Artifact| {
            entry.media_type == artifact.kind.media_type()
                && entry.md5 == artifact.md5
                && entry.sha256.as_ref().is_none_or(|sha256| *sha256 == artifact.sha256)
        };
        self.artifacts.len() == artifacts.len()
            && artifacts.iter().all(|artifact| self.artifacts.iter().any(|entry| is_same(entry, artifact)))
    }
}

impl Entry {
    /// What a manifest says of an artifact at `path`.
    pub fn of(artifact: &Artifact, path: String, etag: String) -> Self {
        Entry {
            file: artifact.path.file_name().map(|name| name.to_string_lossy().into_owned()),
            link: Link::s3(path, etag),
            md5: artifact.md5.clone(),
            sha256: Some(artifact.sha256.clone()),
            size: Some(artifact.size),
            media_type: artifact.kind.media_type().to_owned(),
        }
    }

    /// What is printed of the manifest itself.
    pub fn of_manifest(link: Link, bytes: &[u8]) -> Self {
        Entry {
            file: None,
            link,
            md5: hex(&md5(bytes)),
            sha256: Some(Digest::sha256(bytes).hex().to_owned()),
            size: Some(bytes.len() as u64),
            media_type: "application/json".to_owned(),
        }
    }
}

impl Link {
    /// A link to an object in S3.
    pub fn s3(path: String, etag: String) -> Self {
        Link { etag, path, kind: "s3".to_owned() }
    }
}

/// JSON as the old helper prints it: four spaces.
pub fn pretty(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, PrettyFormatter::with_indent(b"    "));
    value.serialize(&mut serializer).expect("documents have keys that are texts, and memory takes all");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_of_the_old_helper_is_read_and_written_as_it_is() {
        let text = r#"{
    "artifacts": [
        {
            "link": {
                "etag": "dd601340ca52024af00dc8477415abde-3",
                "path": "s3://boot-images/c728d9bc-07fe-4ae1-81b0-3e7fad941376/rootfs",
                "type": "s3"
            },
            "md5": "c1c7cf9a90811a9deaba0bbe09285515",
            "type": "application/vnd.cray.image.rootfs.squashfs"
        }
    ],
    "created": "2026-11-21 09:56:21.855054",
    "version": "1.0"
}"#;
        let manifest: Manifest = serde_json::from_str(text).unwrap();
        assert_eq!(String::from_utf8(manifest.to_bytes()).unwrap(), text);
        assert_eq!(Manifest::new(Vec::new()).created.len(), "2026-11-21 09:56:21.855054".len());
    }
}
