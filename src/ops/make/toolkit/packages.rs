//! Layers of packages: sources read, dependencies resolved, packages fetched and unpacked, each once for all images.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rayon::prelude::*;

use crate::fs::{self, PathContext};
use crate::http::Http;
use crate::image::build::definition::{KernelsDefinition, PackagesDefinition};
use crate::image::build::sbom::Component;
use crate::image::layer::tree::{Kind, Node};
use crate::image::{Definition, Part, Tree};
use crate::kernel::classify::Role;
use crate::kernel::download::{self, FetchOptions};
use crate::kernel::group::Kernel;
use crate::kernel::layer::{self, Placement};
use crate::kernel::package::{Format, Name, Package};
use crate::kernel::release::Machine;
use crate::kernel::resolve::{Request, Universe, wanted};
use crate::kernel::set::{Filter, KernelSet, Mirrors};
use crate::kernel::source::{SourceOptions, Wanted};
use crate::kernel::unpack::{self, UnpackOptions};
use crate::ops::gather::{self, Gathered};
use crate::ops::make::MakeOptions;
use crate::ops::make::toolkit::compiler;
use crate::ops::make::toolkit::universes::Universes;
use crate::ops::{Error, block_on};
use crate::progress::Progress;

/// A package as the SBOM has it: with its package URL, its digest and where it came from.
fn component(package: &Package, distribution: &str) -> Component {
    let Name { name, version, architecture, format } = &package.name;
    let vendor = match distribution {
        "el" => "redhat",
        "ol" => "oracle",
        other => other,
    };
    let epoch = package.relations.as_ref().map_or(0, |relations| relations.epoch);
    let (kind, version, qualifier) = match (format, epoch) {
        (Format::Rpm, 0) => ("rpm", version.clone(), String::new()),
        (Format::Rpm, epoch) => ("rpm", version.clone(), format!("&epoch={epoch}")),
        (Format::Deb, 0) => ("deb", version.clone(), String::new()),
        (Format::Deb, epoch) => ("deb", format!("{epoch}:{version}"), String::new()),
    };
    let plain = |text: &str| text.replace('%', "%25").replace('+', "%2B").replace(':', "%3A").replace('^', "%5E");
    let purl = format!("pkg:{kind}/{vendor}/{}@{}?arch={architecture}{qualifier}", plain(name), plain(&version));
    // Neither a path of this machine nor a token that came with a URL is anybody's business.
    let source = package.location.parse::<url::Url>().ok().filter(|url| url.has_host()).map(|mut url| {
        url.set_query(None);
        let _ = url.set_password(None).and_then(|()| url.set_username(""));
        url.to_string()
    });
    Component {
        name: name.clone(),
        version: Some(version),
        purl: Some(purl),
        digest: package.sha256.clone(),
        source,
        purpose: "INSTALL",
        linked: Vec::new(),
    }
}

/// What the sources offer, and what was made of it so far.
pub(crate) struct Packages<'a> {
    /// The kernels, sorted.
    pub(crate) kernels: Vec<Kernel>,
    /// Whether all sources could be read.
    pub(crate) complete: bool,
    mirrors: Vec<Mirrors>,
    universes: Universes<'a>,
    tools: Mutex<Vec<(ToolsKey, Arc<Tools>)>>,
    unpacked: layer::Unpacked,
    cache: PathBuf,
    options: &'a MakeOptions,
    progress: &'a Progress,
}

/// What an image of one kernel is made of.
pub(crate) struct OfKernel {
    /// By the number of the layer.
    pub(crate) parts: BTreeMap<usize, Vec<Part>>,
    /// What is wrong with it.
    pub(crate) lacks: Vec<String>,
}

/// A layer of tools, the same for all kernels that were compiled with the same compiler.
struct Tools {
    tree: Tree,
    chosen: Vec<usize>,
    /// What is wrong with the compilers.
    lacks: Vec<String>,
}

#[derive(Clone, PartialEq, Eq)]
struct ToolsKey {
    layer: usize,
    machine: Machine,
    format: Format,
    compiler: Option<String>,
    below: Vec<usize>,
}

