//! `haversack kernel matrix`: which kernels to build for.
//!
//! ```text
//! graph ─► payload by digest ─► image-references in its last layer ─► OS image ─► labels, or meta.json in its last layer
//! ```
//!
//! Of images only manifests, configurations and these small layers are read, and kept by digest for the next time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use clap::{Args, ValueEnum};
use futures_util::{StreamExt, TryStreamExt, stream};
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use serde_json::Value;
use url::Url;

use super::build::tag;
use super::copy::{RegistryArgs, repository};
use super::kernel::{From, columns, gather};
use super::outcome::{Exit, Failure, Outcome};
use super::{Context, block_on};
use crate::digest::Digest;
use crate::fs;
use crate::http::{self, read_limited};
use crate::image::store::layout;
use crate::image::{Platform, manifest};
use crate::kernel::matrix::graph::{self, Node};
use crate::kernel::matrix::labels::{self, Answer, Kernels};
use crate::kernel::matrix::{self, Entry, Matrix, payload};
use crate::kernel::release::Machine;
use crate::progress::Unit;
use crate::reference::{ImageRef, Remote, Target};
use crate::registry::{self, Repository, existing};

#[derive(Args)]
pub(crate) struct MatrixArgs {
    /// Kernels of these sources, as for `kernel list`
    #[arg(value_name = "SOURCE")]
    sources: Vec<String>,
    /// The repositories of a distribution, as for `kernel list`
    #[arg(long, value_name = "NAME[:VERSION]")]
    distro: Vec<String>,
    /// Kernels of the releases in this channel of OpenShift: stable-4.16
    #[arg(long, value_name = "NAME")]
    channel: Vec<String>,
    /// Where the update graph is: a URL of the service, an answer of it in a file, or the graph data in a directory or
    /// archive
    #[arg(long, value_name = "URL|PATH", default_value = GRAPH)]
    graph: String,
    /// Kernels of the OpenShift releases in this file, one a line
    #[arg(long, value_name = "FILE")]
    versions: Vec<PathBuf>,
    /// The repository of the releases that are known by their version only
    #[arg(long, value_name = "REPOSITORY", default_value = "quay.io/openshift-release-dev/ocp-release")]
    payloads: String,
    /// Read from another registry, a mirror: quay.io=mirror.example:5000
    #[arg(long, value_name = "FROM=TO", value_parser = mapping)]
    registry_map: Vec<(String, String)>,
    /// For these machines; without, for x86_64
    #[arg(long, value_name = "MACHINE")]
    arch: Vec<String>,
    /// Of sources, only these releases, or those that begin with one of them
    #[arg(long, value_name = "RELEASE")]
    release: Vec<String>,
    /// Of sources, only kernels that are not older
    #[arg(long, value_name = "VERSION")]
    since: Option<String>,
    /// Of sources, only these flavours
    #[arg(long, value_name = "FLAVOUR", default_values = ["default"])]
    flavour: Vec<String>,
    /// Of sources, only so many of each distribution and machine, the newest
    #[arg(long, value_name = "N")]
    latest: Option<usize>,
    /// Of sources, require that repositories are signed by a key in this file
    #[arg(long, value_name = "FILE")]
    keyring: Option<PathBuf>,
    /// Of sources, take apt repositories whose Valid-Until is past
    #[arg(long)]
    allow_expired: bool,
    /// Of `--distro`, read from this mirror
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    /// The offline token for `redhat:` in a file, instead of in REDHAT_OFFLINE_TOKEN
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Leave out the kernels that have an image for each of their machines in this repository
    #[arg(long, value_name = "docker://REPOSITORY")]
    missing_in: Option<ImageRef>,
    /// How the matrix is written
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Where small parts of images are kept by digest; in the user's cache directory, without
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// So many releases at one time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: u16,
    #[command(flatten)]
    registries: RegistryArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A table
    Table,
    /// What `--json` prints, and `build --matrix` reads
    Json,
    /// One line for GitHub's workflows: {"versions":[{"rhel","kernel","archs"}]}
    Github,
    /// One line for `strategy.matrix`: {"include":[{"rhel","kernel","platform","arch"}]}
    GithubInclude,
}

