//! Where the files of an image are: as the options name them, in a container image, or in a bundle.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::ims::ImsArgs;
use crate::cli::outcome::Failure;
use crate::cli::{Context, block_on};
use crate::fs::{self, PathContext};
use crate::image::{Layout, Platform, Store};
use crate::ops::Scratch;
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
pub(super) struct Files {
    pub(super) paths: BTreeMap<Kind, PathBuf>,
    /// Holds those that were taken out of an image.
    _directory: Option<TempDir>,
}

pub(super) fn input(args: &ImsArgs, scratch: &Scratch, context: &Context) -> Result<Input, Failure> {
    let named = named(args);
    if let Some(directory) = args.from.as_ref().map(Path::new).filter(|directory| is_bundle(directory)) {
        if !named.is_empty() {
            return Err(Failure::usage(format!("{}: a bundle has its files in it", directory.display())));
        }
        return from_bundle(directory, args);
    }
    let name = args.name.clone().ok_or_else(|| Failure::usage("the image's name is missing"))?;
    let files = match &args.from {
        Some(reference) => from_image(reference, named, args, scratch, context)?,
        None => Files { paths: named, _directory: None },
    };
    let arch = args.arch.clone().unwrap_or_else(|| "x86_64".to_owned());
    Ok(Input { name, arch, metadata: args.metadata.clone(), files, bundle: None })
}

fn named(args: &ImsArgs) -> BTreeMap<Kind, PathBuf> {
    let files = [&args.rootfs, &args.kernel, &args.initrd, &args.debug, &args.boot_parameters];
    Kind::ALL.into_iter().zip(files).filter_map(|(kind, path)| Some((kind, path.clone()?))).collect()
}

fn from_bundle(directory: &Path, args: &ImsArgs) -> Result<Input, Failure> {
    let bundle = Bundle::read(directory)?;
    if let Some(arch) = args.arch.as_ref().filter(|arch| **arch != bundle.arch) {
        let directory = directory.display();
        return Err(Failure::usage(format!(
            "{directory}: the bundle is for {}, and `--arch` says {arch}",
            bundle.arch
        )));
    }
    let paths = bundle.artifacts.iter().map(|stated| (stated.kind, directory.join(stated.kind.key()))).collect();
    let mut metadata = bundle.metadata.clone();
    metadata.extend(args.metadata.iter().cloned());
    Ok(Input {
        name: args.name.clone().unwrap_or_else(|| bundle.name.clone()),
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
    args: &ImsArgs,
    scratch: &Scratch,
    context: &Context,
) -> Result<Files, Failure> {
    let reference: ImageRef = reference.parse().map_err(|error| Failure::usage(format!("--from: {error}")))?;
    let directory = scratch.directory("haversack-ims.")?;
    let architecture = if args.arch.as_deref() == Some("aarch64") { "arm64" } else { "amd64" };
    let (store, image) = match &reference {
        ImageRef::Docker(_) => fetch(&reference, architecture, directory.path(), args, context)?,
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
    if !paths.contains_key(&Kind::Rootfs) && !args.allow_no_rootfs {
        let place = directory.path().join("rootfs.squashfs");
        context.ui.say("making a squashfs of the image's files");
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
    args: &ImsArgs,
    context: &Context,
) -> Result<(Store, oci_spec::image::Descriptor), Failure> {
    let root = directory.join("layout");
    std::fs::create_dir(&root).at("create", &root)?;
    let layout = Layout::create(&root)?;
    let platform = Platform { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: None };
    let options = CopyOptions {
        platforms: vec![platform],
        referrers: false,
        retry: context.http.retry,
        ..CopyOptions::default()
    };
    block_on(async {
        let (source, image) = args.auth.access(args.src_tls_verify, context)?.open(reference).await?;
        copy(&source, &image, &Target::Layout(layout), Some("image"), &options, context.ui.progress()).await?;
        Ok(())
    })?;
    let store = Store::Layout(Layout::open(&root)?);
    let image = store.find(Some("image"))?;
    Ok((store, image))
}
