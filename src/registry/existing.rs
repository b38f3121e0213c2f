//! What a registry has already: asked for many tags at once, before anything is built for them.

use std::collections::BTreeMap;

use futures_util::stream::{self, StreamExt};
use oci_spec::image::Descriptor;
use serde_json::Value;

use crate::digest::Digest;
use crate::image::build::fingerprint::FINGERPRINT;
use crate::image::store::layout;
use crate::registry::client::Error;
use crate::registry::repository::Repository;

/// An image that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Existing {
    /// Its digest.
    pub digest: Digest,
    /// What it was made of, where it says so ([`FINGERPRINT`]).
    pub fingerprint: Option<String>,
    /// All its annotations.
    pub annotations: BTreeMap<String, String>,
    images: Images,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Images {
    /// For these platforms, where all of them say theirs.
    Index(Option<Vec<String>>),
    /// One, whose configuration says for which.
    Single(Option<Box<Descriptor>>),
}

impl Existing {
    /// For which platforms it has images, as `linux/arm64`; `None` when it does not say. That of a single image is read from
    /// its configuration.
    pub async fn platforms(&self, repository: &Repository) -> Result<Option<Vec<String>>, Error> {
        match &self.images {
            Images::Index(platforms) => Ok(platforms.clone()),
            Images::Single(None) => Ok(None),
            Images::Single(Some(config)) => {
                let bytes = repository.small_blob(config).await?;
                Ok(platform(&layout::parse(config.digest().as_ref(), &bytes)?).map(|platform| vec![platform]))
            }
        }
    }
}

fn platform(of: &Value) -> Option<String> {
    Some(format!("{}/{}", of["os"].as_str()?, of["architecture"].as_str()?))
}

/// Asks what is under each tag of a repository, so many at one time; the answers are in the order of the tags.
///
/// `None` means that the registry says there is no such tag or repository. That it cannot be reached, wants other
/// credentials or is in trouble is an error, and never taken for an absence.
pub async fn existing(
    repository: &Repository,
    tags: &[String],
    parallel: usize,
) -> Vec<Result<Option<Existing>, Error>> {
    let Some((first, others)) = tags.split_first() else { return Vec::new() };
    // The first answer brings the token that the others then have.
    let mut answers = vec![one(repository, first).await];
    let others = stream::iter(others).map(|tag| one(repository, tag)).buffered(parallel.max(1));
    answers.extend(others.collect::<Vec<_>>().await);
    answers
}

async fn one(repository: &Repository, tag: &str) -> Result<Option<Existing>, Error> {
    let (described, bytes) = match repository.document(tag).await {
        Ok(found) => found,
        Err(Error::NotFound(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    // Whatever was built by others is there, too, and says nothing of this kind.
    let document: Value = layout::parse(described.digest().as_ref(), &bytes)?;
    let fingerprint = document["annotations"][FINGERPRINT].as_str().map(str::to_owned);
    let annotations = serde_json::from_value(document["annotations"].clone()).unwrap_or_default();
    let images = match document["manifests"].as_array() {
        Some(images) => Images::Index(images.iter().map(|image| platform(&image["platform"])).collect()),
        None => Images::Single(serde_json::from_value(document["config"].clone()).ok().map(Box::new)),
    };
    Ok(Some(Existing { digest: layout::digest_of(&described)?, fingerprint, annotations, images }))
}
