//! The wire of the door (`docs/protocol.md`): commands, and the frames of their answers. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use zafka_identity::Refusal;
use zafka_zmtp::Token;

use crate::time_text::time_text;

/// The first frame of a command, of an answer and of a notice.
pub const WORD: &[u8] = b"ZAFKA/1";
/// Frames of an envelope at the most, the empty one included.
const ENVELOPE_MAX: usize = 8;
/// The longest id of a command, in bytes.
const MAX_ID: usize = 255;
/// Time in ms after which another try may help.
const RETRY_AFTER: u64 = 2_000;

/// A command as it came, without its envelope.
pub enum DoorCommand {
    /// `ENROL`.
    Enrol {
        /// The sender's name for it.
        id: String,
        /// The token that it shows.
        token: Token,
    },
    /// A command that cannot be read, with the reason.
    Malformed(&'static str),
    /// A command with another verb.
    Unknown(String),
}

/// The body of `ENROL`; a name that stands twice is an error.
#[derive(Deserialize)]
struct EnrolBody {
    id: Option<Value>,
    token: Option<Value>,
}

/// Parts a message from the envelope before it: returns its number of frames.
pub fn envelope(frames: &[&[u8]]) -> usize {
    if frames.first().is_some_and(|frame| *frame == WORD) {
        return 0;
    }
    let empty = frames.iter().take(ENVELOPE_MAX).position(|frame| frame.is_empty());
    empty.map_or(0, |empty| empty + 1)
}

/// Reads a message without its envelope.
pub fn command(frames: &[&[u8]]) -> DoorCommand {
    match frames {
        [WORD, b"ENROL", body] => enrol(body),
        [WORD, b"ENROL", ..] => DoorCommand::Malformed("ENROL has three frames"),
        // What is no word may be anything, and is not repeated.
        [WORD, verb, ..] if is_word(verb) => {
            DoorCommand::Unknown(String::from_utf8_lossy(verb).into_owned())
        }
        _ => DoorCommand::Malformed("not a command: ZAFKA/1, a verb, a JSON object"),
    }
}

/// Returns true if a frame looks like a verb.
fn is_word(frame: &[u8]) -> bool {
    (1..=32).contains(&frame.len()) && frame.iter().all(u8::is_ascii_alphabetic)
}

fn enrol(body: &[u8]) -> DoorCommand {
    // A list would do for serde.
    let is_object = body.trim_ascii_start().starts_with(b"{");
    let read = serde_json::from_slice(body).ok().filter(|_| is_object);
    let Some(EnrolBody { id, token }) = read else {
        return DoorCommand::Malformed("the third frame is not a JSON object with id and token");
    };
    let Some(Value::String(id)) = id else { return DoorCommand::Malformed("id is not a text") };
    if id.is_empty() || id.len() > MAX_ID {
        return DoorCommand::Malformed("id has not 1 to 255 bytes");
    }
    match token {
        Some(Value::String(token)) if !token.is_empty() => {
            DoorCommand::Enrol { id, token: Token::new(token.into_bytes()) }
        }
        _ => DoorCommand::Malformed("token is not a text"),
    }
}

/// The lease of a key, as it is shown to its owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeaseAnswer {
    /// The sender's name for its command.
    pub id: String,
    /// The subject of the token.
    pub subject: String,
    /// The end of the lease (RFC 3339), and the seconds until then.
    pub until: Option<String>,
    /// The same, for those whose clock differs.
    pub expires_in: i64,
    /// Topics that the key may read: names, and patterns between slashes.
    pub read: Vec<String>,
    /// Topics that it may write to.
    pub write: Vec<String>,
}

/// The reason why a command was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DoorFailure {
    /// The sender's name for its command, if it could be read.
    pub id: Option<String>,
    /// A short name.
    pub code: &'static str,
    /// The reason, for people.
    pub message: String,
    /// True if the same command may be done later.
    pub retriable: bool,
    /// Time in ms after which another try may help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// A reference under which the relay's log has more about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

impl DoorFailure {
    /// A command that cannot be read.
    pub fn malformed(why: impl Into<String>) -> Self {
        Self::of("malformed", why.into())
    }

    /// A command that is not known.
    pub fn unsupported(verb: &str) -> Self {
        Self::of("unsupported", format!("unknown command \"{verb}\": the door takes ENROL alone"))
    }

    /// A command that came too soon after another one.
    pub fn busy(id: Option<String>, pause: Duration) -> Self {
        let retry_after = u64::try_from(pause.as_millis()).ok();
        let message = "one command a second".to_owned();
        Self { id, code: "busy", message, retriable: true, retry_after, reference: None }
    }

