//! Messages that become records: the template language read the other way.
//!
//! Each template says what one frame is: a field, with text before and after it that has to match,
//! or text alone. Frames are never merged, cut or reordered. What a list of bare fields carries is
//! borrowed from the message; meta, packed and header frames are copied.

mod parse;
mod write;

use std::borrow::Cow;

use crate::decode::{has_more_records, meta};
use crate::template::Format;
use crate::{InboundError, OwnedRecord, Timestamp, decode_batch, decode_packed};
pub use write::OutgoingMessage;

/// Bytes of a frame that an error shows.
const SHOWN: usize = 64;
/// The longest id in bytes.
const ID_MAX: usize = 255;
/// Records of one message at the most: a batch of empty ones would take much more memory than its
/// bytes. What a zafka sends has fewer.
pub const MAX_RECORDS: usize = 10_000;

/// The way messages become records, parsed once. The default is the preset `json`.
///
/// ```
/// use zafka_envelope::InboundPlan;
///
/// let plan = InboundPlan::parse(&["sensor/{topic}", "{key}", "{value}"]).unwrap();
/// let mut records = Vec::new();
/// plan.read(&[b"sensor/kiln", b"", b"870"], &mut records).unwrap();
/// assert_eq!(records[0].topic.as_deref(), Some("kiln"));
/// assert_eq!(records[0].key, None);
/// assert_eq!(records[0].value.as_deref(), Some(&b"870"[..]));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundPlan {
    layout: InboundLayout,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum InboundLayout {
    /// One record a message.
    Frames(Vec<FrameReader>),
    /// The topic, then many packed records in one frame.
    Batch,
}

/// One frame: a field between two texts, or text alone.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FrameReader {
    before: Vec<u8>,
    field: Option<Field>,
    after: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Field {
    Id,
    Topic,
    Key,
    Value,
    Header(String),
    Timestamp(Format),
    Meta,
    Packed,
    Ignored,
}

/// A record as a message carries it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InboundRecord<'a> {
    /// The topic: its frame's, or else the one that meta names; `None` if the message has neither.
    pub topic: Option<Cow<'a, str>>,
    /// The timestamp in ms since the epoch, if the message carries one.
    pub timestamp: Option<i64>,
    /// Key; `None` is null. An empty `{key}` of a list without meta is null.
    pub key: Option<Cow<'a, [u8]>>,
    /// Value; `None` is null, a tombstone, which only meta and packed can say.
    pub value: Option<Cow<'a, [u8]>>,
    /// Headers in their order, repeats kept.
    pub headers: Vec<InboundHeader<'a>>,
}

/// One header of an inbound record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundHeader<'a> {
    /// Name; not always UTF-8.
    pub name: Cow<'a, [u8]>,
    /// Value; `None` is null.
    pub value: Option<Cow<'a, [u8]>>,
}

impl InboundPlan {
    /// Number of frames of a message.
    pub fn frames(&self) -> usize {
        match &self.layout {
            InboundLayout::Frames(frames) => frames.len(),
            InboundLayout::Batch => 2,
        }
    }

    /// Returns true if messages carry an id of the sender's.
    pub fn has_id(&self) -> bool {
        // It is the first frame, or none.
        let InboundLayout::Frames(frames) = &self.layout else { return false };
        matches!(frames.first(), Some(FrameReader { field: Some(Field::Id), .. }))
    }

    /// Returns true if messages carry a topic.
    pub fn has_topic(&self) -> bool {
        self.layout == InboundLayout::Batch || self.has(&Field::Topic) || self.has(&Field::Meta)
    }

    /// Returns true if messages carry a key.
    pub fn has_key(&self) -> bool {
        self.layout == InboundLayout::Batch || self.has(&Field::Key) || self.has(&Field::Packed)
    }

    /// Returns true if one message may carry several records.
    pub fn is_batch(&self) -> bool {
        self.layout == InboundLayout::Batch
    }

