//! What refers to an image in a layout or an archive: signatures, SBOMs, attestations.
//!
//! Programs list them in `index.json` in different ways, and all are read:
//!
//! ```text
//! an entry whose document has `subject`        oras, olareg and we: image-spec 1.1, whatever the entry is called
//! an index with the name sha256-HEX            regclient: the fallback tag of distribution-spec 1.1, which we write, too
//! an entry with the name sha256-HEX.sig …      cosign's tags, as in a registry: .sig, .att and .sbom
//! an entry with `kind` …/sigs or …/atts        `cosign save`, beside the entry of the same name that is the image
//! ```

use std::collections::HashMap;

use oci_spec::image::{Descriptor, ImageIndex, MediaType};
use serde::Deserialize;

use crate::digest::Digest;
use crate::fs;
use crate::image::manifest;
use crate::image::store::layout::{self, Layout, kind_of};
use crate::image::store::{Error, Store};

/// Something that refers to an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrer {
    /// Its manifest or index.
    pub described: Descriptor,
    /// cosign's tag, where that is how it is found.
    pub tag: Option<String>,
}

/// Lists what refers to a manifest or an index, each document once, in the order of `index.json`.
///
/// A manifest that a fallback list names and that is not in the store is left out with a warning.
pub fn list(store: &Store, subject: &Digest) -> Result<Vec<Referrer>, Error> {
    let index = store.index()?;
    let (fallback, cosign) = (fallback_tag(subject), cosign_tags(subject));
    let mut found = Found::default();
    for listed in index.manifests() {
        let name = layout::ref_name(listed);
        if let Some(tag) = cosign.iter().find(|tag| name == Some(tag.as_str())) {
            found.add(listed, Some(tag.clone()));
        } else if name == Some(&fallback) && manifest::is_index(listed.media_type()) {
            let list: ImageIndex = layout::parse(listed.digest().as_ref(), &store.read_document(listed)?)?;
            for described in list.manifests() {
                let digest = layout::digest_of(described).map_err(layout::Error::from)?;
                if store.blob_size(&digest).is_some() {
                    found.add_listed(described.clone());
                } else {
                    tracing::warn!("{}: {fallback} lists {digest}, which is not there", store.path().display());
                }
            }
        } else if let Some(tag) = cosign_tag_of_kind(listed, &cosign) {
            if saved_image(index.manifests(), name).is_some_and(|image| image == subject.as_str()) {
                found.add(listed, Some(tag.to_owned()));
            }
        } else if manifest::is_index(listed.media_type()) || manifest::is_manifest(listed.media_type()) {
            let document: Refers = layout::parse(listed.digest().as_ref(), &store.read_document(listed)?)?;
            if document.subject.is_some_and(|it| it.digest().as_ref() == subject.as_str()) {
                found.add(listed, None);
            }
        }
    }
    Ok(found.0)
}

/// Lists what refers to an image in a layout: each by itself, as oras, olareg and we look for it, and in the index that has the
/// fallback tag for its name, where regclient does. cosign's have their tags.
///
/// What is listed there already stays, and several writers lose nothing of each other's.
pub fn attach(layout: &Layout, subject: &Digest, referrers: &[Referrer]) -> Result<(), layout::Error> {
    for referrer in referrers {
        layout.tag(&referrer.described, referrer.tag.as_deref())?;
    }
    let untagged = || referrers.iter().filter(|it| it.tag.is_none()).map(|it| &it.described);
    if untagged().next().is_none() {
        return Ok(());
    }
    let fallback = fallback_tag(subject);
    let is_list = |entry: &Descriptor| layout::ref_name(entry) == Some(&fallback);
    // A list that another writer replaces before it is listed would lie about for ever.
    let _lock = fs::Lock::wait(&layout.root().join(LOCK))?;
    loop {
        let before = layout.index()?.manifests().iter().find(|entry| is_list(entry)).cloned();
        let mut listed = match &before {
            Some(list) => match layout.read_document(list) {
                Ok(bytes) => layout::parse::<ImageIndex>(list.digest().as_ref(), &bytes)?.manifests().clone(),
                // Another writer has replaced it meanwhile.
                Err(_) if layout.index()?.manifests().iter().all(|entry| entry != list) => continue,
                Err(error) => return Err(error),
            },
            None => Vec::new(),
        };
        for described in untagged() {
            if listed.iter().all(|there| there.digest() != described.digest()) {
                listed.push(described.clone());
            }
        }
        listed.sort_by_key(|described| described.digest().to_string());
        let list = layout.write_blob(MediaType::ImageIndex, &layout::canonical(&layout::index_of(listed)))?;
        if before.as_ref().is_some_and(|before| before.digest() == list.digest()) {
            return Ok(());
        }
        let is_done = layout.change(|entries| {
            let is_as_before = entries.iter().find(|entry| is_list(entry)) == before.as_ref();
            if is_as_before {
                entries.retain(|entry| !is_list(entry));
                entries.push(layout::named(&list, &fallback));
            }
            is_as_before
        })?;
        if is_done {
            // Nothing else leads to the list that was replaced: it would only be in the way.
            if let Some(before) = before {
                let _ = std::fs::remove_file(layout.blob_path(&layout::digest_of(&before)?));
            }
            return Ok(());
        }
    }
}

