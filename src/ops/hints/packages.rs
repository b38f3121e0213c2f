//! Hints for packages and kernels: sources, signatures, dependencies, matrices.

use std::error::Error;

use crate::image::layer::tree as image_tree;
use crate::kernel::source::{self, local, preset, redhat};
use crate::kernel::{download, matrix, resolve, unpack};

pub(super) fn packages_hint(error: &(dyn Error + 'static)) -> Option<&'static str> {
    if let Some(error) = error.downcast_ref::<source::Error>() {
        return match error {
            source::Error::NoToken => Some("give one with `--token-file` or in REDHAT_OFFLINE_TOKEN"),
            source::Error::Signature { .. } => {
                Some("check `--keyring`; the keys are in the distribution's keyring or RPM-GPG-KEY files")
            }
            source::Error::Expired { .. } => {
                Some("the mirror may be old: try another one, or take it as it is with `--allow-expired`")
            }
            source::Error::NoRpmRepository { .. } => {
                Some("give the address of the directory that has repodata/ in it, or of a list of mirrors")
            }
            source::Error::NoAptRepository { .. } => Some(
                "check the address, which ends before dists/ as https://deb.debian.org/debian does, and the suite behind it",
            ),
            source::Error::NoSuite { .. } => Some("check the suite, the word behind the address: bookworm, noble"),
            source::Error::NoComponent { .. } => Some("check the components, the words behind the suite, and `--arch`"),
            _ => None,
        };
    }
    if let Some(preset::Error::NotApt { .. } | preset::Error::OtherSuite { .. }) = error.downcast_ref() {
        return Some(
            "give the URL alone, for all that the distribution has there; or the line as a SOURCE, without `--distro`",
        );
    }
    if let Some(local::Error::Changed { .. }) = error.downcast_ref() {
        return Some("fetch the package again");
    }
    if error.is::<source::Mismatch>() {
        return Some("the mirror may be at work: try again later, or another one");
    }
    if let Some(redhat::Error::OfflineToken { .. }) = error.downcast_ref() {
        return Some("make a new offline token at https://access.redhat.com/management/api");
    }
    if let Some(download::Error::Lock { .. }) = error.downcast_ref() {
        return Some(
            "give another `--to`, or move that file away: the packages beside it stay, and their kernels are not in the new list",
        );
    }
    match error.downcast_ref::<unpack::Error>()? {
        unpack::Error::Unsigned | unpack::Error::BadSignature(_) => {
            Some("check `--keyring`, which must hold the key that the packages were signed with")
        }
        error if error.is_damage() => Some("fetch the package again"),
        unpack::Error::Locked(_) => Some("wait until the other run has ended, or give another `--to`"),
        _ => None,
    }
}

pub(super) fn kernel_hint(error: &(dyn Error + 'static)) -> Option<&'static str> {
    if let Some(error) = error.downcast_ref::<resolve::Error>() {
        return Some(match error {
            resolve::Error::Missing { .. }
            | resolve::Error::Version { .. }
            | resolve::Error::Several(_)
            | resolve::Error::UnreadFiles { .. } => {
                "add a source that has it with `--packages`; or list it as `provided` in the definition, when the base has it"
            }
            resolve::Error::Conflict { .. } | resolve::Error::TooHard(_) | resolve::Error::TooMany(_) => {
                "name versions or alternatives in the definition (`gcc (= 4:12.2.0-3)`, `mawk | gawk`), or give fewer sources"
            }
        });
    }
    if let Some(error) = error.downcast_ref::<matrix::Error>() {
        return match error {
            matrix::Error::Version(_) => Some("use the haversack that made it, or make it again"),
            _ => Some("`haversack kernel matrix --format json`, `github` and `github-include` write what is read here"),
        };
    }
    match error.downcast_ref::<image_tree::Error>()? {
        image_tree::Error::Clash { .. } => {
            Some("leave one of the packages out, or the file with `exclude` in the definition")
        }
        _ => None,
    }
}
