//! Messages back to records. Nothing here panics, whatever the bytes; what is allocated is bounded
//! by the input.

pub(crate) mod meta;
mod packed;
mod templates;

use crate::{DecodeError, OwnedRecord};

pub use templates::{Carried, TemplateDecoder};

/// The longest name of a Kafka topic in bytes.
pub(crate) const TOPIC_LIMIT: usize = 249;

/// Reads a message of preset `json`: routing frame, meta, key, value.
///
/// The topic is the one that meta tells; the routing frame may say something else.
///
/// # Errors
/// If the message is not as the specification says, with the fault and its place.
pub fn decode_json(frames: &[&[u8]]) -> Result<OwnedRecord, DecodeError> {
    let &[_routing, meta, key, value] = frames else {
        return Err(DecodeError::Frames { found: frames.len(), expected: "4" });
    };
    let meta = meta::read(meta)?;
    Ok(OwnedRecord {
        topic: Some(meta.topic),
        partition: meta.partition,
        offset: meta.offset,
        timestamp: meta.timestamp,
        prev: meta.prev,
        key: nullable("key", meta.null_key, key)?,
        value: nullable("value", meta.null_value, value)?,
        headers: meta.headers,
    })
}

/// Reads a message of preset `packed`: the topic and the record, or the record's frame alone.
///
/// # Errors
/// If the message is not as the specification says, with the fault and its place.
pub fn decode_packed(frames: &[&[u8]]) -> Result<OwnedRecord, DecodeError> {
    let (topic, frame) = topic_and_body(frames)?;
    let mut reader = packed::Reader::new(frame);
    let record = reader.record(topic)?;
    match reader.left() {
        0 => Ok(record),
        left => Err(DecodeError::Trailing { position: frame.len() - left, left }),
    }
}

/// Reads a message of preset `batch`: the topic and at least one record, or the records' frame
/// alone.
///
/// # Errors
/// If the message is not as the specification says, with the fault and its place. It is read whole
/// or not at all.
pub fn decode_batch(frames: &[&[u8]]) -> Result<Vec<OwnedRecord>, DecodeError> {
    let (topic, frame) = topic_and_body(frames)?;
    let mut reader = packed::Reader::new(frame);
    let mut records = vec![reader.record(topic.clone())?];
    while reader.left() > 0 {
        records.push(reader.record(topic.clone())?);
    }
    Ok(records)
}

/// Returns true if a frame of packed records seems to have more than so many, by their lengths
/// alone.
pub(crate) fn has_more_records(frame: &[u8], limit: usize) -> bool {
    let mut rest = frame;
    for _ in 0..limit {
        let Some((length, after)) = rest.split_first_chunk() else { return false };
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let Some(after) = after.get(length..) else { return false };
        rest = after;
    }
    !rest.is_empty()
}

fn topic_and_body<'a>(frames: &[&'a [u8]]) -> Result<(Option<String>, &'a [u8]), DecodeError> {
    let (topic, body) = match *frames {
        [body] => return Ok((None, body)),
        [topic, body] => (topic, body),
        _ => return Err(DecodeError::Frames { found: frames.len(), expected: "1 or 2" }),
    };
    // Each record of a batch gets a copy of the topic, which must not outgrow the message.
    if topic.len() > TOPIC_LIMIT {
        return Err(DecodeError::TopicSize { found: topic.len() });
    }
    match std::str::from_utf8(topic) {
        Ok(topic) => Ok((Some(topic.to_owned()), body)),
        Err(error) => Err(DecodeError::Topic { position: error.valid_up_to() }),
    }
}

pub(crate) fn nullable(
    field: &'static str,
    null: bool,
    bytes: &[u8],
) -> Result<Option<Vec<u8>>, DecodeError> {
    match (null, bytes.len()) {
        (false, _) => Ok(Some(bytes.to_vec())),
        (true, 0) => Ok(None),
        (true, size) => Err(DecodeError::NullWithBytes { field, size }),
    }
}
