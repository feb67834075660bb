//! The records of one partition in a Fetch response: record batches (Kafka's documentation,
//! "Message Format").
//!
//! [`outline`] looks at headers only, so that the next fetch can be sent before anything else is
//! done. [`Batches`] checks the batches, leaves out control batches and aborted transactions, and
//! hands out [`Run`]s, whose records are walked where they stand. Nothing is left out in silence:
//! what cannot be read is an error with its position.
//!
//! Pure: no I/O, no clock. It does not know topics, partitions or connections.
//!
//! Not covered by any checksum are a batch's base offset, its length and its leader epoch, since
//! brokers set them. They are held against what is around them, no more.

mod aborted;
#[cfg(feature = "bench")]
pub mod bench;
mod builder;
mod checksum;
mod codec;
mod compress;
mod compression;
mod error;
mod header;
mod legacy;
mod record;
mod run;
#[cfg(test)]
mod tests;

use std::ops::Range;

use bytes::Bytes;

pub(crate) use aborted::Aborted;
use aborted::AbortedNow;
pub(crate) use builder::{BatchBuilder, Draft, NewRecord, ProducerId, RECORD_LIMIT};
pub(crate) use compression::Codec;
pub(crate) use error::{BatchError, BatchFault};
pub(crate) use header::outline;
use header::{HEADER, Header, first};
pub(crate) use run::Run;

/// No further batch is taken into a run that would grow beyond this, in bytes.
const RUN_BYTES: usize = 1 << 20;
/// The most that one batch may be when it is decompressed, in bytes.
const DECOMPRESSED_LIMIT: usize = 512 << 20;

/// The part of the batches that is wanted.
#[derive(Clone, Debug)]
pub(crate) struct ReadOptions {
    /// First offset wanted.
    pub(crate) from: i64,
    /// The aborted transactions that the response lists, in any order, under read_committed; else
    /// `None`.
    pub(crate) aborted: Option<Vec<Aborted>>,
}

/// The batches of one partition, handed out as runs in their order.
pub(crate) struct Batches {
    bytes: Bytes,
    /// The position of the next batch.
    at: usize,
    from: i64,
    /// The offset after the last batch that was looked at.
    after: i64,
    aborted: Option<AbortedNow>,
    limit: usize,
    /// Found behind what was handed out last.
    error: Option<BatchError>,
    /// The position of the batch that could not be read.
    failed: usize,
}

/// The fate of a batch.
#[derive(Clone, Copy)]
enum Fate {
    /// Its records are walked where they stand.
    Kept,
    /// Its records are walked once they are decompressed.
    Compressed(Codec),
    /// It has no records to hand out; the walk would see that too.
    Empty,
    /// Its records are left out.
    LeftOut,
}

impl Batches {
    /// Reads the records of a partition as the response has them.
    pub(crate) fn new(bytes: Bytes, reading: ReadOptions) -> Self {
        Self::with_limit(bytes, reading, DECOMPRESSED_LIMIT)
    }

    fn with_limit(bytes: Bytes, reading: ReadOptions, limit: usize) -> Self {
        Batches {
            bytes,
            at: 0,
            from: reading.from,
            after: 0,
            aborted: reading.aborted.map(AbortedNow::new),
            limit,
            error: None,
            failed: 0,
        }
    }

    /// Returns true if [`next`](Self::next) has nothing more to return. Looks at one header at
    /// most.
    pub(crate) fn is_over(&self) -> bool {
        self.error.is_none()
            && matches!(first(self.bytes.get(self.at..).unwrap_or_default()), Ok(None))
    }

    /// The next run, its checksums checked; `None` at the end, or if a batch is cut off.
    ///
    /// A run may have no records: then it only moves the position over batches that were left out.
    /// A compressed batch is decompressed here and is a run of its own.
    ///
    /// # Errors
    /// A batch cannot be read. What stands before it was handed out; after it nothing more comes.
    pub(crate) fn next(&mut self) -> Result<Option<Run>, BatchError> {
        let begun = self.at;
        let mut span = begun..begun;
        let error = match self.error.take() {
            Some(error) => Some(error),
            None => match self.gather(&mut span) {
                Ok(Some(run)) => return Ok(Some(run)),
                Ok(None) => None,
                Err(error) => Some(error),
            },
        };
        if self.at > begun {
            self.error = error;
            let next_offset = self.after.max(self.from);
            return Ok(Some(Run::of_batches(self.bytes.slice(span), self.from, next_offset)));
        }
        match error {
            None => Ok(None),
            Some(error) => {
                self.failed = std::mem::replace(&mut self.at, self.bytes.len());
                Err(error)
            }
        }
    }

    /// The offset to go on from behind the batch that could not be read, as [`after_broken`].
    pub(crate) fn after_failed(&self, from: i64, end: i64) -> Option<i64> {
        after_broken(self.bytes.get(self.failed..).unwrap_or_default(), from, end)
    }

