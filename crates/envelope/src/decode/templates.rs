//! Reads messages that a list of templates laid out.
//!
//! A frame of one field is taken as it is. In a frame of several parts, a field ends at the first
//! place from which on the rest of the frame fits. If only numbers of a fixed size stand between
//! two fields of any length, the two cannot be separated: such a frame is handed over whole.

use regex::bytes::Regex;

use super::{meta, nullable, packed};
use crate::plan::Layout;
use crate::template::{Format, Piece, Template};
use crate::{DecodeError, FramePlan, OwnedHeader, OwnedRecord, Timestamp};

/// The fields that a message carries of its record. A field that no frame holds is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Topic.
    pub topic: Option<String>,
    /// Partition.
    pub partition: Option<i64>,
    /// Offset in the partition.
    pub offset: Option<i64>,
    /// The low half of the offset, as `u32le` and `u32be` have it.
    pub offset_low: Option<u32>,
    /// The time, in ms since the epoch; -1 for none.
    pub timestamp: Option<i64>,
    /// The low half of that.
    pub timestamp_low: Option<u32>,
    /// True if the time is that of the broker's clock.
    pub is_log_append: bool,
    /// True if the message can tell `prev`: it holds `{meta}` or `{packed}`.
    pub tells_prev: bool,
    /// Offset of the record before this one.
    pub prev: Option<i64>,
    /// Key; `Some(None)` is null. Without `{meta}` or `{packed}` an empty one may be null.
    pub key: Option<Option<Vec<u8>>>,
    /// Value, likewise.
    pub value: Option<Option<Vec<u8>>>,
    /// Headers: those that have a field of their own, or all of them if `{meta}` or `{packed}` is
    /// there.
    pub headers: Vec<OwnedHeader>,
    /// Name of the route.
    pub route: Option<String>,
    /// Frames in which fields cannot be told apart, with their numbers from 0.
    pub undecided: Vec<(usize, Vec<u8>)>,
}

/// Reads the messages of one list of templates.
#[derive(Clone, Debug)]
pub struct TemplateDecoder(Vec<Frame>);

/// The way to read one frame.
#[derive(Clone, Debug)]
enum Frame {
    /// One field.
    One(Piece),
    /// Fields, one for each group of the expression.
    Several(Regex, Vec<Piece>),
    Undecided,
}

impl FramePlan {
    /// The decoder of a list of templates; `None` for the preset `batch`, which
    /// [`crate::decode_batch`] reads.
    pub fn decoder(&self) -> Option<TemplateDecoder> {
        match &self.layout {
            Layout::Frames(templates) => {
                Some(TemplateDecoder(templates.iter().map(Frame::new).collect()))
            }
            Layout::Batch => None,
        }
    }
}

impl TemplateDecoder {
    /// Reads a message.
    ///
    /// # Errors
    /// If the message is not as the templates say, with which frame and what.
    pub fn decode(&self, frames: &[&[u8]]) -> Result<Carried, DecodeError> {
        if frames.len() != self.0.len() {
            return Err(DecodeError::FrameCount { found: frames.len(), expected: self.0.len() });
        }
        let mut found = Found::default();
        for (number, (frame, &bytes)) in self.0.iter().zip(frames).enumerate() {
            found.frame = number;
            match frame {
                Frame::One(piece) => found.take(piece, bytes)?,
                Frame::Several(expression, pieces) => {
                    let groups = expression
                        .captures(bytes)
                        .ok_or(DecodeError::Template { frame: number })?;
                    for (piece, group) in pieces.iter().zip(groups.iter().skip(1)) {
                        found
                            .take(piece, group.map(|group| group.as_bytes()).unwrap_or_default())?;
                    }
                }
                Frame::Undecided => found.carried.undecided.push((number, bytes.to_vec())),
            }
        }
        found.finish()
    }
}

impl Frame {
    fn new(template: &Template) -> Self {
        if let [piece] = template.0.as_slice()
            && !matches!(piece, Piece::Literal(_))
        {
            return Self::One(piece.clone());
        }
        let fields = template.0.iter().filter(|piece| !matches!(piece, Piece::Literal(_)));
        match expression(&template.0).and_then(|text| Regex::new(&text).ok()) {
            Some(expression) => Self::Several(expression, fields.cloned().collect()),
            None => Self::Undecided,
        }
    }
}

/// The regular expression of a frame; `None` if it would not tell its fields apart.
fn expression(pieces: &[Piece]) -> Option<String> {
    let mut text = r"(?s-u)\A".to_owned();
    let mut open_end = false;
    for piece in pieces {
        let (group, any_length) = match piece {
            Piece::Literal(literal) => {
                text.push_str(&regex::escape(literal));
                open_end = false;
                continue;
            }
            Piece::Topic => ("([A-Za-z0-9._-]{1,249})", true),
            Piece::Partition(format) | Piece::Offset(format) | Piece::Timestamp(format) => {
                match format {
                    Format::Decimal => ("(-?[0-9]{1,20})", true),
                    Format::U32Le | Format::U32Be => ("(.{4})", false),
                    Format::U64Le | Format::U64Be => ("(.{8})", false),
                }
            }
            Piece::Meta => (r"(\{.*?\})", true),
            Piece::Key | Piece::Value | Piece::Header(_) | Piece::Route | Piece::Packed => {
                ("(.*?)", true)
            }
            // In lists for inbound messages alone.
            Piece::Id | Piece::Ignored => ("(.*?)", true),
        };
        if any_length && std::mem::replace(&mut open_end, true) {
            return None;
        }
        text.push_str(group);
    }
    text.push_str(r"\z");
    Some(text)
}

