//! What a definition of toolkits may say of a kernel.
//!
//! | variable | for 5.14.0-427.35.1.el9_4.x86_64 | for 6.12.117+deb12-amd64 |
//! | --- | --- | --- |
//! | `${version}` | 5.14.0-427.35.1.el9_4 | 6.12.117+deb12 |
//! | `${tag}` | the same, with `_` for what no tag may have | 6.12.117_deb12 |
//! | `${release}`, `${release-tag}` | 5.14.0-427.35.1.el9_4.x86_64 | 6.12.117+deb12-amd64, 6.12.117_deb12-amd64 |
//! | `${machine}` | x86_64 | x86_64 |
//! | `${rhel}` | 9.4 | nothing |
//! | `${rt}`, `${64k}` | the releases of these flavours that come along, or nothing | |
//! | `${distribution}` | el | debian |

use std::collections::BTreeMap;

/// What is known of a kernel by its name alone.
pub(crate) fn values(kernel: &str, rhel: &str) -> BTreeMap<&'static str, String> {
    let mut values: BTreeMap<&'static str, String> =
        ["release", "release-tag", "machine", "distribution", "rt", "64k"].map(|name| (name, String::new())).into();
    values.insert("version", kernel.to_owned());
    values.insert("tag", tag(kernel));
    values.insert("rhel", rhel.to_owned());
    values
}

/// A kernel's name as a tag, in which no `+` and no `~` may be.
pub(crate) fn tag(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect()
}

/// `305.17.1.rt7.89.el8_4` as `305.17.1.el8_4`: until EL 9.2 real-time kernels had the patch level in the release.
pub(crate) fn without_rt(build: &str) -> String {
    let mut parts: Vec<&str> = build.split('.').collect();
    let is_level = |part: &&str| part.strip_prefix("rt").is_some_and(|n| n.starts_with(|c: char| c.is_ascii_digit()));
    if let Some(at) = parts.iter().position(is_level) {
        let digits = parts.get(at + 1).is_some_and(|part| part.bytes().all(|b| b.is_ascii_digit()));
        parts.drain(at..at + 1 + usize::from(digits));
    }
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_time_kernels_are_found_by_the_version_of_their_siblings() {
        for (build, plain) in [
            ("4.18.0-305.17.1.rt7.89.el8_4", "4.18.0-305.17.1.el8_4"),
            ("5.14.0-284.25.1.rt14.310.el9_2", "5.14.0-284.25.1.el9_2"),
            ("5.14.0-427.35.1.el9_4", "5.14.0-427.35.1.el9_4"),
            ("4.18.0-305.rt7.el8", "4.18.0-305.el8"),
        ] {
            assert_eq!(without_rt(build), plain);
        }
    }
}
