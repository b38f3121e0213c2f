//! Packages joined into kernels.
//!
//! What belongs to one kernel is joined by release. What several share is joined by what the headers depend on, where
//! metadata is there, and by name where it is not: `-common` to the releases of its version, `-common-rt` only to the
//! real-time ones, `kbuild` of the exact version or else of the series, the nearest build of it; Ubuntu's to the
//! flavours of the same source. Machines and builds are never mixed.

use std::collections::{BTreeMap, HashMap};

use crate::kernel::classify::{Class, Reason, Role, Shared, classify};
use crate::kernel::package::{Name, Package, Relation};
use crate::kernel::release::{Machine, Release};

/// One kernel with its packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Which kernel.
    pub release: Release,
    /// Its packages, sorted by role and name.
    pub packages: Vec<(Role, Package)>,
    /// What its packages depend on for building that no package given fulfils.
    pub missing: Vec<String>,
}

/// What became of a list of packages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grouping {
    /// The kernels, sorted.
    pub kernels: Vec<Kernel>,
    /// What belongs to no kernel, sorted by name.
    pub ignored: Vec<(Package, Reason)>,
    /// What would belong to a kernel of which only this is there: a `kbuild` without headers.
    pub unused: Vec<Package>,
    /// Packages that have the name of another one and other content; the first one was taken.
    pub conflicts: Vec<Package>,
}

/// A package that several kernels share.
struct Common {
    package: Package,
    with: Shared,
    role: Role,
    used: bool,
}

/// Joins packages into kernels. Several packages with one name and the same or unknown content count once, the first.
pub fn group(packages: Vec<Package>) -> Grouping {
    let mut grouping = Grouping::default();
    let mut kernels: BTreeMap<Release, Vec<(Role, Package)>> = BTreeMap::new();
    let mut shared: Vec<Common> = Vec::new();
    for package in once_each(packages, &mut grouping.conflicts) {
        match classify(&package) {
            Class::Kernel { release, role } => kernels.entry(release).or_default().push((role, package)),
            Class::Shared { with, role } => shared.push(Common { package, with, role, used: false }),
            Class::Ignored(reason) => grouping.ignored.push((package, reason)),
        }
    }
    let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
    for (at, common) in shared.iter().enumerate() {
        by_name.entry(common.package.name.name.clone()).or_default().push(at);
    }
    let by_version = ByVersion::new(&shared);
    for (release, mut packages) in kernels {
        without_unsigned_twins(&mut packages);
        let mut missing = Vec::new();
        for (at, why) in shared_by(&release, &packages, &shared, &by_name, &by_version) {
            match at {
                Some(at) => {
                    shared[at].used = true;
                    packages.push((shared[at].role, shared[at].package.clone()));
                }
                None => missing.push(why),
            }
        }
        packages.sort_by(|a, b| (a.0, &a.1.name).cmp(&(b.0, &b.1.name)));
        packages.dedup_by(|a, b| a.1.name == b.1.name);
        missing.sort();
        missing.dedup();
        grouping.kernels.push(Kernel { release, packages, missing });
    }
    grouping.unused = shared.into_iter().filter(|common| !common.used).map(|common| common.package).collect();
    grouping.unused.sort_by(|a, b| a.name.cmp(&b.name));
    grouping.ignored.sort_by(|a, b| a.0.name.cmp(&b.0.name));
    grouping
}

fn once_each(packages: Vec<Package>, conflicts: &mut Vec<Package>) -> Vec<Package> {
    let mut seen: HashMap<Name, usize> = HashMap::new();
    let mut kept: Vec<Package> = Vec::with_capacity(packages.len());
    for package in packages {
        match seen.get(&package.name) {
            None => {
                seen.insert(package.name.clone(), kept.len());
                kept.push(package);
            }
            Some(first) => match (&kept[*first].sha256, &package.sha256) {
                (Some(a), Some(b)) if a != b => conflicts.push(package),
                // A source that knows the digest is worth more than one that does not.
                (None, Some(_)) => kept[*first] = package,
                _ => {}
            },
        }
    }
    kept
}

