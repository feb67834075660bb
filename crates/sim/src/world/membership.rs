//! The group and its coordinator, and how a relay's membership follows them.

use std::sync::Arc;
use std::time::Duration;

use zafka_kafka::SourceEvent;
use zafka_kafka::sim::{self, Position};

use super::{Event, Process, Why, World};
use crate::cluster::Partition;
use crate::group::Committed;
use crate::relay::{Held, Place, Revoked};

/// Longest wait for the route's answer to a revocation, after the route's own time.
const REVOKE_WAIT: Duration = Duration::from_secs(6);

impl World {
    /// Gives a free partition to a relay, which looks up its start.
    pub(super) fn give(&mut self, partition: &Partition) {
        if self.group.owners.get(partition).is_none_or(Option::is_some) {
            return;
        }
        let next = self.group.next.remove(partition);
        let any = self.random.below(self.relays.len() as u64) as usize;
        let number = next.unwrap_or(any);
        let process = (number, self.relays[number].life);
        self.group.owners.insert(partition.clone(), Some(number));
        self.after(1, 60, Event::Assign(process, partition.clone()));
    }

    /// The start of a partition is found: it is held, and its records come.
    pub(super) fn assign(&mut self, process: Process, partition: &Partition) {
        let committed = self.group.committed.get(partition).copied();
        let Some(log) = self.cluster.logs.get(partition) else { return };
        let (earliest, branch, topic_id) = (log.start, log.branch, log.topic_id);
        if self.group.owners.get(partition) != Some(&Some(process.0)) {
            return;
        }
        let Some(relay) = self.relay(process) else { return };
        if relay.held.contains_key(partition) {
            return;
        }
        let start = committed.map_or(earliest, |committed| committed.offset);
        let epoch = committed.map_or(-1, |committed| committed.epoch);
        let of_group = committed.map(|committed| committed.offset);
        let assignment = sim::assignment(&partition.0, partition.1, start, of_group, epoch);
        let place = Place::Waiting(Position::of(&assignment));
        relay.events.push_back(SourceEvent::Assigned(vec![Arc::clone(&assignment)]));
        relay.held.insert(partition.clone(), Held { assignment, place, branch, topic_id });
        self.tell(|| format!("{process:?} has {partition:?} from {start}"));
        self.wake(process);
        self.after(0, 30, Event::Place(process, partition.clone()));
    }

    /// The group wants partitions back from a relay.
    pub(super) fn revoke(&mut self, process: Process, partitions: Vec<Partition>) {
        let deadline = self.clock.instant() + REVOKE_WAIT;
        for partition in &partitions {
            self.unfetch(process, partition);
        }
        let Some(relay) = self.relay(process) else { return };
        let held: Vec<_> = partitions
            .iter()
            .filter_map(|partition| relay.held.get(partition))
            .map(|held| Arc::clone(&held.assignment))
            .collect();
        held.iter().for_each(|assignment| sim::set_revoking(assignment));
        let (done, drained) = sim::revoke_done();
        relay.events.push_back(SourceEvent::Revoked { assignments: held, done });
        relay.revoked.push(Revoked { partitions, drained, deadline });
        self.wake(process);
    }

    /// Partitions that are drained are committed for the last time, and go.
    pub(super) fn look_at_revoked(&mut self, process: Process) {
        let now = self.clock.instant();
        let Some(relay) = self.relay(process) else { return };
        let mut commits = Vec::new();
        let mut over = Vec::new();
        for revoked in &mut relay.revoked {
            if let Some(positions) = revoked.drained.take() {
                commits.extend(positions);
            }
        }
        let has_commits = !commits.is_empty();
        relay.commit(commits);
        let due = &relay.commits;
        relay.revoked.retain(|revoked| {
            let is_done = revoked.drained.is_done()
                && !revoked.partitions.iter().any(|partition| due.contains_key(partition));
            if is_done || now >= revoked.deadline {
                over.extend(revoked.partitions.iter().cloned());
                return false;
            }
            true
        });
        let waits = !relay.revoked.is_empty();
        for partition in over {
            self.let_go(process, &partition);
        }
        if has_commits {
            self.commit_later(process);
        }
        if waits {
            self.plan(process, now + Duration::from_millis(50));
        }
    }

