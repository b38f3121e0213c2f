//! How long a run puts up with a server in trouble.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::http::{Retriable, Retry};

/// Tries again as [`Retry`] says, and for no longer in one run than a limit.
///
/// What counts is the time that goes by in tries that fail and in the pauses after them, of all requests together: an
/// upload of hours may go on, one that gets nowhere may not. The last pause may go beyond the limit.
pub struct Patience {
    retry: Retry,
    limit: Duration,
    spent: Mutex<Duration>,
}

impl Patience {
    /// Starts with nothing spent.
    pub fn new(retry: Retry, limit: Duration) -> Self {
        Patience { retry, limit, spent: Mutex::default() }
    }

    /// Runs `attempt`, which must be repeatable, until it succeeds, fails for good, or patience runs out.
    pub async fn run<T, E: Retriable>(&self, attempt: impl AsyncFn() -> Result<T, E>) -> Result<T, E> {
        let mut tries = 0;
        loop {
            let started = Instant::now();
            match attempt().await {
                Err(error) if self.pause(&error, started, &mut tries).await => {}
                result => return result,
            }
        }
    }

    /// Waits before another try of what `started` and failed; false when there is to be none.
    pub async fn pause(&self, error: &impl Retriable, started: Instant, tries: &mut u32) -> bool {
        if self.spend(started.elapsed()) >= self.limit {
            return false;
        }
        let waiting = Instant::now();
        let is_again = self.retry.pause(error, tries).await;
        self.spend(waiting.elapsed());
        is_again
    }

    fn spend(&self, time: Duration) -> Duration {
        let mut spent = self.spent.lock().expect("no holder panics");
        *spent += time;
        *spent
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::http::Verdict;

    #[derive(Debug, thiserror::Error)]
    #[error("trouble")]
    struct Trouble;

    impl Retriable for Trouble {
        fn verdict(&self) -> Verdict {
            Verdict::Again { after: None }
        }
    }

    async fn tries(limit: Duration) -> u32 {
        let retry = Retry { retries: 3, first_wait: Duration::from_millis(1), longest_wait: Duration::from_millis(1) };
        let patience = Patience::new(retry, limit);
        let tries = AtomicU32::new(0);
        for _ in 0..2 {
            let attempt = async || {
                tries.fetch_add(1, Ordering::Relaxed);
                Err::<(), Trouble>(Trouble)
            };
            patience.run(attempt).await.unwrap_err();
        }
        tries.into_inner()
    }

    #[tokio::test]
    async fn tries_end_with_their_number_or_with_the_time_of_the_run() {
        assert_eq!(tries(Duration::from_secs(60)).await, 8);
        assert_eq!(tries(Duration::ZERO).await, 2);
    }
}
