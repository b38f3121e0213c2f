//! Kernels for people: tables, and what is said of packages that were fetched or unpacked.

use crate::kernel::download::FetchReport;
use crate::kernel::group::Kernel;
use crate::kernel::matrix::Matrix;
use crate::kernel::release::Machine;
use crate::kernel::set::KernelSet;
use crate::kernel::unpack::{Status, UnpackReport, Unpacked};
use crate::plural::count;
use crate::progress::{Unit, amount};
use crate::table;

impl KernelSet {
    /// A table of the kernels.
    pub fn to_text(&self) -> String {
        let rows = self.kernels.iter().map(|kernel| {
            let release = &kernel.release;
            let mut roles: Vec<&str> = kernel.packages.iter().map(|package| package.role.name()).collect();
            roles.dedup();
            let (distribution, uname) = (release.distribution.clone(), release.uname.clone());
            [distribution, uname, release.machine.to_string(), release.flavour.clone(), roles.join(",")]
        });
        table::with_head(["DISTRIBUTION", "RELEASE", "MACHINE", "FLAVOUR", "PACKAGES"], rows)
    }
}

impl Matrix {
    /// A table of the kernels.
    pub fn to_text(&self) -> String {
        let rows = self.entries.iter().map(|entry| {
            let machines = entry.machines.iter().map(Machine::as_str).collect::<Vec<_>>().join(",");
            let releases = entry.releases.iter().cloned().collect::<Vec<_>>().join(" ");
            [entry.kernel.clone(), entry.rhel.clone(), machines, entry.rt.clone().unwrap_or_default(), releases]
        });
        table::with_head(["KERNEL", "RHEL", "MACHINES", "RT", "RELEASES"], rows)
    }
}

impl FetchReport {
    /// What is to be known of single packages: failures, and what is not as sure as it could be.
    pub fn warnings(&self) -> Vec<String> {
        let failed = self.failed.iter().map(|(file, why)| format!("{file}: {why}"));
        let mut lines: Vec<String> = failed.collect();
        let said: [(&[String], &str); 3] = [
            (&self.replaced, "was here with other content and was replaced"),
            (&self.unverified, "no source states its digest; it is whole, and was not verified"),
            (&self.weak, "only MD5 or SHA-1 is stated of it, which tells damage and not forgery"),
        ];
        lines.extend(said.iter().flat_map(|(files, what)| files.iter().map(move |file| format!("{file}: {what}"))));
        let elsewhere = self.elsewhere.iter().take(SAID);
        lines.extend(elsewhere.map(|(file, it)| format!("{file}: {}; fetched from {}", it.why, it.from)));
        if self.elsewhere.len() > SAID {
            lines.push(format!("{} more came from other mirrors", count(self.elsewhere.len() - SAID, "package")));
        }
        lines
    }

    /// What could not be fetched and why, in a line; of many, the first ones.
    pub fn failures(&self) -> String {
        let said: Vec<String> = self.failed.iter().take(SAID).map(|(file, why)| format!("{file}: {why}")).collect();
        let more = self.failed.len().saturating_sub(SAID);
        let rest = if more > 0 { format!("; and {} more", count(more, "package")) } else { String::new() };
        said.join("; ") + &rest
    }

    /// What was fetched, in a line.
    pub fn to_text(&self) -> String {
        let elsewhere = match self.elsewhere.len() {
            0 => String::new(),
            count => format!(", {count} from other mirrors"),
        };
        let bytes = amount(self.bytes, Unit::Bytes);
        let (fetched, unchanged, failed) = (self.fetched.len(), self.unchanged.len(), self.failed.len());
        format!("{fetched} fetched ({bytes}{elsewhere}), {unchanged} unchanged, {failed} failed\n")
    }
}

impl UnpackReport {
    /// What is wrong with kernels: errors, and what none of their packages has. What `kernels` is known to lack was said of it before.
    pub fn warnings(&self, kernels: &[Kernel]) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, kernel) in &self.kernels {
            lines.extend(kernel.error.as_ref().map(|error| format!("{name}: {error}")));
            for what in kernel.missing.iter().filter(|what| !kernels.iter().any(|it| it.missing.contains(what))) {
                lines.push(format!("{name}: {what} is in none of its packages, and modules cannot be built"));
            }
        }
        lines
    }

    /// Whether modules can be built for all kernels.
    pub fn is_complete(&self) -> bool {
        let failed = |kernel: &Unpacked| kernel.status == Status::Failed || !kernel.missing.is_empty();
        !self.kernels.values().any(failed)
    }

    /// A table of the kernels.
    pub fn to_text(&self) -> String {
        let rows = self.kernels.iter().map(|(name, kernel)| {
            let status = match kernel.status {
                Status::Unpacked | Status::Unchanged if !kernel.missing.is_empty() => "incomplete",
                Status::Unpacked => "unpacked",
                Status::Unchanged => "unchanged",
                Status::Failed => "failed",
            };
            let compiler = kernel.compiler.as_ref().map(|compiler| format!("{} {}", compiler.name, compiler.version));
            let config = kernel.config.as_ref().map(|config| config.md5.clone());
            [
                name.clone(),
                status.into(),
                compiler.unwrap_or_else(|| "-".into()),
                config.unwrap_or_else(|| "-".into()),
                kernel.kernel_directory.as_ref().unwrap_or(&kernel.directory).display().to_string(),
            ]
        });
        table::with_head(["KERNEL", "STATUS", "COMPILER", "CONFIG (MD5)", "DIRECTORY"], rows)
    }
}

/// So many packages of other mirrors, or that failed, are named one by one.
const SAID: usize = 20;