    /// Goes on over batches as long as they fit into one run: `span`. What cannot be in it is
    /// returned, if it stands first. `at` is behind all that was taken, whatever the result.
    fn gather(&mut self, span: &mut Range<usize>) -> Result<Option<Run>, BatchError> {
        loop {
            let bytes = &self.bytes;
            let Some(entry) = first(bytes.get(self.at..).unwrap_or_default())? else {
                return Ok(None);
            };
            let none_yet = span.start == span.end;
            let Some(header) = entry.batch else {
                return if none_yet { self.gather_messages().map(Some) } else { Ok(None) };
            };
            let alone = header.compression() != 0 && !header.is_control();
            if !none_yet && (alone || span.len() + header.size > RUN_BYTES) {
                return Ok(None);
            }
            let size = header.size;
            let fate =
                fate(&header, entry.bytes, self.from, self.after, &mut self.aborted, self.limit)?;
            let run = match fate {
                Fate::Compressed(codec) => {
                    let records = entry.bytes.get(HEADER..).unwrap_or_default();
                    let records = codec
                        .decompress(records, self.limit)
                        .map_err(|fault| fault.at(header.base_offset))?;
                    Some(Run::of_records(header, records, self.from))
                }
                Fate::Kept | Fate::Empty | Fate::LeftOut => None,
            };
            self.at += size;
            self.after = header.next_offset();
            match fate {
                Fate::Compressed(_) => return Ok(run),
                Fate::LeftOut if !none_yet => return Ok(None),
                Fate::Empty | Fate::LeftOut if none_yet => *span = self.at..self.at,
                Fate::Kept | Fate::Empty | Fate::LeftOut => span.end = self.at,
            }
        }
    }

    /// The messages of magic 0 and 1 that stand next, of which there is at least one.
    fn gather_messages(&mut self) -> Result<Run, BatchError> {
        let mut batches = Vec::new();
        let begun = self.at;
        while batches.len() < RUN_BYTES {
            let taken = batches.len();
            let entry = match first(self.bytes.get(self.at..).unwrap_or_default()) {
                Ok(Some(entry)) if entry.batch.is_none() => entry,
                Ok(_) => break,
                Err(error) => {
                    self.error = Some(error);
                    break;
                }
            };
            let limit = self.limit.saturating_add(taken);
            let appended = legacy::append(&entry, &mut batches, limit).and_then(|appended| {
                if appended.first_offset < self.after {
                    return Err(BatchFault::Order(self.after - 1).at(appended.first_offset));
                }
                Ok(appended)
            });
            match appended {
                Ok(appended) => {
                    self.at += entry.bytes.len();
                    self.after = appended.next_offset;
                }
                Err(error) => {
                    batches.truncate(taken);
                    self.error = Some(error);
                    break;
                }
            }
        }
        match self.error.take_if(|_| self.at == begun) {
            Some(error) => Err(error),
            None => Ok(Run::of_batches(batches.into(), self.from, self.after.max(self.from))),
        }
    }
}

/// The offset to go on from behind a batch that cannot be read, the first of `bytes`: where the
/// next one begins, or else where it claims to end, within the log that goes on at `from` and ends
/// at `end`. `None` if neither can be.
pub(crate) fn after_broken(bytes: &[u8], from: i64, end: i64) -> Option<i64> {
    let can_be = |offset: &i64| from < *offset && *offset <= end;
    let broken = first(bytes).ok()??;
    let next = first(bytes.get(broken.bytes.len()..)?).ok().flatten();
    let claimed = broken.batch.map_or(broken.offset.saturating_add(1), |batch| batch.next_offset());
    next.map(|next| next.offset).filter(can_be).or_else(|| Some(claimed).filter(can_be))
}

/// Checks a batch, and says what becomes of it. `after` is the offset after the batch before it.
#[inline]
fn fate(
    header: &Header,
    bytes: &[u8],
    from: i64,
    after: i64,
    aborted: &mut Option<AbortedNow>,
    limit: usize,
) -> Result<Fate, BatchError> {
    header.check(bytes)?;
    if header.base_offset < after {
        return Err(BatchFault::Order(after - 1).at(header.base_offset));
    }
    if let Some(aborted) = aborted
        && aborted.covers(header, bytes, limit)?
    {
        return Ok(Fate::LeftOut);
    }
    let nothing = header.count == 0 && bytes.len() == HEADER;
    if nothing || header.is_control() || header.next_offset() <= from {
        return Ok(Fate::Empty);
    }
    match header.compression() {
        0 => Ok(Fate::Kept),
        number => {
            Ok(Fate::Compressed(Codec::of(number).map_err(|fault| fault.at(header.base_offset))?))
        }
    }
}
