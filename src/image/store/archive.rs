//! Layouts in a tar: `oci-archive:`.
//!
//! ```text
//! blobs/ blobs/sha256/ blobs/sha256/HEX …      only what the images in it need, sorted
//! index.json
//! manifest.json      for what reads `docker save` archives only: Docker's old image store, `podman load` of several
//! oci-layout
//! ```
//!
//! What refers to an image (signatures, SBOMs) is not among the manifests of `index.json` but in its annotation
//! `io.haversack.referrers`, as a JSON list of descriptors: skopeo and podman take an archive that lists one image without
//! being told its name, and no other.
//!
//! Written deterministically: the same images give the same file. Read where it lies: nothing is unpacked, a blob is a
//! range of the file, and every blob is checked against its digest when it is read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::image::{Descriptor, ImageIndex};
use serde::Serialize;

use crate::digest::Digest;
use crate::fs::{self, AtomicFile, PathContext, PathError};
use crate::image::layer::pax::{Meta, TarWriter};
use crate::image::manifest::Manifest;
use crate::image::store::layout::{self, BLOBS, INDEX, Layout, MARKER, VerifyingReader};
use crate::image::store::members::{Links, Members};
use crate::image::store::referrers::subject_of_tag;
use crate::image::{Platform, manifest};
use crate::plural;

/// An `oci-archive` file that is open for reading.
#[derive(Debug)]
pub struct Archive {
    members: Members,
    index: ImageIndex,
}

/// Why an archive cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It has no layout in it.
    #[error("{}: not an OCI archive: it has no {missing}", path.display())]
    NotAnArchive {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        missing: &'static str,
    },
    /// It ends before its end, as after a copy that broke off.
    #[error("{}: cut off after {size} bytes{}", path.display(), member.as_ref().map(|name| format!(", in the middle of {name}")).unwrap_or_default())]
    Cut {
        /// The file.
        path: PathBuf,
        /// Its size.
        size: u64,
        /// The member in which it ends.
        member: Option<String>,
    },
    /// It has no images as Docker saves them.
    #[error("{}: not a docker archive: it has no {missing}", path.display())]
    NotADockerArchive {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        missing: String,
    },
    /// An image with more or fewer layers than its configuration has.
    #[error("{}: {config}: {}, and its configuration has {configured}", path.display(), plural::count(*layers, "layer"))]
    LayerCount {
        /// The file.
        path: PathBuf,
        /// The configuration.
        config: String,
        /// In `manifest.json`.
        layers: usize,
        /// In the configuration.
        configured: usize,
    },
    /// A list of platforms where there can be none.
    #[error("{}: a docker archive has no lists of platforms, and this image has {platforms}", path.display())]
    SeveralPlatforms {
        /// The file.
        path: PathBuf,
        /// How many.
        platforms: usize,
    },
    /// It is compressed with something that nobody compresses archives with, or is to be written to.
    #[error("{}: compressed as a whole, {}; decompress it first", path.display(),
        if *written { "so that nothing can be added to it" } else { "and not with gzip or zstd" })]
    Compressed {
        /// The archive.
        path: PathBuf,
        /// Whether something was to be added.
        written: bool,
    },
    /// A member that no layout has: a link, a device, a name that leads out of it.
    #[error("{}: refused, as its member `{member}` is {problem}", path.display())]
    BadMember {
        /// The file.
        path: PathBuf,
        /// The member's name.
        member: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// What an image in it refers to is missing.
    #[error("{}: {digest} is not in it", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The blob.
        digest: Digest,
    },
    /// A document in it or a blob of the layout.
    #[error("{0}")]
    Layout(#[from] layout::Error),
    /// The file itself.
    #[error("{0}")]
    Path(#[from] PathError),
}

impl Archive {
    /// Lists the members of an archive and reads its index.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let members = Members::list(path, Links::Refuse)?;
        let missing = |missing| members.cut().unwrap_or_else(|| Error::NotAnArchive { path: path.to_owned(), missing });
        // Hauls of hauler have none.
        let is_unmarked = members.size(INDEX).is_some() && members.files().any(|(name, _)| name.starts_with("blobs/"));
        if members.size(MARKER).is_none() && !is_unmarked {
            return Err(missing(MARKER));
        }
        let bytes = members.read(INDEX)?.ok_or_else(|| missing(INDEX))?;
        let index = layout::parse(&format!("{}: {INDEX}", path.display()), &bytes)?;
        let mut archive = Archive { members, index };
        let referrers = referrers(path, &archive.index)?;
        if !referrers.is_empty() {
            archive.index.set_manifests([archive.index.manifests().clone(), referrers].concat());
        }
        Ok(archive)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.members.path()
    }

    /// What its `index.json` lists, and what it says refers to that.
    pub fn index(&self) -> &ImageIndex {
        &self.index
    }

    /// The image of that name; without one, the only image.
    pub fn find(&self, name: Option<&str>) -> Result<Descriptor, Error> {
        Ok(layout::find(self.path(), &self.index, name)?)
    }

    /// A reader of a blob that ends with an error when size or digest are not as described.
    pub fn open_blob(&self, described: &Descriptor) -> Result<VerifyingReader<io::Take<File>>, Error> {
        let digest = layout::digest_of(described).map_err(layout::Error::from)?;
        Ok(VerifyingReader::new(self.open_raw(&digest)?, digest, described.size()))
    }

    pub(crate) fn open_raw(&self, digest: &Digest) -> Result<io::Take<File>, Error> {
        let missing = || Error::Missing { path: self.path().to_owned(), digest: digest.clone() };
        self.members.open(&member_of(digest))?.ok_or_else(missing)
    }

    pub(crate) fn blob_size(&self, digest: &Digest) -> Option<u64> {
        self.members.size(&member_of(digest))
    }

    /// Every blob with its size.
    pub(crate) fn blobs(&self) -> Vec<(Digest, u64)> {
        let blobs = self.members.files().filter_map(|(name, size)| {
            let (algorithm, hex) = name.strip_prefix("blobs/")?.split_once('/')?;
            Some((format!("{algorithm}:{hex}").parse().ok()?, size))
        });
        blobs.collect()
    }
}

