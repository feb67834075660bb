//! Batches that are handed on together, and the walk over their records.

use std::fmt;
use std::ops::ControlFlow;

use bytes::Bytes;
use zafka_envelope::{Record, Timestamp};

use super::error::{BatchError, BatchFault, RecordFault};
use super::header::{HEADER, Header, first};
use super::record::{Cursor, Raw};

/// Records of one partition, walked in place.
///
/// The checksums of its batches were checked; its records are checked as they are reached.
pub(crate) struct Run {
    /// Batches; or the records of `open` alone, decompressed.
    bytes: Bytes,
    /// The position that the walk has reached.
    at: usize,
    /// The batch that the walk is in.
    open: Option<OpenBatch>,
    /// Records below it are not handed out.
    from: i64,
    next_offset: i64,
    error: Option<BatchError>,
}

/// The batch that the walk is in.
#[derive(Clone, Copy, Debug)]
struct OpenBatch {
    header: Header,
    /// The end of its records in the run's bytes.
    end: usize,
    /// The number of records that were read.
    number: u32,
    /// The smallest offset delta that the next record may have.
    next_delta: i64,
    /// Set if the broker stamped the batch.
    stamp: Option<Timestamp>,
}

impl OpenBatch {
    fn new(header: Header, end: usize) -> Self {
        let stamp = header.is_log_append().then_some(match header.max_timestamp {
            -1 => Timestamp::None,
            timestamp => Timestamp::LogAppend(timestamp),
        });
        OpenBatch { header, end, number: 0, next_delta: 0, stamp }
    }
}

impl Run {
    /// Makes a run of whole batches that were checked, uncompressed but for control batches. They
    /// may be none.
    pub(crate) fn of_batches(batches: Bytes, from: i64, next_offset: i64) -> Self {
        Run { bytes: batches, at: 0, open: None, from, next_offset, error: None }
    }

    /// Makes a run of one batch whose records were decompressed.
    pub(super) fn of_records(header: Header, records: Vec<u8>, from: i64) -> Self {
        let open = Some(OpenBatch::new(header, records.len()));
        let next_offset = header.next_offset().max(from);
        Run { bytes: records.into(), at: 0, open, from, next_offset, error: None }
    }

    /// Hands each record to `f` until it breaks; the next call goes on after the last one handed
    /// out. `Ok(true)` once all were handed out, `Ok(false)` if `f` broke.
    ///
    /// `Record::prev` is left `None`.
    ///
    /// # Errors
    /// A batch breaks the format, though its checksum is right. What stands before the fault was
    /// handed out, nothing after it will be: [`Run::next_offset`] then is where the fault is,
    /// and every further call says the same error.
    pub(crate) fn walk(
        &mut self,
        mut f: impl FnMut(&Record<'_>) -> ControlFlow<()>,
    ) -> Result<bool, BatchError> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        let mut headers = Vec::new();
        let Run { bytes, at, open, from, .. } = self;
        let bytes: &[u8] = bytes;
        let walked = loop {
            let batch = match open {
                Some(batch) => batch,
                None => match next_batch(bytes, at) {
                    Ok(Some(batch)) => open.insert(batch),
                    Ok(None) => break Ok(true),
                    Err(error) => break Err(error),
                },
            };
            match walk_batch(bytes, at, batch, *from, &mut headers, &mut f) {
                Ok(ControlFlow::Continue(())) => *open = None,
                Ok(ControlFlow::Break(())) => break Ok(false),
                Err(fault) => break Err(fault.at(batch.header.base_offset)),
            }
        };
        if let Err(error) = &walked {
            let reached = self.open.map_or(error.base_offset, |batch| {
                batch.header.base_offset.saturating_add(batch.next_delta)
            });
            self.next_offset = reached.max(self.from);
            self.error = Some(error.clone());
        }
        walked
    }

    /// Returns, once [`Run::walk`] failed, the offset after the batch that it failed in, whose
    /// checksum is right.
    pub(crate) fn after_broken(&self) -> Option<i64> {
        self.open.map(|batch| batch.header.next_offset())
    }

    /// Bytes that its records take here, decompressed.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the offset at which a fetch continues after this run: the one after its last batch,
    /// those included that gave no records because they are control batches or aborted. Once
    /// [`Run::walk`] failed: the offset after the last record before the fault.
    pub(crate) fn next_offset(&self) -> i64 {
        self.next_offset
    }
}

impl fmt::Debug for Run {
    /// Writes it without the records.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Run { at, next_offset, error, .. } = self;
        write!(f, "Run {{ at: {at}, next_offset: {next_offset}, error: {error:?} }}")
    }
}

/// The next batch with records, from `at`, which is moved to its first record.
#[inline]
fn next_batch(bytes: &[u8], at: &mut usize) -> Result<Option<OpenBatch>, BatchError> {
    loop {
        let rest = bytes.get(*at..).unwrap_or_default();
        let Some(entry) = first(rest)? else {
            // Whole batches were put in. If that were not so, it must not look like the end.
            return if rest.is_empty() {
                Ok(None)
            } else {
                Err(BatchFault::Rest(rest.len()).at(-1))
            };
        };
        let Some(header) = entry.batch else {
            return Err(BatchFault::Magic(entry.magic).at(entry.offset));
        };
        if header.is_control() {
            *at += header.size;
        } else {
            let end = *at + header.size;
            *at += HEADER;
            return Ok(Some(OpenBatch::new(header, end)));
        }
    }
}

/// Hands out the rest of a batch; `Continue` at its end.
#[inline]
fn walk_batch<'a>(
    bytes: &'a [u8],
    at: &mut usize,
    batch: &mut OpenBatch,
    from: i64,
    headers: &mut Vec<zafka_envelope::Header<'a>>,
    f: &mut impl FnMut(&Record<'_>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, BatchFault> {
    let mut cursor = Cursor(bytes.get(*at..batch.end).unwrap_or_default());
    let Header { base_offset, base_timestamp, last_offset_delta, count, .. } = batch.header;
    let count = count.cast_unsigned();
    while batch.number < count {
        let fault = |fault| BatchFault::Record { number: batch.number, fault };
        let raw = Raw::read(&mut cursor, headers).map_err(fault)?;
        let delta = i64::from(raw.offset_delta);
        if delta < batch.next_delta || raw.offset_delta > last_offset_delta {
            return Err(fault(RecordFault::Offset(raw.offset_delta)));
        }
        let timestamp = match batch.stamp {
            Some(stamp) => stamp,
            None => match base_timestamp.checked_add(raw.timestamp_delta) {
                Some(-1) => Timestamp::None,
                Some(timestamp) => Timestamp::Create(timestamp),
                None => return Err(fault(RecordFault::Timestamp)),
            },
        };
        batch.next_delta = delta + 1;
        batch.number += 1;
        // Checked with the header: no offset of the batch is out of range.
        let offset = base_offset + delta;
        if offset < from {
            continue;
        }
        let record =
            Record { offset, prev: None, timestamp, key: raw.key, value: raw.value, headers };
        if f(&record).is_break() {
            *at = batch.end - cursor.0.len();
            return Ok(ControlFlow::Break(()));
        }
    }
    *at = batch.end;
    match cursor.0.len() {
        0 => Ok(ControlFlow::Continue(())),
        rest => Err(BatchFault::Rest(rest)),
    }
}
