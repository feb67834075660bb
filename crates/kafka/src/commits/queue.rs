//! Positions that are to be committed, and those that are. Decides, and sends nothing.
//!
//! The newest position of each partition counts. None goes below the last one, unless the route
//! lets it. A final commit is answered once its positions are committed, given up or late.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;

use super::{CommitDone, CommitRequest};
use crate::assignment::Assignment;
use crate::backoff::Backoff;
use crate::failing_commits::CommitError;
use crate::reason::{Consequence, Reason};
use crate::topic_partition::TopicPartition;

/// Time between two tries.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));

/// A position to be committed now.
#[derive(Clone, Debug)]
pub(crate) struct DueCommit {
    pub(crate) assignment: Arc<Assignment>,
    pub(crate) offset: i64,
    /// Leader epoch of the record before it; -1 if it is not known.
    pub(crate) epoch: i32,
}

#[derive(Debug)]
struct FinalCommit {
    id: u64,
    assignments: Vec<Arc<Assignment>>,
    deadline: Instant,
}

/// Positions that are to be committed.
#[derive(Debug, Default)]
pub(crate) struct CommitQueue {
    positions: BTreeMap<TopicPartition, (Arc<Assignment>, i64)>,
    finals: Vec<FinalCommit>,
    /// Tries in a row after which something was left.
    failures: u32,
}

impl CommitQueue {
    /// Returns true if there is nothing to be committed.
    pub(crate) fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// The pause before the next try, unless a request comes.
    pub(crate) fn backoff(&self) -> Duration {
        BACKOFF.after(self.failures)
    }

    pub(crate) fn handle_request(&mut self, request: CommitRequest) {
        let (positions, last) = match request {
            CommitRequest::Commit(positions) => (positions, None),
            CommitRequest::AllowRewind(assignment) => {
                self.positions.retain(|_, (due, _)| !Arc::ptr_eq(due, &assignment));
                assignment.forget_committed();
                return;
            }
            CommitRequest::Final { id, positions, deadline } => (positions, Some((id, deadline))),
        };
        let mut assignments = Vec::new();
        for (assignment, offset) in positions {
            if assignment.may_commit()
                && assignment.committed().is_none_or(|committed| offset > committed)
            {
                assignments.push(Arc::clone(&assignment));
                let key = assignment.topic_partition.clone();
                self.positions.insert(key, (assignment, offset));
            }
        }
        if let Some((id, deadline)) = last {
            self.finals.push(FinalCommit { id, assignments, deadline });
        }
    }

    /// Returns what is to be committed now, in one request.
    pub(crate) fn poll_commit(&mut self) -> Vec<DueCommit> {
        self.positions.retain(|_, (assignment, _)| assignment.may_commit());
        let due = |(assignment, offset): &(Arc<Assignment>, i64)| DueCommit {
            assignment: Arc::clone(assignment),
            offset: *offset,
            epoch: assignment.epochs().before(*offset),
        };
        self.positions.values().map(due).collect()
    }