/// Writes the images (descriptors as in the layout's index, with their names) and all they need to a new archive.
///
/// The file appears when it is whole. `mtime` is what all members get.
pub fn write(layout: &Layout, images: &[Descriptor], path: &Path, mtime: i64) -> Result<(), Error> {
    let mut blobs = BTreeSet::new();
    for image in images {
        manifest::walk(image, &mut |described| layout.read_document(described), &mut |described| {
            blobs.insert(layout::digest_of(described)?);
            Ok::<(), layout::Error>(())
        })?;
    }
    let mut images = images.to_vec();
    let mut artifacts = BTreeSet::new();
    for image in &images {
        if !is_runnable(layout, image)? {
            artifacts.insert(image.digest().to_string());
        }
    }
    // Images first: programs that are told no name take what stands first.
    images.sort_by_key(|image| {
        let digest = image.digest().to_string();
        (artifacts.contains(&digest), layout::ref_name(image).map(str::to_owned), digest)
    });
    let (file, dir) = (Meta { mode: 0o644, mtime, ..Meta::default() }, Meta { mode: 0o755, mtime, ..Meta::default() });

    let mut tar = TarWriter::new(AtomicFile::create(path)?);
    let mut directories = BTreeSet::new();
    for digest in &blobs {
        let name = Path::new(BLOBS).join(digest.algorithm().name()).join(digest.hex());
        for parent in [Path::new(BLOBS), name.parent().expect("two are above it")] {
            if directories.insert(parent.to_owned()) {
                tar.directory(parent, &dir).at("write", path)?;
            }
        }
        let source = layout.blob_path(digest);
        let blob = fs::open_regular(&source)?;
        let size = blob.metadata().at("read", &source)?.len();
        // Checked once more on the way: an archive is what crosses the gap.
        let blob = VerifyingReader::new(blob, digest.clone(), size);
        tar.file(&name, &file, size, blob).at("pack", &source)?;
    }
    let mut referrers = Vec::new();
    for image in &images {
        if is_referrer(layout, image, &blobs)? {
            referrers.push(image.clone());
        }
    }
    // What refers to something that is not here is an image like others.
    if referrers.len() < images.len() {
        images.retain(|image| !referrers.contains(image));
    } else {
        referrers.clear();
    }
    let docker = docker_manifests(layout, &images)?;
    let mut index = layout::index_of(images);
    if !referrers.is_empty() {
        let listed = String::from_utf8(layout::canonical(&referrers)).expect("JSON is UTF-8");
        index.set_annotations(Some([(REFERRERS.to_owned(), listed)].into()));
    }
    let marker = serde_json::json!({ "imageLayoutVersion": layout::VERSION });
    let documents = [
        (INDEX, layout::canonical(&index)),
        ("manifest.json", layout::canonical(&docker)),
        (MARKER, layout::canonical(&marker)),
    ];
    for (name, bytes) in documents {
        tar.file(Path::new(name), &file, bytes.len() as u64, &bytes[..]).at("write", path)?;
    }
    tar.finish().at("write", path)?.finish()?;
    Ok(())
}

