//! Handles events from broker tasks and metadata responses.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, error, info};

use super::super::BrokerEvent;
use super::super::broker::BrokerCommand;
use super::super::position::{FetchPosition, ReturnReason};
use super::replicas::{KEPT, REPLICA_LEASE, ReplicaVerdict};
use super::{
    BrokerTask, Dispatcher, DispatcherAction, NotFetched, PartitionState, Placement, TaskNumber,
};
use crate::backoff::Backoff;
use crate::fetcher::{FetchFailure, FetchFault};
use crate::guard::Panicked;
use crate::metadata::{BELIEVED, Leader, Metadata, MetadataError};
use crate::reason::{Consequence, Reason};
use crate::reset::ResetReason;
use crate::topic_partition::TopicPartition;

/// Time that a partition that came back waits before it is sent out again.
pub(super) const PLACE_AGAIN: Backoff =
    Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
/// A partition that came back after longer than this has failed for the first time.
const SETTLED: Duration = Duration::from_secs(5);

/// Time that a partition waits if its log lacks its offset again, and time after the last such
/// reset from which on the next one counts as the first.
pub(super) const RESET_AGAIN: Backoff =
    Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
const RESETS_SETTLED: Duration = Duration::from_secs(60);
/// Lives of a topic that are remembered.
const PAST_IDS: usize = 16;

impl PartitionState {
    fn is_led_by(&self, broker: i32) -> bool {
        self.leader.is_some_and(|leader| leader.broker == broker)
    }

    fn count_reset(&mut self, now: Instant) {
        let again = self.reset.is_some_and(|last| now - last < RESETS_SETTLED);
        self.resets = if again { self.resets + 1 } else { 0 };
        self.reset = Some(now);
    }

    /// Returns the wait after a reset, and its reason unless it is the first.
    pub(super) fn reset_pause(&self) -> (Duration, Option<NotFetched>) {
        if self.resets == 0 {
            return (Duration::ZERO, None);
        }
        let pause = RESET_AGAIN.after(self.resets);
        let times = self.resets + 1;
        let topic_partition = self.assignment.topic_partition.clone();
        (pause, Some(NotFetched::OffsetLacks { topic_partition, times }))
    }

    /// The topic of its id is no more.
    fn end_life(&mut self) {
        if self.past_ids.len() == PAST_IDS {
            self.past_ids.remove(0);
        }
        self.past_ids.push(self.topic_id);
    }
}

impl Dispatcher {
    pub(in super::super) fn handle_broker_event(&mut self, event: BrokerEvent, now: Instant) {
        match event {
            BrokerEvent::Connected(broker) => {
                if self.failing.remove(&broker).is_some() {
                    info!(route = self.route, broker, "broker reconnected");
                }
                self.replicas.connected(broker);
                self.keep(broker, now);
            }
            BrokerEvent::Failed { error, .. } if error.consequence() == Consequence::Stop => {
                self.fault(FetchFault::BrokerTooOld(error));
            }
            BrokerEvent::Failed { broker, error } => {
                self.failing.insert(broker, error);
                self.replicas.failed(broker, now);
                self.keep(broker, now);
            }
            BrokerEvent::Returned(position, why) => self.returned(position, why, now),
        }
    }

    /// Leaders serve in the place of this replica until it may be tried, which may be now.
    fn keep(&mut self, replica: i32, now: Instant) {
        let until = self.replicas.shunned_until(replica, now).unwrap_or(now);
        for state in self.partitions.values_mut() {
            if let Some((kept, over)) = &mut state.kept
                && *kept == replica
            {
                *over = until;
            }
        }
    }

