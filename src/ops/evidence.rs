//! The evidence of a check: what was looked at, compared and found, for whoever has to answer for a site. As JSON, and as one page
//! of HTML that needs nothing else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use askama::Template;
use oci_spec::image::{Descriptor, ImageIndex};
use serde::Serialize;

use crate::carry::{self, CARRY, CarryDocument, DOCUMENT_LIMIT, PublicKey, Reading, State};
use crate::digest::Digest;
use crate::escape::in_line;
use crate::fs;
use crate::image::Store;
use crate::image::manifest::{self, Manifest};
use crate::image::store::layout::{self, ref_name};
use crate::image::store::referrers::subject_of_tag;
use crate::image::store::verify::VerifyReport;
use crate::ops::Error;
use crate::progress::{Unit, amount};

/// What was checked, by whom, when, and what was found.
#[derive(Clone, Debug, PartialEq, Serialize, Template)]
#[serde(rename_all = "camelCase")]
#[template(path = "evidence.html")]
pub struct Evidence {
    /// `haversack.evidence`.
    pub format: &'static str,
    /// The version of the format.
    pub version: u32,
    /// When it was checked, RFC 3339.
    pub checked: String,
    /// The name of the machine that checked it.
    pub host: String,
    /// The release that checked it.
    pub haversack: &'static str,
    /// What was checked, as it was named.
    pub place: String,
    /// What was compared, in words; the digests are SHA-256 unless they say another.
    pub compared: &'static str,
    /// Whether nothing is wrong.
    pub good: bool,
    /// What is wrong, a line each.
    pub findings: Vec<String>,
    /// Blobs, or volumes of a carry, that were read.
    pub read: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of a carry, what it says of itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carry: Option<OfCarry>,
    /// The images, and what refers to them.
    pub images: Vec<OfImage>,
}

/// What is to be said of a carry.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OfCarry {
    /// Its id.
    pub id: String,
    /// When it was packed, RFC 3339.
    pub created: String,
    /// The release that packed it.
    pub haversack: String,
    /// The site that it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// Blobs that it is built on and that do not travel.
    pub needs: usize,
    /// SHA-256 of `carry.json`.
    pub document: Digest,
    /// SHA-256 of the public key (DER, SubjectPublicKeyInfo) that signed it; `None` where it was not asked who did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<Digest>,
    /// Its volumes, parity among them.
    pub volumes: Vec<OfVolume>,
}

/// A volume that was read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OfVolume {
    /// Its name.
    pub file: String,
    /// Bytes that it was packed with.
    pub size: u64,
    /// SHA-256 that it was packed with.
    pub digest: Digest,
    /// What was found.
    pub state: State,
}

/// An image that was checked.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OfImage {
    /// What it is called: where it was from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its digest.
    pub digest: String,
    /// Its platforms, `OS/ARCHITECTURE`.
    pub platforms: Vec<String>,
    /// When it was made, RFC 3339, as its configuration says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Blobs that it is made of, documents too; `None` where its manifests could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blobs: Option<usize>,
    /// Their bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Signatures, SBOMs and attestations that were found. Whether a signature is somebody's is for cosign or notation to say.
    pub referrers: Vec<OfReferrer>,
}

/// Something that refers to an image.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OfReferrer {
    /// `signature`, `SBOM`, `attestation`, or its artifact type.
    pub kind: String,
    /// Its digest.
    pub digest: String,
}

/// Who checks, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct By {
    /// The time, RFC 3339.
    pub now: String,
    /// The name of the machine.
    pub host: String,
}

impl Evidence {
    /// What a check of the carry in `directory` found. `work` is an empty directory, where its documents are decompressed.
    pub fn of_carry(
        directory: &Path,
        key: Option<&PublicKey>,
        report: &carry::VerifyReport,
        by: By,
        work: &Path,
    ) -> Result<Self, Error> {
        let carry = CarryDocument::read(directory, key)?;
        let document = Digest::sha256(&fs::read(&directory.join(CARRY), DOCUMENT_LIMIT)?);
        let findings: Vec<String> = report.findings().collect();
        let reading = match Reading::open(directory, key, None, work) {
            Ok(reading) => Some(reading),
            // What is damaged or away is among the findings; its images are listed all the same.
            Err(_) if !findings.is_empty() => None,
            Err(error) => return Err(error.into()),
        };
        let mut read_document =
            |described: &Descriptor| reading.as_ref().and_then(|reading| reading.document(described).ok()?);
        let images = images(&carry.images, &mut read_document);
        let files = carry.volumes.iter().chain(&carry.parity);
        let volumes: Vec<OfVolume> = files
            .zip(&report.volumes)
            .map(|(file, checked)| OfVolume {
                file: file.file.clone(),
                size: file.size,
                digest: file.digest.clone(),
                state: checked.state.clone(),
            })
            .collect();
        let of_carry = OfCarry {
            id: carry.id,
            created: carry.created,
            haversack: carry.haversack,
            site: carry.site,
            needs: carry.needs.len(),
            document,
            signed_by: key.map(PublicKey::fingerprint),
            volumes,
        };
        Ok(Evidence {
            compared: if key.is_some() { OF_SIGNED_CARRY } else { OF_CARRY },
            good: findings.is_empty(),
            findings,
            read: report.volumes.iter().filter(|checked| checked.state != State::Missing).count() as u64,
            bytes: report.bytes,
            carry: Some(of_carry),
            images,
            ..Evidence::new(in_line(directory.display()), by)
        })
    }

