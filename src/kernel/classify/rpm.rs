//! rpm names: `kernel[VERSION][-FLAVOUR…][-PART]`, Photon's `linux[-FLAVOUR][-PART]`, SUSE's `kernel-FLAVOUR[-PART]`.
//!
//! Where a package tells its release, that has the last word; what is here is what its name tells else.

use crate::kernel::classify::{Class, Reason, Role, Shared, is_version, told_release};
use crate::kernel::package::{Name, Package};
use crate::kernel::release::{Machine, Release};
use crate::kernel::version::without_rebuild;

/// What the release part of a version says about who made the package.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    /// Red Hat Enterprise Linux of this major version and what is built from it.
    El(u32),
    Fedora,
    Amazon,
    Photon,
    Suse,
    AzureLinux(u32),
    OpenEuler,
    Other,
}

pub(super) fn classify(package: &Package) -> Class {
    let name = &package.name;
    if matches!(&*name.architecture, "src" | "nosrc") {
        let kernel = name.name == "kernel" || name.name == "linux" || name.name.starts_with("kernel-");
        return Class::Ignored(if kernel { Reason::Source } else { Reason::NotKernel });
    }
    let family = family(name, package.vendor.as_deref());
    if family == Family::Photon { photon(package) } else { kernel(package, family) }
}

fn kernel(package: &Package, family: Family) -> Class {
    let name = &package.name;
    let mut words = name.name.split('-');
    let Some(first) = words.next().and_then(|word| word.strip_prefix("kernel")) else {
        return Class::Ignored(Reason::NotKernel);
    };
    // Amazon's `kernel6.12`: the series is part of the name so that two can be installed side by side.
    if !first.is_empty() && !is_version(first) {
        return Class::Ignored(Reason::NotKernel);
    }
    let words: Vec<&str> = words.collect();
    if words.contains(&"debuginfo") || words.contains(&"debugsource") {
        return Class::Ignored(Reason::DebugInformation);
    }
    if name.architecture == "noarch"
        && family == Family::Suse
        && let ["devel", topic @ ..] = &words[..]
    {
        return Class::Shared { with: Shared::SuseDevel { topic: topic.join("-") }, role: Role::Common };
    }
    // SUSE's `rt_debug` is `rt` for debugging.
    let is_flavour = |word: &&&str| FLAVOURS.contains(&word.split('_').next().unwrap_or_default());
    let flavours = words.iter().take_while(is_flavour).count();
    let (flavours, part) = words.split_at(flavours);
    let suse = family == Family::Suse;
    let role = match part {
        [] if suse && flavours.is_empty() => return Class::Ignored(Reason::NotKernel),
        [] => match family {
            // Unbreakable kernels came as one package for longer.
            Family::El(8..) | Family::Fedora if !flavours.contains(&"uek") => Role::Meta,
            _ => Role::Image,
        },
        ["core"] => Role::Core,
        ["devel"] => Role::Devel,
        ["devel" | "modules", "matched"] | ["modules", "extra", "matched"] => Role::Meta,
        // SUSE's pulls in the headers of all flavours, and counts its builds for itself.
        ["syms", ..] => return Class::Ignored(Reason::Meta),
        ["modules"] | ["modules", "core" | "extra" | "internal" | "partner", ..] | ["extra" | "optional"] => {
            Role::Modules
        }
        // openEuler's, and Azure Linux'.
        ["extra", "modules"] | ["drivers", ..] => Role::Modules,
        ["base"] if suse => {
            return Class::Shared { with: Shared::SuseBase { flavour: flavours.join("-") }, role: Role::Image };
        }
        ["base", ..] if suse => Role::Image,
        ["uki", "virt"] => Role::Image,
        ["source", ..] => return Class::Ignored(Reason::Source),
        [part, ..] if NOT_FOR_BUILDING.contains(part) => return Class::Ignored(Reason::NotForBuilding),
        _ => return Class::Ignored(Reason::NotKernel),
    };
    if name.architecture == "noarch" {
        return Class::Ignored(Reason::NotForBuilding);
    }
    let flavour = if flavours.is_empty() { "default".to_owned() } else { flavours.join("-") };
    let uname = told_release(package).map_or_else(|| uname(name, family, flavours), str::to_owned);
    release(name, distribution(family, flavours), uname, flavour, role)
}

