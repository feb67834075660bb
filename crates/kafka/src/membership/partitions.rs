//! Decides about the partitions of one client: assigned, revoked, lost, reset to another offset.
//!
//! A plain state machine: it knows no client, thread, channel or clock. The driver reports what
//! happens, with the time, and executes the actions.

mod rebalances;
mod resets;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::absent::{AbsentPartitions, Patience};
use super::action::Action;
use super::membership_check::MembershipCheck;
use super::memory::Memory;
use super::pending::PendingAssignment;
use super::stalls::StallDetector;
use super::stop::StopReason;
use super::topic_ids::TopicIdChanges;
use crate::assignment::{Assignment, Positions};
use crate::commits::CommitRequest;
use crate::config::{FetcherKind, GroupProtocol, OnCorrupt, OnOutOfRange, SourceConfig, Start};
use crate::exchange::{RouteRequest, SourceEvent};
use crate::health::{AssignmentProgress, CorruptPartition, MembershipHealth};
use crate::lookup::{LookupAnswer, LookupRequest, StartPosition, TopicSnapshot, Unresolved};
use crate::topic_partition::TopicPartition;
use crate::topics::{Listing, TopicMap, partitions_of};
use rebalances::Revoking;

/// The settings that decisions depend on.
#[derive(Clone, Debug)]
pub(super) struct MembershipSettings {
    /// The route's name, for log lines.
    pub(super) route: String,
    pub(super) in_group: bool,
    pub(super) protocol: GroupProtocol,
    pub(super) start: Start,
    pub(super) on_out_of_range: OnOutOfRange,
    pub(super) on_corrupt: OnCorrupt,
    pub(super) revoke_timeout: Duration,
    pub(super) stall_timeout: Duration,
    /// The fetcher that the client begins with.
    pub(super) fetcher: FetcherKind,
}

impl MembershipSettings {
    pub(super) fn new(
        config: &SourceConfig,
        protocol: GroupProtocol,
        fetcher: FetcherKind,
    ) -> Self {
        Self {
            route: config.route.clone(),
            in_group: config.group.is_some(),
            protocol,
            start: config.start,
            on_out_of_range: config.on_out_of_range,
            on_corrupt: config.on_corrupt,
            revoke_timeout: config.revoke_timeout,
            stall_timeout: config.stall_timeout,
            fetcher,
        }
    }
}

pub(super) struct Partitions<'a> {
    settings: MembershipSettings,
    memory: &'a mut Memory,
    actions: VecDeque<Action>,
    /// True if the health is another one than was polled last.
    is_changed: bool,
    assignments: BTreeMap<TopicPartition, Arc<Assignment>>,
    pending: BTreeMap<u64, PendingAssignment>,
    /// True if the assignment is known, even if it is empty.
    is_assigned: bool,
    membership: MembershipCheck,
    revoking: Vec<Revoking>,
    /// True if everything is given back, as this client ends.
    is_leaving: bool,
    fetcher: FetcherKind,
    /// The number of times that our own fetcher was given partitions.
    adds: u64,
    topics: TopicMap,
    absent: AbsentPartitions,
    topic_ids: TopicIdChanges,
    stalls: StallDetector,
    corrupt: Vec<CorruptPartition>,
}

impl<'a> Partitions<'a> {
    pub(super) fn new(settings: MembershipSettings, memory: &'a mut Memory) -> Self {
        Self {
            stalls: StallDetector::new(&settings.route, settings.stall_timeout),
            fetcher: settings.fetcher,
            settings,
            memory,
            actions: VecDeque::new(),
            is_changed: true,
            assignments: BTreeMap::new(),
            pending: BTreeMap::new(),
            is_assigned: false,
            membership: MembershipCheck::default(),
            revoking: Vec::new(),
            is_leaving: false,
            adds: 0,
            topics: TopicMap::new(),
            absent: AbsentPartitions::default(),
            topic_ids: TopicIdChanges::default(),
            corrupt: Vec::new(),
        }
    }

    /// The next action to be executed.
    #[must_use]
    pub(super) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The health, if it has changed. To be shown after the actions are executed.
    #[must_use]
    pub(super) fn poll_health(&mut self) -> Option<MembershipHealth> {
        if !std::mem::take(&mut self.is_changed) {
            return None;
        }
        self.corrupt.retain(CorruptPartition::is_current);
        let health = &mut self.memory.health;
        health.assignment = match self.pending.values().find_map(PendingAssignment::reason) {
            _ if self.is_assigned && self.pending.is_empty() => AssignmentProgress::Complete,
            Some(reason) => AssignmentProgress::Partial(reason.to_string()),
            None => AssignmentProgress::Unknown,
        };
        health.stalled = self.stalls.stalled();
        health.corrupt.clone_from(&self.corrupt);
        (health.fetcher, health.adds) = match self.fetcher {
            FetcherKind::Fast => (Some("fast"), Some(self.adds)),
            FetcherKind::Librdkafka => (Some("librdkafka"), None),
        };
        Some(health.clone())
    }

