//! Why an operation cannot be done: a fact of its own, which callers match or give advice on, or an error of what lies below.

use std::fmt;
use std::path::PathBuf;

use crate::carry;
use crate::catalog;
use crate::digest::{self, Digest};
use crate::fs::{self, PathError};
use crate::http;
use crate::image::build::{assemble, definition, plan};
use crate::image::store::{self, archive, layout};
use crate::image::{Platform, layer, platform};
use crate::kernel::matrix::{self, graph, labels, payload};
use crate::kernel::source::{self, keyring, preset};
use crate::kernel::{download, resolve, set, unpack};
use crate::ops::login::LoginPlace;
use crate::ops::nothing::NothingFound;
use crate::ops::publish::Refusal;
use crate::publish;
use crate::reference::{self, ImageRef, Remote};
use crate::registry;

/// Why an operation cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Two images of one carry with one name.
    #[error("`{name}` would be two images: {one} and {other}")]
    OneName {
        /// The name.
        name: String,
        /// The first image's digest.
        one: String,
        /// The second one's.
        other: String,
    },
    /// Two images of one carry that would have one name in a registry, which knows nothing of the hosts that they are from.
    #[error("{one} and {other} would both be {there}")]
    OnePlace {
        /// What the first is called in the carry.
        one: String,
        /// What the second is called.
        other: String,
        /// What they would be called.
        there: Box<Remote>,
    },
    /// A file whose name is not UTF-8, which an annotation has to be.
    #[error("{}: its name is not UTF-8", .0.display())]
    FileName(PathBuf),
    /// Something is where a plain file or directory of a carry belongs.
    #[error("{}: is there already, and is not what the carry has", .0.display())]
    InTheWay(PathBuf),
    /// An artifact of plain files with a name that leads elsewhere, or that its archive has not.
    #[error("{image}: `{}` is no name of a file of its own", crate::escape::line(title))]
    Title {
        /// The artifact.
        image: String,
        /// The name.
        title: String,
    },
    /// A package manager's database in an image.
    #[error("{0}")]
    Installed(#[from] crate::image::installed::Error),
    /// Packing or unpacking failed.
    #[error("{0}")]
    Carry(#[from] crate::carry::Error),
    /// The ledger of a site.
    #[error("{0}")]
    Site(#[from] crate::site::Error),
    /// An image in a registry is to be repaired.
    #[error("docker://{0}: a registry's image cannot be repaired")]
    RepairRemote(Remote),
    /// An archive is to be repaired.
    #[error("an archive cannot be repaired")]
    RepairArchive,
    /// Evidence of what lies in a registry.
    #[error("docker://{0}: --report is for what lies on a disk")]
    EvidenceRemote(Remote),
    /// Something in a registry is to be compared.
    #[error("docker://{0}: what is compared lies on a disk")]
    CompareRemote(Remote),
    /// A temporary directory cannot be made.
    #[error("{0}")]
    NoScratch(#[source] PathError),
    /// A place that nothing is pushed to.
    #[error("{0}: images are pushed to docker://HOST/REPOSITORY[:TAG]")]
    PushTo(ImageRef),
    /// A place that is not a repository.
    #[error("{0}: expected docker://HOST/REPOSITORY")]
    NotARepository(ImageRef),
    /// Nothing says which image is to be deleted; `latest` is not guessed.
    #[error("{0}: neither a tag nor a digest says which image")]
    DeleteWhat(Remote),
    /// A tag alone is to be deleted, and none is named.
    #[error("{0}: a digest is not a tag")]
    NoTag(Remote),
    /// Other tags name an image, too.
    #[error("{image}: other tags name this image ({digest}) and would go with it: {others}")]
    Shared {
        /// The image.
        image: Box<Remote>,
        /// Its digest.
        digest: Digest,
        /// The tags, with commas between.
        others: String,
    },
    /// The registry does not list the tags of a repository.
    #[error("{0}: the registry does not list its tags, so that others may name this image, too")]
    TagsUnknown(Remote),
    /// A login that is not in the file.
    #[error("{place}: not logged in by {}", file.display())]
    NotLoggedIn {
        /// For what.
        place: Box<LoginPlace>,
        /// The file.
        file: PathBuf,
        /// Where there are credentials for it.
        remaining: Option<String>,
    },
    /// Several images, and one name for all.
    #[error("{0} images would be written under the same name")]
    SameName(usize),
    /// Several images, and a directory that holds one.
    #[error("a directory holds one image")]
    OneInDir,
    /// Several images, and one repository for all.
    #[error("several images cannot be pushed to one repository")]
    SameRepository,
    /// A definition with variables among others.
    #[error("{}: makes an image for each kernel, and is built alone", .0.display())]
    NotAlone(PathBuf),
    /// An image that holds the catalog, without one.
    #[error("{image}: the image holds the certified catalog, and none was given")]
    NoCatalog {
        /// The definition's name.
        image: String,
    },
    /// An image that holds kernels, without a source.
    #[error("{image}: the image holds kernels, and no source of them was given")]
    NoKernelSource {
        /// The definition's name.
        image: String,
    },
    /// A definition asks for packages that no kernel has.
    #[error("{image}: unknown role `{role}`")]
    UnknownRole {
        /// The definition's name.
        image: String,
        /// The word.
        role: String,
    },
    /// What headers depend on cannot be had.
    #[error("{release}: what its headers need cannot be had")]
    Headers {
        /// The kernel.
        release: String,
        /// What is wrong.
        source: resolve::Error,
    },
    /// Packages cannot be fetched.
    #[error("{0}")]
    NotFetched(String),
    /// The dump directory is not there.
    #[error("{}: no such directory to dump to", .0.display())]
    NoDumpDirectory(PathBuf),
    /// Nothing can be written into the dump directory.
    #[error("{}: cannot be written to", directory.display())]
    NotWritable {
        /// The directory.
        directory: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another refresh of the same directory is at work.
    #[error("{}: another refresh is under way", .0.display())]
    RefreshUnderWay(PathBuf),
    /// A file with a secret that is not UTF-8.
    #[error("{}: not a text", .0.display())]
    NotAText(PathBuf),
    /// Something else that makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Something that cannot be published.
    #[error("{0}")]
    Unpublished(#[from] Refusal),
    /// Artifactory.
    #[error("{0}")]
    Artifactory(#[from] publish::artifactory::Error),
    /// S3.
    #[error("{0}")]
    S3(#[from] publish::s3::Error),
    /// A file of an image for IMS.
    #[error("{0}")]
    Artifact(#[from] publish::ims::artifact::Error),
    /// A bundle.
    #[error("{0}")]
    Bundle(#[from] publish::ims::bundle::Error),
    /// Files out of an image.
    #[error("{0}")]
    ImageFiles(#[from] publish::ims::image_files::Error),
    /// A receipt of another site.
    #[error("{receipt}: it is a receipt of {other}, not of {site}")]
    ReceiptOfOther {
        /// The file.
        receipt: String,
        /// Whose it is.
        other: String,
        /// Whose it should be.
        site: String,
    },
    /// Neither a receipt's file nor its code.
    #[error("{text}: no file, and no code either: {bad}")]
    NoReceipt {
        /// What was given.
        text: String,
        /// Why it is not a code.
        bad: carry::BadCode,
    },
    /// None of several repositories could be read; why not was warned of.
    #[error("none of the {0} repositories could be read")]
    NoSourceRead(usize),
    /// A package that is to be unpacked is on a server.
    #[error("{0} is not here")]
    NotHere(String),
    /// A matrix for a definition that makes one image.
    #[error("--matrix: this definition makes one image of all kernels")]
    MatrixOfOneImage,
    /// No definition is named.
    #[error("no DEFINITION is given")]
    NoDefinition {
        /// The option that took a word as one of its own, and the word.
        taken: Option<(&'static str, String)>,
    },
    /// A matrix of no releases and no sources.
    #[error("nothing to make a matrix of")]
    MatrixOfNothing,
    /// An image of what is left would look whole.
    #[error("not all sources could be read: an image of what is left would look whole")]
    SourcesIncomplete,
    /// No source has kernels that were asked for.
    #[error("{}: no such kernel in any source", releases.join(", "))]
    NoKernel {
        /// All of them.
        releases: Vec<String>,
    },
    /// Neither a channel nor a list has a release.
    #[error("no kernel was found: the channels and lists name no release")]
    NoRelease,
    /// Nothing is left after choosing.
    #[error("no kernel is left of what the sources have: the image would be empty")]
    NoKernelLeft,
    /// The sources have only kernels that are not taken unasked.
    #[error("the sources have only flavoured kernels ({0})")]
    OnlyFlavoured(String),
    /// The matrix names a kernel that no source has.
    #[error("no source has packages of this kernel")]
    NoPackages,
    /// A kernel without headers.
    #[error("{release}: its headers (kernel-devel, linux-headers) are in no source")]
    NoHeaders {
        /// The kernel.
        release: String,
    },
    /// A kernel whose headers need something else.
    #[error("{release}: its headers need {missing}, which no source has")]
    HeadersIncomplete {
        /// The kernel.
        release: String,
        /// What they need, with commas between.
        missing: String,
    },
    /// The update service's address.
    #[error("{0}: not a valid URL")]
    GraphUrl(String),
    /// The graph data has no such channel.
    #[error("{}: it has no channel {channel}", place.display())]
    NoChannel {
        /// The graph data.
        place: PathBuf,
        /// The channel.
        channel: String,
    },
    /// A release's payload without the list of its images.
    #[error("{0}: it has no image-references")]
    NoReferences(String),
    /// An image without layers.
    #[error("{0}: it has no layers")]
    NoLayers(String),
    /// An index without an image for a platform.
    #[error("{place}: no image for {platform} in it")]
    NoPlatform {
        /// The index.
        place: String,
        /// The platform.
        platform: Platform,
    },
    /// An image of kernels that lacks some.
    #[error("{}: no such kernel in this image", releases.join(", "))]
    NotInImage {
        /// All that it lacks.
        releases: Vec<String>,
    },
    /// Nothing was fetched, and nothing replaced.
    #[error("no kernel could be fetched; the list of those that are there stays as it was")]
    NothingFetched,
    /// A file of the image is not what its list says.
    #[error("{}: the digest is {actual}, not {expected}", file.display())]
    DamagedImage {
        /// The file.
        file: PathBuf,
        /// What the list says.
        expected: Digest,
        /// What it is.
        actual: Digest,
    },
    /// Something below, and what it is about.
    #[error("{what}")]
    About {
        /// What it is about: a file, a host, a release.
        what: String,
        /// What is wrong.
        source: Box<Error>,
    },
    /// Something on the disk, or the runtime.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Something on the disk.
    #[error("{0}")]
    Path(#[from] PathError),
    /// A path that leads out of its directory.
    #[error("{0}")]
    Outside(#[from] fs::OutsideError),
    /// A document.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// A digest.
    #[error("{0}")]
    Digest(#[from] digest::Error),
    /// A reference.
    #[error("{0}")]
    Reference(#[from] reference::Error),
    /// A platform.
    #[error("{0}")]
    Platform(#[from] platform::Error),
    /// A server.
    #[error("{0}")]
    Http(#[from] http::Error),
    /// A registry.
    #[error("{0}")]
    Registry(#[from] registry::Error),
    /// Credentials.
    #[error("{0}")]
    Auth(#[from] registry::auth::Error),
    /// A layout.
    #[error("{0}")]
    Layout(#[from] layout::Error),
    /// An archive.
    #[error("{0}")]
    Archive(#[from] archive::Error),
    /// A store.
    #[error("{0}")]
    Store(#[from] store::Error),
    /// A definition.
    #[error("{0}")]
    Definition(#[from] definition::Error),
    /// What is planned.
    #[error("{0}")]
    Plan(#[from] plan::Error),
    /// What is put together.
    #[error("{0}")]
    Assemble(#[from] assemble::Error),
    /// What is in a layer.
    #[error("{0}")]
    Tree(#[from] layer::tree::Error),
    /// The catalog's snapshot.
    #[error("{0}")]
    Snapshot(#[from] catalog::store::Error),
    /// The catalog's tree.
    #[error("{0}")]
    CatalogTree(#[from] catalog::tree::Error),
    /// Nothing that was asked for is in the sources.
    #[error("{0}")]
    NothingFound(#[from] NothingFound),
    /// A list of kernels.
    #[error("{0}")]
    Set(#[from] set::Error),
    /// Packages that are fetched.
    #[error("{0}")]
    Download(#[from] download::Error),
    /// Dependencies.
    #[error("{0}")]
    Resolve(#[from] resolve::Error),
    /// Packages that are unpacked.
    #[error("{0}")]
    Unpack(#[from] unpack::Error),
    /// A source of packages.
    #[error("{0}")]
    Source(#[from] source::Error),
    /// A distribution's repositories.
    #[error("{0}")]
    Preset(#[from] preset::Error),
    /// A key ring.
    #[error("{0}")]
    Keyring(#[from] keyring::Error),
    /// A matrix.
    #[error("{0}")]
    Matrix(#[from] matrix::Error),
    /// An update graph.
    #[error("{0}")]
    Graph(#[from] graph::Error),
    /// A release's payload.
    #[error("{0}")]
    Payload(#[from] payload::Error),
    /// An OS image's labels.
    #[error("{0}")]
    Labels(#[from] labels::Error),
}

impl Error {
    /// Says first what it is about: the file that was read.
    pub fn about(self, what: impl fmt::Display) -> Self {
        Error::About { what: what.to_string(), source: Box::new(self) }
    }

    /// Whether what was asked for makes no sense, whatever there is.
    pub fn is_usage(&self) -> bool {
        if let Error::Unpublished(refusal) = self {
            return refusal.is_usage();
        }
        matches!(
            self,
            Error::DeleteWhat(_)
                | Error::RepairRemote(_)
                | Error::Usage(_)
                | Error::NotHere(_)
                | Error::RepairArchive
                | Error::EvidenceRemote(_)
                | Error::CompareRemote(_)
                | Error::NoTag(_)
                | Error::PushTo(_)
                | Error::NotARepository(_)
                | Error::SameName(_)
                | Error::OneInDir
                | Error::SameRepository
                | Error::NotAlone(_)
                | Error::NoCatalog { .. }
                | Error::NoKernelSource { .. }
                | Error::UnknownRole { .. }
                | Error::MatrixOfOneImage
                | Error::MatrixOfNothing
                | Error::NoDefinition { .. }
                | Error::GraphUrl(_)
                | Error::Preset(_)
        )
    }
}
