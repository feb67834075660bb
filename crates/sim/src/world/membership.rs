//! The group and its coordinator, and the membership of a relay on its virtual thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use zafka_kafka::sim::{self, CommitOutcome, GroupEvent, MembershipAction};
use zafka_kafka::{Assignment, SourceEvent, TopicPartition};

use super::{Event, Process, World, relay_of};
use crate::cluster::Partition;
use crate::group;
use crate::relay::{Held, partition_of};

impl World {
    /// Gives a partition that nobody has to a relay.
    pub(super) fn give(&mut self, partition: &Partition) {
        if self.group.owners.get(partition).is_none_or(Option::is_some) {
            return;
        }
        let any = self.random.below(self.relays.len() as u64) as usize;
        let number = self.group.next.get(partition).copied().unwrap_or(any);
        if self.relays[number].is_lost {
            // It has to join again first.
            return self.after(50, 200, Event::Give(partition.clone()));
        }
        self.group.next.remove(partition);
        self.group.owners.insert(partition.clone(), Some(number));
        let process = (number, self.relays[number].life);
        let partition = TopicPartition::new(partition.0.as_str(), partition.1);
        let asked = &mut self.relays[number].asked;
        // What it has not heard comes in one.
        if let Some(GroupEvent::Assign(partitions)) = asked.back_mut() {
            partitions.push(partition);
        } else {
            asked.push_back(GroupEvent::Assign(vec![partition]));
        }
        self.after(1, 60, Event::Group(process));
    }

    /// The group wants partitions back from a relay.
    pub(super) fn revoke(&mut self, process: Process, partitions: &[Partition]) {
        let of =
            partitions.iter().map(|(topic, number)| TopicPartition::new(topic.as_str(), *number));
        let event = GroupEvent::Revoke(of.collect());
        let Some(relay) = self.relay(process) else { return };
        relay.asked.push_back(event);
        self.after(1, 60, Event::Group(process));
    }

    /// Returns true if the group has asked for a partition back already.
    pub(super) fn is_being_revoked(&self, number: usize, partition: &Partition) -> bool {
        let relay = &self.relays[number];
        relay.asked.iter().chain(&relay.unanswered).any(|event| match event {
            GroupEvent::Revoke(these) => these.iter().any(|of| is(of, partition)),
            _ => false,
        })
    }

    /// Everything of a relay is taken away: other relays may have it before it hears of that.
    pub(super) fn lose(&mut self, process: Process) {
        let owned = self.owned(process.0);
        let Some(relay) = self.relay(process).filter(|relay| !relay.is_lost) else { return };
        // What it has not heard of is not its own.
        let unheard: Vec<TopicPartition> = relay
            .asked
            .drain(..)
            .filter_map(|event| match event {
                GroupEvent::Assign(partitions) => Some(partitions),
                _ => None,
            })
            .flatten()
            .collect();
        relay.is_lost = true;
        let heard = owned.iter().filter(|partition| !unheard.iter().any(|of| is(of, partition)));
        let lost = heard.map(|(topic, number)| TopicPartition::new(topic.as_str(), *number));
        relay.asked.push_back(GroupEvent::Lost(lost.collect()));
        for partition in &owned {
            self.take_away(process, partition);
        }
        self.after(1, 1500, Event::Group(process));
    }

    fn owned(&self, number: usize) -> Vec<Partition> {
        let owners = self.group.owners.iter().filter(|(_, owner)| **owner == Some(number));
        owners.map(|(partition, _)| partition.clone()).collect()
    }

    /// A partition is nobody's, and is given to another one.
    fn take_away(&mut self, process: Process, partition: &Partition) {
        let Some(relay) = self.relay(process) else { return };
        let serial = relay.serial;
        self.judge.borrow_mut().released(serial, partition);
        self.group.owners.insert(partition.clone(), None);
        self.after(1, 500, Event::Give(partition.clone()));
    }

    /// The client tells the membership what the group asks for, one thing after the other.
    pub(super) fn tell_group(&mut self, process: Process) {
        let now = self.clock.instant();
        let Some(relay) = self.relay(process) else { return };
        let is_lost = matches!(relay.asked.front(), Some(GroupEvent::Lost(_)));
        if relay.unanswered.is_some() && !is_lost {
            return;
        }
        let Some(event) = relay.asked.pop_front() else { return };
        relay.unanswered = Some(event.clone());
        relay.membership.handle_group(event.clone(), now);
        self.tell(|| {
            let (what, partitions) = match &event {
                GroupEvent::Assign(partitions) => ("assign", partitions),
                GroupEvent::Revoke(partitions) => ("revoke", partitions),
                GroupEvent::Lost(partitions) => ("lost", partitions),
            };
            let names = partitions.iter().fold(String::new(), |text, of| format!("{text} {of}"));
            format!("{process:?} hears of the group: {what}{names}")
        });
        self.execute_all(process);
        self.wake_membership(process);
    }

