//! Which kernel a package belongs to, and as what, told from its name and, where there is any, its metadata.
//!
//! Where a package itself says what `uname -r` prints ([`told_release`]), that is the release, whatever its name.
//!
//! Three answers are possible: it belongs to one kernel; several kernels share it (Debian's `-common` and `kbuild`,
//! Ubuntu's headers without a flavour, SUSE's `noarch` sources); or it is of no use for building modules, with the
//! reason. Nothing is guessed: a name that fits no rule is no kernel package.

mod deb;
mod rpm;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::kernel::package::{Comparison, Format, Package};
use crate::kernel::release::Release;

/// What a package is to a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The kernel itself without most modules: `kernel-core`.
    Core,
    /// Headers and makefiles of an rpm distribution: `kernel-devel`.
    Devel,
    /// Headers and makefiles of a deb distribution: `linux-headers-RELEASE`.
    Headers,
    /// Headers that several kernels share: `linux-headers-VERSION-common`, Ubuntu's without a flavour, SUSE's `noarch`.
    Common,
    /// Debian's build tools: `linux-kbuild-VERSION`.
    Kbuild,
    /// Modules: `kernel-modules`, `kernel-modules-core`, `linux-modules-RELEASE`.
    Modules,
    /// The kernel with its modules: `kernel` of older rpm distributions, `linux-image-RELEASE`.
    Image,
    /// The configuration alone: `linux-config-VERSION`.
    Config,
    /// No files, only dependencies: `kernel` of EL 8 and later, `kernel-devel-matched`.
    Meta,
}

/// Where a package belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Class {
    /// To this kernel alone.
    Kernel {
        /// Which kernel.
        release: Release,
        /// As what.
        role: Role,
    },
    /// To several kernels.
    Shared {
        /// To which.
        with: Shared,
        /// As what.
        role: Role,
    },
    /// To none for which modules are built.
    Ignored(Reason),
}

/// Which kernels share a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shared {
    /// `linux-headers-VERSION-common`, or `-common-TOPIC` for the flavours of that topic.
    DebianCommon {
        /// What `uname -r` begins with: `6.1.0-56`, `5.15.110-gardenlinux`.
        version: String,
        /// `rt`, or empty.
        topic: String,
    },
    /// `linux-kbuild-VERSION`.
    DebianKbuild {
        /// What `uname -r` begins with, either as far as the ABI or only `6.1`.
        version: String,
    },
    /// `linux-headers-VERSION` and `linux-TOPIC-headers-VERSION`.
    UbuntuHeaders {
        /// What `uname -r` begins with: `5.4.0-1063`.
        version: String,
        /// The kernel's source: `aws`, `azure-cvm`, `hwe`, or empty.
        topic: String,
    },
    /// SUSE's `kernel-devel` and `kernel-devel-TOPIC`, which are `noarch`.
    SuseDevel {
        /// The flavour from whose source it is: `azure`, `rt`, `longterm`, or empty for the one that most have in common.
        topic: String,
    },
    /// SUSE's `kernel-FLAVOUR-base`: a part of that flavour's kernel with the most needed modules. Its version is the kernel's
    /// with a count of its own behind it.
    SuseBase {
        /// The flavour.
        flavour: String,
    },
}

