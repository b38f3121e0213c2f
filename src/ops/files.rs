//! Plain files and directories beside images: wrapped in an artifact as `oras push` makes it, and taken out again.
//!
//! ```text
//! manifest  artifactType application/vnd.haversack.files.v1, the empty configuration, one layer:
//!   a file        application/octet-stream, `org.opencontainers.image.title` its name
//!   a directory   application/vnd.oci.image.layer.v1.tar+gzip, the same title, `io.deis.oras.content.unpack` true and
//!                 `io.deis.oras.content.digest` that of the tar, whose names begin with that of the directory
//! ```
//!
//! `oras pull` writes the same files. See <https://oras.land/docs/how_to_guides/pushing_and_pulling>.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::image::{Descriptor, MediaType};
use serde_json::json;

use crate::compression::{self, Compression};
use crate::digest::{Algorithm, Digest};
use crate::fs::{self, AtomicDir, AtomicFile, PathContext};
use crate::image::layer::tree::Overrides;
use crate::image::layer::{LayerOptions, Tree};
use crate::image::manifest::{self, Manifest};
use crate::image::store::layout::{self, Layout};
use crate::ops::Error;
use crate::progress::{Progress, Unit};
use crate::tarball;

/// Puts a file or a directory into a layout as an artifact. Returns it, and what it is called: `files/NAME:latest`, the name
/// of the file in the letters that a registry takes.
pub fn wrap(path: &Path, layout: &Layout, progress: &Progress) -> Result<(Descriptor, String), Error> {
    let metadata = std::fs::metadata(path).at("read", path)?;
    // `.` and `..` have names, too.
    let title = std::fs::canonicalize(path).at("read", path)?;
    let title = title.file_name().and_then(|name| name.to_str()).ok_or_else(|| Error::FileName(path.to_owned()))?;
    let task = progress.task(format!("reading {}", path.display()), Unit::Bytes, None);
    let mut annotations = HashMap::from([(TITLE.to_owned(), title.to_owned())]);
    let mut layer = if metadata.is_dir() {
        let mut tree = Tree::default();
        tree.add_directory(path, &format!("/{title}"), &Overrides::default())?;
        let options = LayerOptions { compression: Compression::Gzip, level: None };
        let (layer, blob) = tree.write(layout.blob_writer(Algorithm::Sha256)?, &options, 0, None, &task)?;
        let (digest, size) = blob.finish()?;
        annotations.insert(UNPACK.to_owned(), "true".to_owned());
        annotations.insert(CONTENT.to_owned(), layer.diff_id.to_string());
        layout::descriptor(layer.media_type, &digest, size)
    } else {
        let mut blob = layout.blob_writer(Algorithm::Sha256)?;
        io::copy(&mut fs::open_regular(path)?, &mut blob).at("read", path)?;
        let (digest, size) = blob.finish()?;
        layout::descriptor(MediaType::from("application/octet-stream"), &digest, size)
    };
    layer.set_annotations(Some(annotations));
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MediaType::ImageManifest, "artifactType": FILES,
        "config": layout.write_blob(MediaType::EmptyJSON, b"{}")?, "layers": [layer],
    });
    let described = layout.write_blob(MediaType::ImageManifest, &layout::canonical(&manifest))?;
    Ok((described, format!("files/{}:latest", repository(title))))
}

/// Writes what [`wrap`] wrapped, of those among `images` that it did, into a directory. Returns what was written.
///
/// What is there already stays: a file with the same bytes is passed over, and so is a directory of the same names and bytes;
/// anything else in their place is an error.
pub fn extract(layout: &Layout, images: &[Descriptor], to: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut written = Vec::new();
    for image in images.iter().filter(|image| manifest::is_manifest(image.media_type())) {
        let manifest = Manifest::parse(image.digest().as_ref(), &layout.read_document(image)?)?;
        if manifest.artifact_type.as_ref().is_none_or(|kind| kind.as_ref() != FILES) {
            continue;
        }
        for layer in manifest.layers() {
            let annotation = |key: &str| layer.annotations().as_ref().and_then(|all| all.get(key)).cloned();
            let title = annotation(TITLE).unwrap_or_default();
            if title.is_empty() || title.contains(['/', '\0']) || title == "." || title == ".." {
                return Err(Error::Title { image: image.digest().to_string(), title });
            }
            let path = to.join(&title);
            fs::create_dir_all(to)?;
            let is_written = match annotation(UNPACK).as_deref() {
                Some("true") => directory(layout, layer, &title, &path)?,
                _ => file(layout, layer, &path)?,
            };
            written.extend(is_written.then_some(path));
        }
    }
    Ok(written)
}

