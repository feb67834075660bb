//! Assigns partitions to brokers and reports the ones that cannot be fetched.

use std::sync::Arc;
use std::time::Instant;

use tracing::info;

use super::super::broker::BrokerCommand;
use super::replicas::KEPT;
use super::{BrokerTask, Dispatcher, DispatcherAction, PartitionState, Placement};
use crate::health::FetchHealth;

impl Dispatcher {
    /// Returns true if a replica is no longer to be fetched from.
    fn is_over(&self, replica: i32, until: Instant, now: Instant) -> bool {
        now >= until
            || self.failing.contains_key(&replica)
            || !self.addresses.contains_key(&replica)
    }

    /// The broker to fetch from now.
    pub(super) fn target(&self, state: &PartitionState, now: Instant) -> Option<i32> {
        let replica = state.replica.filter(|(replica, until)| !self.is_over(*replica, *until, now));
        let broker = match replica {
            Some((replica, _)) => replica,
            None => state.leader.map(|leader| leader.broker)?,
        };
        self.addresses.contains_key(&broker).then_some(broker)
    }

    pub(super) fn place(&mut self, now: Instant) {
        let mut moves = Vec::new();
        let mut over = Vec::new();
        let mut back = Vec::new();
        for (key, state) in &self.partitions {
            match (&state.place, state.replica) {
                (Placement::Unassigned { from, .. }, _) if *from <= now => {
                    match self.target(state, now) {
                        Some(broker) => moves.push((key.clone(), broker)),
                        None => self.wants_metadata = true,
                    }
                }
                (Placement::OnBroker(broker), Some((replica, until)))
                    if replica == *broker && self.is_over(replica, until, now) =>
                {
                    back.push((replica, Arc::clone(&state.assignment)));
                    // At the end of the lease the leader is asked again. It stands in for one that
                    // has failed.
                    let kept = (now < until).then(|| {
                        (replica, self.replicas.shunned_until(replica, now).unwrap_or(now + KEPT))
                    });
                    over.push((key.clone(), kept));
                }
                (Placement::OnBroker(broker), _)
                    if state.kept.is_some_and(|(_, until)| now >= until) =>
                {
                    back.push((*broker, Arc::clone(&state.assignment)));
                    over.push((key.clone(), None));
                }
                _ => {}
            }
        }
        for (broker, assignment) in back {
            self.send(broker, BrokerCommand::Return(assignment));
        }
        for (key, kept) in over {
            if let Some(state) = self.partitions.get_mut(&key) {
                state.replica = None;
                state.kept = kept;
            }
        }
        for (key, broker) in moves {
            self.reach(broker);
            let Some(state) = self.partitions.get_mut(&key) else { continue };
            let leader_epoch = state.leader.map_or(-1, |leader| leader.epoch);
            let place = std::mem::replace(&mut state.place, Placement::OnBroker(broker));
            if let Placement::Unassigned { mut position, .. } = place {
                position.topic_id = state.topic_id;
                state.assignment.set_topic_id(state.topic_id);
                if std::mem::replace(&mut position.leader_epoch, leader_epoch) != leader_epoch {
                    // Another leader may know the epoch, or be the one that truncated the log.
                    position.doubted = -1;
                }
                position.without_rack = state.kept.is_some();
                state.placed = now;
                state.task = self.brokers.get(&broker).map(|task| task.number);
                state.at_replica = state.replica.is_some_and(|(replica, _)| replica == broker);
                if state.at_replica {
                    info!(route = self.route, topic = %key.topic, partition = key.partition,
                        broker, "fetching from preferred replica");
                }
                self.send(broker, BrokerCommand::Add(position));
            }
        }
    }

    /// Makes sure that a task fetches from this broker.
    pub(super) fn reach(&mut self, id: i32) {
        let Some(address) = self.addresses.get(&id) else { return };
        if self.brokers.contains_key(&id) {
            return;
        }
        self.last_task += 1;
        let (number, address) = (self.last_task, address.clone());
        let task = BrokerTask { number, address: address.clone() };
        self.actions.push_back(DispatcherAction::StartBroker { broker: id, number, address });
        self.failing.remove(&id);
        self.brokers.insert(id, task);
    }

    /// Reports why partitions are not fetched, if any are not.
    pub(in super::super) fn health(&self) -> FetchHealth {
        let unfetched = self.partitions.iter().find_map(|(key, state)| match &state.place {
            Placement::Unassigned { why: Some(why), .. } => Some(why.to_string()),
            Placement::Unassigned { .. } => {
                let error = self.topics.get(&key.topic).and_then(|topic| topic.error);
                Some(error.map_or_else(
                    || format!("{key}: no leader is known"),
                    |error| format!("{key}: {error}"),
                ))
            }
            Placement::OnBroker(broker) => self.failing.get(broker).map(ToString::to_string),
            Placement::AwaitingReset => Some(format!("{key}: looking up where to go on")),
        });
        let is_connected = self.replicas.has_connected();
        FetchHealth { adds: self.adds, unfetched, is_connected }
    }
}
