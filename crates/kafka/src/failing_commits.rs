//! Commits that fail, by partition, until one succeeds or the partition is no longer this relay's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::assignment::Assignment;

/// Time for which they may fail before the source is not ready.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Failure {
    assignment: Arc<Assignment>,
    since: Instant,
    reason: String,
}

#[derive(Debug, Default)]
pub(crate) struct FailingCommits(Vec<Failure>);

impl FailingCommits {
    pub(crate) fn failed(&mut self, assignment: &Arc<Assignment>, reason: String, now: Instant) {
        self.0.retain(|failure| failure.assignment.may_commit());
        match self.0.iter_mut().find(|failure| Arc::ptr_eq(&failure.assignment, assignment)) {
            Some(failure) => failure.reason = reason,
            None => self.0.push(Failure { assignment: Arc::clone(assignment), since: now, reason }),
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
        let Failure { assignment, reason, .. } = self.0.iter().find(is_long)?;
        Some(format!(
            "commits of {assignment} have failed for over {} s: {reason}",
            PATIENCE.as_secs()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic_partition::TopicPartition;

    #[test]
    fn a_fault_only_once_it_lasts() {
        let [one, two] =
            [0, 1].map(|number| Assignment::new(TopicPartition::new("orders", number), 0, None));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut failing = FailingCommits::default();
        failing.failed(&one, "Busy".to_owned(), at(0));
        failing.failed(&two, "Busy".to_owned(), at(10));
        assert_eq!(failing.fault(at(29)), None);
        failing.failed(&one, "Not yours".to_owned(), at(29));
        let told = "commits of orders/0 have failed for over 30 s: Not yours";
        assert_eq!(failing.fault(at(30)).as_deref(), Some(told));
        failing.done(&one);
        assert_eq!(failing.fault(at(39)), None, "the other one is not as late");
        assert!(failing.fault(at(40)).is_some_and(|reason| reason.contains("orders/1")));
        two.set_gone();
        assert_eq!(failing.fault(at(40)), None, "it is another member's");
        failing.failed(&one, "Busy".to_owned(), at(50));
        assert_eq!(failing.fault(at(79)), None, "it begins again");
    }
}
