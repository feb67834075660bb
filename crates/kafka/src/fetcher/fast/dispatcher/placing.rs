//! Where partitions go, and what is shown of it.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc::unbounded_channel;
use tracing::info;

use super::super::broker::{self, Broker};
use super::super::share::Share;
use super::replicas::KEPT;
use super::{Dispatcher, Home, Place, Remote};

impl Dispatcher {
    /// Whether a replica is no longer to be fetched from.
    fn is_over(&self, replica: i32, until: Instant, now: Instant) -> bool {
        now >= until
            || self.troubled.contains_key(&replica)
            || !self.addresses.contains_key(&replica)
    }

    /// The broker to fetch from now.
    pub(super) fn target(&self, home: &Home, now: Instant) -> Option<i32> {
        let replica = home.replica.filter(|(replica, until)| !self.is_over(*replica, *until, now));
        let broker = match replica {
            Some((replica, _)) => replica,
            None => home.leader.map(|leader| leader.broker)?,
        };
        self.addresses.contains_key(&broker).then_some(broker)
    }

    pub(super) fn place(&mut self, now: Instant) {
        let mut moves = Vec::new();
        let mut over = Vec::new();
        for (key, home) in &self.homes {
            match (&home.place, home.replica) {
                (Place::Waiting { from, .. }, _) if *from <= now => match self.target(home, now) {
                    Some(broker) => moves.push((key.clone(), broker)),
                    None => self.wants_metadata = true,
                },
                (Place::At(broker), Some((replica, until)))
                    if replica == *broker && self.is_over(replica, until, now) =>
                {
                    self.send(replica, broker::Order::Return(Arc::clone(&home.assignment)));
                    // At the end of the lease the leader is asked again. It stands in for one that
                    // has failed.
                    let kept = (now < until).then(|| {
                        (replica, self.replicas.shunned_until(replica, now).unwrap_or(now + KEPT))
                    });
                    over.push((key.clone(), kept));
                }
                (Place::At(broker), _) if home.kept.is_some_and(|(_, until)| now >= until) => {
                    self.send(*broker, broker::Order::Return(Arc::clone(&home.assignment)));
                    over.push((key.clone(), None));
                }
                _ => {}
            }
        }
        for (key, kept) in over {
            if let Some(home) = self.homes.get_mut(&key) {
                home.replica = None;
                home.kept = kept;
            }
        }
        for (key, broker) in moves {
            self.reach(broker);
            let Some(home) = self.homes.get_mut(&key) else { continue };
            let leader_epoch = home.leader.map_or(-1, |leader| leader.epoch);
            let place = std::mem::replace(&mut home.place, Place::At(broker));
            if let Place::Waiting { mut position, .. } = place {
                position.topic_id = home.topic_id;
                if std::mem::replace(&mut position.leader_epoch, leader_epoch) != leader_epoch {
                    // Another leader may know the epoch, or be the one that cut the log.
                    position.doubted = -1;
                }
                position.without_rack = home.kept.is_some();
                home.placed = now;
                home.task = self.brokers.get(&broker).and_then(|remote| remote.task);
                home.at_replica = home.replica.is_some_and(|(replica, _)| replica == broker);
                if home.at_replica {
                    info!(route = self.wiring.reporter.route(), topic = %key.0, partition = key.1, broker,
                        "fetching from a nearer replica");
                }
                self.send(broker, broker::Order::Add(position));
            }
        }
    }

    /// Makes sure that a task fetches from this broker.
    pub(super) fn reach(&mut self, id: i32) {
        let Some(address) = self.addresses.get(&id) else { return };
        if self.brokers.contains_key(&id) {
            return;
        }
        let (orders, ordered) = unbounded_channel();
        let broker = Broker {
            id,
            address: address.clone(),
            wiring: Arc::clone(&self.wiring),
            share: Share::new(self.wiring.terms.clone()),
            orders: ordered,
            tell: self.tell.clone(),
            probing: false,
        };
        let remote = Remote {
            task: Some(self.tasks.spawn(broker.run()).id()),
            address: address.clone(),
            orders,
        };
        self.troubled.remove(&id);
        self.brokers.insert(id, remote);
    }

    /// Shows why partitions are not fetched, if any are not.
    pub(super) fn show(&self) {
        let reason = self.homes.iter().find_map(|((topic, partition), home)| match &home.place {
            Place::Waiting { why: Some(why), .. } => Some(why.clone()),
            Place::Waiting { .. } => {
                let error = self.topics.get(topic).and_then(|topic| topic.error.clone());
                let error = error.unwrap_or_else(|| "no leader is known".to_owned());
                Some(format!("{topic}/{partition}: {error}"))
            }
            Place::At(broker) => self.troubled.get(broker).cloned(),
            Place::Parked => Some(format!("{topic}/{partition}: looking up where to go on")),
        });
        self.wiring.board.set_unfetched(reason);
        if self.wiring.alone {
            self.wiring.board.set_fetching(self.replicas.has_connected());
        }
    }
}
