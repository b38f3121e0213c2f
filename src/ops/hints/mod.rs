//! What a user may do about an error, looked up by its type along the chain of causes.
//!
//! A module's error says what happened and does not know who asked; what to type next is here. The command line ends with it, and
//! the doctor adds it to what it found.

mod catalog;
mod packages;
mod publish;
mod transport;
mod work;

use std::error::Error;
use std::path::Path;

use self::catalog::catalog_hint;
use self::packages::{kernel_hint, packages_hint};
use self::publish::publish_hint;
use self::transport::{DAMAGED, archive_hint, http_hint, path_hint, registry_hint};
use self::work::{carry_hint, ops_hint, site_hint};
use crate::carry;
use crate::causes;
use crate::fs::PathError;
use crate::http;
use crate::image::build::plan;
use crate::image::store::{archive, layout};
use crate::kernel::source;
use crate::ops;
use crate::ops::nothing::NothingFound;
use crate::registry;
use crate::site;

/// What a user may do about one error of the chain.
pub fn hint(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(error) = error.downcast_ref::<http::Error>() {
        return http_hint(error);
    }
    if let Some(error) = error.downcast_ref::<PathError>() {
        return path_hint(error);
    }
    if let Some(source::ParseError::UnknownKind(text)) = error.downcast_ref::<source::ParseError>() {
        let is_web = text.starts_with("http://") || text.starts_with("https://");
        return match Path::new(text).is_dir() {
            true => Some(format!("write `dir:{text}` for the packages in this directory")),
            false if is_web => Some(format!("write `rpm:{text}`, or `'apt:{text} SUITE COMPONENT'`")),
            false => None,
        };
    }
    if let Some(error) = error.downcast_ref::<archive::Error>() {
        return archive_hint(error).map(Into::into);
    }
    if let Some(layout::Error::Mismatch { .. }) = error.downcast_ref() {
        return Some(DAMAGED.to_owned());
    }
    if let Some(error) = error.downcast_ref::<registry::Error>() {
        return registry_hint(error);
    }
    if let Some(error) = error.downcast_ref::<NothingFound>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<ops::Error>() {
        return ops_hint(error);
    }
    if let Some(error) = error.downcast_ref::<site::Error>() {
        return site_hint(error).map(Into::into);
    }
    if let Some(error) = error.downcast_ref::<carry::Error>() {
        return carry_hint(error).map(Into::into);
    }
    if let Some(plan::Error::NoBinary { platform }) = error.downcast_ref() {
        return Some(format!("give one with `--binary {platform}=PATH`, or choose with `--platform`"));
    }
    if let Some(hint) = publish_hint(error) {
        return Some(hint);
    }
    let theirs = kernel_hint(error).or_else(|| packages_hint(error));
    theirs.or_else(|| catalog_hint(error)).map(Into::into)
}

/// Names the option that takes a registry without TLS, or without a certificate that is trusted, when that is what an error is
/// about; `option` is told the host.
pub fn without_tls(error: &(dyn Error + 'static), option: impl Fn(&str) -> &'static str) -> Option<String> {
    let found = match causes::find::<registry::Error>(error) {
        // Of several images, the first one was told.
        Some(registry::Error::Before(error)) => causes::find(&**error),
        found => found,
    };
    match found? {
        registry::Error::Plain { host } => Some(format!("if no TLS is intended there, add `{}`", option(host))),
        registry::Error::Tls { host, .. } => Some(format!(
            "add its certificate authority with `--ca-file FILE`, or that and a client certificate with `--cert-dir DIR`; `{}` \
             skips the check",
            option(host)
        )),
        _ => None,
    }
}
