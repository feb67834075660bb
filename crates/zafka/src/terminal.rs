//! Abilities of the user's terminal.

use std::ffi::OsStr;
use std::io::IsTerminal;

/// Returns true if `stream` is to be written in color: it is a terminal, and neither NO_COLOR
/// (<https://no-color.org>: set, and not empty) nor `TERM=dumb` says otherwise.
pub fn takes_color(stream: &impl IsTerminal) -> bool {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    takes_control(stream) && !no_color
}

/// Returns true if lines can be written over on `stream`: a terminal that is not dumb.
pub fn takes_control(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("TERM").as_deref() != Some(OsStr::new("dumb"))
}
