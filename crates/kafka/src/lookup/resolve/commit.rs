//! Commits the start offsets that were found.

use std::collections::HashMap;

use rdkafka::{Offset, TopicPartitionList};

use super::super::plan::smaller;
use super::super::{Lookup, LookupError, LookupStep, Resolution, StartPosition, WAIT};
use super::FoundStart;
use crate::native;
use crate::topic_partition::TopicPartition;

/// Partitions of one commit. A broker takes as many as fit one batch of its offsets topic, a
/// megabyte by default.
const COMMITTED_AT_ONCE: usize = 2000;

impl Lookup {
    /// Commits where this member's partitions begin, and where others do. Gives its own that are
    /// committed.
    pub(super) fn commit(
        &mut self,
        own: Vec<FoundStart>,
        others: &[(TopicPartition, i64)],
        resolution: &mut Resolution,
    ) -> Vec<FoundStart> {
        let own_starts = own.iter().map(|found| (&found.query.topic_partition, found.start));
        let starts: Vec<(&TopicPartition, i64)> =
            own_starts.chain(others.iter().map(|(partition, start)| (partition, *start))).collect();
        let mut refused = HashMap::new();
        for starts in starts.chunks(COMMITTED_AT_ONCE) {
            self.commit_at_once(starts, &mut refused);
        }
        for (partition, _) in others {
            self.found.remove(partition);
        }
        let mut committed = Vec::with_capacity(own.len());
        for found in own {
            match refused.remove(&found.query.topic_partition) {
                Some(reason) => {
                    resolution.leave_unresolved(found.query, LookupStep::Commit, reason)
                }
                None => {
                    self.found.remove(&found.query.topic_partition);
                    committed.push(found);
                }
            }
        }
        committed
    }

    fn commit_at_once(
        &self,
        starts: &[(&TopicPartition, i64)],
        refused: &mut HashMap<TopicPartition, LookupError>,
    ) {
        let mut list = TopicPartitionList::with_capacity(starts.len());
        for (partition, start) in starts {
            if let Err(error) = list.add_partition_offset(
                &partition.topic,
                partition.partition,
                Offset::Offset(*start),
            ) {
                refused.insert((*partition).clone(), error.into());
            }
        }
        match native::commit(&self.client, &list, WAIT) {
            Ok(failed) => {
                let failed = failed.into_iter();
                refused.extend(failed.map(|(partition, code)| (partition, code.into())));
            }
            Err(code) => {
                let starts = starts.iter();
                refused.extend(starts.map(|(partition, _)| ((*partition).clone(), code.into())));
            }
        }
    }

    /// Two members may have begun a topic at once, each for the other too: reads back what stands
    /// there. If the other one was later, and greater, this member's own is committed again.
    pub(super) fn begin_at_the_smaller(
        &mut self,
        own: Vec<FoundStart>,
        resolution: &mut Resolution,
    ) {
        let mut stands =
            self.committed_offsets(own.iter().map(|found| &found.query.topic_partition));
        let mut again = Vec::new();
        for mut found in own {
            match stands.take(&found.query.topic_partition) {
                Ok(stands) => {
                    found.start = smaller(found.start, stands.map(|(offset, _)| offset));
                    match stands {
                        Some((offset, _)) if offset == found.start => {
                            resolution.resolved.push(StartPosition::committed(found));
                        }
                        _ => again.push(found),
                    }
                }
                Err(reason) => {
                    resolution.leave_unresolved(found.query, LookupStep::Committed, reason)
                }
            }
        }
        let committed = self.commit(again, &[], resolution);
        resolution.resolved.extend(committed.into_iter().map(StartPosition::committed));
    }
}
