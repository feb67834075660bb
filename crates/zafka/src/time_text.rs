//! Times as people read them.

use jiff::Timestamp;

/// Returns a time in s since the epoch as a text (RFC 3339), if it has one.
pub fn time_text(seconds: i64) -> Option<String> {
    Timestamp::from_second(seconds).ok().map(|time| time.to_string())
}

/// Returns the time of an end as [`time_text`]; "never" if it has none.
pub fn end_text(seconds: i64) -> String {
    time_text(seconds).unwrap_or_else(|| "never".to_owned())
}