/// What the index of an archive says refers to its images.
pub(crate) fn referrers(path: &Path, index: &ImageIndex) -> Result<Vec<Descriptor>, Error> {
    let Some(listed) = index.annotations().as_ref().and_then(|all| all.get(REFERRERS)) else { return Ok(Vec::new()) };
    Ok(layout::parse(&format!("{}: {REFERRERS}", path.display()), listed.as_bytes())?)
}

/// Whether an engine can run something: an index, or the manifest of an image.
fn is_runnable(layout: &Layout, described: &Descriptor) -> Result<bool, Error> {
    if !manifest::is_manifest(described.media_type()) {
        return Ok(true);
    }
    Ok(Manifest::parse(described.digest().as_ref(), &layout.read_document(described)?)?.is_image())
}

/// Whether something is in a layout only because it refers to what else is there.
fn is_referrer(layout: &Layout, described: &Descriptor, blobs: &BTreeSet<Digest>) -> Result<bool, Error> {
    if let Some(name) = layout::ref_name(described) {
        return Ok(subject_of_tag(name).is_some_and(|subject| blobs.contains(&subject)));
    }
    if !manifest::is_manifest(described.media_type()) {
        return Ok(false);
    }
    Ok(Manifest::parse(described.digest().as_ref(), &layout.read_document(described)?)?.subject.is_some())
}

/// The annotation of an archive's `index.json` that lists what refers to its images.
const REFERRERS: &str = "io.haversack.referrers";

/// The name of a blob's member.
pub(crate) fn member_of(digest: &Digest) -> String {
    format!("{BLOBS}/{}/{}", digest.algorithm().name(), digest.hex())
}

