//! The content of an answer, on its way to the route. Plain state: the broker's task waits for
//! room.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::ResponseContext;
use super::fetch_session::{FetchSession, FetchedPartition, RejectedBatch};
use crate::assignment::Assignment;
use crate::fetcher::{Fetched, Records};
use crate::generation::Generation;
use crate::records::{Batches, ReadOptions, Run};
use crate::reset::DueOffset;

/// Returns what of an answer is handed out, once the next request has gone out or could not: all
/// of it, for the positions are past it.
pub(super) fn due(partitions: Vec<FetchedPartition>, next_failed: bool) -> Vec<FetchedPartition> {
    if zafka_planted::is("next-request-fails") && next_failed {
        return Vec::new();
    }
    partitions
}

/// The records of one partition, handed out run by run. A compressed batch is decompressed when
/// its turn comes.
pub(super) struct HandOut {
    assignment: Arc<Assignment>,
    generation: Generation,
    /// A run without records, which only carries the position.
    standing: Option<Run>,
    batches: Batches,
    next: i64,
}

impl HandOut {
    pub(super) fn new(partition: FetchedPartition) -> Self {
        let FetchedPartition { assignment, generation, from, records, aborted } = partition;
        let standing = records.is_empty().then(|| Run::of_batches(Bytes::new(), from, from));
        let batches = Batches::new(records, ReadOptions { from, aborted });
        Self { assignment, generation, standing, batches, next: from }
    }

    /// Returns true if nothing more of it is to be handed out.
    pub(super) fn is_over(&self) -> bool {
        !self.assignment.is_wanted() || self.standing.is_none() && self.batches.is_over()
    }

    /// Returns the next run; `None` at the end.
    ///
    /// # Errors
    /// A batch cannot be read. It is fetched again, by `session`, and nothing of it is left here.
    pub(super) fn next(
        &mut self,
        session: &mut FetchSession,
        response: &Arc<ResponseContext>,
        now: Instant,
    ) -> Result<Option<Fetched>, RejectedBatch> {
        let standing = self.standing.take();
        let run = match standing.map_or_else(|| self.batches.next(), |run| Ok(Some(run))) {
            Ok(Some(run)) => run,
            Ok(None) => return Ok(None),
            Err(error) => {
                let (assignment, generation) = (&self.assignment, self.generation.number);
                let end = assignment.ends().map_or(i64::MAX, |ends| ends.high_watermark);
                let to = self.batches.after_failed(self.next, end);
                let failures = session.go_on_at(assignment, generation, self.next, now);
                let assignment = Arc::clone(assignment);
                let due = DueOffset { assignment, generation, offset: self.next };
                return Err(RejectedBatch { due, to, error, failures });
            }
        };
        self.next = run.next_offset();
        Ok(Some(Fetched {
            assignment: Arc::clone(&self.assignment),
            generation: self.generation,
            next_offset: self.next,
            records: Records::Fast(run, Arc::clone(response)),
        }))
    }
}
