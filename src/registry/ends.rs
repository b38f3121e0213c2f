//! The two ends of a copy: a repository of a registry, or a store on the disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use oci_spec::image::Descriptor;

use crate::image::manifest::{self, Manifest};
use crate::image::store::layout;
use crate::image::{Layout, Store};
use crate::limits;
use crate::registry::client::Error;
use crate::registry::copy::Parts;
use crate::registry::download::Chunks;
use crate::registry::repository::Repository;
use crate::registry::stored::read_blob;

/// Where images come from.
#[derive(Clone)]
pub enum Source {
    /// A registry.
    Repository(Repository),
    /// A layout or an archive.
    Store(Arc<Store>),
}

/// Where images go.
#[derive(Clone)]
pub enum Target {
    /// A registry.
    Repository(Repository),
    /// A layout.
    Layout(Layout),
}

impl Source {
    /// Reads a manifest or an index, exactly as described.
    pub async fn document(&self, described: &Descriptor) -> Result<Vec<u8>, Error> {
        match self {
            Source::Repository(repository) => {
                let (found, bytes) = repository.document(described.digest().as_ref()).await?;
                if found.size() != described.size() {
                    let place = described.digest().to_string();
                    let (expected, found) = (format!("{} bytes", described.size()), format!("{} bytes", found.size()));
                    return Err(Error::Mismatch { place, expected, found });
                }
                Ok(bytes)
            }
            Source::Store(store) => Ok(store.read_document(described)?),
        }
    }

    /// Reads a configuration.
    pub async fn config(&self, described: &Descriptor) -> Result<Vec<u8>, Error> {
        match self {
            Source::Repository(repository) => repository.small_blob(described).await,
            Source::Store(store) => Ok(store.read_document(described)?),
        }
    }

    /// Reads the documents of an image: indexes, manifests and configurations, by digest. The outermost has to be there; of
    /// the others that cannot be read, the error stands in their place.
    pub async fn documents(&self, image: &Descriptor) -> Result<BTreeMap<String, Result<Vec<u8>, Error>>, Error> {
        let mut documents = BTreeMap::from([(image.digest().to_string(), Ok(self.document(image).await?))]);
        let mut open = vec![(image.clone(), 0)];
        while let Some((described, depth)) = open.pop() {
            let Some(Ok(bytes)) = documents.get(described.digest().as_ref()) else { continue };
            let children = match manifest::is_index(described.media_type()) {
                true if depth > limits::INDEX_LEVELS => continue,
                true => manifest::children(&described, bytes).unwrap_or_default(),
                false => Manifest::parse("", bytes).ok().and_then(|manifest| manifest.config).into_iter().collect(),
            };
            let is_list = manifest::is_index(described.media_type());
            for child in children {
                let name = child.digest().to_string();
                if documents.contains_key(&name) {
                    continue;
                }
                let read = if is_list { self.document(&child).await } else { self.config(&child).await };
                documents.insert(name, read);
                open.extend(is_list.then_some((child, depth + 1)));
            }
        }
        Ok(documents)
    }

    /// What it is called where progress is shown.
    pub(super) fn name(&self) -> String {
        match self {
            Source::Repository(repository) => repository.name().to_owned(),
            Source::Store(store) => store.path().display().to_string(),
        }
    }

    /// Where its blobs lie, when that is on the disk.
    pub(super) fn kept(&self) -> Option<&Arc<Store>> {
        match self {
            Source::Repository(_) => None,
            Source::Store(store) => Some(store),
        }
    }

    /// A blob from an offset on. It is for the receiver to check.
    pub(super) fn blob(&self, described: &Descriptor, offset: u64) -> Chunks {
        match self {
            Source::Repository(repository) => repository.blob(described, offset),
            Source::Store(store) => read_blob(store.clone(), described.clone(), offset),
        }
    }

    /// Lists what an image is made of. The image itself has to be there; of what it refers to, [`Parts::missing`] says what is not.
    pub(super) async fn gather(&self, described: &Descriptor, parts: &mut Parts, depth: usize) -> Result<(), Error> {
        if depth > limits::INDEX_LEVELS {
            return Err(layout::Error::TooDeep(described.digest().to_string()).into());
        }
        if parts.documents.iter().any(|(known, _)| known.digest() == described.digest()) {
            return Ok(());
        }
        let bytes = self.document(described).await?;
        for child in manifest::children(described, &bytes)? {
            if manifest::is_index(child.media_type()) || manifest::is_manifest(child.media_type()) {
                match Box::pin(self.gather(&child, parts, depth + 1)).await {
                    // Of an index that is here in part, all that is not is to be named.
                    Err(error) if error.is_missing() => parts.missing.push(child.digest().to_string()),
                    result => result?,
                }
            } else {
                parts.blobs.insert(child.digest().to_string(), child);
            }
        }
        parts.documents.push((described.clone(), bytes));
        Ok(())
    }
}

impl Target {
    /// A name for the place in which a blob needs to be once.
    pub(super) fn store(&self) -> String {
        match self {
            Target::Repository(repository) => repository.registry().host().to_owned(),
            Target::Layout(layout) => layout.root().display().to_string(),
        }
    }
}
