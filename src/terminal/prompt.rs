//! Asks somebody at a terminal: what is typed, and what is typed without being shown.

use std::io::{self, BufRead, IsTerminal, Read};
use std::os::fd::AsFd;

use rustix::process::{Signal, getpid, kill_process};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::terminal::Ui;

/// Whether somebody sits at standard input.
pub(crate) fn is_possible() -> bool {
    io::stdin().is_terminal()
}

/// A line that is shown while it is typed, without the spaces around it.
pub(crate) fn line(ui: &Ui, question: &str) -> io::Result<String> {
    ui.ask(question);
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

/// A line that is not shown. Backspace and Ctrl-U take back what was typed; Ctrl-C ends the program as elsewhere, with the
/// terminal as it was.
pub(crate) fn hidden(ui: &Ui, question: &str) -> io::Result<String> {
    ui.ask(question);
    let typed = {
        let _hidden = Hidden::new()?;
        typed(io::stdin().lock().bytes())
    };
    ui.ask("\n");
    match typed? {
        Some(typed) => String::from_utf8(typed).map_err(|_| io::Error::other("what was typed is not UTF-8")),
        None => {
            let _ = kill_process(getpid(), Signal::INT);
            Err(io::ErrorKind::Interrupted.into())
        }
    }
}

/// What the keys make together up to Enter; `None` after Ctrl-C.
fn typed(keys: impl Iterator<Item = io::Result<u8>>) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    for key in keys {
        match key? {
            b'\n' | b'\r' | CTRL_D => break,
            CTRL_C => return Ok(None),
            CTRL_U => line.clear(),
            // All bytes of a character.
            BACKSPACE | CTRL_H => while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
            other => line.push(other),
        }
    }
    Ok(Some(line))
}

/// A terminal that shows nothing and gives keys as they come, until this is dropped.
struct Hidden(Termios);

impl Hidden {
    fn new() -> io::Result<Self> {
        let before = tcgetattr(io::stdin().as_fd())?;
        let mut mode = before.clone();
        mode.local_modes &= !(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        tcsetattr(io::stdin().as_fd(), OptionalActions::Flush, &mode)?;
        Ok(Hidden(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin().as_fd(), OptionalActions::Now, &self.0);
    }
}

const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const CTRL_H: u8 = 8;
const CTRL_U: u8 = 0x15;
const BACKSPACE: u8 = 0x7f;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_make_a_line() {
        for (keys, line) in [
            ("secret\n", Some("secret")),
            ("secret", Some("secret")),
            ("sx\u{7f}ecret\rrest", Some("secret")),
            ("sé\u{7f}ecret\n", Some("secret")),
            ("wrong\u{15}secret\u{4}", Some("secret")),
            ("\u{7f}\u{8}\n", Some("")),
            ("sec\u{3}ret\n", None),
        ] {
            let typed = typed(keys.bytes().map(Ok)).unwrap();
            assert_eq!(typed.as_deref(), line.map(str::as_bytes), "{keys:?}");
        }
    }
}
