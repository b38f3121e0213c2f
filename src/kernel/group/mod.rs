//! Packages joined into kernels.
//!
//! What belongs to one kernel is joined by release. What several share ([`shared`]) is joined by what the headers depend
//! on, where metadata is there, and by name where it is not. Machines and builds are never mixed.
//!
//! Kernels that are placed already, as a kernel set states them, keep what they have: nothing of it is joined by name
//! again. Other packages may only be added to them.

mod shared;

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::kernel::classify::{Class, Reason, Role, classify, told_release};
use crate::kernel::group::shared::{Needed, Pool};
use crate::kernel::package::{Name, Package};
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

/// What sources offer.
#[derive(Clone, Debug, Default)]
pub struct Offer {
    /// Packages of which nobody said to which kernel they belong.
    pub packages: Vec<Package>,
    /// Kernels with their packages, as kernel sets state them.
    pub placed: Vec<Kernel>,
    /// Packages that a list names together: a kernel that lacks headers it shares takes those that are named with it.
    pub together: Vec<Vec<Name>>,
}

/// What became of a list of packages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grouping {
    /// The kernels, sorted.
    pub kernels: Vec<Kernel>,
    /// What belongs to no kernel, sorted by name, each with the reason.
    pub unplaced: Vec<(Package, Reason)>,
    /// Packages that have the name of another one and other content; the first one was taken. They are unplaced, too.
    pub conflicts: Vec<Package>,
}

impl From<Vec<Package>> for Offer {
    fn from(packages: Vec<Package>) -> Self {
        Offer { packages, ..Offer::default() }
    }
}

impl Offer {
    /// Takes in what another source offers.
    pub fn extend(&mut self, other: Offer) {
        self.packages.extend(other.packages);
        self.placed.extend(other.placed);
        self.together.extend(other.together);
    }

    /// All packages, those of kernels, too, without saying which.
    pub fn into_packages(self) -> Vec<Package> {
        let placed = self.placed.into_iter().flat_map(|kernel| kernel.packages).map(|(_, package)| package);
        placed.chain(self.packages).collect()
    }
}

/// A kernel that packages are added to.
#[derive(Default)]
struct Draft {
    packages: Vec<(Role, Package)>,
    missing: Vec<String>,
    /// Whether a set states what belongs to it, and nothing was added.
    is_stated: bool,
}

