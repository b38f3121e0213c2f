//! How a run ends: any error becomes what failed, why, what to do next, and an exit status.
//!
//! Errors arrive as they are. Their chain of causes is printed once, and the hint is looked up by type along that
//! chain: a module's error says what happened, this file (and `publish::hint`) what a user may do about it.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use crate::carry;
use crate::catalog::snapshot::Error as SnapshotError;
use crate::catalog::store::Error as StoreError;
use crate::catalog::{ClientError, WalkError, charts, recorded, tree};
use crate::causes;
use crate::cli::config;
use crate::cli::publish;
use crate::escape;
use crate::fs::PathError;
use crate::http;
use crate::image::build::plan;
use crate::image::layer::tree as image_tree;
use crate::image::store::{archive, layout};
use crate::kernel::classify::Role;
use crate::kernel::source::{self, redhat};
use crate::kernel::{matrix, resolve, unpack};
use crate::ops;
use crate::registry;
use crate::site;

/// The exit statuses, the same for all commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// The answer is no, or the work failed.
    No = 1,
    /// The command line cannot be understood; for `catalog check`, also: no answer could be given.
    Usage = 2,
    /// Finished, but some items failed, each named.
    Partial = 3,
}

impl Exit {
    /// How a run ends of which some part may be missing.
    pub(crate) fn of(complete: bool) -> Self {
        if complete { Exit::Done } else { Exit::Partial }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// What a command returns.
pub(crate) type Outcome = Result<Exit, Failure>;

/// Why a command could not do its work.
#[derive(Debug)]
pub(crate) struct Failure {
    error: Box<dyn Error + Send + Sync>,
    hint: Option<String>,
    exit: Exit,
}

impl Failure {
    /// A command line that clap accepts but that makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Failure { error: message.into().into(), hint: None, exit: Exit::Usage }
    }

    /// Something that failed in the command itself, in words of its own.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Failure { error: message.into().into(), hint: None, exit: Exit::No }
    }

    /// Says what to do next, in place of what would be found for the error's type.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says what else to do, after what is found for the error's type.
    pub(crate) fn and_hint(mut self, hint: impl Into<String>) -> Self {
        let first = self.hint.take().or_else(|| causes::of(&*self.error).find_map(self::hint));
        let hint = hint.into();
        self.hint = Some(match first {
            Some(first) => format!("{first}\nhint: {hint}"),
            None => hint,
        });
        self
    }

    /// Names the option of the command in question that takes a registry without TLS; `option` is told its host.
    pub(crate) fn without_tls(self, option: impl Fn(&str) -> &'static str) -> Self {
        let hint = match causes::find(&*self.error) {
            Some(registry::Error::Tls { host, source }) if source.is_plain() => {
                format!("if no TLS is intended there, add `{}`", option(host))
            }
            Some(registry::Error::Tls { host, .. }) => format!(
                "add its certificate authority with `--ca-file FILE`, or that and a client certificate with `--cert-dir DIR`; \
                 `{}` skips the check",
                option(host)
            ),
            _ => return self,
        };
        self.hint(hint)
    }

    /// Says first what it is about: the file that was read.
    pub(crate) fn about(self, what: impl fmt::Display) -> Self {
        Failure { error: Box::new(About { what: what.to_string(), source: self.error }), ..self }
    }

    /// Ends the run with another status than 1.
    pub(crate) fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// The status to end with.
    pub(crate) fn status(&self) -> Exit {
        self.exit
    }

    /// What failed and why, in a line and without a hint.
    pub(crate) fn reason(&self) -> String {
        causes::line(&*self.error)
    }

    /// Whether a file system had no room.
    pub(crate) fn is_full_disk(&self) -> bool {
        causes::is_full_disk(&*self.error)
    }

