//! An image for the Image Management Service: its files and names, read and checked before anybody is contacted.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use serde_json::{Value, json};

use crate::fs::PathContext;
use crate::ops::publish::Refusal;
pub use crate::ops::publish::input::Files;
use crate::ops::publish::input::{Input, input};
use crate::ops::{Access, Error, Scratch};
use crate::progress::{Progress, Unit};
use crate::publish::ims::manifest::{Entry, Manifest};
use crate::publish::ims::{Artifact, Kind, Order, Published};

/// What is to be uploaded.
pub struct UploadOptions<'a> {
    /// Name of the image; may be that of a bundle.
    pub name: Option<String>,
    /// The job that built it.
    pub job: Option<JobId>,
    /// Files by what they are; inside the image of `from`, where that is one.
    pub files: BTreeMap<Kind, PathBuf>,
    /// `x86_64` or `aarch64`.
    pub arch: Option<String>,
    /// An image of any transport, or the directory of a bundle.
    pub from: Option<String>,
    /// Whether an image without a root file system is taken.
    pub allow_no_rootfs: bool,
    /// Entries of the record's metadata.
    pub metadata: Vec<(String, String)>,
    /// Whether an image that is there with the same name, architecture and content is taken.
    pub skip_existing: bool,
    /// Maximum number of parts at a time.
    pub parallel: usize,
    /// Where journals are.
    pub state: Option<PathBuf>,
    /// How the registry of `from` is spoken to.
    pub access: Access,
    /// Told what takes long.
    pub say: &'a dyn Fn(&str),
}

/// The id of a job: a UUID, in lower case as the service compares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobId(String);

impl FromStr for JobId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_uuid = text.split('-').map(str::len).eq([8, 4, 4, 4, 12])
            && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
        if is_uuid { Ok(JobId(text.to_lowercase())) } else { Err("expected a UUID".into()) }
    }
}

impl JobId {
    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Reads and checks the files and the names.
pub fn order(options: &UploadOptions, scratch: &Scratch, progress: &Progress) -> Result<(Order, Files), Error> {
    let Input { name, arch, metadata, files, bundle } = input(options, scratch, progress)?;
    let name = name.trim();
    if name.is_empty() {
        return Err(Error::Usage("the image's name is empty".to_owned()));
    }
    if !files.paths.contains_key(&Kind::Rootfs) && !options.allow_no_rootfs {
        return Err(Refusal::NoRootfs.into());
    }
    // All that is missing is named before minutes are spent on the first.
    let sizes = files.paths.values().map(|path| Ok(std::fs::metadata(path).at("open", path)?.len()));
    let total = sizes.sum::<Result<u64, Error>>()?;
    let task = progress.task("read", Unit::Bytes, Some(total));
    let mut artifacts = Vec::new();
    for (kind, path) in &files.paths {
        let artifact = Artifact::read(*kind, path, &task)?;
        if let Some(bundle) = &bundle {
            bundle.check(&artifact)?;
        }
        if matches!(kind, Kind::Kernel | Kind::DebugKernel) {
            artifact.check_architecture(&arch)?;
        }
        artifacts.push(artifact);
    }
    let order = Order {
        name: name.to_owned(),
        arch,
        job: options.job.as_ref().map(|job| job.0.clone()),
        artifacts,
        metadata,
        skip_existing: options.skip_existing,
        state: options.state.clone(),
        parallel: options.parallel,
    };
    Ok((order, files))
}

/// What an image lacks to be booted; whoever registers one without a root file system does not mean to boot it.
pub fn lacks(order: &Order) -> Option<String> {
    let has = |kind: Kind| order.artifacts.iter().any(|artifact| artifact.kind == kind);
    let absent = [Kind::Kernel, Kind::Initrd].into_iter().filter(|kind| has(Kind::Rootfs) && !has(*kind));
    let absent: Vec<&str> = absent.map(Kind::key).collect();
    let options: Vec<String> = absent.iter().map(|name| format!("`--{name}`")).collect();
    (!absent.is_empty()).then(|| {
        let (absent, options) = (absent.join(" and no "), options.join(" and "));
        format!("the image has no {absent}, so that no node boots it: give {options}")
    })
}

/// What was uploaded, as the old helper printed it.
pub fn document(published: &Published) -> Value {
    let Published { record, entries, job, .. } = published;
    let mut document = json!({ "ims_image_artifacts": entries, "ims_image_record": record });
    if let Some(job) = job {
        document["ims_job_record"] = job.clone();
    }
    document
}

/// What would be uploaded where.
pub fn plan(order: &Order, bucket: &str) -> Value {
    let place = |name: &str| format!("s3://{bucket}/IMAGE-ID/{name}");
    let entries = order.artifacts.iter();
    let etag = |artifact: &Artifact| artifact.etag().unwrap_or_else(|| "ETAG".to_owned());
    let entries = entries.map(|artifact| Entry::of(artifact, place(artifact.kind.key()), etag(artifact))).collect();
    let uploads: Vec<Value> = order
        .artifacts
        .iter()
        .map(|artifact| {
            json!({
                "file": artifact.path,
                "parts": artifact.part_count(),
                "size": artifact.size,
                "to": place(artifact.kind.key()),
            })
        })
        .collect();
    json!({
        "arch": order.arch,
        "dry_run": true,
        "job": order.job,
        "manifest": Manifest::new(entries),
        "metadata": order.metadata.iter().cloned().collect::<BTreeMap<_, _>>(),
        "name": order.name,
        "uploads": uploads,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_ids_are_uuids_in_lower_case() {
        let id = "e3a46cf3-1150-4bbf-b7c9-504993917f7d";
        for (text, is_id) in [
            (id, true),
            ("E3A46CF3-1150-4BBF-B7C9-504993917F7D", true),
            ("e3a46cf3-1150-4bbf-b7c9-504993917f7d-junk", false),
            ("notauuid", false),
            ("e3a46cf311504bbfb7c9504993917f7d", false),
            ("", false),
        ] {
            assert_eq!(text.parse::<JobId>().ok(), is_id.then(|| JobId(id.to_owned())), "{text}");
        }
    }
}
