//! What refers to an image: signatures, SBOMs, attestations.
//!
//! There are three ways, and all are followed. The referrers list of distribution-spec 1.1; where a registry has none,
//! the index under the tag `sha256-HEX` that the specification names in its place; and cosign's tags `sha256-HEX.sig`,
//! `.att` and `.sbom`. In a layout, the first are entries of `index.json` without a name, the last entries with their
//! tag as the name.

use std::collections::HashSet;

use futures_util::future::{try_join, try_join_all};
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};

use crate::digest::Digest;
use crate::image::store::layout;
use crate::image::{Layout, manifest};
use crate::registry::client::Error;
use crate::registry::copy::{Source, Target};
use crate::registry::memory::Memory;
use crate::registry::repository::Repository;

/// Something that refers to an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrer {
    /// Its manifest.
    pub described: Descriptor,
    /// cosign's tag, where that is how it is found.
    pub tag: Option<String>,
}

/// What refers to a manifest or an index, as far as the source knows.
pub async fn list(source: &Source, subject: &Digest) -> Result<Vec<Referrer>, Error> {
    let mut found = Vec::new();
    match source {
        Source::Repository(repository) => {
            let tags = cosign_tags(subject);
            let (listed, tagged) = try_join(
                async {
                    match repository.referrers(subject).await? {
                        Some(listed) => Ok(Some(listed)),
                        None => fallback(repository, subject).await,
                    }
                },
                try_join_all(tags.iter().map(|tag| repository.digest_of(tag))),
            )
            .await?;
            let listed = listed.unwrap_or_default();
            found.extend(listed.into_iter().map(|described| Referrer { described, tag: None }));
            for (tag, _) in tags.into_iter().zip(tagged).filter(|(_, there)| there.is_some()) {
                let (described, _) = repository.document(&tag).await?;
                found.push(Referrer { described, tag: Some(tag) });
            }
        }
        Source::Store(store) => {
            let tags = cosign_tags(subject);
            for listed in store.index()?.manifests() {
                match layout::ref_name(listed) {
                    Some(name) if tags.iter().any(|tag| tag == name) => {
                        let mut described = listed.clone();
                        described.set_annotations(None);
                        found.push(Referrer { described, tag: Some(name.to_owned()) });
                    }
                    Some(_) => {}
                    None if manifest::is_manifest(listed.media_type()) => {
                        let document: ImageManifest =
                            layout::parse(listed.digest().as_ref(), &store.read_document(listed)?)?;
                        if document.subject().as_ref().is_some_and(|it| it.digest().to_string() == subject.as_str()) {
                            found.push(Referrer { described: listed.clone(), tag: None });
                        }
                    }
                    None => {}
                }
            }
        }
    }
    Ok(found)
}

/// Makes referrers that the target holds ones that are found there. `listed` says that the registry saw to it itself.
///
/// A registry without a list of referrers has an index under a tag instead (distribution-spec 1.1, "Pushing Manifests
/// with Subject"). All that it lacks is added at once, whether or not the manifests were there before: a list that was
/// lost comes back. Whoever else writes it at the same time may undo that, so it is read again afterwards.
pub async fn attach(
    target: &Target,
    subject: &Digest,
    referrers: &[Referrer],
    listed: bool,
    memory: &Memory,
) -> Result<(), Error> {
    let repository = match target {
        Target::Layout(layout) => {
            return Ok(referrers.iter().try_for_each(|referrer| attach_in_layout(layout, referrer))?);
        }
        Target::Repository(repository) => repository,
    };
    // Under their tags they were written already.
    let wanted: Vec<&Descriptor> =
        referrers.iter().filter(|referrer| referrer.tag.is_none()).map(|referrer| &referrer.described).collect();
    if listed || wanted.is_empty() {
        return Ok(());
    }
    // Only a list that has them all spares the tag. What a registry answers that has no list varies, and is no failure.
    let there = repository.referrers(subject).await.ok().flatten().unwrap_or_default();
    if wanted.iter().all(|wanted| there.iter().any(|there| there.digest() == wanted.digest())) {
        return Ok(());
    }
    let place = format!("{}/{} referrers", repository.registry().host(), repository.name());
    let _turn = memory.turn(&place, subject).await;
    for _ in 0..WRITES {
        let mut there = fallback(repository, subject).await?.unwrap_or_default();
        let known: HashSet<_> = there.iter().map(|there| there.digest().clone()).collect();
        let before = there.len();
        there.extend(wanted.iter().filter(|wanted| !known.contains(wanted.digest())).map(|wanted| (*wanted).clone()));
        if there.len() == before {
            return Ok(());
        }
        let index = layout::canonical(&layout::index_of(there));
        repository.put_document(&fallback_tag(subject), &MediaType::ImageIndex, &index).await?;
    }
    let place = repository.place(&fallback_tag(subject));
    Err(Error::ReferrersLost { place, times: WRITES })
}

fn attach_in_layout(layout: &Layout, referrer: &Referrer) -> Result<(), layout::Error> {
    layout.tag(&referrer.described, referrer.tag.as_deref())
}

async fn fallback(repository: &Repository, subject: &Digest) -> Result<Option<Vec<Descriptor>>, Error> {
    match repository.document(&fallback_tag(subject)).await {
        Ok((described, bytes)) if manifest::is_index(described.media_type()) => {
            let index: ImageIndex = layout::parse(described.digest().as_ref(), &bytes)?;
            Ok(Some(index.manifests().clone()))
        }
        Ok(_) | Err(Error::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn fallback_tag(subject: &Digest) -> String {
    format!("{}-{}", subject.algorithm().name(), subject.hex())
}

fn cosign_tags(subject: &Digest) -> [String; 3] {
    ["sig", "att", "sbom"].map(|kind| format!("{}.{kind}", fallback_tag(subject)))
}

/// How often a list of referrers is written that others write at the same time.
const WRITES: u32 = 8;
