//! Which package has the compiler that a kernel was built with.
//!
//! A definition says `gcc`. Distributions have it under that name in one version, and others beside it: Debian's `gcc-12`, SUSE's
//! `gcc12`, Amazon's `gcc10`, `gcc-toolset-13-gcc` of EL 8 and later, `devtoolset-11-gcc` before. Modules are built with the very
//! version of the kernel where a source has it, or with another of the same number before the first dot.

use crate::kernel::package::{Comparison, Package, Relation};
use crate::kernel::resolve::{Universe, full_version, wanted};

/// What is asked for.
pub(super) struct Choice {
    /// All of these.
    pub(super) wanted: Vec<Vec<Relation>>,
    /// What is wrong with it, when none fits.
    pub(super) lack: Option<String>,
}

/// Chooses a compiler of a kernel that was compiled with `version` (`12.2.0`), where that is known.
pub(super) fn choose(universe: &Universe, name: &str, version: Option<&str>) -> Choice {
    let plain = Choice { wanted: vec![wanted(name)], lack: None };
    let Some(version) = version else { return plain };
    let number = major(version);
    let names = [
        name.to_owned(),
        format!("{name}-{number}"),
        format!("{name}{number}"),
        format!("gcc-toolset-{number}-{name}"),
        format!("devtoolset-{number}-{name}"),
    ];
    let first =
        |fits: &dyn Fn(&Package) -> bool| names.iter().flat_map(|name| universe.named(name)).find(|it| fits(it));
    let exact = first(&|package| upstream(package) == version);
    let chosen = exact.or_else(|| first(&|package| major(upstream(package)) == number));
    let Some(chosen) = chosen else {
        let newest = universe.named(name).next().map(|package| format!("; the image has {name} {}", upstream(package)));
        let newest = newest.unwrap_or_default();
        let lack = format!("it was compiled with {name} {version}, of which no source has any {number}.x{newest}");
        return Choice { lack: Some(lack), ..plain };
    };
    if exact.is_none() {
        tracing::warn!("a kernel was compiled with {name} {version}, which no source has; {} is taken", chosen.name);
    }
    let bound = Some((Comparison::Equal, full_version(chosen)));
    let mut all = vec![vec![Relation { name: chosen.name.name.clone(), version: bound }]];
    // Under its plain name there is another one, which makefiles and links ask for.
    if chosen.name.name != *name && universe.named(name).next().is_some() {
        all.push(wanted(name));
    }
    Choice { wanted: all, lack: None }
}

/// The version without what the packager counts: `12.3.0` of `12.3.0+git1204-150000.1.18.1`.
fn upstream(package: &Package) -> &str {
    let version = package.name.version.rsplit_once('-').map_or(&*package.name.version, |(version, _)| version);
    version.split(['+', '~']).next().unwrap_or_default()
}

fn major(version: &str) -> &str {
    version.split('.').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::package::Relations;

    /// Real names, with what is asked for, or what is said.
    #[test]
    fn a_compiler_is_found_under_the_names_that_distributions_give_it() {
        for (files, version, expected) in [
            (&["gcc-11.4.1-3.el9.x86_64.rpm", "gcc-11.5.0-5.el9.x86_64.rpm"][..], "11.4.1", "gcc (= 11.4.1-3.el9)"),
            (&["gcc-11.5.0-5.el9.x86_64.rpm"], "11.4.1", "gcc (= 11.5.0-5.el9)"),
            (&["gcc_12.2.0-3_amd64.deb", "gcc-12_12.2.0-14+deb12u1_amd64.deb"], "12.2.0", "gcc (= 12.2.0-3)"),
            (&["gcc_12.2.0-3_amd64.deb", "gcc-11_11.3.0-12_amd64.deb"], "11.3.0", "gcc-11 (= 11.3.0-12); gcc"),
            (
                &["gcc-7-3.9.1.x86_64.rpm", "gcc12-12.3.0+git1204-150000.1.18.1.x86_64.rpm"],
                "12.3.0",
                "gcc12 (= 12.3.0+git1204-150000.1.18.1); gcc",
            ),
            // A later one of the same number is there, and the very version.
            (
                &["gcc12-12.3.0+git1204-150000.1.18.1.x86_64.rpm", "gcc12-12.4.0+git5-150000.1.21.1.x86_64.rpm"],
                "12.3.0",
                "gcc12 (= 12.3.0+git1204-150000.1.18.1)",
            ),
            (
                &["gcc-7.3.1-17.amzn2.x86_64.rpm", "gcc10-10.5.0-1.amzn2.0.3.x86_64.rpm"],
                "10.5.0",
                "gcc10 (= 10.5.0-1.amzn2.0.3); gcc",
            ),
            (
                &["gcc-8.5.0-22.el8.x86_64.rpm", "gcc-toolset-11-gcc-11.3.1-2.2.el8.x86_64.rpm"],
                "11.4.1",
                "gcc-toolset-11-gcc (= 11.3.1-2.2.el8); gcc",
            ),
            (&["devtoolset-11-gcc-11.2.1-9.1.el7.x86_64.rpm"], "11.2.1", "devtoolset-11-gcc (= 11.2.1-9.1.el7)"),
            (
                &["gcc-11.5.0-5.el9.x86_64.rpm"],
                "14.2.1",
                "gcc! it was compiled with gcc 14.2.1, of which no source has any 14.x; the image has gcc 11.5.0",
            ),
            (
                &["make-4.3-8.el9.x86_64.rpm"],
                "14.2.1",
                "gcc! it was compiled with gcc 14.2.1, of which no source has any 14.x",
            ),
        ] {
            let package = |file: &&str| {
                let package = Package::from_location(file).unwrap();
                Package { relations: Some(Relations::default()), ..package }
            };
            let universe = Universe::new(files.iter().map(package).collect(), &"x86_64".parse().unwrap());
            let Choice { wanted, lack } = choose(&universe, "gcc", Some(version));
            let texts: Vec<String> = wanted.iter().map(|any| any[0].to_string()).collect();
            let said = texts.join("; ") + &lack.map_or(String::new(), |lack| format!("! {lack}"));
            assert_eq!(said, expected, "{files:?}");
        }
    }
}
