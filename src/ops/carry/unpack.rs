//! A carry into a layout or a registry.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use oci_spec::image::Descriptor;
use serde::Serialize;

use crate::carry::{self, CarryDocument, Contents, KeptContents, Need, NotKept, PublicKey, UnpackReport};
use crate::digest::Digest;
use crate::escape::in_line;
use crate::fs;
use crate::image::store::layout::{self, Entries, ref_name};
use crate::image::store::referrers::subject_of_tag;
use crate::image::{Layout, PartialBlob, Store};
use crate::ops::{Access, Error, files};
use crate::plural;
use crate::progress::{Progress, Unit, amount};
use crate::reference::{ImageRef, Remote, Target as RemoteTarget};
use crate::registry::{CopyOptions, CopyReport, Source, Target, copy, fetch};
use crate::table;

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
    /// What it is called there, without its digest: the repository alone, where it has no tag.
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
    /// Whether contents of layers stay in the layout, as what later carries are built on. In a registry they cannot.
    pub contents: Contents,
    /// The time for the receipt, RFC 3339.
    pub now: String,
}

/// Unpacks a carry. A registry is asked before anything is written; images are made in a layout below the directory for work
/// then, which goes away when all are there, and stays for the next run when not. The receipt lies in the layout, below
/// `.haversack/receipts`, or in that directory.
pub async fn unpack(
    directory: &Path,
    to: &UnpackTo,
    options: &UnpackOptions,
    access: &Access,
    copying: &CopyOptions,
    progress: &Progress,
) -> Result<Unpacked, Error> {
    let UnpackOptions { key, work, files, contents, now } = options;
    // What is refused makes no layout.
    let carry = CarryDocument::read(directory, key.as_ref())?;
    let unpacked = |layout: &Layout| {
        let contents = match to {
            UnpackTo::Layout(_) => *contents,
            UnpackTo::Registry { .. } => Contents::Dropped,
        };
        tokio::task::block_in_place(|| carry::unpack(directory, key.as_ref(), layout, contents, now, progress))
    };
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
    check_destinations(&carry, host, prefix)?;
    ask(&carry, host, prefix, access).await?;
    let place = work.join(format!("carry-{}", carry.id));
    let is_new = !place.exists();
    let layout = Layout::create(&place)?;
    if let Err(error) = bring_base(&carry, &layout, (host, prefix), access, copying).await {
        let has_come =
            |need: &Need| layout.holds(&need.digest, need.held.size) || PartialBlob::is_begun(&layout, &need.digest);
        if is_new && !carry.needs.iter().any(has_come) && fs::remove_dir_all(&place).is_ok() {
            return Err(error);
        }
        let place = place.display();
        return Err(error.about(format!(
            "not everything that the carry is built on came from {host}; {place} stays, and the next run goes on with it"
        )));
    }
    let made = async {
        let report = unpacked(&layout)?;
        let files = extracted(&layout, &report)?;
        let (mut pushed, mut not_pushed) = (Vec::new(), Vec::new());
        if report.complete {
            (pushed, not_pushed) = push(&layout, &report, (host, prefix), access, copying, progress).await?;
        }
        Ok::<_, Error>((report, files, pushed, not_pushed))
    };
    let (mut report, files, pushed, not_pushed) = made.await.map_err(|error| {
        let place = place.display();
        error.about(format!("not everything is in {host}; {place} stays, and the next run goes on with it"))
    })?;
    if report.complete {
        fs::remove_dir_all(&place)?;
    }
    // One that was not pushed whole has not arrived.
    if !not_pushed.is_empty() {
        report.receipt = None;
    }
    let receipt_file = receipt(&report, work)?;
    Ok(Unpacked { report, pushed, not_pushed, files, receipt_file })
}

/// Asks a registry whether it answers and lets us in, in each repository that images will be in.
async fn ask(carry: &CarryDocument, host: &str, prefix: &str, access: &Access) -> Result<(), Error> {
    let registry = access.registry(host).await?;
    let mut asked = BTreeSet::new();
    for image in carry.images.iter().filter(|image| !layout::is_artifact(image)) {
        let there = ref_name(image).and_then(|name| destination(host, prefix, name));
        let Some(Remote { repository, .. }) = there else { continue };
        if asked.insert(repository.clone()) {
            let digest = layout::digest_of(image).map_err(layout::Error::from)?;
            registry.repository(&repository, true).holds(&digest).await?;
        }
    }
    Ok(())
}

/// Pushes the images of a carry from the layout that they were made in. Also returns those that a registry cannot name.
async fn push(
    layout: &Layout,
    unpacked: &UnpackReport,
    (host, prefix): (&str, &str),
    access: &Access,
    copying: &CopyOptions,
    progress: &Progress,
) -> Result<(Vec<Pushed>, Vec<String>), Error> {
    let (mut pushed, mut not_pushed) = (Vec::new(), Vec::new());
    let store = Arc::new(Store::Layout(layout.clone()));
    for image in unpacked.images.iter().filter(|image| !layout::is_artifact(image)) {
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
        let report = copy(&source, &plain, &target, remote.target.tag(), copying, progress).await?;
        let named = if remote.target.tag().is_some() { remote } else { remote.with(RemoteTarget::Unnamed) };
        pushed.push(Pushed { destination: named.to_string(), report });
    }
    Ok((pushed, not_pushed))
}

