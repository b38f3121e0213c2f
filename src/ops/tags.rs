//! What a repository holds by name, and taking an image out of it: what `haversack list-tags` and `delete` do.

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;

use crate::digest::Digest;
use crate::natural;
use crate::ops::{Access, Error};
use crate::reference::{Remote, Tag, Target};
use crate::registry::{self, Repository};

/// A repository's tags, in the words of `skopeo list-tags`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Tags {
    /// `HOST/REPOSITORY`.
    pub repository: String,
    /// In the order of their versions ([`natural`]), whatever that of the registry is.
    pub tags: Vec<String>,
    /// What the registry lists and is no tag by the specification's grammar.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
}

/// What is deleted.
#[derive(Clone, Debug)]
pub struct DeleteOptions {
    /// The image, by tag or digest.
    pub image: Remote,
    /// Deletes it although other tags name it, which go with it.
    pub yes: bool,
    /// Deletes the tag and leaves the image, where the registry can.
    pub only_tag: bool,
    /// Maximum number of requests at a time.
    pub parallel: usize,
}

/// What was deleted.
#[derive(Debug, Serialize)]
pub struct Deleted {
    /// The image as it was named.
    pub image: String,
    /// Its digest.
    pub digest: Digest,
    /// The tags that are gone, sorted; `null` when the registry does not list its tags.
    pub tags: Option<Vec<String>>,
    /// Whether only the tag was deleted.
    pub only_tag: bool,
}

impl Tags {
    /// What is said of names that are no tags.
    pub fn warning(&self) -> Option<String> {
        let (count, first) = (self.refused.len(), self.refused.first()?);
        Some(format!("{count} names that the registry lists are no tags and were left out: {first}"))
    }

    /// The tags, a line each.
    pub fn to_text(&self) -> String {
        self.tags.iter().map(|tag| format!("{tag}\n")).collect()
    }
}

impl Deleted {
    /// What was deleted, for people.
    pub fn to_text(&self) -> String {
        let Deleted { image, digest, tags, only_tag } = self;
        if *only_tag {
            return format!("deleted the tag {image}\n  {digest} is still there\n");
        }
        let tags = match tags {
            Some(tags) if tags.is_empty() => "no tag named it".to_owned(),
            Some(tags) => format!("tags gone: {}", tags.join(", ")),
            None => "its tags are not known: the registry does not list them".to_owned(),
        };
        format!("deleted {image}\n  {digest}\n  {tags}\n")
    }
}

/// Lists the tags of a repository.
pub async fn list(image: &Remote, access: &Access) -> Result<Tags, Error> {
    let listed = access.repository(image, false).await?.tags().await?;
    let repository = format!("{}/{}", image.registry, image.repository);
    let mut tags: Vec<String> = listed.names.iter().map(Tag::to_string).collect();
    tags.sort_unstable_by(|a, b| natural::compare(a, b));
    Ok(Tags { repository, tags, refused: listed.refused })
}

/// Deletes an image. Unless it is told to, it deletes none that other tags name, or of which nobody can say so: registries
/// delete by digest, and all its tags go.
pub async fn delete(options: &DeleteOptions, access: &Access) -> Result<Deleted, Error> {
    let DeleteOptions { image, yes, only_tag, parallel } = options;
    let named = match &image.target {
        Target::Unnamed => return Err(Error::DeleteWhat(image.clone())),
        Target::Digest(_) | Target::Pinned { .. } if *only_tag => return Err(Error::NoTag(image.clone())),
        Target::Digest(_) => None,
        Target::Pinned { tag, .. } => Some(tag.clone()),
        Target::Tag(tag) => Some(tag.clone()),
    };
    let repository = access.repository(image, true).await?;
    let digest = repository.digest_of(image.target()).await?;
    let digest = digest.ok_or_else(|| registry::Error::NotFound(image.to_string()))?;
    let done = |tags| Deleted { image: image.to_string(), digest: digest.clone(), tags, only_tag: *only_tag };
    if *only_tag {
        return match repository.delete(image.target()).await {
            Ok(()) => Ok(done(Some(named.into_iter().collect()))),
            // What else can be done, and what would go with it, so that nobody has to ask once more.
            Err(registry::Error::NoTagDelete { place, .. }) => {
                let tags = tags_of(&repository, &digest, *parallel).await.ok();
                let others = tags.map(|tags| tags.into_iter().filter(|tag| Some(tag) != named.as_ref()).collect());
                Err(registry::Error::NoTagDelete { place, others }.into())
            }
            Err(error) => Err(error.into()),
        };
    }
    let tags = match tags_of(&repository, &digest, *parallel).await {
        Ok(tags) => Some(tags),
        // The list is what some registries do not have, or do not show.
        Err(registry::Error::NotFound(_) | registry::Error::Unauthorized(_)) => None,
        Err(error) => return Err(error.into()),
    };
    if !yes {
        match &tags {
            None => return Err(Error::TagsUnknown(image.clone())),
            Some(tags) => {
                let others: Vec<&str> =
                    tags.iter().filter(|tag| Some(*tag) != named.as_ref()).map(String::as_str).collect();
                if !others.is_empty() {
                    let others = others.join(", ");
                    return Err(Error::Shared { image: Box::new(image.clone()), digest, others });
                }
            }
        }
    }
    repository.delete(digest.as_str()).await?;
    Ok(done(tags))
}

/// The tags that name a digest, sorted: not all registries do.
async fn tags_of(repository: &Repository, digest: &Digest, parallel: usize) -> Result<Vec<String>, registry::Error> {
    let asked = repository.tags().await?.names.into_iter().map(|tag| async move {
        // One that has gone meanwhile names nothing.
        let found = repository.digest_of(&tag).await?;
        Ok::<_, registry::Error>((found.as_ref() == Some(digest)).then(|| tag.to_string()))
    });
    let found: Vec<Option<String>> = stream::iter(asked).buffered(parallel.max(1)).try_collect().await?;
    let mut found: Vec<String> = found.into_iter().flatten().collect();
    found.sort_unstable_by(|a, b| natural::compare(a, b));
    Ok(found)
}
