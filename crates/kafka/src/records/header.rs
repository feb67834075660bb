//! The headers of what a partition's records are made of: batches (magic 2), and messages (magic 0
//! and 1). Kafka's documentation, "Message Format".

use super::error::{BatchError, BatchFault};

/// Base offset and length stand before what the length counts.
pub(super) const PREFIX: usize = 12;
/// The size of a batch's header, prefix included.
pub(super) const HEADER: usize = 61;
/// The first byte that CRC-32C covers: the attributes.
pub(super) const CHECKED_FROM: usize = 21;
/// The smallest message of magic 0, prefix included: checksum, magic, attributes, two null lengths.
const SMALLEST: usize = PREFIX + 14;

const LOG_APPEND: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

/// The first entry of some bytes, whole.
pub(super) struct Entry<'a> {
    /// Base offset of a batch; a message's own offset.
    pub(super) offset: i64,
    /// The whole batch, prefix included.
    pub(super) bytes: &'a [u8],
    /// The header, if it is a batch; `None` for a message of magic 0 or 1.
    pub(super) batch: Option<Header>,
    /// 0, 1 or 2.
    pub(super) magic: i8,
}

/// The first entry of `bytes`; `None` at the end, or if the entry is cut off.
#[inline]
pub(super) fn first(bytes: &[u8]) -> Result<Option<Entry<'_>>, BatchError> {
    let Some(prefix) = bytes.first_chunk::<PREFIX>() else { return Ok(None) };
    let offset = i64_at::<0, PREFIX>(prefix);
    let length = i32_at::<8, PREFIX>(prefix);
    let fault = |fault: BatchFault| fault.at(offset);
    let size = match usize::try_from(length) {
        Ok(length) if length + PREFIX >= SMALLEST => length + PREFIX,
        _ => return Err(fault(BatchFault::Length(length))),
    };
    let Some((bytes, _)) = bytes.split_at_checked(size) else { return Ok(None) };
    // Both formats have it at the same place.
    let magic = bytes.get(16).map_or(-1, |magic| magic.cast_signed());
    let batch = match (magic, bytes.first_chunk::<HEADER>()) {
        (2, Some(header)) => Some(Header::read(header)),
        (0, _) => None,
        (1, _) if size >= SMALLEST + 8 => None,
        (1 | 2, _) => return Err(fault(BatchFault::Length(length))),
        (magic, _) => return Err(fault(BatchFault::Magic(magic))),
    };
    Ok(Some(Entry { offset, bytes, batch, magic }))
}

/// A batch's header, as it stands; see [`Header::check`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) base_offset: i64,
    /// The size of the whole batch in bytes.
    pub(super) size: usize,
    pub(super) leader_epoch: i32,
    checksum: u32,
    attributes: i16,
    pub(super) last_offset_delta: i32,
    pub(super) base_timestamp: i64,
    pub(super) max_timestamp: i64,
    pub(super) producer_id: i64,
    pub(super) count: i32,
}

impl Header {
    #[inline]
    fn read(header: &[u8; HEADER]) -> Self {
        Header {
            base_offset: i64_at::<0, HEADER>(header),
            // Its sign was checked when the entry was found.
            size: i32_at::<8, HEADER>(header) as usize + PREFIX,
            leader_epoch: i32_at::<12, HEADER>(header),
            checksum: i32_at::<17, HEADER>(header).cast_unsigned(),
            attributes: i16::from_be_bytes([header[21], header[22]]),
            last_offset_delta: i32_at::<23, HEADER>(header),
            base_timestamp: i64_at::<27, HEADER>(header),
            max_timestamp: i64_at::<35, HEADER>(header),
            producer_id: i64_at::<43, HEADER>(header),
            count: i32_at::<57, HEADER>(header),
        }
    }

    /// Checks that `bytes`, the whole batch, are those that were written, and its offsets ones that
    /// can be.
    #[inline]
    pub(super) fn check(&self, bytes: &[u8]) -> Result<(), BatchError> {
        let fault = |fault: BatchFault| Err(fault.at(self.base_offset));
        let computed = crc32c::crc32c(bytes.get(CHECKED_FROM..).unwrap_or_default());
        if computed != self.checksum {
            return fault(BatchFault::Checksum { found: self.checksum, computed });
        }
        let (base, delta) = (self.base_offset, self.last_offset_delta);
        if base < 0 || delta < 0 || base.checked_add(i64::from(delta) + 1).is_none() {
            return fault(BatchFault::Offsets { base, delta });
        }
        if self.count < 0 || i64::from(self.count) > i64::from(delta) + 1 {
            return fault(BatchFault::Count(self.count));
        }
        Ok(())
    }

    /// The offset after the batch: compaction takes records out, never the range.
    pub(super) fn next_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta)).saturating_add(1)
    }

    /// The compression's number; 0 is none.
    pub(super) fn compression(&self) -> i16 {
        self.attributes & 7
    }

    pub(super) fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    pub(super) fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    pub(super) fn is_log_append(&self) -> bool {
        self.attributes & LOG_APPEND != 0
    }
}

/// The knowledge of a partition's records from the headers alone. Checksums are not looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outline {
    /// The offset after the last whole batch.
    pub(crate) next_offset: Option<i64>,
    /// The changes of the leader epoch among the whole batches: a base offset, and the epoch from
    /// there on. -1 is none.
    pub(crate) epochs: Vec<(i64, i32)>,
    /// The bytes of the whole batches; a batch that is cut off may follow.
    pub(crate) whole_bytes: usize,
    /// The fault of the bytes behind the whole batches, if those cannot be a batch however much
    /// more of it there were.
    pub(crate) error: Option<BatchError>,
}

/// One pass over the headers: where a fetch goes on after these bytes.
pub(crate) fn outline(bytes: &[u8]) -> Outline {
    let mut outline =
        Outline { next_offset: None, epochs: Vec::new(), whole_bytes: 0, error: None };
    let mut rest = bytes;
    loop {
        let entry = match first(rest) {
            Ok(Some(entry)) => entry,
            Ok(None) => return outline,
            Err(error) => return Outline { error: Some(error), ..outline },
        };
        let (next_offset, epoch) = match &entry.batch {
            Some(batch) => (batch.next_offset(), batch.leader_epoch),
            None => (entry.offset.saturating_add(1), -1),
        };
        outline.next_offset = Some(next_offset);
        if outline.epochs.last().is_none_or(|(_, last)| *last != epoch) {
            outline.epochs.push((entry.offset, epoch));
        }
        outline.whole_bytes += entry.bytes.len();
        rest = rest.get(entry.bytes.len()..).unwrap_or_default();
    }
}

pub(super) fn i32_at<const AT: usize, const N: usize>(bytes: &[u8; N]) -> i32 {
    i32::from_be_bytes([bytes[AT], bytes[AT + 1], bytes[AT + 2], bytes[AT + 3]])
}

pub(super) fn i64_at<const AT: usize, const N: usize>(bytes: &[u8; N]) -> i64 {
    i64::from_be_bytes([
        bytes[AT],
        bytes[AT + 1],
        bytes[AT + 2],
        bytes[AT + 3],
        bytes[AT + 4],
        bytes[AT + 5],
        bytes[AT + 6],
        bytes[AT + 7],
    ])
}
