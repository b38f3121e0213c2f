//! Carries: images of any transport into one, and one into a layout or a registry.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use oci_spec::image::Descriptor;
use serde::Serialize;

use crate::carry::{self, CarryDocument, LayerEncoder, PackOptions, PackReport, PublicKey, UnpackReport};
use crate::compression::encode::Budget;
use crate::digest::Digest;
use crate::escape::in_line;
use crate::fs::{self, AtomicDir};
use crate::image::store::layout::{self, ref_name};
use crate::image::store::referrers::subject_of_tag;
use crate::image::{Layout, Store, manifest};
use crate::ops::{Access, Error, files, place};
use crate::progress::{Progress, Unit, amount};
use crate::reference::{ImageRef, Remote, Target as RemoteTarget};
use crate::registry::{CopyOptions, CopyReport, Source, Target, copy, fetch};
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

/// Where a carry is unpacked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnpackTo {
    /// An OCI layout.
    Layout(PathBuf),
    /// A registry, and the path below which its repositories lie.
    Registry {
        /// Host and port.
        host: String,
        /// Empty or `PATH/`.
        prefix: String,
    },
}

impl FromStr for UnpackTo {
    type Err = String;

    /// `oci:DIR` or `docker://HOST[:PORT][/PATH]`.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(place) = text.strip_prefix("docker://") {
            let place = place.trim_end_matches('/');
            // Whether host and path are well formed is the reference's to say.
            format!("docker://{place}/x").parse::<ImageRef>().map_err(|error| error.to_string())?;
            let (host, path) = place.split_once('/').unwrap_or((place, ""));
            let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
            return Ok(UnpackTo::Registry { host: host.to_owned(), prefix });
        }
        match text.parse::<ImageRef>() {
            Ok(ImageRef::Oci { path, name: None }) => Ok(UnpackTo::Layout(path)),
            Ok(_) => Err("a carry is unpacked to oci:DIR or docker://HOST[/PATH]; images keep their names".into()),
            Err(_) => Err("expected oci:DIR or docker://HOST[:PORT][/PATH]".into()),
        }
    }
}

/// What was unpacked, and pushed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unpacked {
    /// What became of the carry.
    #[serde(flatten)]
    pub report: UnpackReport,
    /// Images that are in a registry now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pushed: Vec<Pushed>,
    /// Images without a name that a registry could have, and that nothing with a name refers to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_pushed: Vec<String>,
    /// Plain files and directories that were written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<PathBuf>,
    /// Where the receipt was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt_file: Option<PathBuf>,
}

/// An image in a registry.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pushed {
    /// What it is called there.
    pub destination: String,
    /// What was sent.
    #[serde(flatten)]
    pub report: CopyReport,
}

/// How a carry is unpacked.
#[derive(Clone, Debug)]
pub struct UnpackOptions {
    /// Who must have signed it.
    pub key: Option<PublicKey>,
    /// Where images are made that go to a registry, and their receipt is written.
    pub work: PathBuf,
    /// Where plain files are written that were packed as such; `None` for nowhere: they are artifacts like any other.
    pub files: Option<PathBuf>,
    /// The time for the receipt, RFC 3339.
    pub now: String,
}

/// Unpacks a carry. For a registry, images are made in a layout below the directory for work first, which goes away when all
/// are there. The receipt lies in the layout, below `.haversack/receipts`, or in that directory.
pub async fn unpack(
    directory: &Path,
    to: &UnpackTo,
    options: &UnpackOptions,
    access: &Access,
    copying: &CopyOptions,
    progress: &Progress,
) -> Result<Unpacked, Error> {
    let UnpackOptions { key, work, files, now } = options;
    // What is refused makes no layout.
    let carry = CarryDocument::read(directory, key.as_ref())?;
    let unpacked =
        |layout: &Layout| tokio::task::block_in_place(|| carry::unpack(directory, key.as_ref(), layout, now, progress));
    let receipt = |report: &UnpackReport, place: &Path| -> Result<Option<PathBuf>, Error> {
        Ok(report.receipt.as_ref().map(|receipt| receipt.write(place)).transpose()?)
    };
    let extracted = |layout: &Layout, report: &UnpackReport| match files {
        Some(to) => tokio::task::block_in_place(|| files::extract(layout, &report.images, to)),
        None => Ok(Vec::new()),
    };
    let (host, prefix) = match to {
        UnpackTo::Layout(path) => {
            carry.check_base(path)?;
            let layout = Layout::create(path)?;
            let report = unpacked(&layout)?;
            let receipt_file = receipt(&report, &path.join(RECEIPTS))?;
            let files = extracted(&layout, &report)?;
            return Ok(Unpacked { report, pushed: Vec::new(), not_pushed: Vec::new(), files, receipt_file });
        }
        UnpackTo::Registry { host, prefix } => (host, prefix),
    };
    let place = work.join(format!("carry-{}", carry.id));
    let is_new = !place.exists();
    let layout = Layout::create(&place)?;
    if let Err(error) = bring_base(&carry, &layout, (host, prefix), access, copying).await {
        if is_new {
            fs::remove_dir_all(&place)?;
        }
        return Err(error);
    }
    let mut report = unpacked(&layout)?;
    let (mut pushed, mut not_pushed) = (Vec::new(), Vec::new());
    let files = extracted(&layout, &report)?;
    if report.complete {
        let store = Arc::new(Store::Layout(layout.clone()));
        for image in report.images.iter().filter(|image| !layout::is_artifact(image)) {
            // What cosign names so came along with what it is of.
            let name = ref_name(image);
            if name.is_some_and(|name| subject_of_tag(name).is_some()) {
                continue;
            }
            let Some(remote) = name.and_then(|name| destination(host, prefix, name)) else {
                not_pushed.push(name.unwrap_or(image.digest().as_ref()).to_owned());
                continue;
            };
            let target = Target::Repository(access.repository(&remote, true).await?);
            let mut plain = image.clone();
            plain.set_annotations(None);
            let source = Source::Store(store.clone());
            let report = copy(&source, &plain, &target, Some(remote.target()), copying, progress).await?;
            pushed.push(Pushed { destination: remote.to_string(), report });
        }
        fs::remove_dir_all(&place)?;
    }
    // One that was not pushed whole has not arrived.
    if !not_pushed.is_empty() {
        report.receipt = None;
    }
    let receipt_file = receipt(&report, work)?;
    Ok(Unpacked { report, pushed, not_pushed, files, receipt_file })
}

