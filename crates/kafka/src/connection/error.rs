//! Errors of a connection.

use crate::error_text::normalize;

/// The longest text of a broker that is shown, in characters.
const LONGEST: usize = 500;

/// The reason why a connection could not be made, or can no longer be used. The same fault has the
/// same text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address}: {reason}")]
pub(crate) struct ConnectionError {
    address: String,
    reason: String,
}

impl ConnectionError {
    pub(crate) fn new(address: &str, reason: &str) -> Self {
        Self { address: address.to_owned(), reason: normalize(&line(reason)) }
    }
}

/// One line of a length that a log can have: brokers send what they like.
fn line(text: &str) -> String {
    let mut line: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST + 1).collect();
    if let Some((end, _)) = line.char_indices().nth(LONGEST) {
        line.truncate(end);
        line.push_str("...");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_s_text_is_one_line_of_a_bounded_length() {
        for (reason, told) in [
            ("no", "a:1: no".to_owned()),
            ("no\n2026 WARN forged\u{1b}[2J", "a:1: no 2026 WARN forged [2J".to_owned()),
            (&"\u{e4}".repeat(500), format!("a:1: {}", "\u{e4}".repeat(500))),
            (&"\u{e4}".repeat(501), format!("a:1: {}...", "\u{e4}".repeat(500))),
        ] {
            assert_eq!(ConnectionError::new("a:1", reason).to_string(), told);
        }
    }
}