/// One image in `manifest.json`, as `docker save` writes it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerManifest {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// What `manifest.json` says: of an index only one platform, amd64 where there is that.
fn docker_manifests(layout: &Layout, images: &[Descriptor]) -> Result<Vec<DockerManifest>, Error> {
    let mut manifests: BTreeMap<String, DockerManifest> = BTreeMap::new();
    for image in images {
        let mut described = image.clone();
        if manifest::is_index(image.media_type()) {
            let index: ImageIndex = layout::parse(image.digest().as_ref(), &layout.read_document(image)?)?;
            let amd64 = |there: &&Descriptor| {
                there.platform().as_ref().is_some_and(|platform| Platform::from(platform).architecture == "amd64")
            };
            let is_platform = |there: &&Descriptor| {
                let platform = there.platform().as_ref().map(Platform::from);
                manifest::is_manifest(there.media_type()) && platform.is_none_or(|it| it.os != "unknown")
            };
            let platforms = || index.manifests().iter().filter(is_platform);
            let Some(chosen) = platforms().find(amd64).or_else(|| platforms().next()) else { continue };
            described = chosen.clone();
        }
        if !manifest::is_manifest(described.media_type()) {
            continue;
        }
        let parsed = Manifest::parse(described.digest().as_ref(), &layout.read_document(&described)?)?;
        // A signature, an attestation or a chart: Docker and podman would load it as an image.
        let Some(config) = parsed.config.as_ref().filter(|_| parsed.is_image()) else { continue };
        let blob = |described: &Descriptor| {
            Ok::<_, Error>(match layout::digest_of(described) {
                Ok(digest) => member_of(&digest),
                Err(error) => return Err(layout::Error::from(error).into()),
            })
        };
        let entry = DockerManifest {
            config: blob(config)?,
            repo_tags: Vec::new(),
            layers: parsed.layers().iter().map(blob).collect::<Result<_, _>>()?,
        };
        let entry = manifests.entry(entry.config.clone()).or_insert(entry);
        // Docker refuses a name without a tag here.
        entry.repo_tags.extend(
            layout::ref_name(image)
                .filter(|name| name.rsplit('/').next().is_some_and(|last| last.contains(':')))
                .map(str::to_owned),
        );
    }
    Ok(manifests.into_values().collect())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use oci_spec::image::MediaType;

    use super::*;
    use crate::fs;
    use crate::image::fixture;

    #[test]
    fn what_is_written_is_read_back_and_is_the_same_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let (layout, image) = fixture::image(&dir.path().join("layout"));
        layout.tag(&image, Some("x:1")).unwrap();
        layout.write_blob(MediaType::ImageLayer, b"not needed").unwrap();
        let images = layout.index().unwrap().manifests().clone();
        let paths = ["a.tar", "b.tar"].map(|name| dir.path().join(name));
        for path in &paths {
            write(&layout, &images, path, 7).unwrap();
        }
        let bytes = paths.each_ref().map(|path| fs::read(path, 1 << 20).unwrap());
        assert_eq!(bytes[0], bytes[1]);

        let archive = Archive::open(&paths[0]).unwrap();
        assert_eq!(archive.index().manifests(), &images);
        let manifest: Vec<serde_json::Value> =
            serde_json::from_slice(&archive.members.read("manifest.json").unwrap().unwrap()).unwrap();
        assert_eq!(manifest[0]["RepoTags"], serde_json::json!(["x:1"]));
        let mut blobs = 0;
        manifest::walk(
            &image,
            &mut |described| {
                let mut bytes = Vec::new();
                archive.open_blob(described).unwrap().read_to_end(&mut bytes).unwrap();
                Ok::<_, Error>(bytes)
            },
            &mut |described| {
                blobs += 1;
                io::copy(&mut archive.open_blob(described).unwrap(), &mut io::sink()).unwrap();
                Ok(())
            },
        )
        .unwrap();
        // Manifest, configuration and layer; the blob that nothing refers to was left out.
        assert_eq!((blobs, archive.members.files().count()), (3, 3 + 3));
    }

    /// Each image in turn, of OCI's types and of Docker's, beside what is none: only images are in `manifest.json`, and
    /// `index.json` lists the signature as what it is.
    #[test]
    fn docker_manifest_lists_images_of_both_kinds_and_nothing_else() {
        const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";
        for (media_type, config_type) in [
            (MediaType::ImageManifest, MediaType::ImageConfig),
            (MediaType::from(DOCKER), MediaType::from("application/vnd.docker.container.image.v1+json")),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let (layout, _) = fixture::image(&dir.path().join("layout"));
            let write = |media_type: &MediaType, config: &Descriptor, layers: &[Descriptor]| {
                let manifest = serde_json::json!({
                    "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers,
                });
                layout.write_blob(media_type.clone(), &layout::canonical(&manifest)).unwrap()
            };
            let config = layout.write_blob(config_type, b"{}").unwrap();
            let image = write(&media_type, &config, &[]);
            let payload = MediaType::from("application/vnd.dev.cosign.simplesigning.v1+json");
            let payload = layout.write_blob(payload, b"signed").unwrap();
            let oci_config = layout.write_blob(MediaType::ImageConfig, b"{} ").unwrap();
            let signature = write(&MediaType::ImageManifest, &oci_config, &[payload]);
            let chart =
                layout.write_blob(MediaType::from("application/vnd.cncf.helm.config.v1+json"), b"{}  ").unwrap();
            let chart = write(&MediaType::ImageManifest, &chart, &[]);
            let signed = format!("{}.sig", image.digest().to_string().replace(':', "-"));
            let listed = [(&signature, signed.as_str()), (&chart, "a-chart:1"), (&image, "x:1")];
            let listed = listed.map(|(described, name)| layout::named(described, name));
            let path = dir.path().join("a.tar");
            super::write(&layout, &listed, &path, 0).unwrap();

            let archive = Archive::open(&path).unwrap();
            let docker: serde_json::Value =
                serde_json::from_slice(&archive.members.read("manifest.json").unwrap().unwrap()).unwrap();
            let config = member_of(&layout::digest_of(&config).unwrap());
            let expected = serde_json::json!([{ "Config": config, "RepoTags": ["x:1"], "Layers": [] }]);
            assert_eq!(docker, expected, "{media_type}");
            let index: serde_json::Value =
                serde_json::from_slice(&archive.members.read(INDEX).unwrap().unwrap()).unwrap();
            assert_eq!(index["manifests"].as_array().unwrap().len(), 2, "the image and the chart");
            // Read by us, it is an entry as in the layout.
            let [signature, chart, image] = &listed;
            assert_eq!(archive.index().manifests(), &[image, chart, signature].map(Clone::clone));
        }
    }

    #[test]
    fn members_that_no_layout_has_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.tar");
        let cases: [(&str, tar::EntryType, &str); 5] = [
            ("/etc/passwd", tar::EntryType::Regular, "outside the archive"),
            ("blobs/../../x", tar::EntryType::Regular, "outside the archive"),
            ("blobs/sha256/link", tar::EntryType::Symlink, "a link"),
            ("blobs/sha256/link", tar::EntryType::Link, "a link"),
            ("blobs/sha256/device", tar::EntryType::Char, "neither a file nor a directory"),
        ];
        for (name, kind, problem) in cases {
            let mut header = tar::Header::new_ustar();
            header.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(kind);
            header.set_size(0);
            header.set_link_name_literal("/etc/shadow").unwrap();
            header.set_cksum();
            fs::write(&path, &[header.as_bytes().as_slice(), &[0; 1024]].concat()).unwrap();
            let expected = format!("{}: refused, as its member `{name}` is {problem}", path.display());
            assert_eq!(Archive::open(&path).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn what_is_no_archive_is_told_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.tar");
        let mut twice = TarWriter::new(Vec::new());
        for _ in 0..2 {
            twice.file(Path::new("oci-layout"), &Meta::default(), 0, io::empty()).unwrap();
        }
        for (bytes, expected) in [
            (vec![0; 1024], "not an OCI archive: it has no oci-layout"),
            (b"\xfd7zXZ\0".to_vec(), "compressed as a whole, and not with gzip or zstd; decompress it first"),
            (twice.finish().unwrap(), "refused, as its member `oci-layout` is there twice"),
        ] {
            fs::write(&path, &bytes).unwrap();
            assert_eq!(Archive::open(&path).unwrap_err().to_string(), format!("{}: {expected}", path.display()));
        }
    }
}
