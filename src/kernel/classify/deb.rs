//! deb names: `linux-KIND-RELEASE` (Proxmox VE: `proxmox-KIND-RELEASE`), where the release is `VERSION[-ABI][-FLAVOUR]` and nothing marks where one ends.
//!
//! Debian's flavours end in a machine (`cloud-amd64`, `rt-arm64`, `686-pae`), Ubuntu's never do (`generic`, `aws-fips`);
//! and the version of an Ubuntu package begins with the kernel's own up to the ABI (`5.4.0-86.97` for `5.4.0-86`).

use crate::kernel::classify::{Class, Reason, Role, Shared, is_version};
use crate::kernel::package::Name;
use crate::kernel::release::{Machine, Release};

pub(super) fn classify(name: &Name) -> Class {
    if let Some(rest) = PROXMOX.iter().find_map(|prefix| name.name.strip_prefix(prefix)) {
        return proxmox(name, rest);
    }
    let Some(rest) = name.name.strip_prefix("linux-") else { return Class::Ignored(Reason::NotKernel) };
    for (kind, role) in KINDS {
        if let Some(rest) = rest.strip_prefix(kind) {
            return release(name, rest, *role);
        }
    }
    if let Some(version) = rest.strip_prefix("kbuild-") {
        return shared_or_not(version, Shared::DebianKbuild { version: version.to_owned() }, Role::Kbuild);
    }
    if let Some(version) = rest.strip_prefix("config-") {
        return shared_or_not(version, Shared::DebianKbuild { version: version.to_owned() }, Role::Config);
    }
    if let Some((topic, version)) = rest.split_once("-headers-")
        && is_version(version)
        && name.version.starts_with(&format!("{version}."))
    {
        let with = Shared::UbuntuHeaders { version: version.to_owned(), topic: without_series(topic).to_owned() };
        return Class::Shared { with, role: Role::Common };
    }
    let not_for_building = rest.split('-').any(|word| {
        matches!(word, "tools" | "libc" | "doc" | "perf" | "buildinfo" | "compiler" | "objects" | "signatures")
    });
    Class::Ignored(match rest.split('-').next().unwrap_or_default() {
        "source" => Reason::Source,
        _ if not_for_building => Reason::NotForBuilding,
        // linux-generic, linux-aws-lts-22.04 and the like follow the newest kernel.
        _ => Reason::NotKernel,
    })
}

/// `text` follows `proxmox-` or `pve-`: `headers-6.8.4-2-pve`, `kernel-6.8.4-2-pve-signed`. One source, one flavour; the headers
/// are whole.
fn proxmox(name: &Name, text: &str) -> Class {
    let (role, text) = match text.split_once('-') {
        Some(("headers", rest)) => (Role::Headers, rest),
        Some(("kernel", rest)) => (Role::Image, rest),
        Some(("edge", rest)) if rest.starts_with("kernel-") => (Role::Image, &rest["kernel-".len()..]),
        // proxmox-default-headers, pve-firmware
        Some(("default", _)) => return Class::Ignored(Reason::Meta),
        _ if text == "firmware" => return Class::Ignored(Reason::NotForBuilding),
        _ if text == "headers" || text == "kernel" => return Class::Ignored(Reason::Meta),
        _ => return Class::Ignored(Reason::NotKernel),
    };
    let Some((version, variant)) = split(text) else {
        return Class::Ignored(if text == "helper" { Reason::NotForBuilding } else { Reason::Meta });
    };
    if variant.ends_with("dbg") || variant.ends_with("dbgsym") {
        return Class::Ignored(Reason::DebugInformation);
    }
    if variant.ends_with("-template") || text.starts_with("libc") {
        return Class::Ignored(Reason::NotForBuilding);
    }
    let variant = variant.strip_suffix("-signed").unwrap_or(variant);
    // proxmox-headers-6.8 follows the newest 6.8.
    if variant.is_empty() {
        return Class::Ignored(Reason::Meta);
    }
    let Ok(machine) = name.architecture.parse::<Machine>();
    let release = Release {
        distribution: "proxmox".to_owned(),
        uname: format!("{version}-{variant}"),
        machine,
        flavour: if variant.split('-').next_back() == Some("pve") { "default".to_owned() } else { variant.to_owned() },
        build: name.version.clone(),
    };
    Class::Kernel { release, role }
}

