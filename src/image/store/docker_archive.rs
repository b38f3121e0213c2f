//! What `docker save` writes: `docker-archive:`.
//!
//! ```text
//! manifest.json      [{"Config": MEMBER, "RepoTags": ["NAME:TAG"], "Layers": [MEMBER …]}]
//! HEX.json           a configuration: its digest is what Docker calls the image's id
//! ID/layer.tar       a layer, uncompressed; or a link to that of another image. skopeo writes HEX.tar
//! repositories, ID/VERSION, ID/json, …       for older readers; not looked at
//! ```
//!
//! There is no manifest in this format, so an image has no digest in it. Docker since version 25 puts an OCI layout
//! beside, and so do we: `docker-archive:` is written just as `oci-archive:` is, with `blobs/sha256/HEX` as members, and
//! layers stay compressed as they are, which Docker and podman both take. From such an archive an image comes with the
//! manifest and the digest it had. From others it gets an OCI manifest of what is in the archive: the same archive gives
//! the same digest, but it is not that of the registry the image was pulled from.
//!
//! A list of several platforms cannot be in this format.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::Path;

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, MediaType};
use serde::Deserialize;

use crate::compression::Compression;
use crate::digest::{Algorithm, Digest, HashingReader};
use crate::fs::PathContext;
use crate::image::manifest::{self, Manifest};
use crate::image::store::archive::{Error, member_of, referrers};
use crate::image::store::layout::{self, INDEX, MARKER};
use crate::image::store::members::{Links, Members};
use crate::limits;

/// A `docker-archive` file that is open for reading.
#[derive(Debug)]
pub struct DockerArchive {
    members: Members,
    images: Vec<Saved>,
    /// What the layout beside says refers to its images.
    referrers: Vec<Descriptor>,
    contents: BTreeMap<Digest, Content>,
    /// Layers whose digest was computed, by their members: a layer may be named thousands of times.
    hashed: BTreeMap<String, Digest>,
}

/// One image of `manifest.json`.
#[derive(Debug)]
struct Saved {
    manifest: Descriptor,
    tags: Vec<String>,
}

#[derive(Clone, Debug)]
enum Content {
    Member(String),
    /// A manifest that is not in the archive.
    Made(Vec<u8>),
}