/// The fields of the frames before.
#[derive(Default)]
struct Found {
    carried: Carried,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    record: Option<OwnedRecord>,
    meta: Option<meta::MetaFrame>,
    frame: usize,
}

impl Found {
    fn take(&mut self, piece: &Piece, bytes: &[u8]) -> Result<(), DecodeError> {
        let frame = self.frame;
        let carried = &mut self.carried;
        match piece {
            Piece::Literal(_) | Piece::Id | Piece::Ignored => {}
            Piece::Topic => set(&mut carried.topic, text(frame, bytes)?, "topic")?,
            Piece::Route => set(&mut carried.route, text(frame, bytes)?, "route")?,
            Piece::Partition(format) => match number(frame, *format, bytes)? {
                Number::Whole(number) => set(&mut carried.partition, number, "partition")?,
                Number::Low(low) => set(&mut carried.partition, low.into(), "partition")?,
            },
            Piece::Offset(format) => match number(frame, *format, bytes)? {
                Number::Whole(number) => set(&mut carried.offset, number, "offset")?,
                Number::Low(low) => set(&mut carried.offset_low, low, "offset")?,
            },
            Piece::Timestamp(format) => match number(frame, *format, bytes)? {
                Number::Whole(number) => set(&mut carried.timestamp, number, "timestamp")?,
                Number::Low(low) => set(&mut carried.timestamp_low, low, "timestamp")?,
            },
            Piece::Key => set(&mut self.key, bytes.to_vec(), "key")?,
            Piece::Value => set(&mut self.value, bytes.to_vec(), "value")?,
            Piece::Header(name) => {
                let header =
                    OwnedHeader { name: name.clone().into_bytes(), value: Some(bytes.to_vec()) };
                carried.headers.push(header);
            }
            Piece::Meta => self.meta = Some(meta::read(bytes)?),
            Piece::Packed => {
                let mut reader = packed::Reader::new(bytes);
                let record = reader.record(None)?;
                let left = reader.left();
                if left > 0 {
                    return Err(DecodeError::Trailing { position: bytes.len() - left, left });
                }
                self.record = Some(record);
            }
        }
        Ok(())
    }

    /// Puts together what the frames hold; if two carry the same field, they agree.
    fn finish(self) -> Result<Carried, DecodeError> {
        let Self { mut carried, mut key, mut value, record, meta, .. } = self;
        let (mut null_key, mut null_value) = (false, false);
        if let Some(meta) = meta {
            (null_key, null_value) = (meta.null_key, meta.null_value);
            set(&mut carried.topic, meta.topic, "topic")?;
            place(&mut carried, meta.partition, meta.offset, meta.timestamp)?;
            (carried.tells_prev, carried.prev) = (true, meta.prev);
            carried.headers = meta.headers;
        }
        if let Some(record) = record {
            (null_key, null_value) = (record.key.is_none(), record.value.is_none());
            set(&mut key, record.key.unwrap_or_default(), "key")?;
            set(&mut value, record.value.unwrap_or_default(), "value")?;
            place(&mut carried, record.partition, record.offset, record.timestamp)?;
            (carried.tells_prev, carried.prev) = (true, record.prev);
            carried.headers = record.headers;
        }
        carried.key = key.map(|key| nullable("key", null_key, &key)).transpose()?;
        carried.value = value.map(|value| nullable("value", null_value, &value)).transpose()?;
        Ok(carried)
    }
}

fn place(
    carried: &mut Carried,
    partition: i32,
    offset: i64,
    timestamp: Timestamp,
) -> Result<(), DecodeError> {
    set(&mut carried.partition, partition.into(), "partition")?;
    set(&mut carried.offset, offset, "offset")?;
    let (ms, is_log_append) = match timestamp {
        Timestamp::None => (-1, false),
        Timestamp::Create(ms) => (ms, false),
        Timestamp::LogAppend(ms) => (ms, true),
    };
    set(&mut carried.timestamp, ms, "timestamp")?;
    carried.is_log_append |= is_log_append;
    Ok(())
}

/// Sets a field, or compares it with what another frame told.
fn set<T: PartialEq>(
    field: &mut Option<T>,
    value: T,
    name: &'static str,
) -> Result<(), DecodeError> {
    match field {
        Some(found) if *found != value => Err(DecodeError::Contradiction { field: name }),
        _ => {
            *field = Some(value);
            Ok(())
        }
    }
}

fn text(frame: usize, bytes: &[u8]) -> Result<String, DecodeError> {
    let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::Template { frame })?;
    Ok(text.to_owned())
}

enum Number {
    Whole(i64),
    Low(u32),
}

fn number(frame: usize, format: Format, bytes: &[u8]) -> Result<Number, DecodeError> {
    let wrong = DecodeError::Template { frame };
    let number = match format {
        Format::Decimal => {
            std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()).map(Number::Whole)
        }
        Format::U32Le => bytes.try_into().ok().map(|bytes| Number::Low(u32::from_le_bytes(bytes))),
        Format::U32Be => bytes.try_into().ok().map(|bytes| Number::Low(u32::from_be_bytes(bytes))),
        Format::U64Le => {
            bytes.try_into().ok().map(|bytes| Number::Whole(i64::from_le_bytes(bytes)))
        }
        Format::U64Be => {
            bytes.try_into().ok().map(|bytes| Number::Whole(i64::from_be_bytes(bytes)))
        }
    };
    number.ok_or(wrong)
}
