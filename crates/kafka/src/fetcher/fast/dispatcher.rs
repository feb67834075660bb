//! Brings every partition to the broker that has it, and takes it from there when another one does.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep_until;
use tracing::{debug, error, info};
use uuid::Uuid;

use super::broker::{self, Broker};
use super::metadata::{Asker, Leader, Metadata, NoMetadata, Topic};
use super::position::{Key, Position, Why};
use super::share::Share;
use super::{NOT_PLACED, Order, Told, Wiring};
use crate::assignment::Assignment;
use crate::membership::{Command, Reset};

/// Time between two Metadata requests while something is not as it should be.
const ASK_AGAIN: Duration = Duration::from_millis(300);
/// How long a partition is fetched from a replica before its leader is asked for a nearer one again (KIP-392).
const REPLICA_LEASE: Duration = Duration::from_secs(300);
/// How long a partition that came back waits before it is sent out again.
const PLACE_AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// A partition that came back after longer than this has failed for the first time.
const SETTLED: Duration = Duration::from_secs(5);

/// A partition and where it is.
struct Home {
    assignment: Arc<Assignment>,
    topic_id: Uuid,
    leader: Option<Leader>,
    /// The replica to fetch from instead of the leader, and until when.
    replica: Option<(i32, Instant)>,
    place: Place,
    placed: Instant,
    failures: u32,
    /// Whether the topic is another one than the position is of, and nobody was told.
    made_anew: bool,
}

enum Place {
    /// To be sent to a broker from then on; why it is not there, if that is a fault.
    Waiting {
        position: Position,
        from: Instant,
        why: Option<String>,
    },
    At(i32),
    /// Another offset is being looked up.
    Parked,
}

struct Remote {
    address: String,
    orders: UnboundedSender<broker::Order>,
}

/// The task's own.
pub(super) struct Dispatcher {
    wiring: Arc<Wiring>,
    orders: UnboundedReceiver<Order>,
    told: UnboundedReceiver<Told>,
    tell: UnboundedSender<Told>,
    homes: HashMap<Key, Home>,
    topics: HashMap<Arc<str>, Topic>,
    addresses: HashMap<i32, String>,
    brokers: HashMap<i32, Remote>,
    /// Brokers that cannot be fetched from, and why.
    troubled: HashMap<i32, String>,
    tasks: JoinSet<()>,
    asked: Option<Instant>,
    wants_metadata: bool,
    told_unfetched: Option<String>,
}

type Asking = JoinHandle<(Asker, Result<Metadata, NoMetadata>)>;

impl Dispatcher {
    pub(super) fn new(wiring: Arc<Wiring>, orders: UnboundedReceiver<Order>) -> Self {
        let (tell, told) = unbounded_channel();
        Self {
            wiring,
            orders,
            told,
            tell,
            homes: HashMap::new(),
            topics: HashMap::new(),
            addresses: HashMap::new(),
            brokers: HashMap::new(),
            troubled: HashMap::new(),
            tasks: JoinSet::new(),
            asked: None,
            wants_metadata: false,
            told_unfetched: None,
        }
    }