    fn returned(&mut self, position: FetchPosition, why: ReturnReason, now: Instant) {
        let Some(state) = self.partitions.get_mut(position.topic_partition()) else { return };
        if !Arc::ptr_eq(&state.assignment, &position.assignment)
            || state.generation != position.generation.number
        {
            return;
        }
        let Placement::OnBroker(broker) = state.place else { return };
        let at_replica = state.at_replica;
        debug!(route = self.route, topic = %state.assignment.topic(),
            partition = state.assignment.partition(), broker, ?why, "partition returned by broker");
        let (mut waiting, mut probe) = (None, None);
        match why {
            _ if state.topic_recreated => return self.topic_recreated(&position),
            ReturnReason::Requested => {}
            // It would send it there again and again. A leader that is asked without our rack has
            // no reason to.
            ReturnReason::PreferredReplica(replica)
                if at_replica || replica == broker || state.kept.is_some() =>
            {
                state.replica = None;
                state.kept = Some((replica, now + KEPT));
                waiting = Some(NotFetched::NamesReplica { broker, replica });
            }
            ReturnReason::PreferredReplica(replica) => {
                let known = self.addresses.contains_key(&replica);
                self.wants_metadata |= !known;
                match self.replicas.verdict(replica, now) {
                    ReplicaVerdict::Not(until) => state.kept = Some((replica, until)),
                    _ if !known => state.kept = Some((replica, now + KEPT)),
                    ReplicaVerdict::Yes => state.replica = Some((replica, now + REPLICA_LEASE)),
                    ReplicaVerdict::Probe(until) => {
                        state.kept = Some((replica, until));
                        probe = Some(replica);
                    }
                }
            }
            // A replica may not have come as far, or not be in touch: the leader knows.
            ReturnReason::OutOfRange | ReturnReason::Diverged(_) if at_replica => {
                state.replica = None;
                state.kept = Some((broker, now + KEPT));
            }
            // Nor is one believed that leads no more.
            ReturnReason::OutOfRange | ReturnReason::Diverged(_) if !state.is_led_by(broker) => {
                waiting = Some(NotFetched::TruncatedByAnother { broker });
            }
            ReturnReason::OutOfRange => {
                state.count_reset(now);
                state.place = Placement::AwaitingReset;
                let (due, error) = (position.due(), FetchFailure::OutOfRange);
                return self.fault(FetchFault::OutOfRange { due, error });
            }
            ReturnReason::Diverged(to) => {
                state.count_reset(now);
                state.place = Placement::AwaitingReset;
                let (due, reason) = (position.due(), ResetReason::Truncated);
                return self.fault(FetchFault::ResetNeeded { due, to: Some(to), reason });
            }
            ReturnReason::NotLeader { error, leader } => {
                self.wants_metadata = true;
                // The same leader once more: the broker that named it may have lost touch with the
                // cluster.
                self.distrusted |=
                    !at_replica && state.leader.is_some() && state.turned_away_by == state.leader;
                state.turned_away_by = state.leader;
                state.replica = None;
                state.kept = at_replica.then_some((broker, now + KEPT));
                match leader {
                    Some((broker, epoch))
                        if state.leader.is_none_or(|leader| leader.epoch < epoch) =>
                    {
                        state.leader = Some(Leader { broker, epoch });
                    }
                    _ => state.leader = None,
                }
                let topic_partition = position.topic_partition().clone();
                waiting = Some(NotFetched::NotLeader { topic_partition, error });
            }
        }
        let mut from = now;
        if waiting.is_some() {
            state.failures = if now - state.placed > SETTLED { 0 } else { state.failures + 1 };
            from += PLACE_AGAIN.after(state.failures);
        }
        state.place = Placement::Unassigned { position, from, why: waiting };
        if let Some(replica) = probe {
            self.reach(replica);
            self.send(replica, BrokerCommand::Probe);
        }
    }

    /// The task of a broker panicked. Its partitions are fetched by another one, from where they
    /// were handed out to.
    pub(in super::super) fn handle_panic(
        &mut self,
        task: TaskNumber,
        panicked: &Panicked,
        now: Instant,
    ) {
        error!(route = self.route, reason = %panicked, "its partitions are fetched again");
        self.actions.push_back(DispatcherAction::Report(panicked.to_string()));
        self.brokers.retain(|_, broker| broker.number != task);
        let mut recreated = Vec::new();
        for state in self.partitions.values_mut() {
            if state.task != Some(task) || !matches!(state.place, Placement::OnBroker(_)) {
                continue;
            }
            let position =
                FetchPosition { repositioned: true, ..FetchPosition::of(&state.assignment) };
            state.generation = position.generation.number;
            if state.topic_recreated {
                recreated.push(position.clone());
            }
            state.failures += 1;
            let why = Some(NotFetched::Panicked(panicked.clone()));
            state.place = Placement::Unassigned { position, from: now + PLACE_AGAIN.longest, why };
        }
        for position in recreated {
            self.topic_recreated(&position);
        }
    }

    /// The position is of a topic that is no more; the one of the same name is read from its start.
    pub(super) fn topic_recreated(&mut self, position: &FetchPosition) {
        let Some(state) = self.partitions.get_mut(position.topic_partition()) else { return };
        state.place = Placement::AwaitingReset;
        state.topic_recreated = false;
        self.fault(FetchFault::ResetNeeded {
            due: position.due(),
            to: None,
            reason: ResetReason::Recreated,
        });
    }