/// An unsigned image has the files of the signed one; together they would contradict each other.
fn without_unsigned_twins(packages: &mut Vec<(Role, Package)>) {
    let names: Vec<String> = packages.iter().map(|(_, package)| package.name.name.clone()).collect();
    packages.retain(|(role, package)| {
        let name = &package.name.name;
        let signed = name
            .strip_suffix("-unsigned")
            .map(str::to_owned)
            .or_else(|| name.strip_prefix("linux-image-unsigned-").map(|release| format!("linux-image-{release}")));
        *role != Role::Image || signed.is_none_or(|signed| !names.contains(&signed))
    });
}

/// Shared packages by the version that they are shared for.
struct ByVersion(HashMap<String, Vec<usize>>);

impl ByVersion {
    fn new(shared: &[Common]) -> Self {
        let mut by_version: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, common) in shared.iter().enumerate() {
            let version = match &common.with {
                Shared::DebianCommon { version, .. }
                | Shared::DebianKbuild { version }
                | Shared::UbuntuHeaders { version, .. } => &**version,
                Shared::SuseDevel => without_rebuild(&common.package.name.version),
            };
            by_version.entry(version.to_owned()).or_default().push(at);
        }
        ByVersion(by_version)
    }

    fn get<'a>(&'a self, version: &str) -> impl Iterator<Item = usize> + use<'a> {
        self.0.get(version).into_iter().flatten().copied()
    }
}

/// Which shared packages a kernel takes, or what it needs and is not there.
fn shared_by(
    release: &Release,
    packages: &[(Role, Package)],
    shared: &[Common],
    by_name: &HashMap<String, Vec<usize>>,
    by_version: &ByVersion,
) -> Vec<(Option<usize>, String)> {
    let Some((_, headers)) = packages.iter().find(|(role, _)| matches!(role, Role::Headers | Role::Devel)) else {
        return Vec::new();
    };
    if let Some(relations) = headers.relations.as_ref().filter(|relations| !relations.depends.is_empty())
        && release.distribution != "suse"
    {
        return relations
            .depends
            .iter()
            .filter(|group| group.iter().any(for_building))
            .map(|group| {
                let found = group.iter().find_map(|relation| {
                    let candidates = by_name.get(&relation.name).into_iter().flatten().copied();
                    nearest(
                        release,
                        candidates.filter(|at| relation.admits(&relation.name, version(shared, *at), release.order())),
                        shared,
                    )
                });
                let text = group.iter().map(Relation::to_string).collect::<Vec<_>>().join(" | ");
                (found, text)
            })
            .collect();
    }
    by_names(release, shared, by_version).into_iter().map(|at| (Some(at), String::new())).collect()
}

fn for_building(relation: &Relation) -> bool {
    let name = &relation.name;
    name.starts_with("linux-headers-") || name.starts_with("linux-kbuild-") || {
        name.starts_with("linux-") && name.contains("-headers-")
    }
}

fn by_names(release: &Release, shared: &[Common], by_version: &ByVersion) -> Vec<usize> {
    match &*release.distribution {
        "suse" => nearest(release, by_version.get(without_rebuild(&release.build)), shared).into_iter().collect(),
        "ubuntu" => ubuntu(release, shared, by_version).into_iter().collect(),
        "debian" | "gardenlinux" | "linux" => debian(release, shared, by_version),
        _ => Vec::new(),
    }
}

fn debian(release: &Release, shared: &[Common], by_version: &ByVersion) -> Vec<usize> {
    let words: Vec<&str> = release.uname.split('-').collect();
    let topics: Vec<&str> = TOPICS.iter().filter(|topic| words.contains(topic)).copied().collect();
    let prefixes: Vec<String> = (1..words.len()).rev().map(|end| words[..end].join("-")).collect();
    let common = prefixes.iter().find_map(|prefix| {
        let candidates = by_version.get(prefix).filter(|at| match &shared[*at].with {
            Shared::DebianCommon { topic, .. } if topic.is_empty() => topics.is_empty(),
            Shared::DebianCommon { topic, .. } => topics.contains(&&**topic),
            _ => false,
        });
        nearest(release, candidates, shared)
    });
    // The exact version first; else the series, of which one kbuild serves all.
    let series = words[0].split('.').take(2).collect::<Vec<_>>().join(".");
    let kbuild = prefixes.iter().chain([&series]).find_map(|prefix| {
        let candidates = by_version.get(prefix).filter(|at| matches!(shared[*at].with, Shared::DebianKbuild { .. }));
        nearest(release, candidates.filter(|at| shared[*at].role == Role::Kbuild), shared)
    });
    common.into_iter().chain(kbuild).collect()
}

