//! One order of versions for each packager: rpm's (`rpmvercmp`, of the crate rpm-version) and dpkg's (deb-version(7)).
//!
//! Three things are compared. Versions of packages, `[EPOCH:]VERSION[-RELEASE]`, part by part. A version with a bound of a
//! dependency, where rpm takes a bound without a release for any release of it. And what `uname -r` prints, which is no
//! version of a package: it is taken apart at its first dash, since a flavour may follow behind others.

use std::cmp::Ordering;

use rpm_version::Evr;

use crate::natural;

/// Whose rules hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// rpm's: signs only part numbers and words, a number is later than a word, `~` is before the end and `^` just after.
    Rpm,
    /// dpkg's: digits by value, `~` before the end, letters before other signs.
    Deb,
}

impl Order {
    /// That of a distribution, as [`Release::distribution`](crate::kernel::release::Release::distribution) names it.
    pub fn of_distribution(distribution: &str) -> Self {
        match distribution {
            "debian" | "ubuntu" | "gardenlinux" | "proxmox" => Order::Deb,
            _ => Order::Rpm,
        }
    }

    /// That of a kernel of which only `uname -r` is known: those of rpm distributions end in a machine after a dot, or
    /// have the tag of one.
    pub fn of_uname(uname: &str) -> Self {
        let is_tag = |part: &str| {
            TAGS.iter()
                .any(|tag| part.strip_prefix(tag).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())))
        };
        match without_machine(uname).len() < uname.len() || uname.split(['.', '+', '-']).any(is_tag) {
            true => Order::Rpm,
            false => Order::Deb,
        }
    }

    /// Compares whole versions of packages.
    pub fn compare(self, a: &str, b: &str) -> Ordering {
        let ((a_epoch, a), (b_epoch, b)) = (epoch(a), epoch(b));
        let ((a, a_release), (b, b_release)) = (release(a), release(b));
        a_epoch
            .cmp(&b_epoch)
            .then_with(|| self.compare_parts(a, b))
            .then_with(|| self.compare_parts(a_release.unwrap_or_default(), b_release.unwrap_or_default()))
    }

    /// Compares a version with the bound of a dependency: for rpm, one without a release says nothing about the release.
    pub fn compare_with_bound(self, version: &str, bound: &str) -> Ordering {
        let says_nothing = |text: &str| release(text).1.is_none();
        if self == Order::Rpm && (says_nothing(bound) || says_nothing(version)) {
            return self.compare(release(version).0, release(bound).0);
        }
        self.compare(version, bound)
    }

    /// Compares kernels as `uname -r` prints them, flavours and machines last.
    pub fn compare_unames(self, a: &str, b: &str) -> Ordering {
        let ((a, a_rest), (b, b_rest)) = (candidate(a), candidate(b));
        let ((a, a_first), (b, b_first)) = (first_dash(&a), first_dash(&b));
        self.compare_parts(a, b)
            .then_with(|| self.compare_parts(a_first, b_first))
            .then_with(|| self.compare_parts(&a_rest, &b_rest))
    }

    /// Whether a kernel is not older than `since`, which is a version (then any release of it is) or begins as `uname -r`
    /// does. Flavours and machines play no part; candidates (`rc1`) are older than what they are candidates for.
    pub fn is_since(self, uname: &str, since: &str) -> bool {
        let (uname, since) = (core(uname), core(since));
        let ((version, release), (bound, bound_release)) = (first_dash(&uname), first_dash(&since));
        if bound_release.is_empty() {
            let is_candidate = has_candidate(release) || version.contains("~rc");
            if is_candidate && !bound.contains("~rc") && same_version(version, bound) {
                return false;
            }
            return self.compare_parts(version, bound).is_ge();
        }
        self.compare_parts(version, bound).then_with(|| self.compare_parts(release, bound_release)).is_ge()
    }

    /// Compares versions without epoch and release, or releases.
    fn compare_parts(self, a: &str, b: &str) -> Ordering {
        match self {
            Order::Rpm => Evr::new("", a, "").cmp(&Evr::new("", b, "")),
            Order::Deb => natural::compare_versions(a, b),
        }
    }
}

/// Reads a bound for [`Order::is_since`]. A date is refused as any other word, for no kernel has a version of four digits.
pub fn bound(text: &str) -> Result<String, &'static str> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let goes_on = text[digits..].starts_with(['.', '-', '~', '_', '+']) || text.len() == digits;
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-+~^_".contains(&byte));
    if (1..=3).contains(&digits) && goes_on && is_plain {
        return Ok(text.to_owned());
    }
    Err("expected a version, such as 6.1, or the beginning of what `uname -r` prints, such as 5.14.0-427")
}

fn epoch(version: &str) -> (u64, &str) {
    match version.split_once(':') {
        Some((epoch, rest)) => (epoch.parse().unwrap_or(0), rest),
        None => (0, version),
    }
}

fn release(version: &str) -> (&str, Option<&str>) {
    version.rsplit_once('-').map_or((version, None), |(version, release)| (version, Some(release)))
}

fn first_dash(text: &str) -> (&str, &str) {
    text.split_once('-').unwrap_or((text, ""))
}

