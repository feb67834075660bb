//! Decides if an answer that reports a truncated log is believed (KIP-595's diverging epoch).
//!
//! A leader answers so also if it merely has no note of the epoch in the request: its checkpoint
//! may lack one of which there are batches, and a replica that was built anew has none of an epoch
//! whose batches were all compacted away. It then names an end at or beyond our offset, or says
//! that the offset is out of range. Clients that tell no epoch read on without noticing, and so do
//! we: such a partition is asked for once more without the epoch, and the epochs of the batches
//! that come tell which it is.

use std::time::Instant;

use kafka_protocol::messages::fetch_response::EpochEndOffset;

use super::super::position::FetchPosition;
use super::answers::{PartitionError, PartitionFault};
use super::{FetchAnswer, FetchSession};
use crate::topic_partition::TopicPartition;

impl FetchPosition {
    /// Returns the offset at which the log was truncated, by a leader's answer; `None` if it cannot
    /// have been there.
    pub(super) fn truncated_at(&self, diverging: &EpochEndOffset) -> Option<i64> {
        // Its records up to this epoch end there, and ours may have ended before.
        let theirs = diverging.end_offset;
        let ours = self.assignment.epochs().end_of(diverging.epoch);
        let to = ours.map_or(theirs, |ours| theirs.min(ours));
        let is_truncated = theirs < self.offset && self.is_news(to);
        if is_truncated {
            self.assignment.epochs().told(to, diverging.epoch);
        }
        is_truncated.then_some(to)
    }

    /// The same by the epoch of the batch that the leader has at our offset, if its answer was
    /// doubted. Epochs rise with offsets: if it is lower than that of our last batch, our logs
    /// parted before.
    pub(super) fn truncated_before(&self, epoch: i32) -> Option<i64> {
        let parted = self.doubted >= 0
            && self.last_epoch == self.doubted
            && (0..self.last_epoch).contains(&epoch);
        let to = parted.then(|| self.assignment.epochs().end_of(epoch)).flatten()?;
        self.is_news(to).then_some(to)
    }

    fn is_news(&self, to: i64) -> bool {
        !zafka_planted::is("truncation-is-overlooked")
            && to < self.offset
            && !self.assignment.epochs().was_truncated(self.last_epoch, to)
    }
}

impl FetchSession {
    /// The epoch of the last batch, as the last request had it.
    pub(super) fn claimed(&self, key: &TopicPartition) -> i32 {
        let tracked =
            self.topics.get(&key.topic).and_then(|topic| topic.partitions.get(&key.partition));
        tracked.and_then(|tracked| tracked.requested).map_or(-1, |requested| requested.last_epoch)
    }

    /// Asks once more without telling the epoch.
    pub(super) fn doubt(&mut self, key: &TopicPartition, answer: &mut FetchAnswer, now: Instant) {
        let claimed = self.claimed(key);
        let Some(tracked) = self.partition(key) else { return };
        if claimed < 0 {
            // The request had none. At the pace of other answers that bring nothing.
            answer.errors.push(PartitionError::of(key, PartitionFault::NotTruncated));
            self.rest(key, now);
            return;
        }
        tracked.position.doubted = claimed;
        self.change(key);
    }
}