    /// Takes out what the answer has of earlier lives: its server has lost touch with the cluster.
    /// If one server after another does, it is the one before all of them that had.
    fn drop_stale(&mut self, metadata: &mut Metadata) {
        let is_over = |key: &TopicPartition, state: &PartitionState| {
            let topic = metadata.topics.get(&key.topic);
            topic.is_some_and(|topic| state.past_ids.contains(&topic.id))
        };
        let stale = self.partitions.iter().filter(|(key, state)| is_over(key, state));
        let stale: HashSet<Arc<str>> = stale.map(|(key, _)| Arc::clone(&key.topic)).collect();
        if stale.is_empty() {
            self.stale_answers = 0;
            return;
        }
        (self.distrusted, self.wants_metadata) = (true, true);
        self.stale_answers += 1;
        if self.stale_answers < BELIEVED {
            metadata.topics.retain(|name, _| !stale.contains(name));
            return;
        }
        self.stale_answers = 0;
        for state in self.partitions.values_mut() {
            if let Some(topic) = metadata.topics.get(state.assignment.topic()) {
                state.past_ids.retain(|id| *id != topic.id);
            }
        }
    }

    pub(in super::super) fn handle_metadata(&mut self, answer: Result<Metadata, MetadataError>) {
        self.is_asking = false;
        let mut metadata = match answer {
            Ok(metadata) => metadata,
            Err(MetadataError::Request(error)) if error.consequence() == Consequence::Stop => {
                return self.fault(FetchFault::BrokerTooOld(error));
            }
            Err(error) => {
                self.wants_metadata = true;
                self.actions.push_back(DispatcherAction::Report(error.to_string()));
                return;
            }
        };
        if let Some(id) = &metadata.cluster
            && self.cluster.get_or_insert_with(|| id.clone()) != id
        {
            // What it has by the names of our topics is something else.
            return self.fault(FetchFault::OtherCluster(id.clone()));
        }
        // The task of a broker that has moved ends, and gives its partitions back.
        let addresses = &metadata.brokers;
        let has_moved = |id: &i32, task: &mut BrokerTask| {
            addresses.get(id).is_some_and(|address| *address != task.address)
        };
        let moved = self.brokers.extract_if(has_moved).map(|(_, task)| task.number);
        let mut moved: Vec<TaskNumber> = moved.collect();
        moved.sort_unstable();
        for number in moved {
            self.actions.push_back(DispatcherAction::StopBroker { number });
        }
        self.replicas.retain(|id| self.brokers.contains_key(&id));
        self.addresses = std::mem::take(&mut metadata.brokers);
        self.drop_stale(&mut metadata);
        let mut recreated = Vec::new();
        let mut back = Vec::new();
        for (key, state) in &mut self.partitions {
            let Some(topic) = metadata.topics.get(&key.topic) else { continue };
            if !topic.id.is_nil() && topic.id != state.topic_id {
                if !state.topic_id.is_nil() {
                    error!(
                        route = self.route, topic = %key.topic, partition = key.partition,
                        old = %state.topic_id, new = %topic.id, "topic recreated (new topic id)"
                    );
                    state.topic_recreated = true;
                    state.end_life();
                    state.leader = None;
                    match &state.place {
                        Placement::OnBroker(broker) => {
                            back.push((*broker, Arc::clone(&state.assignment)))
                        }
                        Placement::Unassigned { .. }
                            if zafka_planted::is("recreated-while-it-waits") =>
                        {
                            state.topic_recreated = false;
                        }
                        Placement::Unassigned { position, .. } => recreated.push(position.clone()),
                        Placement::AwaitingReset => {
                            state.topic_recreated = !zafka_planted::is("recreated-while-looked-up");
                        }
                    }
                }
                state.topic_id = topic.id;
            }
            let Some(leader) = topic.leaders.get(&key.partition).copied() else {
                state.leader = None;
                continue;
            };
            // One that the cluster does not have is not waited for.
            let is_newer = state.leader.is_none_or(|known| {
                known.epoch <= leader.epoch || !self.addresses.contains_key(&known.broker)
            });
            if !is_newer || state.leader == Some(leader) {
                continue;
            }
            state.leader = Some(leader);
            if let Placement::OnBroker(broker) = state.place
                && state.replica.is_none()
                && !state.topic_recreated
                && broker != leader.broker
                && leader.broker >= 0
            {
                state.kept = None;
                back.push((broker, Arc::clone(&state.assignment)));
            }
        }
        for (broker, assignment) in back {
            self.send(broker, BrokerCommand::Return(assignment));
        }
        for position in recreated {
            self.topic_recreated(&position);
        }
        // Topics that were let go meanwhile are not kept: what is known of them would grow old.
        let held: HashSet<&Arc<str>> = self.partitions.keys().map(|key| &key.topic).collect();
        self.topics.extend(metadata.topics.into_iter().filter(|(topic, _)| held.contains(topic)));
    }
}
