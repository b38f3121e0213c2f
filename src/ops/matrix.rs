//! Which kernels to build for: those of OpenShift's releases, or of sources.
//!
//! ```text
//! graph ─► payload by digest ─► image-references in its last layer ─► OS image ─► labels, or meta.json in its last layer
//! ```
//!
//! Of images only manifests, configurations and these small layers are read, and kept by digest for the next time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use futures_util::{StreamExt, TryStreamExt, stream};
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use serde_json::Value;
use url::Url;

use crate::causes;
use crate::digest::Digest;
use crate::fs;
use crate::http::{self, Http, read_limited};
use crate::image::store::layout;
use crate::image::{Platform, manifest};
use crate::kernel::matrix::graph::{self, Node};
use crate::kernel::matrix::labels::{self, Answer, Kernels};
use crate::kernel::matrix::{self, Entry, Matrix, payload};
use crate::kernel::release::Machine;
use crate::kernel::set::Filter;
use crate::kernel::source::SourceOptions;
use crate::ops::make::toolkit::variables::tag;
use crate::ops::{Access, Done, Error, block_on, gather};
use crate::progress::{Progress, Unit};
use crate::reference::{ImageRef, Remote};
use crate::registry::{self, Repository, existing};

/// Which kernels are wanted.
#[derive(Clone, Debug)]
pub struct MatrixOptions {
    /// Kernels of sources; none, where there are no sources in it.
    pub kernels: SourceOptions,
    /// For these machines.
    pub machines: BTreeSet<Machine>,
    /// Kernels of the releases in these channels of OpenShift.
    pub channels: Vec<String>,
    /// Where the update graph is: a URL of the service, an answer of it in a file, or the graph data in a directory or archive.
    pub graph: String,
    /// Files with OpenShift releases, one a line.
    pub versions: Vec<PathBuf>,
    /// The repository of the releases that are known by their version only.
    pub payloads: String,
    /// From which registries, and from which mirrors instead.
    pub registry_map: Vec<(String, String)>,
    /// Leaves out the kernels that have an image for each of their machines in this repository.
    pub missing_in: Option<ImageRef>,
    /// Where small parts of images are kept by digest.
    pub cache: Option<PathBuf>,
    /// Maximum number of releases that are read at one time.
    pub parallel: usize,
    /// How payloads are read.
    pub source: Access,
    /// How [`MatrixOptions::missing_in`] is asked.
    pub destination: Access,
}

impl Default for MatrixOptions {
    fn default() -> Self {
        MatrixOptions {
            kernels: SourceOptions::default(),
            machines: ["x86_64".parse().unwrap_or_else(|never| match never {})].into(),
            channels: Vec::new(),
            graph: GRAPH.to_owned(),
            versions: Vec::new(),
            payloads: PAYLOADS.to_owned(),
            registry_map: Vec::new(),
            missing_in: None,
            cache: None,
            parallel: 8,
            source: Access::default(),
            destination: Access::default(),
        }
    }
}

/// The kernels that were found.
#[derive(Clone, Debug)]
pub struct MatrixReport {
    /// The kernels.
    pub matrix: Matrix,
    /// How many were left out since they have all their images.
    pub left_out: usize,
    /// The repository of [`MatrixOptions::missing_in`], where the registry does not have it: it is a new one, or a wrong name.
    pub unknown_place: Option<ImageRef>,
    /// Whether all sources and releases could be read.
    pub complete: bool,
}

impl MatrixReport {
    /// How much was found. What has its images already was found, too.
    pub fn done(&self) -> Done {
        Done::of(self.matrix.entries.len() + self.left_out, self.complete)
    }

    /// What may be another question than the one that was meant.
    pub fn warning(&self) -> Option<String> {
        let place = self.unknown_place.as_ref()?;
        Some(format!(
            "{place}: the registry has no such repository, so that all kernels count as missing; check its name, unless nothing was \
             pushed there yet"
        ))
    }
}

/// Reads `FROM=TO`: a registry, and the one that is read instead.
pub fn mapping(text: &str) -> Result<(String, String), String> {
    let (from, to) = text.split_once('=').ok_or("expected FROM=TO, such as quay.io=mirror.example:5000")?;
    if from.is_empty() || to.is_empty() {
        return Err("expected FROM=TO, such as quay.io=mirror.example:5000".into());
    }
    Ok((from.trim_end_matches('/').to_owned(), to.trim_end_matches('/').to_owned()))
}

