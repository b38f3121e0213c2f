//! What people meet: what goes to stdout and stderr, questions to somebody at a terminal, the log, and signals that end the program.

pub(crate) mod log;
mod pages;
pub(crate) mod prompt;
pub(crate) mod stop;
mod ui;

pub(crate) use self::pages::page;
pub(crate) use self::ui::{ProgressMode, Ui};
