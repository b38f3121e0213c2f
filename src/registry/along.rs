//! What refers to an image, on its way along with it.
//!
//! An image is whole without its signatures and SBOMs: what cannot be had of them is told and does not end the copy.

use std::collections::{BTreeSet, HashSet};
use std::pin::pin;
use std::sync::atomic::Ordering;

use futures_util::StreamExt;
use oci_spec::image::Descriptor;

use crate::digest::Digest;
use crate::image::manifest::Manifest;
use crate::limits::{self, Count};
use crate::registry::client::Error;
use crate::registry::copy::{Job, Parts};
use crate::registry::ends::Target;
use crate::registry::referrers::{self, Referrer};

impl Job<'_> {
    /// Lists what was copied under what it refers to, where the registry does not see to it (distribution-spec 1.1, "Pushing
    /// Manifests with Subject").
    pub(super) async fn list_as_referrer(&self, parts: &Parts, top: &Descriptor) -> Result<(), Error> {
        let Target::Repository(_) = self.target else { return Ok(()) };
        let Some((_, bytes)) = parts.documents.iter().find(|(described, _)| described.digest() == top.digest()) else {
            return Ok(());
        };
        let Some((subject, referrer)) = referrers::as_listed(top, bytes)? else { return Ok(()) };
        referrers::attach(self.target, &subject, &[referrer], false, &self.options.memory).await
    }

    /// Copies what refers to these documents, and what refers to that. What cannot be had of it does not end the copy.
    pub(super) async fn referrers(&self, mut subjects: Vec<Descriptor>) -> Result<(), Error> {
        // A registry may list the same ones for everything, and a thousand times; an honest one lists each for what it is about.
        let (mut asked, mut known) = (HashSet::new(), HashSet::new());
        let mut count = Count::new("referrers of one image", limits::REFERRERS);
        for _ in 0..=limits::INDEX_LEVELS {
            let mut next = Vec::new();
            let mut open = referrers::digests(&subjects)?;
            open.retain(|subject| asked.insert(subject.clone()));
            let mut lists = pin!(referrers::lists(self.source, open));
            while let Some((subject, found)) = lists.next().await {
                let referrers::Found { referrers: found, unread } = found?;
                for (what, error) in unread {
                    self.counts.leave_out(what, &error);
                }
                let (mut listed, mut arrived) = (true, Vec::new());
                for referrer in found {
                    if !known.insert((referrer.described.digest().to_string(), referrer.tag.clone())) {
                        continue;
                    }
                    if let Err(exceeded) = count.one() {
                        let error = Error::Exceeded { place: self.source.name(), exceeded };
                        self.counts.leave_out(format!("what else refers to {subject}"), &error);
                        return Ok(());
                    }
                    let arriving = match self.options.takes_referrers {
                        true => self.referrer(&referrer).await,
                        false => Err(Error::NoPlaceForReferrers),
                    };
                    match arriving {
                        // cosign's are found by their tags, whatever the registry lists.
                        Ok(is_listed) => listed &= is_listed || referrer.tag.is_some(),
                        Err(error) => {
                            let tag = referrer.tag.as_ref().map(|tag| format!(" ({tag})")).unwrap_or_default();
                            self.counts.leave_out(format!("{}{tag}", referrer.described.digest()), &error);
                            continue;
                        }
                    }
                    self.counts.referrers.fetch_add(1, Ordering::Relaxed);
                    arrived.push(referrer);
                }
                let found = arrived;
                if !self.options.dry_run {
                    referrers::attach(self.target, &subject, &found, listed, &self.options.memory).await?;
                }
                next.extend(found.into_iter().map(|referrer| referrer.described));
            }
            subjects = next;
        }
        for (what, error) in referrers::too_deep(self.source, &subjects) {
            self.counts.leave_out(what, &error);
        }
        Ok(())
    }

    /// Refuses to put signatures in place of others that the destination has: those of the site itself, for instance.
    async fn keeps_others(&self, referrer: &Referrer) -> Result<(), Error> {
        let (Some(tag), Target::Repository(to)) = (&referrer.tag, self.target) else { return Ok(()) };
        let has_digest = |digest: &Digest| digest.as_str() == referrer.described.digest().as_ref();
        if tag.ends_with(".sbom") || to.digest_of(tag).await?.as_ref().is_none_or(has_digest) {
            return Ok(());
        }
        let signatures = |described: &Descriptor, bytes: &[u8]| {
            let parsed = Manifest::parse(described.digest().as_ref(), bytes)?;
            Ok::<_, Error>(parsed.layers().iter().map(|layer| layer.digest().to_string()).collect::<BTreeSet<_>>())
        };
        let (there, bytes) = to.document(tag).await?;
        let theirs = signatures(&there, &bytes)?;
        let ours = signatures(&referrer.described, &self.source.document(&referrer.described).await?)?;
        if theirs.is_subset(&ours) { Ok(()) } else { Err(Error::OtherSignatures(to.place(tag))) }
    }

    /// Brings one referrer; returns whether the target lists it.
    async fn referrer(&self, referrer: &Referrer) -> Result<bool, Error> {
        let mut parts = Parts::default();
        self.source.gather(&referrer.described, &mut parts, 0).await?;
        parts.check(self.source)?;
        self.keeps_others(referrer).await?;
        self.parts(&parts, &referrer.described, referrer.tag.as_deref()).await
    }
}
