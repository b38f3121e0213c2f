//! Is everything what its name says: what `haversack verify` does with images and carries.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::image::Descriptor;
use serde::Serialize;

use crate::carry::{self, PublicKey, State};
use crate::causes;
use crate::escape::in_line;
use crate::fs;
use crate::image::Store;
use crate::image::store::layout::Entries;
use crate::image::store::verify::{self, Finding, Problem, VerifyReport};
use crate::limits;
use crate::ops::evidence::{By, Evidence};
use crate::ops::{Access, Error, Scratch, block_on};
use crate::plural;
use crate::progress::{Progress, Unit, amount};
use crate::reference::{ImageRef, Remote};
use crate::registry::referrers::{self, Found};
use crate::registry::{RemoteImage, Source};

pub use crate::image::store::verify::VerifyOptions;

/// How images are checked, and what is done about what is found.
#[derive(Clone, Debug)]
pub struct CheckOptions {
    /// Limits.
    pub limits: VerifyOptions,
    /// Whether what is broken is removed from a layout, so that a copy fetches it again.
    pub repair: bool,
    /// The evidence that is asked for.
    pub evidence: Option<EvidenceTo>,
}

/// Evidence that is asked for.
#[derive(Clone, Debug)]
pub struct EvidenceTo {
    /// The directory to write it into.
    pub directory: PathBuf,
    /// The time that is written into it, RFC 3339.
    pub now: String,
}

/// What was found in images.
#[derive(Debug, Serialize)]
pub struct Verified {
    /// What was checked.
    pub place: ImageRef,
    /// What was found.
    #[serde(flatten)]
    pub report: VerifyReport,
    /// Files that were removed.
    pub removed: Vec<PathBuf>,
    /// Directories of the layout with what has come of carries whose other volumes are missing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub half_unpacked: Vec<PathBuf>,
    /// What removes what no image needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_step: Option<String>,
    /// Evidence.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub written: Vec<PathBuf>,
}

/// What was found in a carry.
#[derive(Debug, Serialize)]
pub struct CarryVerified {
    /// What was found.
    #[serde(flatten)]
    pub report: carry::VerifyReport,
    /// What makes it whole again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_step: Option<String>,
    /// Evidence.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub written: Vec<PathBuf>,
}

/// Whether a reference is the directory of a carry.
pub fn carry_at(place: &ImageRef) -> Option<&Path> {
    match place {
        ImageRef::Oci { path, name: None } => {
            (path.join(carry::CARRY).is_file() && !path.join("oci-layout").exists()).then_some(path)
        }
        _ => None,
    }
}

/// Checks an image in a registry.
pub fn check_remote(
    remote: &Remote,
    access: &Access,
    options: &CheckOptions,
    progress: &Progress,
) -> Result<Verified, Error> {
    if options.repair {
        return Err(Error::RepairRemote(remote.clone()));
    }
    if options.evidence.is_some() {
        return Err(Error::EvidenceRemote(remote.clone()));
    }
    let report = block_on(async {
        let repository = access.repository(remote, false).await?;
        let (image, _) = repository.document(remote.target()).await?;
        let beside = referrers::all(&Source::Repository(repository.clone()), &image).await?;
        let described = beside.referrers.iter().map(|referrer| referrer.described.clone()).collect();
        let contents = RemoteImage::new(repository, image, described);
        // It reads and decompresses on all cores; only what arrives is the runtime's work.
        let verified = || verify::verify(&contents, None, &options.limits, progress);
        Ok::<_, Error>(with_referrers(tokio::task::block_in_place(verified)?, &beside))
    })?;
    Ok(Verified {
        place: ImageRef::Docker(remote.clone()),
        report,
        removed: Vec::new(),
        half_unpacked: Vec::new(),
        next_step: None,
        written: Vec::new(),
    })
}

/// Checks an image, a whole layout or an archive on the disk.
pub fn check_local(place: &ImageRef, options: &CheckOptions, progress: &Progress) -> Result<Verified, Error> {
    let store = Arc::new(Store::open(place)?);
    let only = place.name().map(|name| store.find(Some(name))).transpose()?;
    let report = match &only {
        Some(image) => {
            let beside =
                block_on::<_, Error>(async { Ok(referrers::all(&Source::Store(store.clone()), image).await?) })?;
            let described = beside.referrers.iter().map(|referrer| &referrer.described);
            let images: Vec<Descriptor> = std::iter::once(image).chain(described).cloned().collect();
            with_referrers(verify::verify(&*store, Some(&images), &options.limits, progress)?, &beside)
        }
        None => verify::verify(&*store, None, &options.limits, progress)?,
    };
    let removed = match (options.repair, &*store) {
        (false, _) => Vec::new(),
        (true, Store::Layout(_) | Store::Dir(_)) => verify::repair(&store, &report)?,
        (true, Store::Archive(_) | Store::DockerArchive(_)) => return Err(Error::RepairArchive),
    };
    let written = match &options.evidence {
        Some(to) => {
            let evidence = Evidence::of_store(&store, only.as_ref(), place.to_string(), &report, by(&to.now))?;
            evidence.write(&to.directory)?.to_vec()
        }
        None => Vec::new(),
    };
    let (half_unpacked, next_step) = match &*store {
        Store::Layout(layout) if only.is_none() => (layout.half_unpacked()?, collecting(layout.root(), &report)),
        _ => (Vec::new(), None),
    };
    Ok(Verified { place: place.clone(), report, removed, half_unpacked, next_step, written })
}