    /// The time for [`Self::handle_timeout`], and its reason.
    #[must_use]
    pub(super) fn poll_timeout(&self, now: Instant) -> (Instant, &'static str) {
        let mut next = (self.stalls.due(now), "stalls are to be looked for");
        if self.awaits_word() {
            let due = self.membership.due(now);
            next = next.min((due, "the membership is to be looked at"));
        }
        let deadlines = self.revoking.iter().map(|revoking| revoking.deadline);
        deadlines
            .map(|deadline| (deadline, "revoked partitions are to be given back"))
            .fold(next, Ord::min)
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.release_late(now);
        if self.awaits_word() && now >= self.membership.due(now) {
            self.membership.checking(now);
            self.actions.push_back(Action::CheckMember);
        }
        if now >= self.stalls.due(now) {
            self.stalls.checking(now);
            self.actions.push_back(Action::CheckBackpressure);
        }
    }

    /// Returns true if librdkafka is yet to report an assignment, which it does not if it is empty.
    fn awaits_word(&self) -> bool {
        !self.is_assigned
            && !self.is_leaving
            && self.settings.in_group
            && self.settings.protocol == GroupProtocol::Consumer
    }

    /// Takes whether the group has this member.
    pub(super) fn handle_member(&mut self, is_member: bool, now: Instant) {
        if self.awaits_word() && self.membership.handle(is_member, now) {
            self.is_assigned = true;
            self.set_group_fault(None);
        }
    }

    /// Takes whether the route took less than there was since it was asked last.
    pub(super) fn handle_backpressure(&mut self, was_backpressured: bool, now: Instant) {
        let still = self.stalls.check(&self.assignments, was_backpressured, now);
        if !still.is_empty() {
            self.look_up(LookupRequest::Ends(still));
        }
        self.is_changed = true;
    }

    /// Takes a request of the route. Its end is the driver's to handle.
    pub(super) fn handle_request(&mut self, request: RouteRequest, now: Instant) {
        match request {
            RouteRequest::Commit(positions) if self.settings.in_group => {
                self.commit(CommitRequest::Commit(positions));
            }
            RouteRequest::AllowRewind(assignment) if self.settings.in_group => {
                self.commit(CommitRequest::AllowRewind(assignment));
            }
            RouteRequest::Commit(_) | RouteRequest::AllowRewind(_) | RouteRequest::Close(_) => {}
            // Unless another generation has begun since.
            RouteRequest::Restart(assignment, generation) => {
                if assignment.is_active() && assignment.is_read_as(generation.number) {
                    self.actions.push_back(Action::Seek(assignment, generation));
                }
            }
            // It may have been restarted since.
            RouteRequest::Pause(assignment) => {
                if assignment.is_active() && assignment.is_paused() {
                    self.actions.push_back(Action::Pause(assignment));
                }
            }
            RouteRequest::Drained { id, positions } => self.drained(id, positions, now),
        }
    }

    /// Takes an answer of the lookup. `is_lost`: whether librdkafka has marked the client's
    /// assignment as lost.
    pub(super) fn handle_lookup(&mut self, answer: LookupAnswer, is_lost: bool, now: Instant) {
        match answer {
            LookupAnswer::Listed(listing) => self.handle_listing(listing, now),
            LookupAnswer::Starts { id, resolved, unresolved } => {
                self.resolved(id, resolved, unresolved, is_lost, now);
            }
            LookupAnswer::Earliest { due, to, reason } => self.reset(&due, to, reason),
            LookupAnswer::TopicIds(ids) => self.update_topic_ids(ids),
            LookupAnswer::Ends(ends) => self.stalls.handle_ends(ends, now),
        }
        self.is_changed = true;
    }

    /// Subscribes to the topics that are there; without a group, assigns the partitions that are
    /// new and lets go of those that are gone.
    pub(super) fn handle_listing(&mut self, listing: Listing, now: Instant) {
        self.memory.listed(listing);
        let topics = self.memory.listing.topics.clone();
        let known = std::mem::replace(&mut self.topics, topics);
        if self.settings.in_group {
            if !known.keys().eq(self.topics.keys()) {
                let topics: Vec<Arc<str>> = self.topics.keys().cloned().collect();
                info!(route = self.settings.route, ?topics, "subscribing");
                self.actions.push_back(Action::Subscribe(topics));
            }
            if self.topics.is_empty() {
                // Without a subscription, the empty assignment is final.
                self.is_assigned = true;
            } else if known.is_empty() {
                self.await_assignment();
            }
        } else {
            self.listed_without_group(now);
        }
        self.request_topic_ids();
        let missing = self.memory.listing.missing.clone();
        for fault in missing.iter().filter(|fault| !self.memory.health.missing.contains(fault)) {
            warn!(route = self.settings.route, "topic \"{}\": {}", fault.0, fault.1);
        }
        self.memory.health.missing = missing;
        self.is_changed = true;
    }