/// The tag under which a registry without a referrers list keeps one (distribution-spec 1.1, "Referrers Tag Schema").
pub fn fallback_tag(subject: &Digest) -> String {
    format!("{}-{}", subject.algorithm().name(), subject.hex())
}

/// The tags under which cosign looks for what refers to a digest.
pub fn cosign_tags(subject: &Digest) -> [String; 3] {
    ["sig", "att", "sbom"].map(|kind| format!("{}.{kind}", fallback_tag(subject)))
}

/// The digest that a fallback tag or one of cosign's tags is about.
pub(crate) fn subject_of_tag(tag: &str) -> Option<Digest> {
    let name = ["sig", "att", "sbom"].iter().find_map(|kind| tag.strip_suffix(kind)?.strip_suffix('.')).unwrap_or(tag);
    let (algorithm, hex) = name.split_once('-')?;
    format!("{algorithm}:{hex}").parse().ok()
}

/// Held while lists are changed; its name is that of what goes away with the next writer.
const LOCK: &str = ".referrers.partial";

/// What any document has that refers to another.
#[derive(Deserialize)]
struct Refers {
    #[serde(default)]
    subject: Option<Descriptor>,
}

#[derive(Default)]
struct Found(Vec<Referrer>);

impl Found {
    /// Adds an entry of `index.json`, without what that says of its place there.
    fn add(&mut self, listed: &Descriptor, tag: Option<String>) {
        let mut described = listed.clone();
        let kept = |key: &str| tag.is_none() && ![layout::REF_NAME, layout::KIND, OLAREG_SUBJECT].contains(&key);
        let annotations = listed.annotations().iter().flatten().filter(|(key, _)| kept(key));
        let annotations: HashMap<_, _> = annotations.map(|(key, value)| (key.clone(), value.clone())).collect();
        described.set_annotations((!annotations.is_empty()).then_some(annotations));
        self.push(Referrer { described, tag });
    }

    fn add_listed(&mut self, described: Descriptor) {
        self.push(Referrer { described, tag: None });
    }

    fn push(&mut self, referrer: Referrer) {
        if self.0.iter().all(|there| there.described.digest() != referrer.described.digest()) {
            self.0.push(referrer);
        }
    }
}

/// The tag that `cosign load` gives to an entry of that kind.
fn cosign_tag_of_kind<'a>(listed: &Descriptor, [signatures, attestations, sboms]: &'a [String; 3]) -> Option<&'a str> {
    match kind_of(listed)? {
        "sigs" => Some(signatures),
        "atts" => Some(attestations),
        "sboms" => Some(sboms),
        _ => None,
    }
}

/// The digest of the only image that `cosign save` listed under a name, or without one.
fn saved_image<'a>(listed: &'a [Descriptor], name: Option<&str>) -> Option<&'a str> {
    let mut images = listed
        .iter()
        .filter(|it| matches!(kind_of(it), Some("image" | "imageIndex")) && layout::ref_name(it) == name)
        .map(|it| it.digest().as_ref());
    let first = images.next()?;
    images.all(|other| other == first).then_some(first)
}

