//! Messages of magic 0 and 1, as logs from before Kafka 0.11 have them (KIP-31, KIP-32), single or
//! in a compressed wrapper. Each is written again as a batch of magic 2, so that there is one walk.
//! It may be slow.

use std::borrow::Cow;
use std::hash::Hasher;

use super::compression::Codec;
use super::error::{BatchError, BatchFault, RecordFault};
use super::header::{Entry, HEADER, PREFIX, first};
use super::record::Cursor;

const LOG_APPEND: i8 = 1 << 3;
const LZ4_MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();

/// The outcome of an entry.
pub(super) struct Appended {
    pub(super) first_offset: i64,
    pub(super) next_offset: i64,
}

/// Writes the messages of an entry to `out` as batches; `out` grows to `limit` at most.
pub(super) fn append(
    entry: &Entry<'_>,
    out: &mut Vec<u8>,
    limit: usize,
) -> Result<Appended, BatchError> {
    let fault = |fault: BatchFault| fault.at(entry.offset);
    let message = LegacyMessage::read(entry).map_err(fault)?;
    // The offset after it is one that can be.
    let next_offset = match entry.offset.checked_add(1) {
        Some(next) if entry.offset >= 0 => next,
        _ => return Err(fault(BatchFault::Offsets { base: entry.offset, delta: 0 })),
    };
    if message.compression() == 0 {
        message.write(entry.offset, message.stamp(), out, limit).map_err(fault)?;
        return Ok(Appended { first_offset: entry.offset, next_offset });
    }
    let first_offset = append_wrapped(entry, &message, out, limit).map_err(fault)?;
    Ok(Appended { first_offset, next_offset })
}

/// The messages in a wrapper. It has the offset of the last one; those of magic 1 count from the
/// first. Returns the first offset.
fn append_wrapped(
    wrapper: &Entry<'_>,
    message: &LegacyMessage<'_>,
    out: &mut Vec<u8>,
    limit: usize,
) -> Result<i64, BatchFault> {
    let codec = Codec::of(message.compression())?;
    let mut value = Cow::Borrowed(message.value.unwrap_or_default());
    if codec == Codec::Lz4 && wrapper.magic == 0 {
        mend_lz4(&mut value);
    }
    let set = codec.decompress(&value, limit)?;
    let base = match wrapper.magic {
        0 => 0,
        _ => wrapper.offset.saturating_sub(last_offset(&set)?),
    };
    let mut before = None;
    let mut rest = set.as_slice();
    let mut number = 0;
    while let Some(inner) = inner(rest)? {
        let fault = |fault| BatchFault::Record { number, fault };
        if inner.magic != wrapper.magic {
            return Err(fault(RecordFault::Nested));
        }
        let inner_message =
            LegacyMessage::read(&inner).map_err(|_| fault(RecordFault::Checksum))?;
        if inner_message.compression() != 0 {
            return Err(fault(RecordFault::Nested));
        }
        let offset = base.saturating_add(inner.offset);
        if offset < 0
            || before.is_some_and(|(_, before)| offset <= before)
            || offset > wrapper.offset
        {
            return Err(BatchFault::Offsets { base: offset, delta: 0 });
        }
        // What the broker stamps is the wrapper.
        let stamp = if message.is_log_append() { message.stamp() } else { inner_message.stamp() };
        inner_message.write(offset, stamp, out, limit)?;
        before = Some((before.map_or(offset, |(first, _)| first), offset));
        number += 1;
        rest = rest.get(inner.bytes.len()..).unwrap_or_default();
    }
    match before {
        Some((first, _)) => Ok(first),
        None => Err(BatchFault::Count(0)),
    }
}

/// The next message in a set, which must be whole.
fn inner(set: &[u8]) -> Result<Option<Entry<'_>>, BatchFault> {
    match first(set).map_err(|error| error.fault)? {
        None if !set.is_empty() => Err(BatchFault::Rest(set.len())),
        entry => Ok(entry),
    }
}

fn last_offset(set: &[u8]) -> Result<i64, BatchFault> {
    let mut rest = set;
    let mut last = 0;
    while let Some(entry) = inner(rest)? {
        last = entry.offset;
        rest = rest.get(entry.bytes.len()..).unwrap_or_default();
    }
    Ok(last)
}

/// One message: checksum (CRC-32), magic, attributes, in magic 1 a timestamp, then key and value.
struct LegacyMessage<'a> {
    attributes: i8,
    timestamp: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
}

