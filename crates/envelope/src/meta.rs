//! Writes `{meta}`: the compact JSON object of the `json` preset, version 1. See "Meta" in `docs/envelope.md`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::decimal::Decimal;
use crate::{Header, Record, Timestamp};

/// Writes the meta of one partition's records.
#[derive(Clone, Debug)]
pub(crate) struct Meta {
    /// From the opening brace up to the offset's digits.
    prefix: Vec<u8>,
    offset: Decimal,
    timestamp: Decimal,
    prev: Decimal,
}

impl Meta {
    pub(crate) fn new(topic: &str, partition: i32) -> Self {
        let mut prefix = br#"{"v":1,"topic":"#.to_vec();
        put_text(&mut prefix, topic.as_bytes());
        prefix.extend_from_slice(br#","partition":"#);
        prefix.extend_from_slice(itoa::Buffer::new().format(partition).as_bytes());
        prefix.extend_from_slice(br#","offset":"#);
        Self { prefix, offset: Decimal::default(), timestamp: Decimal::default(), prev: Decimal::default() }
    }

    /// Appends the object for `record`.
    #[inline]
    pub(crate) fn put(&mut self, out: &mut Vec<u8>, record: &Record<'_>) {
        let (timestamp, log_append) = match record.timestamp {
            Timestamp::None => (-1, false),
            Timestamp::Create(ms) => (ms, false),
            Timestamp::LogAppend(ms) => (ms, true),
        };
        out.extend_from_slice(&self.prefix);
        out.extend_from_slice(self.offset.text(record.offset));
        out.extend_from_slice(br#","timestamp":"#);
        out.extend_from_slice(self.timestamp.text(timestamp));
        if let Some(prev) = record.prev {
            out.extend_from_slice(br#","prev":"#);
            out.extend_from_slice(self.prev.text(prev));
        }
        if record.key.is_none() {
            out.extend_from_slice(br#","null_key":true"#);
        }
        if record.value.is_none() {
            out.extend_from_slice(br#","null_value":true"#);
        }
        if !record.headers.is_empty() {
            put_headers(out, record.headers);
        }
        if log_append {
            out.extend_from_slice(br#","timestamp_type":"log_append""#);
        }
        out.push(b'}');
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

/// Appends bytes as a JSON string, or as a base64 object where they are not UTF-8.
fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    if std::str::from_utf8(bytes).is_ok() {
        return put_text(out, bytes);
    }
    out.extend_from_slice(br#"{"base64":""#);
    let mut quads = [0; 256];
    // 192 bytes are 256 characters, so that this cannot fail, and only the last piece can need padding.
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
#[inline]
fn first_escape(text: &[u8]) -> Option<usize> {
    let escaped = |byte: &u8| *byte < b' ' || *byte == b'"' || *byte == b'\\';
    // Sixteen at a time, without a branch for each, so that the compiler makes it a few vector instructions.
    let (chunks, _) = text.as_chunks::<16>();
    let clean = chunks.iter().take_while(|chunk| !chunk.iter().fold(false, |any, byte| any | escaped(byte)));
    let clean = clean.count() * 16;
    text[clean..].iter().position(escaped).map(|at| clean + at)
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
            return out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    };
    out.extend_from_slice(&[b'\\', letter]);
}
