//! Which packages are needed beside those that are wanted, told from what each says about others.
//!
//! ```text
//! wanted: gcc, make      universe: all packages of the sources      ─►  gcc, gcc-12, cpp-12, libc6, … in a fixed order
//! ```
//!
//! A requirement is met by a package of that name, by one that provides it, or, for an rpm, by one that has the file. Of
//! several the newest is tried first, of several names the first one written; the same universe gives the same answer,
//! whatever the order it was listed in. Where a choice leads to a dead end, the search goes back to the choice that the
//! dead end hangs on, not through all combinations. What cannot be had is explained by the chain that leads to it.
//!
//! Only one version of a name is chosen. Scripts, triggers and `Recommends` play no part. Of rpm's rich dependencies
//! `(a or b)`, `(a and b)` and `(a with b)` are read; conditional ones (`if`, `unless`) are taken for fulfilled.

mod rich;
mod search;

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::thread;

use crate::kernel::package::{Format, Package, Relation};
use crate::kernel::release::Machine;
use crate::kernel::resolve::rich::{is_path, rich};
use crate::kernel::resolve::search::{Need, Search};

/// All packages that may be chosen, for one machine.
pub struct Universe {
    packages: Vec<Package>,
    /// By the name of a package, of something it provides or of a file in it: the best first.
    by_name: HashMap<String, Vec<Offer>>,
    /// By the name of a package that they replace.
    obsoleting: HashMap<String, Vec<usize>>,
    /// Whether there are files that no package here is known to have.
    has_unread_files: bool,
}

/// A package that goes by a name, with the version under which it does.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Offer {
    package: usize,
    version: Option<String>,
    is_own_name: bool,
}

/// What is wanted.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// All of these, each of them any one of several.
    pub wanted: Vec<Vec<Relation>>,
    /// What packages need that are there already: all of these, each any one of several.
    pub needed: Vec<Vec<Relation>>,
    /// What is there already, by the name of a package, a capability or a path: not chosen and not looked at further.
    pub provided: BTreeSet<String>,
    /// Packages that are there already and count as chosen, as an earlier answer gave them.
    pub chosen: Vec<usize>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing offers it.
    #[error("{}: no source has it", Chain(chain))]
    Missing {
        /// What leads to it, from what was wanted to what is missing.
        chain: Vec<String>,
    },
    /// It is offered in other versions only.
    #[error("{}: the sources have only {}", Chain(chain), offered.join(", "))]
    Version {
        /// What leads to it.
        chain: Vec<String>,
        /// The versions that are offered.
        offered: Vec<String>,
    },
    /// Several things cannot be had, each with its own reason.
    #[error("{}", all(.0))]
    Several(Vec<Error>),
    /// It is a file, and only lists of files that were not read may tell who has it ([`Universe::with_unread_files`]).
    #[error("{path}: the lists of files were not read")]
    UnreadFiles {
        /// Its path.
        path: String,
    },
    /// What is offered cannot be beside what else is needed.
    #[error("{}: {}", Chain(chain), conflicts.join(", "))]
    Conflict {
        /// What leads to it.
        chain: Vec<String>,
        /// Each candidate with what stands in its way.
        conflicts: Vec<String>,
    },
    /// More is needed than an image of packages has.
    #[error("more than {0} packages are needed")]
    TooMany(usize),
    /// The search was given up.
    #[error("no answer after {0} steps")]
    TooHard(u32),
}

/// Those that are simply not there in one list, then the others.
fn all(errors: &[Error]) -> String {
    let (mut names, mut others) = (Vec::new(), Vec::new());
    for error in errors {
        match error {
            Error::Missing { chain } if chain.len() == 1 => names.push(chain[0].as_str()),
            other => others.push(other.to_string()),
        }
    }
    let missing = match names.len() {
        0 => None,
        1 => Some(format!("{}: no source has it", names[0])),
        _ => Some(format!("{}: no source has them", names.join(", "))),
    };
    missing.into_iter().chain(others).collect::<Vec<_>>().join("; ")
}

struct Chain<'a>(&'a [String]);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" needs "))
    }
}

