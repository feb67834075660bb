//! Batches of transactions that were aborted (read_committed, KIP-98).

use std::collections::BTreeSet;

use super::compression::Codec;
use super::error::{BatchError, BatchFault};
use super::header::{HEADER, Header};
use super::record::{Cursor, Raw};

/// A transaction that was aborted, as a fetch response lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Aborted {
    /// The producer.
    pub(crate) producer_id: i64,
    /// The offset at which it begins.
    pub(crate) first_offset: i64,
}

/// The aborted transactions around the batch that is looked at.
#[derive(Debug)]
pub(super) struct AbortedNow {
    /// Those that are not reached yet, the next one last.
    ahead: Vec<Aborted>,
    /// Producers with a transaction that is going to be aborted.
    open: BTreeSet<i64>,
}

impl AbortedNow {
    pub(super) fn new(mut aborted: Vec<Aborted>) -> Self {
        aborted.sort_unstable_by_key(|one| std::cmp::Reverse(one.first_offset));
        AbortedNow { ahead: aborted, open: BTreeSet::new() }
    }

    /// Returns true if the records of a batch are to be left out. Asked once for every batch, in
    /// order.
    pub(super) fn covers(
        &mut self,
        header: &Header,
        bytes: &[u8],
        limit: usize,
    ) -> Result<bool, BatchError> {
        if header.producer_id < 0 {
            return Ok(false);
        }
        while let Some(next) = self.ahead.pop_if(|next| next.first_offset < header.next_offset()) {
            self.open.insert(next.producer_id);
        }
        if header.is_control() {
            if is_abort(header, bytes, limit).map_err(|fault| fault.at(header.base_offset))? {
                self.open.remove(&header.producer_id);
            }
            return Ok(false);
        }
        if zafka_planted::is("aborted-are-handed-out") {
            return Ok(false);
        }
        Ok(header.is_transactional() && self.open.contains(&header.producer_id))
    }
}

/// Returns true if a control batch ends a transaction by aborting it. Its first record's key is a
/// version and a type.
fn is_abort(header: &Header, bytes: &[u8], limit: usize) -> Result<bool, BatchFault> {
    if header.count == 0 {
        return Ok(false);
    }
    let decompressed;
    let mut records = bytes.get(HEADER..).unwrap_or_default();
    if header.compression() != 0 {
        decompressed = Codec::of(header.compression())?.decompress(records, limit)?;
        records = &decompressed;
    }
    let record = Raw::read(&mut Cursor(records), &mut Vec::new())
        .map_err(|fault| BatchFault::Record { number: 0, fault })?;
    match record.key {
        Some(&[high, low, kind_high, kind_low, ..]) if i16::from_be_bytes([high, low]) >= 0 => {
            Ok(i16::from_be_bytes([kind_high, kind_low]) == 0)
        }
        _ => Err(BatchFault::Control),
    }
}