    /// A partition is free, and is given to another one.
    pub(super) fn let_go(&mut self, process: Process, partition: &Partition) {
        self.unfetch(process, partition);
        let Some(relay) = self.relay(process) else { return };
        let serial = relay.serial;
        relay.commits.remove(partition);
        if let Some(held) = relay.held.remove(partition) {
            sim::set_gone(&held.assignment);
        }
        self.judge.borrow_mut().released(serial, partition);
        self.group.owners.insert(partition.clone(), None);
        self.after(1, 500, Event::Give(partition.clone()));
    }

    /// Partitions are lost: another relay may have them already.
    pub(super) fn lose(&mut self, process: Process, partitions: &[Partition]) {
        let Some(relay) = self.relay(process) else { return };
        let lost: Vec<_> = partitions
            .iter()
            .filter_map(|partition| relay.held.get(partition))
            .map(|held| Arc::clone(&held.assignment))
            .collect();
        for revoked in &mut relay.revoked {
            revoked.partitions.retain(|partition| !partitions.contains(partition));
        }
        relay.events.push_back(SourceEvent::Lost(lost));
        for partition in partitions {
            self.let_go(process, partition);
        }
        self.wake(process);
    }

    /// Another offset was found for a partition.
    pub(super) fn reset(
        &mut self,
        process: Process,
        partition: &Partition,
        generation: u32,
        to: Option<i64>,
        why: Why,
    ) {
        let Some(log) = self.cluster.logs.get(partition) else { return };
        let (to, branch, topic_id) = (to.unwrap_or(log.start), log.branch, log.topic_id);
        let Some(relay) = self.relay(process) else { return };
        let Some(held) = relay.held.get_mut(partition) else { return };
        let assignment = Arc::clone(&held.assignment);
        if !assignment.is_active() || assignment.generation().number != generation {
            return;
        }
        let from = sim::position(&assignment);
        let generation = sim::reset_to(&assignment, to, why == Why::Truncated);
        held.branch = branch;
        if why == Why::Recreated {
            held.topic_id = topic_id;
        }
        let position = Position::start(&assignment, generation);
        relay.events.push_back(SourceEvent::Reset { assignment, generation, from });
        self.tell(|| format!("{process:?} {partition:?} is reset from {from} to {to}: {why:?}"));
        self.wake(process);
        self.seek(process, position);
    }

    /// Sends what is to be committed, unless an answer is waited for.
    pub(super) fn commit_later(&mut self, process: Process) {
        let Some(relay) = self.relay(process) else { return };
        if !relay.commits.is_empty() && !std::mem::replace(&mut relay.is_committing, true) {
            self.after(1, 80, Event::Commit(process));
        }
    }

    /// The coordinator takes a commit, or refuses it for now.
    pub(super) fn commit(&mut self, process: Process) {
        let refuses = self.group.is_loading || !self.is_mended && self.random.percent(5);
        let Some(relay) = self.relay(process) else { return };
        if refuses {
            return self.after(100, 300, Event::Commit(process));
        }
        relay.is_committing = false;
        let serial = relay.serial;
        for (partition, (assignment, offset)) in std::mem::take(&mut relay.commits) {
            let held = self.relays[process.0].held.get(&partition);
            let Some(held) = held.filter(|held| Arc::ptr_eq(&held.assignment, &assignment)) else {
                continue;
            };
            let Some(log) = self.cluster.logs.get(&partition) else { continue };
            // The offsets of a topic go with it.
            if !sim::may_commit(&assignment) || held.topic_id != log.topic_id {
                continue;
            }
            let epoch = sim::epoch_before(&assignment, offset);
            let before =
                self.group.committed.insert(partition.clone(), Committed { offset, epoch });
            let before = before.map_or(0, |before| before.offset);
            sim::set_committed(&assignment, offset);
            let is_known = held.branch == log.branch;
            self.tell_commit(process, &partition, before, offset);
            if is_known && offset > before {
                let log = &self.cluster.logs[&partition];
                self.judge.borrow_mut().committed(serial, &partition, log, before, offset);
            }
        }
        self.wake(process);
    }

    fn tell_commit(&mut self, process: Process, partition: &Partition, from: i64, to: i64) {
        self.tell(|| format!("{process:?} commits {partition:?} {from} -> {to}"));
    }
}
