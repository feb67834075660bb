//! Partitions that the group takes away, and partitions that are given back to it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::warn;

use super::{Action, Partitions, PendingAssignment};
use crate::assignment::{Assignment, Positions};
use crate::client::Rebalance;
use crate::commits::{CommitDone, CommitRequest};
use crate::exchange::SourceEvent;
use crate::topic_partition::TopicPartition;

/// Wait for the route's answer after its own `revoke_timeout`.
const REVOKE_SLACK: Duration = Duration::from_secs(1);
/// Longest time for the commit of revoked partitions.
const REVOKE_COMMIT: Duration = Duration::from_secs(5);

/// Partitions that are given back once they are drained and committed.
#[derive(Debug)]
pub(super) struct Revoking {
    id: u64,
    assignments: Vec<Arc<Assignment>>,
    pub(super) deadline: Instant,
    is_committing: bool,
}

impl Partitions<'_> {
    /// Takes a rebalance of the group.
    pub(in super::super) fn handle_rebalance(&mut self, rebalance: Rebalance, now: Instant) {
        self.memory.health.rebalances += 1;
        match rebalance {
            // What is assigned is being given back, and goes with the client.
            Rebalance::Assign(_) | Rebalance::Revoke(_) if self.is_leaving => {
                self.decline(&rebalance);
            }
            Rebalance::Assign(partitions) => self.assign(partitions, now),
            Rebalance::Revoke(partitions) => self.revoke(&partitions, now),
            Rebalance::Lost(partitions) => self.lost(&partitions),
        }
        self.is_changed = true;
    }

    /// Takes nothing of what the group assigns. What it takes away goes with the client.
    pub(in super::super) fn decline(&mut self, rebalance: &Rebalance) {
        if matches!(rebalance, Rebalance::Assign(_)) {
            self.actions.push_back(Action::AssignNothing);
        }
    }

    /// A final commit is done, or given up.
    pub(in super::super) fn handle_commit(&mut self, done: &CommitDone) {
        self.release(done.id);
    }

    /// The group revokes partitions: they go once they are drained and committed, or after the
    /// route's time.
    fn revoke(&mut self, partitions: &[TopicPartition], now: Instant) {
        let assignments = self.among(partitions);
        for assignment in &assignments {
            assignment.set_revoking();
        }
        let id = self.memory.next_id();
        let deadline = now + self.settings.revoke_timeout + REVOKE_SLACK;
        let is_empty = assignments.is_empty();
        let revoked = assignments.clone();
        self.revoking.push(Revoking { id, assignments, deadline, is_committing: false });
        if is_empty {
            self.release(id);
        } else {
            self.actions.push_back(Action::Revoke { id, assignments: revoked });
        }
    }

    /// Those of `partitions` that are fetched. The lookup of the others is canceled.
    fn among(&mut self, partitions: &[TopicPartition]) -> Vec<Arc<Assignment>> {
        for pending in self.pending.values_mut() {
            partitions.iter().for_each(|partition| pending.forget(partition));
        }
        self.pending.retain(|_, pending| !pending.is_empty());
        partitions.iter().filter_map(|partition| self.assignments.get(partition).cloned()).collect()
    }

    pub(super) fn drained(&mut self, id: u64, positions: Positions, now: Instant) {
        let mut revoking = self.revoking.iter_mut();
        let Some(revoking) = revoking.find(|revoking| revoking.id == id && !revoking.is_committing)
        else {
            return;
        };
        revoking.is_committing = true;
        revoking.deadline = now + REVOKE_COMMIT;
        let request = CommitRequest::Final { id, positions, deadline: revoking.deadline };
        self.commit(request);
    }

    /// Gives back what was not drained and committed in time.
    pub(super) fn release_late(&mut self, now: Instant) {
        let late = self.revoking.iter().filter(|revoking| now >= revoking.deadline);
        let late: Vec<u64> = late.map(|revoking| revoking.id).collect();
        for id in late {
            warn!(
                route = self.settings.route,
                "revoked partitions were not drained and committed in time"
            );
            self.release(id);
        }
    }

    fn release(&mut self, id: u64) {
        let Some(index) = self.revoking.iter().position(|revoking| revoking.id == id) else {
            return;
        };
        let revoking = self.revoking.swap_remove(index);
        self.remove(revoking.assignments);
        self.is_changed = true;
    }

    /// Lets go of partitions. The group waits for this answer also if none of them was fetched.
    fn remove(&mut self, assignments: Vec<Arc<Assignment>>) {
        for assignment in &assignments {
            assignment.set_gone();
            self.assignments.remove(&assignment.topic_partition);
        }
        let assigned = &self.assignments;
        self.topic_ids.retain(|topic| assigned.keys().any(|other| *other.topic == *topic));
        self.actions.push_back(Action::Remove(assignments));
    }

    /// Partitions are gone: nothing more is committed for them.
    pub(super) fn lost(&mut self, partitions: &[TopicPartition]) {
        let lost = self.among(partitions);
        self.revoking.retain_mut(|revoking| {
            revoking
                .assignments
                .retain(|assignment| !partitions.contains(&assignment.topic_partition));
            !revoking.assignments.is_empty()
        });
        self.remove(lost.clone());
        if self.settings.in_group {
            for assignment in &lost {
                let Some(committed) = assignment.committed() else { continue };
                let kept = (committed, assignment.topic_id());
                self.memory.committed.insert(assignment.topic_partition.clone(), kept);
            }
            self.await_assignment();
        }
        if !lost.is_empty() {
            self.actions.push_back(Action::Publish(SourceEvent::Lost(lost)));
        }
    }

    /// Everything is gone, with the client.
    pub(in super::super) fn all_lost(&mut self) {
        self.pending.clear();
        let all: Vec<TopicPartition> = self.assignments.keys().cloned().collect();
        if !all.is_empty() {
            self.lost(&all);
        }
        self.is_changed = true;
    }

    /// Gives everything back in order, though the group has not asked for it. What was delivered
    /// is committed.
    pub(in super::super) fn leave(&mut self, now: Instant) {
        (self.is_leaving, self.is_assigned, self.is_changed) = (true, false, true);
        self.drop_pending();
        let is_revoking = |partition: &&TopicPartition| {
            let mut revoking = self.revoking.iter().flat_map(|revoking| &revoking.assignments);
            revoking.any(|assignment| assignment.topic_partition == **partition)
        };
        let rest = self.assignments.keys().filter(|partition| !is_revoking(partition));
        let rest: Vec<TopicPartition> = rest.cloned().collect();
        if !rest.is_empty() {
            self.revoke(&rest, now);
        }
    }

    pub(in super::super) fn is_leaving(&self) -> bool {
        self.is_leaving
    }

    /// Returns true if everything is given back that was to be.
    pub(in super::super) fn has_left(&self) -> bool {
        self.is_leaving && self.revoking.is_empty()
    }

    /// Forgets everything, before the client is closed: an assignment or a revocation without its
    /// answer would keep it from that.
    pub(in super::super) fn end(&mut self) {
        self.drop_pending();
        let all: Vec<_> = std::mem::take(&mut self.assignments).into_values().collect();
        for assignment in &all {
            assignment.set_gone();
        }
        self.actions.push_back(Action::Remove(all));
        self.is_changed = true;
    }

    fn drop_pending(&mut self) {
        let is_unanswered = |pending: &PendingAssignment| !pending.is_answered();
        let is_owed = self.settings.in_group && self.pending.values().any(is_unanswered);
        self.pending.clear();
        if is_owed {
            self.actions.push_back(Action::AssignNothing);
        }
    }
}