/// olareg's annotation of what it keeps for its referrers list; the document itself has the `subject`.
const OLAREG_SUBJECT: &str = "org.olareg.referrer.subject";

#[cfg(test)]
mod tests {
    use oci_spec::image::MediaType;

    use super::*;
    use crate::image::fixture;
    use crate::image::store::verify;
    use crate::progress::Progress;

    /// Each case lists a signature, and what refers to it, its own way; `found` is the tag it then has.
    #[test]
    fn referrers_are_found_however_a_layout_lists_them() {
        const COSIGN: &str = "dev.cosignproject.cosign";
        type Case = (&'static str, bool, Vec<(&'static str, String)>, Option<&'static str>);
        let cases: [Case; 7] = [
            ("without a name", true, vec![], None),
            ("under a name", true, vec![(layout::REF_NAME, "sbom:1".into())], None),
            ("by olareg", true, vec![(OLAREG_SUBJECT, "sha256:0".into())], None),
            ("by cosign's tag", false, vec![(layout::REF_NAME, "TAG.sig".into())], Some("sig")),
            ("by cosign save, signatures", false, vec![("kind", format!("{COSIGN}/sigs"))], Some("sig")),
            ("by cosign save, attestations", false, vec![("kind", format!("{COSIGN}/atts"))], Some("att")),
            ("of something else", false, vec![(layout::REF_NAME, "other".into())], Some("none")),
        ];
        for as_index in [false, true] {
            for (case, has_subject, annotations, found) in &cases {
                let dir = tempfile::tempdir().unwrap();
                let (layout, image) = fixture::image(dir.path());
                let subject = layout::digest_of(&image).unwrap();
                let mut saved = image.clone();
                saved.set_annotations(Some([("kind".to_owned(), format!("{COSIGN}/image"))].into()));
                let plain = referrer(&layout, has_subject.then_some(&image), as_index);
                let mut listed = plain.clone();
                let annotations: HashMap<_, _> = annotations
                    .iter()
                    .map(|(key, value)| ((*key).to_owned(), value.replace("TAG", &fallback_tag(&subject))))
                    .collect();
                listed.set_annotations((!annotations.is_empty()).then_some(annotations));
                list_in(&layout, vec![saved, listed]);
                let tag = found.map(|kind| format!("{}.{kind}", fallback_tag(&subject)));
                let expected = if *found == Some("none") { vec![] } else { vec![Referrer { described: plain, tag }] };
                assert_eq!(list(&Store::Layout(layout), &subject).unwrap(), expected, "{case}, index: {as_index}");
            }
        }
    }

