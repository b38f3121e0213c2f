//! One registry, as distribution-spec 1.1 has it.
//!
//! oci-client has this protocol, too, but not what we need around it: its requests do not go through [`Http`]
//! (`--offline`, the trusted roots, `Retry-After`), an interrupted download is not continued, and what a redirect is
//! told cannot be seen. So it is written here, on the types of oci-spec.
//!
//! Secrets go to the registry itself and to the token service that it names over https, and nowhere else: a redirect
//! to another host, as registries answer blobs with, is followed without them.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use oci_spec::image::Descriptor;
use reqwest::header::AUTHORIZATION;
use reqwest::{RequestBuilder, Response, StatusCode};
use url::Url;

use crate::digest;
use crate::http::{self, Http, Retriable, Verdict};
use crate::image::store::layout;
use crate::limits::Exceeded;
use crate::plural;
use crate::registry::auth::challenge::challenge;
use crate::registry::auth::token::Scope;
use crate::registry::auth::{self, AuthFiles};
use crate::registry::repository::Repository;

/// A registry that answers. Cheap to clone.
#[derive(Clone)]
pub struct Registry(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) http: Http,
    pub(super) host: String,
    pub(super) base: Url,
    pub(super) auth: AuthFiles,
    /// `Authorization` by scope.
    pub(super) tokens: Mutex<HashMap<String, String>>,
    /// Documents that were read by tag, to be read by digest next, under `REPOSITORY@DIGEST`.
    pub(super) recent: Mutex<HashMap<String, (Descriptor, Vec<u8>)>>,
    /// The tags of repositories that were listed in this run.
    pub(super) tags: Mutex<HashMap<String, Arc<HashSet<String>>>>,
    /// Whether it was found to have no lists of referrers.
    pub(super) lists_none: AtomicBool,
    /// Whether it has said of a blob that was sent in this run which digest it found.
    pub(super) says_digests: AtomicBool,
}

