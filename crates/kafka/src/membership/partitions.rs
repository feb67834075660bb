//! The partitions of one client's life: assigned, revoked, lost, reset to another offset.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use tracing::{error, info, warn};

use super::absent::{AbsentPartitions, Patience};
use super::driver::Driver;
use super::membership_check::MembershipCheck;
use super::pending::PendingAssignment;
use super::stalls::StallDetector;
use super::topic_ids::TopicIdChanges;
use super::{Command, ResetReason};
use crate::assignment::{Assignment, Positions, RevokeDone, SourceEvent};
use crate::commits::CommitRequest;
use crate::config::{GroupProtocol, OnOutOfRange};
use crate::fetcher::Fetcher;
use crate::generation::{DueOffset, Generation};
use crate::health::AssignmentProgress;
use crate::lookup::{LookupRequest, StartPosition, TopicSnapshot, Unresolved};
use crate::native::TopicId;
use crate::topic_partition::TopicPartition;
use crate::topics::{Listing, TopicMap, partitions_of};

/// How long after the route's own `revoke_timeout` its answer is waited for.
const REVOKE_SLACK: Duration = Duration::from_secs(1);
/// How long the commit of revoked partitions may take.
const REVOKE_COMMIT: Duration = Duration::from_secs(5);

/// Partitions that the group wants back.
struct Revoking {
    id: u64,
    partitions: Vec<TopicPartition>,
    assignments: Vec<Arc<Assignment>>,
    deadline: Instant,
    committing: bool,
}

#[derive(Default)]
pub(super) struct Partitions {
    held: BTreeMap<TopicPartition, Arc<Assignment>>,
    pending: BTreeMap<u64, PendingAssignment>,
    /// Whether it is known what is to be held, be it nothing.
    assigned: bool,
    joining: MembershipCheck,
    revoking: Vec<Revoking>,
    /// Whether everything is given back, as this client ends.
    leaving: bool,
    topics: TopicMap,
    absent: AbsentPartitions,
    topic_ids: TopicIdChanges,
    stalls: StallDetector,
}

impl Partitions {
    pub(super) fn handle(
        &mut self,
        driver: &mut Driver<'_>,
        command: Command,
    ) -> Result<(), String> {
        match command {
            Command::Commit(positions) if driver.source.config.group.is_some() => {
                // The commit thread lives as long as its orders' sender.
                let _ = driver.commits.send(CommitRequest::Commit(positions));
            }
            Command::AllowRewind(assignment) if driver.source.config.group.is_some() => {
                // As above.
                let _ = driver.commits.send(CommitRequest::AllowRewind(assignment));
            }
            Command::Commit(_) | Command::AllowRewind(_) => {}
            // The driver's own.
            Command::Close(_) | Command::GroupAnswer { .. } | Command::OtherCluster(_) => {}
            Command::Drained { id, positions } => self.drained(driver, id, positions),
            Command::Committed { id } => self.release(driver, id),
            Command::OutOfRange { due, reason } => return self.out_of_range(driver, due, &reason),
            Command::ResetNeeded { due, to, reason } => {
                return self.reset_needed(driver, due, to, reason);
            }
            Command::ResetTo { due, to, reason } => self.reset(driver, &due, to, reason),
            Command::Restart(assignment, generation) => {
                self.restart(driver, &assignment, generation)
            }
            Command::Panicked(reason) => return Err(reason),
            Command::Pause(assignment) => self.pause(driver, &assignment),
            Command::BrokerTooOld(reason) => return self.use_librdkafka(driver, &reason),
            Command::TopicIds(ids) => return self.update_topic_ids(driver, ids),
            Command::Ends(ends) => self.stalls.ends(driver, ends),
            Command::Listed(listing) => self.listed(driver, listing),
            Command::StartsResolved { id, resolved, unresolved } => {
                self.starts_resolved(driver, id, resolved, unresolved)
            }
        }
        Ok(())
    }

    /// Subscribes to what there is; without a group, assigns what is new and lets go of what is no
    /// more.
    pub(super) fn listed(&mut self, driver: &mut Driver<'_>, listing: Listing) {
        driver.state.listed(listing);
        let known = std::mem::replace(&mut self.topics, driver.state.listing.topics.clone());
        if driver.source.config.group.is_some() {
            if !known.keys().eq(self.topics.keys()) {
                self.subscribe(driver);
            }
            if self.topics.is_empty() {
                // Who asks for nothing gets nothing.
                self.assigned = true;
            } else if known.is_empty() {
                self.not_assigned();
            }
        } else {
            self.listed_without_group(driver);
        }
        self.request_topic_ids(driver);
        self.show(driver);
        // Once what came in their place shows as not resolved: in between the route would look
        // ready.
        for (topic, fault) in driver.source.health.set_missing(driver.state.listing.missing.clone())
        {
            warn!(route = driver.source.config.route, "topic \"{topic}\": {fault}");
        }
    }