/// Refuses a carry of which two images would have one tag in a registry: the second would replace the first.
fn check_destinations(carry: &CarryDocument, host: &str, prefix: &str) -> Result<(), Error> {
    let mut taken: BTreeMap<(String, String), (&str, &str)> = BTreeMap::new();
    for image in carry.images.iter().filter(|image| !layout::is_artifact(image)) {
        let Some(name) = ref_name(image) else { continue };
        let Some(there) = destination(host, prefix, name) else { continue };
        let Some(tag) = there.target.tag() else { continue };
        let digest = image.digest().as_ref();
        let (one, first) = *taken.entry((there.repository.clone(), tag.to_owned())).or_insert((name, digest));
        if first != digest {
            let (one, other) = (in_line(one), in_line(name));
            return Err(Error::OnePlace { one, other, there: Box::new(there) });
        }
    }
    Ok(())
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
        Some(ImageRef::Docker(remote)) => (remote.path().into_owned(), remote.target),
        // A name such as `app:v1`, as skopeo gives it.
        _ => match format!("docker://{host}/{name}").parse().ok()? {
            ImageRef::Docker(Remote { repository, target, .. }) => (repository, target),
            _ => return None,
        },
    };
    // Its digest says nothing new of an image that is there.
    let target = match target {
        RemoteTarget::Pinned { tag, .. } => RemoteTarget::Tag(tag),
        target => target,
    };
    match format!("docker://{host}/{prefix}{repository}").parse().ok()? {
        ImageRef::Docker(remote) => Some(Remote { target, ..remote }),
        _ => None,
    }
}

impl Unpacked {
    /// Whether everything was done.
    pub fn is_complete(&self) -> bool {
        self.report.complete && self.report.not_kept.is_none() && self.not_pushed.is_empty()
    }

    /// What was not kept although that was asked for; a line each.
    pub fn warnings(&self) -> Option<String> {
        let NotKept { layers, reason } = self.report.not_kept.as_ref()?;
        let layers = plural::count(*layers, "layer");
        Some(format!("contents of {layers} not kept: {reason}; the images are there, and the next run tries it again"))
    }

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
        let signed = if report.signature_checked { ", signed" } else { "" };
        let mut text = format!("carry {}{signed}: {}\n", report.carry, Entries::of(&report.images));
        if self.pushed.is_empty() {
            let bytes = amount(report.made_bytes, Unit::Bytes);
            text += &format!("  {} made: {bytes}\n", plural::count(report.made_blobs, "blob"));
            if report.present_blobs > 0 {
                text += &format!("  {} there before\n", plural::count(report.present_blobs, "blob"));
            }
        } else {
            // What was in the directory for work says nothing of the registry.
            let sum = |of: fn(&CopyReport) -> u64| self.pushed.iter().map(|pushed| of(&pushed.report)).sum::<u64>();
            let bytes = amount(sum(|report| report.sent_bytes), Unit::Bytes);
            text += &format!("  {} sent: {bytes}\n", plural::count(sum(|report| report.sent_blobs), "blob"));
            text += &table::counts([
                (sum(|report| report.present_blobs), ["blob was there", "blobs were there"]),
                (
                    sum(|report| report.mounted_blobs),
                    ["blob mounted from another repository", "blobs mounted from another repository"],
                ),
            ]);
        }
        if report.needed_blobs > 0 {
            text += &format!("  {} from earlier carries\n", plural::count(report.needed_blobs, "blob"));
        }
        if report.from_kept_contents > 0 {
            let layers = plural::count(report.from_kept_contents, "layer");
            text += &format!("  {layers} not read again: kept contents were enough\n");
        }
        if let Some(KeptContents { layers, bytes }) = report.kept_contents {
            text += &format!(
                "  contents of {} kept: {} more\n",
                plural::count(layers, "layer"),
                amount(bytes, Unit::Bytes)
            );
        }
        for pushed in &self.pushed {
            text += &format!("  {}@{}\n", pushed.destination, pushed.report.digest);
        }
        for name in &self.not_pushed {
            text += &format!("  not pushed, because it has no name for a registry: {}\n", in_line(name));
        }
        for path in &self.files {
            text += &format!("  wrote {}\n", in_line(path.display()));
        }
        if let (Some(receipt), Some(file)) = (&report.receipt, &self.receipt_file) {
            let next = match &receipt.site {
                Some(site) => {
                    let site = in_line(site);
                    format!(
                        "to confirm it where the carry was packed: `haversack site confirm {site} {}`",
                        receipt.code
                    )
                }
                None => "for the records: nobody waits for it, as the carry was packed without --site".to_owned(),
            };
            text += &format!("receipt {}\n  {}; {next}\n", receipt.code, in_line(file.display()));
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
        let digest = Digest::sha256(b"");
        for (prefix, name, expected) in [
            ("", "quay.io/org/app:v1", Some("bastion:5000/org/app:v1")),
            ("mirror/", "quay.io:443/org/app", Some("bastion:5000/mirror/org/app")),
            ("", "app:v1", Some("bastion:5000/app:v1")),
            ("", "docker.io/alpine:3", Some("bastion:5000/library/alpine:3")),
            ("mirror/", "docker.io/library/alpine:3", Some("bastion:5000/mirror/library/alpine:3")),
            ("", "docker.io/org/alpine:3", Some("bastion:5000/org/alpine:3")),
            ("", "stable", Some("bastion:5000/stable")),
            ("", "not a name", None),
            // What is known by its digest gets no tag.
            ("", &format!("quay.io/org/app@{digest}"), Some(&format!("bastion:5000/org/app@{digest}"))),
            ("mirror/", &format!("quay.io/org/app:v1@{digest}"), Some("bastion:5000/mirror/org/app:v1")),
        ] {
            let found = destination("bastion:5000", prefix, name).map(|remote| remote.to_string());
            assert_eq!(found.as_deref(), expected, "{name}");
        }
    }
}
