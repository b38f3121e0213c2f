//! Manifests and blobs for those who pull.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RANGE};

use crate::digest::{Digest, Hasher};
use crate::plural;
use crate::serve::answer::{self, Answer, DIGEST, Refusal, set};
use crate::serve::body::{Body, Part, Sound, Unverified};
use crate::serve::range::{self, Asked};
use crate::serve::request::Request;
use crate::serve::route::{self, Reference};
use crate::serve::stamp::Known;
use crate::serve::store::{Blob, Store};
use crate::serve::view::{Found, View};

/// `GET` and `HEAD /v2/NAME/manifests/REFERENCE`
pub(super) async fn manifest(
    store: &Arc<Store>,
    request: &Request,
    name: &str,
    reference: &str,
) -> Result<Answer, Refusal> {
    let reference = route::reference(reference)?;
    let view = request.view(store).await?;
    let digest = meant(&view, name, request.ns.as_deref(), &reference)?;
    let document = match view.documents.get(&digest) {
        Some(Ok(document)) => document,
        Some(Err(bad)) => return Err(bad.refusal(UNKNOWN, format_args!("{name}: manifest {digest}"))),
        None => return Err(Refusal::manifest_unknown(format!("{name}: manifest {digest} is not there"))),
    };
    let lacking = store.lacking(&view, document);
    if let [first, others @ ..] = &lacking[..] {
        if let Some(bad) = lacking.iter().find(|bad| bad.passes) {
            return Err(bad.refusal(UNKNOWN, format_args!("{name}@{digest}")));
        }
        let more =
            if others.is_empty() { String::new() } else { format!(" (and {})", plural::count(others.len(), "other")) };
        let words = format!("{name}@{digest} is incomplete: {first}{more}; copy the image into the layout again");
        return Err(Refusal::manifest_unknown(words));
    }
    if let Some(answer) = unchanged(request, &digest) {
        return Ok(answer);
    }
    let body = if request.is_head() {
        Body::empty()
    } else {
        let bytes = document.bytes(&store.layouts());
        let bytes = bytes.map_err(|bad| bad.refusal(UNKNOWN, format_args!("{name}: manifest {digest}")))?;
        Body::new(vec![Part::Bytes(bytes)])
    };
    let mut answer = answer::with_body(StatusCode::OK, body);
    answer.headers_mut().insert(CONTENT_LENGTH, document.size.into());
    set(&mut answer, CONTENT_TYPE, &document.media_type);
    identify(&mut answer, &digest);
    Ok(answer)
}

/// The digest of the manifest that is meant.
pub(super) fn meant(view: &View, name: &str, ns: Option<&str>, reference: &Reference) -> Result<Digest, Refusal> {
    match reference {
        Reference::Digest(digest) if view.has_manifest(name, ns, digest) => Ok(digest.clone()),
        Reference::Digest(digest) => Err(Refusal::manifest_unknown(format!("{name} has no manifest {digest}"))),
        Reference::Tag(tag) => match view.tagged(name, ns, tag) {
            Found::One(digest) => Ok(digest),
            Found::Nothing => Err(Refusal::manifest_unknown(format!("{name} has no tag {tag}"))),
            Found::Unclear(words) => Err(Refusal::manifest_unknown(words)),
        },
    }
}