pub(super) fn run(args: &MatrixArgs, context: &Context) -> Outcome {
    let machines: BTreeSet<Machine> = match args.arch.is_empty() {
        true => ["x86_64".parse().unwrap_or_else(|never| match never {})].into(),
        false => args.arch.iter().map(|name| name.parse().unwrap_or_else(|never| match never {})).collect(),
    };
    if args.channel.is_empty() && args.versions.is_empty() && args.sources.is_empty() && args.distro.is_empty() {
        return Err(Failure::usage("nothing to make a matrix of").hint(
            "name a channel (`--channel stable-4.16`), a list (`--versions FILE`) or sources, as for `kernel list`",
        ));
    }
    let (mut entries, mut exit) = from_sources(args, &machines, context)?;
    let (found, failed) = block_on(from_releases(args, &machines, context))?;
    entries.extend(found);
    if !failed.is_empty() {
        exit = Exit::Partial;
    }
    for (release, why) in &failed {
        context.ui.warn(format_args!("{release}: {why}"));
    }
    let mut matrix = Matrix::new(entries, failed);
    if let Some(place) = &args.missing_in {
        let before = matrix.entries.len();
        leave_out(&mut matrix, place, args, context)?;
        context.ui.say(format_args!(
            "{} of {before} kernels have all their images in {place}",
            before - matrix.entries.len()
        ));
    }
    match args.format {
        Some(Format::Json) => context.ui.data(serde_json::to_string_pretty(&matrix)?)?,
        Some(Format::Github) => context.ui.data(matrix.github())?,
        Some(Format::GithubInclude) => context.ui.data(matrix.github_include())?,
        Some(Format::Table) => context.ui.data(table(&matrix).trim_end())?,
        None => context.ui.result(&matrix, table)?,
    }
    Ok(exit)
}

fn from_sources(
    args: &MatrixArgs,
    machines: &BTreeSet<Machine>,
    context: &Context,
) -> Result<(Vec<Entry>, Exit), Failure> {
    if args.sources.is_empty() && args.distro.is_empty() {
        return Ok((Vec::new(), Exit::Done));
    }
    let mut words = args.sources.clone();
    let mut option =
        |name: &str, values: &[String]| words.extend(values.iter().flat_map(|it| [name.to_owned(), it.clone()]));
    option("--distro", &args.distro);
    option("--arch", &machines.iter().map(ToString::to_string).collect::<Vec<_>>());
    option("--release", &args.release);
    option("--since", args.since.as_slice());
    option("--flavour", &args.flavour);
    option("--latest", args.latest.map(|n| n.to_string()).as_slice());
    let path = |path: &Option<PathBuf>| path.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
    option("--keyring", &path(&args.keyring));
    option("--token-file", &path(&args.token_file));
    option("--mirror", args.mirror.as_slice());
    words.extend(args.allow_expired.then(|| "--allow-expired".to_owned()));
    let (kernels, exit) = gather(&From::parse(words)?, context)?;
    Ok((kernels.iter().map(|kernel| Entry::of(&kernel.release)).collect(), exit))
}