fn ubuntu(release: &Release, shared: &[Common], by_version: &ByVersion) -> Option<usize> {
    let flavour = &release.flavour;
    let version = release.uname.strip_suffix(&**flavour)?.strip_suffix('-')?;
    let mut candidates: Vec<(usize, &str)> = by_version
        .get(version)
        .filter(|at| shared[*at].package.name.version == release.build && fits(release, &shared[*at].package))
        .filter_map(|at| match &shared[at].with {
            Shared::UbuntuHeaders { topic, .. } => Some((at, &**topic)),
            _ => None,
        })
        .collect();
    // `aws-fips` prefers the headers of aws-fips over those of aws; generic kernels come from sources of many names.
    let named = |topic: &str| {
        !topic.is_empty() && (flavour == topic || flavour.strip_prefix(topic).is_some_and(|rest| rest.starts_with('-')))
    };
    candidates.sort_by_key(|(_, topic)| (!named(topic), std::cmp::Reverse(topic.len())));
    candidates
        .into_iter()
        .find(|(_, topic)| named(topic) || GENERIC.iter().any(|word| topic == word || topic.starts_with("lts-")))
        .map(|(at, _)| at)
}

/// The candidate for this machine whose build is nearest: the same, else the first after it, else the last before.
fn nearest(release: &Release, candidates: impl Iterator<Item = usize>, shared: &[Common]) -> Option<usize> {
    let mut fitting: Vec<usize> = candidates.filter(|at| fits(release, &shared[*at].package)).collect();
    let order = release.order();
    fitting.sort_by(|a, b| order.compare(version(shared, *a), version(shared, *b)));
    let after = fitting.iter().find(|at| order.compare(version(shared, **at), &release.build).is_ge());
    after.or(fitting.last()).copied()
}

/// SUSE counts rebuilds per package: `24.33.2` of the headers goes with `24.33.1` of the sources.
fn without_rebuild(version: &str) -> &str {
    version.rsplit_once('.').map_or(version, |(version, _)| version)
}

fn version(shared: &[Common], at: usize) -> &str {
    &shared[at].package.name.version
}

fn fits(release: &Release, package: &Package) -> bool {
    let architecture = &*package.name.architecture;
    let Ok(machine) = architecture.parse::<Machine>();
    matches!(architecture, "all" | "noarch") || machine == release.machine
}

/// Words in Debian's flavours that have headers of their own, `linux-headers-VERSION-common-WORD`.
const TOPICS: &[&str] = &["rt", "grsec", "openvz", "vserver", "xen"];

