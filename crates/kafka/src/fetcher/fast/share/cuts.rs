//! Whether an answer that speaks of a cut log is believed (KIP-595's diverging epoch).
//!
//! A leader answers so also where it merely has no note of the epoch that was told: its checkpoint
//! may lack one of which there are batches, and a replica that was built anew has none of an epoch
//! whose batches were all compacted away. It then names an end at or beyond our offset, or says
//! that the offset is out of range. Clients that tell no epoch read on without noticing, and so do
//! we: such a partition is asked for once more without the epoch, and the epochs of the
//! batches that come tell which it is.

use std::time::Instant;

use kafka_protocol::messages::fetch_response::EpochEndOffset;

use super::super::position::{Key, Position};
use super::{Answer, Share};

impl Position {
    /// Where the log was cut, by a leader's answer; `None` where it is none that it can have been.
    pub(super) fn cut_at(&self, diverging: &EpochEndOffset) -> Option<i64> {
        // Its records up to this epoch end there, and ours may have ended before.
        let theirs = diverging.end_offset;
        let ours = self.assignment.epochs().end_of(diverging.epoch);
        let to = ours.map_or(theirs, |ours| theirs.min(ours));
        (theirs < self.offset && self.is_news(to)).then_some(to)
    }

    /// The same by the epoch of the batch that the leader has at our offset, where what it said was
    /// doubted. Epochs rise with offsets: where it is lower than that of our last batch, our
    /// logs parted before.
    pub(super) fn cut_before(&self, epoch: i32) -> Option<i64> {
        let parted = self.doubted >= 0
            && self.last_epoch == self.doubted
            && (0..self.last_epoch).contains(&epoch);
        let to = parted.then(|| self.assignment.epochs().end_of(epoch)).flatten()?;
        self.is_news(to).then_some(to)
    }

    fn is_news(&self, to: i64) -> bool {
        to < self.offset && !self.assignment.epochs().was_cut(self.last_epoch, to)
    }
}

impl Share {
    /// The epoch that was told of the last batch.
    pub(super) fn claimed(&self, key: &Key) -> i32 {
        let member = self.topics.get(&key.0).and_then(|topic| topic.members.get(&key.1));
        member.and_then(|member| member.told).map_or(-1, |told| told.last_epoch)
    }

    /// Asks once more without telling the epoch.
    pub(super) fn doubt(&mut self, key: &Key, answer: &mut Answer, now: Instant) {
        let claimed = self.claimed(key);
        let Some(member) = self.member(key) else { return };
        if claimed < 0 {
            // It was told none. At the pace of other answers that are of no use.
            answer
                .errors
                .push(format!("{}/{}: the broker tells of a cut log for no reason", key.0, key.1));
            self.rest(key, now);
            return;
        }
        member.position.doubted = claimed;
        self.change(key);
    }
}
