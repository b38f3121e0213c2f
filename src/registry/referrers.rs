//! What refers to an image: signatures, SBOMs, attestations.
//!
//! There are three ways, and all are followed. The referrers list of distribution-spec 1.1; where a registry has none,
//! the index under the tag `sha256-HEX` that the specification names in its place; and cosign's tags `sha256-HEX.sig`,
//! `.att` and `.sbom`. How layouts and archives list them is in [`referrers`](crate::image::store::referrers).

use futures_util::future::{try_join, try_join_all};
use oci_spec::image::ImageIndex;

use crate::digest::Digest;
use crate::image::store::layout;
pub use crate::image::store::referrers::Referrer;
use crate::image::store::referrers::{self, cosign_tags, fallback_tag};
use crate::image::{Layout, manifest};
use crate::registry::client::Error;
use crate::registry::copy::{Source, Target};
use crate::registry::repository::Repository;

/// What refers to a manifest or an index, as far as the source knows.
pub async fn list(source: &Source, subject: &Digest) -> Result<Vec<Referrer>, Error> {
    let mut found = Vec::new();
    match source {
        Source::Repository(repository) => {
            let tags = cosign_tags(subject);
            let (index, tagged) = try_join(
                async {
                    match repository.referrers(subject).await? {
                        Some(index) => Ok(Some(index)),
                        None => fallback(repository, subject).await,
                    }
                },
                try_join_all(tags.iter().map(|tag| repository.digest_of(tag))),
            )
            .await?;
            let listed = index.iter().flat_map(|index| index.manifests().clone());
            found.extend(listed.map(|described| Referrer { described, tag: None }));
            for (tag, _) in tags.into_iter().zip(tagged).filter(|(_, there)| there.is_some()) {
                let (described, _) = repository.document(&tag).await?;
                found.push(Referrer { described, tag: Some(tag) });
            }
        }
        Source::Store(store) => found = referrers::list(store, subject)?,
    }
    Ok(found)
}

/// Makes a referrer that the target holds one that is found there. `listed` says that the registry saw to it itself.
pub async fn attach(target: &Target, subject: &Digest, referrer: &Referrer, listed: bool) -> Result<(), Error> {
    match target {
        Target::Layout(layout) => Ok(attach_in_layout(layout, referrer)?),
        // Under its tag it was written already.
        Target::Repository(_) if listed || referrer.tag.is_some() => Ok(()),
        Target::Repository(repository) => {
            let mut manifests = fallback(repository, subject).await?.map(|index| index.manifests().clone());
            let manifests = manifests.get_or_insert_default();
            if manifests.iter().any(|there| there.digest() == referrer.described.digest()) {
                return Ok(());
            }
            manifests.push(referrer.described.clone());
            let index = layout::index_of(std::mem::take(manifests));
            let media_type = oci_spec::image::MediaType::ImageIndex;
            repository.put_document(&fallback_tag(subject), &media_type, &layout::canonical(&index)).await?;
            Ok(())
        }
    }
}

fn attach_in_layout(layout: &Layout, referrer: &Referrer) -> Result<(), layout::Error> {
    layout.tag(&referrer.described, referrer.tag.as_deref())
}

async fn fallback(repository: &Repository, subject: &Digest) -> Result<Option<ImageIndex>, Error> {
    match repository.document(&fallback_tag(subject)).await {
        Ok((described, bytes)) if manifest::is_index(described.media_type()) => {
            Ok(Some(layout::parse(described.digest().as_ref(), &bytes)?))
        }
        Ok(_) | Err(Error::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