    fn listed_without_group(&mut self, driver: &mut Driver<'_>) {
        let known =
            self.held.keys().chain(self.pending.values().flat_map(PendingAssignment::partitions));
        let patience = match driver.fetcher {
            Fetcher::Fast(_) => Patience::Two,
            Fetcher::Librdkafka(_) => Patience::One,
        };
        let gone = self.absent.listed(&driver.state.listing, known, patience);
        if !gone.is_empty() {
            self.lost(driver, &gone);
        }
        let mut new: BTreeSet<TopicPartition> = partitions_of(&self.topics)
            .filter(|partition| !self.held.contains_key(partition))
            .collect();
        for partition in self.pending.values().flat_map(PendingAssignment::partitions) {
            new.remove(partition);
        }
        let new: Vec<TopicPartition> = new.into_iter().collect();
        self.assigned = true;
        if !new.is_empty() {
            self.assign(driver, new);
        }
    }

    fn subscribe(&self, driver: &Driver<'_>) {
        let names: Vec<&str> = self.topics.keys().map(|topic| &**topic).collect();
        info!(route = driver.source.config.route, topics = ?names, "subscribing");
        if names.is_empty() {
            driver.client.unsubscribe();
        } else if let Err(error) = driver.client.subscribe(&names) {
            driver.client.context().report(&format!("subscribing: {error}"));
        }
    }

    /// The group gives partitions, or none.
    pub(super) fn assign(&mut self, driver: &mut Driver<'_>, partitions: Vec<TopicPartition>) {
        self.assigned = true;
        driver.source.health.set_group_fault(None);
        if partitions.is_empty() {
            self.add_partitions(driver, Vec::new());
        } else {
            let (id, start) = (driver.next_id(), driver.source.config.start);
            let known =
                TopicSnapshot { topics: self.topics.clone(), first: driver.state.first.clone() };
            let kept = partitions
                .iter()
                .filter_map(|partition| driver.state.kept.remove_entry(partition))
                .collect();
            let (assignment, request) = PendingAssignment::new(id, partitions, start, known, &kept);
            self.pending.insert(id, assignment);
            // The look-up thread lives as long as its questions' sender.
            let _ = driver.lookups.send(request);
        }
        self.show(driver);
    }

    /// Holds what was found. The group has its answer then, and gets the others added to it later.
    fn starts_resolved(
        &mut self,
        driver: &mut Driver<'_>,
        id: u64,
        resolved: Vec<StartPosition>,
        unresolved: Vec<Unresolved>,
    ) {
        let Some(assignment) = self.pending.get_mut(&id) else { return };
        let is_answer = !assignment.is_answered();
        if !is_answer && driver.client.assignment_lost() {
            // The group says so in a moment. To add to what it has taken away would clear
            // librdkafka's mark. The look-up thread lives as long as its questions'
            // sender.
            let _ = driver.lookups.send(assignment.postpone(resolved, unresolved));
            return;
        }
        let (resolved, request) = assignment.answer(resolved, unresolved);
        match request {
            // As above.
            Some(request) => drop(driver.lookups.send(request)),
            None => drop(self.pending.remove(&id)),
        }
        for position in &resolved {
            driver.state.first.assigned(&position.topic_partition);
        }
        if is_answer || !resolved.is_empty() {
            self.add_partitions(driver, resolved);
        }
        self.show(driver);
    }

    fn add_partitions(&mut self, driver: &mut Driver<'_>, resolved: Vec<StartPosition>) {
        let mut assignments = Vec::with_capacity(resolved.len());
        for StartPosition { topic_partition, start, committed, epoch } in resolved {
            let assignment = Assignment::new(topic_partition.clone(), start, committed);
            if epoch >= 0 {
                assignment.epochs().note(start - 1, start, epoch);
            }
            self.held.insert(topic_partition, Arc::clone(&assignment));
            assignments.push(assignment);
        }
        if !assignments.is_empty() {
            driver.publish(SourceEvent::Assigned(assignments.clone()));
        }
        if let Err(reason) = driver.fetcher.add(&assignments) {
            driver.client.context().report(&format!("taking up partitions: {reason}"));
        }
        self.request_topic_ids(driver);
    }

