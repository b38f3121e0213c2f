//! Why something that should be here is not served, and whether that is a matter of time.

use std::fmt;
use std::io;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::RETRY_AFTER;
use rustix::io::Errno;

use crate::serve::answer::Refusal;

/// Why something is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bad {
    /// In words.
    pub(super) why: String,
    /// Nothing is wrong with it as far as is known: a medium was pulled out, or this process has no more files. Whoever asks is to
    /// ask again here, and not elsewhere.
    pub(super) passes: bool,
}

impl Bad {
    /// What stays as it is until somebody changes it.
    pub(super) fn lasting(why: impl Into<String>) -> Self {
        Bad { why: why.into(), passes: false }
    }

    /// What could not be read.
    pub(super) fn unreadable(error: &io::Error) -> Self {
        Bad { why: format!("unreadable: {error}"), passes: is_passing(error) }
    }

    /// The same, and of what.
    pub(super) fn of(self, what: impl fmt::Display) -> Self {
        Bad { why: format!("{what} {}", self.why), ..self }
    }

    /// The answer for who asks for `what`.
    pub(super) fn refusal(&self, code: &'static str, what: impl fmt::Display) -> Refusal {
        let words = format!("{what}: {}", self.why);
        if self.passes {
            let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", words);
            return refusal.header(RETRY_AFTER, AGAIN.as_secs().to_string());
        }
        Refusal::new(StatusCode::NOT_FOUND, code, words)
    }
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// Whether an error is of this process or of a medium that was pulled out, and says nothing of the file.
pub(super) fn is_passing(error: &io::Error) -> bool {
    let passing = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::IO, Errno::NXIO, Errno::NODEV, Errno::STALE];
    Errno::from_io_error(error).is_some_and(|error| passing.contains(&error))
}

/// After how long what may have passed is looked at again, and what clients are told to wait.
pub(super) const AGAIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_no_reason_to_go_elsewhere() {
        let cases =
            [(Errno::MFILE, 503), (Errno::IO, 503), (Errno::STALE, 503), (Errno::ACCESS, 404), (Errno::LOOP, 404)];
        for (errno, status) in cases {
            let refusal = Bad::unreadable(&errno.into()).refusal("BLOB_UNKNOWN", "a/b");
            let found = (refusal.status.as_u16(), refusal.headers.len());
            assert_eq!(found, (status, usize::from(status == 503)), "{errno}");
        }
    }
}
