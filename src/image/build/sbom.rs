//! What went into an image, as SPDX 2.3: a document that refers to the image.
//!
//! ```text
//! DESCRIBES   the image ── CONTAINS ──► each layer (SHA-256 of its blob), program, package, catalog …
//!                  └── DESCENDANT_OF ──► its base (digest)
//!             program ── STATIC_LINK ──► each crate (version, SHA-256 of its package)
//! ```
//!
//! It is attached as an OCI referrer: an artifact manifest of type `application/spdx+json` with the image as its subject
//! and the document as its only layer. Everything in it follows from the image, so that the same image has the same
//! document. See <https://spdx.github.io/spdx-spec/v2.3/>.

use oci_spec::image::{Descriptor, MediaType};
use serde_json::{Value, json};

use crate::digest::{Algorithm, Digest};
use crate::image::build::assemble::BuildReport;
use crate::image::store::layout::{self, Layout};
use crate::image::store::referrers::{self, Referrer};

/// Something in an image that has a name of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Component {
    /// What it is called.
    pub name: String,
    /// Its version, where it has one.
    pub version: Option<String>,
    /// Its package URL: `pkg:deb/debian/NAME@VERSION?arch=amd64`.
    pub purl: Option<String>,
    /// Digest of the package or file.
    pub digest: Option<Digest>,
    /// Where it came from: a URL.
    pub source: Option<String>,
    /// `APPLICATION`, `LIBRARY`, `FILE`, `INSTALL` …: SPDX's `primaryPackagePurpose`.
    pub purpose: &'static str,
    /// What is linked into it.
    pub linked: Vec<Component>,
}

/// What the document says beside the build's report.
#[derive(Clone, Debug, Default)]
pub struct Contents<'a> {
    /// The image's name in its definition.
    pub name: &'a str,
    /// The base's reference and digest.
    pub base: Option<(String, String)>,
    /// What is in the layers.
    pub components: &'a [Component],
}

/// Writes the document.
pub fn document(report: &BuildReport, contents: &Contents) -> Vec<u8> {
    let mut packages = Packages::default();
    let name = contents.name.rsplit('/').next().unwrap_or(contents.name);
    let image = packages.add(&Component {
        name: contents.name.to_owned(),
        version: Some(report.digest.to_string()),
        purl: Some(format!("pkg:oci/{name}@{}", report.digest.to_string().replace(':', "%3A"))),
        digest: Some(report.digest.clone()),
        purpose: "CONTAINER",
        ..Component::default()
    });
    packages.relate(DOCUMENT, "DESCRIBES", &image);
    if let Some((reference, digest)) = &contents.base {
        let base = packages.add(&Component {
            name: reference.clone(),
            version: Some(digest.clone()),
            digest: digest.parse().ok(),
            purpose: "CONTAINER",
            ..Component::default()
        });
        packages.relate(&image, "DESCENDANT_OF", &base);
    }
    let mut layers = Vec::new();
    for platform in &report.images {
        for layer in &platform.layers {
            // A layer that platforms share is one.
            if layers.contains(&&layer.digest) {
                continue;
            }
            layers.push(&layer.digest);
            let id = packages.add(&Component {
                name: format!("layer {}", layer.name.as_deref().unwrap_or_default()).trim_end().to_owned(),
                digest: Some(layer.digest.clone()),
                purpose: "ARCHIVE",
                ..Component::default()
            });
            packages.relate(&image, "CONTAINS", &id);
        }
    }
    for component in contents.components {
        let id = packages.add(component);
        packages.relate(&image, "CONTAINS", &id);
        for linked in &component.linked {
            let crate_id = packages.add(linked);
            packages.relate(&id, "STATIC_LINK", &crate_id);
        }
    }
    layout::canonical(&json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": DOCUMENT,
        "name": contents.name,
        "documentNamespace": format!("https://spdx.org/spdxdocs/haversack-{}", report.digest.hex()),
        "creationInfo": {
            "created": report.created.to_string(),
            "creators": [concat!("Tool: haversack-", env!("CARGO_PKG_VERSION"))],
        },
        "packages": packages.packages,
        "relationships": packages.relationships,
    }))
}

/// Puts a document into a layout as something that refers to an image, and lists it there in place of those that refer
/// to images which are not listed any more.
pub fn attach(layout: &Layout, image: &Descriptor, document: &[u8]) -> Result<Descriptor, layout::Error> {
    let config = layout.write_blob(MediaType::EmptyJSON, b"{}")?;
    let media_type = MediaType::from(SPDX);
    let mut subject = image.clone();
    subject.set_annotations(None);
    subject.set_platform(None);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MediaType::ImageManifest, "artifactType": SPDX, "config": config,
        "layers": [layout.write_blob(media_type.clone(), document)?], "subject": subject,
    });
    let mut described = layout.write_blob(MediaType::ImageManifest, &layout::canonical(&manifest))?;
    described.set_artifact_type(Some(media_type));
    described.set_annotations(Some([(SUBJECT.to_owned(), image.digest().to_string())].into()));
    let listed = layout.index()?.manifests().clone();
    let is_listed = |subject: &str| listed.iter().any(|there| there.digest().as_ref() == subject);
    for old in &listed {
        let subject = old.annotations().as_ref().and_then(|all| all.get(SUBJECT));
        if subject.is_some_and(|subject| !is_listed(subject)) && layout::ref_name(old).is_none() {
            layout.untag(old)?;
            // Its list, which nothing else was in unless somebody attached it.
            let fallback = subject.and_then(|subject| Some(referrers::fallback_tag(&subject.parse().ok()?)));
            let is_its_list = |it: &&Descriptor| fallback.is_some() && layout::ref_name(it) == fallback.as_deref();
            listed.iter().filter(is_its_list).try_for_each(|list| layout.untag(list))?;
        }
    }
    let referrer = Referrer { described: described.clone(), tag: None };
    referrers::attach(layout, &layout::digest_of(image)?, &[referrer])?;
    Ok(described)
}