/// The kernels of OpenShift releases, and those that do not say theirs.
async fn from_releases(
    args: &MatrixArgs,
    machines: &BTreeSet<Machine>,
    context: &Context,
) -> Result<(Vec<Entry>, BTreeMap<String, String>), Failure> {
    let mut wanted: BTreeMap<(Machine, String), Node> = BTreeMap::new();
    for machine in machines {
        for channel in &args.channel {
            for node in channel_nodes(args, channel, machine, context).await? {
                wanted.insert((machine.clone(), node.version.clone()), node);
            }
        }
        for path in &args.versions {
            let text = fs::read(path, LIST_LIMIT)?;
            for node in graph::parse_versions(&String::from_utf8_lossy(&text)) {
                wanted.entry((machine.clone(), node.version.clone())).or_insert(node);
            }
        }
    }
    let progress = context.ui.progress();
    let task = progress.task("reading releases", Unit::Items, Some(wanted.len() as u64));
    let images = Images { args, context, cache: cache(args, context), open: Mutex::default() };
    let reading = wanted.into_iter().map(|((machine, version), node)| {
        let (images, task) = (&images, &task);
        async move {
            let read = images.release(&node, &machine).await;
            task.add(1);
            (format!("{version} {machine}"), version, machine, read)
        }
    });
    let mut answers: Vec<_> = stream::iter(reading).buffer_unordered(args.parallel.into()).collect().await;
    answers.sort_by(|a, b| a.0.cmp(&b.0));
    let (mut entries, mut failed) = (Vec::new(), BTreeMap::new());
    for (name, version, machine, read) in answers {
        let found = match read {
            Ok(found) => found,
            Err(failure) => {
                failed.insert(name, failure.to_string());
                continue;
            }
        };
        if let Some(why) = disagreement(&found) {
            failed.insert(name, why);
        }
        for (_, Kernels { kernel, rt, pages_64k }) in found {
            let (machines, releases) = ([machine.clone()].into(), [version.clone()].into());
            entries.push(Entry { rhel: matrix::rhel(&kernel), kernel, machines, rt, pages_64k, releases });
        }
    }
    Ok((entries, failed))
}

/// Two OS images of one release and one RHEL have one kernel; those of two streams have two.
fn disagreement(found: &[(String, Kernels)]) -> Option<String> {
    let major = |kernels: &Kernels| matrix::rhel(&kernels.kernel).split('.').next().map(str::to_owned);
    let (first, second) = found.iter().enumerate().find_map(|(at, one)| {
        let other =
            found[at + 1..].iter().find(|other| major(&other.1) == major(&one.1) && other.1.kernel != one.1.kernel);
        other.map(|other| (one, other))
    })?;
    let ((name, kernels), (other, others)) = (first, second);
    Some(format!("{name} has the kernel {} and {other} has {}; both are in the matrix", kernels.kernel, others.kernel))
}

async fn channel_nodes(
    args: &MatrixArgs,
    channel: &str,
    machine: &Machine,
    context: &Context,
) -> Result<Vec<Node>, Failure> {
    let platform = matrix::platform(machine);
    let architecture = platform.rsplit('/').next().unwrap_or_default();
    if args.graph.starts_with("http://") || args.graph.starts_with("https://") {
        let mut url: Url = args.graph.parse().map_err(|_| Failure::usage(format!("{}: no URL", args.graph)))?;
        url.query_pairs_mut().append_pair("channel", channel).append_pair("arch", architecture);
        let http = context.http()?;
        let body = http
            .retry()
            .run(async || {
                let response = http.send(http.get(&url).header("accept", "application/json")).await?;
                match response.status().as_u16() {
                    200 => read_limited(response, GRAPH_LIMIT).await,
                    _ => Err(http::Error::status(response).await),
                }
            })
            .await?;
        return graph::parse(&body).map_err(|error| named(url.as_str(), error));
    }
    let path = Path::new(&args.graph);
    if path.is_dir() {
        let names = [
            (format!("channels/{channel}.yaml"), true),
            (format!("{channel}.yaml"), true),
            (format!("graph_{channel}_{architecture}.json"), false),
            (format!("{channel}.json"), false),
        ];
        for (file, is_channel) in names.map(|(name, is_channel)| (path.join(name), is_channel)) {
            if file.is_file() {
                let bytes = fs::read(&file, GRAPH_LIMIT)?;
                let nodes = if is_channel {
                    graph::parse_channel(&String::from_utf8_lossy(&bytes))
                } else {
                    graph::parse(&bytes)
                };
                return nodes.map_err(|error| named(&file.display().to_string(), error));
            }
        }
        return Err(Failure::new(format!("{}: it has no channel {channel}", path.display()))
            .hint("expected channels/NAME.yaml, as in the graph data, or graph_NAME_ARCH.json"));
    }
    let nodes = match graph::channel_of_archive(fs::open(path)?, channel) {
        Ok(Some(yaml)) => graph::parse_channel(&yaml),
        Ok(None) => return Err(Failure::new(format!("{}: it has no channel {channel}", path.display()))),
        Err(_) => graph::parse(&fs::read(path, GRAPH_LIMIT)?),
    };
    nodes.map_err(|error| named(&args.graph, error))
}

