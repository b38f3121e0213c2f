//! What changes from one carry to the next, for people: images, the packages in them, kernels, the certified catalog.

mod changes;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex};

pub use self::changes::{Changed, Changes, DiffReport, Named};
use crate::carry::{self, Reading};
use crate::catalog::diff as catalog_diff;
use crate::catalog::store::Snapshot;
use crate::causes;
use crate::compression;
use crate::escape::in_line;
use crate::fs::{self, PathContext};
use crate::image::installed::{Databases, Packages};
use crate::image::manifest::{self, Manifest};
use crate::image::store::layout::{self, ref_name};
use crate::image::store::referrers::subject_of_tag;
use crate::image::{Layout, Store};
use crate::kernel::set::KernelSet;
use crate::ops::{Error, Scratch};
use crate::progress::Progress;
use crate::reference::ImageRef;
use crate::tarball;

/// One of the two that are compared.
pub struct Side {
    place: String,
    images: Vec<Descriptor>,
    source: Of,
}

enum Of {
    Carry(Box<Reading>),
    Store(Arc<Store>),
}

impl Side {
    /// Opens a carry's directory, a layout or an archive. `base` is a layout with what a carry is built on, and `work` an empty
    /// directory that stays as long as this.
    pub fn open(place: &ImageRef, base: Option<&Path>, work: &Path) -> Result<Self, Error> {
        let name = in_line(place);
        if let ImageRef::Oci { path, name: None } = place
            && path.join(carry::CARRY).is_file()
            && !path.join("oci-layout").exists()
        {
            let base = base.map(Layout::open).transpose()?;
            let reading = Reading::open(path, None, base.as_ref(), work)?;
            let name = in_line(path.display());
            return Ok(Side {
                place: name,
                images: reading.carry.images.clone(),
                source: Of::Carry(Box::new(reading)),
            });
        }
        let store = Store::open(place)?;
        let images = match place.name() {
            Some(named) => vec![store.find(Some(named))?],
            None => store.index()?.manifests().clone(),
        };
        Ok(Side { place: name, images, source: Of::Store(Arc::new(store)) })
    }

    /// A document's bytes.
    fn document(&self, described: &Descriptor) -> Result<Vec<u8>, Error> {
        match &self.source {
            Of::Carry(reading) => reading.document(described)?.ok_or_else(|| carry::Error::NotHere.into()),
            Of::Store(store) => Ok(store.read_document(described)?),
        }
    }

