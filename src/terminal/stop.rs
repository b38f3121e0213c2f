//! Handles SIGINT and SIGTERM: lets temporary directories be removed, then exits.
//!
//! What lies half-made beside its place is found and removed by the next run; a directory in `TMPDIR` is not.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Does what cannot be broken off from inside, and ends the program when a signal comes meanwhile: `clear` removes what is not to
/// stay, and `told` says so and gives the status.
pub(crate) fn stoppable<T>(
    clear: impl FnOnce() + Send,
    told: impl FnOnce(&'static str) -> i32 + Send,
    work: impl FnOnce() -> T,
) -> T {
    std::thread::scope(|scope| {
        let (done, ended) = tokio::sync::oneshot::channel::<()>();
        let (listening, ready) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let Ok(runtime) = runtime else { return };
            let name = runtime.block_on(async {
                let stopped = Stopped::listen();
                drop(listening);
                tokio::select! { name = stopped.name() => Some(name), _ = ended => None }
            });
            if let Some(name) = name {
                clear();
                std::process::exit(told(name));
            }
        });
        // A signal that came before would end the program as it ends others.
        let _ = ready.recv();
        let result = work();
        drop(done);
        result
    })
}

/// Does the work, and lets a signal end it where nobody else would: in a container this is often the first process, for which
/// the kernel does nothing of its own on SIGINT and SIGTERM (pid_namespaces(7)), so that `podman stop` waits for ten seconds
/// and then kills.
pub(crate) fn mortal<T>(told: impl FnOnce(&'static str) -> i32 + Send, work: impl FnOnce() -> T) -> T {
    match std::process::id() {
        1 => stoppable(|| {}, told, work),
        _ => work(),
    }
}

/// The same for work that the next run goes on with, whoever ends it: somebody who waits for gigabytes is to know that.
pub(crate) fn resumable<T>(told: impl FnOnce(&'static str) -> i32 + Send, work: impl FnOnce() -> T) -> T {
    stoppable(|| {}, told, work)
}

/// The status of a program that a signal ended, as shells say it.
pub(crate) fn status(signal: &str) -> i32 {
    if signal == "SIGINT" { 130 } else { 143 }
}

/// Waits until somebody wants the program to end; the signal's name.
pub(crate) async fn stopped() -> &'static str {
    Stopped::listen().name().await
}

/// The signals with which somebody ends a program, from when it was made.
struct Stopped(Option<(Signal, Signal)>);

impl Stopped {
    fn listen() -> Self {
        Stopped(signal(SignalKind::interrupt()).and_then(|it| Ok((it, signal(SignalKind::terminate())?))).ok())
    }

    async fn name(self) -> &'static str {
        let Some((mut interrupt, mut terminate)) = self.0 else { return std::future::pending().await };
        tokio::select! { _ = interrupt.recv() => "SIGINT", _ = terminate.recv() => "SIGTERM" }
    }
}
