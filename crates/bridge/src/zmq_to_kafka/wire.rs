//! The wire of ROUTER: envelopes before a message, commands, and the frames of an answer. Pure.

use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;
use zafka_envelope::InboundError;
use zafka_kafka::produce::{WriteError, Written};
use zafka_zmtp::frame::put_message;

use super::mapping::MappingError;

/// The first frame of a command.
pub(crate) const COMMAND_WORD: &[u8] = b"ZAFKA/1";
/// Frames of a command.
pub(crate) const COMMAND_FRAMES: usize = 3;
/// Time in ms after which a message that may be taken later is worth another try.
const RETRY_AFTER: u64 = 1_000;
/// Frames of an envelope at the most, the empty one included.
const ENVELOPE_MAX: usize = 8;

/// A message parted from its envelope.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parted {
    /// A message; its frames after the envelope of so many.
    Message { envelope: usize },
    /// A command with its verb.
    Command { envelope: usize },
    /// The frames fit neither.
    Neither,
}

/// Parts a message of `expected` frames from the envelope before it. A REQ always has one. The
/// message has `count` frames, of which only the first may be there.
pub(crate) fn part(frames: &[&[u8]], count: usize, expected: usize, from_req: bool) -> Parted {
    let envelope_of = |rest: usize| {
        let size = count.checked_sub(rest)?;
        let is_envelope = match size.checked_sub(1) {
            None => !from_req,
            Some(last) => {
                size <= ENVELOPE_MAX && frames.get(last).is_some_and(|frame| frame.is_empty())
            }
        };
        is_envelope.then_some(size)
    };
    let is_command =
        |envelope: &usize| frames.get(*envelope).is_some_and(|frame| *frame == COMMAND_WORD);
    if let Some(envelope) = envelope_of(COMMAND_FRAMES).filter(is_command) {
        return Parted::Command { envelope };
    }
    match envelope_of(expected) {
        // A command is never a record, with any number of frames.
        Some(envelope) if is_command(&envelope) => Parted::Command { envelope },
        Some(envelope) => Parted::Message { envelope },
        None => Parted::Neither,
    }
}

/// Counts the frames of the envelope before a message that fits nothing: those up to the first
/// empty one, if it is not too far behind.
pub(crate) fn envelope(frames: &[&[u8]]) -> usize {
    let empty = frames.iter().take(ENVELOPE_MAX).position(|frame| frame.is_empty());
    empty.map_or(0, |empty| empty + 1)
}

/// The code of an error, the same on every socket and in dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Code {
    BadMessage,
    Unsupported,
    NotAllowed,
    TooLarge,
    Busy,
    TimeoutUnknown,
    Kafka,
    ShuttingDown,
}

impl Code {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::BadMessage => "bad_message",
            Self::Unsupported => "unsupported",
            Self::NotAllowed => "not_allowed",
            Self::TooLarge => "too_large",
            Self::Busy => "busy",
            Self::TimeoutUnknown => "timeout_unknown",
            Self::Kafka => "kafka",
            Self::ShuttingDown => "shutting_down",
        }
    }
}

/// The reason why a message is not in the log, or not known to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Failure {
    #[serde(serialize_with = "code_name")]
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) retriable: bool,
    /// Time in ms after which another try may help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_after: Option<u64>,
    /// Kafka's name for the error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

fn code_name<S: serde::Serializer>(code: &Code, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(code.name())
}

fn text<S: serde::Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        let retriable = matches!(code, Code::ShuttingDown | Code::Busy);
        let retry_after = retriable.then_some(RETRY_AFTER);
        Self { code, message: message.into(), retriable, retry_after, error: None }
    }
}

impl From<MappingError> for Failure {
    fn from(error: MappingError) -> Self {
        let code = if error.is_not_allowed() { Code::NotAllowed } else { Code::BadMessage };
        Self::new(code, error.to_string())
    }
}

