//! Facts about a partition for its driver.

use super::Partition;
use super::verdict::Trouble;
use crate::produce::partitioner::Answers;

impl Partition {
    /// The broker that its requests go to.
    pub(in crate::produce) fn broker(&self) -> Option<i32> {
        self.leader.map(|leader| leader.broker)
    }

    /// The broker that has requests of it under way.
    pub(in crate::produce) fn held_at(&self) -> Option<i32> {
        self.at.filter(|_| self.in_flight > 0).map(|leader| leader.broker)
    }

    /// Returns true if anything has not been sent, or is to be sent again.
    pub(in crate::produce) fn has_unsent(&self) -> bool {
        self.open.is_some()
            || !self.closed.is_empty()
            || self.sealed.iter().any(|sealed| sealed.request.is_none())
    }

    /// Returns true if nothing is under way or waits.
    pub(in crate::produce) fn is_empty(&self) -> bool {
        self.open.is_none() && self.closed.is_empty() && self.sealed.is_empty()
    }

    /// Returns the reason why it is not written now, if something is wrong.
    pub(in crate::produce) fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref().filter(|_| !self.is_empty())
    }

    /// Returns the batch that records without a key would join, and whether its leader answers.
    pub(in crate::produce) fn filling(&self) -> (u64, Answers) {
        let answers = match (self.leader, self.failures) {
            (None, _) => Answers::NoLeader,
            (Some(_), 0) => Answers::Yes,
            (Some(_), _) => Answers::Failing,
        };
        (if self.open.is_some() { self.opened } else { self.opened + 1 }, answers)
    }
}
