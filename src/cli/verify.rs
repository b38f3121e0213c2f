//! `haversack verify`: is everything what its name says?

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::cli::outcome::{Exit, Failure, Outcome};
use crate::cli::registries::OneRegistryArgs;
use crate::cli::{Context, block_on};
use crate::escape::in_line;
use crate::image::store::archive;
use crate::image::store::verify::{self, VerifyOptions, VerifyReport};
use crate::image::{Store, store};
use crate::progress::{Unit, amount};
use crate::reference::{ImageRef, Remote};
use crate::registry::RemoteImage;

/// Check every digest, size and diff id of a layout or an archive, and find what is missing or not needed
#[derive(clap::Args)]
pub(super) struct VerifyArgs {
    /// An image of any transport, or a whole layout or archive (oci:DIR, oci-archive:FILE, docker-archive:FILE, dir:DIR),
    /// or just its path
    #[arg(value_name = "REF|LAYOUT", value_parser = place)]
    place: ImageRef,
    /// Remove what is broken from a layout, so that a copy fetches it again
    #[arg(long)]
    repair: bool,
    /// Most GiB that one layer may decompress to
    #[arg(long, value_name = "GIB", default_value_t = 64)]
    max_layer_size: u64,
    #[command(flatten)]
    registry: OneRegistryArgs,
}

#[derive(Serialize)]
struct Verified {
    place: ImageRef,
    #[serde(flatten)]
    report: VerifyReport,
    removed: Vec<PathBuf>,
}

pub(super) fn run(args: &VerifyArgs, context: &Context) -> Outcome {
    let options = VerifyOptions { layer_limit: args.max_layer_size.saturating_mul(1 << 30) };
    let (report, removed) = match &args.place {
        ImageRef::Docker(remote) if args.repair => {
            return Err(Failure::usage(format!("docker://{remote}: a registry's image cannot be repaired"))
                .hint("copy it there again"));
        }
        ImageRef::Docker(remote) => (remote_report(remote, args, &options, context)?, Vec::new()),
        local => local_report(local, args.repair, &options, context)?,
    };
    let exit = if report.findings.is_empty() { Exit::Done } else { Exit::No };
    let verified = Verified { place: args.place.clone(), report, removed };
    context.ui.result(&verified, Verified::to_text)?;
    Ok(exit)
}

fn local_report(
    place: &ImageRef,
    repair: bool,
    options: &VerifyOptions,
    context: &Context,
) -> Result<(VerifyReport, Vec<PathBuf>), Failure> {
    let store = Store::open(place)?;
    let only = place.name().map(|name| store.find(Some(name))).transpose()?;
    let report = verify::verify(&store, only.as_ref(), options, context.ui.progress())?;
    let removed = match (repair, &store) {
        (false, _) => Vec::new(),
        (true, Store::Layout(_) | Store::Dir(_)) => verify::repair(&store, &report)?,
        (true, Store::Archive(_) | Store::DockerArchive(_)) => {
            return Err(Failure::usage("an archive cannot be repaired").hint("copy it anew, or repair the layout"));
        }
    };
    Ok((report, removed))
}

fn remote_report(
    remote: &Remote,
    args: &VerifyArgs,
    options: &VerifyOptions,
    context: &Context,
) -> Result<VerifyReport, Failure> {
    let access = args.registry.access(context)?;
    block_on(async {
        let repository = access.repository(remote, false).await?;
        let (image, _) = repository.document(remote.target()).await?;
        let contents = RemoteImage::new(repository, image);
        // It reads and decompresses on all cores; only what arrives is the runtime's work.
        let verified = || verify::verify(&contents, None, options, context.ui.progress());
        Ok(tokio::task::block_in_place(verified)?)
    })
}

impl Verified {
    fn to_text(&self) -> String {
        let mut lines: Vec<String> = self.report.findings.iter().map(in_line).collect();
        lines.extend(self.removed.iter().map(|path| format!("removed {}", in_line(path.display()))));
        let VerifyReport { images, blobs, bytes, findings } = &self.report;
        let bytes = amount(*bytes, Unit::Bytes);
        let found = match findings.len() {
            0 => "nothing is wrong".to_owned(),
            1 => "1 finding".to_owned(),
            n => format!("{n} findings"),
        };
        lines.push(format!("{}: {images} images, {blobs} blobs, {bytes}: {found}\n", self.place));
        lines.join("\n")
    }
}

/// A reference, or the path of a layout, a directory or an archive.
fn place(text: &str) -> Result<ImageRef, String> {
    let path = Path::new(text);
    if path.is_dir() {
        let (path, dir) = (path.to_owned(), path.join("manifest.json").is_file());
        return Ok(if dir { ImageRef::Dir { path } } else { ImageRef::Oci { path, name: None } });
    }
    if path.is_file() {
        let archive = ImageRef::OciArchive { path: path.to_owned(), name: None };
        // What Docker saves without a layout beside is told by its having none.
        return Ok(match Store::open(&archive) {
            Err(store::Error::Archive(archive::Error::NotAnArchive { path, .. })) => {
                ImageRef::DockerArchive { path, name: None }
            }
            _ => archive,
        });
    }
    text.parse().map_err(|error| format!("{error}"))
}
