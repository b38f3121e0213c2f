//! Carries: images of any transport into one, and one into a layout or a registry.

mod unpack;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use oci_spec::image::Descriptor;

pub use self::unpack::{Pushed, UnpackOptions, UnpackTo, Unpacked, unpack};
use crate::carry::{self, LayerEncoder, PackOptions, PackReport};
use crate::compression::encode::Budget;
use crate::digest::Digest;
use crate::fs::AtomicDir;
use crate::image::store::layout::{self, ref_name};
use crate::image::{Layout, Store, manifest};
use crate::ops::{Access, Error, files, place};
use crate::progress::Progress;
use crate::reference::ImageRef;
use crate::registry::{CopyOptions, Source, Target, copy};
use crate::site::Site;

/// A site's ledger, and what of it counts.
#[derive(Clone, Debug)]
pub struct ForSite {
    /// Where ledgers are.
    pub ledger: PathBuf,
    /// Whether what was packed and not confirmed counts as arrived.
    pub assume_arrived: bool,
    /// Whether everything travels, whatever the site holds.
    pub full: bool,
}

/// What is packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PackSource {
    /// An image of any transport; all that a layout or an archive lists, where no name is given.
    Image(ImageRef),
    /// A file or a directory, as an artifact (see [`files`]).
    File(PathBuf),
}

impl FromStr for PackSource {
    type Err = String;

    /// `file:PATH`, or an image of any transport.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("file:") {
            Some("") => Err("expected file:PATH".into()),
            Some(path) => Ok(PackSource::File(path.into())),
            None => Ok(PackSource::Image(place::image(text)?)),
        }
    }
}

impl PackSource {
    async fn gather(
        &self,
        layout: &Layout,
        access: &Access,
        copying: &CopyOptions,
        progress: &Progress,
    ) -> Result<(), Error> {
        match self {
            PackSource::Image(image) => gather(image, layout, access, copying, progress).await,
            PackSource::File(path) => {
                let (artifact, name) = tokio::task::block_in_place(|| files::wrap(path, layout, progress))?;
                claim(layout, Some(&name), &artifact)?;
                Ok(layout.tag(&artifact, Some(&name))?)
            }
        }
    }
}

/// Packs images with what refers to them into a new directory. Those in registries and archives are brought beside it first;
/// a layout's own files are used where they are on the same file system.
///
/// A layout or an archive without a name means everything that it lists. For a site with a ledger, what it holds does not travel,
/// and what was packed is written down (but for a plan, which leaves nothing); images are then gathered in the ledger, on whose disk their blobs stay.
pub async fn pack(
    sources: &[PackSource],
    directory: &Path,
    access: &Access,
    copying: &CopyOptions,
    options: &PackOptions,
    ledger: Option<&ForSite>,
    progress: &Progress,
) -> Result<PackReport, Error> {
    // Before anything is fetched.
    if std::fs::symlink_metadata(directory).is_ok() {
        return Err(carry::Error::Exists(directory.to_owned()).into());
    }
    if let (Some(ForSite { ledger, assume_arrived, full }), Some(name)) = (ledger, &options.site) {
        let site = Site::create(ledger, name)?;
        let base = if *full { None } else { Some(site.base(*assume_arrived)?) };
        let staging = AtomicDir::create(&site.staging())?;
        let layout = Layout::create(&staging.path().join("layout"))?;
        if let Some(base) = &base {
            // What was lost here is fetched again.
            for (digest, held) in base.held.iter().filter(|(digest, held)| base.layout.holds(digest, held.size)) {
                layout.take_blob(&base.layout, &held.descriptor(digest))?;
            }
        }
        for source in sources {
            source.gather(&layout, access, copying, progress).await?;
        }
        let options = PackOptions { base, ..options.clone() };
        return tokio::task::block_in_place(|| {
            let packed = carry::pack(&layout, directory, &options, progress)?;
            if options.plan {
                return Ok(packed.discard());
            }
            // A record without its carry is never confirmed; a carry without its record never could be.
            site.record(packed.carry(), &layout)?;
            Ok(packed.finish()?)
        });
    }
    let mut staging = directory.file_name().unwrap_or_default().to_owned();
    staging.push(".images");
    let staging = AtomicDir::create(&directory.with_file_name(staging))?;
    let layout = Layout::create(&staging.path().join("layout"))?;
    for source in sources {
        source.gather(&layout, access, copying, progress).await?;
    }
    // All cores are at work in there for minutes.
    Ok(tokio::task::block_in_place(|| {
        let packed = carry::pack(&layout, directory, options, progress)?;
        if options.plan { Ok(packed.discard()) } else { packed.finish() }
    })?)
}

