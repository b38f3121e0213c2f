//! Where the files of an image are: as the options name them, in a container image, or in a bundle.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::fs::{self, PathContext};
use crate::image::{Layout, Platform, Store};
use crate::ops::publish::ims::UploadOptions;
use crate::ops::{Error, Scratch, block_on};
use crate::progress::Progress;
use crate::publish::ims::Kind;
use crate::publish::ims::bundle::{Bundle, is_bundle};
use crate::publish::ims::image_files::ImageFiles;
use crate::reference::ImageRef;
use crate::registry::{CopyOptions, Target, copy};

/// What an upload begins with.
pub(super) struct Input {
    pub(super) name: String,
    pub(super) arch: String,
    pub(super) metadata: Vec<(String, String)>,
    pub(super) files: Files,
    /// What the files must be, when they come of a bundle.
    pub(super) bundle: Option<Bundle>,
}

/// The files by what they are.
pub struct Files {
    pub(super) paths: BTreeMap<Kind, PathBuf>,
    /// Holds those that were taken out of an image.
    _directory: Option<TempDir>,
}

pub(super) fn input(options: &UploadOptions, scratch: &Scratch, progress: &Progress) -> Result<Input, Error> {
    let named = options.files.clone();
    if let Some(directory) = options.from.as_ref().map(Path::new).filter(|directory| is_bundle(directory)) {
        if !named.is_empty() {
            return Err(Error::Usage(format!("{}: a bundle has its files in it", directory.display())));
        }
        return from_bundle(directory, options);
    }
    let name = options.name.clone().ok_or_else(|| Error::Usage("the image's name is missing".to_owned()))?;
    let files = match &options.from {
        Some(reference) => from_image(reference, named, options, scratch, progress)?,
        None => Files { paths: named, _directory: None },
    };
    let arch = options.arch.clone().unwrap_or_else(|| "x86_64".to_owned());
    Ok(Input { name, arch, metadata: options.metadata.clone(), files, bundle: None })
}

fn from_bundle(directory: &Path, options: &UploadOptions) -> Result<Input, Error> {
    let bundle = Bundle::read(directory)?;
    if let Some(arch) = options.arch.as_ref().filter(|arch| **arch != bundle.arch) {
        let directory = directory.display();
        return Err(Error::Usage(format!("{directory}: the bundle is for {}, and `--arch` says {arch}", bundle.arch)));
    }
    let paths = bundle.artifacts.iter().map(|stated| (stated.kind, directory.join(stated.kind.key()))).collect();
    let mut metadata = bundle.metadata.clone();
    metadata.extend(options.metadata.iter().cloned());
    Ok(Input {
        name: options.name.clone().unwrap_or_else(|| bundle.name.clone()),
        arch: bundle.arch.clone(),
        metadata: metadata.into_iter().collect(),
        files: Files { paths, _directory: None },
        bundle: Some(bundle),
    })
}

/// Takes files out of an image into a temporary directory, each under its own name.
fn from_image(
    reference: &str,
    named: BTreeMap<Kind, PathBuf>,
    options: &UploadOptions,
    scratch: &Scratch,
    progress: &Progress,
) -> Result<Files, Error> {
    let reference: ImageRef = reference.parse().map_err(|error| Error::Usage(format!("--from: {error}")))?;
    let directory = scratch.directory("haversack-ims.")?;
    let architecture = if options.arch.as_deref() == Some("aarch64") { "arm64" } else { "amd64" };
    let (store, image) = match &reference {
        ImageRef::Docker(_) => fetch(&reference, architecture, directory.path(), options, progress)?,
        _ => Store::open_image(&reference)?,
    };
    let image = ImageFiles::open(&store, &image, architecture)?;
    let mut paths = BTreeMap::new();
    for (kind, path) in named {
        let place = directory.path().join(kind.key());
        fs::create_dir_all(&place)?;
        let place = place.join(path.file_name().unwrap_or(kind.key().as_ref()));
        image.extract(&path, &place)?;
        paths.insert(kind, place);
    }
    if !paths.contains_key(&Kind::Rootfs) && !options.allow_no_rootfs {
        let place = directory.path().join("rootfs.squashfs");
        (options.say)("making a squashfs of the image's files");
        image.squashfs(&place)?;
        paths.insert(Kind::Rootfs, place);
    }
    Ok(Files { paths, _directory: Some(directory) })
}

/// Copies an image from a registry into a layout.
fn fetch(
    reference: &ImageRef,
    architecture: &str,
    directory: &Path,
    options: &UploadOptions,
    progress: &Progress,
) -> Result<(Store, oci_spec::image::Descriptor), Error> {
    let root = directory.join("layout");
    std::fs::create_dir(&root).at("create", &root)?;
    let layout = Layout::create(&root)?;
    let platform = Platform { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: None };
    let copying = CopyOptions {
        platforms: vec![platform],
        referrers: false,
        retry: options.access.http.retry,
        ..CopyOptions::default()
    };
    block_on(async {
        let (source, image) = options.access.open(reference).await?;
        copy(&source, &image, &Target::Layout(layout), Some("image"), &copying, progress).await?;
        Ok::<_, Error>(())
    })?;
    let store = Store::Layout(Layout::open(&root)?);
    let image = store.find(Some("image"))?;
    Ok((store, image))
}