/// `6.14-rc1-amd64` as `6.14~rc1-amd64`: the version ends before the candidate's dash in both orders.
fn tilde(uname: &str) -> String {
    match uname.split_once('-') {
        Some((version, rest)) if is_candidate(rest.split(['-', '.', '+']).next().unwrap_or_default()) => {
            format!("{version}~{rest}")
        }
        _ => uname.to_owned(),
    }
}

/// The version with the release of `uname -r`, and what sets flavours and machines apart.
fn candidate(uname: &str) -> (String, String) {
    let core = core(uname);
    let rest = tilde(uname).get(core.len()..).unwrap_or_default().to_owned();
    (core, rest)
}

/// `uname -r` without machine and flavour: `5.14.0-427.el9`, `6.1.0-56`, `5.14.21-150400.22`, `6.14~rc1`.
fn core(uname: &str) -> String {
    let text = tilde(without_machine(uname));
    let mut parts = text.split('-');
    let mut core = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let is_release = part.starts_with(|c: char| c.is_ascii_digit()) && !NUMBERED_FLAVOURS.contains(&part)
            || part == "trunk"
            || is_candidate(part)
            || part.strip_prefix("rt").is_some_and(|level| level.starts_with(|c: char| c.is_ascii_digit()));
        if !is_release {
            break;
        }
        core.push('-');
        core.push_str(part);
    }
    core
}

/// `uname -r` up to the machine that rpm distributions put behind a dot.
fn without_machine(uname: &str) -> &str {
    let ends = MACHINES.iter().filter_map(|machine| {
        let at = uname.find(&format!(".{machine}"))?;
        let rest = &uname[at + 1 + machine.len()..];
        (rest.is_empty() || rest.starts_with(['.', '+'])).then_some(at)
    });
    ends.min().map_or(uname, |end| &uname[..end])
}