/// One image in `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl DockerArchive {
    /// Lists the images of an archive. Layers that are compressed under a name that is not their digest are read for it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let members = Members::list(path, Links::Follow)?;
        let missing = || Error::NotADockerArchive { path: path.to_owned(), missing: MANIFEST.to_owned() };
        let bytes = members.read(MANIFEST)?.ok_or_else(|| members.cut().unwrap_or_else(missing))?;
        let entries: Vec<Entry> = layout::parse(&format!("{}: {MANIFEST}", path.display()), &bytes)?;
        let (images, referrers, contents) = (Vec::new(), Vec::new(), BTreeMap::new());
        let mut archive = DockerArchive { members, images, referrers, contents, hashed: BTreeMap::new() };
        let beside = archive.manifests_beside()?;
        for entry in &entries {
            let config = archive.config(entry)?;
            let manifest = match beside.get(&config.0) {
                Some(manifest) => archive.take(manifest)?,
                None => archive.make(entry, config)?,
            };
            archive.images.push(Saved { manifest, tags: entry.repo_tags.clone().unwrap_or_default() });
        }
        Ok(archive)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.members.path()
    }

    /// Its images as the index of a layout would list them, under each of their tags.
    pub fn index(&self) -> ImageIndex {
        let listed = self.images.iter().flat_map(|image| match &image.tags[..] {
            [] => vec![image.manifest.clone()],
            tags => tags.iter().map(|tag| layout::named(&image.manifest, tag)).collect(),
        });
        layout::index_of(listed.chain(self.referrers.iter().cloned()).collect())
    }

    /// The image with that tag, where `a` is `docker.io/library/a:latest`; `@N` is the Nth, counted from 0; without a
    /// name, the only image.
    pub fn find(&self, name: Option<&str>) -> Result<Descriptor, Error> {
        if let Some(number) = name.and_then(|name| name.strip_prefix('@')?.parse::<usize>().ok()) {
            let found = self.images.get(number).map(|image| image.manifest.clone());
            return Ok(found.map_or_else(|| layout::find(self.path(), &self.index(), name), Ok)?);
        }
        let wanted = name.map(normalized);
        let tagged = self.images.iter().find(|image| {
            wanted.as_ref().is_some_and(|wanted| image.tags.iter().any(|tag| normalized(tag) == *wanted))
        });
        match tagged {
            Some(image) => Ok(image.manifest.clone()),
            None => Ok(layout::find(self.path(), &self.index(), name)?),
        }
    }

    pub(crate) fn open_raw(&self, digest: &Digest) -> Result<Box<dyn Read + Send>, Error> {
        let missing = || Error::Missing { path: self.path().to_owned(), digest: digest.clone() };
        match self.contents.get(digest).ok_or_else(missing)? {
            Content::Made(bytes) => Ok(Box::new(io::Cursor::new(bytes.clone()))),
            Content::Member(name) => Ok(Box::new(self.members.open(name)?.ok_or_else(missing)?)),
        }
    }

    pub(crate) fn blob_size(&self, digest: &Digest) -> Option<u64> {
        match self.contents.get(digest)? {
            Content::Made(bytes) => Some(bytes.len() as u64),
            Content::Member(name) => self.members.size(name),
        }
    }

    /// Every blob of its images with its size.
    pub(crate) fn blobs(&self) -> Vec<(Digest, u64)> {
        self.contents.keys().filter_map(|digest| Some((digest.clone(), self.blob_size(digest)?))).collect()
    }

    /// The manifests of a layout that lies beside, by the digest of their configuration.
    fn manifests_beside(&mut self) -> Result<BTreeMap<Digest, Descriptor>, Error> {
        let mut found = BTreeMap::new();
        let (Some(_), Some(bytes)) = (self.members.size(MARKER), self.members.read(INDEX)?) else { return Ok(found) };
        let index: ImageIndex = layout::parse(&format!("{}: {INDEX}", self.path().display()), &bytes)?;
        for referrer in referrers(self.path(), &index)? {
            self.take(&referrer)?;
            self.referrers.push(referrer);
        }
        let mut open: Vec<(Descriptor, usize)> = index.manifests().iter().map(|it| (it.clone(), 0)).collect();
        let mut known = BTreeSet::new();
        while let Some((described, depth)) = open.pop() {
            if !known.insert(described.digest().to_string()) {
                continue;
            }
            let Some(bytes) = self.document_beside(&described)? else { continue };
            if manifest::is_index(described.media_type()) && depth < limits::INDEX_LEVELS {
                let children = manifest::children(&described, &bytes)?;
                open.extend(children.into_iter().map(|child| (child, depth + 1)));
            } else if manifest::is_manifest(described.media_type()) {
                let Some(config) = Manifest::parse(described.digest().as_ref(), &bytes)?.config else { continue };
                let config = layout::digest_of(&config).map_err(layout::Error::from)?;
                let (digest, size) = (layout::digest_of(&described).map_err(layout::Error::from)?, described.size());
                found.insert(config, layout::descriptor(described.media_type().clone(), &digest, size));
            }
        }
        Ok(found)
    }

    /// A document of the layout beside, if it is there and what it should be.
    fn document_beside(&self, described: &Descriptor) -> Result<Option<Vec<u8>>, Error> {
        let digest = layout::digest_of(described).map_err(layout::Error::from)?;
        let bytes = self.members.read(&member_of(&digest))?;
        Ok(bytes.filter(|bytes| digest.algorithm() != Algorithm::Sha256 || Digest::sha256(bytes) == digest))
    }

    /// Notes what a manifest of the layout beside needs.
    fn take(&mut self, described: &Descriptor) -> Result<Descriptor, Error> {
        let bytes = self.document_beside(described)?.unwrap_or_default();
        for child in [vec![described.clone()], manifest::children(described, &bytes)?].concat() {
            let digest = layout::digest_of(&child).map_err(layout::Error::from)?;
            let member = member_of(&digest);
            // What is not there is found missing when it is read.
            if self.members.size(&member).is_some() {
                self.contents.insert(digest, Content::Member(member));
            }
        }
        Ok(described.clone())
    }

    fn config(&mut self, entry: &Entry) -> Result<(Digest, Vec<u8>), Error> {
        let bytes = self.members.read(&entry.config)?.ok_or_else(|| self.lacks(&entry.config))?;
        let digest = Digest::sha256(&bytes);
        self.contents.insert(digest.clone(), Content::Member(entry.config.clone()));
        Ok((digest, bytes))
    }

    /// Makes the manifest of an image that has none.
    fn make(&mut self, entry: &Entry, (config, bytes): (Digest, Vec<u8>)) -> Result<Descriptor, Error> {
        let parsed: ImageConfiguration = layout::parse(&entry.config, &bytes)?;
        let diff_ids = parsed.rootfs().diff_ids();
        if diff_ids.len() != entry.layers.len() {
            let (path, layers, configured) = (self.path().to_owned(), entry.layers.len(), diff_ids.len());
            return Err(Error::LayerCount { path, config: entry.config.clone(), layers, configured });
        }
        let config = layout::descriptor(MediaType::ImageConfig, &config, bytes.len() as u64);
        let mut layers = Vec::new();
        for (name, diff_id) in entry.layers.iter().zip(diff_ids) {
            layers.push(self.layer(name, diff_id)?);
        }
        let made = serde_json::json!({
            "schemaVersion": 2, "mediaType": MediaType::ImageManifest, "config": config, "layers": layers,
        });
        let bytes = layout::canonical(&made);
        let digest = Digest::sha256(&bytes);
        let described = layout::descriptor(MediaType::ImageManifest, &digest, bytes.len() as u64);
        self.contents.insert(digest, Content::Made(bytes));
        Ok(described)
    }

    fn layer(&mut self, name: &str, diff_id: &str) -> Result<Descriptor, Error> {
        let path = self.path().to_owned();
        let mut member = self.members.open(name)?.ok_or_else(|| self.lacks(name))?;
        let mut start = Vec::new();
        member.by_ref().take(6).read_to_end(&mut start).at("read", &path)?;
        let media_type = match Compression::detect(&start) {
            Compression::None => MediaType::ImageLayer,
            Compression::Gzip => MediaType::ImageLayerGzip,
            Compression::Zstd => MediaType::ImageLayerZstd,
            _ => {
                let problem = "a layer in a compression that no layer may have";
                return Err(Error::BadMember { path, member: name.to_owned(), problem });
            }
        };
        let digest = if media_type == MediaType::ImageLayer {
            // What the configuration says it is; whoever reads it finds out.
            diff_id.parse().map_err(layout::Error::from)?
        } else if let Some(digest) = self.hashed.get(name) {
            digest.clone()
        } else {
            let mut reader = HashingReader::new(io::Cursor::new(start).chain(member), Algorithm::Sha256);
            io::copy(&mut reader, &mut io::sink()).at("read", &path)?;
            let digest = reader.finish().0;
            self.hashed.insert(name.to_owned(), digest.clone());
            digest
        };
        let size = self.members.size(name).unwrap_or_default();
        self.contents.insert(digest.clone(), Content::Member(name.to_owned()));
        Ok(layout::descriptor(media_type, &digest, size))
    }

    fn lacks(&self, name: &str) -> Error {
        let missing = || Error::NotADockerArchive { path: self.path().to_owned(), missing: name.to_owned() };
        self.members.cut().unwrap_or_else(missing)
    }
}

