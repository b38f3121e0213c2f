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

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::thread;

use crate::kernel::package::{Comparison, Format, Package, Relation};
use crate::kernel::release::Machine;
use crate::limits;

/// All packages that may be chosen, for one machine.
pub struct Universe {
    packages: Vec<Package>,
    /// By the name of a package, of something it provides or of a file in it: the best first.
    by_name: HashMap<String, Vec<Offer>>,
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
        Universe { packages, by_name }
    }

    /// The package with a number that [`Universe::resolve`] gave.
    pub fn package(&self, number: usize) -> &Package {
        &self.packages[number]
    }

    /// Whether no relations are known of any package.
    pub fn is_empty(&self) -> bool {
        self.packages.is_empty()
    }

    /// Whether anything here fulfils a relation.
    pub fn offers(&self, relation: &Relation) -> bool {
        !self.offers_for(relation).is_empty()
    }

    /// The packages that are needed, those that were chosen before not among them, in the order they were found.
    pub fn resolve(&self, request: &Request) -> Result<Vec<usize>, Error> {
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
        for any in request.wanted.iter().flat_map(|wanted| rich(wanted, 0, Format::Rpm)) {
            search.needs.push(Need { any, by: None });
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

/// Something that must be there.
#[derive(Clone, Debug)]
struct Need {
    any: Vec<Relation>,
    /// The chosen package that needs it.
    by: Option<usize>,
}

struct Search<'a> {
    universe: &'a Universe,
    provided: &'a BTreeSet<String>,
    chosen: Vec<usize>,
    by_name: HashMap<&'a str, usize>,
    needs: Vec<Need>,
    /// For which package each chosen one was chosen; none for what was wanted.
    because: HashMap<usize, Option<usize>>,
    steps: u32,
}

/// A dead end, and the choices that it hangs on.
struct Failure {
    error: Error,
    involved: BTreeSet<usize>,
}

impl<'a> Search<'a> {
    /// Meets the needs from number `at` on.
    fn meet(&mut self, mut at: usize) -> Result<(), Failure> {
        let need = loop {
            let Some(need) = self.needs.get(at) else { return Ok(()) };
            at += 1;
            if !self.is_met(need) {
                break need.clone();
            }
        };
        self.steps += 1;
        // Each choice is one further call.
        if self.chosen.len() > MOST_CHOSEN {
            return Err(Failure { error: Error::TooMany(MOST_CHOSEN), involved: BTreeSet::new() });
        }
        if self.steps > MOST_STEPS {
            return Err(Failure { error: Error::TooHard(MOST_STEPS), involved: BTreeSet::new() });
        }
        let mut involved: BTreeSet<usize> = need.by.into_iter().collect();
        let (mut conflicts, mut first) = (Vec::new(), None);
        for candidate in self.candidates(&need) {
            if let Some((other, why)) = self.obstacle(candidate) {
                involved.insert(other);
                conflicts.push(why);
                continue;
            }
            let (chosen, needs) = (self.chosen.len(), self.needs.len());
            self.choose(candidate, need.by);
            match self.meet(at) {
                Ok(()) => return Ok(()),
                // It would be the same with any other choice here.
                Err(failure) if !failure.involved.contains(&candidate) => return Err(failure),
                Err(failure) => {
                    involved.extend(failure.involved.into_iter().filter(|number| *number != candidate));
                    first.get_or_insert(failure.error);
                }
            }
            self.chosen.truncate(chosen);
            self.needs.truncate(needs);
            self.by_name.remove(&*self.universe.packages[candidate].name.name);
        }
        let error = first.unwrap_or_else(|| self.explain(&need, conflicts));
        Err(Failure { error, involved })
    }

    fn choose(&mut self, number: usize, by: Option<usize>) {
        let package = &self.universe.packages[number];
        self.chosen.push(number);
        self.by_name.insert(&package.name.name, number);
        self.because.insert(number, by);
        let relations = package.relations.as_ref().expect("others are not in a universe");
        for any in &relations.depends {
            for any in rich(any, 0, package.name.format) {
                self.needs.push(Need { any, by: Some(number) });
            }
        }
    }

    fn is_met(&self, need: &Need) -> bool {
        need.any.iter().any(|relation| {
            self.provided.contains(&relation.name)
                || self.universe.offers_for(relation).iter().any(|offer| self.chosen.contains(&offer.package))
        })
    }

    /// Who could meet a need, the best first: packages of the name before those that only provide it.
    fn candidates(&self, need: &Need) -> Vec<usize> {
        let mut candidates = Vec::new();
        for relation in &need.any {
            let mut offers = self.universe.offers_for(relation);
            offers.sort_by_key(|offer| !offer.is_own_name);
            for offer in offers {
                if !candidates.contains(&offer.package) {
                    candidates.push(offer.package);
                }
            }
        }
        candidates
    }

    /// What stands in the way of choosing a package: which chosen one, and why.
    fn obstacle(&self, number: usize) -> Option<(usize, String)> {
        let package = &self.universe.packages[number];
        if let Some(other) = self.by_name.get(&*package.name.name) {
            let other_name = &self.universe.packages[*other].name;
            let why = format!("{other_name} is needed, too");
            return Some((*other, format!("{}: {why}", package.name)));
        }
        let conflicts = |number: usize| self.universe.packages[number].relations.iter().flat_map(|it| &it.conflicts);
        for relation in conflicts(number) {
            let offers = self.universe.offers_for(relation);
            if let Some(offer) = offers.iter().find(|it| it.package != number && self.chosen.contains(&it.package)) {
                let other = &self.universe.packages[offer.package].name;
                return Some((offer.package, format!("{} conflicts with {relation}, which is {other}", package.name)));
            }
        }
        for other in &self.chosen {
            for relation in conflicts(*other) {
                let concerns = relation.name == package.name.name
                    || package.relations.iter().flat_map(|it| &it.provides).any(|it| it.name == relation.name);
                if concerns && self.universe.offers_for(relation).iter().any(|offer| offer.package == number) {
                    let name = &self.universe.packages[*other].name;
                    return Some((*other, format!("{name} conflicts with {relation}, which is {}", package.name)));
                }
            }
        }
        None
    }

    fn explain(&self, need: &Need, conflicts: Vec<String>) -> Error {
        let text = need.any.iter().map(Relation::to_string).collect::<Vec<_>>().join(" | ");
        let mut chain = vec![text];
        let mut by = need.by;
        while let Some(number) = by {
            let package = &self.universe.packages[number];
            chain.push(package.name.to_string());
            by = self.because.get(&number).copied().flatten();
        }
        chain.reverse();
        if !conflicts.is_empty() {
            return Error::Conflict { chain, conflicts };
        }
        let offers = need.any.iter().flat_map(|it| self.universe.by_name.get(&it.name).into_iter().flatten());
        let offered: BTreeSet<String> =
            offers.map(|offer| self.universe.packages[offer.package].name.to_string()).collect();
        match offered.is_empty() {
            true => Error::Missing { chain },
            false => Error::Version { chain, offered: offered.into_iter().collect() },
        }
    }
}

/// Takes rpm's rich dependencies apart, and leaves out what rpm itself or nothing at all has to fulfil.
fn rich(any: &[Relation], depth: usize, format: Format) -> Vec<Vec<Relation>> {
    let [relation] = any else { return vec![any.to_vec()] };
    if format == Format::Deb {
        return vec![any.to_vec()];
    }
    let name = &relation.name;
    if name.starts_with("rpmlib(") || name.starts_with("config(") {
        return Vec::new();
    }
    let Some(inner) = name.strip_prefix('(').and_then(|name| name.strip_suffix(')')) else {
        return vec![any.to_vec()];
    };
    // Nothing is called so: it is found missing.
    if depth > limits::NESTING {
        return vec![any.to_vec()];
    }
    let parts = top_level(inner);
    let relations =
        |parts: &[String]| -> Vec<Relation> { parts.iter().step_by(2).map(|it| rpm_relation(it)).collect() };
    match parts.get(1).map(String::as_str) {
        None => rich(&[rpm_relation(inner)], depth + 1, format),
        Some("or") => vec![relations(&parts)],
        Some("and" | "with") => {
            relations(&parts).into_iter().flat_map(|part| rich(&[part], depth + 1, format)).collect()
        }
        // `if`, `unless`, `without`: what they hang on is not installed here.
        Some(_) => Vec::new(),
    }
}

/// `a >= 1 or (b and c)`: operands and the operators between them, parentheses kept together.
fn top_level(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0_usize;
    for word in text.split_whitespace() {
        if depth == 0 && matches!(word, "or" | "and" | "with" | "if" | "unless" | "without" | "else") {
            parts.push(word.to_owned());
            parts.push(String::new());
            continue;
        }
        depth = (depth + word.matches('(').count()).saturating_sub(word.matches(')').count());
        let part = parts.last_mut().expect("there is always one");
        if !part.is_empty() {
            part.push(' ');
        }
        part.push_str(word);
    }
    parts
}

/// `name >= 1.0`, as rich dependencies have it.
fn rpm_relation(text: &str) -> Relation {
    let mut words = text.split_whitespace();
    let (name, sign, version) = (words.next(), words.next(), words.next());
    let comparison = match sign {
        Some("=") => Some(Comparison::Equal),
        Some(">=") => Some(Comparison::AtLeast),
        Some("<=") => Some(Comparison::AtMost),
        Some(">") => Some(Comparison::Later),
        Some("<") => Some(Comparison::Earlier),
        _ => None,
    };
    match comparison.zip(version) {
        Some((comparison, version)) if !text.starts_with('(') => {
            Relation { name: name.unwrap_or_default().to_owned(), version: Some((comparison, version.to_owned())) }
        }
        _ => Relation { name: text.to_owned(), version: None },
    }
}

fn is_for(architecture: &str, machine: &Machine) -> bool {
    let Ok(other) = architecture.parse::<Machine>();
    matches!(architecture, "all" | "noarch") || other == *machine
}

/// The version with its epoch.
fn full_version(package: &Package) -> String {
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

/// A toolkit has some 150 packages; going back a few times multiplies that.
const MOST_STEPS: u32 = 200_000;

/// Whole distributions' minimal systems have some 500.
const MOST_CHOSEN: usize = 5 * limits::CHAIN;

/// For so many calls.
const STACK: usize = 32 << 20;

#[cfg(test)]
mod tests;
