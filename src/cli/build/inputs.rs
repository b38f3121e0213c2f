//! What definitions take from elsewhere: the catalog, programs, bases.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use oci_spec::image::{Descriptor, ImageIndex};

use super::{BuildArgs, packages};
use crate::catalog::Snapshot;
use crate::catalog::tree::{self, DumpOptions};
use crate::cli::copy::open_source;
use crate::cli::outcome::Failure;
use crate::cli::{Context, block_on};
use crate::digest::{Algorithm, HashingReader};
use crate::fs::{self, PathContext};
use crate::image::build::assemble;
use crate::image::build::definition::Base;
use crate::image::build::plan::{self, CatalogInput};
use crate::image::build::sbom::{self, Component};
use crate::image::store::layout;
use crate::image::{Definition, Inputs, Layout, Platform, manifest};
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
fn catalog_inputs(db: &Path, into: &Path) -> Result<CatalogFacts, Failure> {
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
pub(super) fn inputs(
    args: &BuildArgs,
    directory: &Path,
    definition: &Definition,
    into: &Path,
    context: &Context,
) -> Result<Inputs, Failure> {
    let mut inputs = Inputs {
        directory: directory.to_owned(),
        platforms: match (&args.platform[..], &definition.platforms[..]) {
            ([], []) => vec![Platform::host()],
            ([], defined) => defined.to_vec(),
            (asked, _) => asked.to_vec(),
        },
        binaries: args.binary.iter().cloned().collect(),
        epoch: context.config.source_date_epoch()?,
        ..Inputs::default()
    };
    inputs.platforms.sort();
    inputs.platforms.dedup();
    if let std::collections::btree_map::Entry::Vacant(own) = inputs.binaries.entry(Platform::host()) {
        own.insert(plan::running_program()?);
    }
    if definition.layers.iter().any(|layer| layer.catalog.is_some()) {
        let Some(db) = &args.catalog else {
            let name = &definition.name;
            return Err(Failure::usage(format!("{name}: the image holds the certified catalog, and none was given"))
                .hint("give a snapshot with `--catalog FILE`; `haversack catalog snapshot` takes one"));
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
            let own = args.binary.iter().all(|(given, _)| given != platform);
            inputs.components.push(program(path, platform, own)?);
        }
    }
    for (number, layer) in definition.layers.iter().enumerate() {
        let Some(kernels) = layer.kernels.as_ref().filter(|kernels| kernels.dest.is_some()) else { continue };
        fs::create_dir_all(into)?;
        inputs.parts.insert(number, packages::kept(args, definition, kernels, into, context)?);
    }
    Ok(inputs)
}

/// The program in an image: this one, or one that was given and of which no more is known.
fn program(path: &Path, platform: &Platform, own: bool) -> Result<Component, Failure> {
    let mut reader = HashingReader::new(fs::open(path)?, Algorithm::Sha256);
    io::copy(&mut reader, &mut io::sink()).at("read", path)?;
    let digest = Some(reader.finish().0);
    let name = if own { "haversack".to_owned() } else { format!("program for {platform}") };
    let version = own.then(|| env!("CARGO_PKG_VERSION").to_owned());
    let linked = if own { sbom::crates() } else { Vec::new() };
    Ok(Component { name, version, digest, purpose: "APPLICATION", linked, ..Component::default() })
}

/// The base of an image: where it is, and what it is now.
pub(super) struct FoundBase {
    pub(super) reference: ImageRef,
    pub(super) image: Descriptor,
}

impl FoundBase {
    /// Asks what a definition's base is now; `None` for one without. Paths are relative to the definition, as its files
    /// are.
    pub(super) fn find(
        definition: &Definition,
        directory: &Path,
        args: &BuildArgs,
        context: &Context,
    ) -> Result<Option<Self>, Failure> {
        let Base::Image(reference) = &definition.base else { return Ok(None) };
        let reference = reference.below(directory);
        let image = block_on(async {
            let auth = args.registries.auth(context)?;
            Ok(open_source(&reference, args.registries.src_tls_verify, &auth, context).await?.1)
        })?;
        // What the name leads to may be another image when it is fetched.
        let reference = match reference {
            ImageRef::Docker(remote) => ImageRef::Docker(remote.with(RemoteTarget::Digest(layout::digest_of(&image)?))),
            local => local,
        };
        Ok(Some(FoundBase { reference, image }))
    }

    /// Copies the images for these platforms into a layout, and the index that lists them among others.
    pub(super) fn fetch(
        &self,
        platforms: &[Platform],
        layout: &Layout,
        args: &BuildArgs,
        context: &Context,
    ) -> Result<(), Failure> {
        block_on(async {
            let auth = args.registries.auth(context)?;
            let (source, _) = open_source(&self.reference, args.registries.src_tls_verify, &auth, context).await?;
            let mut wanted = vec![self.image.clone()];
            if manifest::is_index(self.image.media_type()) {
                let bytes = source.document(&self.image).await?;
                let index: ImageIndex = layout::parse(self.image.digest().as_ref(), &bytes)?;
                layout.write_blob(self.image.media_type().clone(), &bytes)?;
                wanted = platforms.iter().map(|it| assemble::choose(&index, it)).collect::<Result<_, _>>()?;
            }
            let options = CopyOptions { referrers: false, retry: context.http.retry, ..CopyOptions::default() };
            let target = Target::Layout(layout.clone());
            for image in &wanted {
                copy(&source, image, &target, None, &options, context.ui.progress()).await?;
            }
            Ok(())
        })
    }
}
