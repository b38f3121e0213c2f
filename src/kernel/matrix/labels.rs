//! What an OS image says about the kernel in it, in four ways, by the age of the image.
//!
//! | era | where |
//! | --- | --- |
//! | to 4.12 | labels `com.coreos.rpm.kernel` and `com.coreos.rpm.kernel-rt-core`, version-release.machine |
//! | from 4.12 | label `ostree.linux`, what `uname -r` prints |
//! | 2026 | `ostree.linux` is `true`, which is no kernel |
//! | from 4.19 | label `io.openshift.metalayer`: the last layer has `usr/share/openshift/base/meta.json`, a list of packages |

use std::collections::BTreeMap;
use std::io;

use serde::Deserialize;

use crate::compression::{LimitedReader, decoder};
use crate::fs;
use crate::kernel::release::Machine;
use crate::tarball;

/// The kernels of an OS image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kernels {
    /// What `uname -r` prints, without the machine.
    pub kernel: String,
    /// The real-time kernel, where there is one.
    pub rt: Option<String>,
    /// The kernel with pages of 64 KiB, where there is one.
    pub pages_64k: Option<String>,
}

/// Where to look next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The labels say it.
    Kernels(Kernels),
    /// The last layer says it.
    LastLayer,
}

/// Why an image does not say which kernel it has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// None of the labels is there.
    #[error("its labels name no kernel")]
    NoLabel,
    /// A label has something else.
    #[error("its label {label} is `{value}`, which is no kernel's version")]
    NoVersion {
        /// Which label.
        label: &'static str,
        /// What it has.
        value: String,
    },
    /// The kernel is for another machine.
    #[error("its kernel {0} is for another machine than {1}")]
    Machine(String, Machine),
    /// The last layer has no list.
    #[error("its last layer has no {META}")]
    NoMeta,
    /// The list has no kernel.
    #[error("the list of packages in its last layer has no kernel-core")]
    NoPackage,
    /// The last layer cannot be read.
    #[error("its last layer cannot be read: {0}")]
    Layer(String),
}

/// Reads the labels of an OS image for a machine.
pub fn kernels(labels: &BTreeMap<String, String>, machine: &Machine) -> Result<Answer, Error> {
    let rt = labels.get(RT).map(|value| version(RT, value, machine)).transpose()?;
    if let Some(value) = labels.get(RPM) {
        return Ok(Answer::Kernels(Kernels { kernel: version(RPM, value, machine)?, rt, pages_64k: None }));
    }
    let ostree = labels.get(OSTREE).map(|value| version(OSTREE, value, machine));
    let has_list = labels.get(METALAYER).is_some_and(|value| value == "true");
    match ostree {
        Some(Ok(kernel)) => Ok(Answer::Kernels(Kernels { kernel, rt, pages_64k: None })),
        Some(Err(Error::NoVersion { .. })) | None if has_list => Ok(Answer::LastLayer),
        Some(Err(error)) => Err(error),
        None => Err(Error::NoLabel),
    }
}

/// Reads the last layer of an OS image, a compressed tar.
pub fn kernels_of_layer(layer: &[u8], machine: &Machine) -> Result<Kernels, Error> {
    let failed = |error: io::Error| Error::Layer(error.to_string());
    let (_, tar) = decoder(layer).map_err(failed)?;
    let mut archive = tarball::open(LimitedReader::new(tar, LAYER_LIMIT));
    for entry in archive.entries().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let is_list =
            entry.path().is_ok_and(|path| path.strip_prefix("./").unwrap_or(&path) == std::path::Path::new(META));
        if is_list {
            let text = fs::read_limited(entry, META_LIMIT).map_err(failed)?;
            return from_list(&text, machine);
        }
    }
    Err(Error::NoMeta)
}

fn from_list(json: &[u8], machine: &Machine) -> Result<Kernels, Error> {
    #[derive(Deserialize)]
    struct Meta {
        #[serde(rename = "rpmdb.pkglist")]
        packages: Vec<(String, String, String, String, String)>,
    }
    let meta: Meta = serde_json::from_slice(json).map_err(|error| Error::Layer(error.to_string()))?;
    let find = |wanted: &str, variant: &str| {
        let package = meta.packages.iter().find(|(name, ..)| name == wanted)?;
        let (_, _, version, release, architecture) = package;
        Some((format!("{version}-{release}{variant}"), architecture.clone()))
    };
    let (kernel, architecture) = find("kernel-core", "").ok_or(Error::NoPackage)?;
    if architecture != machine.as_str() {
        return Err(Error::Machine(format!("{kernel}.{architecture}"), machine.clone()));
    }
    let name = |found: Option<(String, String)>| found.map(|(name, _)| name);
    Ok(Kernels { kernel, rt: name(find("kernel-rt-core", "+rt")), pages_64k: name(find("kernel-64k-core", "+64k")) })
}

