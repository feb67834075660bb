//! The answers of a ROUTER endpoint (`docs/protocol.md`). Pure.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};

/// Pause before another try, unless the answer has one, and the longest that is waited for.
const RETRY_AFTER: Duration = Duration::from_secs(1);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// An answer to one message.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RouterAnswer {
    /// The number of the message in its id; `None` if the answer has no id.
    pub(super) number: Option<u64>,
    pub(super) outcome: Result<Place, Failure>,
}

/// A record's place in the log, as the answer has it: topic, partition, offset, timestamp.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Place(pub(super) Map<String, Value>);

/// The reason why a message is not in the log, or not known to be.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Failure {
    /// The pause after which the same message may be taken; `None` if it is refused for good.
    pub(super) retry_after: Option<Duration>,
    /// All that the answer says.
    pub(super) fields: Map<String, Value>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |name| self.fields.get(name).and_then(Value::as_str).unwrap_or("?");
        write!(f, "{}: {}", text("code"), text("message"))
    }
}

/// The ids of one run: a number after a word that other runs do not have.
#[derive(Clone, Debug)]
pub(super) struct Ids(String);

impl Ids {
    /// Ids with this word.
    pub(super) fn new(word: u64) -> Self {
        Self(format!("{word:016x}-"))
    }

    /// The id of a message.
    pub(super) fn of(&self, number: u64) -> String {
        format!("{}{number}", self.0)
    }

    /// The number in an id of these.
    fn number(&self, id: &[u8]) -> Option<u64> {
        std::str::from_utf8(id).ok()?.strip_prefix(&self.0)?.parse().ok()
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// The frames are none.
    pub(super) fn read<F: AsRef<[u8]>>(&self, frames: &[F]) -> Result<RouterAnswer, String> {
        let frames: Vec<&[u8]> = frames.iter().map(AsRef::as_ref).collect();
        let (number, word, body) = match frames[..] {
            [word, body] => (None, word, body),
            // An id that is none of ours is that of no message.
            [id, word, body] => (Some(self.number(id).unwrap_or_default()), word, body),
            _ => return Err(format!("a message of {} frames is no answer", frames.len())),
        };
        let fields: Map<String, Value> = serde_json::from_slice(body)
            .map_err(|error| format!("an answer that is not JSON: {error}"))?;
        let outcome = match word {
            b"OK" => Ok(Place(fields)),
            b"ERROR" => Err(Failure { retry_after: retry_after(&fields), fields }),
            other => {
                let shown = other.get(..other.len().min(16)).unwrap_or_default().escape_ascii();
                return Err(format!("an answer that is neither OK nor ERROR: \"{shown}\""));
            }
        };
        Ok(RouterAnswer { number, outcome })
    }
}

/// Returns the time after which what was refused may be sent again, if it may.
pub(crate) fn retry_after(fields: &Map<String, Value>) -> Option<Duration> {
    let retriable = fields.get("retriable").and_then(Value::as_bool).unwrap_or(false);
    let given = fields.get("retry_after").and_then(Value::as_u64).map(Duration::from_millis);
    retriable.then(|| given.unwrap_or(RETRY_AFTER).min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let ids = Ids::new(0xabc);
        assert_eq!(ids.of(17), "0000000000000abc-17");
        let ok: &[u8] = br#"{"topic":"t","partition":1,"offset":null,"timestamp":5}"#;
        for (frames, number) in [
            (&[&b"OK"[..], ok][..], None),
            (&[b"0000000000000abc-17", b"OK", ok], Some(17)),
            (&[b"0000000000000abd-17", b"OK", ok], Some(0)),
            (&[b"", b"OK", ok], Some(0)),
        ] {
            let answer = ids.read(frames).unwrap();
            assert_eq!(answer.number, number);
            assert_eq!(answer.outcome.unwrap().0["partition"], 1);
        }
        let body = br#"{"code":"kafka","message":"away","retriable":true,"error":"X"}"#;
        let failure = ids.read(&[&b"ERROR"[..], body]).unwrap().outcome.unwrap_err();
        assert_eq!(failure.to_string(), "kafka: away");
        assert_eq!(failure.fields["error"], "X");
    }

    #[test]
    fn another_try_may_help_after_a_pause() {
        for (body, millis) in [
            (r#"{"retriable":false,"retry_after":5}"#, None),
            (r#"{"retry_after":5}"#, None),
            (r#"{"retriable":true}"#, Some(1_000)),
            (r#"{"retriable":true,"retry_after":250}"#, Some(250)),
            (r#"{"retriable":true,"retry_after":-1}"#, Some(1_000)),
            (r#"{"retriable":true,"retry_after":100000000}"#, Some(60_000)),
        ] {
            let answer = Ids::new(1).read(&[&b"ERROR"[..], body.as_bytes()]).unwrap();
            let failure = answer.outcome.unwrap_err();
            assert_eq!(failure.retry_after, millis.map(Duration::from_millis), "{body}");
        }
    }

    #[test]
    fn what_is_no_answer_is_told() {
        let ids = Ids::new(1);
        for (frames, told) in [
            (&[&b"OK"[..]][..], "a message of 1 frames"),
            (&[b"a", b"b", b"OK", b"{}"], "a message of 4 frames"),
            (&[b"OK", b"[]"], "not JSON"),
            (&[b"YES\x1b[2J", b"{}"], "neither OK nor ERROR: \"YES\\x1b[2J\""),
        ] {
            let error = ids.read(frames).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }
}