/// `GET` and `HEAD /v2/NAME/blobs/DIGEST`; `is_member` says whether the blob was pushed there.
pub(super) async fn blob(
    store: &Arc<Store>,
    request: &Request,
    name: &str,
    digest: &str,
    is_member: impl FnOnce(&Digest) -> bool,
) -> Result<Answer, Refusal> {
    let digest = route::digest(digest)?;
    let view = request.view(store).await?;
    let ns = request.ns.as_deref();
    let mut media_type = OCTETS;
    if view.has_manifest(name, ns, &digest) {
        // Manifests lie among the blobs. Sent as mere bytes, one would be kept as that for good (containerd issue 13007).
        media_type = view.documents.get(&digest).and_then(|it| it.as_ref().ok()).map_or(OCTETS, |it| &it.media_type);
    } else if !view.has_blob(name, ns, &digest) && !is_member(&digest) {
        return Err(Refusal::blob_unknown(format!("{name} has no blob {digest}")));
    }
    let blob = store.open(&digest);
    let mut blob = blob.map_err(|bad| bad.refusal("BLOB_UNKNOWN", format_args!("{name}: blob {digest}")))?;
    if let Some(answer) = unchanged(request, &digest) {
        return Ok(answer);
    }
    let size = blob.stamp.size;
    let asked = request.header(RANGE).map_or(Asked::Whole, |header| range::asked(header, size));
    // Of so few bytes none can be held back that would tell: a file that is empty for a moment would be a whole answer. And of parts
    // no digest is known.
    if !request.is_head() && (size <= SMALL || matches!(asked, Asked::Parts(_))) && blob.known != Known::Good {
        let is_good = store.verify(&blob).await;
        if !is_good.map_err(|bad| bad.refusal("BLOB_UNKNOWN", format_args!("{name}: blob {digest}")))? {
            return Err(Refusal::blob_unknown(format!("{name}: blob {digest}: its bytes are damaged")));
        }
        blob.known = Known::Good;
    }
    let mut answer = match asked {
        Asked::Unsatisfiable => {
            let words = format!("{digest} has {size} bytes, and none of those that were asked for");
            let refusal = Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, "UNSUPPORTED", words);
            return Err(refusal.header(CONTENT_RANGE, format!("bytes */{size}")));
        }
        _ if request.is_head() => {
            let mut answer = answer::empty(StatusCode::OK);
            answer.headers_mut().insert(CONTENT_LENGTH, size.into());
            set(&mut answer, CONTENT_TYPE, media_type);
            answer
        }
        Asked::Whole => {
            let mut answer = answer::with_body(StatusCode::OK, Body::new(vec![whole(store, blob)]));
            set(&mut answer, CONTENT_TYPE, media_type);
            answer
        }
        Asked::Parts(parts) => partial(blob, &parts, media_type),
    };
    set(&mut answer, ACCEPT_RANGES, "bytes");
    identify(&mut answer, &digest);
    Ok(answer)
}

fn whole(store: &Arc<Store>, blob: Blob) -> Part {
    let Blob { file, stamp, known, layout, digest } = blob;
    match known {
        Known::Good => Part::File(Arc::new(Sound { file, stamp }), 0..stamp.size),
        Known::Damaged | Known::Nothing => Part::Unverified(Box::new(Unverified {
            store: store.clone(),
            file: Arc::new(file),
            at: 0,
            hasher: Hasher::new(digest.algorithm()),
            digest,
            stamp,
            layout,
        })),
    }
}

/// One part as it is, several with a head each (RFC 9110, 14.6).
fn partial(blob: Blob, parts: &[std::ops::Range<u64>], media_type: &str) -> Answer {
    let (size, sound) = (blob.stamp.size, Arc::new(Sound { file: blob.file, stamp: blob.stamp }));
    let says = |part: &std::ops::Range<u64>| format!("bytes {}-{}/{size}", part.start, part.end - 1);
    if let [part] = parts {
        let body = Body::new(vec![Part::File(sound, part.clone())]);
        let mut answer = answer::with_body(StatusCode::PARTIAL_CONTENT, body);
        set(&mut answer, CONTENT_RANGE, &says(part));
        set(&mut answer, CONTENT_TYPE, media_type);
        return answer;
    }
    // containers-image takes boundaries of letters, digits, `-` and `:` only; no blob has this line in it but by intent, and
    // lengths are told beside it.
    let boundary = format!("haversack-{}", &blob.digest.hex()[..32]);
    let mut pieces = Vec::new();
    for part in parts {
        let head = format!("\r\n--{boundary}\r\nContent-Type: {media_type}\r\nContent-Range: {}\r\n\r\n", says(part));
        pieces.push(Part::Bytes(head.into()));
        pieces.push(Part::File(sound.clone(), part.clone()));
    }
    pieces.push(Part::Bytes(format!("\r\n--{boundary}--\r\n").into()));
    let mut answer = answer::with_body(StatusCode::PARTIAL_CONTENT, Body::new(pieces));
    set(&mut answer, CONTENT_TYPE, &format!("multipart/byteranges; boundary={boundary}"));
    answer
}

/// The answer for who has it already.
fn unchanged(request: &Request, digest: &Digest) -> Option<Answer> {
    let known = request.header(IF_NONE_MATCH)?;
    known.split(',').any(|tag| tag.trim().trim_matches('"') == digest.as_str()).then(|| {
        let mut answer = answer::empty(StatusCode::NOT_MODIFIED);
        identify(&mut answer, digest);
        answer
    })
}

fn identify(answer: &mut Answer, digest: &Digest) {
    set(answer, DIGEST, digest.as_str());
    set(answer, ETAG, &format!("\"{digest}\""));
}

/// Bytes of a blob that is read before anything of it is sent.
const SMALL: u64 = 64 << 10;
const UNKNOWN: &str = "MANIFEST_UNKNOWN";
const OCTETS: &str = "application/octet-stream";