/// Says who made each layer of an image. One that is not in a layout is brought into the directory `work` first, without what
/// refers to it.
///
/// The second list has the layers that its source does not have, as they may not be distributed.
pub async fn encoders(
    image: &ImageRef,
    work: &Path,
    access: &Access,
    copying: &CopyOptions,
    progress: &Progress,
) -> Result<(Vec<LayerEncoder>, Vec<Digest>), Error> {
    let (layout, images) = match image {
        ImageRef::Oci { path, name } => {
            let layout = Layout::open(path)?;
            let found = vec![layout.find(name.as_deref())?];
            (layout, found)
        }
        _ => {
            let (source, described) = access.open(image).await?;
            let layout = Layout::create(work)?;
            bring(&source, &described, None, &layout, copying, progress).await?;
            (layout, vec![described])
        }
    };
    let budget = Budget::default();
    Ok(tokio::task::block_in_place(|| carry::encoders(&layout, &images, &budget, progress))?)
}

async fn gather(
    image: &ImageRef,
    layout: &Layout,
    access: &Access,
    copying: &CopyOptions,
    progress: &Progress,
) -> Result<(), Error> {
    if let (ImageRef::Oci { path, .. }, None) = (image, image.name()) {
        let from = Layout::open(path)?;
        let listed = from.index()?.manifests().clone();
        for described in &listed {
            let mut read = |described: &_| from.read_document(described);
            let mut visit = |described: &_| -> Result<(), layout::Error> {
                let digest = layout::digest_of(described)?;
                match from.holds(&digest, described.size()) {
                    true => layout.take_blob(&from, described),
                    // What may not be distributed; whatever else is missing is missed when it is packed.
                    false => Ok(()),
                }
            };
            manifest::walk(described, &mut read, &mut visit)?;
        }
        listed.iter().try_for_each(|described| claim(layout, ref_name(described), described))?;
        return Ok(layout.tag_all(&listed)?);
    }
    if let (Some(_), None) = (image.path(), image.name()) {
        let store = Arc::new(Store::open(image)?);
        for described in store.index()?.manifests() {
            let name = ref_name(described).map(str::to_owned);
            let mut plain = described.clone();
            plain.set_annotations(None);
            bring(&Source::Store(store.clone()), &plain, name.as_deref(), layout, copying, progress).await?;
        }
        return Ok(());
    }
    let (source, described) = access.open(image).await?;
    let name = match image {
        ImageRef::Docker(remote) => Some(remote.to_string()),
        local => local.name().filter(|name| !name.starts_with('@')).map(str::to_owned),
    };
    bring(&source, &described, name.as_deref(), layout, copying, progress).await
}

/// Makes sure that no other image of this carry has the name.
fn claim(layout: &Layout, name: Option<&str>, image: &Descriptor) -> Result<(), Error> {
    let Some(name) = name else { return Ok(()) };
    let index = layout.index()?;
    let other = index.manifests().iter().find(|there| ref_name(there) == Some(name));
    match other.filter(|there| there.digest() != image.digest()) {
        Some(there) => Err(Error::OneName {
            name: name.to_owned(),
            one: there.digest().to_string(),
            other: image.digest().to_string(),
        }),
        None => Ok(()),
    }
}

async fn bring(
    source: &Source,
    image: &Descriptor,
    name: Option<&str>,
    layout: &Layout,
    copying: &CopyOptions,
    progress: &Progress,
) -> Result<(), Error> {
    claim(layout, name, image)?;
    copy(source, image, &Target::Layout(layout.clone()), name, copying, progress).await?;
    if name.is_none() {
        layout.tag(image, None)?;
    }
    Ok(())
}