/// A name as Docker completes it: with a registry and a tag.
fn normalized(name: &str) -> String {
    let (host, rest) = name.split_once('/').unwrap_or(("", name));
    let has_host = host == "localhost" || host.contains(['.', ':']);
    let full = match (has_host, rest.contains('/') || !host.is_empty()) {
        (true, _) => name.to_owned(),
        (false, true) => format!("docker.io/{name}"),
        (false, false) => format!("docker.io/library/{name}"),
    };
    let tagged = full.rsplit('/').next().is_some_and(|last| last.contains(':'));
    if tagged || full.contains('@') { full } else { format!("{full}:latest") }
}

const MANIFEST: &str = "manifest.json";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs;
    use crate::image::layer::pax::{Meta, TarWriter};

    /// An archive as `docker save` wrote it before version 25, with a layer that is a link to another image's.
    fn saved(path: &Path, change: impl Fn(&mut serde_json::Value)) -> Digest {
        let mut layer = TarWriter::new(Vec::new());
        layer.file(Path::new("hello"), &Meta { mode: 0o644, ..Meta::default() }, 2, &b"hi"[..]).unwrap();
        let layer = layer.finish().unwrap();
        let compressed = zstd::encode_all(&layer[..], 3).unwrap();
        let diff_id = Digest::sha256(&layer);
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [diff_id, diff_id, diff_id] },
        });
        let config = config.to_string().into_bytes();
        let name = format!("{}.json", Digest::sha256(&config).hex());
        let mut manifest = serde_json::json!([{
            "Config": name, "RepoTags": ["x:1"], "Layers": ["a/layer.tar", "b/layer.tar", "c/layer.tar"],
        }]);
        change(&mut manifest);
        let manifest = manifest.to_string().into_bytes();
        let mut tar = TarWriter::new(Vec::new());
        let meta = Meta { mode: 0o644, ..Meta::default() };
        for (name, bytes) in
            [("a/layer.tar", &layer), ("c/layer.tar", &compressed), (&name, &config), ("manifest.json", &manifest)]
        {
            tar.file(Path::new(name), &meta, bytes.len() as u64, &bytes[..]).unwrap();
        }
        tar.symlink(Path::new("b/layer.tar"), &meta, Path::new("../a/layer.tar")).unwrap();
        fs::write(path, &tar.finish().unwrap()).unwrap();
        diff_id
    }

    #[test]
    fn links_are_followed_and_layers_are_what_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.tar");
        let diff_id = saved(&path, |_| {});
        let archive = DockerArchive::open(&path).unwrap();
        let image = archive.find(Some("docker.io/library/x:1")).unwrap();
        assert_eq!(archive.find(None).unwrap().digest(), image.digest());
        assert_eq!(archive.find(Some("@0")).unwrap(), image);
        let read = |described: &Descriptor| {
            let mut bytes = Vec::new();
            archive.open_raw(&layout::digest_of(described).unwrap()).unwrap().read_to_end(&mut bytes).unwrap();
            assert_eq!(
                (Digest::sha256(&bytes).to_string(), bytes.len() as u64),
                (described.digest().to_string(), described.size())
            );
            bytes
        };
        let children = manifest::children(&image, &read(&image)).unwrap();
        let layers: Vec<_> = children[1..]
            .iter()
            .map(|layer| layer.media_type().to_string().rsplit('.').next().unwrap().to_owned())
            .collect();
        assert_eq!(layers, ["tar", "tar", "tar+zstd"]);
        assert_eq!(children[2].digest().to_string(), diff_id.to_string());
        children.iter().for_each(|child| drop(read(child)));
    }

    #[test]
    fn what_cannot_be_an_image_is_refused_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.tar");
        type Change = fn(&mut serde_json::Value);
        let cases: [(Change, &str); 4] = [
            (|m| m[0]["Layers"][0] = "z/layer.tar".into(), "not a docker archive: it has no z/layer.tar"),
            (|m| m[0]["Config"] = "z.json".into(), "not a docker archive: it has no z.json"),
            (|m| m[0]["Layers"] = serde_json::json!([]), "0 layers, and its configuration has 3"),
            (|m| *m = serde_json::json!({}), "manifest.json: not what its media type says"),
        ];
        for (change, expected) in cases {
            saved(&path, change);
            let error = DockerArchive::open(&path).unwrap_err().to_string();
            assert!(error.ends_with(expected), "{error}");
        }
        for target in ["/etc/passwd", "../../etc/passwd"] {
            let mut tar = TarWriter::new(Vec::new());
            tar.symlink(Path::new("a/layer.tar"), &Meta::default(), Path::new(target)).unwrap();
            fs::write(&path, &tar.finish().unwrap()).unwrap();
            let expected = format!(
                "{}: refused, as its member `a/layer.tar` is a link that leads outside the archive",
                path.display()
            );
            assert_eq!(DockerArchive::open(&path).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn names_are_completed_as_docker_does() {
        for (name, full) in [
            ("x", "docker.io/library/x:latest"),
            ("x:1", "docker.io/library/x:1"),
            ("a/x:1", "docker.io/a/x:1"),
            ("localhost/x", "localhost/x:latest"),
            ("quay.io/a/x:1", "quay.io/a/x:1"),
            ("h:5000/x", "h:5000/x:latest"),
        ] {
            assert_eq!(normalized(name), full);
        }
    }
}