    #[test]
    fn fallback_tag_of_a_layout_is_read_and_what_it_lists_in_vain_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let (layout, image) = fixture::image(dir.path());
        let subject = layout::digest_of(&image).unwrap();
        let there = referrer(&layout, Some(&image), false);
        let gone = layout::descriptor(MediaType::ImageManifest, &Digest::sha256(b"gone"), 4);
        let index = layout::canonical(&layout::index_of(vec![there.clone(), gone]));
        let index = layout.write_blob(MediaType::ImageIndex, &index).unwrap();
        // Listed twice: by the fallback tag and by itself.
        list_in(&layout, vec![image, layout::named(&index, &fallback_tag(&subject)), there.clone()]);
        assert_eq!(list(&Store::Layout(layout), &subject).unwrap(), [Referrer { described: there, tag: None }]);
    }

    #[test]
    fn what_is_attached_is_listed_by_itself_and_under_the_fallback_tag_and_nothing_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let (layout, image) = fixture::image(dir.path());
        layout.tag(&image, Some("x:1")).unwrap();
        let subject = layout::digest_of(&image).unwrap();
        let one = Referrer { described: referrer(&layout, Some(&image), false), tag: None };
        let signed =
            Referrer { described: referrer(&layout, None, false), tag: Some(cosign_tags(&subject)[0].clone()) };
        let many: Vec<Referrer> = (0..8)
            .map(|number| {
                let document = serde_json::json!({
                    "schemaVersion": 2, "mediaType": MediaType::ImageManifest, "subject": image, "layers": [],
                    "annotations": { "number": number.to_string() },
                });
                let described = layout.write_blob(MediaType::ImageManifest, &layout::canonical(&document)).unwrap();
                Referrer { described, tag: None }
            })
            .collect();
        for _ in 0..2 {
            attach(&layout, &subject, &[one.clone(), signed.clone()]).unwrap();
        }
        std::thread::scope(|scope| {
            for referrer in &many {
                scope.spawn(|| attach(&layout, &subject, std::slice::from_ref(referrer)).unwrap());
            }
        });
        let sorted = |mut all: Vec<String>| {
            all.sort();
            all
        };
        let digest = |described: &Descriptor| described.digest().to_string();
        let untagged = sorted(many.iter().chain([&one]).map(|referrer| digest(&referrer.described)).collect());
        let list = layout.find(Some(&fallback_tag(&subject))).unwrap();
        let list: ImageIndex = layout::parse("list", &layout.read_document(&list).unwrap()).unwrap();
        assert_eq!(list.manifests().iter().map(digest).collect::<Vec<_>>(), untagged);
        let found = super::list(&Store::Layout(layout.clone()), &subject).unwrap();
        let with_tag = [untagged, vec![digest(&signed.described)]].concat();
        assert_eq!(sorted(found.iter().map(|it| digest(&it.described)).collect()), sorted(with_tag));
        // Lists that were replaced are gone, and the only image is still the only one.
        assert_eq!(layout.find(None).unwrap().digest(), image.digest());
        let report = verify::verify(&Store::Layout(layout), None, &verify::VerifyOptions::default(), &Progress::off());
        let report = report.unwrap();
        let is_stray = |it: &&verify::Finding| matches!(it.problem, verify::Problem::Stray | verify::Problem::Leftover);
        assert_eq!(report.findings.iter().find(is_stray), None);
        assert_eq!(report.unneeded, []);
    }

    #[test]
    fn signatures_saved_beside_two_images_are_nobodys() {
        let dir = tempfile::tempdir().unwrap();
        let (layout, image) = fixture::image(dir.path());
        let subject = layout::digest_of(&image).unwrap();
        let of_kind = |described: &Descriptor, kind: &str| {
            let mut described = described.clone();
            described.set_annotations(Some([("kind".into(), format!("dev.cosignproject.cosign/{kind}"))].into()));
            described
        };
        let (other, signature) = (referrer(&layout, Some(&image), true), referrer(&layout, None, false));
        list_in(&layout, vec![of_kind(&image, "image"), of_kind(&other, "imageIndex"), of_kind(&signature, "sigs")]);
        let found = list(&Store::Layout(layout), &subject).unwrap();
        assert_eq!(found, [Referrer { described: other, tag: None }]);
    }

    #[test]
    fn tags_say_what_they_are_about() {
        let digest = Digest::sha256(b"x");
        let fallback = fallback_tag(&digest);
        for tag in cosign_tags(&digest).iter().chain([&fallback]) {
            assert_eq!(subject_of_tag(tag), Some(digest.clone()));
        }
        for tag in ["v1", "sha256-abc", "sha256-abc.sig", &format!("{fallback}.other")] {
            assert_eq!(subject_of_tag(tag), None, "{tag}");
        }
    }

    fn referrer(layout: &Layout, subject: Option<&Descriptor>, as_index: bool) -> Descriptor {
        let mut document = serde_json::to_value(layout::index_of(Vec::new())).unwrap();
        let mut media_type = MediaType::ImageIndex;
        if !as_index {
            media_type = MediaType::ImageManifest;
            let config = layout.write_blob(MediaType::EmptyJSON, b"{}").unwrap();
            document = serde_json::json!({
                "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [config],
            });
        }
        if let Some(subject) = subject {
            document["subject"] = serde_json::to_value(subject).unwrap();
        }
        layout.write_blob(media_type, &layout::canonical(&document)).unwrap()
    }

    fn list_in(layout: &Layout, manifests: Vec<Descriptor>) {
        let index = layout::canonical(&layout::index_of(manifests));
        crate::fs::write(&layout.root().join("index.json"), &index).unwrap();
    }
}