    /// A layer's tar.
    fn layer(&self, described: &Descriptor) -> Result<Box<dyn Read + Send + '_>, Error> {
        let digest = layout::digest_of(described).map_err(layout::Error::from)?;
        match &self.source {
            Of::Carry(reading) => reading.plain(&digest)?.ok_or_else(|| carry::Error::NotHere.into()),
            Of::Store(store) => {
                let blob = std::io::BufReader::with_capacity(128 << 10, store.open_blob(described)?);
                Ok(compression::decoder(blob).at("read", store.path())?.1)
            }
        }
    }

    /// Images by name; without one, by digest. What refers to others is left out.
    fn named(&self) -> Result<BTreeMap<String, &Descriptor>, Error> {
        let mut named = BTreeMap::new();
        for image in &self.images {
            let name = ref_name(image);
            if name.is_some_and(|name| subject_of_tag(name).is_some()) {
                continue;
            }
            if name.is_none() && manifest::is_manifest(image.media_type()) {
                let parsed = Manifest::parse(image.digest().as_ref(), &self.document(image)?)?;
                if parsed.subject.is_some() {
                    continue;
                }
            }
            named.insert(in_line(name.unwrap_or(image.digest().as_ref())), image);
        }
        Ok(named)
    }

    /// The images that run on something, by platform.
    fn platforms(&self, image: &Descriptor) -> Result<BTreeMap<String, Platform>, Error> {
        let mut manifests = vec![image.clone()];
        if manifest::is_index(image.media_type()) {
            let index: ImageIndex = layout::parse(image.digest().as_ref(), &self.document(image)?)?;
            manifests = index.manifests().iter().filter(|it| manifest::is_manifest(it.media_type())).cloned().collect();
        }
        let mut platforms = BTreeMap::new();
        for described in manifests {
            let parsed = Manifest::parse(described.digest().as_ref(), &self.document(&described)?)?;
            let Some(config) = parsed.config.as_ref().filter(|_| parsed.is_image()) else { continue };
            let config = manifest::configuration(config.digest().as_ref(), &self.document(config)?)?;
            let name = in_line(format!("{}/{}", config.os(), config.architecture()));
            platforms.insert(name, Platform { config, layers: parsed.layers().to_vec() });
        }
        Ok(platforms)
    }

    /// A file of an image, by its whole name; the uppermost that there is.
    fn file(&self, platform: &Platform, path: &str, to: &Path) -> Result<bool, Error> {
        let wanted = path.trim_start_matches('/');
        for layer in platform.layers.iter().rev() {
            let mut archive = tarball::open(self.layer(layer)?);
            for entry in archive.entries().at("read", to)? {
                let mut entry = entry.at("read", to)?;
                let name = entry.path_bytes().into_owned();
                if name.strip_prefix(b"./").unwrap_or(&name) != wanted.as_bytes()
                    || !entry.header().entry_type().is_file()
                {
                    continue;
                }
                std::io::copy(&mut entry, &mut fs::create_new(to)?).at("write", to)?;
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// An image for a platform.
struct Platform {
    config: ImageConfiguration,
    layers: Vec<Descriptor>,
}

impl Platform {
    /// A variable of its environment.
    fn variable(&self, name: &str) -> Option<String> {
        let variables = self.config.config().as_ref()?.env().as_ref()?;
        variables.iter().find_map(|variable| variable.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
    }
}

/// Compares what lies at two places, with temporary files in directories of their own.
pub fn compare(
    old: &ImageRef,
    new: &ImageRef,
    base: Option<&Path>,
    scratch: &Scratch,
    progress: &Progress,
) -> Result<DiffReport, Error> {
    for side in [old, new] {
        if let ImageRef::Docker(remote) = side {
            return Err(Error::CompareRemote(remote.clone()));
        }
    }
    let [one, other, work] = ["old", "new", "work"].map(|name| scratch.directory(&format!("haversack-{name}-")));
    let (one, other, work) = (one?, other?, work?);
    let old = Side::open(old, base, one.path())?;
    let new = Side::open(new, base, other.path())?;
    diff(&old, &new, work.path(), progress)
}

/// Compares two carries, layouts or archives. `work` is an empty directory for files out of images, each as large as
/// a catalog or a package manager's database is.
///
/// Images are paired by name, those that are left over by repository where there is one of it on each side. Packages, kernels and
/// catalogs are looked for in the layers that differ. What cannot be read, as it is in a volume elsewhere or in what a carry is
/// built on, is counted in [`DiffReport::not_compared`].
pub fn diff(old: &Side, new: &Side, work: &Path, progress: &Progress) -> Result<DiffReport, Error> {
    let (olds, news) = (old.named()?, new.named()?);
    let digests = |images: &BTreeMap<String, &Descriptor>| -> BTreeMap<String, String> {
        images.iter().map(|(name, image)| (name.clone(), image.digest().to_string())).collect()
    };
    let mut report = DiffReport { images: Changes::of(&digests(&olds), &digests(&news)), ..DiffReport::default() };
    let pairs = pairs(&mut report.images);
    let task = progress.task("comparing images", crate::progress::Unit::Items, Some(pairs.len() as u64));
    let mut compared = Compared::default();
    for (number, (one, other)) in pairs.iter().enumerate() {
        let work = work.join(number.to_string());
        fs::create_dir_all(&work)?;
        if let Err(error) = compared.image((old, olds[one]), (new, news[other]), other, &work, &mut report) {
            report.not_compared.push(format!("{other}: {}", causes::line(&error)));
        }
        task.add(1);
    }
    // Kernels and catalogs of images that are only on one side.
    for (side, names, images, is_new) in
        [(old, &report.images.removed, &olds, false), (new, &report.images.added, &news, true)]
    {
        for (number, named) in names.iter().enumerate() {
            let work = work.join(format!("{}-{number}", if is_new { "new" } else { "old" }));
            fs::create_dir_all(&work)?;
            if let Err(error) = compared.alone(side, images[&named.name], is_new, &work) {
                report.not_compared.push(format!("{}: {}", named.name, causes::line(&error)));
            }
        }
    }
    report.kernels = Changes::of(&versions(&compared.kernels[0]), &versions(&compared.kernels[1]));
    report.catalog = compared.catalog()?;
    Ok(report)
}

/// What was collected of both sides.
#[derive(Default)]
struct Compared {
    kernels: [Packages; 2],
    catalogs: [Vec<PathBuf>; 2],
}

impl Compared {
    /// Compares what two images of one name have in them.
    fn image(
        &mut self,
        (old, old_image): (&Side, &Descriptor),
        (new, new_image): (&Side, &Descriptor),
        name: &str,
        work: &Path,
        report: &mut DiffReport,
    ) -> Result<(), Error> {
        let (olds, news) = (old.platforms(old_image)?, new.platforms(new_image)?);
        for (number, (platform, one)) in olds.iter().enumerate() {
            let Some(other) = news.get(platform) else { continue };
            let work = work.join(number.to_string());
            fs::create_dir_all(&work)?;
            self.data(old, one, 0, &work)?;
            self.data(new, other, 1, &work)?;
            let same =
                one.layers.iter().zip(&other.layers).take_while(|(one, other)| one.digest() == other.digest()).count();
            let packages = [(old, one, "old"), (new, other, "new")].map(|(side, platform, which)| {
                let work = work.join(which);
                fs::create_dir_all(&work)?;
                Ok::<_, Error>((look(side, &platform.layers[same..], &work)?, work, side, platform))
            });
            let [one, other] = packages;
            let (one, other) = (one?, other?);
            // Neither has a package manager's database above what both have.
            if one.0.is_empty() && other.0.is_empty() {
                continue;
            }
            let read = |(databases, work, side, platform): (Databases, PathBuf, &Side, &Platform)| -> Result<_, Error> {
                let databases = match databases.is_empty() {
                    true => look(side, &platform.layers[..same], &work)?,
                    false => databases,
                };
                Ok(versions(&databases.packages()?))
            };
            let changes = Changes::of(&read(one)?, &read(other)?);
            if !changes.is_empty() {
                report.packages.insert(format!("{name} {platform}"), changes);
            }
        }
        for platform in olds.keys().filter(|platform| !news.contains_key(*platform)) {
            report.not_compared.push(format!("{name}: {platform} is only in {}", old.place));
        }
        for platform in news.keys().filter(|platform| !olds.contains_key(*platform)) {
            report.not_compared.push(format!("{name}: {platform} is only in {}", new.place));
        }
        Ok(())
    }

    /// Collects kernels and the catalog of an image that has no counterpart.
    fn alone(&mut self, side: &Side, image: &Descriptor, is_new: bool, work: &Path) -> Result<(), Error> {
        for platform in side.platforms(image)?.values() {
            self.data(side, platform, usize::from(is_new), work)?;
        }
        Ok(())
    }

    /// Collects the list of kernels and the catalog that an image of ours says it has.
    fn data(&mut self, side: &Side, platform: &Platform, which: usize, work: &Path) -> Result<(), Error> {
        if let Some(path) = platform.variable("HAVERSACK_KERNEL_SET") {
            let to = work.join(format!("kernels-{which}.json"));
            if side.file(platform, &path, &to)? {
                let set = KernelSet::parse(&fs::read(&to, KERNELS)?)?;
                for kernel in set.kernels {
                    let release = &kernel.release;
                    let name = format!("{} {} {}", release.distribution, release.uname, release.machine);
                    let builds = self.kernels[which].entry(in_line(name)).or_default();
                    builds.insert(in_line(&release.build));
                }
            }
        }
        if let Some(path) = platform.variable("HAVERSACK_DB") {
            let to = work.join(format!("catalog-{which}.db"));
            // One for several platforms is one.
            if self.catalogs[which].is_empty() && side.file(platform, &path, &to)? {
                self.catalogs[which].push(to);
            }
        }
        Ok(())
    }

    fn catalog(&self) -> Result<Changes, Error> {
        let [Some(old), Some(new)] = [self.catalogs[0].first(), self.catalogs[1].first()] else {
            return Ok(Changes::default());
        };
        let found = catalog_diff::diff(&Snapshot::open(old)?, &Snapshot::open(new)?)?;
        let named = |facts: Vec<String>| facts.into_iter().map(|name| Named { name, version: String::new() }).collect();
        let changed = found.changed.into_iter().map(|it| Changed { name: it.what, old: it.old, new: it.new });
        Ok(Changes { added: named(found.added), removed: named(found.removed), changed: changed.collect() })
    }
}

/// Looks for databases of packages in layers, the uppermost first.
fn look(side: &Side, layers: &[Descriptor], work: &Path) -> Result<Databases, Error> {
    let mut databases = Databases::default();
    for layer in layers.iter().rev() {
        databases.look(side.layer(layer)?, work)?;
    }
    Ok(databases)
}

fn versions(packages: &Packages) -> BTreeMap<String, String> {
    let join =
        |versions: &BTreeSet<String>| in_line(versions.iter().map(String::as_str).collect::<Vec<_>>().join(", "));
    packages.iter().map(|(name, versions)| (in_line(name), join(versions))).collect()
}

/// Pairs of images that are compared, the new one's name second: those of one name that changed, and those that are left of one
/// repository, which are taken out of what was added and removed.
fn pairs(images: &mut Changes) -> Vec<(String, String)> {
    let mut pairs: Vec<(String, String)> =
        images.changed.iter().map(|changed| (changed.name.clone(), changed.name.clone())).collect();
    let repository = |name: &str| {
        let name = name.split('@').next().unwrap_or(name);
        match name.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => repository.to_owned(),
            _ => name.to_owned(),
        }
    };
    let count = |list: &[Named], of: &str| list.iter().filter(|named| repository(&named.name) == of).count();
    let (added, removed) = (images.added.clone(), images.removed.clone());
    for old in &removed {
        let of = repository(&old.name);
        if count(&removed, &of) != 1 || count(&added, &of) != 1 {
            continue;
        }
        let Some(new) = added.iter().find(|new| repository(&new.name) == of) else { continue };
        images.removed.retain(|named| named != old);
        images.added.retain(|named| named != new);
        images.changed.push(Changed {
            name: format!("{} -> {}", old.name, new.name),
            old: old.version.clone(),
            new: new.version.clone(),
        });
        if old.version != new.version {
            pairs.push((old.name.clone(), new.name.clone()));
        }
    }
    pairs
}

/// Bytes of a list of kernels, at most.
const KERNELS: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_paired_by_name_and_what_is_left_by_repository() {
        let images = |names: &[(&str, &str)]| -> BTreeMap<String, String> {
            names.iter().map(|(name, digest)| ((*name).to_owned(), (*digest).to_owned())).collect()
        };
        let old = images(&[
            ("h/a:1", "1"),
            ("h/b:1", "2"),
            ("h/c:1", "3"),
            ("h/c:2", "4"),
            ("h:5000/d", "5"),
            ("h/e:1", "6"),
        ]);
        let new = images(&[
            ("h/a:1", "9"),
            ("h/b:2", "8"),
            ("h/c:3", "7"),
            ("h:5000/d", "5"),
            ("h/e:2", "6"),
            ("h/f:1", "1"),
        ]);
        let mut changes = Changes::of(&old, &new);
        let found = pairs(&mut changes);
        let words = |list: &[Named]| list.iter().map(|named| named.name.clone()).collect::<Vec<_>>();
        assert_eq!(found, [("h/a:1".into(), "h/a:1".into()), ("h/b:1".into(), "h/b:2".into())]);
        assert_eq!(
            (words(&changes.added), words(&changes.removed)),
            (vec!["h/c:3".into(), "h/f:1".into()], vec!["h/c:1".into(), "h/c:2".into()])
        );
        let changed: Vec<&str> = changes.changed.iter().map(|changed| &*changed.name).collect();
        assert_eq!(changed, ["h/a:1", "h/b:1 -> h/b:2", "h/e:1 -> h/e:2"]);
    }
}