/// Fetches what a carry is built on from the registry into a layout.
async fn bring_base(
    carry: &CarryDocument,
    layout: &Layout,
    (host, prefix): (&str, &str),
    access: &Access,
    copying: &CopyOptions,
) -> Result<(), Error> {
    let lacking = carry.lacking(Some(layout));
    let own = lacking.iter().filter_map(|need| need.held.image.as_deref());
    let names: BTreeSet<&str> = own.chain(carry.images.iter().filter_map(ref_name)).collect();
    let mut absent: BTreeMap<Digest, Descriptor> =
        lacking.iter().map(|need| (need.digest.clone(), need.held.descriptor(&need.digest))).collect();
    // Its own repository is among them; whatever image of the site has a blob, has it whole.
    let mut asked = BTreeSet::new();
    for remote in names.into_iter().filter_map(|name| destination(host, prefix, name)) {
        if absent.is_empty() || !asked.insert(remote.repository.clone()) {
            continue;
        }
        let repository = access.repository(&remote, false).await?;
        let mut there = Vec::new();
        for (digest, blob) in &absent {
            if repository.holds(digest).await? {
                there.push(blob.clone());
            }
        }
        fetch(&Source::Repository(repository), &there, layout, copying).await?;
        absent.retain(|digest, blob| !layout.holds(digest, blob.size()));
    }
    if absent.is_empty() {
        return Ok(());
    }
    let needs = carry.needs.iter().filter(|need| absent.contains_key(&need.digest));
    let carries: BTreeSet<String> = needs.map(|need| need.held.carry.clone()).collect();
    let (layout, carries) = (PathBuf::from(host), carries.into_iter().collect());
    Err(carry::Error::Base { layout, blobs: absent.len(), carries }.into())
}

/// What an image of that name is called in a registry: its repository without the host, below the prefix.
fn destination(host: &str, prefix: &str, name: &str) -> Option<Remote> {
    let full = format!("docker://{name}").parse().ok();
    let (repository, target) = match full {
        Some(ImageRef::Docker(Remote { repository, target, .. })) => (repository, target),
        // A name such as `app:v1`, as skopeo gives it.
        _ => match format!("docker://{host}/{name}").parse().ok()? {
            ImageRef::Docker(Remote { repository, target, .. }) => (repository, target),
            _ => return None,
        },
    };
    let target = match target {
        RemoteTarget::Digest(_) | RemoteTarget::Pinned { .. } => return None,
        target => target,
    };
    match format!("docker://{host}/{prefix}{repository}").parse().ok()? {
        ImageRef::Docker(remote) => Some(Remote { target, ..remote }),
        _ => None,
    }
}

impl Unpacked {
    /// What was unpacked, for people.
    pub fn to_text(&self) -> String {
        let report = &self.report;
        if !report.complete {
            return format!(
                "carry {}: not complete; bring these volumes and run it again: {}\n",
                report.carry,
                report.missing.iter().map(in_line).collect::<Vec<_>>().join(", ")
            );
        }
        let mut text = format!(
            "carry {}{}: {} images and referrers\n  {} blobs made: {}\n",
            report.carry,
            if report.signature_checked { ", signed" } else { "" },
            report.images.len(),
            report.made_blobs,
            amount(report.made_bytes, Unit::Bytes)
        );
        if report.present_blobs > 0 {
            text += &format!("  {} blobs were there\n", report.present_blobs);
        }
        if report.needed_blobs > 0 {
            text += &format!("  {} blobs are from earlier carries\n", report.needed_blobs);
        }
        for pushed in &self.pushed {
            text += &format!("  {}@{}\n", pushed.destination, pushed.report.digest);
        }
        for name in &self.not_pushed {
            text += &format!("  not pushed, for it has no name that a registry could have: {}\n", in_line(name));
        }
        for path in &self.files {
            text += &format!("  wrote {}\n", in_line(path.display()));
        }
        if let (Some(receipt), Some(file)) = (&report.receipt, &self.receipt_file) {
            let site = receipt.site.as_deref().unwrap_or("SITE");
            text += &format!(
                "receipt {}\n  {}; whoever packs says `haversack site confirm {} {}`\n",
                receipt.code,
                in_line(file.display()),
                in_line(site),
                receipt.code
            );
        }
        text
    }
}

/// Where receipts lie in a layout.
const RECEIPTS: &str = ".haversack/receipts";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_keep_their_repository_and_lose_their_host() {
        for (prefix, name, expected) in [
            ("", "quay.io/org/app:v1", Some("bastion:5000/org/app:v1")),
            ("mirror/", "quay.io:443/org/app", Some("bastion:5000/mirror/org/app")),
            ("", "app:v1", Some("bastion:5000/app:v1")),
            ("", "not a name", None),
        ] {
            let found = destination("bastion:5000", prefix, name).map(|remote| remote.to_string());
            assert_eq!(found.as_deref(), expected, "{name}");
        }
    }
}
