//! A kernel as `uname -r` names it, with its distribution, machine and flavour.
//!
//! The words are the program's own, whatever a distribution calls them: machines as `uname -m` has them (`x86_64`, not
//! `amd64`), distributions as `os-release` has them where it can be told from a package, flavours without the machine
//! (`cloud`, not `cloud-amd64`) and `default` for the one that has no name.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::kernel::version::Order;

/// One kernel that a machine can run.
///
/// Ordered by distribution, then by version, then by the rest, so that a sorted list reads from the oldest to the newest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Release {
    /// Which distribution made it: `el`, `ol`, `fedora`, `amazonlinux`, `suse`, `photon`, `debian`, `ubuntu`,
    /// `gardenlinux`, or `linux` where nothing tells.
    pub distribution: String,
    /// What `uname -r` prints.
    pub uname: String,
    /// What `uname -m` prints.
    pub machine: Machine,
    /// What sets it apart from its siblings of the same version: `rt`, `64k`, `debug`, `cloud`, `azure`, `uek`; or
    /// `default`.
    pub flavour: String,
    /// The version of the packages it was built as. One `uname -r` can have several builds (Ubuntu rebuilds a kernel
    /// for an older series with that series' compiler).
    pub build: String,
}

impl Release {
    /// What sets this release apart from every other: two packages with the same key belong to the same kernel.
    pub fn key(&self) -> (&str, &str, &Machine, &str) {
        (&self.distribution, &self.uname, &self.machine, &self.build)
    }

    /// The order of its packager.
    pub fn order(&self) -> Order {
        Order::of_distribution(&self.distribution)
    }
}

impl Ord for Release {
    fn cmp(&self, other: &Self) -> Ordering {
        self.distribution
            .cmp(&other.distribution)
            .then_with(|| self.order().compare_unames(&self.uname, &other.uname))
            .then_with(|| self.order().compare(&self.build, &other.build))
            .then_with(|| self.machine.cmp(&other.machine))
            .then_with(|| self.flavour.cmp(&other.flavour))
            // The version order calls `1.0` and `1.00` equal; the order of releases may not.
            .then_with(|| self.uname.cmp(&other.uname))
            .then_with(|| self.build.cmp(&other.build))
    }
}

impl PartialOrd for Release {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.distribution, self.uname)
    }
}

/// A machine as `uname -m` names it. Debian's names are understood and translated.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Machine(String);

impl Machine {
    /// The name, `x86_64` or `aarch64`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Machine {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = match text {
            "amd64" => "x86_64",
            "arm64" => "aarch64",
            "armhf" | "armv7hl" => "armv7l",
            "i386" | "i586" => "i686",
            "ppc64el" => "ppc64le",
            other => other,
        };
        Ok(Machine(name.to_owned()))
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_named_as_uname_names_them() {
        for (text, name) in [("amd64", "x86_64"), ("arm64", "aarch64"), ("s390x", "s390x"), ("ppc64el", "ppc64le")] {
            let Ok(machine) = text.parse::<Machine>();
            assert_eq!(machine.as_str(), name);
        }
    }
}
