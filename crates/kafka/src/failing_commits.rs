//! Commits that fail, by partition, until one succeeds or the partition is no longer this relay's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;

use crate::assignment::Assignment;
use crate::reason::{Consequence, Reason};
use crate::topic_partition::TopicPartition;

/// Time for which they may fail before the source is not ready.
const PATIENCE: Duration = Duration::from_secs(30);

/// The reason why a position was not committed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}")]
pub(crate) struct CommitError {
    pub(crate) topic_partition: TopicPartition,
    /// The offset that was to be committed.
    pub(crate) offset: i64,
    pub(crate) code: RDKafkaErrorCode,
}

impl Reason for CommitError {
    /// Errors that say the group has moved on, or that the position can never be committed, are
    /// final.
    fn consequence(&self) -> Consequence {
        match self.code {
            RDKafkaErrorCode::UnknownMemberId
            | RDKafkaErrorCode::IllegalGeneration
            | RDKafkaErrorCode::FencedInstanceId
            | RDKafkaErrorCode::FencedMemberEpoch
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::OffsetMetadataTooLarge
            | RDKafkaErrorCode::Fatal => Consequence::Reject,
            _ => Consequence::Retry,
        }
    }
}

#[derive(Debug)]
struct Failure {
    assignment: Arc<Assignment>,
    since: Instant,
    error: CommitError,
}

#[derive(Debug, Default)]
pub(crate) struct FailingCommits(Vec<Failure>);

impl FailingCommits {
    pub(crate) fn failed(
        &mut self,
        assignment: &Arc<Assignment>,
        error: CommitError,
        now: Instant,
    ) {
        self.0.retain(|failure| failure.assignment.may_commit());
        match self.0.iter_mut().find(|failure| Arc::ptr_eq(&failure.assignment, assignment)) {
            Some(failure) => failure.error = error,
            None => self.0.push(Failure { assignment: Arc::clone(assignment), since: now, error }),
        }
    }

    pub(crate) fn done(&mut self, assignment: &Arc<Assignment>) {
        self.0.retain(|failure| !Arc::ptr_eq(&failure.assignment, assignment));
    }

    /// One that has failed for long.
    pub(crate) fn fault(&self, now: Instant) -> Option<String> {
        let is_long = |failure: &&Failure| {
            failure.assignment.may_commit()
                && now.saturating_duration_since(failure.since) >= PATIENCE
        };
        let Failure { assignment, error, .. } = self.0.iter().find(is_long)?;
        Some(format!(
            "commits of {assignment} have failed for over {} s: {error}",
            PATIENCE.as_secs()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(assignment: &Assignment, code: RDKafkaErrorCode) -> CommitError {
        CommitError { topic_partition: assignment.topic_partition.clone(), offset: 7, code }
    }

    #[test]
    fn what_the_group_refuses_for_good_is_not_tried_again() {
        let assignment = Assignment::new(TopicPartition::new("orders", 0), 0, None);
        for (code, consequence) in [
            (RDKafkaErrorCode::OperationTimedOut, Consequence::Retry),
            (RDKafkaErrorCode::RebalanceInProgress, Consequence::Retry),
            (RDKafkaErrorCode::CoordinatorLoadInProgress, Consequence::Retry),
            (RDKafkaErrorCode::UnknownMemberId, Consequence::Reject),
            (RDKafkaErrorCode::IllegalGeneration, Consequence::Reject),
            (RDKafkaErrorCode::TopicAuthorizationFailed, Consequence::Reject),
        ] {
            let error = error(&assignment, code);
            assert_eq!(error.consequence(), consequence, "{code}");
            assert_eq!(error.to_string(), code.to_string());
        }
    }

    #[test]
    fn a_fault_only_once_it_lasts() {
        let [one, two] =
            [0, 1].map(|number| Assignment::new(TopicPartition::new("orders", number), 0, None));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let busy = RDKafkaErrorCode::OperationTimedOut;
        let mut failing = FailingCommits::default();
        failing.failed(&one, error(&one, busy), at(0));
        failing.failed(&two, error(&two, busy), at(10));
        assert_eq!(failing.fault(at(29)), None);
        let not_yours = RDKafkaErrorCode::IllegalGeneration;
        failing.failed(&one, error(&one, not_yours), at(29));
        let told = format!("commits of orders/0 have failed for over 30 s: {not_yours}");
        assert_eq!(failing.fault(at(30)), Some(told));
        failing.done(&one);
        assert_eq!(failing.fault(at(39)), None, "the other one is not as late");
        assert!(failing.fault(at(40)).is_some_and(|reason| reason.contains("orders/1")));
        two.set_gone();
        assert_eq!(failing.fault(at(40)), None, "it is another member's");
        failing.failed(&one, error(&one, busy), at(50));
        assert_eq!(failing.fault(at(79)), None, "it begins again");
    }
}