    /// Has the membership's thread have a turn soon.
    pub(super) fn wake_membership(&mut self, process: Process) {
        let at = self.soon(20_000);
        self.plan_membership(process, at);
    }

    fn plan_membership(&mut self, process: Process, at: Instant) {
        let Some(relay) = self.relay(process) else { return };
        if relay.planned_membership.is_none_or(|planned| at < planned) {
            relay.planned_membership = Some(at);
            self.clock.at_instant(at, Event::Membership(process));
        }
    }

    /// The membership's thread has its turn.
    pub(super) fn run_membership(&mut self, process: Process) {
        let now = self.clock.instant();
        let Some(relay) = self.relay(process) else { return };
        if relay.planned_membership.is_none_or(|planned| planned > now) {
            return;
        }
        relay.planned_membership = None;
        relay.membership.turn(relay.is_lost, now);
        self.execute_all(process);
        self.look_at_stalls(process);
        let Some(relay) = self.relay(process) else { return };
        let next = relay.membership.poll_timeout(now);
        self.plan_membership(process, next.max(now + Duration::from_millis(1)));
    }

    fn execute_all(&mut self, process: Process) {
        let now = self.clock.instant();
        while let Some(action) =
            self.relay(process).and_then(|relay| relay.membership.poll_action(now))
        {
            self.execute(process, action);
        }
    }

    fn execute(&mut self, process: Process, action: MembershipAction) {
        let Some(relay) = self.relay(process) else { return };
        match action {
            MembershipAction::Add(assignments) => {
                if matches!(relay.unanswered, Some(GroupEvent::Assign(_))) {
                    relay.unanswered = None;
                }
                self.tell_dispatcher(process, |dispatching| dispatching.add(&assignments));
                self.after(0, 20, Event::Group(process));
            }
            MembershipAction::AssignNothing => {
                relay.unanswered = None;
                self.after(0, 20, Event::Group(process));
            }
            MembershipAction::Remove(assignments) => self.remove(process, assignments),
            MembershipAction::Seek(assignment, generation) => {
                self.tell_dispatcher(process, |of| of.seek(assignment, generation));
            }
            MembershipAction::LookUp(question) => self.look_up_later(process, question),
            MembershipAction::Commit(positions) => {
                relay.commits.commit(positions);
                self.commit_soon(process);
            }
            MembershipAction::AllowRewind(assignment) => {
                relay.rewinding.retain(|of| !Arc::ptr_eq(of, &assignment));
                relay.commits.allow_rewind(assignment);
                self.commit_soon(process);
            }
            MembershipAction::CommitLast { id, positions, deadline } => {
                relay.commits.commit_last(id, positions, deadline);
                self.commit_soon(process);
            }
            MembershipAction::Publish(event) => self.publish(process, event),
            MembershipAction::Other(what) => self.tell(|| format!("{process:?} {what}")),
        }
    }

    /// Partitions leave the client's assignment, which answers a revocation.
    fn remove(&mut self, process: Process, assignments: Vec<Arc<Assignment>>) {
        let Some(relay) = relay_of(&mut self.relays, process) else {
            return;
        };
        for assignment in &assignments {
            let partition = partition_of(assignment);
            relay.held.remove(&partition);
            self.judge.borrow_mut().released(relay.serial, &partition);
        }
        let answered = relay.unanswered.take();
        match answered {
            Some(GroupEvent::Revoke(partitions)) => {
                for of in partitions {
                    let partition = (of.topic.to_string(), of.partition);
                    if self.group.owners.get(&partition) == Some(&Some(process.0)) {
                        self.take_away(process, &partition);
                    }
                }
            }
            Some(GroupEvent::Lost(_)) => relay.is_lost = false,
            other => relay.unanswered = other,
        }
        self.tell_dispatcher(process, |dispatching| dispatching.remove(assignments));
        self.after(0, 20, Event::Group(process));
    }

    /// The route is told.
    fn publish(&mut self, process: Process, event: SourceEvent) {
        let Some(relay) = relay_of(&mut self.relays, process) else {
            return;
        };
        match &event {
            SourceEvent::Assigned(assignments) => {
                for assignment in assignments {
                    let partition = partition_of(assignment);
                    let found = relay.found.remove(&partition);
                    let branch = found.map_or(0, |found| found.branch);
                    let assignment = Arc::clone(assignment);
                    let branches = [(0, branch)].into();
                    let held = Held { assignment, branches, heard: 0, ids: Default::default() };
                    relay.held.insert(partition, held);
                }
            }
            SourceEvent::Reset { assignment, generation, .. } => {
                let partition = partition_of(assignment);
                let found = relay.found.get(&partition);
                let found = found.filter(|found| found.generation == generation.number);
                let log = self.cluster.logs.get(&partition);
                let branch = found.map(|found| found.branch).or(log.map(|log| log.branch));
                if let (Some(held), Some(branch)) = (relay.held.get_mut(&partition), branch) {
                    held.branches.insert(generation.number, branch);
                }
            }
            SourceEvent::Revoked { .. } | SourceEvent::Lost(_) | SourceEvent::Stopped(_) => {}
        }
        let what = shown(&event);
        relay.events.push_back(event);
        self.tell(|| format!("{process:?} {what}"));
        self.wake(process);
    }

