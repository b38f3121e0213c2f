//! Why sources have no kernel that was asked for, with those that they have.

use std::collections::BTreeSet;
use std::fmt;

use crate::kernel::classify::{Reason, Role};
use crate::kernel::group::Kernel;
use crate::kernel::package::Package;
use crate::kernel::set::Filter;
use crate::plural::count;

/// Why nothing was found.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NothingFound {
    /// The sources are empty.
    #[error("no package was found")]
    NoPackage,
    /// What could be read is empty; what could not was warned of.
    #[error("no package was found in what could be read of the sources")]
    NothingRead,
    /// There are packages, of which none is of a kernel.
    #[error("no kernel is in the {} found: {}", count(*packages, "package"), first(unplaced, *packages))]
    NoKernel {
        /// How many there are.
        packages: usize,
        /// The first ones, each with what it is.
        unplaced: Vec<String>,
    },
    /// There are kernels, and others were asked for.
    #[error("{}{}", others_found(*kernels), first(there, *kernels))]
    NotAskedFor {
        /// How many there are.
        kernels: usize,
        /// The newest ones.
        there: Vec<String>,
        /// The options that say which are wanted.
        by: Vec<&'static str>,
    },
    /// The kernels have packages, and none of a role that was asked for.
    #[error("no package of these kernels has the role {}; they have {}", names(wanted), names(there))]
    NoRole {
        /// The roles that were asked for.
        wanted: BTreeSet<Role>,
        /// Those that there are.
        there: BTreeSet<Role>,
    },
}

impl NothingFound {
    /// Why no kernel is in what was found.
    pub(crate) fn no_kernel(packages: usize, unplaced: &[(Package, Reason)]) -> Self {
        let named = unplaced.iter().take(SAID).map(|(package, reason)| format!("{} ({reason})", package.name));
        NothingFound::NoKernel { packages, unplaced: named.collect() }
    }

    /// Why none of these kernels, of which the newest are `there`, is wanted.
    pub(crate) fn not_asked_for(kernels: usize, there: Vec<String>, filter: &Filter) -> Self {
        let Filter { releases, since, machines, flavours, latest } = filter;
        let by = [
            ("--release", !releases.is_empty()),
            ("--since", since.is_some()),
            ("--arch", !machines.is_empty()),
            ("--flavour", !flavours.is_empty()),
            ("--latest", *latest == Some(0)),
        ];
        let by = by.into_iter().filter(|(_, chooses)| *chooses).map(|(option, _)| option);
        NothingFound::NotAskedFor { kernels, there, by: by.collect() }
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            NothingFound::NotAskedFor { by, .. } => {
                let by: Vec<String> = by.iter().map(|option| format!("`{option}`")).collect();
                let by = match &by[..] {
                    [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
                    few => few.concat(),
                };
                Some(format!("check {by}; `haversack kernel list SOURCE…` alone lists all kernels"))
            }
            NothingFound::NoPackage
            | NothingFound::NothingRead
            | NothingFound::NoKernel { .. }
            | NothingFound::NoRole { .. } => None,
        }
    }
}

/// The newest of some sorted kernels, each with its machine and flavour.
pub(crate) fn newest(kernels: &[Kernel]) -> Vec<String> {
    let named = kernels.iter().rev().take(SAID);
    named
        .map(|Kernel { release, .. }| format!("{} ({}, {})", release.uname, release.machine, release.flavour))
        .collect()
}

fn others_found(kernels: usize) -> String {
    match kernels {
        1 => "the one kernel found was not asked for: ".to_owned(),
        several => format!("none of the {several} kernels found was asked for; they are "),
    }
}

/// The first ones, and how many more there are.
fn first(named: &[String], all: usize) -> String {
    let more = all.saturating_sub(named.len());
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    named.join(", ") + &rest
}

/// Roles with commas between.
fn names(roles: &BTreeSet<Role>) -> impl fmt::Display + use<> {
    roles.iter().map(|role| role.name()).collect::<Vec<_>>().join(", ")
}

/// So many are named.
const SAID: usize = 8;
