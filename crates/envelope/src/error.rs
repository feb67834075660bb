//! Errors of a list of templates, and of a message.

/// One mistake in a list of frame templates.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct FramePlanError {
    /// The frame, from 0; `None` if the list itself is wrong.
    pub frame: Option<usize>,
    /// The place in the template, in characters from 0.
    pub position: usize,
    /// The fault, with what was found and what is allowed.
    pub mistake: Mistake,
}

impl std::fmt::Display for FramePlanError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(frame) = self.frame {
            write!(f, "frame {}, character {}: ", frame + 1, self.position + 1)?;
        }
        self.mistake.fmt(f)
    }
}

/// Faults of a list of frame templates: what was found, and what is allowed there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mistake {
    /// The list has no template.
    #[error("the list of frames is empty; allowed: 1 to {} frames", crate::MAX_FRAMES)]
    NoFrames,
    /// The list has too many templates.
    #[error("{0} frames; allowed: 1 to {max} frames", max = crate::MAX_FRAMES)]
    TooManyFrames(usize),
    /// The one frame of a list is a preset's name.
    #[error("`{0}` is a preset: write it as a text, not as a list")]
    PresetInList(String),
    /// A field that does not exist.
    #[error(
        "unknown field `{0}`; allowed: topic, partition, offset, timestamp, key, value, \
         header.NAME, meta, packed, route"
    )]
    UnknownField(String),
    /// A field that does not exist in a list for inbound messages.
    #[error(
        "unknown field `{0}`; allowed: id, topic, key, value, header.NAME, timestamp, meta, \
         packed, and `_` for a frame that is left out"
    )]
    UnknownInboundField(String),
    /// A field that an inbound message cannot set.
    #[error("`{0}` cannot be read from a message; write `{{_}}` for a frame that is left out")]
    NotInbound(String),
    /// A timestamp of 32 bits in a list for inbound messages.
    #[error(
        "a timestamp of 32 bits is half a timestamp; allowed: dec, u64le, u64be, \
         or `{{_}}` for a frame that is left out"
    )]
    HalfTimestamp,
    /// A frame of an inbound message with more than one field.
    #[error("{0} fields in one frame; a frame that is read has at most one")]
    SeveralFields(usize),
    /// A field that stands in two frames of an inbound message.
    #[error("`{0}` stands in two frames; only header.NAME may")]
    RepeatedField(&'static str),
    /// `{id}` that is not the first frame, or not alone in it.
    #[error("`{{id}}` has to be the first frame, and alone in it")]
    IdPlace,
    /// A field beside `{packed}`, which carries it already.
    #[error("`{0}` beside `{{packed}}`, which carries it; allowed beside it: id, topic, and `_`")]
    BesidePacked(&'static str),
    /// An inbound list without anything that becomes the record's value.
    #[error("no frame becomes the record's value; needed: `{{value}}` or `{{packed}}`")]
    NoValue,
    /// A first frame that would be taken for a command.
    #[error("the first frame is `ZAFKA/1`, which begins a command")]
    CommandWord,
    /// A format that does not exist.
    #[error("unknown format `{0}`; allowed: u32le, u32be, u64le, u64be, dec")]
    UnknownFormat(String),
    /// A format on a field that is not a number.
    #[error(
        "`{field}` takes no format, found `:{format}`; allowed on: partition, offset, timestamp"
    )]
    FormatNotAllowed {
        /// The field's name.
        field: String,
        /// The format that was asked for.
        format: String,
    },
    /// `{` without its `}`.
    #[error("`{{` without `}}`; for the brace itself write `{{{{`")]
    Unclosed,
    /// `}` without its `{`.
    #[error("`}}` without `{{`; for the brace itself write `}}}}`")]
    LoneClosingBrace,
    /// `header.` without a name.
    #[error("`header.` without a name; allowed: header.NAME or header.\"NAME\"")]
    NoHeaderName,
    /// A quoted header name without its closing quote.
    #[error("header name without its closing quote; for the quote itself write `\"\"`")]
    UnclosedQuote,
    /// Something between a quoted header name and the closing brace.
    #[error("found `{0}` after the quoted header name; allowed: `}}`")]
    AfterQuote(String),
}

/// A name that is no preset's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown preset `{0}`; allowed: json, packed, batch, value")]
pub struct UnknownPreset(pub String);

