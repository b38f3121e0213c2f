//! The naming engine against the names and groupings of the real world.
//!
//! The lists are data of others and lie outside this tree; `HAVERSACK_REAL_DATA` says where.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::PathBuf;

use haversack::kernel::classify::{Class, classify};
use haversack::kernel::group::group;
use haversack::kernel::package::Package;

#[expect(clippy::disallowed_methods, reason = "tests have no configuration")]
fn real_data(path: &str) -> PathBuf {
    PathBuf::from(std::env::var_os("HAVERSACK_REAL_DATA").expect("HAVERSACK_REAL_DATA")).join(path)
}

#[test]
#[ignore = "needs HAVERSACK_REAL_DATA; .ci/run sets it"]
fn every_real_file_name_is_classified() {
    let mut counts = BTreeMap::<(String, String), usize>::new();
    for path in haversack::fs::list(&real_data("kernel/filenames")).unwrap() {
        let list = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = String::from_utf8(haversack::fs::read(&path, 10 << 20).unwrap()).unwrap();
        for file in text.lines() {
            let kind = match classify(&Package::from_location(file).unwrap()) {
                Class::Kernel { release, .. } => format!("kernel of {}", release.distribution),
                Class::Shared { role, .. } => format!("shared {}", role.name()),
                Class::Ignored(reason) => reason.to_string(),
            };
            *counts.entry((list.clone(), kind)).or_default() += 1;
        }
    }
    let table: String = counts.iter().map(|((list, kind), n)| format!("{list}: {n} {kind}\n")).collect();
    insta::assert_snapshot!(table, @r"
        amazonlinux1: 150 kernel of amazonlinux
        amazonlinux2: 527 kernel of amazonlinux
        amazonlinux2022: 9 kernel of amazonlinux
        centos: 523 kernel of el
        debian: 212 kernel of debian
        debian: 67 shared common
        debian: 26 shared kbuild
        debian-bookworm-apt: 19 a meta package that belongs to no kernel
        debian-bookworm-apt: 30 debug information
        debian-bookworm-apt: 102 kernel of debian
        debian-bookworm-apt: 17 shared common
        debian-bookworm-apt: 7 shared kbuild
        fedora: 538 kernel of fedora
        gardenlinux: 2 kernel of debian
        gardenlinux: 28 kernel of gardenlinux
        gardenlinux: 12 shared common
        gardenlinux: 13 shared kbuild
        oracle: 365 kernel of el
        oracle: 1165 kernel of ol
        oracle: 352 not needed to build modules
        photon: 1128 kernel of photon
        photon: 15 not a kernel package
        rhel: 609 kernel of el
        suse: 156 kernel of suse
        suse: 164 shared common
        ubuntu: 9453 kernel of ubuntu
        ubuntu: 3597 shared common
        ");
}

/// 6,473 groupings that somebody else's program and people made. `/`, `:` and `~` are written as `-` there, so a file's
/// name begins at the last `-linux-` or `-kernel-` of an entry, and builds are compared in that spelling. The kinds that are
/// left out (cos, coreos, minikube, linuxkit: 1,254 of them) are archives of sources, not packages.
#[test]
#[ignore = "needs HAVERSACK_REAL_DATA; .ci/run sets it"]
fn groups_agree_with_those_of_an_independent_list() {
    let file = haversack::fs::open(&real_data("kernel/kernel-bundles-by-release.yml.gz")).unwrap();
    let mut text = String::new();
    haversack::compression::decoder(file).unwrap().1.read_to_string(&mut text).unwrap();
    let bundles = bundles(&text);
    let mut differences = BTreeMap::<(String, &str), usize>::new();
    let mut agreed = BTreeMap::<String, usize>::new();
    for kind in ["redhat", "oracle", "suse", "ubuntu", "debian", "garden"] {
        let wanted: Vec<&BTreeSet<String>> =
            bundles.iter().filter(|(k, _)| k == kind).map(|(_, files)| files).collect();
        let all: BTreeSet<&String> = wanted.iter().copied().flatten().collect();
        let packages = all.iter().filter_map(|file| Package::from_location(file).ok()).collect();
        let grouping = group(packages);
        let ours: Vec<BTreeSet<String>> = grouping
            .kernels
            .iter()
            .map(|kernel| kernel.packages.iter().map(|(_, package)| package.location.clone()).collect())
            .collect();
        for files in wanted {
            if ours.contains(files) {
                *agreed.entry(kind.to_owned()).or_default() += 1;
                continue;
            }
            let closest = ours.iter().max_by_key(|kernel| kernel.intersection(files).count()).unwrap();
            let class = match () {
                // The subscriber API's `…/packages/SHA256/download`: no name, so nothing to tell from it.
                () if files.iter().all(|file| file.ends_with("-download")) => "are links without a file name",
                // They take the newest kbuild of the series; we take the first that the headers accept.
                () if kbuild_apart(files, closest) => "have a newer kbuild than the nearest",
                () if closest.is_subset(files) => "have more",
                () if closest.is_superset(files) => "have less",
                () => "differ otherwise",
            };
            *differences.entry((kind.to_owned(), class)).or_default() += 1;
        }
    }
    let mut table: String = agreed.iter().map(|(kind, n)| format!("{kind}: {n} agree\n")).collect();
    for ((kind, class), n) in &differences {
        table.push_str(&format!("{kind}: {n} {class}\n"));
    }
    insta::assert_snapshot!(table, @r"
        debian: 43 agree
        garden: 36 agree
        oracle: 302 agree
        redhat: 2020 agree
        suse: 203 agree
        ubuntu: 2213 agree
        debian: 2 have a newer kbuild than the nearest
        redhat: 400 are links without a file name
        ");
}

fn kbuild_apart(theirs: &BTreeSet<String>, ours: &BTreeSet<String>) -> bool {
    let apart: Vec<&String> = theirs.symmetric_difference(ours).collect();
    apart.len() == 2 && apart.iter().all(|file| file.starts_with("linux-kbuild-"))
}

/// `(kind, file names)` of each entry.
fn bundles(text: &str) -> Vec<(String, BTreeSet<String>)> {
    let mut bundles: Vec<(String, BTreeSet<String>)> = Vec::new();
    for line in text.lines() {
        if let Some(kind) = line.strip_prefix("  type: ") {
            bundles.push((kind.to_owned(), BTreeSet::new()));
        } else if let Some(entry) = line.strip_prefix("  - ") {
            let begin = ["-linux-", "-kernel-"].iter().filter_map(|word| entry.rfind(word)).max();
            let file = begin.map_or(entry, |begin| &entry[begin + 1..]);
            bundles.last_mut().unwrap().1.insert(file.to_owned());
        }
    }
    bundles
}
