//! The search: a need after the other, the best candidate first, back to the choice that a dead end hangs on.

use std::collections::{BTreeSet, HashMap};

use crate::kernel::package::Relation;
use crate::kernel::resolve::rich::{is_path, rich};
use crate::kernel::resolve::{Error, Universe, full_version};
use crate::limits;

/// Something that must be there.
#[derive(Clone, Debug)]
pub(super) struct Need {
    pub(super) any: Vec<Relation>,
    /// Whether somebody asks for it, not a package.
    pub(super) is_asked: bool,
    /// The chosen package that needs it.
    pub(super) by: Option<usize>,
}

pub(super) struct Search<'a> {
    pub(super) universe: &'a Universe,
    pub(super) provided: &'a BTreeSet<String>,
    pub(super) chosen: Vec<usize>,
    pub(super) by_name: HashMap<&'a str, usize>,
    pub(super) needs: Vec<Need>,
    /// For which package each chosen one was chosen; none for what was wanted.
    pub(super) because: HashMap<usize, Option<usize>>,
    pub(super) steps: u32,
}

/// A dead end, and the choices that it hangs on.
pub(super) struct Failure {
    pub(super) error: Error,
    involved: BTreeSet<usize>,
}

impl<'a> Search<'a> {
    /// Meets the needs from number `at` on.
    pub(super) fn meet(&mut self, mut at: usize) -> Result<(), Failure> {
        let need = loop {
            let Some(need) = self.needs.get(at) else { return Ok(()) };
            at += 1;
            if !self.is_met(need) {
                break need.clone();
            }
        };
        self.steps += 1;
        // Each choice is one further call.
        if self.chosen.len() > limits::CHOSEN {
            return Err(Failure { error: Error::TooMany(limits::CHOSEN), involved: BTreeSet::new() });
        }
        if self.steps > limits::SEARCHED {
            return Err(Failure { error: Error::TooHard(limits::SEARCHED), involved: BTreeSet::new() });
        }
        let mut involved: BTreeSet<usize> = need.by.into_iter().collect();
        let (mut conflicts, mut first) = (Vec::new(), None);
        let candidates = self.candidates(&need);
        // Whether anything else would do is seen when all paths are known.
        if candidates.is_empty()
            && self.universe.has_unread_files
            && let Some(path) = need.any.iter().find(|it| is_path(it))
        {
            let error = Error::UnreadFiles { path: path.name.clone() };
            return Err(Failure { error, involved: BTreeSet::new() });
        }
        for candidate in candidates {
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
            // All that was chosen behind it is undone, also where the dead end led over several choices at once.
            for number in self.chosen.split_off(chosen) {
                self.by_name.remove(&*self.universe.packages[number].name.name);
            }
            self.needs.truncate(needs);
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
                self.needs.push(Need { any, is_asked: false, by: Some(number) });
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
        // As dnf: of those that would do, none that another one replaces; and what was asked for by a name is what took its place.
        if need.is_asked {
            for relation in &need.any {
                let successors = self.universe.obsoleting(&relation.name);
                candidates.splice(0..0, successors.filter(|it| self.obsoletes_any(*it, relation)));
            }
            let mut seen = BTreeSet::new();
            candidates.retain(|candidate| seen.insert(*candidate));
        }
        let all = candidates.clone();
        candidates.retain(|one| !all.iter().any(|other| other != one && self.obsoletes(*other, *one)));
        candidates
    }

    /// Whether a package replaces another: by its name, whatever that one provides.
    fn obsoletes(&self, number: usize, other: usize) -> bool {
        let (package, other) = (&self.universe.packages[number], &self.universe.packages[other]);
        let order = other.name.format.order();
        let is_replaced = |it: &Relation| {
            it.name == other.name.name
                && it.version.as_ref().is_none_or(|(comparison, bound)| {
                    comparison.holds(order.compare_with_bound(&full_version(other), bound))
                })
        };
        package.name.name != other.name.name && package.relations.iter().flat_map(|it| &it.obsoletes).any(is_replaced)
    }

    /// Whether a package replaces any package that would fulfil a relation by its name.
    fn obsoletes_any(&self, number: usize, relation: &Relation) -> bool {
        let offers = self.universe.offers_for(relation);
        offers.iter().filter(|offer| offer.is_own_name).any(|offer| self.obsoletes(number, offer.package))
    }

    /// What stands in the way of choosing a package: which chosen one, and why.
    fn obstacle(&self, number: usize) -> Option<(usize, String)> {
        let package = &self.universe.packages[number];
        if let Some(other) = self.by_name.get(&*package.name.name) {
            let other_name = &self.universe.packages[*other].name;
            let why = format!("{other_name} is needed, too");
            return Some((*other, format!("{}: {why}", package.name)));
        }
        if let Some(other) = self.chosen.iter().find(|other| self.obsoletes(number, **other)) {
            let replaced = &self.universe.packages[*other].name;
            return Some((*other, format!("{} replaces {replaced}", package.name)));
        }
        if let Some(other) = self.chosen.iter().find(|other| self.obsoletes(**other, number)) {
            let name = &self.universe.packages[*other].name;
            return Some((*other, format!("{name} replaces {}", package.name)));
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
