//! `README.txt`: what lies in a carry, for the person who finds it.

use std::fmt::Write as _;

use oci_spec::image::Descriptor;

use crate::carry::document::{CARRY, CarryDocument};
use crate::carry::sign::{BUNDLE, SIGNATURE};
use crate::image::store::layout::{is_referrer, ref_name};
use crate::plural;
use crate::progress::{Unit, amount};

/// What a README.txt says of a carry that its document does not.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    /// Its document is signed.
    pub(super) is_signed: bool,
    /// The site holds all of it.
    pub(super) nothing_new: bool,
}

/// The words of a carry's README.txt.
pub(super) fn text(carry: &CarryDocument, known: Known) -> String {
    let Known { is_signed, nothing_new } = known;
    let program = if carry.program.is_some() { "./haversack" } else { "haversack" };
    let mut text = format!(
        "This is a carry of haversack: container images for a place without a network.\n\n\
         carry   {}\ncreated {}\n",
        carry.id, carry.created
    );
    if let Some(site) = &carry.site {
        let _ = writeln!(text, "site    {site}");
    }
    if nothing_new {
        text += "brings  nothing new: the site holds all of these images; only what describes them is in here\n";
    }
    if !carry.needs.is_empty() {
        let before: std::collections::BTreeSet<&str> = carry.needs.iter().map(|need| &*need.held.carry).collect();
        let before = before.into_iter().collect::<Vec<_>>().join(", ");
        let _ = writeln!(text, "needs   what came before with carry {before}: unpack it to the same place");
    }
    let _ = write!(
        text,
        "size    {} in {}; unpacked {}, and {} more while unpacking\n\n\
         To see whether all of it is here and undamaged:\n\n    {program} verify .\n\n\
         To unpack it into an OCI image layout (run it again for each medium, in any order):\n\n    \
         {program} unpack . --to oci:/path/to/layout\n\n\
         To unpack it into a registry:\n\n    {program} unpack . --to docker://registry.example:5000\n\n\
         {confirm}\
         Each volume is a sequence of zstd frames: `zstd -t volume-001.zst` checks it, too{built}.\n\n",
        amount(carry.totals.carried_bytes, Unit::Bytes),
        plural::count(carry.volumes.len(), "volume"),
        amount(carry.totals.blob_bytes, Unit::Bytes),
        amount(carry.totals.content_bytes + carry.totals.held_bytes, Unit::Bytes),
        built =
            if carry.needs.is_empty() { "" } else { ", but for what is compressed against something that is there" },
        confirm = match &carry.site {
            Some(site) => format!(
                "When it is done, `unpack` says a code of 32 characters. Whoever packed this carry needs it, so that the \
                 next one leaves out what is here:\n\n    haversack site confirm {site} CODE\n\n"
            ),
            None => String::new(),
        },
    );
    if is_signed {
        let _ = write!(
            text,
            "It is signed: carry.json is, which names images, volumes and the program beside them by SHA-256. This text is not. To see \
             who signed it, with a public key and a program that did not come in this carry, any one of these:\n\n    \
             haversack verify . --key pub.pem\n    \
             openssl dgst -sha256 -verify pub.pem -signature {SIGNATURE} {CARRY}\n    \
             cosign verify-blob --key pub.pem --bundle {BUNDLE} --insecure-ignore-tlog {CARRY}\n\n\
             `unpack` takes `--key pub.pem`, too, and then refuses whatever that key did not sign.\n\n"
        );
    }
    let (beside, images): (Vec<&Descriptor>, Vec<&Descriptor>) = carry.images.iter().partition(|it| is_referrer(it));
    text += "Images:\n\n";
    for image in images {
        let name = crate::escape::in_line(ref_name(image).unwrap_or("")).to_string();
        let _ = writeln!(text, "{}", format!("    {} {name}", image.digest()).trim_end());
    }
    if !beside.is_empty() {
        text += "\nSignatures, SBOMs and attestations of them:\n\n";
        beside.iter().for_each(|it| text += &format!("    {}\n", it.digest()));
    }
    text
}
