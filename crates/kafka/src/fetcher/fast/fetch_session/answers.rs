//! Reads an answer, partition by partition.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use kafka_protocol::ResponseError as Code;
use kafka_protocol::messages::FetchResponse;
use kafka_protocol::messages::fetch_response::PartitionData;

use super::super::position::{FetchPosition, ReturnReason};
use super::{FetchSession, PARTITION_BYTES_MAX};
use crate::assignment::Assignment;
use crate::config::Isolation;
use crate::ends::Ends;
use crate::generation::Generation;
use crate::records::{Aborted, BatchError, after_broken, outline};
use crate::reset::DueOffset;
use crate::topic_partition::TopicPartition;

/// A partition's part of an answer.
pub(crate) struct FetchedPartition {
    pub(crate) assignment: Arc<Assignment>,
    pub(crate) generation: Generation,
    /// The first offset wanted.
    pub(crate) from: i64,
    /// None: the partition stands at `from`.
    pub(crate) records: Bytes,
    /// Aborted transactions, under read_committed.
    pub(crate) aborted: Option<Vec<Aborted>>,
}

/// The content of an answer.
#[derive(Default)]
pub(crate) struct FetchAnswer {
    pub(crate) partitions: Vec<FetchedPartition>,
    /// Partitions that are not fetched here any more.
    pub(crate) removed: Vec<(FetchPosition, ReturnReason)>,
    /// Errors to be reported.
    pub(crate) errors: Vec<PartitionError>,
    /// Batches that cannot be read.
    pub(crate) corrupt: Vec<RejectedBatch>,
    /// Bytes of records.
    pub(crate) bytes: usize,
}

/// An error of one partition in an answer. It is asked for again after a rest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{topic_partition}: {fault}")]
pub(crate) struct PartitionError {
    topic_partition: TopicPartition,
    fault: PartitionFault,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PartitionFault {
    #[error("{0}")]
    Refused(Code),
    #[error("the broker reports a truncated log for no reason")]
    NotTruncated,
    #[error("no whole batch in {bytes} bytes")]
    NoWholeBatch { bytes: usize },
    #[error("no record at or after offset {offset} in the answer")]
    NothingNew { offset: i64 },
}

impl PartitionError {
    pub(super) fn of(topic_partition: &TopicPartition, fault: PartitionFault) -> Self {
        Self { topic_partition: topic_partition.clone(), fault }
    }
}

/// A batch that cannot be read.
pub(crate) struct RejectedBatch {
    pub(crate) due: DueOffset,
    /// The offset at which the log continues behind it, if that is known.
    pub(crate) to: Option<i64>,
    pub(crate) error: BatchError,
    /// Answers in a row that brought nothing, this one included.
    pub(crate) failures: u32,
}

impl FetchSession {
    /// Takes an answer to the last request.
    ///
    /// # Errors
    /// If it is an error of the whole request; the next one begins a new session.
    pub(crate) fn answer(
        &mut self,
        response: FetchResponse,
        now: Instant,
    ) -> Result<FetchAnswer, Code> {
        if let Some(code) = Code::try_from_code(response.error_code) {
            // One that was to begin a session is of no other than this connection.
            let began = self.session.epoch == 0;
            self.session = self.session.anew();
            return match code {
                Code::FetchSessionIdNotFound
                | Code::InvalidFetchSessionEpoch
                | Code::FetchSessionTopicIdError
                    if !began =>
                {
                    Ok(FetchAnswer::default())
                }
                code => Err(code),
            };
        }
        self.session.id = response.session_id;
        self.session.epoch = match response.session_id {
            // The broker keeps none, as yet.
            0 => 0,
            _ => self.session.epoch.checked_add(1).unwrap_or(1),
        };
        let mut answer = FetchAnswer::default();
        for topic in response.responses {
            let name = if self.session.by_id {
                self.ids.get(&topic.topic_id).cloned()
            } else {
                self.topics.get_key_value(topic.topic.0.as_str()).map(|(name, _)| Arc::clone(name))
            };
            let Some(name) = name else { continue };
            for data in topic.partitions {
                self.handle_partition(
                    &TopicPartition::new(Arc::clone(&name), data.partition_index),
                    data,
                    &mut answer,
                    now,
                );
            }
        }
        Ok(answer)
    }