fn named(what: &str, error: impl Into<Failure>) -> Failure {
    Failure::new(format!("{what}: {}", error.into()))
}

/// Reads images where the map says they are.
struct Images<'a> {
    args: &'a MatrixArgs,
    context: &'a Context,
    cache: Option<PathBuf>,
    open: Mutex<HashMap<String, Repository>>,
}

impl Images<'_> {
    /// The kernels of a release's OS images.
    async fn release(&self, node: &Node, machine: &Machine) -> Result<Vec<(String, Kernels)>, Failure> {
        node.check()?;
        let place = match &node.payload {
            Some(payload) => payload.clone(),
            None => format!("{}:{}-{machine}", self.args.payloads, node.version),
        };
        let (repository, manifest) = self.image(&place, machine).await?;
        let mut references = None;
        for layer in manifest.layers().iter().rev().take(LAYERS) {
            references = payload::image_references(&self.blob(&repository, layer).await?)?;
            if references.is_some() {
                break;
            }
        }
        let references = references.ok_or_else(|| Failure::new(format!("{place}: it has no image-references")))?;
        let mut found = Vec::new();
        for os in payload::os_images(&references)? {
            let kernels = self.os(&os.image, machine).await.map_err(|failure| named(&os.name, failure))?;
            found.push((os.name, kernels));
        }
        Ok(found)
    }

    async fn os(&self, place: &str, machine: &Machine) -> Result<Kernels, Failure> {
        let (repository, manifest) = self.image(place, machine).await?;
        let config: Value = serde_json::from_slice(&self.blob(&repository, manifest.config()).await?)?;
        let labels = serde_json::from_value(config["config"]["Labels"].clone()).unwrap_or_default();
        match labels::kernels(&labels, machine)? {
            Answer::Kernels(kernels) => Ok(kernels),
            Answer::LastLayer => {
                let last = manifest.layers().last().ok_or_else(|| Failure::new("it has no layers"))?;
                Ok(labels::kernels_of_layer(&self.blob(&repository, last).await?, machine)?)
            }
        }
    }

    /// The manifest of an image for a machine.
    async fn image(&self, place: &str, machine: &Machine) -> Result<(Repository, ImageManifest), Failure> {
        let remote: Remote = self.mapped(place).parse()?;
        let repository = self.repository(&remote).await?;
        let (described, bytes) = self.document(&repository, remote.target()).await?;
        if !manifest::is_index(described.media_type()) {
            return Ok((repository, layout::parse(place, &bytes)?));
        }
        let index: ImageIndex = layout::parse(place, &bytes)?;
        let platform: Platform = matrix::platform(machine).parse()?;
        let fits = |it: &&Descriptor| it.platform().as_ref().is_some_and(|it| platform.accepts(&Platform::from(it)));
        let chosen = index.manifests().iter().find(fits);
        let chosen = chosen.ok_or_else(|| Failure::new(format!("{place}: no image for {platform} in it")))?;
        let (_, bytes) = self.document(&repository, chosen.digest().as_ref()).await?;
        Ok((repository, layout::parse(place, &bytes)?))
    }

    fn mapped(&self, place: &str) -> String {
        let fits = |(from, _): &&(String, String)| {
            place.strip_prefix(&**from).is_some_and(|rest| rest.starts_with(['/', ':', '@']))
        };
        let longest = self.args.registry_map.iter().filter(fits).max_by_key(|(from, _)| from.len());
        longest.map_or_else(|| place.to_owned(), |(from, to)| format!("{to}{}", &place[from.len()..]))
    }

    async fn repository(&self, remote: &Remote) -> Result<Repository, Failure> {
        let key = format!("{}/{}", remote.registry, remote.repository);
        if let Some(open) = self.open.lock().expect("no holder panics").get(&key) {
            return Ok(open.clone());
        }
        let auth = self.args.registries.auth(self.context)?;
        let verify = self.args.registries.src_tls_verify && !is_loopback(&remote.registry);
        let opened = repository(remote, verify, false, &auth, self.context).await?;
        self.open.lock().expect("no holder panics").insert(key, opened.clone());
        Ok(opened)
    }

    async fn document(&self, repository: &Repository, target: &str) -> Result<(Descriptor, Vec<u8>), Failure> {
        let by_digest = target.parse::<Digest>().ok();
        if let Some(bytes) = by_digest.as_ref().and_then(|digest| self.kept(digest)) {
            let media_type: Value = serde_json::from_slice(&bytes)?;
            let media_type = media_type["mediaType"].as_str().unwrap_or(MANIFEST).into();
            let digest = by_digest.expect("it was found by it");
            return Ok((layout::descriptor(media_type, &digest, bytes.len() as u64), bytes));
        }
        let (described, bytes) = repository.document(target).await?;
        self.keep(&layout::digest_of(&described)?, &bytes);
        Ok((described, bytes))
    }

    async fn blob(&self, repository: &Repository, described: &Descriptor) -> Result<Vec<u8>, Failure> {
        let digest = layout::digest_of(described)?;
        if let Some(bytes) = self.kept(&digest) {
            return Ok(bytes);
        }
        let bytes = repository.small_blob(described).await?;
        self.keep(&digest, &bytes);
        Ok(bytes)
    }

    /// What was kept under a digest, when it still has it.
    fn kept(&self, digest: &Digest) -> Option<Vec<u8>> {
        let bytes = fs::read(&self.cache.as_ref()?.join(digest.hex()), KEPT_LIMIT).ok()?;
        (Digest::sha256(&bytes) == *digest).then_some(bytes)
    }

    fn keep(&self, digest: &Digest, bytes: &[u8]) {
        let Some(cache) = &self.cache else { return };
        let path = cache.join(digest.hex());
        let kept = fs::write(&path, bytes);
        if let Err(error) = kept {
            tracing::info!("not kept for the next time: {error}");
        }
    }
}

