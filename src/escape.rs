//! Text from outside on a terminal and in logs.
//!
//! A tag, a file's name or a server's error message may hold what moves the cursor, changes the title, answers for the user or
//! looks like a line of ours (CWE-150). Such characters are shown as they would be written in a program: `\x1b`, `\u{202e}`.
//! That is done where something is printed, for all that is printed.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};

/// The text with its control characters spelled out, but for line feeds and tabs: for text that is laid out in lines.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_control(c) && !matches!(c, '\n' | '\t'))
}

/// The text with all its control characters spelled out, so that it is one line.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_control)
}

/// What `text` shows, as [`line`] has it: for names and words from outside in what is laid out in lines.
pub fn in_line(text: impl Display) -> String {
    let text = text.to_string();
    match line(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(plain) => plain,
    }
}

/// JSON text without the control characters that JSON itself lets through (DEL and C1); its meaning is the same.
pub fn json(text: &str) -> Cow<'_, str> {
    if !text.contains(is_control) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' | '\t' => plain.push(c),
            // Outside strings there are none, and in them this is how they may be written.
            c if is_control(c) => {
                let _ = write!(plain, "\\u{:04x}", u32::from(c));
            }
            c => plain.push(c),
        }
    }
    Cow::Owned(plain)
}

/// C0, DEL and C1; what ends a line for Unicode; and what changes the direction of what follows, so that a text reads as
/// another.
fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        let _ = match (is_escaped(c), c) {
            (false, c) => write!(plain, "{c}"),
            (true, '\n') => write!(plain, "\\n"),
            (true, '\r') => write!(plain, "\\r"),
            (true, '\t') => write!(plain, "\\t"),
            (true, c) if u32::from(c) < 0x100 => write!(plain, "\\x{:02x}", u32::from(c)),
            (true, c) => write!(plain, "\\u{{{:x}}}", u32::from(c)),
        };
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_spelled_out() {
        for (text, in_lines, in_line, in_json) in [
            ("Grüße 日本", "Grüße 日本", "Grüße 日本", "Grüße 日本"),
            ("\u{1b}]0;x\u{7}", r"\x1b]0;x\x07", r"\x1b]0;x\x07", r"\u001b]0;x\u0007"),
            ("\u{9b}31m\u{7f}", r"\x9b31m\x7f", r"\x9b31m\x7f", r"\u009b31m\u007f"),
            ("a\nb\tc\r", "a\nb\tc\\r", r"a\nb\tc\r", "a\nb\tc\\u000d"),
            ("a\u{202e}b\u{2028}", r"a\u{202e}b\u{2028}", r"a\u{202e}b\u{2028}", r"a\u202eb\u2028"),
            ("a\0b", r"a\x00b", r"a\x00b", r"a\u0000b"),
        ] {
            assert_eq!((&*lines(text), &*line(text), &*json(text)), (in_lines, in_line, in_json));
        }
        let value = serde_json::json!({ "a": "\u{9b}\u{7f}\u{202e}\n" });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json(&value.to_string())).unwrap(), value);
    }
}