    fn handle_partition(
        &mut self,
        key: &TopicPartition,
        data: PartitionData,
        answer: &mut FetchAnswer,
        now: Instant,
    ) {
        let (isolation, sizes) = (self.options.isolation, self.sizes);
        let Some(tracked) = self.partition(key) else { return };
        if !tracked.position.assignment.is_wanted() {
            // It is being revoked: its records are dropped.
            drop(self.take_out(key, None));
            return;
        }
        // An answer to what is no longer asked.
        let is_late =
            tracked.requested.is_none_or(|requested| requested.offset != tracked.position.offset);
        if is_late && !zafka_planted::is("late-answer-is-taken") {
            return;
        }
        if let Some(code) = Code::try_from_code(data.error_code) {
            return self.failed(key, code, &data, answer, now);
        }
        if tracked.position.offset != tracked.failed_at {
            tracked.failures = 0;
        }
        if data.diverging_epoch.end_offset >= 0 {
            return match tracked.position.truncated_at(&data.diverging_epoch) {
                Some(to) => self.leave(key, ReturnReason::Diverged(to), answer),
                None => self.doubt(key, answer, now),
            };
        }
        if data.preferred_read_replica.0 >= 0 {
            return self.leave(
                key,
                ReturnReason::PreferredReplica(data.preferred_read_replica.0),
                answer,
            );
        }
        let last_stable =
            if isolation == Isolation::ReadCommitted { data.last_stable_offset } else { -1 };
        tracked.position.assignment.set_ends(Ends::new(data.high_watermark, last_stable));
        let (from, generation) = (tracked.position.offset, tracked.position.generation);
        let repositioned = std::mem::take(&mut tracked.position.repositioned);
        let Some(records) = data.records.filter(|records| !records.is_empty()) else {
            if repositioned {
                // There may be no record for long: the route is to learn the position now.
                let assignment = Arc::clone(&tracked.position.assignment);
                let records = Bytes::new();
                answer.partitions.push(FetchedPartition {
                    assignment,
                    generation,
                    from,
                    records,
                    aborted: None,
                });
            }
            return;
        };
        let outline = outline(&records);
        let Some(next) = outline.next_offset.filter(|next| *next > from) else {
            if let Some(error) = outline.error {
                let due = tracked.position.due();
                let to = after_broken(&records, from, data.high_watermark);
                let failures = self.rest(key, now);
                return answer.corrupt.push(RejectedBatch { due, to, error, failures });
            }
            if outline.whole_bytes == 0 {
                // Not one whole batch: ask for more, up to the most.
                if tracked.wanted_state(sizes).max_bytes < PARTITION_BYTES_MAX {
                    tracked.doubled += 1;
                    return self.change(key);
                }
                let fault = PartitionFault::NoWholeBatch { bytes: records.len() };
                answer.errors.push(PartitionError::of(key, fault));
                self.rest(key, now);
                return;
            }
            let fault = PartitionFault::NothingNew { offset: from };
            answer.errors.push(PartitionError::of(key, fault));
            self.rest(key, now);
            return;
        };
        if let Some(to) =
            outline.epochs.first().and_then(|(_, epoch)| tracked.position.truncated_before(*epoch))
        {
            return self.leave(key, ReturnReason::Diverged(to), answer);
        }
        tracked.position.offset = next;
        for (offset, epoch) in outline.epochs {
            tracked.position.assignment.epochs().note(offset, next, epoch);
            tracked.position.last_epoch = epoch;
        }
        tracked.doubled = 0;
        let aborted = match isolation {
            Isolation::ReadUncommitted => None,
            Isolation::ReadCommitted => {
                let aborted = data.aborted_transactions.unwrap_or_default();
                let aborted = aborted.into_iter().map(|transaction| Aborted {
                    producer_id: transaction.producer_id.0,
                    first_offset: transaction.first_offset,
                });
                Some(aborted.collect())
            }
        };
        let assignment = Arc::clone(&tracked.position.assignment);
        answer.bytes += records.len();
        answer.partitions.push(FetchedPartition { assignment, generation, from, records, aborted });
        self.change(key);
    }

    fn failed(
        &mut self,
        key: &TopicPartition,
        code: Code,
        data: &PartitionData,
        answer: &mut FetchAnswer,
        now: Instant,
    ) {
        match code {
            // It may be the epoch that it does not know.
            Code::OffsetOutOfRange if self.claimed(key) >= 0 => self.doubt(key, answer, now),
            Code::OffsetOutOfRange => self.leave(key, ReturnReason::OutOfRange, answer),
            Code::UnknownTopicOrPartition
            | Code::LeaderNotAvailable
            | Code::NotLeaderOrFollower
            | Code::ReplicaNotAvailable
            | Code::KafkaStorageError
            | Code::FencedLeaderEpoch
            | Code::UnknownLeaderEpoch
            | Code::OffsetNotAvailable
            | Code::UnknownTopicId
            | Code::InconsistentTopicId => {
                let leader = &data.current_leader;
                let leader =
                    (leader.leader_id.0 >= 0).then_some((leader.leader_id.0, leader.leader_epoch));
                self.leave(key, ReturnReason::NotLeader { error: code, leader }, answer);
            }
            _ => {
                answer.errors.push(PartitionError::of(key, PartitionFault::Refused(code)));
                let _ = self.rest(key, now);
            }
        }
    }

    pub(super) fn leave(
        &mut self,
        key: &TopicPartition,
        why: ReturnReason,
        answer: &mut FetchAnswer,
    ) {
        if let Some(tracked) = self.take_out(key, None) {
            answer.removed.push((tracked.position, why));
        }
    }
}
