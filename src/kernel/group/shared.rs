//! What several kernels share, and which of it a kernel takes.
//!
//! Where metadata is there, the headers say what they need. Where it is not, names do: `-common` goes to the releases of its
//! version, `-common-rt` only to the real-time ones, `kbuild` of the exact version or else of the series, the nearest build of
//! it; Ubuntu's headers to the flavours of the same source, SUSE's `kernel-devel-azure` to `azure`.

use std::collections::HashMap;

use crate::kernel::classify::{Reason, Role, Shared};
use crate::kernel::package::{Format, Name, Package, Relation};
use crate::kernel::release::{Machine, Release};
use crate::kernel::version::without_rebuild;

/// Packages that kernels may share.
pub(super) struct Pool {
    shared: Vec<Common>,
    /// By the name of a package and of what it provides.
    by_name: HashMap<String, Vec<usize>>,
    by_version: HashMap<String, Vec<usize>>,
    /// The lists that name a package.
    together: HashMap<Name, Vec<usize>>,
    lists: Vec<Vec<Name>>,
}

/// A package that several kernels share.
struct Common {
    package: Package,
    /// What its name says; nothing, where only who asks for it by name may have it.
    with: Option<Shared>,
    /// Why it is with no kernel, when none takes it.
    reason: Reason,
    role: Role,
    is_used: bool,
}

/// Something that a kernel needs.
pub(super) enum Needed {
    /// It is here, with this number.
    Here(usize),
    /// It is not here: what the headers depend on.
    Missing(String),
}

impl Pool {
    pub(super) fn new(lists: Vec<Vec<Name>>) -> Self {
        let mut together: HashMap<Name, Vec<usize>> = HashMap::new();
        for (at, list) in lists.iter().enumerate() {
            for name in list {
                together.entry(name.clone()).or_default().push(at);
            }
        }
        Pool { shared: Vec::new(), by_name: HashMap::new(), by_version: HashMap::new(), together, lists }
    }

    pub(super) fn add(&mut self, package: Package, with: Shared, role: Role, is_used: bool) {
        let version = match &with {
            Shared::DebianCommon { version, .. }
            | Shared::DebianKbuild { version }
            | Shared::UbuntuHeaders { version, .. } => version.clone(),
            Shared::SuseDevel { .. } => without_rebuild(&package.name.version),
            Shared::SuseBase { .. } => BASE.to_owned(),
        };
        self.by_version.entry(version).or_default().push(self.shared.len());
        self.push(Common { package, with: Some(with), reason: Reason::Unused, role, is_used });
    }

    /// Adds a package whose name says nothing, when it is of a kind that headers may ask for by its name; else it comes back.
    pub(super) fn add_unnamed(&mut self, package: Package, reason: Reason) -> Option<Package> {
        let name = Relation { name: package.name.name.clone(), version: None };
        if !matches!(reason, Reason::Meta | Reason::NotKernel) || !for_building(&name, package.name.format) {
            return Some(package);
        }
        self.push(Common { package, with: None, reason, role: Role::Common, is_used: false });
        None
    }