    /// Returns the time when the first of the final commits is late.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.finals.iter().map(|last| last.deadline).min()
    }

    /// Takes the outcome of what was to be committed, with an error for each that was not. Returns
    /// the errors.
    pub(crate) fn handle_outcomes(
        &mut self,
        outcomes: &[(DueCommit, Option<RDKafkaErrorCode>)],
    ) -> Vec<(Arc<Assignment>, CommitError)> {
        let mut errors = Vec::new();
        for (DueCommit { assignment, offset, .. }, code) in outcomes {
            let topic_partition = assignment.topic_partition.clone();
            let mut is_over = true;
            match code {
                None | Some(RDKafkaErrorCode::NoError) => assignment.set_committed(*offset),
                Some(code) => {
                    let (offset, code) = (*offset, *code);
                    let error =
                        CommitError { topic_partition: topic_partition.clone(), offset, code };
                    is_over = error.consequence() != Consequence::Retry;
                    errors.push((Arc::clone(assignment), error));
                }
            }
            if is_over {
                self.positions.remove(&topic_partition);
            }
        }
        self.failures = if self.positions.is_empty() { 0 } else { self.failures + 1 };
        errors
    }

    /// Returns the next final commit that is done or given up.
    pub(crate) fn poll_done(&mut self, now: Instant) -> Option<CommitDone> {
        let positions = &self.positions;
        let waits = |assignment: &Arc<Assignment>| {
            let due = positions.get(&assignment.topic_partition);
            due.is_some_and(|(due, _)| Arc::ptr_eq(due, assignment))
        };
        let is_done =
            |last: &FinalCommit| now >= last.deadline || !last.assignments.iter().any(waits);
        let at = self.finals.iter().position(is_done)?;
        Some(CommitDone { id: self.finals.remove(at).id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assignment(partition: i32) -> Arc<Assignment> {
        Assignment::new(TopicPartition::new("t", partition), 0, None)
    }

    fn due(queue: &mut CommitQueue) -> Vec<(i32, i64)> {
        let due = queue.poll_commit();
        due.iter().map(|due| (due.assignment.partition(), due.offset)).collect()
    }

    /// Everything that is due ends with this code.
    fn end(queue: &mut CommitQueue, code: Option<RDKafkaErrorCode>) -> usize {
        let outcomes: Vec<_> = queue.poll_commit().into_iter().map(|due| (due, code)).collect();
        queue.handle_outcomes(&outcomes).len()
    }

    const LOADING: Option<RDKafkaErrorCode> = Some(RDKafkaErrorCode::CoordinatorLoadInProgress);
    const GONE: Option<RDKafkaErrorCode> = Some(RDKafkaErrorCode::UnknownMemberId);

    #[test]
    fn the_newest_position_counts_and_none_goes_back() {
        let (a, mut queue) = (assignment(0), CommitQueue::default());
        let commit = |queue: &mut CommitQueue, offset| {
            queue.handle_request(CommitRequest::Commit(vec![(Arc::clone(&a), offset)]));
            due(queue)
        };
        assert_eq!(commit(&mut queue, 5), [(0, 5)]);
        assert_eq!(commit(&mut queue, 7), [(0, 7)]);
        assert_eq!(end(&mut queue, LOADING), 1);
        assert_eq!(commit(&mut queue, 9), [(0, 9)], "it is to be tried again");
        assert_eq!(end(&mut queue, None), 0);
        assert_eq!((commit(&mut queue, 8), a.committed()), (vec![], Some(9)));
        assert_eq!(commit(&mut queue, 10), [(0, 10)]);
        // What was to be committed before a rewind is not.
        queue.handle_request(CommitRequest::AllowRewind(Arc::clone(&a)));
        assert_eq!((due(&mut queue), a.committed()), (vec![], None));
        assert_eq!(commit(&mut queue, 3), [(0, 3)]);
        // Nor is one that is not this relay's any more, or that the group refuses.
        assert_eq!(end(&mut queue, GONE), 1);
        assert!(queue.is_empty() && a.committed().is_none());
        assert_eq!(commit(&mut queue, 4), [(0, 4)]);
        a.set_gone();
        assert_eq!(due(&mut queue), []);
    }

    #[test]
    fn a_final_commit_is_answered_once() {
        let (a, b) = (assignment(0), assignment(1));
        let now = Instant::now();
        let deadline = now + Duration::from_secs(5);
        let mut queue = CommitQueue::default();
        let last = |id, of: &[&Arc<Assignment>]| {
            let positions = of.iter().map(|of| (Arc::clone(of), 5)).collect();
            CommitRequest::Final { id, positions, deadline }
        };
        let done = |queue: &mut CommitQueue, now| queue.poll_done(now).map(|done| done.id);
        queue.handle_request(last(1, &[&a, &b]));
        queue.handle_request(last(2, &[]));
        assert_eq!(done(&mut queue, now), Some(2), "there is nothing to be committed");
        assert_eq!((done(&mut queue, now), queue.deadline()), (None, Some(deadline)));
        end(&mut queue, LOADING);
        assert_eq!(done(&mut queue, now), None);
        end(&mut queue, None);
        assert_eq!((done(&mut queue, now), done(&mut queue, now)), (Some(1), None));
        // It is committed already.
        queue.handle_request(last(3, &[&a]));
        assert_eq!(done(&mut queue, now), Some(3));
        a.forget_committed();
        queue.handle_request(last(4, &[&a]));
        assert_eq!(done(&mut queue, deadline - Duration::from_millis(1)), None);
        assert_eq!(done(&mut queue, deadline), Some(4), "it is late");
        // Another assignment of the partition has taken its place.
        let again = assignment(0);
        queue.handle_request(last(5, &[&a]));
        queue.handle_request(CommitRequest::Commit(vec![(again, 6)]));
        assert_eq!(done(&mut queue, now), Some(5));
    }

    #[test]
    fn it_waits_longer_after_each_failure() {
        let (a, mut queue) = (assignment(0), CommitQueue::default());
        queue.handle_request(CommitRequest::Commit(vec![(Arc::clone(&a), 5)]));
        let pauses = (0..6).map(|_| {
            end(&mut queue, LOADING);
            queue.backoff().as_millis()
        });
        assert_eq!(pauses.collect::<Vec<_>>(), [200, 400, 800, 1600, 2000, 2000]);
        end(&mut queue, None);
        assert_eq!(queue.backoff(), BACKOFF.first);
    }
}
