//! What refers to an image: signatures, SBOMs, attestations.
//!
//! There are three ways, and all are followed. The referrers list of distribution-spec 1.1; where a registry has none,
//! the index under the tag `sha256-HEX` that the specification names in its place; and cosign's tags `sha256-HEX.sig`,
//! `.att` and `.sbom`. How layouts and archives list them is in [`referrers`](crate::image::store::referrers).

use std::collections::{HashMap, HashSet};
use std::pin::pin;

use futures_util::future::{join, join_all};
use futures_util::stream::{self, Stream, StreamExt};
use oci_spec::image::{Descriptor, ImageIndex, MediaType};
use serde::Deserialize;

use crate::causes;
use crate::digest::{self, Digest};
use crate::image::Store;
use crate::image::manifest;
use crate::image::store::layout;
pub use crate::image::store::referrers::Referrer;
use crate::image::store::referrers::{self, cosign_tags, fallback_tag};
use crate::limits::{self, Count, Exceeded};
use crate::registry::client::Error;
use crate::registry::ends::{Source, Target};
use crate::registry::memory::Memory;
use crate::registry::repository::Repository;

/// What refers to something, and where it could not be looked for.
pub struct Found {
    /// In the order in which the source lists them.
    pub referrers: Vec<Referrer>,
    /// Lists and tags that may have more, each with what happened to it.
    pub unread: Vec<(String, Error)>,
}

/// What refers to a manifest or an index, as far as the source knows.
///
/// An image is whole without it: that a registry fails at a list or a tag is no error, and told in the result. That it
/// does not offer one, or not to us, is what many do.
pub async fn list(source: &Source, subject: &Digest) -> Result<Found, Error> {
    let mut found = Found { referrers: Vec::new(), unread: Vec::new() };
    let repository = match source {
        Source::Repository(repository) => repository,
        Source::Store(store) => {
            found.referrers = referrers::list(store, subject)?;
            return Ok(found);
        }
    };
    let tags = cosign_tags(subject);
    let (listed, tagged) =
        join(listed(repository, subject), join_all(tags.iter().map(|tag| tagged(repository, tag)))).await;
    let (listed, unread) = listed;
    found.referrers.extend(listed.into_iter().map(|described| Referrer { described, tag: None }));
    found.unread.extend(unread.map(|error| (format!("the list of what refers to {subject}"), error)));
    for (tag, tagged) in tags.into_iter().zip(tagged) {
        match tagged {
            Ok(described) => {
                found.referrers.extend(described.map(|described| Referrer { described, tag: Some(tag) }));
            }
            Err(error) => found.unread.push((tag, error)),
        }
    }
    Ok(found)
}

/// Lists what refers to each of these, in their order, several at once; see [`list`].
pub(super) fn lists(source: &Source, subjects: Vec<Digest>) -> impl Stream<Item = (Digest, Result<Found, Error>)> {
    let asked = subjects.into_iter().map(async |subject| {
        let found = list(source, &subject).await;
        (subject, found)
    });
    stream::iter(asked).buffered(ASKED)
}

/// All that refers to an image, to the images that it lists, and to what refers to these, each once.
pub async fn all(source: &Source, image: &Descriptor) -> Result<Found, Error> {
    let mut all = Found { referrers: Vec::new(), unread: Vec::new() };
    let mut known = HashSet::from([image.digest().to_string()]);
    let mut count = Count::new("referrers of one image", limits::REFERRERS);
    let mut level = vec![image.clone()];
    for _ in 0..=limits::INDEX_LEVELS {
        let mut next = Vec::new();
        for subject in &level {
            // What cannot be read of the image itself is for others to find.
            if manifest::is_index(subject.media_type())
                && let Ok(bytes) = source.document(subject).await
            {
                let is_image =
                    |it: &Descriptor| manifest::is_index(it.media_type()) || manifest::is_manifest(it.media_type());
                let children = manifest::children(subject, &bytes).unwrap_or_default().into_iter().filter(is_image);
                next.extend(children.filter(|it| known.insert(it.digest().to_string())));
            }
        }
        let mut lists = pin!(lists(source, digests(&level)?));
        while let Some((subject, found)) = lists.next().await {
            let Found { referrers, unread } = match found {
                Ok(found) => found,
                // In a layout, of one manifest that is damaged nobody knows what it refers to.
                Err(error) => {
                    all.unread.push((format!("what refers to {subject}"), error));
                    continue;
                }
            };
            all.unread.extend(unread);
            for referrer in referrers {
                if !known.insert(referrer.described.digest().to_string()) {
                    continue;
                }
                if let Err(exceeded) = count.one() {
                    let error = Error::Exceeded { place: source.name(), exceeded };
                    all.unread.push((format!("what else refers to {subject}"), error));
                    return Ok(all);
                }
                next.push(referrer.described.clone());
                all.referrers.push(referrer);
            }
        }
        level = next;
    }
    all.unread.extend(too_deep(source, &level));
    Ok(all)
}

