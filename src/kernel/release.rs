//! A kernel as `uname -r` names it, with its distribution, machine and flavour, and how versions are ordered.
//!
//! The words are the program's own, whatever a distribution calls them: machines as `uname -m` has them (`x86_64`, not
//! `amd64`), distributions as `os-release` has them where it can be told from a package, flavours without the machine
//! (`cloud`, not `cloud-amd64`) and `default` for the one that has no name.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

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

    /// Compares versions by the rules of this release's distribution.
    fn compare(&self, a: &str, b: &str) -> Ordering {
        match &*self.distribution {
            "debian" | "ubuntu" | "gardenlinux" => compare_versions(a, b),
            _ => compare_rpm_versions(a, b),
        }
    }
}

impl Ord for Release {
    fn cmp(&self, other: &Self) -> Ordering {
        self.distribution
            .cmp(&other.distribution)
            .then_with(|| self.compare(&self.uname, &other.uname))
            .then_with(|| self.compare(&self.build, &other.build))
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

/// Compares versions as rpm does (`rpmvercmp`): signs between numbers and words only part them, a number is later than
/// a word, `~` is before the end. `^` is taken for a sign: kernels do not use it.
pub fn compare_rpm_versions(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        (a, b) = (from_segment(a), from_segment(b));
        match (a.first(), b.first()) {
            (Some(b'~'), Some(b'~')) => (a, b) = (&a[1..], &b[1..]),
            (Some(b'~'), _) => return Ordering::Less,
            (_, Some(b'~')) => return Ordering::Greater,
            (None, None) => return Ordering::Equal,
            (None, _) => return Ordering::Less,
            (_, None) => return Ordering::Greater,
            (Some(x), Some(y)) => {
                let order = match (x.is_ascii_digit(), y.is_ascii_digit()) {
                    (true, true) => {
                        let (x, y) = (number(&mut a), number(&mut b));
                        x.len().cmp(&y.len()).then_with(|| x.cmp(y))
                    }
                    (false, false) => word(&mut a).cmp(word(&mut b)),
                    (x, y) => x.cmp(&y),
                };
                if order.is_ne() {
                    return order;
                }
            }
        }
    }
}

fn from_segment(text: &[u8]) -> &[u8] {
    let begin = text.iter().position(|b| b.is_ascii_alphanumeric() || *b == b'~');
    &text[begin.unwrap_or(text.len())..]
}

fn word<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let (word, rest) = text.split_at(text.iter().position(|b| !b.is_ascii_alphabetic()).unwrap_or(text.len()));
    *text = rest;
    word
}

/// Compares versions as dpkg does (deb-version(7)): digits by value, `~` before the end, letters before other signs.
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    let (a_epoch, a) = epoch(a);
    let (b_epoch, b) = epoch(b);
    if a_epoch != b_epoch {
        return a_epoch.cmp(&b_epoch);
    }
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    while !a.is_empty() || !b.is_empty() {
        loop {
            let (x, y) = (weight(a.first()), weight(b.first()));
            if x == 0 && y == 0 {
                break;
            }
            if x != y {
                return x.cmp(&y);
            }
            (a, b) = (&a[1..], &b[1..]);
        }
        let (x, y) = (number(&mut a), number(&mut b));
        let order = x.len().cmp(&y.len()).then_with(|| x.cmp(y));
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}

fn epoch(version: &str) -> (u64, &str) {
    match version.split_once(':') {
        Some((epoch, rest)) => (epoch.parse().unwrap_or(0), rest),
        None => (0, version),
    }
}

/// Takes the digits at the start, without leading zeros.
fn number<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let end = text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    *text = rest;
    let zeros = digits.iter().take_while(|b| **b == b'0').count();
    &digits[zeros..]
}

/// The rank of a sign that is no digit: `~`, then the end and digits, then letters, then the others.
fn weight(sign: Option<&u8>) -> i32 {
    match sign {
        None => 0,
        Some(b) if b.is_ascii_digit() => 0,
        Some(b'~') => -1,
        Some(b) if b.is_ascii_alphabetic() => i32::from(*b),
        Some(b) => i32::from(*b) + 256,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_dpkg_orders_them() {
        let sorted = [
            "5.4.0-44.44~20.04.1",
            "5.4.0-44.44",
            "6.1.0-9",
            "6.1.0-10",
            "6.12.117~rc1",
            "6.12.117",
            "6.12.117+deb12",
            "10.0.0-5",
            "1:0.1",
        ];
        for pair in sorted.windows(2) {
            assert_eq!(compare_versions(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare_versions(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
        for (a, b) in [("1.0", "1.0"), ("1.01", "1.1"), ("0:1", "1"), ("", ""), ("1é", "1é")] {
            assert_eq!(compare_versions(a, b), Ordering::Equal, "{a} {b}");
        }
    }

    #[test]
    fn versions_are_ordered_as_rpm_orders_them() {
        let sorted = [
            "2.6.32-754.el6",
            "3.10.0-1160~rc1.el7",
            "3.10.0-1160.el7",
            "4.18.0-80.el8",
            "4.18.0-305.el8",
            "4.18.0-305.10.2.el8_4",
            "5.14.0-427.68.1.el9_4.x86_64",
            "5.14.0-427.68.1.el9_4.x86_64+rt",
            "10.0.0",
        ];
        for pair in sorted.windows(2) {
            assert_eq!(compare_rpm_versions(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare_rpm_versions(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
        assert_eq!(compare_rpm_versions("5.14.0-01.el9", "5.14_0.1.el9"), Ordering::Equal);
    }

    #[test]
    fn machines_are_named_as_uname_names_them() {
        for (text, name) in [("amd64", "x86_64"), ("arm64", "aarch64"), ("s390x", "s390x"), ("ppc64el", "ppc64le")] {
            let Ok(machine) = text.parse::<Machine>();
            assert_eq!(machine.as_str(), name);
        }
    }
}
