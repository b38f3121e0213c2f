//! What an image of a kernel is made by, as a digest that is known before any source is read.
//!
//! A fingerprint says what is in an image, and is known when all packages are. A recipe says how one comes to be: the definition
//! with the files beside it, the kernel and its machines, what the base's name leads to, how layers are compressed, and the
//! version of this program. What the sources offer at the time plays no part: a newer compiler in a repository is no
//! reason to build five hundred images again.

use std::collections::BTreeSet;
use std::path::Path;

use oci_spec::image::Descriptor;

use crate::digest::Digest;
use crate::fs;
use crate::image::store::layout;
use crate::image::{Definition, Template};
use crate::kernel::release::Machine;
use crate::ops::Error;
use crate::ops::make::MakeOptions;

/// The annotation that says by which recipe an image was made: what `--skip-existing` compares for images of kernels.
pub(crate) const RECIPE: &str = "io.haversack.recipe";

/// The recipes of one run.
pub(crate) struct Recipes(Digest);

impl Recipes {
    /// What all images of a run have in common.
    pub(crate) fn new(
        options: &MakeOptions,
        directory: &Path,
        template: &Template,
        outline: &Definition,
    ) -> Result<Self, Error> {
        let files = outline.layers.iter().flat_map(|layer| layer.files.iter().filter_map(|file| file.src.as_ref()));
        let trees = outline.layers.iter().flat_map(|layer| layer.directories.iter().filter_map(|it| it.src.as_ref()));
        let mut beside = Vec::new();
        for src in files.chain(trees) {
            for entry in walkdir::WalkDir::new(fs::join_inside(directory, src)?).sort_by_file_name() {
                let entry = entry.map_err(std::io::Error::from)?;
                if entry.file_type().is_file() {
                    let name = entry.path().strip_prefix(directory).unwrap_or(entry.path()).to_owned();
                    beside.push((name, Digest::sha256(fs::read(entry.path(), FILE_LIMIT)?)));
                }
            }
        }
        let compression = format!("{:?} {:?}", options.layers.compression, options.layers.level);
        let (epoch, program) = (options.epoch, env!("CARGO_PKG_VERSION"));
        let all = (FORMAT, program, template.text(), beside, compression, epoch);
        Ok(Recipes(Digest::sha256(layout::canonical(&all))))
    }

    /// The recipe of one image.
    pub(crate) fn of(
        &self,
        kernel: &str,
        rhel: &str,
        machines: &BTreeSet<Machine>,
        base: Option<&Descriptor>,
    ) -> Result<Digest, Error> {
        let base = base.map(layout::digest_of).transpose()?;
        Ok(Digest::sha256(layout::canonical(&(&self.0, kernel, rhel, machines, base))))
    }
}

const FORMAT: u32 = 1;
/// What lies beside a definition is read whole to be compared.
const FILE_LIMIT: u64 = 1 << 30;
