//! Texts of users as they may be shown: without what may be a user's name, a password or a token in
//! them.
//!
//! It hides too much rather than too little, for it sees texts that are no URLs just because of
//! what is to be hidden.

use std::borrow::Cow;

const HIDDEN: &str = "***";

/// The text without credentials: all before its last `@`, but for the scheme, and a URL's query.
pub fn redacted(text: &str) -> Cow<'_, str> {
    let start = text.find("://").map(|colon| colon + "://".len());
    let (head, rest) = text.split_at(start.unwrap_or(0));
    let Some((_, host)) = split_credentials(rest) else {
        // Without a scheme it may be a regular expression, which has question marks too.
        return match rest.split_once('?') {
            Some((address, query)) if start.is_some() && !query.is_empty() => {
                Cow::Owned(format!("{head}{address}?{HIDDEN}"))
            }
            _ => Cow::Borrowed(text),
        };
    };
    // The scheme of a text such as `user:p://w@host` is none.
    let head = if is_scheme(head) { head } else { "" };
    let (address, hidden) = match host.split_once('?') {
        Some((address, _)) => (address, "?***"),
        None => (host, ""),
    };
    Cow::Owned(format!("{head}{HIDDEN}@{address}{hidden}"))
}

/// Returns true if there is something before an `@`, percent-encoded or not.
pub fn has_credentials(text: &str) -> bool {
    split_credentials(text).is_some()
}

/// Splits at the last `@`; `None` unless there is something before it.
fn split_credentials(text: &str) -> Option<(&str, &str)> {
    let at = |sign: &str| text.rfind(sign).map(|at| (at, at + sign.len()));
    let (start, end) = at("@").max(at("%40"))?;
    (start > 0).then(|| (&text[..start], &text[end..]))
}

fn is_scheme(head: &str) -> bool {
    let name = head.trim_end_matches("://");
    name.chars().all(|c| c.is_ascii_alphanumeric() || "+-._".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_hidden_wherever_they_stand() {
        for (text, shown) in [
            ("https://id:s3cret@idp/token", "https://***@idp/token"),
            ("https://id:s3/cr?et@idp/token", "https://***@idp/token"),
            ("https://s3cret@s3cret@idp", "https://***@idp"),
            ("https://id%3As3cret%40idp/token", "https://***@idp/token"),
            ("https://idp/token?key=s3cret", "https://idp/token?***"),
            ("https://id:s3cret@idp/token?key=s3cret", "https://***@idp/token?***"),
            ("id:s3cret@broker:9092", "***@broker:9092"),
            ("a:1,id:s3cret@b:1", "***@b:1"),
            ("id:s3://cret@broker:9092", "***@broker:9092"),
            ("kafka://${USER}:s3cret@${HOST}/t", "kafka://***@${HOST}/t"),
            ("SASL_SSL://id:s3cret@broker:9092", "SASL_SSL://***@broker:9092"),
        ] {
            assert_eq!(redacted(text), shown);
        }
    }

    #[test]
    fn everything_else_is_shown() {
        for text in [
            "",
            "a:1",
            "kafka://a:1/t",
            "ipc://@abstract",
            "/^a?(b/",
            "tcp://*:1",
            "100%",
            "pgm://h?",
        ] {
            assert_eq!(redacted(text), text);
            assert!(!has_credentials(text.trim_start_matches("ipc://")), "{text}");
        }
    }
}