/// Joins packages into kernels. Several packages with one name and the same or unknown content count once, the first.
pub fn group(offer: impl Into<Offer>) -> Grouping {
    let Offer { packages, placed, together } = offer.into();
    let mut grouping = Grouping::default();
    let mut once = Once::default();
    let mut drafts: BTreeMap<Release, Draft> = BTreeMap::new();
    let mut pool = Pool::new(together);
    for package in placed.iter().flat_map(|kernel| &kernel.packages).map(|(_, package)| package).chain(&packages) {
        once.offer(package);
    }
    let mut stated: HashSet<Name> = HashSet::new();
    for Kernel { release, packages, missing } in placed {
        let draft = drafts.entry(release).or_insert_with(|| Draft { is_stated: true, ..Draft::default() });
        for (role, package) in packages {
            let package = once.resolve(package, &mut grouping.conflicts);
            if stated.insert(package.name.clone())
                && let Class::Shared { with, .. } = classify(&package)
            {
                pool.add(package.clone(), with, role, true);
            }
            draft.packages.push((role, package));
        }
        draft.missing.extend(missing);
    }
    let mut seen: HashSet<Name> = HashSet::new();
    let mut classified: Vec<(Package, Class)> = Vec::new();
    // What one package of a build tells of its release holds for those that do not tell.
    let mut told: HashMap<Build, String> = HashMap::new();
    for package in packages {
        let package = once.resolve(package, &mut grouping.conflicts);
        // What a set says of a package holds, whatever its name would say.
        if stated.contains(&package.name) || !seen.insert(package.name.clone()) {
            continue;
        }
        let class = classify(&package);
        if let (Class::Kernel { release, .. }, Some(uname)) = (&class, told_release(&package)) {
            told.insert(build(release), uname.to_owned());
        }
        classified.push((package, class));
    }
    for (package, class) in classified {
        match class {
            Class::Kernel { release, role } => {
                let uname = match told_release(&package) {
                    Some(_) => None,
                    None => told.get(&build(&release)).cloned(),
                };
                let release = Release { uname: uname.unwrap_or_else(|| release.uname.clone()), ..release };
                let draft = drafts.entry(release).or_default();
                draft.is_stated = false;
                draft.packages.push((role, package));
            }
            Class::Shared { with, role } => pool.add(package, with, role, false),
            Class::Ignored(reason) => {
                grouping.unplaced.extend(pool.add_unnamed(package, reason).map(|package| (package, reason)));
            }
        }
    }
    for (release, Draft { mut packages, missing: lacked, is_stated }) in drafts {
        without_unsigned_twins(&mut packages, &mut grouping.unplaced);
        let needed = pool.lacked(&release, &lacked);
        let needed = needed.into_iter().chain(if is_stated { Vec::new() } else { pool.needed(&release, &packages) });
        let mut missing = Vec::new();
        for needed in needed {
            match needed {
                // What a set states stays, though another build of it may be nearer.
                Needed::Here(at) if packages.iter().any(|(_, package)| package.name.name == *pool.name(at)) => {}
                Needed::Here(at) => packages.push(pool.take(at)),
                Needed::Missing(what) => missing.push(what),
            }
        }
        packages.sort_by(|a, b| (a.0, &a.1.name).cmp(&(b.0, &b.1.name)));
        packages.dedup_by(|a, b| a.1.name == b.1.name);
        missing.sort();
        missing.dedup();
        grouping.kernels.push(Kernel { release, packages, missing });
    }
    grouping.unplaced.extend(pool.unused());
    grouping.unplaced.extend(grouping.conflicts.iter().map(|package| (package.clone(), Reason::Conflict)));
    grouping.unplaced.sort_by(|a, b| (&a.0.name, &a.0.location).cmp(&(&b.0.name, &b.0.location)));
    grouping
}

/// What sets a kernel apart, but for its release: distribution, machine, flavour and version.
type Build = (String, Machine, String, String);

fn build(release: &Release) -> Build {
    let Release { distribution, machine, flavour, build, .. } = release.clone();
    (distribution, machine, flavour, build)
}

/// Of each name the package that counts.
#[derive(Default)]
struct Once(HashMap<Name, Package>);

impl Once {
    fn offer(&mut self, package: &Package) {
        match self.0.get_mut(&package.name) {
            None => {
                self.0.insert(package.name.clone(), package.clone());
            }
            // A source that knows the digest is worth more than one that does not.
            Some(first) if first.sha256.is_none() && package.sha256.is_some() => *first = package.clone(),
            Some(first) if !first.has_digest() && package.has_digest() => *first = package.clone(),
            Some(_) => {}
        }
    }

    /// The package itself, or what counts instead of it.
    fn resolve(&self, package: Package, conflicts: &mut Vec<Package>) -> Package {
        let first = &self.0[&package.name];
        match (&first.sha256, &package.sha256) {
            (Some(a), Some(b)) if a != b => {
                conflicts.push(package);
                first.clone()
            }
            (Some(_), None) => first.clone(),
            (None, None) if first.has_digest() && !package.has_digest() => first.clone(),
            _ => package,
        }
    }
}

/// An unsigned image has the files of the signed one; together they would contradict each other.
fn without_unsigned_twins(packages: &mut Vec<(Role, Package)>, unplaced: &mut Vec<(Package, Reason)>) {
    let names: HashSet<String> = packages.iter().map(|(_, package)| package.name.name.clone()).collect();
    let is_twin = |(role, package): &mut (Role, Package)| {
        let name = &package.name.name;
        let unsigned = name
            .strip_suffix("-unsigned")
            .map(str::to_owned)
            .or_else(|| name.strip_prefix("linux-image-unsigned-").map(|release| format!("linux-image-{release}")));
        let signed = unsigned.is_some_and(|signed| names.contains(&signed));
        *role == Role::Image && (signed || names.contains(&format!("{name}-signed")))
    };
    unplaced.extend(packages.extract_if(.., is_twin).map(|(_, package)| (package, Reason::Unsigned)));
}

#[cfg(test)]
mod tests;
