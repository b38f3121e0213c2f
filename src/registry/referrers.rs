//! What refers to an image: signatures, SBOMs, attestations.
//!
//! There are three ways, and all are followed. The referrers list of distribution-spec 1.1; where a registry has none,
//! the index under the tag `sha256-HEX` that the specification names in its place; and cosign's tags `sha256-HEX.sig`,
//! `.att` and `.sbom`. How layouts and archives list them is in [`referrers`](crate::image::store::referrers).

use std::collections::HashSet;

use futures_util::future::{try_join, try_join_all};
use oci_spec::image::{Descriptor, ImageIndex, MediaType};

use crate::digest::Digest;
use crate::image::store::layout;
pub use crate::image::store::referrers::Referrer;
use crate::image::store::referrers::{self, cosign_tags, fallback_tag};
use crate::image::{Layout, manifest};
use crate::registry::client::Error;
use crate::registry::copy::{Source, Target};
use crate::registry::memory::Memory;
use crate::registry::repository::Repository;

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
        Source::Store(store) => found = referrers::list(store, subject)?,
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

/// How often a list of referrers is written that others write at the same time.
const WRITES: u32 = 8;
