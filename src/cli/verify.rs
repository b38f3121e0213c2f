//! `haversack verify`: is everything what its name says?

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Context;
use super::outcome::{Exit, Failure, Outcome};
use crate::image::Store;
use crate::image::verify::{self, VerifyOptions, VerifyReport};
use crate::progress::{Unit, amount};
use crate::reference::ImageRef;

/// Check every digest, size and diff id of a layout or an archive, and find what is missing or not needed
#[derive(clap::Args)]
pub(super) struct VerifyArgs {
    /// oci:DIR[:NAME], oci-archive:FILE[:NAME], or just the path of either
    #[arg(value_name = "REF|LAYOUT", value_parser = place)]
    place: ImageRef,
    /// Remove what is broken from a layout, so that a copy fetches it again
    #[arg(long)]
    repair: bool,
    /// Most GiB that one layer may decompress to
    #[arg(long, value_name = "GIB", default_value_t = 64)]
    max_layer_size: u64,
}

#[derive(Serialize)]
struct Verified {
    place: ImageRef,
    #[serde(flatten)]
    report: VerifyReport,
    removed: Vec<PathBuf>,
}

pub(super) fn run(args: &VerifyArgs, context: &Context) -> Outcome {
    let store = Store::open(&args.place)?;
    let only = args.place.name().map(|name| store.find(Some(name))).transpose()?;
    let options = VerifyOptions { layer_limit: args.max_layer_size.saturating_mul(1 << 30) };
    let report = verify::verify(&store, only.as_ref(), &options, context.ui.progress())?;
    let removed = match (args.repair, &store) {
        (false, _) => Vec::new(),
        (true, Store::Layout(_) | Store::Dir(_)) => verify::repair(&store, &report)?,
        (true, Store::Archive(_) | Store::DockerArchive(_)) => {
            return Err(Failure::usage("an archive cannot be repaired").hint("copy it anew, or repair the layout"));
        }
    };
    let exit = if report.findings.is_empty() { Exit::Done } else { Exit::No };
    let verified = Verified { place: args.place.clone(), report, removed };
    context.ui.result(&verified, Verified::to_text)?;
    Ok(exit)
}

impl Verified {
    fn to_text(&self) -> String {
        let mut lines: Vec<String> = self.report.findings.iter().map(ToString::to_string).collect();
        lines.extend(self.removed.iter().map(|path| format!("removed {}", path.display())));
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

/// A reference, or the path of a layout or an archive.
fn place(text: &str) -> Result<ImageRef, String> {
    let path = Path::new(text);
    if path.is_dir() {
        return Ok(ImageRef::Oci { path: path.to_owned(), name: None });
    }
    if path.is_file() {
        return Ok(ImageRef::OciArchive { path: path.to_owned(), name: None });
    }
    text.parse().map_err(|error| format!("{error}"))
}