impl From<InboundError> for Failure {
    fn from(error: InboundError) -> Self {
        let code = match error {
            InboundError::Records => Code::TooLarge,
            _ => Code::BadMessage,
        };
        Self::new(code, error.to_string())
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        let message = error.to_string();
        match error {
            WriteError::TooLarge(_) => Self::new(Code::TooLarge, message),
            WriteError::NotAllowed(_) => Self::new(Code::NotAllowed, message),
            WriteError::Unknown(_) => Self::new(Code::TimeoutUnknown, message),
            WriteError::Kafka { error, retriable, .. } => Self {
                code: Code::Kafka,
                message,
                retriable,
                retry_after: retriable.then_some(RETRY_AFTER),
                error: Some(error),
            },
        }
    }
}

/// The place of a message's records in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Place {
    #[serde(serialize_with = "text")]
    pub(crate) topic: Arc<str>,
    /// `null` for a batch in several of them.
    pub(crate) partition: Option<i32>,
    /// `null` if the cluster did not report it, and for a batch in several partitions.
    pub(crate) offset: Option<i64>,
    /// Timestamp in ms since the epoch, as it is in the log.
    pub(crate) timestamp: i64,
    /// The records of a batch.
    #[serde(flatten)]
    pub(crate) batch: Option<Box<Batch>>,
}

/// The place of a single record: as [`Place`], without the detour that its optional part takes.
#[derive(Serialize)]
struct RecordPlace<'a> {
    topic: &'a str,
    partition: &'a Option<i32>,
    offset: &'a Option<i64>,
    timestamp: &'a i64,
}

/// The records of one message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Batch {
    /// `null` for a batch in several partitions.
    pub(crate) first: Option<i64>,
    /// The same.
    pub(crate) last: Option<i64>,
    pub(crate) count: usize,
    /// The partitions, if there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) partitions: Vec<BatchPart>,
}

/// The records of one message in one of several partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct BatchPart {
    pub(crate) partition: i32,
    pub(crate) first: Option<i64>,
    pub(crate) last: Option<i64>,
    pub(crate) count: usize,
}

/// Puts the frames of an answer after those of its envelope and id: `OK` or `ERROR`, JSON. `json`
/// is the buffer for it.
pub(crate) fn answer<'a>(
    outcome: &Result<Place, Failure>,
    json: &'a mut Vec<u8>,
    frames: &mut Vec<&'a [u8]>,
) {
    json.clear();
    // Numbers and texts alone always serialize.
    let (word, _) = match outcome {
        Ok(Place { topic, partition, offset, timestamp, batch: None }) => {
            let place = RecordPlace { topic, partition, offset, timestamp };
            (&b"OK"[..], serde_json::to_writer(&mut *json, &place))
        }
        Ok(place) => (&b"OK"[..], serde_json::to_writer(&mut *json, place)),
        Err(failure) => (&b"ERROR"[..], serde_json::to_writer(&mut *json, failure)),
    };
    frames.extend([word, &**json]);
}

/// The answers to messages whose records follow one another in the log: alike but for their
/// offsets.
pub(crate) struct RecordAnswers<'a> {
    /// The last answer as it goes over the wire, or the first one.
    wire: &'a mut Vec<u8>,
    /// Bytes of its text.
    text: usize,
    /// The place of the offset's digits in it; of none if the cluster did not report it.
    digits: Range<usize>,
    is_begun: bool,
}

impl<'a> RecordAnswers<'a> {
    /// Makes the answers. `written` is the place of the first record; `wire` is a buffer.
    pub(crate) fn new(
        topic: &str,
        timestamp: i64,
        written: &Written,
        wire: &'a mut Vec<u8>,
    ) -> Self {
        let mut text = b"{\"topic\":".to_vec();
        // A text always serializes.
        let _ = serde_json::to_writer(&mut text, topic);
        let partition = written.partition;
        text.extend_from_slice(format!(",\"partition\":{partition},\"offset\":").as_bytes());
        let begin = text.len();
        let offset = written.offset.and_then(|offset| u64::try_from(offset).ok());
        if let Some(offset) = offset {
            text.extend_from_slice(offset.to_string().as_bytes());
        }
        let digits = begin..text.len();
        if offset.is_none() {
            text.extend_from_slice(b"null");
        }
        text.extend_from_slice(format!(",\"timestamp\":{timestamp}}}").as_bytes());
        let mut answers = Self { wire, text: 0, digits: 0..0, is_begun: false };
        answers.put(&text, digits);
        answers
    }

    /// Bytes that an answer takes on the wire, about.
    pub(crate) fn size(&self) -> usize {
        self.wire.len() + 1
    }

