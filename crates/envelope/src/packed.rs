//! The packed layout, version 1, little-endian: see "Packed" in `docs/envelope.md`.

use crate::{Record, Timestamp};

/// Version of the layout.
pub(crate) const VERSION: u8 = 1;
/// Flag: the key is null.
pub(crate) const NULL_KEY: u8 = 1;
/// Flag: the value is null.
pub(crate) const NULL_VALUE: u8 = 2;
/// Flag: the timestamp is the broker's.
pub(crate) const LOG_APPEND: u8 = 4;
/// Bytes before the first header: length, version, flags, zero, partition, offset, timestamp, prev,
/// schema id, count.
pub(crate) const FIXED: usize = 44;

/// Size of the packed record in bytes, its length field included.
#[inline]
pub(crate) fn size(record: &Record<'_>) -> usize {
    let headers: usize =
        record.headers.iter().map(|h| 8 + h.name.len() + h.value.map_or(0, <[u8]>::len)).sum();
    FIXED + headers + 8 + record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len)
}

/// Appends the packed record; `size` is what [`size`] gave for it.
/// Kafka's own lengths are i32, so that none of the casts below can lose anything.
#[inline]
pub(crate) fn put(out: &mut Vec<u8>, partition: i32, record: &Record<'_>, size: usize) {
    let mut flags = 0;
    if record.key.is_none() {
        flags |= NULL_KEY;
    }
    if record.value.is_none() {
        flags |= NULL_VALUE;
    }
    let timestamp = match record.timestamp {
        Timestamp::None => -1,
        Timestamp::Create(ms) => ms,
        Timestamp::LogAppend(ms) => {
            flags |= LOG_APPEND;
            ms
        }
    };
    let mut fixed = [0; FIXED];
    fixed[..4].copy_from_slice(&((size - 4) as u32).to_le_bytes());
    fixed[4] = VERSION;
    fixed[5] = flags;
    fixed[8..12].copy_from_slice(&partition.to_le_bytes());
    fixed[12..20].copy_from_slice(&record.offset.to_le_bytes());
    fixed[20..28].copy_from_slice(&timestamp.to_le_bytes());
    fixed[28..36].copy_from_slice(&record.prev.unwrap_or(-1).to_le_bytes());
    fixed[36..40].copy_from_slice(&(-1i32).to_le_bytes());
    fixed[40..].copy_from_slice(&(record.headers.len() as u32).to_le_bytes());
    out.extend_from_slice(&fixed);
    for header in record.headers {
        put_bytes(out, header.name);
        match header.value {
            Some(value) => put_bytes(out, value),
            None => out.extend_from_slice(&(-1i32).to_le_bytes()),
        }
    }
    put_bytes(out, record.key.unwrap_or_default());
    put_bytes(out, record.value.unwrap_or_default());
}

#[inline]
fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}