impl<'a> Packages<'a> {
    /// Reads the sources. `scratch` is where packages are unpacked.
    pub(crate) fn read(
        options: &'a MakeOptions,
        definition: &Definition,
        machines: &[Machine],
        scratch: &Path,
        progress: &'a Progress,
    ) -> Result<Self, Error> {
        let mut roles = definition.layers.iter().filter_map(|layer| layer.kernels.as_ref()).flat_map(|it| &it.roles);
        if let Some(role) = roles.find(|role| Role::ALL.iter().all(|known| known.name() != role.as_str())) {
            return Err(Error::UnknownRole { image: definition.name.clone(), role: role.clone() });
        }
        let from = &options.packages.kernels;
        if from.is_empty() {
            return Err(Error::NoKernelSource { image: definition.name.clone() });
        }
        let http = &options.source.http;
        let for_machines = |from: &SourceOptions| SourceOptions {
            filter: Filter { machines: machines.to_vec(), ..from.filter.clone() },
            ..from.clone()
        };
        let found = gather::kernels(&for_machines(from), http, progress)?.or_nothing()?;
        let Gathered { kernels, mut mirrors, mut complete, unchecked, .. } = found;
        let (mut all, mut lists) = (Vec::new(), Vec::new());
        let others = options.packages.packages.as_ref().unwrap_or(from);
        if definition.layers.iter().any(|layer| layer.packages.is_some()) {
            let found = gather::offer(&for_machines(others), Wanted::All, http, progress)?;
            lists = found.files;
            complete &= found.complete;
            let others = found.unchecked.iter().filter(|place| !unchecked.contains(place));
            gather::warn_of_unchecked(&others.collect::<Vec<_>>());
            all = found.offer.into_packages();
            mirrors.extend(found.mirrors);
        }
        all.extend(kernels.iter().flat_map(|kernel| &kernel.packages).map(|(_, package)| package.clone()));
        let cache = options.packages.cache.clone().unwrap_or_else(|| scratch.join("packages"));
        let unpacked = layer::Unpacked::new(&scratch.join("unpacked"), placement(definition), UnpackOptions::default());
        let described = definition.layers.iter().filter_map(|layer| layer.packages.as_ref());
        let asked = described.flat_map(|packages| &packages.rpm).flat_map(|text| wanted(text));
        let universes = Universes::new(all, lists, asked, others, http);
        let tools = Mutex::default();
        Ok(Packages { kernels, complete, mirrors, universes, tools, unpacked, cache, options, progress })
    }

    /// The parts of an image of one kernel, and what is wrong with it. `siblings` are other flavours of the same kernel.
    pub(crate) fn of_kernel(
        &self,
        definition: &Definition,
        kernel: &Kernel,
        siblings: &[&Kernel],
    ) -> Result<OfKernel, Error> {
        let machine = &kernel.release.machine;
        let universe = self.universes.of(machine);
        let format = kernel.packages.first().map_or(Format::Rpm, |(_, package)| package.name.format);
        let roles = definition.layers.iter().find_map(|layer| layer.kernels.as_ref()).map(|kernels| &kernels.roles);
        let mut own: Vec<(Role, &Package)> = Vec::new();
        for (role, package) in std::iter::once(&kernel).chain(siblings).flat_map(|kernel| &kernel.packages) {
            let is_wanted = roles.is_none_or(|roles| roles.iter().any(|name| name == role.name()));
            if is_wanted && !own.iter().any(|(_, other)| other.name == package.name) {
                own.push((*role, package));
            }
        }
        let packages: Vec<Package> = own.iter().map(|(_, package)| (*package).clone()).collect();
        let own_trees = self.unpacked(&packages)?;
        let compiler = layer::compiler(&own_trees, &kernel.release)?;
        let mut parts = BTreeMap::new();
        let (mut chosen, mut lacks) = (Vec::new(), Vec::new());
        let platform = Some(crate::kernel::matrix::platform(machine).parse()?);
        for (number, described) in definition.layers.iter().enumerate() {
            let distribution = &kernel.release.distribution;
            let (tree, components) = if let Some(packages) = &described.packages {
                let key = ToolsKey {
                    layer: number,
                    machine: machine.clone(),
                    format,
                    compiler: compiler.clone().filter(|_| !packages.compiler.is_empty()),
                    below: chosen.clone(),
                };
                let tools = self.tools(&key, packages, &universe)?;
                lacks.extend(tools.lacks.iter().cloned());
                chosen.extend(&tools.chosen);
                let made_of = tools.chosen.iter().map(|number| component(universe.package(*number), distribution));
                (tools.tree.clone(), made_of.collect())
            } else if described.kernels.is_some() {
                let provided = provided(definition);
                let request = Request {
                    wanted: Vec::new(),
                    // What is for running or installing a kernel is left alone: a module is built against its headers.
                    needed: own
                        .iter()
                        .filter(|(role, _)| matches!(role, Role::Devel | Role::Headers | Role::Common | Role::Kbuild))
                        .flat_map(|(_, package)| package.relations.iter().flat_map(|it| it.depends.clone()))
                        .collect(),
                    provided: own.iter().map(|(_, package)| package.name.name.clone()).chain(provided).collect(),
                    chosen: chosen.clone(),
                };
                let unmet = |error| match error {
                    Error::Resolve(source) => Error::Headers { release: kernel.release.uname.clone(), source },
                    error => error,
                };
                let needed = match universe.is_empty() {
                    true => Vec::new(),
                    false => self.universes.resolve(machine, &request).map_err(unmet)?,
                };
                let needed: Vec<Package> = needed.iter().map(|number| universe.package(*number).clone()).collect();
                let trees = [self.unpacked(&needed)?, own_trees.clone()].concat();
                let packages = [needed, packages.clone()].concat();
                let made_of = packages.iter().map(|package| component(package, distribution));
                (composed(&packages, &trees)?, made_of.collect())
            } else {
                continue;
            };
            parts.insert(number, vec![Part { name: None, platform: platform.clone(), tree, components }]);
        }
        Ok(OfKernel { parts, lacks })
    }