/// Where parts of images are kept, when that is a directory that can be written to.
fn cache(args: &MatrixArgs, context: &Context) -> Option<PathBuf> {
    let user = context.config.variable("XDG_CACHE_HOME").map(PathBuf::from);
    let user = user.or_else(|| Some(Path::new(context.config.variable("HOME")?).join(".cache")));
    let path = args.cache.clone().or_else(|| Some(user?.join("haversack/matrix")))?;
    match fs::create_dir_all(&path) {
        Ok(()) => Some(path),
        Err(error) => {
            tracing::info!("nothing is kept for the next time: {error}");
            None
        }
    }
}

/// Takes out what a repository has images for, for each of its machines: under the kernel's version, when its index has one
/// for the machine, or under the version with the machine.
fn leave_out(matrix: &mut Matrix, place: &ImageRef, args: &MatrixArgs, context: &Context) -> Result<(), Failure> {
    let remote = match place {
        ImageRef::Docker(remote) if !matches!(remote.target, Target::Digest(_)) => remote,
        other => return Err(Failure::usage(format!("{other}: expected docker://HOST/REPOSITORY"))),
    };
    let own =
        |entry: &Entry, machine: &Machine| matrix::with_machine(entry, machine).into_iter().map(|uname| tag(&uname));
    let tags: BTreeSet<String> = matrix
        .entries
        .iter()
        .flat_map(|entry| {
            entry
                .machines
                .iter()
                .flat_map(|machine| own(entry, machine))
                .chain([tag(&entry.kernel)])
                .collect::<Vec<_>>()
        })
        .collect();
    let tags = Vec::from_iter(tags);
    let there: HashMap<String, Option<Vec<String>>> = block_on(async {
        let auth = args.registries.auth(context)?;
        let verify = args.registries.dest_tls_verify && !is_loopback(&remote.registry);
        let repository = repository(remote, verify, false, &auth, context).await?;
        let answers = existing(&repository, &tags, ASKED).await;
        let platforms = tags.into_iter().zip(answers).map(async |(tag, answer)| match answer? {
            Some(image) => match image.platforms(&repository).await {
                Ok(platforms) => Ok(Some((tag, platforms))),
                // One that is broken is made again, and no reason not to make the others.
                Err(error @ (registry::Error::NotFound(_) | registry::Error::Layout(_))) => {
                    context.ui.warn(format_args!("{place}: {tag}: {error}; it counts as missing"));
                    Ok(None)
                }
                Err(error) => Err(error.into()),
            },
            None => Ok::<_, Failure>(None),
        });
        // Who may not ask does not know: that is no absence.
        let found: Vec<_> = stream::iter(platforms).buffer_unordered(ASKED).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    })?;
    // An entry stays whole: an image that is made for one machine takes the place of that for both.
    matrix.entries.retain(|entry| {
        entry.machines.iter().any(|machine| {
            let mut tags = own(entry, machine).chain([tag(&entry.kernel)]);
            // One that does not say for which machines it is counts for all.
            let fits = |platforms: &Option<Vec<String>>| {
                platforms.as_ref().is_none_or(|platforms| platforms.contains(&matrix::platform(machine)))
            };
            !tags.any(|tag| there.get(&tag).is_some_and(fits))
        })
    });
    Ok(())
}