/// Finds the kernels. A release that does not say its kernel is named in [`Matrix::failed`].
pub fn matrix(options: &MatrixOptions, progress: &Progress) -> Result<MatrixReport, Error> {
    let MatrixOptions { kernels, machines, channels, versions, .. } = options;
    if channels.is_empty() && versions.is_empty() && kernels.is_empty() {
        return Err(Error::MatrixOfNothing);
    }
    let (mut entries, mut complete, mut nothing) = (Vec::new(), true, None);
    if !kernels.is_empty() {
        let filter = Filter { machines: machines.iter().cloned().collect(), ..kernels.filter.clone() };
        let from = SourceOptions { filter, ..kernels.clone() };
        let found = gather::kernels(&from, &options.source.http, progress)?;
        entries.extend(found.kernels.iter().map(|kernel| Entry::of(&kernel.release)));
        complete = found.complete;
        nothing = found.or_nothing().err();
    }
    let (found, failed) = block_on(from_releases(options, progress))?;
    entries.extend(found);
    complete &= failed.is_empty();
    for (release, why) in &failed {
        tracing::warn!("{release}: {why}");
    }
    let mut matrix = Matrix::new(entries, failed);
    let before = matrix.entries.len();
    match nothing {
        Some(nothing) if before == 0 && matrix.failed.is_empty() => return Err(nothing.into()),
        Some(nothing) => tracing::warn!("{nothing}"),
        None if before == 0 && matrix.failed.is_empty() => return Err(Error::NoRelease),
        None => {}
    }
    let mut unknown_place = None;
    if let Some(place) = &options.missing_in
        && !leave_out(&mut matrix, place, options)?
    {
        unknown_place = Some(place.clone());
    }
    let left_out = before - matrix.entries.len();
    Ok(MatrixReport { matrix, left_out, unknown_place, complete })
}