    /// A layer of packages with all that they depend on.
    fn tools(&self, key: &ToolsKey, described: &PackagesDefinition, universe: &Universe) -> Result<Arc<Tools>, Error> {
        // Held while one is made, so that the others wait for it instead of making it again.
        let mut made = self.tools.lock().expect("no holder panics");
        if let Some((_, tools)) = made.iter().find(|(other, _)| other == key) {
            return Ok(tools.clone());
        }
        let names = if key.format == Format::Deb { &described.deb } else { &described.rpm };
        let mut request = Request {
            wanted: names.iter().map(|text| wanted(text)).collect(),
            needed: Vec::new(),
            provided: described.provided.iter().cloned().collect(),
            chosen: key.below.clone(),
        };
        let mut lacks = Vec::new();
        for name in &described.compiler {
            let choice = compiler::choose(universe, name, key.compiler.as_deref());
            request.wanted.extend(choice.wanted);
            lacks.extend(choice.lack);
        }
        let chosen = self.universes.resolve(&key.machine, &request)?;
        let packages: Vec<Package> = chosen.iter().map(|number| universe.package(*number).clone()).collect();
        let tree = composed(&packages, &self.unpacked(&packages)?)?;
        let tools = Arc::new(Tools { tree, chosen, lacks });
        made.push((key.clone(), tools.clone()));
        Ok(tools)
    }

    /// The layers of an image that keeps kernels, and the list of them.
    fn kept(&self, described: &KernelsDefinition, kernels: &[Kernel]) -> Result<Vec<Part>, Error> {
        let dest = described.dest.as_deref().unwrap_or("/kernels");
        let mut parts = Vec::new();
        let mut listed = Vec::new();
        let names = unpack::directory_names(kernels);
        let kept: Vec<Result<_, Error>> = names
            .into_par_iter()
            .zip(kernels)
            .with_max_len(1)
            .map(|(name, kernel)| {
                let kept = self.kept_one(described, dest, &name, kernel);
                kept.map(|kept| (name.clone(), kernel, kept)).map_err(|error| error.about(name))
            })
            .collect();
        for kept in kept {
            let (name, kernel, (tree, local)) = kept?;
            let role = |role: &Role| described.roles.iter().any(|wanted| wanted == role.name());
            let made_of = kernel.packages.iter().filter(|(its, _)| role(its));
            let components = made_of.map(|(_, package)| component(package, &kernel.release.distribution)).collect();
            parts.push(Part { name: Some(name), platform: None, tree, components });
            listed.push(local);
        }
        if let Some(list) = &described.list {
            let json = serde_json::to_vec_pretty(&KernelSet::new(listed))?;
            let mut tree = Tree::default();
            tree.insert(list, Node::new(Kind::Bytes(json), 0o644))?;
            parts.push(Part { name: Some("the list".into()), platform: None, tree, components: Vec::new() });
        }
        Ok(parts)
    }

    /// One kernel's layer, and the kernel with the places of its packages in the image.
    fn kept_one(
        &self,
        described: &KernelsDefinition,
        dest: &str,
        name: &str,
        kernel: &Kernel,
    ) -> Result<(Tree, Kernel), Error> {
        let mut kernel = kernel.clone();
        kernel.packages.retain(|(role, _)| described.roles.iter().any(|wanted| wanted == role.name()));
        let packages: Vec<Package> = kernel.packages.iter().map(|(_, package)| package.clone()).collect();
        let local = self.local(&packages)?;
        for ((_, package), local) in kernel.packages.iter_mut().zip(&local) {
            *package = local.clone();
        }
        let mut tree = Tree::default();
        if described.unpacked {
            let contents = self.unpacked.kernel(&kernel)?;
            tree.insert(&format!("{dest}/{name}"), Node::new(Kind::Directory, 0o755))?;
            tree.add_package(&contents, &format!("{dest}/{name}"), name)?;
            // Whoever runs the image dumps it, and a System.map of mode 0600 is root's.
            tree.make_readable();
        }
        for (_, package) in &mut kernel.packages {
            let file = package.name.to_string();
            if !described.unpacked {
                let node =
                    tree.add_file(Path::new(&package.location), &format!("{dest}/{name}/{file}"), Some(0o644))?;
                // When it was fetched is nobody's business.
                (node.mtime, node.xattrs) = (None, BTreeMap::new());
            }
            package.location = format!("{name}/{file}");
        }
        Ok((tree, kernel))
    }