    fn push(&mut self, common: Common) {
        let at = self.shared.len();
        let package = &common.package;
        let provides = package.relations.iter().flat_map(|relations| &relations.provides);
        let mut names: Vec<&str> = provides.map(|provided| &*provided.name).chain([&*package.name.name]).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            self.by_name.entry(name.to_owned()).or_default().push(at);
        }
        self.shared.push(common);
    }

    /// What the package with a number is called.
    pub(super) fn name(&self, at: usize) -> &str {
        &self.shared[at].package.name.name
    }

    /// The package with a number, which counts as used.
    pub(super) fn take(&mut self, at: usize) -> (Role, Package) {
        self.shared[at].is_used = true;
        (self.shared[at].role, self.shared[at].package.clone())
    }

    /// The packages that no kernel took, and why.
    pub(super) fn unused(self) -> impl Iterator<Item = (Package, Reason)> {
        self.shared.into_iter().filter(|common| !common.is_used).map(|common| (common.package, common.reason))
    }

    /// What a kernel lacked when its set was written.
    pub(super) fn lacked(&self, release: &Release, lacked: &[String]) -> Vec<Needed> {
        let find = |text: &String| {
            let any: Vec<Relation> = text.split(" | ").filter_map(Relation::from_deb).collect();
            self.met_by(release, &any).map_or_else(|| Needed::Missing(text.clone()), Needed::Here)
        };
        lacked.iter().map(find).collect()
    }

    /// What a kernel needs for building beside its own packages.
    pub(super) fn needed(&self, release: &Release, packages: &[(Role, Package)]) -> Vec<Needed> {
        let mut needed: Vec<Needed> = self.base(release).map(Needed::Here).into_iter().collect();
        let Some((_, headers)) = packages.iter().find(|(role, _)| matches!(role, Role::Headers | Role::Devel)) else {
            return needed;
        };
        let depends = headers.relations.iter().flat_map(|relations| &relations.depends);
        let for_building: Vec<&Vec<Relation>> =
            depends.filter(|any| any.iter().any(|one| for_building(one, headers.name.format))).collect();
        let is_known = headers.relations.as_ref().is_some_and(|relations| !relations.depends.is_empty());
        if !for_building.is_empty() || is_known && release.distribution != "suse" {
            let own: Vec<&Package> = packages.iter().map(|(_, package)| package).collect();
            for any in for_building {
                if any.iter().any(|one| own.iter().any(|package| package.offers(one))) {
                    continue;
                }
                needed.push(match self.met_by(release, any) {
                    Some(at) => Needed::Here(at),
                    None => Needed::Missing(any.iter().map(Relation::to_string).collect::<Vec<_>>().join(" | ")),
                });
            }
            return needed;
        }
        let by_name = self.by_names(release);
        let named_with = self.named_with(release, &headers.name, &by_name);
        needed.extend(by_name.into_iter().chain(named_with).map(Needed::Here));
        needed
    }

    /// The package that fulfils any of the relations.
    fn met_by(&self, release: &Release, any: &[Relation]) -> Option<usize> {
        any.iter().find_map(|relation| {
            let candidates = self.by_name.get(&relation.name).into_iter().flatten().copied();
            self.nearest(release, candidates.filter(|at| self.shared[*at].package.offers(relation)))
        })
    }

    fn by_names(&self, release: &Release) -> Vec<usize> {
        match &*release.distribution {
            "suse" => self.suse(release).into_iter().collect(),
            "ubuntu" => self.ubuntu(release).into_iter().collect(),
            "debian" | "gardenlinux" | "linux" => self.debian(release),
            _ => Vec::new(),
        }
    }

    /// What a list names together with a kernel's headers, of the kinds that were not found otherwise.
    fn named_with(&self, release: &Release, headers: &Name, found: &[usize]) -> Vec<usize> {
        let lists = self.together.get(headers).into_iter().flatten();
        let names = lists.flat_map(|list| &self.lists[*list]).filter_map(|name| self.by_name.get(&name.name));
        let fits_in = |at: &usize| {
            let common = &self.shared[*at];
            let Some(
                Shared::DebianCommon { version, .. }
                | Shared::DebianKbuild { version }
                | Shared::UbuntuHeaders { version, .. },
            ) = &common.with
            else {
                return false;
            };
            release.uname.starts_with(&**version)
                && fits(release, &common.package)
                && !found.iter().any(|other| self.shared[*other].role == common.role)
        };
        names.flatten().copied().filter(fits_in).collect()
    }

    fn debian(&self, release: &Release) -> Vec<usize> {
        let words: Vec<&str> = release.uname.split('-').collect();
        let is_set_apart = TOPICS.iter().any(|topic| words.contains(topic));
        let prefixes: Vec<String> = (1..words.len()).rev().map(|end| words[..end].join("-")).collect();
        // Raspberry Pi OS has `-common-rpi` and nothing else for its `rpi-v8`.
        let common = |topical: bool| {
            prefixes.iter().find_map(|prefix| {
                let candidates = self.version(prefix).filter(|at| match &self.shared[*at].with {
                    Some(Shared::DebianCommon { topic, .. }) if topical => words.contains(&&**topic),
                    Some(Shared::DebianCommon { topic, .. }) => topic.is_empty() && !is_set_apart,
                    _ => false,
                });
                self.nearest(release, candidates)
            })
        };
        // The exact version first; else the series, of which one kbuild serves all.
        let series = words[0].split('.').take(2).collect::<Vec<_>>().join(".");
        let kbuild = prefixes.iter().chain([&series]).find_map(|prefix| {
            let candidates =
                self.version(prefix).filter(|at| matches!(self.shared[*at].with, Some(Shared::DebianKbuild { .. })));
            self.nearest(release, candidates.filter(|at| self.shared[*at].role == Role::Kbuild))
        });
        common(true).or_else(|| common(false)).into_iter().chain(kbuild).collect()
    }

    fn ubuntu(&self, release: &Release) -> Option<usize> {
        let flavour = &release.flavour;
        let version = release.uname.strip_suffix(&**flavour)?.strip_suffix('-')?;
        let mut candidates: Vec<(usize, &str)> = self
            .version(version)
            .filter(|at| {
                let package = &self.shared[*at].package;
                package.name.version == release.build && fits(release, package)
            })
            .filter_map(|at| match &self.shared[at].with {
                Some(Shared::UbuntuHeaders { topic, .. }) => Some((at, &**topic)),
                _ => None,
            })
            .collect();
        // `aws-fips` prefers the headers of aws-fips over those of aws; generic kernels come from sources of many names,
        // one of them that of the machine: linux-riscv.
        let named = |topic: &str| {
            !topic.is_empty()
                && (flavour == topic
                    || flavour.strip_prefix(topic).is_some_and(|rest| rest.starts_with('-'))
                    || release.machine.as_str().starts_with(topic))
        };
        candidates.sort_by_key(|(_, topic)| (!named(topic), std::cmp::Reverse(topic.len())));
        candidates
            .into_iter()
            .find(|(_, topic)| named(topic) || GENERIC.iter().any(|word| topic == word || topic.starts_with("lts-")))
            .map(|(at, _)| at)
    }

    /// Headers of the flavour's own source, or else of the one that most flavours have in common.
    fn suse(&self, release: &Release) -> Option<usize> {
        let version = without_rebuild(&release.build);
        let flavour = &release.flavour;
        let own = |topic: &str| {
            !topic.is_empty()
                && (flavour == topic || flavour.strip_prefix(topic).is_some_and(|rest| rest.starts_with(['_', '-'])))
        };
        let of = |wanted: &dyn Fn(&str) -> bool| {
            let candidates = self.version(&version).filter(|at| match &self.shared[*at].with {
                Some(Shared::SuseDevel { topic }) => wanted(topic),
                _ => false,
            });
            self.nearest(release, candidates)
        };
        of(&own).or_else(|| of(&str::is_empty))
    }

    /// `kernel-default-base` has the version of the kernel that it is a part of, and a count of its own behind it.
    fn base(&self, release: &Release) -> Option<usize> {
        let candidates = self.version(BASE).filter(|at| {
            let common = &self.shared[*at];
            let is_of_flavour =
                matches!(&common.with, Some(Shared::SuseBase { flavour }) if *flavour == release.flavour);
            let rest = common.package.name.version.strip_prefix(&*release.build);
            is_of_flavour
                && release.distribution == "suse"
                && fits(release, &common.package)
                && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        candidates.max_by(|a, b| {
            let version = |at: &usize| &*self.shared[*at].package.name.version;
            release.order().compare(version(a), version(b))
        })
    }

    fn version(&self, version: &str) -> impl Iterator<Item = usize> + use<'_> {
        self.by_version.get(version).into_iter().flatten().copied()
    }

    /// The candidate for this machine whose build is nearest: the same, else the first after it, else the last before.
    fn nearest(&self, release: &Release, candidates: impl Iterator<Item = usize>) -> Option<usize> {
        let version = |at: usize| &*self.shared[at].package.name.version;
        let mut fitting: Vec<usize> = candidates.filter(|at| fits(release, &self.shared[*at].package)).collect();
        let order = release.order();
        fitting.sort_by(|a, b| order.compare(version(*a), version(*b)));
        let after = fitting.iter().find(|at| order.compare(version(**at), &release.build).is_ge());
        after.or(fitting.last()).copied()
    }
}

/// Whether a dependency is on headers or build tools that come from a kernel's source.
fn for_building(relation: &Relation, format: Format) -> bool {
    let name = &relation.name;
    match format {
        Format::Deb => {
            name.starts_with("linux-headers-")
                || name.starts_with("linux-kbuild-")
                || name.starts_with("linux-") && name.contains("-headers-")
        }
        Format::Rpm => name.starts_with("kernel-devel") || name.starts_with("kernel-source"),
    }
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

/// Stands for a version of those of which the version does not tell the kernel.
const BASE: &str = "base";