fn table(matrix: &Matrix) -> String {
    let rows: Vec<[String; 5]> = matrix
        .entries
        .iter()
        .map(|entry| {
            let machines = entry.machines.iter().map(Machine::as_str).collect::<Vec<_>>().join(",");
            let releases = entry.releases.iter().cloned().collect::<Vec<_>>().join(" ");
            [entry.kernel.clone(), entry.rhel.clone(), machines, entry.rt.clone().unwrap_or_default(), releases]
        })
        .collect();
    let mut rows = rows.iter().map(|row| row.each_ref().map(String::as_str)).collect::<Vec<_>>();
    rows.insert(0, ["KERNEL", "RHEL", "MACHINES", "RT", "RELEASES"]);
    columns(&rows)
}

/// Docker, too, takes plain HTTP from what cannot leave the machine.
fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn mapping(text: &str) -> Result<(String, String), String> {
    let (from, to) = text.split_once('=').ok_or("expected FROM=TO, such as quay.io=mirror.example:5000")?;
    if from.is_empty() || to.is_empty() {
        return Err("expected FROM=TO, such as quay.io=mirror.example:5000".into());
    }
    Ok((from.trim_end_matches('/').to_owned(), to.trim_end_matches('/').to_owned()))
}

const GRAPH: &str = "https://api.openshift.com/api/upgrades_info/v1/graph";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// A channel's graph has some 500 KiB.
const GRAPH_LIMIT: u64 = 64 << 20;
const LIST_LIMIT: u64 = 16 << 20;
const KEPT_LIMIT: u64 = 16 << 20;
/// Tags that are asked for at one time.
const ASKED: usize = 16;
/// In how many of a release's layers, from the last on, image-references are looked for.
const LAYERS: usize = 3;
