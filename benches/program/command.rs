//! Programs that are not measured.

use std::process::{Command, Stdio};

/// Runs one, which has to succeed.
pub(crate) fn run(command: &mut Command) {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(status.success(), "{command:?}");
}
