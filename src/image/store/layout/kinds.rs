//! The annotation `kind`, by which `cosign load` finds an image and its signatures in a layout.
//!
//! cosign keeps one image in a layout, and takes the first entry of each kind. So entries say their kind where the signatures and
//! attestations of one image are there and of no other; where there are several, none do, or cosign would load the signatures of one
//! with another.

use std::collections::BTreeSet;

use oci_spec::image::Descriptor;

use super::document::{KIND, ref_name};
use crate::image::manifest;
use crate::image::store::referrers::subject_of_tag;

/// Marks what cosign's tags name, and the image that they are about. What `cosign save` has marked stays as it is.
pub(super) fn mark(entries: &mut [Descriptor]) {
    let is_foreign = |entry: &Descriptor| kind(entry).is_some() && tag_kind(entry).is_none();
    let subjects: BTreeSet<String> = entries.iter().filter(|it| tag_kind(it).is_some()).filter_map(subject).collect();
    let is_subject = |entry: &Descriptor| subjects.contains(entry.digest().as_ref());
    if entries.iter().any(|entry| is_foreign(entry) && !is_subject(entry)) {
        return;
    }
    let is_only = subjects.len() == 1;
    for entry in entries {
        let new = match tag_kind(entry) {
            Some(kind) => kind,
            None if is_subject(entry) && manifest::is_index(entry.media_type()) => "imageIndex",
            None if is_subject(entry) => "image",
            None => continue,
        };
        let mut annotations = entry.annotations().clone().unwrap_or_default();
        annotations.remove(KIND);
        annotations.extend(is_only.then(|| (KIND.to_owned(), format!("dev.cosignproject.cosign/{new}"))));
        entry.set_annotations((!annotations.is_empty()).then_some(annotations));
    }
}

/// The kind of what has one of cosign's tags that it also writes into layouts.
fn tag_kind(entry: &Descriptor) -> Option<&'static str> {
    let name = ref_name(entry)?;
    subject_of_tag(name)?;
    match name.rsplit_once('.')?.1 {
        "sig" => Some("sigs"),
        "att" => Some("atts"),
        _ => None,
    }
}

fn subject(entry: &Descriptor) -> Option<String> {
    subject_of_tag(ref_name(entry)?).map(|digest| digest.to_string())
}

fn kind(entry: &Descriptor) -> Option<&str> {
    entry.annotations().as_ref()?.get(KIND).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use oci_spec::image::MediaType;

    use super::super::document::{descriptor, named};
    use super::*;
    use crate::digest::Digest;
    use crate::image::store::referrers::cosign_tags;

    #[test]
    fn entries_say_their_kind_while_only_one_image_is_signed() {
        let of = |text: &str| (Digest::sha256(text), descriptor(MediaType::ImageManifest, &Digest::sha256(text), 1));
        let ((one, first), (two, second), (_, other)) = (of("1"), of("2"), of("3"));
        let list = descriptor(MediaType::ImageIndex, &one, 1);
        let [signature, attestation, sbom] = cosign_tags(&one).map(|tag| named(&other, &tag));
        let of_second = named(&other, &cosign_tags(&two)[0]);
        let mut saved = other.clone();
        saved.set_annotations(Some([(KIND.to_owned(), "dev.cosignproject.cosign/sigs".to_owned())].into()));
        let image = |entry: &Descriptor| named(entry, "x:1");
        for (case, mut entries, expected) in [
            ("unsigned", vec![image(&first), second.clone()], vec![None, None]),
            (
                "one",
                vec![image(&first), second.clone(), signature.clone(), attestation, sbom],
                vec![Some("image"), None, Some("sigs"), Some("atts"), None],
            ),
            ("a list", vec![image(&list), signature.clone()], vec![Some("imageIndex"), Some("sigs")]),
            ("by cosign itself", vec![image(&first), signature.clone(), saved], vec![None, None, Some("sigs")]),
            ("two", vec![image(&first), second, signature, of_second], vec![None, None, None, None]),
        ] {
            for _ in 0..2 {
                mark(&mut entries);
                let kinds: Vec<_> =
                    entries.iter().map(|it| kind(it).and_then(|kind| kind.rsplit('/').next())).collect();
                assert_eq!(kinds, expected, "{case}");
            }
        }
        // They go when another signed image comes.
        let mut entries = vec![image(&first), named(&other, &cosign_tags(&one)[0])];
        mark(&mut entries);
        entries.push(named(&other, &cosign_tags(&two)[0]));
        mark(&mut entries);
        assert!(entries.iter().all(|entry| kind(entry).is_none()), "{entries:?}");
    }
}