/// The sources of Ubuntu's generic and low-latency kernels.
const GENERIC: &[&str] = &["", "hwe", "lowlatency", "lowlatency-hwe"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::kernel::package::Relations;

    fn packages(files: &[&str]) -> Vec<Package> {
        files.iter().map(|file| Package::from_location(file).unwrap()).collect()
    }

    /// `RELEASE: NAME NAME…` a kernel, with what is missing after `!`.
    fn says(grouping: &Grouping) -> Vec<String> {
        let line = |kernel: &Kernel| {
            let names =
                kernel.packages.iter().map(|(_, package)| format!(" {}", package.name.name)).collect::<String>();
            let missing = kernel.missing.iter().map(|what| format!(" !{what}")).collect::<String>();
            format!("{}:{names}{missing}", kernel.release.uname)
        };
        grouping.kernels.iter().map(line).collect()
    }

    #[test]
    fn shared_packages_join_the_kernels_that_their_names_say_and_no_others() {
        let grouping = group(packages(&[
            "linux-headers-6.1.0-56-rt-amd64_6.1.192-2_amd64.deb",
            "linux-headers-6.1.0-56-amd64_6.1.192-2_amd64.deb",
            "linux-headers-6.1.0-56-arm64_6.1.192-2_arm64.deb",
            "linux-headers-6.1.0-56-common_6.1.192-2_all.deb",
            "linux-headers-6.1.0-56-common-rt_6.1.192-2_all.deb",
            "linux-kbuild-6.1_6.1.187-1_amd64.deb",
            "linux-kbuild-6.1_6.1.192-2_amd64.deb",
            "linux-image-6.1.0-56-amd64_6.1.192-2_amd64.deb",
            "linux-image-6.1.0-56-amd64-unsigned_6.1.192-2_amd64.deb",
            "linux-image-6.1.0-56-cloud-amd64-unsigned_6.1.192-2_amd64.deb",
            "linux-headers-5.4.0-1063-aws_5.4.0-1063.66_amd64.deb",
            "linux-headers-5.4.0-1063-azure_5.4.0-1063.66_amd64.deb",
            "linux-headers-5.4.0-1063-aws-fips_5.4.0-1063.66_amd64.deb",
            "linux-aws-headers-5.4.0-1063_5.4.0-1063.66_all.deb",
            "linux-aws-fips-headers-5.4.0-1063_5.4.0-1063.66_all.deb",
            "linux-aws-headers-5.4.0-1063_5.4.0-1063.66~18.04.1_all.deb",
            "kernel-default-devel-5.14.21-150400.24.33.2.x86_64.rpm",
            "kernel-devel-5.14.21-150400.24.33.1.noarch.rpm",
            "bash-5.1.8-9.el9.x86_64.rpm",
        ]));
        insta::assert_snapshot!(says(&grouping).join("\n"), @r"
        6.1.0-56-amd64: linux-headers-6.1.0-56-amd64 linux-headers-6.1.0-56-common linux-kbuild-6.1 linux-image-6.1.0-56-amd64
        6.1.0-56-arm64: linux-headers-6.1.0-56-arm64 linux-headers-6.1.0-56-common
        6.1.0-56-cloud-amd64: linux-image-6.1.0-56-cloud-amd64-unsigned
        6.1.0-56-rt-amd64: linux-headers-6.1.0-56-rt-amd64 linux-headers-6.1.0-56-common-rt linux-kbuild-6.1
        5.14.21-150400.24.33-default: kernel-default-devel kernel-devel
        5.4.0-1063-aws: linux-headers-5.4.0-1063-aws linux-aws-headers-5.4.0-1063
        5.4.0-1063-aws-fips: linux-headers-5.4.0-1063-aws-fips linux-aws-fips-headers-5.4.0-1063
        5.4.0-1063-azure: linux-headers-5.4.0-1063-azure
        ");
        let unused: Vec<String> = grouping.unused.iter().map(|package| package.name.to_string()).collect();
        assert_eq!(
            unused,
            ["linux-aws-headers-5.4.0-1063_5.4.0-1063.66~18.04.1_all.deb", "linux-kbuild-6.1_6.1.187-1_amd64.deb"]
        );
        assert_eq!(grouping.ignored.len(), 1);
    }

    #[test]
    fn where_metadata_is_there_dependencies_decide_and_what_is_missing_is_named() {
        let mut list = packages(&[
            "linux-headers-6.1.0-56-amd64_6.1.192-2_amd64.deb",
            "linux-headers-6.1.0-56-common_6.1.192-2_all.deb",
            "linux-headers-6.1.0-56-common_6.1.192-1_all.deb",
            "linux-kbuild-6.1_6.1.187-1_amd64.deb",
        ]);
        list[0].relations = Some(Relations::from_deb(
            "linux-headers-6.1.0-56-common (= 6.1.192-2), linux-kbuild-6.1 (>= 6.1.192-2), linux-compiler-gcc-12-x86",
            "",
        ));
        let grouping = group(list);
        insta::assert_snapshot!(says(&grouping).join("\n"), @r"
        6.1.0-56-amd64: linux-headers-6.1.0-56-amd64 linux-headers-6.1.0-56-common !linux-kbuild-6.1 (>= 6.1.192-2)
        ");
        assert_eq!(grouping.kernels[0].packages[1].1.name.version, "6.1.192-2");
    }

    #[test]
    fn one_name_with_two_contents_is_a_conflict_and_with_one_content_counts_once() {
        let mut list = packages(&["a/kernel-core-5.14.0-1.el9.x86_64.rpm"; 4]);
        list[1].sha256 = Some(Digest::sha256("one"));
        list[2].sha256 = Some(Digest::sha256("two"));
        list[3].sha256 = Some(Digest::sha256("one"));
        let grouping = group(list.clone());
        assert_eq!(grouping.conflicts, [list[2].clone()]);
        assert_eq!(grouping.kernels[0].packages, [(Role::Core, list[1].clone())]);
    }
}