/// The kernels of OpenShift releases, and those that do not say theirs.
async fn from_releases(
    options: &MatrixOptions,
    progress: &Progress,
) -> Result<(Vec<Entry>, BTreeMap<String, String>), Error> {
    let mut wanted: BTreeMap<(Machine, String), Node> = BTreeMap::new();
    for machine in &options.machines {
        for channel in &options.channels {
            for node in channel_nodes(options, channel, machine).await? {
                wanted.insert((machine.clone(), node.version.clone()), node);
            }
        }
        for path in &options.versions {
            let text = fs::read(path, LIST_LIMIT)?;
            for node in graph::parse_versions(&String::from_utf8_lossy(&text)) {
                wanted.entry((machine.clone(), node.version.clone())).or_insert(node);
            }
        }
    }
    let task = progress.task("reading releases", Unit::Items, Some(wanted.len() as u64));
    let images = Images { options, cache: cache(options), open: Mutex::default() };
    let reading = wanted.into_iter().map(|((machine, version), node)| {
        let (images, task) = (&images, &task);
        async move {
            let read = images.release(&node, &machine).await;
            task.add(1);
            (format!("{version} {machine}"), version, machine, read)
        }
    });
    let mut answers: Vec<_> = stream::iter(reading).buffer_unordered(options.parallel).collect().await;
    answers.sort_by(|a, b| a.0.cmp(&b.0));
    let (mut entries, mut failed) = (Vec::new(), BTreeMap::new());
    for (name, version, machine, read) in answers {
        let found = match read {
            Ok(found) => found,
            Err(error) => {
                failed.insert(name, causes::line(&error));
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

async fn channel_nodes(options: &MatrixOptions, channel: &str, machine: &Machine) -> Result<Vec<Node>, Error> {
    let platform = matrix::platform(machine);
    let architecture = platform.rsplit('/').next().unwrap_or_default();
    if options.graph.starts_with("http://") || options.graph.starts_with("https://") {
        let mut url: Url = options.graph.parse().map_err(|_| Error::GraphUrl(options.graph.clone()))?;
        url.query_pairs_mut().append_pair("channel", channel).append_pair("arch", architecture);
        let http = Http::new(&options.source.http)?;
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
    let path = Path::new(&options.graph);
    let no_channel = |path: &Path| Error::NoChannel { place: path.to_owned(), channel: channel.to_owned() };
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
        return Err(no_channel(path));
    }
    let nodes = match graph::channel_of_archive(fs::open(path)?, channel) {
        Ok(Some(yaml)) => graph::parse_channel(&yaml),
        Ok(None) => return Err(no_channel(path)),
        Err(_) => graph::parse(&fs::read(path, GRAPH_LIMIT)?),
    };
    nodes.map_err(|error| named(&options.graph, error))
}

fn named(what: &str, error: impl Into<Error>) -> Error {
    error.into().about(what)
}

/// Reads images where the map says they are.
struct Images<'a> {
    options: &'a MatrixOptions,
    cache: Option<PathBuf>,
    open: Mutex<HashMap<String, Repository>>,
}

impl Images<'_> {
    /// The kernels of a release's OS images.
    async fn release(&self, node: &Node, machine: &Machine) -> Result<Vec<(String, Kernels)>, Error> {
        node.check()?;
        let place = match &node.payload {
            Some(payload) => payload.clone(),
            None => format!("{}:{}-{machine}", self.options.payloads, node.version),
        };
        let (repository, manifest) = self.image(&place, machine).await?;
        let mut references = None;
        for layer in manifest.layers().iter().rev().take(LAYERS) {
            references = payload::image_references(&self.blob(&repository, layer).await?)?;
            if references.is_some() {
                break;
            }
        }
        let references = references.ok_or_else(|| Error::NoReferences(place.clone()))?;
        let mut found = Vec::new();
        for os in payload::os_images(&references)? {
            let kernels = self.os(&os.image, machine).await.map_err(|error| named(&os.name, error))?;
            found.push((os.name, kernels));
        }
        Ok(found)
    }

    async fn os(&self, place: &str, machine: &Machine) -> Result<Kernels, Error> {
        let (repository, manifest) = self.image(place, machine).await?;
        let config: Value = serde_json::from_slice(&self.blob(&repository, manifest.config()).await?)?;
        let labels = serde_json::from_value(config["config"]["Labels"].clone()).unwrap_or_default();
        match labels::kernels(&labels, machine)? {
            Answer::Kernels(kernels) => Ok(kernels),
            Answer::LastLayer => {
                let last = manifest.layers().last().ok_or_else(|| Error::NoLayers(place.to_owned()))?;
                Ok(labels::kernels_of_layer(&self.blob(&repository, last).await?, machine)?)
            }
        }
    }

    /// The manifest of an image for a machine.
    async fn image(&self, place: &str, machine: &Machine) -> Result<(Repository, ImageManifest), Error> {
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
        let chosen = chosen.ok_or_else(|| Error::NoPlatform { place: place.to_owned(), platform })?;
        let (_, bytes) = self.document(&repository, chosen.digest().as_ref()).await?;
        Ok((repository, layout::parse(place, &bytes)?))
    }

    fn mapped(&self, place: &str) -> String {
        let fits = |(from, _): &&(String, String)| {
            place.strip_prefix(&**from).is_some_and(|rest| rest.starts_with(['/', ':', '@']))
        };
        let longest = self.options.registry_map.iter().filter(fits).max_by_key(|(from, _)| from.len());
        longest.map_or_else(|| place.to_owned(), |(from, to)| format!("{to}{}", &place[from.len()..]))
    }

    async fn repository(&self, remote: &Remote) -> Result<Repository, Error> {
        let key = format!("{}/{}", remote.registry, remote.repository);
        if let Some(open) = self.open.lock().expect("no holder panics").get(&key) {
            return Ok(open.clone());
        }
        let opened = self.options.source.repository(remote, false).await?;
        self.open.lock().expect("no holder panics").insert(key, opened.clone());
        Ok(opened)
    }

    async fn document(&self, repository: &Repository, target: &str) -> Result<(Descriptor, Vec<u8>), Error> {
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

    async fn blob(&self, repository: &Repository, described: &Descriptor) -> Result<Vec<u8>, Error> {
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
fn cache(options: &MatrixOptions) -> Option<PathBuf> {
    let path = options.cache.as_ref()?;
    match fs::create_dir_all(path) {
        Ok(()) => Some(path.clone()),
        Err(error) => {
            tracing::info!("nothing is kept for the next time: {error}");
            None
        }
    }
}

/// Takes out what a repository has images for, for each of its machines: under the kernel's version, when its index has one
/// for the machine, or under the version with the machine. False where the registry does not have the repository.
fn leave_out(matrix: &mut Matrix, place: &ImageRef, options: &MatrixOptions) -> Result<bool, Error> {
    let remote = match place {
        ImageRef::Docker(remote) if remote.target.digest().is_none() => remote,
        other => return Err(Error::NotARepository(other.clone())),
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
    let (there, is_known): (HashMap<String, Option<Vec<String>>>, bool) = block_on::<_, Error>(async {
        let repository = options.destination.repository(remote, false).await?;
        let answers = existing(&repository, &tags, ASKED).await;
        let platforms = tags.into_iter().zip(answers).map(async |(tag, answer)| match answer? {
            Some(image) => match image.platforms(&repository).await {
                Ok(platforms) => Ok(Some((tag, platforms))),
                // One that is broken is made again, and no reason not to make the others.
                Err(error @ (registry::Error::NotFound(_) | registry::Error::Layout(_))) => {
                    tracing::warn!("{place}: {tag}: {error}; it counts as missing");
                    Ok(None)
                }
                Err(error) => Err(error.into()),
            },
            None => Ok::<_, Error>(None),
        });
        // Who may not ask does not know: that is no absence.
        let found: Vec<_> = stream::iter(platforms).buffer_unordered(ASKED).try_collect().await?;
        let there: HashMap<_, _> = found.into_iter().flatten().collect();
        // Where none of the tags is there, the list tells why; a registry that does not show it leaves that open.
        let is_known = !there.is_empty() || !matches!(repository.tags().await, Err(registry::Error::NotFound(_)));
        Ok((there, is_known))
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
    Ok(is_known)
}

/// OpenShift's update service.
pub const GRAPH: &str = "https://api.openshift.com/api/upgrades_info/v1/graph";
/// Where OpenShift's releases are.
pub const PAYLOADS: &str = "quay.io/openshift-release-dev/ocp-release";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// A channel's graph has some 500 KiB.
const GRAPH_LIMIT: u64 = 64 << 20;
const LIST_LIMIT: u64 = 16 << 20;
const KEPT_LIMIT: u64 = 16 << 20;
/// Tags that are asked for at one time.
const ASKED: usize = 16;
/// In how many of a release's layers, from the last on, image-references are looked for.
const LAYERS: usize = 3;