/// `text` follows `linux-headers-`, `linux-image-` and the like.
fn release(name: &Name, text: &str, role: Role) -> Class {
    let Some((version, variant)) = split(text) else { return Class::Ignored(Reason::Meta) };
    if variant == "dbg" || variant.ends_with("-dbg") || variant.ends_with("-dbgsym") {
        return Class::Ignored(Reason::DebugInformation);
    }
    // The signed image is built from the unsigned one; both boot as the same release.
    let variant = variant.strip_suffix("-unsigned").unwrap_or(variant);
    let ubuntu = name.version.starts_with(&format!("{version}."));
    let headers = role == Role::Headers;
    if ubuntu && variant.is_empty() {
        let with = Shared::UbuntuHeaders { version: version.to_owned(), topic: String::new() };
        return if headers { Class::Shared { with, role: Role::Common } } else { Class::Ignored(Reason::Meta) };
    }
    if !ubuntu && let Some((garden, topic)) = common(variant) {
        let version = [version, garden].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("-");
        let with = Shared::DebianCommon { version, topic: topic.to_owned() };
        return if headers { Class::Shared { with, role: Role::Common } } else { Class::Ignored(Reason::Meta) };
    }
    // linux-headers-6.12-amd64 follows the newest 6.12; linux-headers-3.2.0-4-all pulls in all flavours.
    let series_only = !version.contains('-') && version.bytes().filter(|b| *b == b'.').count() < 2;
    if series_only || variant.is_empty() || variant == "all" || variant.starts_with("all-") {
        return Class::Ignored(Reason::Meta);
    }
    let Ok(machine) = name.architecture.parse::<Machine>();
    let words: Vec<&str> = variant.split('-').collect();
    let distribution = match () {
        () if ubuntu => "ubuntu",
        () if words[0].starts_with("garden") => "gardenlinux",
        () if name.version.contains("gardenlinux") => "gardenlinux",
        () => "debian",
    };
    let flavour = if ubuntu {
        variant.to_owned()
    } else {
        let named: Vec<&str> =
            words.into_iter().filter(|word| !MACHINES.contains(word) && !word.starts_with("garden")).collect();
        if named.is_empty() { "default".to_owned() } else { named.join("-") }
    };
    let release = Release {
        distribution: distribution.to_owned(),
        uname: format!("{version}-{variant}"),
        machine,
        flavour,
        build: name.version.clone(),
    };
    Class::Kernel { release, role }
}

/// Splits a release into the version with its ABI and the variant: `6.1.0-0.deb11.11`, `rt-amd64`.
fn split(text: &str) -> Option<(&str, &str)> {
    if !is_version(text) {
        return None;
    }
    let mut end = text.find('-').unwrap_or(text.len());
    if let Some(rest) = text.get(end + 1..) {
        let word = rest.split('-').next().unwrap_or_default();
        // `686-pae` and `4kc-malta` begin with a digit, too, and are flavours.
        let abi = word.starts_with(|c: char| c.is_ascii_digit()) && !MACHINES.contains(&word);
        let candidate = word.strip_prefix("rc").is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
        if abi || candidate || word == "trunk" {
            end += 1 + word.len();
        }
    }
    Some((&text[..end], text.get(end + 1..).unwrap_or_default()))
}

/// For `common`, `common-rt`, `garden-common`: what stands before the word and after.
fn common(variant: &str) -> Option<(&str, &str)> {
    let words: Vec<&str> = variant.split('-').collect();
    let at = words.iter().position(|word| *word == "common")?;
    let before = words[..at].iter().map(|word| word.len() + 1).sum::<usize>().saturating_sub(1);
    let after = variant.find("common").map(|at| at + "common".len())?;
    Some((&variant[..before], variant[after..].trim_start_matches('-')))
}

fn shared_or_not(version: &str, with: Shared, role: Role) -> Class {
    if version.ends_with("-dbg") || version.ends_with("-dbgsym") {
        return Class::Ignored(Reason::DebugInformation);
    }
    if is_version(version) { Class::Shared { with, role } } else { Class::Ignored(Reason::Meta) }
}

/// `azure-5.15` and `hwe-edge` are `azure` and `hwe` with a newer kernel for an older series.
fn without_series(topic: &str) -> &str {
    let topic = topic.strip_suffix("-edge").unwrap_or(topic);
    match topic.rsplit_once('-') {
        Some((topic, series)) if is_version(series) => topic,
        _ => topic,
    }
}

/// `(what follows `linux-`, the role)`; longer ones before those that they begin with.
const KINDS: &[(&str, Role)] = &[
    ("headers-", Role::Headers),
    ("image-unsigned-", Role::Image),
    ("image-extra-", Role::Modules),
    ("image-", Role::Image),
    ("modules-extra-", Role::Modules),
    ("modules-", Role::Modules),
];

/// What the names of Proxmox VE's kernel packages begin with.
const PROXMOX: &[&str] = &["proxmox-", "pve-"];

/// The words for a machine in Debian's flavours.
const MACHINES: &[&str] = &[
    "amd64",
    "arm64",
    "armhf",
    "armmp",
    "486",
    "586",
    "686",
    "i386",
    "s390x",
    "powerpc",
    "powerpc64",
    "powerpc64le",
    "ppc64el",
    "riscv64",
    "loong64",
    "mips64el",
    "4kc",
    "5kc",
    "malta",
    "octeon",
    "rpi",
    "marvell",
    "kirkwood",
];