    /// What is in packages. A repository that is signed vouches for them by their digests.
    fn unpacked(&self, packages: &[Package]) -> Result<Vec<Arc<Tree>>, Error> {
        Ok(self.unpacked.packages(&self.local(packages)?, self.progress)?)
    }

    /// The packages with paths for locations; those that are not here are fetched.
    fn local(&self, packages: &[Package]) -> Result<Vec<Package>, Error> {
        let remote: Vec<&Package> = packages.iter().filter(|package| package.location.contains("://")).collect();
        let mut fetched = HashMap::new();
        if !remote.is_empty() {
            let http = Http::new(&self.options.source.http)?;
            let redhat = gather::redhat(&self.options.packages.kernels, &http);
            let options = FetchOptions { redhat, mirrors: self.mirrors.clone(), ..FetchOptions::default() };
            let progress = self.progress;
            fs::create_dir_all(&self.cache)?;
            // Two of us, or of other runs, must not go on with the same file.
            let alone = crate::fs::open_any(&self.cache)?;
            alone.lock().at("lock", &self.cache)?;
            let (report, right) = block_on::<_, Error>(async {
                Ok(download::fetch_packages(&http, remote.iter().copied(), &self.cache, &options, progress).await?)
            })?;
            if !report.failed.is_empty() {
                return Err(Error::NotFetched(report.failures()));
            }
            fetched = right;
        }
        let local = packages.iter().map(|package| {
            let file = package.name.to_string();
            match fetched.get(&file) {
                Some((digest, size)) if package.location.contains("://") => Package {
                    location: self.cache.join(&file).to_string_lossy().into_owned(),
                    sha256: Some(digest.clone()),
                    size: Some(*size),
                    ..package.clone()
                },
                _ => package.clone(),
            }
        });
        Ok(local.collect())
    }
}

/// The layers of an image that keeps kernels, from the sources that were given.
pub(crate) fn kept(
    options: &MakeOptions,
    definition: &Definition,
    described: &KernelsDefinition,
    scratch: &Path,
    progress: &Progress,
) -> Result<Vec<Part>, Error> {
    if options.packages.matrix.is_some() {
        return Err(Error::MatrixOfOneImage);
    }
    let machines = options.platforms.iter().map(|platform| {
        let Ok(machine) = platform.architecture.parse::<Machine>();
        machine
    });
    let mut packages = Packages::read(options, definition, &machines.collect::<Vec<_>>(), scratch, progress)?;
    if !packages.complete {
        return Err(Error::SourcesIncomplete);
    }
    let mut kernels = std::mem::take(&mut packages.kernels);
    let releases = &options.packages.releases;
    let filter = Filter { releases: releases.clone(), ..Filter::default() };
    let missing = Filter::unmet(releases, &kernels.iter().map(|kernel| &kernel.release));
    if !missing.is_empty() {
        return Err(Error::NoKernel { releases: missing });
    }
    filter.apply(&mut kernels);
    if let Some(shard) = options.packages.shard {
        shard.keep(&mut kernels);
    }
    if kernels.is_empty() {
        return Err(Error::NoKernelLeft);
    }
    packages.kept(described, &kernels)
}

/// One tree of several packages.
fn composed(packages: &[Package], trees: &[Arc<Tree>]) -> Result<Tree, Error> {
    let mut tree = Tree::default();
    for (package, contents) in packages.iter().zip(trees) {
        tree.add_package(contents, "/", &package.name.to_string())?;
    }
    Ok(tree)
}

fn provided(definition: &Definition) -> Vec<String> {
    definition.layers.iter().filter_map(|layer| layer.packages.as_ref()).flat_map(|it| it.provided.clone()).collect()
}

fn placement(definition: &Definition) -> Placement {
    let mut placement = Placement::default();
    let plain = |path: &String| PathBuf::from(path.trim_start_matches('/'));
    for packages in definition.layers.iter().filter_map(|layer| layer.packages.as_ref()) {
        placement.merge.extend(packages.merge.iter().map(|(from, to)| (plain(from), plain(to))));
        placement.exclude.extend(packages.exclude.iter().map(plain));
    }
    placement
}