/// The reason why a message could not be read as a record: what was found and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The message has another number of frames.
    #[error("{found} frames, expected {expected}")]
    Frames {
        /// Frames found.
        found: usize,
        /// Frames that the preset has.
        expected: &'static str,
    },
    /// The message has another number of frames than the list has templates.
    #[error("{found} frames, expected {expected}")]
    FrameCount {
        /// Frames found.
        found: usize,
        /// Templates.
        expected: usize,
    },
    /// A frame is not as its template says.
    #[error("frame {} does not fit its template", frame + 1)]
    Template {
        /// The frame, from 0.
        frame: usize,
    },
    /// Two frames tell different things.
    #[error("the frames contradict each other: {field}")]
    Contradiction {
        /// The field.
        field: &'static str,
    },
    /// The routing frame is not UTF-8.
    #[error("the topic (frame 1) is not UTF-8: byte {position}")]
    Topic {
        /// First byte that is not UTF-8, from 0.
        position: usize,
    },
    /// The routing frame is longer than any topic's name.
    #[error(
        "the topic (frame 1) has {found} bytes, allowed: {limit}",
        limit = crate::decode::TOPIC_LIMIT
    )]
    TopicSize {
        /// Its size in bytes.
        found: usize,
    },
    /// The meta frame is not the JSON object of the specification.
    #[error("meta (frame 2): {0}")]
    Meta(String),
    /// The layout's version is not 1.
    #[error("version {found}, expected 1")]
    Version {
        /// The version found.
        found: u64,
    },
    /// A key or value is said to be null, yet has bytes.
    #[error("{field} is marked null, yet has {size} bytes")]
    NullWithBytes {
        /// `key` or `value`.
        field: &'static str,
        /// Its size in bytes.
        size: usize,
    },
    /// The bytes end before the field does.
    #[error("packed record at byte {position}: {field} takes {needed} bytes, {left} are left")]
    Truncated {
        /// Start of the field in the frame, in bytes from 0.
        position: usize,
        /// The field.
        field: &'static str,
        /// Bytes it takes.
        needed: usize,
        /// Bytes that are there.
        left: usize,
    },
    /// A field has a value that version 1 does not have.
    #[error("packed record at byte {position}: {field} is {found}, allowed: {allowed}")]
    Field {
        /// Start of the field in the frame, in bytes from 0.
        position: usize,
        /// The field.
        field: &'static str,
        /// The bytes found.
        found: i64,
        /// The allowed values.
        allowed: &'static str,
    },
    /// Bytes are left after the record's last field.
    #[error("packed record ends at byte {position}, yet {left} bytes follow")]
    Trailing {
        /// End of the record in the frame, in bytes from 0.
        position: usize,
        /// Bytes left.
        left: usize,
    },
}

/// The reason why an inbound message does not become a record: what was found, where, and what is
/// allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InboundError {
    /// The message has another number of frames than the list.
    #[error("{found} frames, expected {expected}")]
    Frames {
        /// Frames found.
        found: usize,
        /// Frames that the list has.
        expected: usize,
    },
    /// A frame does not have the text that its template has.
    #[error("frame {frame}: found \"{found}\", expected {expected}")]
    Text {
        /// The frame, from 1.
        frame: usize,
        /// The frame, escaped, at most its first 64 bytes.
        found: String,
        /// The text, escaped, with `...` for the field.
        expected: String,
    },
    /// The id is empty or too long.
    #[error("the id (frame 1) has {found} bytes, allowed: 1 to 255")]
    IdSize {
        /// Its size in bytes.
        found: usize,
    },
    /// The topic is not UTF-8.
    #[error("the topic (frame {frame}) is not UTF-8: byte {position}")]
    Topic {
        /// The frame, from 1.
        frame: usize,
        /// First byte that is not UTF-8, from 0.
        position: usize,
    },
    /// The timestamp is no number of its format.
    #[error("the timestamp (frame {frame}) is \"{found}\", expected {expected}")]
    Timestamp {
        /// The frame, from 1.
        frame: usize,
        /// The field, escaped, at most its first 64 bytes.
        found: String,
        /// The format.
        expected: &'static str,
    },
    /// The message has too many records.
    #[error("more than {max} records in one message", max = crate::MAX_RECORDS)]
    Records,
    /// The meta or packed frame is not as the specification has it.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}