/// What a registry, or the way to it, can do wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request failed.
    #[error("{0}")]
    Http(#[from] http::Error),
    /// It is not there, or not for us to see.
    #[error("{0}: not found")]
    NotFound(String),
    /// Credentials are missing or wrong.
    #[error("{0}: access denied with the available credentials")]
    Unauthorized(String),
    /// A login that is not taken.
    #[error("{host}: the user `{user}` is not let in with this password")]
    WrongLogin {
        /// The registry.
        host: String,
        /// As whom.
        user: String,
    },
    /// A registry that keeps what it has.
    #[error("{0}: the registry does not let it be deleted")]
    NoDelete(String),
    /// A registry that deletes images, and no tag without its image.
    #[error("{place}: the registry does not delete a tag alone")]
    NoTagDelete {
        /// The tag.
        place: String,
        /// The other tags of its image, where somebody has looked.
        others: Option<Vec<String>>,
    },
    /// A token that ran out while a body was sent.
    #[error("{0}: the token ran out")]
    TokenExpired(String),
    /// An upload of which the registry knows nothing any more, or which it does not let us go on with.
    #[error("{0}: the upload has to begin anew")]
    UploadLost(String),
    /// A registry that says of an upload in pieces that another number of bytes arrived than was sent.
    #[error("{0}: the registry counts other bytes than were sent")]
    Miscounted(String),
    /// A tag that the destination has for signatures which would be lost.
    #[error("{0}: the destination has other signatures under this tag, which are kept")]
    OtherSignatures(String),
    /// A list of referrers that others write, too, and each time without what is in it.
    #[error("{place}: written {}, and each time another client took out what was added", plural::count(*times, "time"))]
    ReferrersLost {
        /// The list.
        place: String,
        /// How often it was written.
        times: u32,
    },
    /// A manifest that the registry finds not to have its digest, which it has.
    #[error("{0}")]
    NotItsDigest(http::Error),
    /// Something else than a registry answers.
    #[error("{0}: no registry answers here")]
    NotARegistry(Url),
    /// It does not speak TLS. What the client made of its answer says nothing more.
    #[error("{host}: answers in plain HTTP, without TLS")]
    Plain {
        /// The registry.
        host: String,
    },
    /// Nobody vouches for its certificate.
    #[error("{host}: TLS certificate not trusted")]
    Tls {
        /// The registry.
        host: String,
        /// What is wrong.
        source: Box<http::Error>,
    },
    /// An answer without what the protocol promises.
    #[error("{}: {problem}", http::shown(url))]
    Protocol {
        /// What was asked.
        url: Url,
        /// What is wrong with the answer.
        problem: String,
    },
    /// There is more of something than is taken.
    #[error("{place}: {exceeded}")]
    Exceeded {
        /// Where it comes from.
        place: String,
        /// What, and how much is taken.
        exceeded: Exceeded,
    },
    /// The content is not what its name says.
    #[error("{place}: expected {expected}, found {found}")]
    Mismatch {
        /// Where it came from.
        place: String,
        /// Digest or size as announced.
        expected: String,
        /// As it is.
        found: String,
    },
    /// An image of which the source has not everything.
    #[error("{place}: {} of the parts of the image are missing: {}", missing.len(), some_of(missing))]
    Incomplete {
        /// The source.
        place: String,
        /// The digests of what is missing.
        missing: Vec<String>,
    },
    /// An image that is to have another digest at its destination.
    #[error("{place}: the destination names {expected}, and the image is {found}")]
    OtherDigest {
        /// The source.
        place: String,
        /// What the destination names.
        expected: String,
        /// What would be there.
        found: String,
    },
    /// A digest that is none.
    #[error("{0}")]
    Digest(#[from] digest::Error),
    /// Credentials that cannot be read.
    #[error("{0}")]
    Auth(#[from] auth::Error),
    /// A document that does not parse, or the layout at the other end.
    #[error("{0}")]
    Layout(#[from] layout::Error),
    /// What is read from the disk.
    #[error("{0}")]
    Store(#[from] crate::image::store::Error),
    /// The disk, while something was on its way.
    #[error("cannot read what is to be sent")]
    Io(#[from] std::io::Error),
    /// What happened to an earlier request for the same thing in this run.
    #[error("{0}")]
    Before(#[source] Arc<Error>),
    /// Something in a list stands for nothing.
    #[error("{0}")]
    NothingMatches(String),
    /// A registry lists what cannot be a name, and what would lead to another repository's place in a URL.
    #[error("{count} of the {what} that it lists are not valid and were left out: {first}")]
    Names {
        /// `tags` or `repositories`.
        what: &'static str,
        /// How many.
        count: usize,
        /// The first three.
        first: String,
    },
    /// A destination that holds one image and nothing else.
    #[error("`dir:` has no place for what refers to an image")]
    NoPlaceForReferrers,
    /// Two images of a list have one destination.
    #[error("{0} goes to the same place")]
    SamePlace(String),
    /// The platforms that were asked for are not in the index.
    #[error("no image for {asked} in it{}", if there.is_empty() { String::new() } else { format!("; it has {there}") })]
    NoPlatform {
        /// Those that are missing.
        asked: String,
        /// Those that there are.
        there: String,
    },
}

impl Retriable for Error {
    fn verdict(&self) -> Verdict {
        match self {
            Error::Http(error) => error.verdict(),
            Error::TokenExpired(_) | Error::UploadLost(_) | Error::NotItsDigest(_) => Verdict::Again { after: None },
            _ => Verdict::Permanent,
        }
    }
}

impl Error {
    /// That a list has names which are none, if it has.
    pub(super) fn refused(what: &'static str, names: &[String]) -> Option<Self> {
        let shown = |name: &String| format!("`{}`", name.chars().take(100).collect::<String>());
        let first = names.iter().take(3).map(shown).collect::<Vec<_>>().join(", ");
        (!names.is_empty()).then_some(Error::Names { what, count: names.len(), first })
    }

    /// Whether it is only that the source does not have it.
    pub(super) fn is_missing(&self) -> bool {
        match self {
            Error::NotFound(_) => true,
            Error::Store(error) => error.is_missing(),
            _ => false,
        }
    }

    /// Whether a registry refuses a manifest for it lacks a blob of it.
    pub(super) fn is_blob_unknown(&self) -> bool {
        let Error::Http(http::Error::Status { code, .. }) = self else { return false };
        matches!(code.as_deref(), Some("MANIFEST_BLOB_UNKNOWN" | "BLOB_UNKNOWN"))
    }

    /// Whether trying again changes nothing.
    pub(super) fn is_permanent(&self) -> bool {
        self.verdict() == Verdict::Permanent
    }
}

/// The first of some digests, with commas between, and how many more there are.
fn some_of(digests: &[String]) -> String {
    let more = digests.len().saturating_sub(NAMED);
    let named = digests[..digests.len() - more].join(", ");
    if more > 0 { format!("{named} and {more} more") } else { named }
}

/// How many missing parts are named.
const NAMED: usize = 100;

impl Registry {
    /// Finds out how a registry wants to be spoken to. Without `tls`, plain HTTP will do where HTTPS does not answer.
    pub async fn connect(http: &Http, host: &str, tls: bool, auth: &AuthFiles) -> Result<Self, Error> {
        // Docker's own hub has its API under another name.
        let api = if host == "docker.io" { "registry-1.docker.io" } else { host };
        let schemes: &[&str] = if tls { &["https"] } else { &["https", "http"] };
        let mut failed = None;
        for scheme in schemes {
            let base: Url = format!("{scheme}://{api}/v2/")
                .parse()
                .map_err(|_| Error::NotFound(format!("{host}: not the name of a registry")))?;
            let attempt = async || {
                let response = http.send(http.get(&base)).await?;
                if matches!(response.status().as_u16(), 429 | 500 | 502 | 503 | 504) {
                    return Err(http::Error::status(response).await);
                }
                Ok(response)
            };
            // Whether a port speaks TLS is found out once; a name that does not answer may be tried again.
            let answer =
                if schemes.len() > 1 && *scheme == "https" { attempt().await } else { http.retry().run(attempt).await };
            match answer {
                Ok(response) if matches!(response.status().as_u16(), 200 | 401 | 403) => {
                    let (http, host, auth) = (http.clone(), host.to_owned(), auth.clone());
                    let (tokens, recent, tags, lists_none, says_digests) = Default::default();
                    let inner = Inner { http, host, base, auth, tokens, recent, tags, lists_none, says_digests };
                    return Ok(Registry(Arc::new(inner)));
                }
                Ok(_) => failed = Some(Error::NotARegistry(base)),
                Err(error) if error.is_plain() && tls => failed = Some(Error::Plain { host: host.to_owned() }),
                Err(error) if error.is_tls() && tls => {
                    failed = Some(Error::Tls { host: host.to_owned(), source: Box::new(error) });
                }
                Err(error) => failed = Some(error.into()),
            }
        }
        Err(failed.expect("at least one scheme was tried"))
    }

    /// Its name in references.
    pub fn host(&self) -> &str {
        &self.0.host
    }

    /// A repository, to be read or to be written, too.
    pub fn repository(&self, name: &str, write: bool) -> Repository {
        Repository::new(self.clone(), name, write)
    }

    /// Sends a request with what is known to open the scope, and if that is refused, asks for more and tries again.
    pub(super) async fn send(&self, scope: &Scope<'_>, build: impl Fn() -> RequestBuilder) -> Result<Response, Error> {
        let response = self.0.http.send(self.authorized(scope, build())).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return self.permitted(scope, response);
        }
        let challenge = challenge(response.headers());
        let authorization = self.authorization(scope, challenge).await?;
        self.0.tokens.lock().expect("no holder panics").insert(scope.key(), authorization);
        let response = self.0.http.send(self.authorized(scope, build())).await?;
        self.permitted(scope, response)
    }

    fn permitted(&self, scope: &Scope<'_>, response: Response) -> Result<Response, Error> {
        match response.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(Error::Unauthorized(format!("{}/{}", self.0.host, scope.repository)))
            }
            _ => Ok(response),
        }
    }

    pub(super) fn authorized(&self, scope: &Scope<'_>, request: RequestBuilder) -> RequestBuilder {
        match self.0.tokens.lock().expect("no holder panics").get(&scope.key()) {
            Some(authorization) => request.header(AUTHORIZATION, http::sensitive(authorization)),
            None => request,
        }
    }
}

/// [`http::Retry::run`] for what is spawned: the compiler cannot yet show that an `AsyncFn`'s future may move to
/// another thread.
pub(super) async fn again<T, F>(retry: http::Retry, attempt: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut tries = 0;
    loop {
        match attempt().await {
            Err(error) if retry.pause(&error, &mut tries).await => {}
            result => return result,
        }
    }
}