fn photon(package: &Package) -> Class {
    let name = &package.name;
    let words: Vec<&str> = name.name.split('-').collect();
    let ["linux", rest @ ..] = &words[..] else { return Class::Ignored(Reason::NotKernel) };
    if rest.contains(&"debuginfo") {
        return Class::Ignored(Reason::DebugInformation);
    }
    let (flavour, part) = match rest {
        [flavour @ ("aws" | "esx" | "rt" | "secure"), part @ ..] => (Some(*flavour), part),
        part => (None, part),
    };
    let role = match part {
        [] => Role::Image,
        ["devel"] => Role::Devel,
        ["drivers", ..] => Role::Modules,
        ["docs" | "tools" | "oprofile" | "dtb" | "hmacgen" | "python3" | "bpftool" | "firmware" | "api", ..] => {
            return Class::Ignored(Reason::NotForBuilding);
        }
        _ => return Class::Ignored(Reason::NotKernel),
    };
    // Photon's kernels do not say the machine: `4.19.15-2.ph3`, `4.19.217-1.ph3-aws`.
    let named = || match flavour {
        Some(flavour) => format!("{}-{flavour}", name.version),
        None => name.version.clone(),
    };
    let uname = told_release(package).map_or_else(named, str::to_owned);
    release(name, "photon", uname, flavour.unwrap_or("default").to_owned(), role)
}

fn release(name: &Name, distribution: &str, uname: String, flavour: String, role: Role) -> Class {
    let Ok(machine) = name.architecture.parse::<Machine>();
    let build = name.version.clone();
    Class::Kernel { release: Release { distribution: distribution.to_owned(), uname, machine, flavour, build }, role }
}

/// What a kernel of this name says on `uname -r`.
fn uname(name: &Name, family: Family, flavours: &[&str]) -> String {
    if family == Family::Suse {
        // The last number counts rebuilds, which keep the release: 5.14.21-150400.22.1 runs as 5.14.21-150400.22.
        let (version, release) = name.version.rsplit_once('-').unwrap_or((&name.version, ""));
        let flavour = if flavours.is_empty() { "default".into() } else { flavours.join("-") };
        return format!("{}-{}-{flavour}", suse_version(version), without_rebuild(release));
    }
    // They do not say the machine, until 3.
    if let Family::AzureLinux(..4) = family {
        return name.version.clone();
    }
    let mut uname = format!("{}.{}", name.version, name.architecture);
    // Until EL 9.2 the patch level of the real-time patches in the release tells an rt kernel: `rt14.298.el9_2`.
    let says_rt = name.version.rsplit('-').next().unwrap_or_default().split('.').any(is_rt_level);
    let variant: Vec<&str> = flavours
        .iter()
        .filter(|word| match **word {
            "uek" | "lt" | "ml" | "plus" => false,
            "rt" => !says_rt,
            _ => true,
        })
        .map(|word| if *word == "uek64k" { "64k" } else { word })
        .collect();
    if !variant.is_empty() {
        let plus = match family {
            Family::El(major) => major >= 8 && !flavours.contains(&"uek"),
            _ => true,
        };
        uname.push(if plus { '+' } else { '.' });
        uname.push_str(&variant.join("-"));
    }
    uname
}

/// A candidate, `5.13~rc7` or `5.13.rc7`, calls itself `5.13.0-rc7`.
fn suse_version(version: &str) -> String {
    let Some((version, candidate)) = version.split_once("~rc").or_else(|| version.split_once(".rc")) else {
        return version.to_owned();
    };
    let patch = if version.matches('.').count() < 2 { ".0" } else { "" };
    format!("{version}{patch}-rc{candidate}")
}

