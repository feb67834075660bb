//! Messages of the door of a relay (`docs/protocol.md`). Pure.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::send::retry_after;

/// The first frame of a command, of an answer and of a notice.
pub(super) const WORD: &[u8] = b"ZAFKA/1";

/// A message of the door.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum DoorMessage {
    /// The key has a lease.
    Enrolled(Enrolled),
    /// The command was not done.
    Refused(Refused),
    /// A lease ends soon.
    EndsSoon,
}

/// A lease.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Enrolled {
    /// The command that this answers.
    pub(super) id: String,
    /// The time for which it lasts.
    pub(super) left: Duration,
    /// All that the answer says but the id.
    pub(super) fields: Map<String, Value>,
}

/// The reason why a key has no lease by a token.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Refused {
    /// The command that this answers, if the door could read its id.
    pub(super) id: Option<String>,
    /// The pause after which the same token may be taken; `None` if it never is.
    pub(super) retry_after: Option<Duration>,
    /// All that the answer says but the id.
    pub(super) fields: Map<String, Value>,
}

impl fmt::Display for Enrolled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |name| self.fields.get(name).and_then(Value::as_str).unwrap_or("?");
        let list = |name| {
            let items = self.fields.get(name).and_then(Value::as_array).into_iter().flatten();
            let items = items.filter_map(Value::as_str).map(|item| item.escape_debug().to_string());
            let items: Vec<_> = items.collect();
            if items.is_empty() { "nothing".to_owned() } else { items.join(", ") }
        };
        let (subject, until) = (text("subject").escape_debug(), text("until").escape_debug());
        let (read, write) = (list("read"), list("write"));
        write!(f, "enrolled as {subject} until {until}; reads {read}; writes {write}")
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |name| self.fields.get(name).and_then(Value::as_str);
        let (code, message) = (text("code").unwrap_or("?"), text("message").unwrap_or("?"));
        write!(f, "refused: {}: {}", code.escape_debug(), message.escape_debug())?;
        match text("reference") {
            Some(reference) => write!(f, " (reference {})", reference.escape_debug()),
            None => Ok(()),
        }
    }
}

/// Reads a message.
///
/// # Errors
/// The frames are none.
pub(super) fn read<F: AsRef<[u8]>>(frames: &[F]) -> Result<DoorMessage, String> {
    let frames: Vec<&[u8]> = frames.iter().map(AsRef::as_ref).collect();
    let [WORD, word, body] = frames[..] else {
        return Err("it answers in another way than the door of a relay".to_owned());
    };
    let mut fields: Map<String, Value> = serde_json::from_slice(body)
        .map_err(|error| format!("an answer that is not JSON: {error}"))?;
    let id = match fields.remove("id") {
        Some(Value::String(id)) => Some(id),
        _ => None,
    };
    match (word, id) {
        (b"OK", Some(id)) => {
            let left = fields.get("expires_in").and_then(Value::as_u64);
            let left = left.ok_or("an answer without expires_in")?;
            Ok(DoorMessage::Enrolled(Enrolled { id, left: Duration::from_secs(left), fields }))
        }
        (b"ERROR", id) => {
            Ok(DoorMessage::Refused(Refused { id, retry_after: retry_after(&fields), fields }))
        }
        (b"LEASE", _) => Ok(DoorMessage::EndsSoon),
        (other, _) => {
            let shown = other.get(..other.len().min(16)).unwrap_or_default().escape_ascii();
            Err(format!("an answer that is none to ENROL: \"{shown}\""))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(frames: &[&str]) -> String {
        let frames: Vec<_> = frames.iter().map(|frame| frame.as_bytes()).collect();
        match read(&frames) {
            Ok(DoorMessage::Enrolled(enrolled)) => {
                format!("{} {:?}: {enrolled}", enrolled.id, enrolled.left)
            }
            Ok(DoorMessage::Refused(refused)) => {
                format!("{:?} {:?}: {refused}", refused.id, refused.retry_after)
            }
            Ok(DoorMessage::EndsSoon) => "ends soon".to_owned(),
            Err(why) => format!("wrong: {why}"),
        }
    }

    #[test]
    fn messages_are_read() {
        let ok =
            r#"{"id":"1","subject":"al\nice","until":"2026","expires_in":60,"read":["a","b"]}"#;
        let busy = r#"{"id":"1","code":"busy","message":"m","retriable":true,"retry_after":500}"#;
        let bad = r#"{"id":null,"code":"revoked","message":"m","retriable":false,"reference":"r"}"#;
        for (frames, expected) in [
            (
                &["ZAFKA/1", "OK", ok][..],
                "1 60s: enrolled as al\\nice until 2026; reads a, b; writes nothing",
            ),
            (&["ZAFKA/1", "ERROR", busy], "Some(\"1\") Some(500ms): refused: busy: m"),
            (&["ZAFKA/1", "ERROR", bad], "None None: refused: revoked: m (reference r)"),
            (&["ZAFKA/1", "LEASE", "{}"], "ends soon"),
            (&["ZAFKA/1", "OK", "{\"id\":\"1\"}"], "wrong: an answer without expires_in"),
            (&["ZAFKA/1", "HELLO", "{}"], "wrong: an answer that is none to ENROL: \"HELLO\""),
            (&["OK", "{}"], "wrong: it answers in another way than the door of a relay"),
        ] {
            assert_eq!(told(frames), expected);
        }
        assert!(told(&["ZAFKA/1", "OK", "x"]).starts_with("wrong: an answer that is not JSON"));
    }
}