    /// Returns the next answer as it goes over the wire.
    pub(crate) fn next_message(&mut self) -> &[u8] {
        if std::mem::replace(&mut self.is_begun, true) && !self.digits.is_empty() {
            self.add_one();
        }
        self.wire
    }

    /// Makes the offset the next one, in place: most are their neighbor's but for a digit.
    fn add_one(&mut self) {
        for digit in self.wire[self.digits.clone()].iter_mut().rev() {
            if *digit < b'9' {
                *digit += 1;
                return;
            }
            *digit = b'0';
        }
        // One digit more: a power of ten.
        let before = self.wire.len() - self.text;
        let mut text = self.wire.split_off(before);
        let begin = self.digits.start - before;
        text.insert(begin, b'1');
        let digits = begin..self.digits.end - before + 1;
        self.put(&text, digits);
    }

    /// Puts an answer with this text.
    fn put(&mut self, text: &[u8], digits: Range<usize>) {
        self.wire.clear();
        put_message(self.wire, [b"OK", text].into_iter());
        self.text = text.len();
        let before = self.wire.len() - text.len();
        self.digits = before + digits.start..before + digits.end;
    }
}

/// Returns true if a message of a socket without answers is a command, which means nothing there.
pub(crate) fn is_command(frames: &[&[u8]]) -> bool {
    frames.first().is_some_and(|frame| *frame == COMMAND_WORD)
}