    /// Whether the reader of our output went away, as `head` does. That is no failure.
    ///
    /// Only `ui` writes there, and its errors arrive as they are; a connection that breaks is a cause of something else.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        self.error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let is_usage = causes::find::<ops::Error>(&error).is_some_and(ops::Error::is_usage);
        Failure { error: Box::new(error), hint: None, exit: if is_usage { Exit::Usage } else { Exit::No } }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{what}")]
struct About {
    what: String,
    source: Box<dyn Error + Send + Sync>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = String::new();
        for (depth, cause) in causes::of(&*self.error).enumerate() {
            let text = one_line(cause);
            // Wrappers say what they wrap. (They are not `transparent`, or the wrapped one would have no hint.)
            if depth > 0 && text != last {
                f.write_str("\n  because: ")?;
            }
            if text != last {
                f.write_str(&text)?;
            }
            last = text;
        }
        match self.hint.clone().or_else(|| causes::of(&*self.error).find_map(hint)) {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

/// What one error of the chain says. A line feed in it came from outside, where it could begin a line that looks like one of
/// ours; but what the readers of files of the user say shows the lines in question.
fn one_line(error: &(dyn Error + 'static)) -> String {
    let text = error.to_string();
    if error.is::<toml::de::Error>() { text } else { escape::line(&text).into_owned() }
}

/// What a user may do about one error of the chain.
pub(super) fn hint(error: &(dyn Error + 'static)) -> Option<String> {
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

fn ops_hint(error: &ops::Error) -> Option<String> {
    let hint = match error {
        ops::Error::NoScratch(_) => "name a directory on a disk with room in TMPDIR",
        ops::Error::SameName(_) => {
            "leave the name out of `--output` and `--push`, or choose one image (of kernels, with `--release`)"
        }
        ops::Error::OneName { .. } => "pack them into two carries, or give one of them another name",
        ops::Error::OneInDir | ops::Error::SameRepository => "build them one by one",
        ops::Error::NotAlone(_) => "build the others in a run of their own",
        ops::Error::NoCatalog { .. } => "give a snapshot with `--catalog FILE`; `haversack catalog snapshot` takes one",
        ops::Error::NoKernelSource { .. } => "say where they are with `--kernels SOURCE…`, as for `kernel list`",
        ops::Error::UnknownRole { .. } => {
            return Some(format!("known roles: {}", Role::ALL.map(Role::name).join(", ")));
        }
        ops::Error::MatrixOfOneImage => "choose kernels with `--release`, as often as you like",
        ops::Error::NoKernel { .. } | ops::Error::NoKernelLeft | ops::Error::NoKernels => {
            "`haversack kernel list SOURCE…` shows which there are"
        }
        ops::Error::OnlyFlavoured(_) => "select them with `--release UNAME` or `--matrix`",
        ops::Error::NoHeaders { .. } => {
            "add a repository that has them; on EL 9 and later kernel-devel is in AppStream"
        }
        ops::Error::DeleteWhat(image) => {
            return Some(format!("name one: `haversack list-tags docker://{image}` shows them"));
        }
        ops::Error::NoTag(_) => "leave `--only-tag` out, or name the tag",
        ops::Error::Shared { .. } | ops::Error::TagsUnknown(_) => {
            "`--yes` deletes it with all its tags; `--only-tag` deletes this tag alone, where the registry can"
        }
        ops::Error::NotLoggedIn { remaining: Some(origin), .. } => {
            return Some(format!("there are credentials for it in {origin}"));
        }
        ops::Error::NoChannel { .. } => "expected channels/NAME.yaml, as in the graph data, or graph_NAME_ARCH.json",
        ops::Error::NotInImage { .. } => "leave `--release` out to dump all that it has",
        ops::Error::NothingFetched => "see the warnings above; `dump` writes what the image holds, without a network",
        ops::Error::DamagedImage { .. } => "the image is damaged: `haversack verify` it, and copy it again",
        _ => return None,
    };
    Some(hint.to_owned())
}

fn carry_hint(error: &carry::Error) -> Option<&'static str> {
    Some(match error {
        carry::Error::NoCarry(_) => "name the directory that holds carry.json and the volumes",
        carry::Error::Exists(_) => "choose another name, or remove it",
        carry::Error::Format { .. } | carry::Error::Library(_) => "use the haversack that lies in the carry",
        carry::Error::Key { .. } => {
            "make a pair with `openssl ecparam -name prime256v1 -genkey -noout` and `openssl pkey -pubout`"
        }
        carry::Error::Signature { .. } => "ask who packed it for its public key, and bring the carry again",
        carry::Error::TooSmall { .. } => "choose a larger `--medium`",
        carry::Error::ProgramTooLarge { .. } => {
            "choose a larger `--medium`, or leave the program out with `--no-program`"
        }
        carry::Error::Missing { .. } => "copy the image there again; `haversack verify` says what is missing",
        carry::Error::Incomplete { .. } => "the images of the layout are as they were; ask for another carry",
        carry::Error::Base { .. } => "unpack that first, to the same place, or ask for a carry packed with `--full`",
        carry::Error::Receipt { .. } => "bring the receipt again, or type the code that `unpack` said",
        carry::Error::NoRoom { .. } => "make room, or unpack to another disk",
        carry::Error::Document { .. } | carry::Error::Name { .. } => {
            "bring carry.json again; the layout is as it was, and what has come of the volumes is kept"
        }
        carry::Error::Blob { .. } | carry::Error::Odd { .. } | carry::Error::Cut(_) => {
            "images that were there are as they were; remove .carry-*.partial in the layout, and bring the carry again"
        }
        _ => return None,
    })
}

fn site_hint(error: &site::Error) -> Option<&'static str> {
    Some(match error {
        site::Error::NoSite { .. } => "`haversack site show` lists the sites; `haversack pack --site NAME` makes one",
        site::Error::NoCarry { .. } => "`haversack site show NAME` lists its carries",
        site::Error::State { .. } => "unpack the carry there again, or pack with `--full`",
        site::Error::Record { .. } => "remove it, and confirm or pack that carry again",
        _ => return None,
    })
}

fn packages_hint(error: &(dyn Error + 'static)) -> Option<&'static str> {
    if let Some(error) = error.downcast_ref::<source::Error>() {
        return match error {
            source::Error::NoToken => Some("give one with `--token-file` or in REDHAT_OFFLINE_TOKEN"),
            source::Error::Signature { .. } => {
                Some("check `--keyring`; the keys are in the distribution's keyring or RPM-GPG-KEY files")
            }
            source::Error::Expired { .. } => {
                Some("the mirror may be old: try another one, or take it as it is with `--allow-expired`")
            }
            _ => None,
        };
    }
    if error.is::<source::Mismatch>() {
        return Some("the mirror may be at work: try again later, or another one");
    }
    if let Some(redhat::Error::OfflineToken { .. }) = error.downcast_ref() {
        return Some("make a new offline token at https://access.redhat.com/management/api");
    }
    match error.downcast_ref::<unpack::Error>()? {
        unpack::Error::Unsigned | unpack::Error::BadSignature(_) => {
            Some("check `--keyring`, which must hold the key that the packages were signed with")
        }
        unpack::Error::Mismatch { .. } | unpack::Error::Payload(_) => Some("fetch the package again"),
        unpack::Error::Locked(_) => Some("wait until the other run has ended, or give another `--to`"),
        _ => None,
    }
}

fn kernel_hint(error: &(dyn Error + 'static)) -> Option<&'static str> {
    if let Some(error) = error.downcast_ref::<resolve::Error>() {
        return Some(match error {
            resolve::Error::Missing { .. } | resolve::Error::Version { .. } => {
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

fn catalog_hint(error: &(dyn Error + 'static)) -> Option<&'static str> {
    if let Some(error) = error.downcast_ref::<StoreError>() {
        return match error {
            StoreError::Missing { .. } => Some(
                "take one with `haversack catalog snapshot`, read a tree with `haversack catalog import`, or name it with `--db`",
            ),
            StoreError::Foreign { .. } => Some("the file was left as it is; name another one with `--db`"),
            StoreError::TooNew { .. } => {
                Some("use the haversack that made it, or take a new snapshot into another file")
            }
            StoreError::Sqlite { .. } => Some("if the file is damaged, remove it and take the snapshot again"),
            StoreError::Path(_) => None,
        };
    }
    if let Some(error) = error.downcast_ref::<SnapshotError>() {
        return match error {
            SnapshotError::Empty { .. } | SnapshotError::Shrink { .. } => Some(
                "the old snapshot is as it was. If the catalog really is that small now, run the command again with \
                 `--accept-shrink`",
            ),
            SnapshotError::Restless { .. } => {
                Some("the old snapshot is as it was; try again when the catalog is quieter")
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
                Some("the old snapshot is as it was; the file may be being written just now: try again later")
            }
            charts::Error::Index { .. } => Some("the old snapshot is as it was; check `--charts`, or try again later"),
            charts::Error::Http(_) => None,
        };
    }
    if let Some(error) = error.downcast_ref::<WalkError>() {
        return match error {
            WalkError::Client(_) => None,
            _ => Some("the old snapshot is as it was; try again later, or name another server with `--api`"),
        };
    }
    if let Some(error) = error.downcast_ref::<ClientError>() {
        return match error {
            ClientError::Http(_) => None,
            _ => Some("the old snapshot is as it was; check `--api`, or try again later"),
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
        recorded::Error::Nothing { .. } => Some("see testdata/catalog for what such a directory holds"),
        recorded::Error::Overlap { .. } | recorded::Error::Incomplete { .. } => {
            Some("the old snapshot is as it was; record the pages again, sorted by a key and with one page size")
        }
        _ => None,
    }
}

fn archive_hint(error: &archive::Error) -> Option<&'static str> {
    Some(match error {
        archive::Error::SeveralPlatforms { .. } => "choose one with `--platform OS/ARCH`, or write to oci-archive:",
        archive::Error::Cut { .. } => "it was not written or copied to its end: copy it again, and compare the sizes",
        archive::Error::NotAnArchive { .. } => "what `docker save` and `podman save` write is docker-archive:FILE",
        archive::Error::NotADockerArchive { .. } => "a tar of an OCI layout is oci-archive:FILE",
        _ => return None,
    })
}

fn registry_hint(error: &registry::Error) -> Option<String> {
    Some(match error {
        registry::Error::Tls { .. } => {
            "add its certificate authority with `--ca-file FILE`, or that and a client certificate with `--cert-dir \
            DIR`; a registry without TLS is taken with `--src-tls-verify=false` or `--dest-tls-verify=false`"
                .into()
        }
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
        registry::Error::NoTagDelete(_) => "leave `--only-tag` out to delete the image with all its tags".into(),
        registry::Error::Before(error) => return causes::of(&**error).find_map(hint),
        registry::Error::Mismatch { .. } => DAMAGED.to_owned(),
        registry::Error::ReferrersLost { .. } => "run the command again when no other client writes there".into(),
        registry::Error::UploadLost(_) => "run the command again; what has arrived is not sent again".into(),
        _ => return None,
    })
}

fn http_hint(error: &http::Error) -> Option<String> {
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

fn path_hint(error: &PathError) -> Option<String> {
    let path = error.path.display();
    Some(match error.source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("free some space on the file system of {path} and run the command again; nothing was replaced")
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            format!("make {path} writable for this user, or name another place")
        }
        io::ErrorKind::NotFound => format!("check that {path} and the directories above it exist"),
        _ => return None,
    })
}

const DAMAGED: &str = "what it was read from is damaged: `haversack verify` names all that is wrong there, and in a layout \
    `--repair` removes it, so that a copy fetches it again";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::PathContext;

    #[test]
    fn a_chain_is_printed_once_with_the_hint_for_its_kind() {
        let full: Result<(), io::Error> = Err(io::Error::from(io::ErrorKind::StorageFull));
        let failure = Failure::from(full.at("write", "/x/catalog.db").unwrap_err());
        insta::assert_snapshot!(failure, @r"
        cannot write /x/catalog.db
          because: no storage space
        hint: free some space on the file system of /x/catalog.db and run the command again; nothing was replaced
        ");
    }

    #[test]
    fn a_reader_that_went_away_is_told_from_a_failure() {
        assert!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).is_broken_pipe());
        assert!(!Failure::new("x").is_broken_pipe());
        let connection = registry::Error::Io(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(!Failure::from(connection).is_broken_pipe());
    }
}