    /// Shows how far what is to be held is held.
    fn show(&self, driver: &Driver<'_>) {
        let reason = self.pending.values().find_map(PendingAssignment::reason);
        driver.source.health.set_assignment(match reason {
            _ if self.assigned && self.pending.is_empty() => AssignmentProgress::Complete,
            Some(reason) => AssignmentProgress::Partial(reason.to_owned()),
            None => AssignmentProgress::Unknown,
        });
    }

    /// Whether it is known what is to be held.
    pub(super) fn is_assigned(&self) -> bool {
        self.assigned
    }

    fn not_assigned(&mut self) {
        self.assigned = false;
        self.joining = MembershipCheck::default();
    }

    /// Notices that the group has this member and nothing for it.
    pub(super) fn check_membership(&mut self, driver: &Driver<'_>) {
        let untold = !self.assigned && !self.leaving && driver.protocol == GroupProtocol::Consumer;
        if untold && self.joining.is_done(&driver.client) {
            self.assigned = true;
            driver.source.health.set_group_fault(None);
            self.show(driver);
        }
    }

    /// Those of `partitions` that are held. What of them is still being looked up is forgotten.
    fn among(&mut self, partitions: &[TopicPartition]) -> Vec<Arc<Assignment>> {
        for assignment in self.pending.values_mut() {
            partitions.iter().for_each(|partition| assignment.forget(partition));
        }
        self.pending.retain(|_, assignment| !assignment.is_empty());
        partitions.iter().filter_map(|partition| self.held.get(partition).cloned()).collect()
    }

    /// The group wants partitions back: they go once they are drained and committed, or after the
    /// route's time.
    pub(super) fn revoke(&mut self, driver: &mut Driver<'_>, partitions: &[TopicPartition]) {
        let assignments = self.among(partitions);
        for assignment in &assignments {
            assignment.set_revoking();
        }
        let id = driver.next_id();
        let deadline = Instant::now() + driver.source.config.revoke_timeout + REVOKE_SLACK;
        let partitions = partitions
            .iter()
            .filter(|partition| self.held.contains_key(*partition))
            .cloned()
            .collect();
        let (told, answer) = (assignments.clone(), driver.source.commands.0.clone());
        let nothing = assignments.is_empty();
        self.revoking.push(Revoking { id, partitions, assignments, deadline, committing: false });
        if nothing {
            self.release(driver, id);
        } else {
            driver.publish(SourceEvent::Revoked {
                assignments: told,
                done: RevokeDone::new(id, answer),
            });
        }
        self.show(driver);
    }