    /// What a check of a layout or an archive found; `only` is the image that was asked for.
    pub fn of_store(
        store: &Store,
        only: Option<&Descriptor>,
        place: String,
        report: &VerifyReport,
        by: By,
    ) -> Result<Self, Error> {
        let index = store.index()?;
        let mut read = |described: &Descriptor| store.read_document(described).ok();
        let mut images = images(index.manifests(), &mut read);
        if let Some(only) = only {
            images.retain(|image| image.digest == only.digest().to_string());
        }
        let findings: Vec<String> = report.findings.iter().map(in_line).collect();
        Ok(Evidence {
            compared: OF_BLOBS,
            good: findings.is_empty(),
            findings,
            read: report.blobs as u64,
            bytes: report.bytes,
            carry: None,
            images,
            ..Evidence::new(place, by)
        })
    }

    fn new(place: String, by: By) -> Self {
        Evidence {
            format: "haversack.evidence",
            version: 1,
            checked: by.now,
            host: by.host,
            haversack: env!("CARGO_PKG_VERSION"),
            place,
            compared: "",
            good: false,
            findings: Vec::new(),
            read: 0,
            bytes: 0,
            carry: None,
            images: Vec::new(),
        }
    }

    /// Writes `report.json` and `report.html` into a directory, which is made where there is none. Returns both paths.
    pub fn write(&self, directory: &Path) -> Result<[PathBuf; 2], Error> {
        fs::create_dir_all(directory)?;
        let [json, html] = ["report.json", "report.html"].map(|name| directory.join(name));
        let mut bytes = serde_json::to_vec_pretty(self).expect("it has no maps with odd keys");
        bytes.push(b'\n');
        let page = self.render().map_err(std::io::Error::other)?;
        fs::write(&json, &bytes)?;
        fs::write(&html, page.as_bytes())?;
        Ok([json, html])
    }
}

/// The images of a list, and to each what refers to it. `read` gives documents, `None` for one that cannot be read.
fn images(listed: &[Descriptor], read: &mut dyn FnMut(&Descriptor) -> Option<Vec<u8>>) -> Vec<OfImage> {
    let mut referrers: BTreeMap<String, Vec<OfReferrer>> = BTreeMap::new();
    let mut images = Vec::new();
    for described in listed {
        let document = read(described).filter(|_| manifest::is_manifest(described.media_type()));
        let document = document.and_then(|bytes| Manifest::parse(described.digest().as_ref(), &bytes).ok());
        let tag = ref_name(described).filter(|name| subject_of_tag(name).is_some());
        let subject = match tag {
            Some(tag) => subject_of_tag(tag).map(|digest| digest.to_string()),
            None => document.as_ref().and_then(|it| it.subject.as_ref()).map(|subject| subject.digest().to_string()),
        };
        let Some(subject) = subject else {
            images.push(image(described, read));
            continue;
        };
        let artifact_type = document.and_then(|document| {
            document.artifact_type.or_else(|| document.config.map(|config| config.media_type().clone()))
        });
        let kind = kind_of(tag, &artifact_type.map_or_else(|| "referrer".to_owned(), |kind| kind.to_string()));
        referrers.entry(subject).or_default().push(OfReferrer { kind, digest: described.digest().to_string() });
    }
    for image in &mut images {
        image.referrers.extend(referrers.remove(&image.digest).unwrap_or_default());
    }
    // What refers to something that is not listed by itself, a platform of an image or another referrer, is not lost.
    for (subject, of_it) in referrers {
        let (name, platforms) = (Some(format!("refers to {subject}")), Vec::new());
        images.extend(of_it.into_iter().map(|referrer| OfImage {
            name: name.clone(),
            digest: referrer.digest.clone(),
            platforms: platforms.clone(),
            created: None,
            blobs: None,
            bytes: None,
            referrers: vec![referrer],
        }));
    }
    images
}