fn family(name: &Name, vendor: Option<&str>) -> Family {
    let release = name.version.rsplit('-').next().unwrap_or_default();
    for part in release.split(['.', '_']) {
        let tag = |prefix: &str| -> Option<u32> {
            let digits = part.strip_prefix(prefix)?;
            // Oracle writes `el8uek`, Red Hat once `el6s`.
            let end = digits.bytes().take_while(u8::is_ascii_digit).count();
            digits[..end].parse().ok()
        };
        if let Some(major) = tag("el") {
            return Family::El(major);
        }
        if tag("fc").is_some() || tag("eln").is_some() {
            return Family::Fedora;
        }
        if tag("amzn").is_some() {
            return Family::Amazon;
        }
        if tag("ph").is_some() {
            return Family::Photon;
        }
        // Azure Linux was CBL-Mariner before.
        if let Some(major) = tag("cm").or_else(|| tag("azl")) {
            return Family::AzureLinux(major);
        }
        if tag("oe").is_some() {
            return Family::OpenEuler;
        }
    }
    // SUSE's releases are numbers only, as those of a kernel that somebody built without a tag might be; its flavour in
    // the name, or no machine at all, tells. Who is known to be somebody else is not SUSE, though the flavour is called so.
    let suse_name = name
        .name
        .split('-')
        .nth(1)
        .is_some_and(|word| SUSE_FLAVOURS.contains(&word.split('_').next().unwrap_or_default()));
    let is_suse = match vendor {
        Some(vendor) if !vendor.is_empty() => {
            vendor.to_ascii_lowercase().contains("suse") || vendor.starts_with("obs://")
        }
        _ => release.split('.').all(is_suse_part) && (suse_name || name.architecture == "noarch"),
    };
    if is_suse {
        return Family::Suse;
    }
    Family::Other
}

fn distribution(family: Family, flavours: &[&str]) -> &'static str {
    match family {
        _ if flavours.contains(&"uek") || flavours.contains(&"uek64k") => "ol",
        Family::El(_) => "el",
        Family::Fedora => "fedora",
        Family::Amazon => "amazonlinux",
        Family::Photon => "photon",
        Family::Suse => "suse",
        Family::AzureLinux(_) => "azurelinux",
        Family::OpenEuler => "openeuler",
        Family::Other => "linux",
    }
}

/// What SUSE's releases are made of: numbers, `lp150` and the like of Leap, the commit of a build from git.
fn is_suse_part(part: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let is_commit = |text: &str| text.len() >= 6 && text.bytes().all(|b| b.is_ascii_hexdigit());
    is_number(part)
        || ["lp", "bp", "sle", "pm", "rc"].iter().any(|tag| part.strip_prefix(tag).is_some_and(is_number))
        || part.strip_prefix('g').is_some_and(is_commit)
}

fn is_rt_level(part: &str) -> bool {
    part.strip_prefix("rt").is_some_and(|level| !level.is_empty() && level.bytes().all(|b| b.is_ascii_digit()))
}

const FLAVOURS: &[&str] = &[
    "rt",
    "64k",
    "16k",
    "debug",
    "uek",
    "uek64k",
    "lt",
    "ml",
    "plus",
    "PAE",
    "xen",
    "kdump",
    "zfcpdump",
    "automotive",
    // Azure Linux'.
    "hwe",
    "mshv",
    "uvm",
    "hci",
    // SUSE's
    "default",
    "azure",
    "preempt",
    "vanilla",
    "64kb",
    "kvmsmall",
    "lpae",
    "trace",
    "pae",
    "ec2",
    "bigsmp",
    "longterm",
];

const SUSE_FLAVOURS: &[&str] = &[
    "default", "azure", "preempt", "vanilla", "64kb", "kvmsmall", "lpae", "trace", "pae", "ec2", "bigsmp", "longterm",
    "rt", "syms", "source", "macros", "docs",
];

const NOT_FOR_BUILDING: &[&str] = &[
    "headers",
    "firmware",
    "tools",
    "doc",
    "docs",
    "abi",
    "cross",
    "selftests",
    "ipaclones",
    "livepatch",
    "macros",
    "rpm",
    "srpm",
    "bootwrapper",
    "uki",
    "obs",
    "default",
    "libbpf",
    "kabi",
    "container",
];
