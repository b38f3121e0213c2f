//! The work of commands that spans siblings: a verb is a function that takes an options struct and gives a report.
//!
//! Nothing here knows the command line or the terminal. What happens while something long is under way goes to
//! [`Progress`](crate::progress::Progress) and, where it is worth a line of its own, to `tracing` as a warning.

pub mod carry;
pub mod catalog_image;
pub mod connect;
pub mod copy;
pub mod diff;
pub mod doctor;
pub mod done;
pub mod error;
pub mod evidence;
pub mod files;
pub mod gather;
pub mod hints;
pub mod inspect;
pub mod kernel_image;
pub mod login;
pub mod make;
pub mod matrix;
pub mod nothing;
pub mod packages;
pub mod place;
pub mod publish;
pub mod scratch;
pub mod sites;
pub mod sync;
pub mod tags;
pub mod verify;

pub use connect::Access;
pub use done::Done;
pub use error::Error;
pub use scratch::Scratch;

/// Runs something that touches the network to its end.
pub fn block_on<T, E: From<std::io::Error>>(future: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    // What goes from registry to registry is hashed there, so one thread would not do, and a hundred cores have nothing to do.
    let threads = std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 8));
    tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?.block_on(future)
}
