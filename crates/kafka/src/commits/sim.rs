//! The commits of a session without their thread, for a simulation that plays the coordinator. Not
//! for anybody else.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use rdkafka::error::RDKafkaErrorCode;

use super::CommitRequest;
use super::queue::{CommitQueue, DueCommit};
use crate::assignment::{Assignment, Positions};

/// The commits of a session.
#[derive(Debug, Default)]
pub struct SimCommits {
    queue: CommitQueue,
    /// Requests that the thread has not taken: it waits for the coordinator meanwhile.
    inbox: VecDeque<CommitRequest>,
    under_way: Option<Vec<DueCommit>>,
    retry_at: Option<Instant>,
}

/// The outcome of a position that was to be committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitOutcome {
    /// The coordinator has it.
    Done,
    /// The coordinator does not take it now.
    Later,
    /// The coordinator does not take it from this member.
    Refused,
}

/// A position to be committed: the assignment, the offset, and the leader epoch of the record
/// before it.
pub type SimCommit = (Arc<Assignment>, i64, i32);

impl SimCommits {
    /// The membership has positions committed.
    pub fn commit(&mut self, positions: Positions) {
        self.inbox.push_back(CommitRequest::Commit(positions));
    }

    /// Commits of an assignment may be lower than before.
    pub fn allow_rewind(&mut self, assignment: Arc<Assignment>) {
        self.inbox.push_back(CommitRequest::AllowRewind(assignment));
    }

    /// The membership has positions committed for the last time.
    pub fn commit_last(&mut self, id: u64, positions: Positions, deadline: Instant) {
        self.inbox.push_back(CommitRequest::Final { id, positions, deadline });
    }

    /// Returns true if commits of an assignment may be lower, and the thread has not heard.
    pub fn is_rewinding(&self, assignment: &Arc<Assignment>) -> bool {
        self.inbox.iter().any(|request| {
            matches!(request, CommitRequest::AllowRewind(of) if Arc::ptr_eq(of, assignment))
        })
    }

    /// Does what the thread does unless it waits for an answer. Returns the positions of the next
    /// request, if one is to be sent.
    pub fn turn(&mut self, now: Instant) -> Option<Vec<SimCommit>> {
        let is_due = !self.inbox.is_empty() || self.retry_at.is_some_and(|at| now >= at);
        if self.under_way.is_some() || !is_due {
            return None;
        }
        self.retry_at = None;
        while let Some(request) = self.inbox.pop_front() {
            self.queue.handle_request(request);
        }
        let due = self.queue.poll_commit();
        if due.is_empty() {
            return None;
        }
        let told = due.iter().map(|due| (Arc::clone(&due.assignment), due.offset, due.epoch));
        let told = told.collect();
        self.under_way = Some(due);
        Some(told)
    }

    /// Takes the answer: the outcome of each position, in their order.
    pub fn handle_answer(&mut self, outcomes: &[CommitOutcome], now: Instant) {
        let codes = outcomes.iter().map(|outcome| match outcome {
            CommitOutcome::Done => None,
            CommitOutcome::Later => Some(RDKafkaErrorCode::CoordinatorLoadInProgress),
            CommitOutcome::Refused => Some(RDKafkaErrorCode::UnknownMemberId),
        });
        let due = self.under_way.take().unwrap_or_default();
        let outcomes: Vec<_> = due.into_iter().zip(codes).collect();
        self.queue.handle_outcomes(&outcomes);
        if !self.queue.is_empty() {
            self.retry_at = Some(now + self.queue.backoff());
        }
    }

    /// Returns the id of the next final commit that is done or given up.
    pub fn poll_done(&mut self, now: Instant) -> Option<u64> {
        if self.under_way.is_some() {
            return None;
        }
        self.queue.poll_done(now).map(|done| done.id)
    }

    /// Returns when something is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.under_way.is_some() { None } else { self.retry_at }
    }
}