fn file(layout: &Layout, layer: &Descriptor, path: &Path) -> Result<bool, Error> {
    let digest = layout::digest_of(layer).map_err(layout::Error::from)?;
    if std::fs::symlink_metadata(path).is_ok() {
        let same = fs::open_regular(path).ok().and_then(|there| Digest::of_reader(there, digest.algorithm()).ok());
        return match same {
            Some((there, _)) if there == digest => Ok(false),
            _ => Err(Error::InTheWay(path.to_owned())),
        };
    }
    let mut out = AtomicFile::create(path)?;
    io::copy(&mut layout.open_blob(layer)?, &mut out).at("write", path)?;
    out.finish()?;
    Ok(true)
}

fn directory(layout: &Layout, layer: &Descriptor, title: &str, path: &Path) -> Result<bool, Error> {
    let there = std::fs::symlink_metadata(path).ok();
    if there.as_ref().is_some_and(|there| !there.is_dir()) {
        return Err(Error::InTheWay(path.to_owned()));
    }
    let staging = AtomicDir::create(path)?;
    let blob = io::BufReader::with_capacity(128 << 10, layout.open_blob(layer)?);
    let (_, plain) = compression::decoder(blob).at("read", path)?;
    // Names that lead out of the directory are passed over, links that do are not followed.
    tarball::open(plain).unpack(staging.path()).at("write", path)?;
    let [inside] = &fs::list(staging.path())?[..] else {
        return Err(Error::Title { image: layer.digest().to_string(), title: title.to_owned() });
    };
    if inside.file_name().is_none_or(|name| name != title)
        || !std::fs::symlink_metadata(inside).at("read", inside)?.is_dir()
    {
        return Err(Error::Title { image: layer.digest().to_string(), title: title.to_owned() });
    }
    if there.is_some() {
        return if is_same(path, inside)? { Ok(false) } else { Err(Error::InTheWay(path.to_owned())) };
    }
    let out = AtomicDir::create(path)?;
    fs::rename(inside, out.path())?;
    out.finish()?;
    Ok(true)
}

/// Whether two trees have the same names, bytes and links. Permissions may be another umask's, as with a file.
fn is_same(there: &Path, carried: &Path) -> Result<bool, Error> {
    let (one, other) =
        (std::fs::symlink_metadata(there).at("read", there)?, std::fs::symlink_metadata(carried).at("read", carried)?);
    if one.file_type() != other.file_type() {
        return Ok(false);
    }
    if one.is_symlink() {
        return Ok(std::fs::read_link(there).at("read", there)? == std::fs::read_link(carried).at("read", carried)?);
    }
    if one.is_file() {
        let hashed = |path: &Path| Digest::of_reader(fs::open_regular(path)?, Algorithm::Sha256).at("read", path);
        return Ok(one.len() == other.len() && hashed(there)? == hashed(carried)?);
    }
    let (one, other) = (fs::list(there)?, fs::list(carried)?);
    if one.len() != other.len() {
        return Ok(false);
    }
    for (one, other) in one.iter().zip(&other) {
        if one.file_name() != other.file_name() || !is_same(one, other)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A name in the letters that a repository may have (distribution-spec 1.1, "Pulling manifests").
fn repository(title: &str) -> String {
    let mut name = String::new();
    for letter in title.to_ascii_lowercase().chars() {
        match letter {
            'a'..='z' | '0'..='9' => name.push(letter),
            // One between two others; which of them it was is in the title.
            _ if name.ends_with('-') || name.is_empty() => {}
            '.' | '_' if !name.ends_with(['.', '_']) => name.push(letter),
            _ => {
                name.truncate(name.trim_end_matches(['.', '_']).len());
                name.push('-');
            }
        }
    }
    let name = name.trim_end_matches(['-', '.', '_']);
    if name.is_empty() { "file".to_owned() } else { name.to_owned() }
}

/// The type of the artifact.
const FILES: &str = "application/vnd.haversack.files.v1";
const TITLE: &str = "org.opencontainers.image.title";
const UNPACK: &str = "io.deis.oras.content.unpack";
const CONTENT: &str = "io.deis.oras.content.digest";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_become_names_of_repositories() {
        for (title, expected) in [
            ("site.yaml", "site.yaml"),
            ("kernel-devel-5.14.0-427.el9.x86_64.rpm", "kernel-devel-5.14.0-427.el9.x86_64.rpm"),
            ("My Notes (2026).TXT", "my-notes-2026-txt"),
            ("a__b..c", "a-b-c"),
            (".hidden", "hidden"),
            ("größe", "gr-e"),
            ("…", "file"),
        ] {
            let found = repository(title);
            assert!(
                format!("docker://h.example/files/{found}").parse::<crate::reference::ImageRef>().is_ok(),
                "{found}"
            );
            assert_eq!(found, expected, "{title}");
        }
    }
}