    /// A token that gives no lease.
    pub fn refused(id: String, refusal: Refusal, reference: String) -> Self {
        let retriable = refusal.may_pass();
        Self {
            id: Some(id),
            code: refusal.code(),
            message: refusal.to_string(),
            retriable,
            retry_after: retriable.then_some(RETRY_AFTER),
            reference: Some(reference),
        }
    }

    fn of(code: &'static str, message: String) -> Self {
        Self { id: None, code, message, retriable: false, retry_after: None, reference: None }
    }
}

/// A lease that ends soon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// Its end (RFC 3339).
    pub until: Option<String>,
    /// The seconds until then.
    pub expires_in: i64,
}

impl Notice {
    /// About a lease that ends then; both in s since the epoch.
    pub fn new(until: i64, now: i64) -> Self {
        Self { until: time_text(until), expires_in: until.saturating_sub(now).max(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The outcome of reading a message: its envelope's frames, and what it is.
    fn read(texts: &[&str]) -> (usize, String) {
        let frames: Vec<_> = texts.iter().map(|text| text.as_bytes()).collect();
        let count = envelope(&frames);
        let command = match command(&frames[count..]) {
            DoorCommand::Enrol { id, token } => {
                format!("{id} {}", String::from_utf8_lossy(token.expose()))
            }
            DoorCommand::Malformed(why) => format!("malformed: {why}"),
            DoorCommand::Unknown(verb) => format!("unknown: {verb}"),
        };
        (count, command)
    }

    #[test]
    fn commands_are_read() {
        let good = r#"{"id":"7","token":"a.b.c"}"#;
        for (frames, envelope, outcome) in [
            (&["ZAFKA/1", "ENROL", good][..], 0, "7 a.b.c"),
            (&["", "ZAFKA/1", "ENROL", good], 1, "7 a.b.c"),
            (&["r", "", "ZAFKA/1", "ENROL", good], 2, "7 a.b.c"),
            (&["ZAFKA/1", "ENROL", r#"{"id":"7","token":"a.b.c","later":[1]}"#], 0, "7 a.b.c"),
            // Each is an accepted one with one thing changed.
            (&["ZAFKA/1", "ENROL"], 0, "malformed: ENROL has three frames"),
            (&["ZAFKA/1", "ENROL", good, good], 0, "malformed: ENROL has three frames"),
            (&["ENROL", good], 0, "malformed: not a command"),
            (&["ZAFKA/2", "ENROL", good], 0, "malformed: not a command"),
            (&[good], 0, "malformed: not a command"),
            (&["r", "s", "ZAFKA/1", "ENROL", good], 0, "malformed: not a command"),
            (&["ZAFKA/1", "ENROL", "no JSON"], 0, "malformed: the third frame"),
            (&["ZAFKA/1", "ENROL", ""], 0, "malformed: the third frame"),
            (&["ZAFKA/1", "ENROL", r#"["7","a.b.c"]"#], 0, "malformed: the third"),
            (&["ZAFKA/1", "ENROL", r#"{"token":"a.b.c"}"#], 0, "malformed: id is not"),
            (&["ZAFKA/1", "ENROL", r#"{"id":7,"token":"a.b.c"}"#], 0, "malformed: id is not"),
            (&["ZAFKA/1", "ENROL", r#"{"id":"","token":"a.b.c"}"#], 0, "malformed: id has"),
            (&["ZAFKA/1", "ENROL", r#"{"id":"7"}"#], 0, "malformed: token"),
            (&["ZAFKA/1", "ENROL", r#"{"id":"7","token":""}"#], 0, "malformed: token"),
            (&["ZAFKA/1", "ENROL", r#"{"id":"7","token":["a"]}"#], 0, "malformed: token"),
            (&["ZAFKA/1", "ENROL", r#"{"id":"7","id":"8","token":"a"}"#], 0, "malformed: the th"),
            (&["ZAFKA/1", "READ", good], 0, "unknown: READ"),
            (&["ZAFKA/1", "enrol", good], 0, "unknown: enrol"),
            (&["ZAFKA/1", "\u{7}", good], 0, "malformed: not a command"),
            (&["ZAFKA/1", good], 0, "malformed: not a command"),
            (&["ZAFKA/1"], 0, "malformed: not a command"),
        ] {
            let (found, command) = read(frames);
            assert_eq!(found, envelope, "{frames:?}");
            assert!(command.starts_with(outcome), "{frames:?}: {command}");
        }
        let long = format!(r#"{{"id":"{}","token":"a"}}"#, "x".repeat(256));
        assert!(read(&["ZAFKA/1", "ENROL", &long]).1.starts_with("malformed: id has"));
        let deep = format!(r#"{{"id":{}1{},"token":"a"}}"#, "[".repeat(9_000), "]".repeat(9_000));
        assert!(read(&["ZAFKA/1", "ENROL", &deep]).1.starts_with("malformed: the third"));
    }
}