    /// Has the thread that commits have a turn soon.
    fn commit_soon(&mut self, process: Process) {
        let at = self.soon(2_000);
        self.clock.at_instant(at, Event::CommitTurn(process));
    }

    /// The thread that commits sends what is due, unless it waits for an answer.
    pub(super) fn commit_turn(&mut self, process: Process) {
        let now = self.clock.instant();
        let Some(relay) = self.relay(process) else { return };
        if let Some(due) = relay.commits.turn(now) {
            relay.committing = due;
            self.after(1, 80, Event::Commit(process));
        }
        let Some(relay) = self.relay(process) else { return };
        let mut is_done = false;
        while let Some(id) = relay.commits.poll_done(now) {
            relay.membership.committed(id);
            is_done = true;
        }
        let next = relay.commits.poll_timeout();
        if is_done {
            self.wake_membership(process);
        }
        if let Some(next) = next.filter(|next| *next > now) {
            self.clock.at_instant(next, Event::CommitTurn(process));
        }
    }

    /// The coordinator answers a commit.
    pub(super) fn commit(&mut self, process: Process) {
        let now = self.clock.instant();
        let refuses = self.group.is_loading || !self.is_mended && self.random.percent(5);
        let Some(relay) = self.relay(process) else { return };
        let due = std::mem::take(&mut relay.committing);
        let outcomes: Vec<CommitOutcome> = due
            .iter()
            .map(|(assignment, offset, epoch)| match refuses {
                true => CommitOutcome::Later,
                false => self.commit_one(process, assignment, *offset, *epoch),
            })
            .collect();
        if let Some(relay) = self.relay(process) {
            relay.commits.handle_answer(&outcomes, now);
        }
        self.commit_soon(process);
        self.wake(process);
    }

    fn commit_one(
        &mut self,
        process: Process,
        assignment: &Arc<Assignment>,
        offset: i64,
        epoch: i32,
    ) -> CommitOutcome {
        let partition = partition_of(assignment);
        let Some(relay) = relay_of(&mut self.relays, process) else {
            return CommitOutcome::Refused;
        };
        let Some(log) = self.cluster.logs.get(&partition) else { return CommitOutcome::Refused };
        // The offsets of a topic go with it.
        let life = relay.lives.get(&(partition.clone(), offset));
        let is_of_topic = life.is_some_and(|life| life.topic_id == log.topic_id);
        let is_member = self.group.owners.get(&partition) == Some(&Some(process.0));
        if !sim::may_commit(assignment) || !is_member || relay.is_lost || !is_of_topic {
            return CommitOutcome::Refused;
        }
        let (serial, is_known) = (relay.serial, life.is_some_and(|life| life.branch == log.branch));
        let committed = group::Committed { offset, epoch };
        let before = self.group.committed.insert(partition.clone(), committed);
        let before = before.map_or(0, |before| before.offset);
        self.tell_commit(process, &partition, before, offset);
        if is_known && offset > before {
            let log = &self.cluster.logs[&partition];
            self.judge.borrow_mut().committed(serial, &partition, log, before, offset);
        }
        CommitOutcome::Done
    }

    fn tell_commit(&mut self, process: Process, partition: &Partition, from: i64, to: i64) {
        self.tell(|| format!("{process:?} commits {partition:?} {from} -> {to}"));
    }
}

fn shown(event: &SourceEvent) -> String {
    let names =
        |of: &[Arc<Assignment>]| of.iter().fold(String::new(), |text, of| format!("{text} {of}"));
    match event {
        SourceEvent::Assigned(assignments) => format!("assigned:{}", names(assignments)),
        SourceEvent::Revoked { assignments, .. } => format!("revoked:{}", names(assignments)),
        SourceEvent::Lost(assignments) => format!("lost:{}", names(assignments)),
        SourceEvent::Reset { assignment, generation, from } => {
            format!("reset: {assignment} from {from}: {generation:?}")
        }
        SourceEvent::Stopped(reason) => format!("stopped: {reason}"),
    }
}

fn is(of: &TopicPartition, partition: &Partition) -> bool {
    *of.topic == *partition.0 && of.partition == partition.1
}