fn image(described: &Descriptor, read: &mut dyn FnMut(&Descriptor) -> Option<Vec<u8>>) -> OfImage {
    let mut image = OfImage {
        name: ref_name(described).map(in_line),
        digest: described.digest().to_string(),
        platforms: Vec::new(),
        created: None,
        blobs: None,
        bytes: None,
        referrers: Vec::new(),
    };
    let mut parts: BTreeMap<String, u64> = BTreeMap::new();
    let mut visit = |described: &Descriptor| {
        parts.insert(described.digest().to_string(), described.size());
        Ok(())
    };
    if manifest::walk(described, &mut |described| read(described).ok_or(Unread), &mut visit).is_err() {
        return image;
    }
    (image.blobs, image.bytes) =
        (Some(parts.len()), Some(parts.values().fold(0_u64, |sum, size| sum.saturating_add(*size))));
    let bytes = read(described).unwrap_or_default();
    if manifest::is_index(described.media_type()) {
        let children = layout::parse::<ImageIndex>("index", &bytes).map(|index| index.manifests().clone());
        for child in children.unwrap_or_default() {
            let platform = child.platform().as_ref().map(|it| format!("{}/{}", it.os(), it.architecture()));
            match platform.as_deref() {
                // BuildKit's attestations are no platform.
                Some("unknown/unknown") => image
                    .referrers
                    .push(OfReferrer { kind: "attestation".to_owned(), digest: child.digest().to_string() }),
                Some(platform) => image.platforms.push(in_line(platform)),
                None => {}
            }
        }
    } else if let Some(config) = Manifest::parse("manifest", &bytes).ok().and_then(|it| it.config)
        && let Some(config) = read(&config).and_then(|bytes| manifest::configuration("configuration", &bytes).ok())
    {
        image.platforms.push(in_line(format!("{}/{}", config.os(), config.architecture())));
        image.created = config.created().as_deref().map(in_line);
    }
    image
}

/// A document of an image cannot be read.
struct Unread;

impl From<layout::Error> for Unread {
    fn from(_: layout::Error) -> Self {
        Unread
    }
}

/// What a referrer is, by the tag that cosign gives it or its artifact type.
fn kind_of(tag: Option<&str>, artifact_type: &str) -> String {
    const KINDS: [(&str, &str); 10] = [
        (".sig", "signature"),
        (".att", "attestation"),
        (".sbom", "SBOM"),
        ("cosign.artifact.sig", "signature"),
        ("cosign.simplesigning", "signature"),
        ("notary.signature", "signature"),
        ("spdx", "SBOM"),
        ("cyclonedx", "SBOM"),
        ("syft", "SBOM"),
        ("in-toto", "attestation"),
    ];
    let tagged = KINDS[..3].iter().find(|(end, _)| tag.is_some_and(|tag| tag.ends_with(end)));
    let typed = || KINDS[3..].iter().find(|(part, _)| artifact_type.contains(part));
    match tagged.or_else(typed) {
        Some((_, kind)) => (*kind).to_owned(),
        None if artifact_type.contains("sigstore.bundle") => "Sigstore bundle (signature or attestation)".to_owned(),
        None => in_line(artifact_type),
    }
}

/// For the page.
fn bytes(bytes: &u64) -> String {
    amount(*bytes, Unit::Bytes)
}

const OF_CARRY: &str = "The SHA-256 and the size of every volume with what carry.json says. Nobody's signature of carry.json was \
                     asked for. Layers and manifests in the volumes get their names when they are unpacked, and only with the \
                     digest that they have here.";
const OF_SIGNED_CARRY: &str = "The signature of carry.json with the public key; the SHA-256 and the size of every volume with what \
                            carry.json says. Layers and manifests in the volumes get their names when they are unpacked, and \
                            only with the digest that they have here.";
const OF_BLOBS: &str = "The digest and the size of every blob with what manifests say, every layer decompressed and compared with its \
                     diff id, and that nothing is missing. Signatures were looked for and not verified.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn referrers_are_called_what_people_call_them() {
        for (tag, artifact_type, expected) in [
            (Some("sha256-00.sig"), "application/vnd.oci.image.config.v1+json", "signature"),
            (Some("sha256-00.att"), "referrer", "attestation"),
            (Some("sha256-00.sbom"), "referrer", "SBOM"),
            (None, "application/vnd.cncf.notary.signature", "signature"),
            (None, "application/spdx+json", "SBOM"),
            (None, "application/vnd.cyclonedx+json", "SBOM"),
            (None, "application/vnd.in-toto+json", "attestation"),
            (None, "application/vnd.dev.sigstore.bundle.v0.3+json", "Sigstore bundle (signature or attestation)"),
            (None, "application/vnd.example+type", "application/vnd.example+type"),
        ] {
            assert_eq!(kind_of(tag, artifact_type), expected, "{tag:?} {artifact_type}");
        }
    }
}
