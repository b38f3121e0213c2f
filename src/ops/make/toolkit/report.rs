//! What became of the images of kernels.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::causes;
use crate::image::build::assemble::BuildReport;
use crate::kernel::release::Machine;
use crate::ops::Error;
use crate::ops::make::toolkit::Wanted;
use crate::reference::ImageRef;

/// What became of it.
#[derive(Debug, Serialize)]
pub struct Toolkit {
    /// The definition's name.
    pub name: String,
    /// What `uname -r` prints without the machine.
    pub kernel: String,
    /// For which machines it was wanted.
    pub machines: BTreeSet<Machine>,
    /// What became of it.
    pub status: Status,
    /// Where it is.
    pub output: Vec<ImageRef>,
    /// What was made.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub report: Option<BuildReport>,
    /// Why it failed, or what it lacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What became of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It was built.
    Built,
    /// All outputs have it, made by the same recipe.
    Present,
    /// It could not be built.
    Failed,
}

impl Toolkit {
    pub(super) fn new(wanted: &Wanted, name: &str, status: Status, output: Vec<ImageRef>) -> Self {
        let Wanted { kernel, machines, .. } = wanted.clone();
        Toolkit { name: name.to_owned(), kernel, machines, status, output, report: None, error: None }
    }

    pub(super) fn failed(wanted: &Wanted, error: &Error) -> Self {
        let error = Some(causes::line(error));
        Toolkit { error, ..Toolkit::new(wanted, "", Status::Failed, Vec::new()) }
    }

    /// What became of it, and where it is, a line each.
    pub fn to_text(&self) -> String {
        let digest = self.report.as_ref().map(|report| format!("  {}", report.digest)).unwrap_or_default();
        let status = match self.status {
            Status::Built => "built",
            Status::Present => "present",
            Status::Failed => "failed",
        };
        let output: String = self.output.iter().map(|output| format!("    {output}\n")).collect();
        format!("{status:8} {}{digest}\n{output}", self.kernel)
    }
}