    fn listed_without_group(&mut self, now: Instant) {
        let pending = self.pending.values().flat_map(PendingAssignment::partitions);
        let known: BTreeSet<TopicPartition> =
            self.assignments.keys().chain(pending).cloned().collect();
        let patience = match self.fetcher {
            FetcherKind::Fast => Patience::Two,
            FetcherKind::Librdkafka => Patience::One,
        };
        let gone = self.absent.listed(&self.memory.listing, known.iter(), patience);
        if !gone.is_empty() {
            self.lost(&gone);
        }
        let is_new = |partition: &TopicPartition| {
            !self.assignments.contains_key(partition)
                && !self.pending.values().any(|pending| pending.contains(partition))
        };
        let new: Vec<TopicPartition> = partitions_of(&self.topics).filter(is_new).collect();
        self.is_assigned = true;
        if !new.is_empty() {
            self.assign(new, now);
        }
    }

    /// Assigns partitions, or none: their starts are looked up, and then they are fetched.
    fn assign(&mut self, partitions: Vec<TopicPartition>, now: Instant) {
        self.is_assigned = true;
        self.set_group_fault(None);
        if partitions.is_empty() {
            return self.add(Vec::new());
        }
        let (id, initial) = (self.memory.next_id(), self.memory.initial.clone());
        let known = TopicSnapshot { topics: self.topics.clone(), first: initial };
        let committed = &mut self.memory.committed;
        let kept = partitions.iter().filter_map(|of| committed.remove_entry(of)).collect();
        let (pending, request) =
            PendingAssignment::new(id, partitions, self.settings.start, known, &kept, now);
        self.pending.insert(id, pending);
        self.look_up(request);
    }

    /// Fetches the partitions whose starts were found. The group has its answer then, and gets the
    /// others added to it later.
    fn resolved(
        &mut self,
        id: u64,
        resolved: Vec<StartPosition>,
        unresolved: Vec<Unresolved>,
        is_lost: bool,
        now: Instant,
    ) {
        let Some(pending) = self.pending.get_mut(&id) else { return };
        let is_answer = !pending.is_answered();
        if !is_answer && is_lost {
            // The group says so in a moment. To add to what it has taken away would clear
            // librdkafka's mark.
            let request = pending.postpone(resolved, unresolved, now);
            return self.look_up(request);
        }
        let (resolved, request) = pending.answer(resolved, unresolved, now);
        match request {
            Some(request) => self.look_up(request),
            None => drop(self.pending.remove(&id)),
        }
        for position in &resolved {
            self.memory.initial.assigned(&position.topic_partition);
        }
        if is_answer || !resolved.is_empty() {
            self.add(resolved);
        }
    }

    fn add(&mut self, resolved: Vec<StartPosition>) {
        let mut added = Vec::with_capacity(resolved.len());
        for position in resolved {
            let StartPosition { topic_partition, start, committed, epoch, topic_id } = position;
            let assignment = Assignment::new(topic_partition.clone(), start, committed);
            if epoch >= 0 {
                assignment.epochs().note(start - 1, start, epoch);
            }
            assignment.set_topic_id(topic_id);
            self.topic_ids.begin(&topic_partition.topic, topic_id);
            self.assignments.insert(topic_partition, Arc::clone(&assignment));
            added.push(assignment);
        }
        if !added.is_empty() {
            self.actions.push_back(Action::Publish(SourceEvent::Assigned(added.clone())));
        }
        self.adds += 1;
        self.actions.push_back(Action::Add(added));
        self.request_topic_ids();
    }

    /// Returns true if the assignment is known, even if it is empty.
    pub(super) fn is_assigned(&self) -> bool {
        self.is_assigned
    }

    fn await_assignment(&mut self) {
        self.is_assigned = false;
        self.membership = MembershipCheck::default();
    }

    /// Sets why the group does not have this member. Returns whether that is news.
    pub(super) fn set_group_fault(&mut self, fault: Option<String>) -> bool {
        self.is_changed = true;
        self.memory.set_group_fault(fault)
    }

    /// Stops the route: nothing more is handed out.
    pub(super) fn stop(&mut self, reason: StopReason) {
        self.stop_reading();
        self.actions.push_back(Action::Stop(reason));
    }

    /// Ends what is handed out, and commits the last positions until the deadline. Returns the id
    /// of that commit, if there is anything to commit.
    pub(super) fn close(&mut self, last: Positions, deadline: Instant) -> Option<u64> {
        self.stop_reading();
        if !self.settings.in_group || last.is_empty() {
            return None;
        }
        let id = self.memory.next_id();
        self.commit(CommitRequest::Final { id, positions: last, deadline });
        Some(id)
    }

    fn stop_reading(&self) {
        for assignment in self.assignments.values() {
            assignment.set_revoking();
        }
    }

    fn look_up(&mut self, request: LookupRequest) {
        self.actions.push_back(Action::Lookup(request));
    }

    fn commit(&mut self, request: CommitRequest) {
        self.actions.push_back(Action::Commit(request));
    }
}