    /// The number of the value's frame, if messages carry nothing else and no text has to match.
    pub fn value_alone(&self) -> Option<usize> {
        let InboundLayout::Frames(frames) = &self.layout else { return None };
        let value = frames.iter().position(|frame| frame.field == Some(Field::Value))?;
        let is_alone = frames.iter().all(|frame| {
            frame.is_bare() && matches!(frame.field, Some(Field::Value | Field::Ignored))
        });
        is_alone.then_some(value)
    }

    /// The id of a message, also of one that has other mistakes, so that an error can name it.
    /// `None` if the list has none, or if the message's id has a size that is not allowed.
    pub fn id<'a>(&self, frames: &[&'a [u8]]) -> Option<&'a [u8]> {
        let first = *frames.first()?;
        (self.has_id() && (1..=ID_MAX).contains(&first.len())).then_some(first)
    }

    /// Appends the records of a message to `records`: one, or all of a batch, at most
    /// [`MAX_RECORDS`]. More are counted before any is read.
    ///
    /// # Errors
    /// The first mistake of the message; then nothing was appended.
    pub fn read<'a>(
        &self,
        frames: &[&'a [u8]],
        records: &mut Vec<InboundRecord<'a>>,
    ) -> Result<(), InboundError> {
        if frames.len() != self.frames() {
            return Err(InboundError::Frames { found: frames.len(), expected: self.frames() });
        }
        match &self.layout {
            InboundLayout::Batch => {
                if frames.last().is_some_and(|frame| has_more_records(frame, MAX_RECORDS)) {
                    return Err(InboundError::Records);
                }
                records.extend(decode_batch(frames)?.into_iter().map(owned));
            }
            InboundLayout::Frames(readers) => {
                // Made and filled where it stays: it is large, and this is done for each message.
                records.resize_with(records.len() + 1, InboundRecord::default);
                if let Some(record) = records.last_mut()
                    && let Err(error) = read_one(readers, frames, record)
                {
                    records.pop();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn has(&self, field: &Field) -> bool {
        match &self.layout {
            InboundLayout::Frames(frames) => {
                frames.iter().any(|frame| frame.field.as_ref() == Some(field))
            }
            InboundLayout::Batch => false,
        }
    }
}

fn read_one<'a>(
    readers: &[FrameReader],
    frames: &[&'a [u8]],
    record: &mut InboundRecord<'a>,
) -> Result<(), InboundError> {
    let (mut key, mut value, mut meta) = (None, None, None);
    for (index, (reader, frame)) in readers.iter().zip(frames).enumerate() {
        let body = reader.body(index, frame)?;
        match &reader.field {
            None | Some(Field::Ignored) => {}
            Some(Field::Id) if (1..=ID_MAX).contains(&body.len()) => {}
            Some(Field::Id) => return Err(InboundError::IdSize { found: body.len() }),
            Some(Field::Topic) => record.topic = Some(text(index, body)?),
            // Put where they belong at once, for that is all as a rule. With meta it decides.
            Some(Field::Key) => {
                key = Some(body);
                // Without meta nothing tells an empty key from a null one.
                if !body.is_empty() {
                    record.key = Some(Cow::Borrowed(body));
                }
            }
            Some(Field::Value) => {
                value = Some(body);
                record.value = Some(Cow::Borrowed(body));
            }
            Some(Field::Header(name)) => record.headers.push(InboundHeader {
                name: Cow::Owned(name.clone().into_bytes()),
                value: Some(Cow::Borrowed(body)),
            }),
            Some(Field::Timestamp(format)) => {
                record.timestamp = Some(timestamp(index, *format, body)?);
            }
            Some(Field::Meta) => meta = Some(meta::read(body)?),
            Some(Field::Packed) => {
                let packed = owned(decode_packed(&[body])?);
                *record = InboundRecord { topic: record.topic.take(), ..packed };
            }
        }
    }
    match meta {
        Some(meta) => add_meta(record, meta, key, value),
        None => Ok(()),
    }
}

/// Completes a record by what meta says of it. A header of the list follows those of meta.
fn add_meta<'a>(
    record: &mut InboundRecord<'a>,
    meta: meta::MetaFrame,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
) -> Result<(), InboundError> {
    record.key = match key {
        Some(key) => nullable("key", meta.null_key, key)?,
        None => None,
    };
    record.value = nullable("value", meta.null_value, value.unwrap_or_default())?;
    if record.topic.is_none() {
        record.topic = Some(Cow::Owned(meta.topic));
    }
    record.timestamp = record.timestamp.or(milliseconds(meta.timestamp));
    let listed = std::mem::take(&mut record.headers);
    record.headers = meta.headers.into_iter().map(owned_header).chain(listed).collect();
    Ok(())
}

fn nullable<'a>(
    field: &'static str,
    null: bool,
    bytes: &'a [u8],
) -> Result<Option<Cow<'a, [u8]>>, InboundError> {
    match (null, bytes.len()) {
        (false, _) => Ok(Some(Cow::Borrowed(bytes))),
        (true, 0) => Ok(None),
        (true, size) => Err(crate::DecodeError::NullWithBytes { field, size }.into()),
    }
}

