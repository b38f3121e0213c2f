//! The naming engine against the names and groupings of the real world.
//!
//! The lists are data of others and lie outside this tree; `HAVERSACK_REAL_DATA` says where.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::PathBuf;

use haversack::kernel::classify::{Class, Role, classify};
use haversack::kernel::group::{Kernel, Offer, group};
use haversack::kernel::package::{Name, Package, Relation, Relations};
use haversack::kernel::set::KernelSet;
use haversack::kernel::source::crawler;

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
        let packages: Vec<Package> = all.iter().filter_map(|file| Package::from_location(file).ok()).collect();
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

/// The packages of every list there is, each list for itself: file names, groupings of others, crawler's lists, stanzas with
/// their relations.
fn every_list() -> Vec<(String, Offer)> {
    let mut lists = Vec::new();
    for path in haversack::fs::list(&real_data("kernel/filenames")).unwrap() {
        let text = String::from_utf8(haversack::fs::read(&path, 10 << 20).unwrap()).unwrap();
        let packages: Vec<Package> = text.lines().filter_map(|file| Package::from_location(file).ok()).collect();
        lists.push((path.display().to_string(), packages.into()));
    }
    let file = haversack::fs::open(&real_data("kernel/kernel-bundles-by-release.yml.gz")).unwrap();
    let mut text = String::new();
    haversack::compression::decoder(file).unwrap().1.read_to_string(&mut text).unwrap();
    let files: BTreeSet<String> = bundles(&text).into_iter().flat_map(|(_, files)| files).collect();
    let packages: Vec<Package> = files.iter().filter_map(|file| Package::from_location(file).ok()).collect();
    lists.push(("bundles".into(), packages.into()));
    for path in haversack::fs::list(&real_data("kernel/crawler-lists")).unwrap() {
        if let Ok(offer) = crawler::offer(haversack::fs::open(&path).unwrap()) {
            lists.push((path.display().to_string(), offer));
        }
    }
    let mut stanzas: Vec<Package> = Vec::new();
    for path in haversack::fs::list(&real_data("kernel/apt")).unwrap() {
        let mut text = Vec::new();
        haversack::compression::decoder(haversack::fs::open(&path).unwrap()).unwrap().1.read_to_end(&mut text).unwrap();
        stanzas.extend(String::from_utf8_lossy(&text).split("\n\n").filter_map(stanza));
    }
    assert!(stanzas.len() > 100, "{} stanzas", stanzas.len());
    lists.push(("stanzas".into(), stanzas.into()));
    lists
}

fn stanza(text: &str) -> Option<Package> {
    let field =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_default();
    let package = Package::from_location(field("Filename")).ok()?;
    Some(Package { relations: Some(Relations::from_deb(field("Depends"), field("Provides"))), ..package })
}

/// A set gives back what was put in: written and read, alone or with all other packages beside it, it has the same kernels
/// with the same packages in the same roles, and lacks the same.
#[test]
#[ignore = "needs HAVERSACK_REAL_DATA; .ci/run sets it"]
fn a_set_gives_back_what_was_put_in_whatever_was_put_in() {
    let lists = every_list();
    for (name, offer) in &lists {
        let kernels = group(offer.clone()).kernels;
        let whole = KernelSet::new(kernels.clone());
        // What is written is what the packages say: headers keep what they need.
        let again = KernelSet::parse(&serde_json::to_vec(&whole).unwrap()).unwrap().into_kernels();
        assert_eq!(needs(&again), needs(&kernels), "{name}");
        assert_eq!(read_back(&whole, Vec::new()), whole, "{name}");
    }
    let strategy = (0..lists.len(), proptest::prelude::any::<u64>(), 1..40_u64, proptest::prelude::any::<bool>());
    let mut runner = proptest::test_runner::TestRunner::new(proptest::test_runner::Config::with_cases(200));
    let result = runner.run(&strategy, |(at, seed, of, with_others)| {
        // A part of the list: some of what kernels need is then missing.
        let (_, offer) = &lists[at];
        let is_in = |package: &Package| {
            let digest = haversack::digest::Digest::sha256(format!("{seed}{}", package.location).as_bytes());
            u64::from_str_radix(&digest.hex()[..8], 16).unwrap() % of != 1
        };
        let packages: Vec<Package> = offer.packages.iter().filter(|package| is_in(package)).cloned().collect();
        let set = KernelSet::new(group(Offer { packages, ..offer.clone() }).kernels);
        let others =
            if with_others { set.each_package().into_iter().cloned().map(Package::from).collect() } else { Vec::new() };
        proptest::prop_assert_eq!(read_back(&set, others), set);
        Ok(())
    });
    result.unwrap();
}

/// A line for each kernel: the names and roles of its packages, what those for building need, and what is missing.
fn needs(kernels: &[Kernel]) -> Vec<String> {
    let of = |(role, package): &(Role, Package)| {
        let is_for_building = matches!(role, Role::Devel | Role::Headers | Role::Common | Role::Kbuild);
        let relations = package.relations.iter().filter(|_| is_for_building);
        let needs: Vec<&Vec<Relation>> = relations.flat_map(|it| &it.depends).collect();
        format!("{} {} {needs:?}", role.name(), package.name)
    };
    let line = |it: &Kernel| {
        let packages: Vec<String> = it.packages.iter().map(of).collect();
        format!("{}: {}; missing {:?}", it.release, packages.join(", "), it.missing)
    };
    kernels.iter().map(line).collect()
}

fn read_back(set: &KernelSet, packages: Vec<Package>) -> KernelSet {
    let read = KernelSet::parse(&serde_json::to_vec(set).unwrap()).unwrap();
    KernelSet::new(group(Offer { placed: read.into_kernels(), packages, together: Vec::new() }).kernels)
}

/// Every name is placed, or it is said why not.
#[test]
#[ignore = "needs HAVERSACK_REAL_DATA; .ci/run sets it"]
fn what_is_placed_and_what_is_not_are_all_there_is() {
    let mut all = 0;
    for (name, offer) in every_list() {
        let names: BTreeSet<Name> = offer.packages.iter().map(|package| package.name.clone()).collect();
        let grouping = group(offer);
        let placed = grouping.kernels.iter().flat_map(|kernel| &kernel.packages).map(|(_, package)| &package.name);
        let unplaced = grouping.unplaced.iter().map(|(package, _)| &package.name);
        let (placed, unplaced): (BTreeSet<&Name>, BTreeSet<&Name>) = (placed.collect(), unplaced.collect());
        assert!(placed.is_disjoint(&unplaced), "{name}: {:?}", placed.intersection(&unplaced).next());
        let said: BTreeSet<Name> = placed.union(&unplaced).map(|name| (*name).clone()).collect();
        assert_eq!(said, names, "{name}");
        all += names.len();
    }
    assert!(all > 19_000, "{all}");
}
