//! Hints for where bytes come from and go to: registries, servers, archives, files.

use std::io;

use crate::causes;
use crate::fs::PathError;
use crate::http;
use crate::image::store::archive;
use crate::ops::hints::hint;
use crate::reference::{ImageRef, Remote, Target};
use crate::registry;

pub(super) fn archive_hint(error: &archive::Error) -> Option<&'static str> {
    Some(match error {
        archive::Error::SeveralPlatforms { .. } => "choose one with `--platform OS/ARCH`, or write to oci-archive:",
        archive::Error::Cut { .. } => "it was not written or copied to its end: copy it again, and compare the sizes",
        archive::Error::NotAnArchive { .. } => "what `docker save` and `podman save` write is docker-archive:FILE",
        archive::Error::NotADockerArchive { .. } => "a tar of an OCI layout is oci-archive:FILE",
        _ => return None,
    })
}

pub(super) fn registry_hint(error: &registry::Error) -> Option<String> {
    Some(match error {
        registry::Error::Plain { .. } => {
            "a registry without TLS is read with `--src-tls-verify=false` and written to with `--dest-tls-verify=false`"
                .into()
        }
        registry::Error::Tls { .. } => {
            "add its certificate authority with `--ca-file FILE`, or that and a client certificate with `--cert-dir \
            DIR`; `--src-tls-verify=false` or `--dest-tls-verify=false` skips the check"
                .into()
        }
        registry::Error::NotARegistry(url) => format!(
            "another server answers there: check host and port, {}",
            url.host_str()
                .map(|host| url.port().map_or(host.to_owned(), |port| format!("{host}:{port}")))
                .unwrap_or_default()
        ),
        registry::Error::NotFound(place) => return not_found_hint(place),
        registry::Error::Unauthorized(_) => {
            "log in with `haversack login` or `podman login`, or name the file with credentials with `--authfile`"
                .into()
        }
        registry::Error::WrongLogin { .. } => {
            "nothing was written; some registries want a token in place of the password, or a robot's full name".into()
        }
        registry::Error::NoDelete(_) => {
            "docker-registry deletes with `storage: {delete: {enabled: true}}` (REGISTRY_STORAGE_DELETE_ENABLED=true), \
             `haversack serve` with `--writable`; elsewhere, look at the registry's own page"
                .into()
        }
        registry::Error::NoTagDelete { others: Some(others), .. } if others.is_empty() => {
            "no other tag names its image: without `--only-tag`, image and tag are deleted together".into()
        }
        registry::Error::NoTagDelete { others, .. } => {
            let others = others.as_ref().map(|others| format!(": {}", others.join(", "))).unwrap_or_default();
            format!(
                "with `--yes` in place of `--only-tag`, the image is deleted with all other tags that name it{others}"
            )
        }
        registry::Error::Before(error) => return causes::of(&**error).find_map(hint),
        registry::Error::Mismatch { .. } => DAMAGED.to_owned(),
        registry::Error::ReferrersLost { .. } => "run the command again when no other client writes there".into(),
        registry::Error::UploadLost(_) => "run the command again; what has arrived is not sent again".into(),
        _ => return None,
    })
}

/// Where somebody named an image: which tags there are. Of other things, that they are missing is all there is to say.
fn not_found_hint(place: &str) -> Option<String> {
    let Ok(ImageRef::Docker(remote)) = format!("docker://{place}").parse() else { return None };
    let host = &remote.registry;
    if let Some((other, rest)) = remote.repository.split_once('/').filter(|(first, _)| first.contains('.')) {
        let without = Remote { repository: rest.to_owned(), ..remote.clone() };
        return Some(format!(
            "`{other}` in its name is that of a host, which most copies are named without: `haversack list-tags docker://{}` shows \
             whether it is there so",
            without.with(Target::Unnamed)
        ));
    }
    Some(match &remote.target {
        Target::Tag(_) => {
            let repository = remote.with(Target::Unnamed);
            format!("`haversack list-tags docker://{repository}` shows which tags there are")
        }
        Target::Unnamed => {
            format!("check the name of the repository; {host} may hide what needs a login (`haversack login {host}`)")
        }
        Target::Digest(_) | Target::Pinned { .. } => return None,
    })
}

pub(super) fn http_hint(error: &http::Error) -> Option<String> {
    Some(match error {
        http::Error::Offline { .. } => "leave out `--offline` where the network can be used".into(),
        http::Error::NoHost { host } => format!("check the name {host} and whether this machine has a network"),
        http::Error::Transport { url, .. } if error.is_tls() => format!(
            "add the certificate authority of {} with `--ca-file FILE`; where it speaks no TLS, write its address with http://",
            url.host_str().unwrap_or("the server")
        ),
        http::Error::Transport { url, .. } => format!(
            "check that {} can be reached from here (proxies are taken from HTTPS_PROXY, HTTP_PROXY and NO_PROXY; \
             further certificate authorities from SSL_CERT_FILE and `--ca-file`)",
            url.host_str().unwrap_or("the server")
        ),
        http::Error::Misplaced { path } => {
            let directory = path.parent().unwrap_or(path).display();
            format!("move it and its key to {directory}/HOST, or {directory}/HOST:PORT")
        }
        http::Error::Unpaired { .. } => "a client certificate is a NAME.cert and a NAME.key beside it".into(),
        http::Error::Status { status, .. } if status.is_redirection() => {
            "if the service is there, give that address; a page to log in means that the server wants other credentials"
                .into()
        }
        http::Error::Status { status, .. } if status.as_u16() == 429 => {
            "the server asks for fewer requests: try again later, or with a lower `--parallel`".into()
        }
        http::Error::Status { status, .. } if status.is_server_error() => {
            "the server is in trouble, not the request: try again later".into()
        }
        _ => return None,
    })
}

pub(super) fn path_hint(error: &PathError) -> Option<String> {
    let path = error.path.display();
    Some(match error.source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("free some space on the file system of {path} and run the command again; nothing was replaced")
        }
        io::ErrorKind::PermissionDenied if matches!(error.action, "open" | "read" | "list") => {
            format!(
                "make {path} readable for this user (`ls -l` shows whose it is), or run as the user who can read it"
            )
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            format!("make {path} writable for this user, or name another place")
        }
        io::ErrorKind::AddrInUse => {
            "another program listens there: choose another address with `--listen`, such as 127.0.0.1:0 for a free port"
                .into()
        }
        io::ErrorKind::NotFound => format!("check that {path} and the directories above it exist"),
        _ => return None,
    })
}

pub(super) const DAMAGED: &str = "what it was read from is damaged: `haversack verify` names all that is wrong there, and in a layout \
    `--repair` removes it, so that a copy fetches it again";
