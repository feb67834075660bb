//! Assigns partitions to brokers and reports the ones that cannot be fetched.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc::unbounded_channel;
use tracing::info;

use super::super::broker::{Broker, BrokerCommand};
use super::super::fetch_session::FetchSession;
use super::replicas::KEPT;
use super::{BrokerHandle, Dispatcher, PartitionState, Placement};

impl Dispatcher {
    /// Whether a replica is no longer to be fetched from.
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
                    self.send(replica, BrokerCommand::Return(Arc::clone(&state.assignment)));
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
                    self.send(*broker, BrokerCommand::Return(Arc::clone(&state.assignment)));
                    over.push((key.clone(), None));
                }
                _ => {}
            }
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
                if std::mem::replace(&mut position.leader_epoch, leader_epoch) != leader_epoch {
                    // Another leader may know the epoch, or be the one that truncated the log.
                    position.doubted = -1;
                }
                position.without_rack = state.kept.is_some();
                state.placed = now;
                state.task = self.brokers.get(&broker).and_then(|handle| handle.task);
                state.at_replica = state.replica.is_some_and(|(replica, _)| replica == broker);
                if state.at_replica {
                    info!(route = self.context.reporter.route(), topic = %key.topic, partition = key.partition, broker,
                        "fetching from preferred replica");
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
        let (commands_tx, commands_rx) = unbounded_channel();
        let broker = Broker {
            id,
            address: address.clone(),
            context: Arc::clone(&self.context),
            session: FetchSession::new(self.context.options.clone()),
            commands: commands_rx,
            events: self.events_tx.clone(),
            probing: false,
        };
        let handle = BrokerHandle {
            task: Some(self.tasks.spawn(broker.run()).id()),
            address: address.clone(),
            commands: commands_tx,
        };
        self.failing.remove(&id);
        self.brokers.insert(id, handle);
    }

    /// Shows why partitions are not fetched, if any are not.
    pub(super) fn report(&self) {
        let reason = self.partitions.iter().find_map(|(key, state)| match &state.place {
            Placement::Unassigned { why: Some(why), .. } => Some(why.clone()),
            Placement::Unassigned { .. } => {
                let error = self.topics.get(&key.topic).and_then(|topic| topic.error.clone());
                let error = error.unwrap_or_else(|| "no leader is known".to_owned());
                Some(format!("{key}: {error}"))
            }
            Placement::OnBroker(broker) => self.failing.get(broker).cloned(),
            Placement::AwaitingReset => Some(format!("{key}: looking up where to go on")),
        });
        self.context.health.set_unfetched(reason);
        if self.context.alone {
            self.context.health.set_fetching(self.replicas.has_connected());
        }
    }
}