/// Puts the frames of the answer to a command that this relay does not know after those of its
/// envelope.
pub(crate) fn refuse_command<'a>(
    verb: Option<&[u8]>,
    json: &'a mut Vec<u8>,
    frames: &mut Vec<&'a [u8]>,
) {
    let verb =
        verb.map_or(String::new(), |verb| verb[..verb.len().min(64)].escape_ascii().to_string());
    let failure = Failure::new(Code::Unsupported, format!("unknown command \"{verb}\""));
    frames.push(COMMAND_WORD);
    answer(&Err(failure), json, frames);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(texts: &[&'static str]) -> Vec<&'static [u8]> {
        texts.iter().map(|text| text.as_bytes()).collect()
    }

    /// Returns an answer's texts, after those of its envelope and id.
    fn answered(before: &[&'static str], outcome: &Result<Place, Failure>) -> Vec<String> {
        let (mut json, mut all) = (Vec::new(), frames(before));
        answer(outcome, &mut json, &mut all);
        all.iter().map(|frame| String::from_utf8_lossy(frame).into_owned()).collect()
    }

    #[test]
    fn messages_are_parted_from_their_envelopes() {
        let (message, command, neither) = (
            |envelope| Parted::Message { envelope },
            |envelope| Parted::Command { envelope },
            Parted::Neither,
        );
        let cases: [(&[&str], bool, Parted); 14] = [
            (&["a", "b"], false, message(0)),
            (&["", "a", "b"], false, message(1)),
            (&["", "a", "b"], true, message(1)),
            (&["7", "", "a", "b"], true, message(2)),
            // A REQ without its empty frame.
            (&["a", "b"], true, Parted::Neither),
            (&["x", "a", "b"], false, Parted::Neither),
            (&["a"], false, Parted::Neither),
            (&["1", "2", "3", "4", "5", "6", "7", "", "a", "b"], false, message(8)),
            (&["1", "2", "3", "4", "5", "6", "7", "8", "", "a", "b"], false, Parted::Neither),
            (&["ZAFKA/1", "HELLO", "{}"], false, command(0)),
            (&["", "ZAFKA/1", "HELLO", "{}"], true, command(1)),
            // It is never a record, though the number fits.
            (&["ZAFKA/1", "b"], false, command(0)),
            (&["", "", "b"], false, message(1)),
            (&["", ""], false, message(0)),
        ];
        for (texts, from_req, expected) in cases {
            let frames = frames(texts);
            assert_eq!(part(&frames, frames.len(), 2, from_req), expected, "{texts:?}");
        }
        let far = ["1", "2", "3", "4", "5", "6", "7", ""];
        assert_eq!([envelope(&frames(&far)), envelope(&frames(&far[..7]))], [8, 0]);
        assert_eq!(envelope(&frames(&["0", "1", "2", "3", "4", "5", "6", "7", ""])), 0);
        assert_eq!(part(&[], 0, 2, false), neither);
        // The others were thrown away.
        assert_eq!(part(&frames(&["7", ""]), 4, 2, false), message(2));
        assert_eq!(part(&frames(&[]), 2, 2, false), message(0));
        assert_eq!(part(&frames(&["7"]), 4, 2, false), neither);
    }

    #[test]
    fn answers_of_neighbors_are_those_of_each() {
        let (mut wire, mut json) = (b"of before".to_vec(), Vec::new());
        let firsts = [Some(0), Some(8), Some(98), Some(1999), Some(i64::MAX - 9), None];
        // Some become longer than a short frame.
        let topics = (170..200).map(|size| "t".repeat(size)).chain(["or\"ders".to_owned()]);
        for (topic, first) in topics.flat_map(|topic| firsts.map(|first| (topic.clone(), first))) {
            let written = Written { partition: 1, offset: first, log_append_time: None };
            let mut answers = RecordAnswers::new(&topic, 1_700_000_000_000, &written, &mut wire);
            for number in 0..10 {
                let place = Place {
                    topic: (*topic).into(),
                    partition: Some(1),
                    offset: first.map(|first| first + number),
                    timestamp: 1_700_000_000_000,
                    batch: None,
                };
                let (mut expected, mut frames) = (Vec::new(), Vec::new());
                answer(&Ok(place), &mut json, &mut frames);
                put_message(&mut expected, frames.into_iter());
                assert_eq!(answers.next_message(), expected, "{first:?}");
            }
        }
    }

    #[test]
    fn answers_have_the_bytes_of_the_protocol() {
        let place = Place {
            topic: "orders".into(),
            partition: Some(1),
            offset: Some(7),
            timestamp: 1_700_000_000_000,
            batch: None,
        };
        assert_eq!(
            answered(&["7", "", "id"], &Ok(place.clone())),
            [
                "7",
                "",
                "id",
                "OK",
                r#"{"topic":"orders","partition":1,"offset":7,"timestamp":1700000000000}"#
            ]
        );
        let mut batch = Batch { first: Some(5), last: Some(7), count: 3, partitions: Vec::new() };
        assert_eq!(
            answered(&[], &Ok(Place { batch: Some(Box::new(batch.clone())), ..place.clone() })),
            [
                "OK",
                r#"{"topic":"orders","partition":1,"offset":7,"timestamp":1700000000000,"first":5,"last":7,"count":3}"#
            ]
        );
        (batch.first, batch.last) = (None, None);
        batch.partitions =
            vec![BatchPart { partition: 1, first: Some(5), last: Some(7), count: 3 }];
        let several =
            Place { partition: None, offset: None, batch: Some(Box::new(batch)), ..place };
        assert_eq!(
            answered(&[], &Ok(several)),
            [
                "OK",
                r#"{"topic":"orders","partition":null,"offset":null,"timestamp":1700000000000,"first":null,"last":null,"count":3,"partitions":[{"partition":1,"first":5,"last":7,"count":3}]}"#
            ]
        );
        let later = Failure::new(Code::ShuttingDown, "the relay ends");
        assert_eq!(
            answered(&[], &Err(later)),
            [
                "ERROR",
                r#"{"code":"shutting_down","message":"the relay ends","retriable":true,"retry_after":1000}"#
            ]
        );
        let failure = Failure::from(WriteError::Kafka {
            error: "UnknownTopic".to_owned(),
            reason: "no such topic".to_owned(),
            retriable: false,
        });
        assert_eq!(
            answered(&[], &Err(failure)),
            [
                "ERROR",
                r#"{"code":"kafka","message":"no such topic","retriable":false,"error":"UnknownTopic"}"#
            ]
        );
        let (mut json, mut refused) = (Vec::new(), Vec::new());
        refuse_command(Some(b"READ"), &mut json, &mut refused);
        assert_eq!(
            refused.iter().map(|frame| String::from_utf8_lossy(frame)).collect::<Vec<_>>(),
            [
                "ZAFKA/1",
                "ERROR",
                r#"{"code":"unsupported","message":"unknown command \"READ\"","retriable":false}"#
            ]
        );
    }
}
