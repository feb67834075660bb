//! The reader as benchmarks and fuzzing see it, from outside the crate. For them alone.

use std::ops::ControlFlow;

use bytes::Bytes;
use zafka_envelope::Record;

use super::{Aborted, Batches, ReadOptions, outline};

/// The sums over the records of some bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Records handed out.
    pub records: u64,
    /// Runs handed out.
    pub runs: u64,
    /// The offset at which a fetch continues.
    pub next_offset: Option<i64>,
    /// True if something could not be read.
    pub failed: bool,
}

/// Reads all records of a partition. `aborted` are producer ids and first offsets, under
/// read_committed.
pub fn read(
    bytes: Bytes,
    from: i64,
    aborted: Option<&[(i64, i64)]>,
    limit: usize,
    mut f: impl FnMut(&Record<'_>),
) -> Totals {
    let aborted = aborted.map(|aborted| {
        aborted
            .iter()
            .map(|&(producer_id, first_offset)| Aborted { producer_id, first_offset })
            .collect()
    });
    let mut batches = Batches::with_limit(bytes, ReadOptions { from, aborted }, limit);
    let mut totals = Totals::default();
    loop {
        let mut run = match batches.next() {
            Ok(Some(run)) => run,
            Ok(None) => return totals,
            Err(_) => return Totals { failed: true, ..totals },
        };
        let walked = run.walk(|record| {
            totals.records += 1;
            f(record);
            ControlFlow::Continue(())
        });
        totals.runs += 1;
        totals.next_offset = Some(run.next_offset());
        if walked.is_err() {
            return Totals { failed: true, ..totals };
        }
    }
}

/// Reads the headers alone.
pub fn read_headers(bytes: &[u8]) -> Option<i64> {
    outline(bytes).next_offset
}
