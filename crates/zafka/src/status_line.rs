//! Standard error as a person reads it beside the output: a status line that is written over, and
//! notes.

use std::collections::HashSet;
use std::io::{self, Write};

use crate::stderr;
use crate::terminal::takes_control;

/// Notes that are remembered as said.
const NOTES: usize = 64;

/// The last line of a terminal, and what was noted above it.
#[derive(Debug)]
pub(crate) struct StatusLine {
    /// True if standard error can show a line that is written over.
    is_live: bool,
    is_shown: bool,
    notes: HashSet<String>,
}

impl StatusLine {
    /// Makes a line on standard error.
    pub(crate) fn new() -> Self {
        Self { is_live: takes_control(&io::stderr()), is_shown: false, notes: HashSet::new() }
    }

    /// Shows the status in place of the last one, on a terminal alone.
    pub(crate) fn show(&mut self, status: &str) {
        if self.is_live {
            self.is_shown = true;
            let _ = write!(io::stderr(), "\r\x1b[2K{status}");
        }
    }

    /// Takes the status away, before something else is written to the terminal.
    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.is_shown) {
            let _ = write!(io::stderr(), "\r\x1b[2K");
        }
    }

    /// Says something, unless something with this key was said since notes were forgotten.
    pub(crate) fn note(&mut self, key: &str, text: &str) {
        if self.notes.len() >= NOTES {
            self.notes.clear();
        }
        if self.notes.insert(key.to_owned()) {
            self.say(text);
        }
    }

    /// Forgets the notes: from now on each is news again.
    pub(crate) fn forget_notes(&mut self) {
        self.notes.clear();
    }

    /// Says something on standard error. A terminal gets it before the next message, and what
    /// cannot be written there is no loss.
    pub(crate) fn say(&mut self, text: &str) {
        self.clear();
        if self.is_live {
            let _ = writeln!(io::stderr(), "{text}");
        } else {
            stderr::say(text);
        }
    }
}
