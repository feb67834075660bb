//! Records as they come from Kafka, by one of two ways: fetch requests of our own, or librdkafka.

mod fast;
mod fault;
mod librdkafka;
mod record_sender;

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use zafka_envelope::Record;

use crate::assignment::Assignment;
use crate::client::ClientError;
use crate::config::FetcherKind;
use crate::generation::Generation;
use crate::records::Run;
use crate::reset::DueOffset;
#[cfg(feature = "sim")]
pub(crate) use fast::sim;
pub(crate) use fast::{
    ANSWER_LIMIT, CONFIRMED, FastFetcher, FetchKind, FetchOptions, FetchPosition, FetchSession,
    FetchSizes, FetcherParts, PartitionError, ReturnReason, VERSIONS as FETCH_VERSIONS,
};
pub(crate) use fault::{CorruptBatch, FetchFailure, FetchFault};
pub(crate) use librdkafka::LibrdkafkaFetcher;
pub(crate) use record_sender::RecordSender;

/// Records of one partition, in their order. May hold none and only move the position.
pub struct Fetched {
    /// The assignment that these records are of.
    pub assignment: Arc<Assignment>,
    /// The reading of the partition that they belong to. Those of one generation come in the order
    /// of their offsets. If a reset began it, all of the generations before it came first; after a
    /// restart, some of them may follow.
    pub generation: Generation,
    next_offset: i64,
    records: Records,
}

/// Records, by the way they came.
enum Records {
    /// A run of batches, with what it shares with the others of its response.
    Fast(Run, Arc<fast::ResponseContext>),
    Librdkafka(librdkafka::FetchedMessages),
}

impl Fetched {
    /// Hands each record to `f` until it breaks; the next call goes on after the last one handed
    /// out. True once all were handed out. `prev` is left to the caller.
    pub fn walk(&mut self, f: impl FnMut(&Record<'_>) -> ControlFlow<()>) -> bool {
        match &mut self.records {
            Records::Fast(run, response) => {
                if self.assignment.corrupt_at().is_some() {
                    return true;
                }
                run.walk(f).unwrap_or_else(|error| {
                    let (generation, offset) = (self.generation.number, run.next_offset());
                    self.assignment.set_corrupt_at(generation, offset);
                    let due =
                        DueOffset { assignment: Arc::clone(&self.assignment), generation, offset };
                    let (next, error) = (run.after_broken(), error.into());
                    response.faults.send(FetchFault::Corrupt(CorruptBatch { due, next, error }));
                    true
                })
            }
            Records::Librdkafka(taken) => taken.walk(f),
        }
    }

    /// The offset to go on from after all of them, past offsets that hold no record a reader sees.
    pub fn next_offset(&self) -> i64 {
        self.assignment
            .corrupt_at()
            .map_or(self.next_offset, |corrupt| self.next_offset.min(corrupt))
    }
}

impl fmt::Debug for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetched")
            .field("topic", self.assignment.topic())
            .field("partition", &self.assignment.partition())
            .field("next_offset", &self.next_offset)
            .finish_non_exhaustive()
    }
}

/// The fetcher of a source.
pub(crate) enum Fetcher {
    /// Fetch requests of our own; librdkafka holds the membership only.
    Fast(FastFetcher),
    /// librdkafka does both.
    Librdkafka(LibrdkafkaFetcher),
}

impl Fetcher {
    pub(crate) fn kind(&self) -> FetcherKind {
        match self {
            Self::Fast(_) => FetcherKind::Fast,
            Self::Librdkafka(_) => FetcherKind::Librdkafka,
        }
    }

    /// Begins to fetch partitions from their positions. librdkafka does by taking them into its
    /// assignment.
    pub(crate) fn add(&mut self, assignments: &[Arc<Assignment>]) -> Result<(), ClientError> {
        match self {
            Self::Fast(fast) => {
                fast.add(assignments);
                Ok(())
            }
            Self::Librdkafka(librdkafka) => librdkafka.add(assignments),
        }
    }

    /// Fetches partitions no more. To take them out of a group's assignment is the caller's to do.
    pub(crate) fn remove(&mut self, assignments: &[Arc<Assignment>]) {
        match self {
            Self::Fast(fast) => fast.remove(assignments),
            Self::Librdkafka(librdkafka) => librdkafka.remove(assignments),
        }
    }

    /// Begins a generation of a partition that is held, in place of the one before.
    pub(crate) fn seek(
        &mut self,
        assignment: &Arc<Assignment>,
        generation: Generation,
    ) -> Result<(), ClientError> {
        match self {
            Self::Fast(fast) => {
                fast.seek(assignment, generation);
                Ok(())
            }
            Self::Librdkafka(librdkafka) => librdkafka.seek(assignment, generation),
        }
    }

    /// Fetches a partition no more that the route holds, until a generation of it begins.
    pub(crate) fn pause(&mut self, assignment: &Arc<Assignment>) -> Result<(), ClientError> {
        match self {
            // It leaves its broker's requests as soon as there is something of it.
            Self::Fast(_) => Ok(()),
            Self::Librdkafka(librdkafka) => librdkafka.pause(assignment),
        }
    }

    /// Ends. Nothing is handed out after it.
    pub(crate) fn stop(&mut self) {
        match self {
            Self::Fast(fast) => fast.stop(),
            Self::Librdkafka(librdkafka) => librdkafka.stop(),
        }
    }
}
