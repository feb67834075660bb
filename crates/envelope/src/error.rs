//! What can be wrong with a list of templates, and with a message.

/// One mistake in a list of frame templates.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct FramePlanError {
    /// Which frame, from 0; `None` where the list itself is wrong.
    pub frame: Option<usize>,
    /// Where in the template, in characters from 0.
    pub position: usize,
    /// What was found, and what is allowed.
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

/// What was found in a list of frame templates, and what is allowed there.
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
        "unknown field `{0}`; allowed: topic, partition, offset, timestamp, key, value, header.NAME, meta, packed, route"
    )]
    UnknownField(String),
    /// A format that does not exist.
    #[error("unknown format `{0}`; allowed: u32le, u32be, u64le, u64be, dec")]
    UnknownFormat(String),
    /// A format on a field that is not a number.
    #[error("`{field}` takes no format, found `:{format}`; allowed on: partition, offset, timestamp")]
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

/// Why a message could not be read as a record: what was found and where.
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
        /// Which frame, from 0.
        frame: usize,
    },
    /// Two frames tell different things.
    #[error("the frames contradict each other: {field}")]
    Contradiction {
        /// Which field.
        field: &'static str,
    },
    /// The routing frame is not UTF-8.
    #[error("the topic (frame 1) is not UTF-8: byte {position}")]
    Topic {
        /// First byte that is not UTF-8, from 0.
        position: usize,
    },
    /// The routing frame is longer than any topic's name.
    #[error("the topic (frame 1) has {found} bytes, allowed: {limit}", limit = crate::decode::TOPIC_LIMIT)]
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
        /// Where the field starts in the frame, in bytes from 0.
        position: usize,
        /// Which field.
        field: &'static str,
        /// Bytes it takes.
        needed: usize,
        /// Bytes that are there.
        left: usize,
    },
    /// A field has a value that version 1 does not have.
    #[error("packed record at byte {position}: {field} is {found}, allowed: {allowed}")]
    Field {
        /// Where the field starts in the frame, in bytes from 0.
        position: usize,
        /// Which field.
        field: &'static str,
        /// What was found.
        found: i64,
        /// What is allowed.
        allowed: &'static str,
    },
    /// Bytes are left after the record's last field.
    #[error("packed record ends at byte {position}, yet {left} bytes follow")]
    Trailing {
        /// Where the record ends in the frame, in bytes from 0.
        position: usize,
        /// Bytes left.
        left: usize,
    },
}
