//! What a user may do about an error: looked up by its type along the chain of causes.
//!
//! A module's error says what happened; what to type next is here, and for `publish` in its own file.

mod catalog;
mod packages;
mod transport;
mod work;

use std::error::Error;
use std::path::Path;

use self::catalog::catalog_hint;
use self::packages::{kernel_hint, packages_hint};
use self::transport::{DAMAGED, archive_hint, http_hint, path_hint, registry_hint};
use self::work::{carry_hint, ops_hint, site_hint};
use crate::carry;
use crate::cli::config;
use crate::cli::publish;
use crate::fs::PathError;
use crate::http;
use crate::image::build::plan;
use crate::image::store::{archive, layout};
use crate::kernel::source;
use crate::ops;
use crate::registry;
use crate::site;

/// What a user may do about one error of the chain.
pub(in crate::cli) fn hint(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(error) = error.downcast_ref::<http::Error>() {
        return http_hint(error);
    }
    if let Some(config::Error::Trust { key, .. }) = error.downcast_ref() {
        let key = key.rsplit('.').next().unwrap_or(key);
        return Some(format!(
            "set it in ~/.config/haversack/haversack.toml, in the file that HAVERSACK_CONFIG names, in the environment, or \
             with --{key}"
        ));
    }
    if let Some(error) = error.downcast_ref::<PathError>() {
        return path_hint(error);
    }
    if let Some(source::ParseError::UnknownKind(text)) = error.downcast_ref::<source::ParseError>() {
        return Path::new(text).is_dir().then(|| format!("write `dir:{text}` for the packages in this directory"));
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
    if let Some(hint) = publish::hint(error) {
        return Some(hint);
    }
    let theirs = kernel_hint(error).or_else(|| packages_hint(error));
    theirs.or_else(|| catalog_hint(error)).map(Into::into)
}