    /// Runs until nobody gives orders any more; then the brokers' tasks are ended too.
    pub(super) async fn run(mut self) {
        let mut asker = Some(Asker::new(Arc::clone(&self.wiring.connector), self.wiring.bootstrap.clone()));
        let mut asking: Option<Asking> = None;
        loop {
            let due = self.next_due(asking.is_some(), Instant::now());
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(order) => self.order(order),
                    None => break,
                },
                Some(told) = self.told.recv() => self.told(told),
                answer = wait(&mut asking), if asking.is_some() => {
                    asking = None;
                    let (back, answer) = answer;
                    asker = Some(back.unwrap_or_else(|| {
                        Asker::new(Arc::clone(&self.wiring.connector), self.wiring.bootstrap.clone())
                    }));
                    self.answered(answer);
                }
                () = sleep_until(due.into()) => {}
            }
            // Many may come back at once: they are placed and shown together.
            while let Ok(order) = self.orders.try_recv() {
                self.order(order);
            }
            while let Ok(told) = self.told.try_recv() {
                self.told(told);
            }
            let now = Instant::now();
            if asking.is_none() && !self.homes.is_empty() && now >= self.ask_due(now) {
                self.asked = Some(now);
                self.wants_metadata = false;
                asking = asker.take().map(|asker| self.ask(asker));
            }
            self.place(now);
            self.show();
        }
        if let Some(asking) = asking {
            asking.abort();
        }
        self.tasks.shutdown().await;
    }

    fn ask(&self, mut asker: Asker) -> Asking {
        let mut topics: Vec<Arc<str>> = self.homes.keys().map(|(topic, _)| Arc::clone(topic)).collect();
        topics.sort_unstable();
        topics.dedup();
        let mut known: Vec<String> = self.addresses.values().cloned().collect();
        known.sort_unstable();
        tokio::spawn(async move {
            let answer = asker.ask(&topics, &known).await;
            (asker, answer)
        })
    }

    fn is_troubled(&self) -> bool {
        let at = |home: &Home| matches!(home.place, Place::At(broker) if self.troubled.contains_key(&broker));
        self.wants_metadata || (!self.troubled.is_empty() && self.homes.values().any(at))
    }

    fn ask_due(&self, now: Instant) -> Instant {
        let wait = if self.is_troubled() { ASK_AGAIN } else { self.wiring.refresh };
        self.asked.map_or(now, |asked| asked + wait)
    }

    /// When there is something to do by itself; later than that where there is nothing.
    fn next_due(&self, asking: bool, now: Instant) -> Instant {
        let waiting = self.homes.values().filter_map(|home| match &home.place {
            Place::Waiting { from, .. } if self.target(home, *from).is_some() => Some(*from),
            _ => None,
        });
        let later = now + self.wiring.refresh;
        let ask = if asking || self.homes.is_empty() { later } else { self.ask_due(now) };
        waiting.fold(ask, Instant::min)
    }

    /// Whether a replica is no longer to be fetched from.
    fn is_over(&self, replica: i32, until: Instant, now: Instant) -> bool {
        now >= until || self.troubled.contains_key(&replica) || !self.addresses.contains_key(&replica)
    }

    // ---- orders

    fn order(&mut self, order: Order) {
        match order {
            Order::Take(positions) => {
                if !positions.is_empty() {
                    // Whoever ordered it has shown that: it is not true any more at the next `show`.
                    self.told_unfetched = Some(NOT_PLACED.to_owned());
                }
                for (assignment, offset) in positions {
                    self.take(Position::new(assignment, offset));
                }
            }
            Order::Seek(assignment, to) => self.seek(Position::new(assignment, to)),
            Order::Release(assignments) => {
                for assignment in assignments {
                    self.release(&assignment);
                }
            }
        }
    }

    fn take(&mut self, position: Position) {
        let (assignment, now) = (Arc::clone(&position.assignment), Instant::now());
        let place = Place::Waiting { position, from: now, why: None };
        let known = self.topics.get(&assignment.topic);
        let leader = known.and_then(|topic| topic.leaders.get(&assignment.partition).copied());
        let topic_id = known.map_or(Uuid::nil(), |topic| topic.id);
        self.wants_metadata |= leader.is_none();
        let key = (Arc::clone(&assignment.topic), assignment.partition);
        let home = Home {
            assignment,
            topic_id,
            leader,
            replica: None,
            place,
            placed: now,
            failures: 0,
            made_anew: false,
        };
        self.homes.insert(key, home);
    }

    /// Goes on at another offset of a partition that is parked.
    fn seek(&mut self, position: Position) {
        let Some(home) = self.homes.get_mut(&position.key()) else { return };
        if !Arc::ptr_eq(&home.assignment, &position.assignment) {
            return;
        }
        if home.made_anew {
            // Noticed while the offset was looked up, which may be one of the topic that is no more.
            return self.made_anew(&position);
        }
        let Place::Parked = home.place else { return };
        let position = Position { sought: true, ..position };
        home.place = Place::Waiting { position, from: Instant::now(), why: None };
    }

    fn release(&mut self, assignment: &Arc<Assignment>) {
        let key = (Arc::clone(&assignment.topic), assignment.partition);
        let Some(home) = self.homes.get(&key) else { return };
        if !Arc::ptr_eq(&home.assignment, assignment) {
            return;
        }
        if let Place::At(broker) = home.place {
            self.send(broker, broker::Order::Drop(Arc::clone(assignment)));
        }
        self.homes.remove(&key);
        if !self.homes.keys().any(|(topic, _)| *topic == key.0) {
            // Whoever takes it next learns its id anew.
            self.topics.remove(&key.0);
        }
    }

    fn send(&self, broker: i32, order: broker::Order) {
        if let Some(remote) = self.brokers.get(&broker) {
            // The task lives as long as this sender.
            let _ = remote.orders.send(order);
        }
    }

    // ---- what brokers tell

    fn told(&mut self, told: Told) {
        match told {
            Told::Connected(broker) => {
                if self.troubled.remove(&broker).is_some() {
                    info!(route = self.wiring.reporter.route(), broker, "connected again");
                }
            }
            Told::Failed { broker, reason } => {
                self.troubled.insert(broker, reason);
            }
            Told::TooOld(reason) => self.command(Command::TooOld(reason)),
            Told::Returned(position, why) => self.returned(position, why),
        }
    }

    fn returned(&mut self, position: Position, why: Why) {
        let Some(home) = self.homes.get_mut(&position.key()) else { return };
        if !Arc::ptr_eq(&home.assignment, &position.assignment) {
            return;
        }
        let Place::At(broker) = home.place else { return };
        let now = Instant::now();
        let at_replica = home.replica.is_some_and(|(replica, _)| replica == broker);
        debug!(route = self.wiring.reporter.route(), topic = %home.assignment.topic,
            partition = home.assignment.partition, broker, ?why, "partition came back");
        let mut waiting = None;
        match why {
            _ if home.made_anew => return self.made_anew(&position),
            Why::Asked => {}
            // It would send it there again and again.
            Why::Nearer(replica) if at_replica || replica == broker => {
                home.replica = None;
                waiting = Some(format!("broker {broker} is no leader and names replica {replica}"));
            }
            Why::Nearer(replica) if !self.addresses.contains_key(&replica) => {
                self.wants_metadata = true;
                waiting = Some(format!("replica {replica} is not known yet"));
            }
            Why::Nearer(replica) => {
                home.replica = Some((replica, now + REPLICA_LEASE));
                // It is in sync, as far as the leader knows: it is tried again, more and more seldom.
                waiting = self.troubled.remove(&replica);
            }
            // A replica may not have come as far: the leader knows.
            Why::OutOfRange if at_replica => {
                home.replica = None;
                waiting = Some(format!("replica {broker} does not have the offset"));
            }
            Why::OutOfRange => {
                let (assignment, from) = (Arc::clone(&home.assignment), position.offset);
                home.place = Place::Parked;
                let reason = "Broker: Offset out of range".to_owned();
                return self.command(Command::OutOfRange { assignment, from, reason });
            }
            Why::Diverged(to) => {
                let (assignment, from) = (Arc::clone(&home.assignment), position.offset);
                home.place = Place::Parked;
                return self.command(Command::Elsewhere {
                    assignment,
                    from,
                    to: Some(to),
                    why: Reset::Truncated,
                });
            }
            Why::Elsewhere { reason, leader } => {
                self.wants_metadata = true;
                home.replica = None;
                match leader {
                    Some((broker, epoch)) if home.leader.is_none_or(|leader| leader.epoch < epoch) => {
                        home.leader = Some(Leader { broker, epoch });
                    }
                    _ => home.leader = None,
                }
                waiting = Some(reason);
            }
        }
        let mut from = now;
        if waiting.is_some() {
            home.failures = if now - home.placed > SETTLED { 0 } else { home.failures + 1 };
            from += PLACE_AGAIN.0.saturating_mul(1 << home.failures.min(8)).min(PLACE_AGAIN.1);
        }
        home.place = Place::Waiting { position, from, why: waiting };
    }

    fn command(&self, command: Command) {
        // Where the membership has ended, nothing is to be fetched.
        let _ = self.wiring.commands.send(command);
    }

    /// The position is of a topic that is no more; the one of the same name is read from its start.
    fn made_anew(&mut self, position: &Position) {
        let Some(home) = self.homes.get_mut(&position.key()) else { return };
        let (assignment, from) = (Arc::clone(&home.assignment), position.offset);
        home.place = Place::Parked;
        home.made_anew = false;
        self.command(Command::Elsewhere { assignment, from, to: None, why: Reset::MadeAnew });
    }

    // ---- what the cluster tells

    fn answered(&mut self, answer: Result<Metadata, NoMetadata>) {
        let metadata = match answer {
            Ok(metadata) => metadata,
            Err(NoMetadata::TooOld(reason)) => return self.command(Command::TooOld(reason)),
            Err(NoMetadata::Failed(reason)) => {
                self.wants_metadata = true;
                return self.wiring.reporter.report(&reason);
            }
        };
        // The task of a broker that has moved ends, and gives its partitions back.
        let addresses = &metadata.brokers;
        self.brokers.retain(|id, remote| addresses.get(id).is_none_or(|address| *address == remote.address));
        self.addresses = metadata.brokers;
        let mut anew = Vec::new();
        let mut back = Vec::new();
        for (key, home) in &mut self.homes {
            let Some(topic) = metadata.topics.get(&key.0) else { continue };
            if !topic.id.is_nil() && topic.id != home.topic_id {
                if !home.topic_id.is_nil() {
                    error!(
                        route = self.wiring.reporter.route(), topic = %key.0, partition = key.1,
                        old = %home.topic_id, new = %topic.id, "the topic was deleted and made again"
                    );
                    home.made_anew = true;
                    home.leader = None;
                    match &home.place {
                        Place::At(broker) => back.push((*broker, Arc::clone(&home.assignment))),
                        Place::Waiting { position, .. } => anew.push(position.clone()),
                        Place::Parked => {}
                    }
                }
                home.topic_id = topic.id;
            }
            let Some(leader) = topic.leaders.get(&key.1).copied() else {
                home.leader = None;
                continue;
            };
            // One that the cluster does not have is not waited for.
            let is_newer = home.leader.is_none_or(|known| {
                known.epoch <= leader.epoch || !self.addresses.contains_key(&known.broker)
            });
            if !is_newer || home.leader == Some(leader) {
                continue;
            }
            home.leader = Some(leader);
            if let Place::At(broker) = home.place
                && home.replica.is_none()
                && !home.made_anew
                && broker != leader.broker
                && leader.broker >= 0
            {
                back.push((broker, Arc::clone(&home.assignment)));
            }
        }
        for (broker, assignment) in back {
            self.send(broker, broker::Order::Return(assignment));
        }
        for position in anew {
            self.made_anew(&position);
        }
        // Topics that were let go meanwhile are not kept: what is known of them would grow old.
        let held: HashSet<&Arc<str>> = self.homes.keys().map(|(topic, _)| topic).collect();
        self.topics.extend(metadata.topics.into_iter().filter(|(topic, _)| held.contains(topic)));
    }

    // ---- where partitions go

    /// The broker to fetch from now.
    fn target(&self, home: &Home, now: Instant) -> Option<i32> {
        let replica = home.replica.filter(|(replica, until)| !self.is_over(*replica, *until, now));
        let broker = match replica {
            Some((replica, _)) => replica,
            None => home.leader.map(|leader| leader.broker)?,
        };
        self.addresses.contains_key(&broker).then_some(broker)
    }

    fn place(&mut self, now: Instant) {
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
                    over.push(key.clone());
                }
                _ => {}
            }
        }
        for key in over {
            if let Some(home) = self.homes.get_mut(&key) {
                home.replica = None;
            }
        }
        for (key, broker) in moves {
            self.reach(broker);
            let Some(home) = self.homes.get_mut(&key) else { continue };
            let leader_epoch = home.leader.map_or(-1, |leader| leader.epoch);
            let place = std::mem::replace(&mut home.place, Place::At(broker));
            if let Place::Waiting { mut position, .. } = place {
                position.topic_id = home.topic_id;
                position.leader_epoch = leader_epoch;
                home.placed = now;
                if home.replica.is_some_and(|(replica, _)| replica == broker) {
                    info!(route = self.wiring.reporter.route(), topic = %key.0, partition = key.1, broker,
                        "fetching from a nearer replica");
                }
                self.send(broker, broker::Order::Add(position));
            }
        }
    }

    /// Makes sure that a task fetches from this broker.
    fn reach(&mut self, id: i32) {
        let Some(address) = self.addresses.get(&id) else { return };
        if self.brokers.contains_key(&id) {
            return;
        }
        while self.tasks.try_join_next().is_some() {}
        let (orders, ordered) = unbounded_channel();
        let broker = Broker {
            id,
            address: address.clone(),
            wiring: Arc::clone(&self.wiring),
            share: Share::new(self.wiring.terms.clone()),
            orders: ordered,
            tell: self.tell.clone(),
        };
        self.tasks.spawn(broker.run());
        self.troubled.remove(&id);
        self.brokers.insert(id, Remote { address: address.clone(), orders });
    }

    /// Shows why partitions are not fetched, if any are not.
    fn show(&mut self) {
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
        if reason != self.told_unfetched {
            self.wiring.board.set_unfetched(reason.clone());
            self.told_unfetched = reason;
        }
    }
}

async fn wait(asking: &mut Option<Asking>) -> (Option<Asker>, Result<Metadata, NoMetadata>) {
    match asking {
        Some(asking) => match asking.await {
            Ok((asker, answer)) => (Some(asker), answer),
            Err(error) => (None, Err(NoMetadata::Failed(format!("asking for metadata: {error}")))),
        },
        // Guarded against by whoever calls it.
        None => std::future::pending().await,
    }
}