    /// Gives everything back, in order, though the group has not asked for it. What was delivered
    /// is committed.
    pub(super) fn leave(&mut self, driver: &mut Driver<'_>) {
        (self.leaving, self.assigned) = (true, false);
        self.drop_pending(driver);
        let asked_back: Vec<&TopicPartition> =
            self.revoking.iter().flat_map(|revoking| &revoking.partitions).collect();
        let held = self.held.keys().filter(|partition| !asked_back.contains(partition)).cloned();
        let held: Vec<TopicPartition> = held.collect();
        if !held.is_empty() {
            self.revoke(driver, &held);
        }
        self.show(driver);
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// Whether everything is given back that was to be.
    pub(super) fn has_left(&self) -> bool {
        self.leaving && self.revoking.is_empty()
    }

    fn drained(&mut self, driver: &Driver<'_>, id: u64, positions: Positions) {
        let Some(revoking) =
            self.revoking.iter_mut().find(|revoking| revoking.id == id && !revoking.committing)
        else {
            return;
        };
        revoking.committing = true;
        revoking.deadline = Instant::now() + REVOKE_COMMIT;
        let request = CommitRequest::Final { id, positions, deadline: revoking.deadline };
        // The commit thread lives as long as its orders' sender.
        let _ = driver.commits.send(request);
    }

    /// Lets go what was not answered in time.
    pub(super) fn check_revoking(&mut self, driver: &mut Driver<'_>) {
        let now = Instant::now();
        let late: Vec<u64> = self
            .revoking
            .iter()
            .filter(|revoking| now >= revoking.deadline)
            .map(|revoking| revoking.id)
            .collect();
        for id in late {
            warn!(
                route = driver.source.config.route,
                "revoked partitions were not drained and committed in time"
            );
            self.release(driver, id);
        }
    }

    fn release(&mut self, driver: &mut Driver<'_>, id: u64) {
        let Some(index) = self.revoking.iter().position(|revoking| revoking.id == id) else {
            return;
        };
        let revoking = self.revoking.swap_remove(index);
        self.forget(driver, &revoking.partitions, &revoking.assignments);
    }

    /// Lets go of partitions. The group waits for this answer also where it is that none of them
    /// was held.
    fn forget(
        &mut self,
        driver: &mut Driver<'_>,
        partitions: &[TopicPartition],
        assignments: &[Arc<Assignment>],
    ) {
        for assignment in assignments {
            assignment.set_gone();
        }
        self.held.retain(|partition, _| !partitions.contains(partition));
        self.topic_ids.retain(|topic| self.held.keys().any(|held| *held.topic == *topic));
        driver.fetcher.remove(assignments);
    }

    /// Partitions are gone: nothing more is committed for them.
    pub(super) fn lost(&mut self, driver: &mut Driver<'_>, partitions: &[TopicPartition]) {
        let assignments = self.among(partitions);
        let partitions: Vec<TopicPartition> = partitions
            .iter()
            .filter(|partition| self.held.contains_key(*partition))
            .cloned()
            .collect();
        self.revoking.retain_mut(|revoking| {
            revoking.partitions.retain(|partition| !partitions.contains(partition));
            !revoking.partitions.is_empty()
        });
        self.forget(driver, &partitions, &assignments);
        if !assignments.is_empty() {
            driver.publish(SourceEvent::Lost(assignments.clone()));
        }
        if driver.source.config.group.is_some() {
            let committed = assignments.iter().filter_map(|assignment| {
                Some((assignment.topic_partition.clone(), assignment.committed()?))
            });
            driver.state.kept.extend(committed);
            self.not_assigned();
        }
        self.show(driver);
    }

    /// Everything is gone, with the client.
    pub(super) fn all_lost(&mut self, driver: &mut Driver<'_>) {
        self.pending.clear();
        let held: Vec<TopicPartition> = self.held.keys().cloned().collect();
        if !held.is_empty() {
            self.lost(driver, &held);
        }
    }

    fn out_of_range(
        &mut self,
        driver: &mut Driver<'_>,
        due: DueOffset,
        reason: &str,
    ) -> Result<(), String> {
        if !due.is_now() {
            return Ok(());
        }
        let DueOffset { assignment, offset: from, .. } = &due;
        let (topic, partition) = (assignment.topic(), assignment.partition());
        error!(route = driver.source.config.route, %topic, partition, from, reason, "fetch offset out of range");
        if driver.source.config.on_out_of_range == OnOutOfRange::Stop {
            return Err(format!(
                "{topic}/{partition}: the log has no offset {from}: {reason} (on_out_of_range = \"stop\")"
            ));
        }
        self.reset_needed(driver, due, None, ResetReason::OutOfRange)
    }

    /// Goes on at `to`, or at the earliest offset once that is known.
    fn reset_needed(
        &mut self,
        driver: &mut Driver<'_>,
        due: DueOffset,
        to: Option<i64>,
        reason: ResetReason,
    ) -> Result<(), String> {
        if !due.is_now() {
            return Ok(());
        }
        let DueOffset { assignment, offset: from, .. } = &due;
        let (topic, partition) = (assignment.topic(), assignment.partition());
        let stop = driver.source.config.on_out_of_range == OnOutOfRange::Stop;
        match to {
            Some(to) if stop && reason == ResetReason::Truncated => {
                return Err(format!(
                    "{topic}/{partition}: the log was truncated to {to}, below {from} (on_out_of_range = \"stop\"; to go on, \
                     set the group's offset to {to}, or on_out_of_range to \"earliest\")"
                ));
            }
            Some(to) => self.reset(driver, &due, to, reason),
            None => {
                // The look-up thread lives as long as its questions' sender.
                let _ = driver.lookups.send(LookupRequest::Earliest { due, reason });
            }
        }
        Ok(())
    }

    fn reset(&mut self, driver: &mut Driver<'_>, due: &DueOffset, to: i64, reason: ResetReason) {
        if !due.is_now() {
            return;
        }
        let DueOffset { assignment, offset: from, .. } = due;
        let from = *from;
        let skipped = u64::try_from(to.saturating_sub(from)).unwrap_or(0);
        error!(
            route = driver.source.config.route, topic = %assignment.topic(), partition = assignment.partition(),
            from, to, skipped, "{}", reason.message()
        );
        driver.source.health.offset_resets.add(1);
        driver.source.health.records_skipped.add(skipped);
        let generation = assignment.reset_to(to, matches!(reason, ResetReason::Truncated));
        driver.publish(SourceEvent::Reset { assignment: Arc::clone(assignment), generation, from });
        self.seek(driver, assignment, generation);
    }

    /// The route has it read again, unless another generation has begun since.
    fn restart(
        &mut self,
        driver: &mut Driver<'_>,
        assignment: &Arc<Assignment>,
        generation: Generation,
    ) {
        if assignment.is_active() && assignment.is_read_as(generation.number) {
            self.seek(driver, assignment, generation);
        }
    }

    fn pause(&self, driver: &mut Driver<'_>, assignment: &Arc<Assignment>) {
        // It may have been restarted since.
        if assignment.is_active()
            && assignment.is_paused()
            && let Err(reason) = driver.fetcher.pause(assignment)
        {
            let (topic, partition) = (assignment.topic(), assignment.partition());
            driver.client.context().report(&format!("{topic}/{partition}: pausing: {reason}"));
        }
    }

    fn seek(&self, driver: &mut Driver<'_>, assignment: &Arc<Assignment>, generation: Generation) {
        if let Err(reason) = driver.fetcher.seek(assignment, generation) {
            let (topic, partition, offset) =
                (assignment.topic(), assignment.partition(), generation.start);
            let reason = format!("{topic}/{partition}: going on at {offset}: {reason}");
            driver.client.context().report(&reason);
        }
    }

    /// Asks which topics librdkafka fetches by their names.
    fn request_topic_ids(&self, driver: &Driver<'_>) {
        let mut topics: Vec<String> = self.held.keys().map(|held| held.topic.to_string()).collect();
        topics.dedup();
        if matches!(driver.fetcher, Fetcher::Librdkafka(_)) && !topics.is_empty() {
            // The look-up thread lives as long as its questions' sender.
            let _ = driver.lookups.send(LookupRequest::TopicIds(topics));
        }
    }

    /// Topics that are others than before are read from their starts.
    fn update_topic_ids(
        &mut self,
        driver: &mut Driver<'_>,
        ids: Vec<(String, TopicId)>,
    ) -> Result<(), String> {
        if !matches!(driver.fetcher, Fetcher::Librdkafka(_)) {
            return Ok(());
        }
        for anew in self.topic_ids.update(ids) {
            let held = self.held.iter().filter(|(held, _)| *held.topic == *anew);
            let due: Vec<DueOffset> =
                held.map(|(_, assignment)| DueOffset::of(assignment)).collect();
            for due in due {
                self.reset_needed(driver, due, None, ResetReason::Recreated)?;
            }
        }
        Ok(())
    }

    /// The fast fetcher cannot be used: librdkafka takes over where it was.
    fn use_librdkafka(&mut self, driver: &mut Driver<'_>, reason: &str) -> Result<(), String> {
        if !matches!(driver.fetcher, Fetcher::Fast(_)) {
            return Ok(());
        }
        info!(route = driver.source.config.route, reason, "fetching by librdkafka");
        let held: Vec<_> = self.held.values().cloned().collect();
        if !held.is_empty() {
            driver.fetcher.remove(&held);
        }
        driver
            .use_librdkafka()
            .map_err(|error| format!("no thread to fetch by librdkafka: {error}"))?;
        let active: Vec<_> = held.into_iter().filter(|assignment| assignment.is_active()).collect();
        driver.fetcher.add(&active)?;
        // They were paused.
        driver.resume(&active)
    }

    /// Looks for partitions that stand still.
    pub(super) fn check_stalls(&mut self, driver: &Driver<'_>) {
        self.stalls.check(driver, &self.held);
    }

    /// Nothing more is handed out.
    pub(super) fn stop_reading(&self) {
        for assignment in self.held.values() {
            assignment.set_revoking();
        }
    }

    fn drop_pending(&mut self, driver: &Driver<'_>) {
        let unanswered = self.pending.values().any(|assignment| !assignment.is_answered());
        self.pending.clear();
        if unanswered && driver.source.config.group.is_some() {
            driver.take_nothing();
        }
    }

    /// Forgets everything, before the client is closed. An assignment or a revocation without its
    /// answer would keep it from that.
    pub(super) fn release_all(&mut self, driver: &mut Driver<'_>) {
        self.drop_pending(driver);
        let held: Vec<_> = std::mem::take(&mut self.held).into_values().collect();
        for assignment in &held {
            assignment.set_gone();
        }
        driver.fetcher.remove(&held);
    }
}
