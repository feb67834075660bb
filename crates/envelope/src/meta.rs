//! Writes `{meta}`: the compact JSON object of the `json` preset, version 1. See "Meta" in
//! `docs/envelope.md`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::decimal::Decimal;
use crate::{Header, Record, Timestamp};

/// Writes the meta of one partition's records.
///
/// The object of the last record is kept, since the next one differs from it in few digits.
#[derive(Clone, Debug)]
pub(crate) struct Meta {
    /// The beginning, from the opening brace up to the offset's digits.
    prefix: Vec<u8>,
    last: Object,
}

/// An object without its headers.
#[derive(Clone, Debug)]
struct Object {
    shape: Shape,
    text: Vec<u8>,
    offset: Decimal,
    timestamp: Decimal,
    prev: Option<Decimal>,
    /// The place of the headers, in bytes of the text.
    headers: usize,
}

/// The fields that an object has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    null_key: bool,
    null_value: bool,
    log_append: bool,
}

impl Meta {
    pub(crate) fn new(topic: &str, partition: i32) -> Self {
        let mut prefix = br#"{"v":1,"topic":"#.to_vec();
        put_text(&mut prefix, topic.as_bytes());
        prefix.extend_from_slice(br#","partition":"#);
        prefix.extend_from_slice(itoa::Buffer::new().format(partition).as_bytes());
        prefix.extend_from_slice(br#","offset":"#);
        let none = Timestamp::None;
        let first =
            Record { offset: 0, prev: None, timestamp: none, key: None, value: None, headers: &[] };
        let last = Object::new(Vec::new(), &prefix, &first);
        Self { prefix, last }
    }

    /// Appends the object for `record`.
    #[inline]
    pub(crate) fn put(&mut self, out: &mut Vec<u8>, record: &Record<'_>) {
        let object = &mut self.last;
        if !object.change_to(record) {
            *object = Object::new(std::mem::take(&mut object.text), &self.prefix, record);
        }
        if record.headers.is_empty() {
            out.extend_from_slice(&object.text);
        } else {
            let (before, after) = object.text.split_at(object.headers);
            out.extend_from_slice(before);
            put_headers(out, record.headers);
            out.extend_from_slice(after);
        }
    }
}

impl Object {
    /// The object of `record`, in a buffer of which the content does not matter.
    fn new(mut text: Vec<u8>, prefix: &[u8], record: &Record<'_>) -> Self {
        let (shape, timestamp) = (Shape::of(record), ms(record));
        text.clear();
        text.extend_from_slice(prefix);
        let offset = Decimal::append(&mut text, record.offset);
        text.extend_from_slice(br#","timestamp":"#);
        let timestamp = Decimal::append(&mut text, timestamp);
        let prev = record.prev.map(|prev| {
            text.extend_from_slice(br#","prev":"#);
            Decimal::append(&mut text, prev)
        });
        if shape.null_key {
            text.extend_from_slice(br#","null_key":true"#);
        }
        if shape.null_value {
            text.extend_from_slice(br#","null_value":true"#);
        }
        let headers = text.len();
        if shape.log_append {
            text.extend_from_slice(br#","timestamp_type":"log_append""#);
        }
        text.push(b'}');
        Self { shape, text, offset, timestamp, prev, headers }
    }

    /// Makes it the object of `record`; false if it does not have the same fields, or a number
    /// takes other room. It is useless then.
    #[inline]
    fn change_to(&mut self, record: &Record<'_>) -> bool {
        let prev = match (&mut self.prev, record.prev) {
            (None, None) => true,
            (Some(prev), Some(value)) => prev.replace(&mut self.text, value),
            _ => false,
        };
        prev && self.shape == Shape::of(record)
            && self.offset.replace(&mut self.text, record.offset)
            && self.timestamp.replace(&mut self.text, ms(record))
    }
}

impl Shape {
    #[inline]
    fn of(record: &Record<'_>) -> Self {
        Self {
            null_key: record.key.is_none(),
            null_value: record.value.is_none(),
            log_append: matches!(record.timestamp, Timestamp::LogAppend(_)),
        }
    }
}

/// The timestamp as it is written: -1 for none.
#[inline]
fn ms(record: &Record<'_>) -> i64 {
    match record.timestamp {
        Timestamp::None => -1,
        Timestamp::Create(ms) | Timestamp::LogAppend(ms) => ms,
    }
}

fn put_headers(out: &mut Vec<u8>, headers: &[Header<'_>]) {
    out.extend_from_slice(br#","headers":["#);
    for (i, header) in headers.iter().enumerate() {
        out.extend_from_slice(if i == 0 { b"[" } else { b",[" });
        put_bytes(out, header.name);
        out.push(b',');
        match header.value {
            Some(value) => put_bytes(out, value),
            None => out.extend_from_slice(b"null"),
        }
        out.push(b']');
    }
    out.push(b']');
}

/// Appends bytes as a JSON string, or as a base64 object if they are not UTF-8.
fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    if is_plain(bytes) {
        out.push(b'"');
        out.extend_from_slice(bytes);
        return out.push(b'"');
    }
    if std::str::from_utf8(bytes).is_ok() {
        return put_text(out, bytes);
    }
    out.extend_from_slice(br#"{"base64":""#);
    let mut quads = [0; 256];
    // 192 bytes are 256 characters, so that this cannot fail, and only the last piece can need
    // padding.
    for piece in bytes.chunks(192) {
        if let Ok(size) = STANDARD.encode_slice(piece, &mut quads) {
            out.extend_from_slice(&quads[..size]);
        }
    }
    out.extend_from_slice(br#""}"#);
}

/// Appends UTF-8 text as a JSON string: runs that need no escape are copied whole.
fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    let mut rest = text;
    while let Some(at) = first_escape(rest) {
        out.extend_from_slice(&rest[..at]);
        put_escape(out, rest[at]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// Position of the first byte that a JSON string has to escape.
fn first_escape(text: &[u8]) -> Option<usize> {
    text.iter().position(|byte| *byte < b' ' || *byte == b'"' || *byte == b'\\')
}

/// Returns true if `text` is ASCII in which nothing is to be escaped, as nearly all is. Looks at
/// eight bytes at a time.
#[inline]
fn is_plain(text: &[u8]) -> bool {
    const ONES: u64 = u64::MAX / 0xff;
    // The highest bit of a byte is set if it is not plain, and perhaps in bytes above such a one.
    let not_plain = |eight: &[u8; 8]| {
        let bytes = u64::from_le_bytes(*eight);
        let below = |bytes: u64, limit: u8| bytes.wrapping_sub(ONES * u64::from(limit)) & !bytes;
        let equal = |byte: u8| below(bytes ^ (ONES * u64::from(byte)), 1);
        bytes | below(bytes, b' ') | equal(b'"') | equal(b'\\')
    };
    let Some(last) = text.last_chunk() else {
        let mut eight = [b' '; 8];
        eight.iter_mut().zip(text).for_each(|(to, from)| *to = *from);
        return not_plain(&eight) & (ONES << 7) == 0;
    };
    // The last eight overlap those before them.
    let (chunks, _) = text.as_chunks();
    chunks.iter().fold(not_plain(last), |any, eight| any | not_plain(eight)) & (ONES << 7) == 0
}

#[cold]
fn put_escape(out: &mut Vec<u8>, byte: u8) {
    let letter = match byte {
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        b'"' | b'\\' => byte,
        _ => {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            out.extend_from_slice(b"\\u00");
            return out
                .extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    };
    out.extend_from_slice(&[b'\\', letter]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_plain_or_not_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            let plain = (b' '..0x80).contains(&byte) && byte != b'"' && byte != b'\\';
            for size in 1..20 {
                for at in 0..size {
                    for around in [b' ', b'~', b'!', b'#'] {
                        let mut text = vec![around; size];
                        text[at] = byte;
                        assert_eq!(is_plain(&text), plain, "{byte:#x} at {at} of {size}");
                    }
                }
            }
        }
        assert!(is_plain(b""));
    }
}