/// What refers to these is looked for no further.
pub(super) fn too_deep(source: &Source, subjects: &[Descriptor]) -> impl Iterator<Item = (String, Error)> {
    subjects.iter().map(|subject| {
        let exceeded = Exceeded::new("referrers of referrers", limits::INDEX_LEVELS);
        (format!("what refers to {}", subject.digest()), Error::Exceeded { place: source.name(), exceeded })
    })
}

pub(super) fn digests(described: &[Descriptor]) -> Result<Vec<Digest>, digest::Error> {
    described.iter().map(layout::digest_of).collect()
}

/// How many entries of an index have no name of their own, are not among the digests that were copied, and do not say either that
/// they refer to another image.
pub(super) fn others(store: &Store, index: &ImageIndex, copied: &HashSet<String>) -> u64 {
    let is_copied = |digest: &str| copied.contains(digest);
    let has_subject = |entry: &Descriptor| {
        let document = store.read_document(entry).ok();
        let document = document.and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
        document.is_some_and(|document| document["subject"]["digest"].is_string())
    };
    let is_other = |entry: &&Descriptor| {
        let name = layout::ref_name(entry);
        let subject = name.and_then(referrers::subject_of_tag);
        match (name, subject) {
            // The list under the fallback tag is written anew.
            (_, Some(subject)) if is_copied(subject.as_str()) => false,
            (Some(_), _) => false,
            (None, _) => !is_copied(entry.digest().as_ref()) && !has_subject(entry),
        }
    };
    index.manifests().iter().filter(is_other).count() as u64
}

/// What a registry lists, or the tag that stands in for its list; with the failure of either.
async fn listed(repository: &Repository, subject: &Digest) -> (Vec<Descriptor>, Option<Error>) {
    let failed = match repository.referrers(subject).await {
        Ok(Some(listed)) => return (listed, None),
        Ok(None) => None,
        Err(error) if is_not_offered(&error) => {
            tracing::info!("no list of what refers to {subject}: {}", causes::line(&error));
            None
        }
        Err(error) => Some(error),
    };
    if repository.is_not_listed(&fallback_tag(subject)) {
        return (Vec::new(), failed);
    }
    match fallback(repository, subject).await {
        Ok(Some(listed)) => (listed, failed),
        Ok(None) => (Vec::new(), failed),
        Err(error) if is_not_offered(&error) => (Vec::new(), failed),
        Err(error) => (Vec::new(), Some(failed.unwrap_or(error))),
    }
}

/// What has one of cosign's tags, where something has.
async fn tagged(repository: &Repository, tag: &str) -> Result<Option<Descriptor>, Error> {
    if repository.is_not_listed(tag) {
        return Ok(None);
    }
    let found = async {
        match repository.digest_of(tag).await? {
            Some(_) => Ok(Some(repository.document(tag).await?.0)),
            None => Ok(None),
        }
    };
    match found.await {
        // Some registries have rules for tags, and refuse these.
        Err(error) if is_not_offered(&error) => Ok(None),
        result => result,
    }
}

/// Whether a registry refuses to be asked that: some do not have it, some not for everybody.
fn is_not_offered(error: &Error) -> bool {
    match error {
        Error::NotFound(_) | Error::Unauthorized(_) => true,
        Error::Http(error) => error.status_code().is_some_and(|status| status.is_client_error() && status != 429),
        _ => false,
    }
}

/// What a document refers to, and how it is listed there: with the type and the annotations that it has (distribution-spec 1.1,
/// "Listing Referrers"). `None` for what refers to nothing.
pub(super) fn as_listed(described: &Descriptor, bytes: &[u8]) -> Result<Option<(Digest, Referrer)>, Error> {
    let document: Document = layout::parse(described.digest().as_ref(), bytes)?;
    let Some(subject) = document.subject else { return Ok(None) };
    let mut listed =
        layout::descriptor(described.media_type().clone(), &layout::digest_of(described)?, described.size());
    listed.set_artifact_type(document.artifact_type.or(document.config.map(|config| config.media_type().clone())));
    listed.set_annotations(document.annotations);
    Ok(Some((layout::digest_of(&subject)?, Referrer { described: listed, tag: None })))
}

/// What a manifest or an index says of itself.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    subject: Option<Descriptor>,
    artifact_type: Option<MediaType>,
    config: Option<Descriptor>,
    annotations: Option<HashMap<String, String>>,
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
        Target::Layout(layout) => return Ok(referrers::attach(layout, subject, referrers)?),
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

/// For how many manifests a registry is asked at once what refers to them; each takes up to four requests.
const ASKED: usize = 4;

/// How often a list of referrers is written that others write at the same time.
const WRITES: u32 = 8;
