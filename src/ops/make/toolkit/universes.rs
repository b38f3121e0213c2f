//! The packages that a toolkit is chosen from, for each machine, and what is needed to know of their files.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use crate::http::HttpOptions;
use crate::kernel::package::{Name, Package, Relation};
use crate::kernel::release::Machine;
use crate::kernel::resolve::{self, Request, Universe};
use crate::kernel::source::SourceOptions;
use crate::kernel::source::filelists::FileList;
use crate::ops::Error;
use crate::ops::gather;

/// All packages of the sources. A package has the same number in every universe of a machine.
pub(super) struct Universes<'a> {
    all: Vec<Package>,
    lists: Vec<FileList>,
    /// The files that the definition asks for, whoever has them.
    asked: BTreeSet<String>,
    /// How the lists are reached.
    from: &'a SourceOptions,
    http: &'a HttpOptions,
    read: Mutex<Read>,
}

/// What was read so far.
#[derive(Default)]
struct Read {
    universes: BTreeMap<Machine, Arc<Universe>>,
    /// The machines for which no path is unknown any more.
    known: BTreeSet<Machine>,
    /// Files that their packages do not say they have.
    owned: HashMap<Name, Vec<String>>,
}

impl<'a> Universes<'a> {
    /// `asked` are names and files that the definition asks for.
    pub(super) fn new(
        all: Vec<Package>,
        lists: Vec<FileList>,
        asked: impl Iterator<Item = Relation>,
        from: &'a SourceOptions,
        http: &'a HttpOptions,
    ) -> Self {
        let asked = asked.map(|relation| relation.name).filter(|name| name.starts_with('/')).collect();
        Universes { all, lists, asked, from, http, read: Mutex::default() }
    }

    /// The packages for a machine.
    pub(super) fn of(&self, machine: &Machine) -> Arc<Universe> {
        let mut read = self.read.lock().expect("no holder panics");
        self.universe(&mut read, machine)
    }

    /// What is needed, by the numbers of [`Universes::of`]. The lists of files are read when somebody needs a file that no package
    /// says it has.
    pub(super) fn resolve(&self, machine: &Machine, request: &Request) -> Result<Vec<usize>, Error> {
        match self.of(machine).resolve(request) {
            Err(resolve::Error::UnreadFiles { path }) => {
                tracing::info!("{path} is needed: reading the repositories' lists of files");
                self.read_files(machine)?;
                Ok(self.of(machine).resolve(request)?)
            }
            answer => Ok(answer?),
        }
    }

    fn universe(&self, read: &mut Read, machine: &Machine) -> Arc<Universe> {
        if let Some(there) = read.universes.get(machine) {
            return there.clone();
        }
        let mut packages = self.all.clone();
        for package in &mut packages {
            let paths = read.owned.get(&package.name).into_iter().flatten();
            if let Some(relations) = &mut package.relations {
                relations.provides.extend(paths.map(|path| Relation { name: path.clone(), version: None }));
            }
        }
        let universe = Universe::new(packages, machine);
        let is_known = self.lists.is_empty() || read.known.contains(machine);
        let universe = Arc::new(if is_known { universe } else { universe.with_unread_files() });
        read.universes.insert(machine.clone(), universe.clone());
        universe
    }

    /// Reads who has the files that packages for a machine need and none says it has, all at once.
    fn read_files(&self, machine: &Machine) -> Result<(), Error> {
        // Held, so that nobody reads them twice.
        let mut read = self.read.lock().expect("no holder panics");
        if read.known.contains(machine) {
            return Ok(());
        }
        let universe = self.universe(&mut read, machine);
        let mut paths = universe.unknown_paths();
        let is_unknown = |path: &String| !universe.offers(&Relation { name: path.clone(), version: None });
        paths.extend(self.asked.iter().filter(|path| is_unknown(path)).cloned());
        paths.extend(read.owned.values().flatten().cloned());
        let mut owned: HashMap<Name, Vec<String>> = HashMap::new();
        for (name, path) in gather::owners(self.from, &self.lists, &paths, self.http)? {
            owned.entry(name).or_default().push(path);
        }
        read.owned = owned;
        read.known.insert(machine.clone());
        read.universes.remove(machine);
        Ok(())
    }
}