/// Of one image and what is beside it, whatever that says of itself: where more may be and could not be read is a finding.
fn with_referrers(report: VerifyReport, beside: &Found) -> VerifyReport {
    let mut report = VerifyReport { images: 1, referrers: beside.referrers.len(), ..report };
    let unread = beside.unread.iter().map(|(what, error)| {
        let problem = Problem::Unreadable { reason: causes::line(error) };
        Finding { subject: what.clone(), problem }
    });
    report.findings.extend(unread);
    report.findings.sort();
    report
}

/// Checks the volumes of a carry, and writes evidence where that is asked for.
pub fn check_carry(
    directory: &Path,
    key: Option<&PublicKey>,
    evidence: Option<&EvidenceTo>,
    scratch: &Scratch,
    progress: &Progress,
) -> Result<CarryVerified, Error> {
    let report = carry::verify(directory, key, progress)?;
    let written = match evidence {
        Some(to) => {
            let work = scratch.directory("haversack-verify-")?;
            let evidence = Evidence::of_carry(directory, key, &report, by(&to.now), work.path())?;
            evidence.write(&to.directory)?.to_vec()
        }
        None => Vec::new(),
    };
    Ok(CarryVerified { next_step: report.next_step(directory), report, written })
}

/// What removes the blobs of a layout that no image needs, and what killed writers left.
fn collecting(layout: &Path, report: &VerifyReport) -> Option<String> {
    let left = report.findings.iter().any(|it| matches!(it.problem, Problem::Leftover));
    let layout = (left || !report.unneeded.is_empty()).then(|| in_line(layout.display()))?;
    Some(format!(
        "what no image needs takes room and does no harm; to remove it, while nobody writes there: `haversack gc {layout} --grace 0`"
    ))
}

fn by(now: &str) -> By {
    let host = fs::read(Path::new("/proc/sys/kernel/hostname"), HOST).unwrap_or_default();
    By { now: now.to_owned(), host: in_line(String::from_utf8_lossy(&host).trim()) }
}

impl Verified {
    /// What was found, for people.
    pub fn to_text(&self) -> String {
        let VerifyReport { images, referrers, blobs, bytes, findings, unneeded } = &self.report;
        let entries = Entries { images: *images, referrers: *referrers };
        let mut text: String = findings.iter().map(|finding| in_line(finding) + "\n").collect();
        text.extend(self.removed.iter().map(|path| format!("removed {}\n", in_line(path.display()))));
        let (bytes, found) = (amount(*bytes, Unit::Bytes), found(findings.len()));
        text += &format!("{}: {entries}, {}, {bytes}: {found}", self.place, plural::count(*blobs, "blob"));
        if !unneeded.is_empty() {
            let bytes = amount(limits::total(unneeded.iter().map(|blob| blob.size)), Unit::Bytes);
            text += &format!("; no image needs {}: {bytes}", plural::count(unneeded.len(), "other blob"));
        }
        text += "\n";
        text.extend(self.half_unpacked.iter().map(|name| half_unpacked(name)));
        text.extend(self.next_step.iter().map(|step| format!("{step}\n")));
        text + &lines_of(&self.written)
    }
}

impl CarryVerified {
    /// What was found, for people.
    pub fn to_text(&self) -> String {
        let report = &self.report;
        let findings: Vec<String> = report.findings().collect();
        let text: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
        let program = report.program.as_ref().filter(|program| program.state != State::Missing);
        let (with, not_compared) = match program {
            Some(program) if program.state == State::Unknown => ("", program.finding()),
            Some(_) => (" and the program", None),
            None => ("", None),
        };
        let signed = if report.signature_checked { ", signed" } else { "" };
        let (volumes, bytes) = (plural::count(report.volumes.len(), "volume"), amount(report.bytes, Unit::Bytes));
        let line = format!("carry {}{signed}: {volumes}{with}, {bytes}: {}\n", report.carry, found(findings.len()));
        let next = not_compared.iter().chain(&self.next_step).map(|step| format!("{step}\n"));
        text + &line + &next.collect::<String>() + &lines_of(&self.written)
    }
}

/// Says of a directory `.carry-ID.partial` what it is.
fn half_unpacked(name: &Path) -> String {
    let name = in_line(name.display());
    let id = name.trim_start_matches(".carry-").trim_end_matches(".partial");
    format!(
        "carry {id} is half unpacked: bring its other volumes (`haversack unpack`), or remove {name} where they are not to come\n"
    )
}

fn found(count: usize) -> String {
    match count {
        0 => "nothing is wrong".to_owned(),
        n => plural::count(n, "finding"),
    }
}

/// Says what was written, a line each.
fn lines_of(written: &[PathBuf]) -> String {
    written.iter().map(|path| format!("wrote {}\n", in_line(path.display()))).collect()
}

/// Bytes of the name of a machine, at most.
const HOST: u64 = 4096;