/// Why a package is with no kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Its name fits no kernel package.
    NotKernel,
    /// It only depends on the newest kernel and belongs to none.
    Meta,
    /// Debug information.
    DebugInformation,
    /// Sources.
    Source,
    /// Made from a kernel's sources, but not for building modules: tools, documents, firmware, headers for user space.
    NotForBuilding,
    /// Kernels would share it, and none here needs it: a `kbuild` without headers.
    Unused,
    /// The signed kernel is here, which has the same files.
    Unsigned,
    /// Another package has its name and other content.
    Conflict,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::NotKernel => "not a kernel package",
            Reason::Meta => "a meta package that belongs to no kernel",
            Reason::DebugInformation => "debug information",
            Reason::Source => "a source package",
            Reason::NotForBuilding => "not needed to build modules",
            Reason::Unused => "no kernel here needs it",
            Reason::Unsigned => "the signed package of this kernel is here, too",
            Reason::Conflict => "another package has this name and other content",
        })
    }
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 9] = [
        Role::Core,
        Role::Devel,
        Role::Headers,
        Role::Common,
        Role::Kbuild,
        Role::Modules,
        Role::Image,
        Role::Config,
        Role::Meta,
    ];

    /// The role's name as it is written in lists.
    pub fn name(self) -> &'static str {
        match self {
            Role::Core => "core",
            Role::Devel => "devel",
            Role::Headers => "headers",
            Role::Common => "common",
            Role::Kbuild => "kbuild",
            Role::Modules => "modules",
            Role::Image => "image",
            Role::Config => "config",
            Role::Meta => "meta",
        }
    }
}

/// Says where a package belongs.
pub fn classify(package: &Package) -> Class {
    match package.name.format {
        Format::Rpm => rpm::classify(package),
        Format::Deb => deb::classify(&package.name),
    }
}

/// What a package itself says `uname -r` prints on its kernel: by the paths of its files, or by what it provides.
pub fn told_release(package: &Package) -> Option<&str> {
    let relations = package.relations.as_ref()?;
    let provided = || {
        relations.provides.iter().find_map(|provided| match &provided.version {
            Some((Comparison::Equal, version))
                if provided.name.starts_with("kernel")
                    && provided.name.ends_with("-uname-r")
                    && is_version(version) =>
            {
                Some(&**version)
            }
            _ => None,
        })
    };
    relations.release.as_deref().or_else(provided)
}

/// What `uname -r` prints on the kernel that files of these paths are for.
pub(crate) fn release_of<'a>(paths: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut best: Option<(usize, String)> = None;
    for path in paths {
        let Some((rank, release)) = release_in(path) else { continue };
        match &best {
            Some((best_rank, _)) if *best_rank < rank => {}
            // Files of several kernels: they tell nothing.
            Some((best_rank, other)) if *best_rank == rank && *other != release => return None,
            Some((best_rank, _)) if *best_rank == rank => {}
            _ => best = Some((rank, release)),
        }
    }
    best.map(|(_, release)| release)
}

/// The release in a path, and how little it says: the directory of modules is what `modprobe` looks for.
fn release_in(path: &str) -> Option<(usize, String)> {
    let path = path.trim_start_matches('/');
    let path = path.strip_prefix("usr/").unwrap_or(path);
    let first = |rest: &str| rest.split('/').next().filter(|name| is_version(name)).map(str::to_owned);
    if let Some(rest) = path.strip_prefix("lib/modules/") {
        return Some((0, first(rest)?));
    }
    if let Some(rest) = path.strip_prefix("src/kernels/").or_else(|| path.strip_prefix("src/linux-headers-")) {
        return Some((1, first(rest)?));
    }
    // SUSE: usr/src/linux-VERSION-obj/MACHINE/FLAVOUR
    let mut parts = path.strip_prefix("src/linux-")?.split('/');
    let version = parts.next()?.strip_suffix("-obj").filter(|version| is_version(version))?;
    let flavour = parts.nth(1)?;
    // A flavour with sources of its own is in their name, too: linux-6.4.0-150600.8.31-azure-obj/x86_64/azure.
    let version = match version.rsplit_once('-') {
        Some((version, own)) if flavour.split('_').next() == Some(own) => version,
        _ => version,
    };
    Some((1, format!("{version}-{flavour}")))
}

/// Whether `text` begins like a kernel's version: digits, a dot, a digit.
fn is_version(text: &str) -> bool {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let rest = &text.as_bytes()[digits..];
    digits > 0 && rest.first() == Some(&b'.') && rest.get(1).is_some_and(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests;