impl<'a> LegacyMessage<'a> {
    fn read(entry: &Entry<'a>) -> Result<Self, BatchFault> {
        let cut = |fault| BatchFault::Record { number: 0, fault };
        let mut cursor = Cursor(entry.bytes);
        let mut take = |size| cursor.take(size).map_err(cut);
        take(PREFIX)?;
        let found = number(take(4)?) as u32;
        let computed = crc32fast::hash(entry.bytes.get(PREFIX + 4..).unwrap_or_default());
        if found != computed {
            return Err(BatchFault::Checksum { found, computed });
        }
        take(1)?;
        let attributes = number(take(1)?) as i8;
        let timestamp = if entry.magic == 0 { -1 } else { number(take(8)?) };
        let mut nullable = || match number(take(4)?) as i32 {
            -1 => Ok(None),
            size => match usize::try_from(size) {
                Ok(size) => Ok(Some(take(size)?)),
                Err(_) => Err(cut(RecordFault::Negative)),
            },
        };
        let (key, value) = (nullable()?, nullable()?);
        match cursor.0.len() {
            0 => Ok(LegacyMessage { attributes, timestamp, key, value }),
            rest => Err(BatchFault::Rest(rest)),
        }
    }

    fn compression(&self) -> i16 {
        i16::from(self.attributes & 7)
    }

    fn is_log_append(&self) -> bool {
        self.attributes & LOG_APPEND != 0
    }

    fn stamp(&self) -> LegacyTimestamp {
        LegacyTimestamp { timestamp: self.timestamp, log_append: self.is_log_append() }
    }

    /// Writes it as a batch of one record. Its checksum is left out: it is not looked at again.
    fn write(
        &self,
        offset: i64,
        stamp: LegacyTimestamp,
        out: &mut Vec<u8>,
        limit: usize,
    ) -> Result<(), BatchFault> {
        let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        // Three numbers of at most five bytes, and four that are one byte each.
        let room = HEADER + 15 + 4 + length(self.key) + length(self.value);
        if room > limit.saturating_sub(out.len()) {
            return Err(BatchFault::TooLarge { limit });
        }
        let mut record = vec![0, 0, 0];
        put_nullable(self.key, &mut record);
        put_nullable(self.value, &mut record);
        record.push(0);
        let start = out.len();
        out.extend_from_slice(&offset.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&(-1_i32).to_be_bytes());
        out.extend_from_slice(&[2, 0, 0, 0, 0]);
        out.extend_from_slice(
            &(if stamp.log_append { i16::from(LOG_APPEND) } else { 0 }).to_be_bytes(),
        );
        out.extend_from_slice(&0_i32.to_be_bytes());
        out.extend_from_slice(&stamp.timestamp.to_be_bytes());
        out.extend_from_slice(&stamp.timestamp.to_be_bytes());
        // No producer: its id, epoch and sequence are -1.
        out.extend_from_slice(&[0xff; 8 + 2 + 4]);
        out.extend_from_slice(&1_i32.to_be_bytes());
        put_length(record.len(), out);
        out.extend_from_slice(&record);
        let size = i32::try_from(out.len() - start - PREFIX).unwrap_or(i32::MAX).to_be_bytes();
        out.get_mut(start + 8..start + PREFIX).unwrap_or_default().copy_from_slice(&size);
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct LegacyTimestamp {
    timestamp: i64,
    log_append: bool,
}

/// A big-endian number of at most eight bytes.
fn number(bytes: &[u8]) -> i64 {
    bytes.iter().fold(0, |number, byte| number << 8 | i64::from(*byte))
}

fn put_nullable(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    match bytes {
        // -1, in zigzag.
        None => out.push(1),
        Some(bytes) => {
            put_length(bytes.len(), out);
            out.extend_from_slice(bytes);
        }
    }
}

/// Puts a length in zigzag; it is not negative.
fn put_length(length: usize, out: &mut Vec<u8>) {
    let mut rest = (length as u64) << 1;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Clients of magic 0 computed the checksum of an LZ4 frame's header over its magic too (KIP-57).
/// Java's consumer does not look at it there; so the right one is put in its place.
fn mend_lz4(frame: &mut Cow<'_, [u8]>) {
    let Some(&[a, b, c, d, flags]) = frame.first_chunk::<5>() else { return };
    if [a, b, c, d] != LZ4_MAGIC {
        return;
    }
    // The content's size, if the flags announce it, and a dictionary's id.
    let end = 6 + if flags & 8 != 0 { 8 } else { 0 } + if flags & 1 != 0 { 4 } else { 0 };
    let Some(descriptor) = frame.get(4..end) else { return };
    let mut hasher = twox_hash::XxHash32::with_seed(0);
    hasher.write(descriptor);
    let checksum = (hasher.finish() >> 8) as u8;
    if let Some(byte) = frame.to_mut().get_mut(end) {
        *byte = checksum;
    }
}
