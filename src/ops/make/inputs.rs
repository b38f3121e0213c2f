//! What definitions take from elsewhere: the catalog, programs, bases.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use oci_spec::image::{Descriptor, ImageIndex};

use crate::catalog::Snapshot;
use crate::catalog::tree::{self, DumpOptions};
use crate::digest::{Algorithm, HashingReader};
use crate::fs::{self, PathContext};
use crate::image::build::base;
use crate::image::build::definition::Base;
use crate::image::build::plan::{self, CatalogInput};
use crate::image::build::sbom::{self, Component};
use crate::image::store::layout;
use crate::image::{Definition, Inputs, Layout, Platform, manifest};
use crate::ops::make::MakeOptions;
use crate::ops::make::toolkit::kept;
use crate::ops::{Error, block_on};
use crate::progress::Progress;
use crate::reference::{ImageRef, Target as RemoteTarget};
use crate::registry::{CopyOptions, Target, copy};

/// What is known of the catalog that goes into an image.
struct CatalogFacts {
    /// When the snapshot was taken.
    taken: jiff::Timestamp,
    /// Digest of what it says.
    digest: String,
    /// How many of what.
    counts: BTreeMap<String, u64>,
}

/// Writes the tree for certsuite (as `data`) and a copy of the snapshot (as `catalog.db`) into the directory `into`.
fn catalog_inputs(db: &Path, into: &Path) -> Result<CatalogFacts, Error> {
    let snapshot = Snapshot::open(db)?;
    let info = snapshot.info()?;
    let data = into.join("data");
    fs::create_dir_all(&data)?;
    tree::write_data(&snapshot, &data, &DumpOptions::default())?;
    snapshot.copy_to(&into.join("catalog.db"))?;
    let counts = info.kinds.iter().map(|(kind, about)| (kind.plural().to_owned(), about.rows)).collect();
    Ok(CatalogFacts { taken: info.taken.into(), digest: info.digest, counts })
}

/// Gathers what a definition takes from elsewhere; what is prepared for it is written below `into`.
pub(crate) fn inputs(
    options: &MakeOptions,
    directory: &Path,
    definition: &Definition,
    into: &Path,
    progress: &Progress,
) -> Result<Inputs, Error> {
    let mut inputs = Inputs {
        directory: directory.to_owned(),
        platforms: match (&options.platforms[..], &definition.platforms[..]) {
            ([], []) => vec![Platform::host()],
            ([], defined) => defined.to_vec(),
            (asked, _) => asked.to_vec(),
        },
        binaries: options.binaries.iter().cloned().collect(),
        epoch: options.epoch,
        ..Inputs::default()
    };
    inputs.platforms.sort();
    inputs.platforms.dedup();
    if let std::collections::btree_map::Entry::Vacant(own) = inputs.binaries.entry(Platform::host()) {
        own.insert(plan::running_program()?);
    }
    if definition.layers.iter().any(|layer| layer.catalog.is_some()) {
        let Some(db) = &options.catalog else {
            return Err(Error::NoCatalog { image: definition.name.clone() });
        };
        fs::create_dir_all(into)?;
        let facts = catalog_inputs(db, into)?;
        inputs.catalog =
            Some(CatalogInput { tree: into.join("data"), db: into.join("catalog.db"), taken: facts.taken.as_second() });
        let mut note =
            |key: &str, value: String| inputs.annotations.insert(format!("io.haversack.catalog.{key}"), value);
        note("taken", facts.taken.to_string());
        note("digest", facts.digest.clone());
        for (kind, count) in facts.counts {
            note(&format!("count.{kind}"), count.to_string());
        }
        inputs.components.push(Component {
            name: "certified-catalog".into(),
            version: Some(facts.taken.to_string()),
            digest: facts.digest.parse().ok(),
            purpose: "FILE",
            ..Component::default()
        });
    }
    if definition.layers.iter().any(|layer| layer.ca_roots.is_some()) {
        inputs.components.extend(sbom::crates().into_iter().filter(|it| it.name == "webpki-root-certs"));
    }
    if definition.layers.iter().any(|layer| layer.binary.is_some()) {
        for platform in &inputs.platforms {
            // Planning says which one is missing.
            let Some(path) = inputs.binaries.get(platform) else { continue };
            let own = options.binaries.iter().all(|(given, _)| given != platform);
            inputs.components.push(program(path, platform, own)?);
        }
    }
    for (number, layer) in definition.layers.iter().enumerate() {
        let Some(kernels) = layer.kernels.as_ref().filter(|kernels| kernels.dest.is_some()) else { continue };
        fs::create_dir_all(into)?;
        inputs.parts.insert(number, kept(options, definition, kernels, into, progress)?);
    }
    Ok(inputs)
}

/// The program in an image: this one, or one that was given and of which no more is known.
fn program(path: &Path, platform: &Platform, own: bool) -> Result<Component, Error> {
    let mut reader = HashingReader::new(fs::open(path)?, Algorithm::Sha256);
    io::copy(&mut reader, &mut io::sink()).at("read", path)?;
    let digest = Some(reader.finish().0);
    let name = if own { "haversack".to_owned() } else { format!("program for {platform}") };
    let version = own.then(|| env!("CARGO_PKG_VERSION").to_owned());
    let linked = if own { sbom::crates() } else { Vec::new() };
    Ok(Component { name, version, digest, purpose: "APPLICATION", linked, ..Component::default() })
}

/// The base of an image: where it is, and what it is now.
pub(crate) struct FoundBase {
    pub(crate) reference: ImageRef,
    pub(crate) image: Descriptor,
}

impl FoundBase {
    /// Asks what a definition's base is now; `None` for one without. Paths are relative to the definition, as its files
    /// are.
    pub(crate) fn find(
        definition: &Definition,
        directory: &Path,
        options: &MakeOptions,
    ) -> Result<Option<Self>, Error> {
        let Base::Image(reference) = &definition.base else { return Ok(None) };
        let reference = reference.below(directory);
        let (_, image) = block_on(options.source.open(&reference))?;
        // What the name leads to may be another image when it is fetched.
        let reference = match reference {
            ImageRef::Docker(remote) => ImageRef::Docker(remote.with(RemoteTarget::Digest(layout::digest_of(&image)?))),
            local => local,
        };
        Ok(Some(FoundBase { reference, image }))
    }

    /// Copies the images for these platforms into a layout, and the index that lists them among others.
    pub(crate) fn fetch(
        &self,
        platforms: &[Platform],
        layout: &Layout,
        options: &MakeOptions,
        progress: &Progress,
    ) -> Result<(), Error> {
        block_on(async {
            let (source, _) = options.source.open(&self.reference).await?;
            let mut wanted = vec![self.image.clone()];
            if manifest::is_index(self.image.media_type()) {
                let bytes = source.document(&self.image).await?;
                let index: ImageIndex = layout::parse(self.image.digest().as_ref(), &bytes)?;
                layout.write_blob(self.image.media_type().clone(), &bytes)?;
                wanted = platforms.iter().map(|it| base::choose(&index, it)).collect::<Result<_, _>>()?;
            }
            let fetching = CopyOptions { referrers: false, retry: options.source.http.retry, ..CopyOptions::default() };
            let target = Target::Layout(layout.clone());
            for image in &wanted {
                copy(&source, image, &target, None, &fetching, progress).await?;
            }
            Ok(())
        })
    }
}