impl Universe {
    /// Puts packages in order. Those of other machines, and those of which no relations are known, are left out.
    pub fn new(packages: Vec<Package>, machine: &Machine) -> Self {
        let mut packages: Vec<Package> = packages
            .into_iter()
            .filter(|package| package.relations.is_some() && is_for(&package.name.architecture, machine))
            .collect();
        packages.sort_by(|a, b| {
            a.name.name.cmp(&b.name.name).then_with(|| compare(b, a)).then_with(|| a.name.cmp(&b.name))
        });
        // One package from several sources.
        packages.dedup_by(|b, a| a.name == b.name);
        let mut by_name: HashMap<String, Vec<Offer>> = HashMap::new();
        for (at, package) in packages.iter().enumerate() {
            let offer = Offer { package: at, version: Some(full_version(package)), is_own_name: true };
            by_name.entry(package.name.name.clone()).or_default().push(offer);
        }
        for (at, package) in packages.iter().enumerate() {
            for provided in package.relations.iter().flat_map(|relations| &relations.provides) {
                if provided.name == package.name.name {
                    continue;
                }
                let version = provided.version.as_ref().map(|(_, version)| version.clone());
                let offer = Offer { package: at, version, is_own_name: false };
                let offers = by_name.entry(provided.name.clone()).or_default();
                if offers.last() != Some(&offer) {
                    offers.push(offer);
                }
            }
        }
        let mut obsoleting: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, package) in packages.iter().enumerate() {
            for obsoleted in package.relations.iter().flat_map(|relations| &relations.obsoletes) {
                obsoleting.entry(obsoleted.name.clone()).or_default().push(at);
            }
        }
        Universe { packages, by_name, obsoleting, has_unread_files: false }
    }

    /// The same, where a path that no package is known to have is no reason to give up: it ends the search with
    /// [`Error::UnreadFiles`].
    #[must_use]
    pub fn with_unread_files(self) -> Self {
        Universe { has_unread_files: true, ..self }
    }

    /// The files that packages need and none is known to have.
    pub fn unknown_paths(&self) -> BTreeSet<String> {
        let mut paths = BTreeSet::new();
        for package in self.packages.iter().filter(|package| package.name.format == Format::Rpm) {
            for any in package.relations.iter().flat_map(|relations| &relations.depends) {
                let needed = rich(any, 0, Format::Rpm).into_iter().flatten();
                let unknown = needed.filter(|it| is_path(it) && !self.by_name.contains_key(&it.name));
                paths.extend(unknown.map(|relation| relation.name));
            }
        }
        paths
    }

    /// The packages that replace those of a name, the best first.
    fn obsoleting(&self, name: &str) -> impl Iterator<Item = usize> + '_ {
        self.obsoleting.get(name).into_iter().flatten().copied()
    }

    /// The package with a number that [`Universe::resolve`] gave.
    pub fn package(&self, number: usize) -> &Package {
        &self.packages[number]
    }

    /// The packages of a name, the newest first.
    pub fn named(&self, name: &str) -> impl Iterator<Item = &Package> {
        let offers = self.by_name.get(name).into_iter().flatten().filter(|offer| offer.is_own_name);
        offers.map(|offer| &self.packages[offer.package])
    }

    /// Whether no relations are known of any package.
    pub fn is_empty(&self) -> bool {
        self.packages.is_empty()
    }

    /// Whether anything here fulfils a relation.
    pub fn offers(&self, relation: &Relation) -> bool {
        !self.offers_for(relation).is_empty()
    }

    /// The packages that are needed, those that were chosen before not among them, in the order they were found. What is missing is
    /// all in the error.
    pub fn resolve(&self, request: &Request) -> Result<Vec<usize>, Error> {
        match self.search(request) {
            Err(error @ (Error::Missing { .. } | Error::Version { .. })) => Err(self.all_missing(request, error)),
            answer => answer,
        }
    }

    /// All of a request that cannot be had, and not only the `first`: what is missing is taken for there, and the search goes on.
    fn all_missing(&self, request: &Request, first: Error) -> Error {
        let mut request = request.clone();
        let (mut errors, mut next) = (Vec::new(), first);
        loop {
            let chain = match &next {
                Error::UnreadFiles { .. } => return next,
                Error::Missing { chain } | Error::Version { chain, .. } => chain,
                _ => break,
            };
            let missing = chain.last().and_then(|text| text.split(' ').next()).unwrap_or_default().to_owned();
            // One that does not go away is a name that the search knows in another way.
            if !request.provided.insert(missing) || errors.len() == MOST_MISSING {
                break;
            }
            errors.push(next);
            match self.search(&request) {
                Ok(_) => break,
                Err(error) => next = error,
            }
        }
        if errors.len() == 1 { errors.remove(0) } else { Error::Several(errors) }
    }

    fn search(&self, request: &Request) -> Result<Vec<usize>, Error> {
        let mut search = Search {
            universe: self,
            provided: &request.provided,
            chosen: request.chosen.clone(),
            by_name: HashMap::new(),
            needs: Vec::new(),
            because: HashMap::new(),
            steps: 0,
        };
        for number in &request.chosen {
            search.by_name.insert(&self.packages[*number].name.name, *number);
        }
        for (list, is_asked) in [(&request.wanted, true), (&request.needed, false)] {
            for any in list.iter().flat_map(|wanted| rich(wanted, 0, Format::Rpm)) {
                search.needs.push(Need { any, is_asked, by: None });
            }
        }
        // As deep as there are packages to choose, on a stack that has room for it.
        let met = thread::scope(|scope| {
            let thread = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || search.meet(0));
            thread.expect("a thread can be started").join().expect("a search does not panic")
        });
        met.map_err(|failure| failure.error)?;
        Ok(search.chosen.split_off(request.chosen.len()))
    }

    fn offers_for(&self, relation: &Relation) -> Vec<Offer> {
        let offers = self.by_name.get(&relation.name).into_iter().flatten();
        offers.filter(|offer| self.admits(relation, offer)).cloned().collect()
    }

    fn admits(&self, relation: &Relation, offer: &Offer) -> bool {
        let Some((comparison, bound)) = &relation.version else { return true };
        let format = self.packages[offer.package].name.format;
        match &offer.version {
            Some(version) => comparison.holds(format.order().compare_with_bound(version, bound)),
            // Debian: what is provided without a version fulfils no bound (policy 7.5); rpm: any.
            None => format == Format::Rpm,
        }
    }
}

fn is_for(architecture: &str, machine: &Machine) -> bool {
    let Ok(other) = architecture.parse::<Machine>();
    matches!(architecture, "all" | "noarch") || other == *machine
}

/// The version with its epoch.
pub fn full_version(package: &Package) -> String {
    match package.relations.as_ref().map_or(0, |relations| relations.epoch) {
        0 => package.name.version.clone(),
        epoch => format!("{epoch}:{}", package.name.version),
    }
}

fn compare(a: &Package, b: &Package) -> Ordering {
    a.name.format.order().compare(&full_version(a), &full_version(b))
}

/// Reads what a definition asks for: `gcc`, `gcc (>= 12)`, `mawk | gawk`.
pub fn wanted(text: &str) -> Vec<Relation> {
    text.split('|').filter_map(Relation::from_deb).collect()
}

/// So many things that are missing are named.
const MOST_MISSING: usize = 50;

/// For so many calls.
const STACK: usize = 32 << 20;

#[cfg(test)]
mod tests;
