//! Hints for the certified catalog: snapshots, trees, recorded pages.

use std::error::Error;

use reqwest::StatusCode;

use crate::catalog::entry::Kind;
use crate::catalog::snapshot::Error as SnapshotError;
use crate::catalog::store::Error as StoreError;
use crate::catalog::{ClientError, WalkError, charts, question, recorded, tree};

pub(super) fn catalog_hint(error: &(dyn Error + 'static)) -> Option<&'static str> {
    if let Some(error) = error.downcast_ref::<StoreError>() {
        return match error {
            StoreError::Missing { .. } => Some(
                "take one with `haversack catalog snapshot`, make one from a dumped directory with `haversack catalog import`, or name it with `--db`",
            ),
            StoreError::Foreign { .. } => Some("the file was left as it is; name another one with `--db`"),
            StoreError::TooNew { .. } => {
                Some("use the haversack that made it, or take a new snapshot into another file")
            }
            StoreError::Sqlite { .. } => Some("if the file is damaged, remove it and take the snapshot again"),
            StoreError::Path(_) => None,
        };
    }
    if let Some(error) = error.downcast_ref::<question::Error>() {
        return match error {
            question::Error::OpenShift(_) => {
                Some("`oc get clusterversion` shows it; leave the option out to ask for any version")
            }
            question::Error::Kubernetes(_) => {
                Some("`kubectl version` shows it; leave the option out to ask for any version")
            }
            question::Error::Image { near, .. } | question::Error::Csv { near, .. } if !near.is_empty() => {
                Some("name one of them in full, if you mean it")
            }
            question::Error::Image { .. } => Some(
                "the catalog knows images by the registry's name, such as `registry.connect.redhat.com/ORG/NAME:TAG`",
            ),
            question::Error::Which { .. } => Some("name one of them in full"),
            question::Error::Csv { .. } => {
                Some("`oc get csv` shows such names; `haversack catalog search WORD` finds those in the snapshot")
            }
            question::Error::Lacking { .. } => Some("take them, too: `haversack catalog snapshot`"),
            question::Error::Digest { .. } | question::Error::Longer { .. } | question::Error::Store(_) => None,
        };
    }
    if let Some(error) = error.downcast_ref::<SnapshotError>() {
        return match error {
            SnapshotError::Empty { kind: Kind::Operator, .. } => Some(
                "no new snapshot was written; check `--organization` (certified-operators, redhat-operators, redhat-marketplace, \
                 community-operators), or take a snapshot without operators with `--accept-shrink`",
            ),
            SnapshotError::Empty { .. } | SnapshotError::Shrink { .. } => Some(
                "no new snapshot was written; if the catalog really is that small now, run the command again with \
                 `--accept-shrink`",
            ),
            SnapshotError::Restless { .. } => {
                Some("no new snapshot was written; try again when the catalog is quieter")
            }
            SnapshotError::NoIndex { .. } => {
                Some("check `--charts`; to leave charts as they are, use `--kind operators --kind containers`")
            }
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref::<charts::Error>() {
        return match error {
            charts::Error::Half { .. } => {
                Some("no new snapshot was written; the file may be being written just now: try again later")
            }
            charts::Error::Index { .. } => Some("no new snapshot was written; check `--charts`, or try again later"),
            charts::Error::Http(_) => None,
        };
    }
    if let Some(error) = error.downcast_ref::<WalkError>() {
        return match error {
            WalkError::Client(_) => None,
            _ => Some("no new snapshot was written; try again later, or name another server with `--api`"),
        };
    }
    if let Some(error) = error.downcast_ref::<ClientError>() {
        return match error {
            ClientError::Http(error) if error.status_code() == Some(StatusCode::NOT_FOUND) => {
                Some("no new snapshot was written; check `--api`: nothing is known at that address")
            }
            ClientError::Http(_) => None,
            _ => Some("no new snapshot was written; check `--api`, or try again later"),
        };
    }
    if let Some(error) = error.downcast_ref::<tree::Error>() {
        return match error {
            tree::Error::NoTree { .. } => Some("name the directory that holds data/, or data/ itself"),
            tree::Error::NoDirectory { .. } => Some("make the directory first, or mount it"),
            tree::Error::NotADirectory { .. } => Some("name a directory; the file was left as it is"),
            tree::Error::Length { .. } | tree::Error::Verify { .. } | tree::Error::Copy { .. } => {
                Some("the old tree is as it was; this should not happen: check the disk, and report it")
            }
            _ => None,
        };
    }
    match error.downcast_ref::<recorded::Error>()? {
        recorded::Error::Nothing { .. } => Some(
            "such a directory has answers of the API in it: pages of v1/operators/bundles as operators/0.json, operators/1.json …, \
             pages of v1/images as images/0.json …, and the chart index as index.yaml; one of them is enough",
        ),
        recorded::Error::Overlap { .. } | recorded::Error::Incomplete { .. } => {
            Some("no new snapshot was written; record the pages again, sorted by a key and with one page size")
        }
        _ => None,
    }
}
