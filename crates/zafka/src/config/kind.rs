//! The values that a key takes: what the manual says of them, what a file and a URL may hold.

use std::fmt;
use std::time::Duration;

use super::choice::Words;
use super::mistake::{Parsed, Rejected};
use super::text;

/// The values that a key takes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Documentation of the values. The key's own reader knows the values.
    Described(&'static str),
    /// The same, or a date-time of TOML.
    Time(&'static str),
    /// One of some words.
    Choice(&'static dyn Words),
    /// `true` or `false`.
    Flag,
    /// A whole number in these bounds.
    Whole(u64, u64),
    /// Bytes in these bounds.
    Size(u64, u64),
    /// A duration in these bounds.
    Duration(Duration, Duration),
    /// The same, or zero for none.
    DurationOrNone(Duration, Duration),
    /// A text that is never shown.
    Secret,
    /// A file.
    Path,
    /// A table with keys of its own.
    Table,
    /// An array of tables.
    Tables,
}

impl Kind {
    /// Returns true if a number of TOML may stand for a text.
    pub fn is_number(self) -> bool {
        matches!(self, Self::Whole(..) | Self::Size(..))
    }

    /// A whole number or a size.
    ///
    /// # Errors
    /// Another text, or a number out of bounds.
    pub fn number(self, text: &str) -> Parsed<u64> {
        match self {
            Self::Whole(min, max) => text::whole(text, min, max),
            Self::Size(min, max) => text::size(text, min, max),
            other => Err(Rejected::allowed(other.to_string())),
        }
    }

    /// A duration; `None` for none.
    ///
    /// # Errors
    /// Another text, or a duration out of bounds.
    pub fn duration(self, text: &str) -> Parsed<Option<Duration>> {
        match self {
            Self::Duration(min, max) => text::duration(text, min, max).map(Some),
            Self::DurationOrNone(min, max) => text::duration_or_none(text, min, max),
            other => Err(Rejected::allowed(other.to_string())),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spell = humantime::format_duration;
        match *self {
            Self::Described(text) | Self::Time(text) => f.write_str(text),
            Self::Choice(words) => {
                let words: Vec<_> = words.words().iter().map(|word| format!("{word:?}")).collect();
                match words.as_slice() {
                    [first @ .., last] if !first.is_empty() => {
                        write!(f, "{} or {last}", first.join(", "))
                    }
                    words => f.write_str(&words.concat()),
                }
            }
            Self::Flag => f.write_str("true or false"),
            Self::Whole(min, max) => write!(f, "whole number, {min} to {max}"),
            Self::Size(min, max) => {
                write!(f, "size, {} to {}", text::size_text(min), text::size_text(max))
            }
            Self::Duration(min, max) => write!(f, "duration, {} to {}", spell(min), spell(max)),
            Self::DurationOrNone(min, max) => {
                write!(f, "duration, {} to {}, or \"0\"", spell(min), spell(max))
            }
            Self::Secret => f.write_str("secret"),
            Self::Path => f.write_str("path"),
            Self::Table => f.write_str("table"),
            Self::Tables => f.write_str("array of tables"),
        }
    }
}