fn owned<'a>(record: OwnedRecord) -> InboundRecord<'a> {
    InboundRecord {
        topic: record.topic.map(Cow::Owned),
        timestamp: milliseconds(record.timestamp),
        key: record.key.map(Cow::Owned),
        value: record.value.map(Cow::Owned),
        headers: record.headers.into_iter().map(owned_header).collect(),
    }
}

fn owned_header<'a>(header: crate::OwnedHeader) -> InboundHeader<'a> {
    InboundHeader { name: Cow::Owned(header.name), value: header.value.map(Cow::Owned) }
}

fn milliseconds(timestamp: Timestamp) -> Option<i64> {
    match timestamp {
        Timestamp::None => None,
        Timestamp::Create(ms) | Timestamp::LogAppend(ms) => Some(ms),
    }
}

fn text(index: usize, bytes: &[u8]) -> Result<Cow<'_, str>, InboundError> {
    std::str::from_utf8(bytes)
        .map(Cow::Borrowed)
        .map_err(|error| InboundError::Topic { frame: index + 1, position: error.valid_up_to() })
}

fn timestamp(index: usize, format: Format, bytes: &[u8]) -> Result<i64, InboundError> {
    let expected = match format {
        Format::Decimal => "a decimal number of ms since the epoch",
        _ => "8 bytes that are not negative",
    };
    let number = format.read(bytes).filter(|ms| *ms >= 0);
    number.ok_or_else(|| InboundError::Timestamp {
        frame: index + 1,
        found: shown(bytes),
        expected,
    })
}

fn shown(bytes: &[u8]) -> String {
    let cut = if bytes.len() > SHOWN { "..." } else { "" };
    format!("{}{cut}", bytes[..bytes.len().min(SHOWN)].escape_ascii())
}

impl FrameReader {
    /// Returns true if the frame is a field and nothing else.
    fn is_bare(&self) -> bool {
        self.field.is_some() && self.before.is_empty() && self.after.is_empty()
    }

    /// The field's bytes; empty if the frame is text alone.
    fn body<'a>(&self, index: usize, frame: &'a [u8]) -> Result<&'a [u8], InboundError> {
        if self.is_bare() {
            return Ok(frame);
        }
        let body =
            frame.strip_prefix(&*self.before).and_then(|rest| rest.strip_suffix(&*self.after));
        // Text alone has to be all of the frame.
        body.filter(|body| self.field.is_some() || body.is_empty()).ok_or_else(|| {
            let field = if self.field.is_some() { "..." } else { "" };
            let (before, after) = (self.before.escape_ascii(), self.after.escape_ascii());
            let expected = format!("\"{before}{field}{after}\"");
            InboundError::Text { frame: index + 1, found: shown(frame), expected }
        })
    }
}