/// `rc7`
fn is_candidate(word: &str) -> bool {
    word.strip_prefix("rc").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether a release is one of a candidate: Fedora's `0.rc1.20250206`, the mainline builds' `061400rc1`.
fn has_candidate(release: &str) -> bool {
    release
        .split(['.', '-', '+', '~', '_'])
        .any(|part| is_candidate(part.trim_start_matches(|c: char| c.is_ascii_digit())))
}

/// `6.14` and `6.14.0~rc1`.
fn same_version(version: &str, bound: &str) -> bool {
    let plain = |text: &str| {
        let text = text.split('~').next().unwrap_or_default();
        text.trim_end_matches(".0").to_owned()
    };
    plain(version) == plain(bound)
}

/// What releases of rpm distributions have before a number.
const TAGS: &[&str] = &["el", "fc", "eln", "amzn", "ph", "oe", "cm", "azl", "an", "al", "alnx"];

/// The machines that rpm distributions put into `uname -r`.
const MACHINES: &[&str] = &[
    "x86_64",
    "aarch64",
    "s390x",
    "ppc64le",
    "ppc64",
    "i686",
    "i386",
    "i586",
    "riscv64",
    "armv7hl",
    "armv7l",
    "loongarch64",
    "sw_64",
    "noarch",
];

/// Debian's flavours that begin with a digit.
const NUMBERED_FLAVOURS: &[&str] = &["486", "586", "686", "4kc", "5kc", "64k", "64kb", "16k"];

/// SUSE counts rebuilds per package, in the last number of a version: `24.33.2` of the headers goes with `24.33.1` of the
/// sources, and `3.1.gd4e7682` with `3.2.gd4e7682`.
pub(crate) fn without_rebuild(version: &str) -> String {
    let Some((before, last)) = version.rsplit_once('.') else { return version.to_owned() };
    if last.bytes().all(|b| b.is_ascii_digit()) {
        return before.to_owned();
    }
    match before.rsplit_once('.') {
        Some((before, count)) if count.bytes().all(|b| b.is_ascii_digit()) => format!("{before}.{last}"),
        _ => version.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(order: Order, versions: &[&str]) {
        for pair in versions.windows(2) {
            assert_eq!(order.compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(order.compare(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
    }

    #[test]
    fn versions_are_ordered_as_dpkg_orders_them() {
        sorted(
            Order::Deb,
            &[
                "5.4.0-44.44~20.04.1",
                "5.4.0-44.44",
                "6.1.0-9",
                "6.1.0-10",
                "6.12.117~rc1-1",
                "6.12.117-1~deb12u1",
                "6.12.117-1",
                "6.12.117+deb12-1",
                "10.0.0-5",
                "1:0.1",
            ],
        );
        for (a, b) in [("1.0", "1.0"), ("1.01", "1.1"), ("0:1", "1"), ("", ""), ("1é", "1é"), ("1.0", "1.0-0")] {
            assert_eq!(Order::Deb.compare(a, b), Ordering::Equal, "{a} {b}");
        }
    }

    #[test]
    fn versions_are_ordered_as_rpm_orders_them() {
        sorted(
            Order::Rpm,
            &[
                "1.0-9",
                "1.0^20230101-1",
                "1.0.1-1",
                "2.6.32-754.el6",
                "3.10.0-1160~rc1.el7",
                "3.10.0-1160.el7",
                "4.18.0-80.el8",
                "4.18.0-305.el8",
                "4.18.0-305.10.2.el8_4",
                "10.0.0-1",
            ],
        );
        assert_eq!(Order::Rpm.compare("5.14.0-01.el9", "5.14_0-1.el9"), Ordering::Equal);
        assert_eq!(Order::Rpm.compare_with_bound("5.14.0-427.el9", "5.14.0"), Ordering::Equal);
        assert_eq!(Order::Deb.compare_with_bound("5.14.0-1", "5.14.0"), Ordering::Greater);
    }

    #[test]
    fn kernels_are_ordered_by_release_and_then_by_flavour() {
        for (order, unames) in [
            (
                Order::Rpm,
                &[
                    "5.13.0-rc7-17-default",
                    "5.13.0-2-default",
                    "5.14.0-427.el9.x86_64",
                    "5.14.0-427.13.1.el9_4.x86_64",
                    "5.14.0-427.13.1.el9_4.x86_64+rt",
                    "5.14.0-427.68.1.el9_4.x86_64",
                ][..],
            ),
            (
                Order::Deb,
                &[
                    "6.1.0-9-amd64",
                    "6.1.0-9-rt-amd64",
                    "6.1.0-10-amd64",
                    "6.12.117-amd64",
                    "6.12.117+deb12-amd64",
                    "6.14-rc1-amd64",
                    "6.14-amd64",
                ][..],
            ),
        ] {
            for pair in unames.windows(2) {
                assert_eq!(order.compare_unames(pair[0], pair[1]), Ordering::Less, "{pair:?}");
                assert_eq!(order.compare_unames(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
            }
        }
    }

    #[test]
    fn what_is_not_older_is_told_by_release_and_not_by_flavour_or_machine() {
        for (order, since, kept, dropped) in [
            (
                Order::Rpm,
                "5.14.0-427.el9",
                &["5.14.0-427.13.1.el9_4.x86_64", "5.14.0-427.el9.aarch64+64k", "5.14.0-428.el9.x86_64"][..],
                &["5.14.0-362.8.1.el9_3.x86_64"][..],
            ),
            (
                Order::Rpm,
                "5.14.0-427.13.1.el9_4.x86_64",
                &["5.14.0-427.13.1.el9_4.aarch64", "5.14.0-427.13.1.el9_4.x86_64+rt"],
                &["5.14.0-427.el9.x86_64", "5.14.0-427.el9.x86_64+rt"],
            ),
            (Order::Rpm, "5.14.0", &["5.14.0-1.el9.x86_64", "5.14.21-150400.22-default"], &["5.13.0-2-default"]),
            (
                Order::Rpm,
                "6.14",
                &["6.14.0-63.fc42.x86_64"],
                &["6.14.0-0.rc1.20250206.fc42.x86_64", "6.14.0-rc1-1-default"],
            ),
            (Order::Rpm, "6.13", &["6.14.0-0.rc1.20250206.fc42.x86_64"], &[]),
            (Order::Deb, "6.14", &["6.14-amd64", "6.14.1-amd64"], &["6.14-rc1-amd64", "6.14.0-061400rc1-generic"]),
            (Order::Deb, "6.14-rc2", &["6.14-rc2-arm64", "6.14-amd64"], &["6.14-rc1-amd64"]),
            (
                Order::Deb,
                "6.1.0-10-rt-amd64",
                &["6.1.0-10-amd64", "6.1.0-10-arm64", "6.1.0-11-686-pae"],
                &["6.1.0-9-rt-amd64"],
            ),
            (Order::Deb, "6.1.0", &["6.1.0-9-amd64", "6.12.117+deb12-amd64"], &["5.10.0-8-amd64"]),
        ] {
            for uname in kept {
                assert!(order.is_since(uname, since), "{uname} since {since}");
            }
            for uname in dropped {
                assert!(!order.is_since(uname, since), "{uname} since {since}");
            }
        }
    }

    #[test]
    fn a_bound_is_a_version_and_no_other_word() {
        for text in ["6", "6.1", "6.14-rc1", "5.14.0-427.13.1.el9_4.x86_64+rt", "6.12.117+deb12-amd64", "6.1~rc3"] {
            assert_eq!(bound(text).as_deref(), Ok(text));
        }
        for text in
            ["", "foo", "v6.1", "2024-01-01", "20240101", "6x", "6.1 ", "6.*", ">=6.1", "-6", ".5", "kernel-6.1"]
        {
            assert!(bound(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_order_of_a_kernel_without_a_distribution_is_told_by_its_name() {
        for (uname, order) in [
            ("5.14.0-427.el9_4", Order::Rpm),
            ("5.14.0-427.el9_4+rt", Order::Rpm),
            ("6.6.1-1.x86_64", Order::Rpm),
            ("6.1.0-56-cloud", Order::Deb),
            ("5.4.0-86-generic", Order::Deb),
        ] {
            assert_eq!(Order::of_uname(uname), order, "{uname}");
        }
    }
}