/// The crates that this program is made of.
pub fn crates() -> Vec<Component> {
    let lines = include_str!(concat!(env!("OUT_DIR"), "/crates.txt")).lines();
    let crates = lines.filter_map(|line| {
        let mut words = line.split(' ');
        let (name, version, checksum) = (words.next()?, words.next()?, words.next()?);
        Some(Component {
            name: name.to_owned(),
            version: Some(version.to_owned()),
            purl: Some(format!("pkg:cargo/{name}@{}", version.replace('+', "%2B"))),
            digest: format!("sha256:{checksum}").parse().ok(),
            purpose: "LIBRARY",
            ..Component::default()
        })
    });
    crates.collect()
}

#[derive(Default)]
struct Packages {
    packages: Vec<Value>,
    relationships: Vec<Value>,
}

impl Packages {
    fn add(&mut self, component: &Component) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
        let name: String = component.name.chars().map(plain).collect();
        let id = format!("SPDXRef-{}-{name}", self.packages.len());
        let mut package = json!({
            "SPDXID": id,
            "name": component.name,
            "downloadLocation": component.source.as_deref().unwrap_or("NOASSERTION"),
            "filesAnalyzed": false,
        });
        if !component.purpose.is_empty() {
            package["primaryPackagePurpose"] = component.purpose.into();
        }
        if let Some(version) = &component.version {
            package["versionInfo"] = version.as_str().into();
        }
        if let Some(digest) = &component.digest {
            let algorithm = match digest.algorithm() {
                Algorithm::Sha256 => "SHA256",
                Algorithm::Sha512 => "SHA512",
            };
            package["checksums"] = json!([{ "algorithm": algorithm, "checksumValue": digest.hex() }]);
        }
        if let Some(purl) = &component.purl {
            package["externalRefs"] = json!([
                { "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl },
            ]);
        }
        self.packages.push(package);
        id
    }

    fn relate(&mut self, from: &str, how: &str, to: &str) {
        self.relationships.push(json!({ "spdxElementId": from, "relationshipType": how, "relatedSpdxElement": to }));
    }
}

/// The media type of the document and the type of the artifact.
pub const SPDX: &str = "application/spdx+json";
/// In a layout's index: the image that a document is about.
const SUBJECT: &str = "io.haversack.sbom.subject";
const DOCUMENT: &str = "SPDXRef-DOCUMENT";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::fixture;

    #[test]
    fn the_crates_are_those_of_the_program_and_not_those_of_its_tests() {
        let crates = crates();
        let has = |name: &str| crates.iter().any(|component| component.name == name);
        assert!(has("oci-spec") && has("zstd-sys") && has("rustls"), "{crates:?}");
        // Of tests, of other systems, and what only runs while compiling.
        assert!(!has("insta") && !has("assert_cmd") && !has("windows-sys") && !has("serde_derive") && !has("cc"));
        assert!(crates.iter().all(|component| component.digest.is_some()));
    }

    #[test]
    fn a_document_refers_to_its_image_and_goes_when_the_image_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let (layout, image) = fixture::image(dir.path());
        layout.tag(&image, Some("x:1")).unwrap();
        let first = attach(&layout, &image, b"{}").unwrap();
        let again = attach(&layout, &image, b"{}").unwrap();
        assert_eq!(first, again);
        let is_list = |there: &Descriptor| layout::ref_name(there).is_some_and(|name| name.starts_with("sha256-"));
        let listed = |list: bool| {
            let listed = layout.index().unwrap().manifests().clone();
            listed.into_iter().filter(|there| is_list(there) == list).collect::<Vec<_>>()
        };
        let digests = || -> Vec<String> { listed(false).iter().map(|there| there.digest().to_string()).collect() };
        let lists = || -> Vec<String> { listed(true).iter().filter_map(layout::ref_name).map(str::to_owned).collect() };
        assert_eq!(digests(), [image.digest().to_string(), first.digest().to_string()]);
        assert_eq!(lists(), [referrers::fallback_tag(&layout::digest_of(&image).unwrap())]);
        let other =
            layout.write_blob(MediaType::ImageIndex, &layout::canonical(&layout::index_of(Vec::new()))).unwrap();
        layout.tag(&other, Some("x:1")).unwrap();
        let second = attach(&layout, &other, b"{}").unwrap();
        assert_eq!(digests(), [other.digest().to_string(), second.digest().to_string()]);
        assert_eq!(lists(), [referrers::fallback_tag(&layout::digest_of(&other).unwrap())]);
    }
}