/// A label's value without the machine, when it looks like `4.18.0-305.el8.x86_64`.
fn version(label: &'static str, value: &str, machine: &Machine) -> Result<String, Error> {
    let no_version = || Error::NoVersion { label, value: value.to_owned() };
    let (plain, variant) = value.split_once('+').unwrap_or((value, ""));
    let (version, architecture) = plain.rsplit_once('.').ok_or_else(no_version)?;
    let is_version = version.starts_with(|c: char| c.is_ascii_digit())
        && version.contains('-')
        && version.split('-').next().is_some_and(|number| number.matches('.').count() >= 1)
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+~^-".contains(&b));
    if !is_version {
        return Err(no_version());
    }
    if !MACHINES.contains(&architecture) {
        return Err(no_version());
    }
    if architecture != machine.as_str() {
        return Err(Error::Machine(value.to_owned(), machine.clone()));
    }
    Ok(if variant.is_empty() { version.to_owned() } else { format!("{version}+{variant}") })
}

const RPM: &str = "com.coreos.rpm.kernel";
const RT: &str = "com.coreos.rpm.kernel-rt-core";
const OSTREE: &str = "ostree.linux";
const METALAYER: &str = "io.openshift.metalayer";
const META: &str = "usr/share/openshift/base/meta.json";
const MACHINES: &[&str] = &["x86_64", "aarch64", "s390x", "ppc64le", "riscv64"];
/// The list of a whole OS has some 100 KiB.
const META_LIMIT: u64 = 16 << 20;
const LAYER_LIMIT: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(labels: &[(&str, &str)]) -> Result<Answer, String> {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        kernels(&labels, &"x86_64".parse().unwrap()).map_err(|error| error.to_string())
    }

    fn found(kernel: &str, rt: Option<&str>) -> Result<Answer, String> {
        Ok(Answer::Kernels(Kernels { kernel: kernel.into(), rt: rt.map(str::to_owned), pages_64k: None }))
    }

    #[test]
    fn labels_of_every_era_name_the_kernel_and_what_is_no_version_is_refused() {
        for (labels, expected) in [
            (
                &[(RPM, "4.18.0-305.17.1.el8_4.x86_64"), (RT, "4.18.0-305.17.1.rt7.89.el8_4.x86_64")][..],
                found("4.18.0-305.17.1.el8_4", Some("4.18.0-305.17.1.rt7.89.el8_4")),
            ),
            (&[(OSTREE, "5.14.0-427.35.1.el9_4.x86_64")], found("5.14.0-427.35.1.el9_4", None)),
            (&[(OSTREE, "4.18.0-193.24.1.el8_2.dt1.x86_64")], found("4.18.0-193.24.1.el8_2.dt1", None)),
            (&[(OSTREE, "true"), (METALAYER, "true")], Ok(Answer::LastLayer)),
            (&[(METALAYER, "true")], Ok(Answer::LastLayer)),
            (&[(OSTREE, "true")], Err("its label ostree.linux is `true`, which is no kernel's version".into())),
            (&[(RPM, "null")], Err("its label com.coreos.rpm.kernel is `null`, which is no kernel's version".into())),
            (
                &[(OSTREE, "5.14.0-1.el9.x86_64; rm")],
                Err("its label ostree.linux is `5.14.0-1.el9.x86_64; rm`, which is no kernel's version".into()),
            ),
            (
                &[(OSTREE, "5.14.0-1.el9.aarch64")],
                Err("its kernel 5.14.0-1.el9.aarch64 is for another machine than x86_64".into()),
            ),
            (&[], Err("its labels name no kernel".into())),
        ] {
            assert_eq!(answer(labels), expected, "{labels:?}");
        }
    }

    #[test]
    fn the_list_in_the_last_layer_names_the_kernels() {
        let layer = |name: &str, text: &str| {
            let mut tar = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_ustar();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, text.as_bytes()).unwrap();
            tar.into_inner().unwrap()
        };
        let list = r#"{"rpmdb.pkglist": [["kernel-core","0","5.14.0","687.48.1.el9_8","x86_64"],["kernel-rt-core","0","5.14.0","687.48.1.el9_8","x86_64"]], "new": 1}"#;
        let machine = |name: &str| name.parse().unwrap();
        assert_eq!(
            kernels_of_layer(&layer(META, list), &machine("x86_64")),
            Ok(Kernels {
                kernel: "5.14.0-687.48.1.el9_8".into(),
                rt: Some("5.14.0-687.48.1.el9_8+rt".into()),
                pages_64k: None
            })
        );
        assert_eq!(kernels_of_layer(&layer("x", list), &machine("x86_64")), Err(Error::NoMeta));
        assert!(matches!(kernels_of_layer(&layer(META, list), &machine("s390x")), Err(Error::Machine(..))));
        assert_eq!(
            kernels_of_layer(&layer(META, r#"{"rpmdb.pkglist": []}"#), &machine("x86_64")),
            Err(Error::NoPackage)
        );
        assert!(matches!(kernels_of_layer(b"x", &machine("x86_64")), Err(Error::Layer(_) | Error::NoMeta)));
    }
}
