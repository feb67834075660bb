//! What brokers and the cluster tell, and what comes of it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinError;

use tracing::{debug, error, info};
use uuid::Uuid;

use super::super::Told;
use super::super::broker;
use super::super::metadata::{Leader, Metadata, NoMetadata};
use super::super::position::{Position, Why};
use super::replicas::{KEPT, REPLICA_LEASE, Verdict};
use super::{Dispatcher, Home, Place};
use crate::guard;
use crate::membership::{Command, Reset};

/// How long a partition that came back waits before it is sent out again.
pub(super) const PLACE_AGAIN: (Duration, Duration) =
    (Duration::from_millis(50), Duration::from_secs(1));
/// A partition that came back after longer than this has failed for the first time.
const SETTLED: Duration = Duration::from_secs(5);

/// How long a partition whose log did not have its offset waits when that happens again, and how
/// long after the last time it counts as the first.
pub(super) const RESET_AGAIN: (Duration, Duration) =
    (Duration::from_millis(200), Duration::from_secs(30));
const RESETS_SETTLED: Duration = Duration::from_secs(60);
/// Lives of a topic that are remembered.
const PAST_IDS: usize = 16;

impl Home {
    fn is_led_by(&self, broker: i32) -> bool {
        self.leader.is_some_and(|leader| leader.broker == broker)
    }

    fn count_reset(&mut self, now: Instant) {
        let again = self.reset.is_some_and(|last| now - last < RESETS_SETTLED);
        self.resets = if again { self.resets + 1 } else { 0 };
        self.reset = Some(now);
    }

    /// How long it waits after a reset, and why, unless it is the first.
    pub(super) fn reset_pause(&self) -> (Duration, Option<String>) {
        if self.resets == 0 {
            return (Duration::ZERO, None);
        }
        let pause = RESET_AGAIN.0.saturating_mul(1 << self.resets.min(8)).min(RESET_AGAIN.1);
        let (topic, partition) = (&self.assignment.topic, self.assignment.partition);
        (
            pause,
            Some(format!(
                "{topic}/{partition}: its log lacked the offset {} times in a row",
                self.resets + 1
            )),
        )
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
    pub(super) fn told(&mut self, told: Told) {
        match told {
            Told::Connected(broker) => {
                if self.troubled.remove(&broker).is_some() {
                    info!(route = self.wiring.reporter.route(), broker, "connected again");
                }
                self.replicas.connected(broker);
                self.keep(broker, Instant::now());
            }
            Told::Failed { broker, reason } => {
                self.troubled.insert(broker, reason);
                let now = Instant::now();
                self.replicas.failed(broker, now);
                self.keep(broker, now);
            }
            Told::TooOld(reason) => self.command(Command::TooOld(reason)),
            Told::Returned(position, why) => self.returned(position, why),
        }
    }

    /// Leaders serve in the place of this replica until it may be tried, which may be now.
    fn keep(&mut self, replica: i32, now: Instant) {
        let until = self.replicas.shunned_until(replica, now).unwrap_or(now);
        for home in self.homes.values_mut() {
            if let Some((kept, over)) = &mut home.kept
                && *kept == replica
            {
                *over = until;
            }
        }
    }

    fn returned(&mut self, position: Position, why: Why) {
        let Some(home) = self.homes.get_mut(&position.key()) else { return };
        if !Arc::ptr_eq(&home.assignment, &position.assignment)
            || home.generation != position.generation.number
        {
            return;
        }
        let Place::At(broker) = home.place else { return };
        let now = Instant::now();
        let at_replica = home.at_replica;
        debug!(route = self.wiring.reporter.route(), topic = %home.assignment.topic,
            partition = home.assignment.partition, broker, ?why, "partition came back");
        let (mut waiting, mut probe) = (None, None);
        match why {
            _ if home.made_anew => return self.made_anew(&position),
            Why::Asked => {}
            // It would send it there again and again. A leader that is asked without our rack has
            // no reason to.
            Why::Nearer(replica) if at_replica || replica == broker || home.kept.is_some() => {
                home.replica = None;
                home.kept = Some((replica, now + KEPT));
                waiting =
                    Some(format!("broker {broker} gives no records and names replica {replica}"));
            }
            Why::Nearer(replica) => {
                let known = self.addresses.contains_key(&replica);
                self.wants_metadata |= !known;
                match self.replicas.verdict(replica, now) {
                    Verdict::Not(until) => home.kept = Some((replica, until)),
                    _ if !known => home.kept = Some((replica, now + KEPT)),
                    Verdict::Yes => home.replica = Some((replica, now + REPLICA_LEASE)),
                    Verdict::Probe(until) => {
                        home.kept = Some((replica, until));
                        probe = Some(replica);
                    }
                }
            }
            // A replica may not have come as far, or not be in touch: the leader knows.
            Why::OutOfRange | Why::Diverged(_) if at_replica => {
                home.replica = None;
                home.kept = Some((broker, now + KEPT));
            }
            // Nor is one believed that leads no more.
            Why::OutOfRange | Why::Diverged(_) if !home.is_led_by(broker) => {
                waiting = Some(format!("broker {broker} does not lead and tells of a cut log"));
            }
            Why::OutOfRange => {
                home.count_reset(now);
                home.place = Place::Parked;
                let reason = "Broker: Offset out of range".to_owned();
                return self.command(Command::OutOfRange { due: position.due(), reason });
            }
            Why::Diverged(to) => {
                home.count_reset(now);
                home.place = Place::Parked;
                let (due, why) = (position.due(), Reset::Truncated);
                return self.command(Command::Elsewhere { due, to: Some(to), why });
            }
            Why::Elsewhere { reason, leader } => {
                self.wants_metadata = true;
                // The same leader once more: whoever named it may have lost touch with the cluster.
                self.distrusted |=
                    !at_replica && home.leader.is_some() && home.turned_away_by == home.leader;
                home.turned_away_by = home.leader;
                home.replica = None;
                home.kept = at_replica.then_some((broker, now + KEPT));
                match leader {
                    Some((broker, epoch))
                        if home.leader.is_none_or(|leader| leader.epoch < epoch) =>
                    {
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
        if let Some(replica) = probe {
            self.reach(replica);
            self.send(replica, broker::Order::Probe);
        }
    }

    /// A broker's task panicked. What it had is fetched anew, by another one, from where it was
    /// handed out to.
    pub(super) fn broke(&mut self, failure: JoinError) {
        let task = failure.id();
        // Tasks are cancelled only once nothing is fetched any more.
        let Ok(panic) = failure.try_into_panic() else { return };
        let reason = guard::reason("the task of a broker", &*panic);
        error!(route = self.wiring.reporter.route(), reason, "its partitions are fetched anew");
        self.wiring.reporter.report(&reason);
        self.brokers.retain(|_, remote| remote.task != Some(task));
        let mut anew = Vec::new();
        for home in self.homes.values_mut() {
            if home.task != Some(task) || !matches!(home.place, Place::At(_)) {
                continue;
            }
            let now = Instant::now();
            let position = Position { sought: true, ..Position::of(&home.assignment) };
            home.generation = position.generation.number;
            if home.made_anew {
                anew.push(position.clone());
            }
            home.failures += 1;
            let why = Some(reason.clone());
            home.place = Place::Waiting { position, from: now + PLACE_AGAIN.1, why };
        }
        for position in anew {
            self.made_anew(&position);
        }
    }

    fn command(&self, command: Command) {
        // Where the membership has ended, nothing is to be fetched.
        let _ = self.wiring.commands.send(command);
    }

    /// The position is of a topic that is no more; the one of the same name is read from its start.
    pub(super) fn made_anew(&mut self, position: &Position) {
        let Some(home) = self.homes.get_mut(&position.key()) else { return };
        home.place = Place::Parked;
        home.made_anew = false;
        self.command(Command::Elsewhere { due: position.due(), to: None, why: Reset::MadeAnew });
    }

    pub(super) fn answered(&mut self, answer: Result<Metadata, NoMetadata>) {
        let mut metadata = match answer {
            Ok(metadata) => metadata,
            Err(NoMetadata::TooOld(reason)) => return self.command(Command::TooOld(reason)),
            Err(NoMetadata::Failed(reason)) => {
                self.wants_metadata = true;
                return self.wiring.reporter.report(&reason);
            }
        };
        if let Some(id) = &metadata.cluster
            && self.cluster.get_or_insert_with(|| id.clone()) != id
        {
            // What it has by the names of our topics is something else.
            return self.command(Command::OtherCluster(id.clone()));
        }
        // The task of a broker that has moved ends, and gives its partitions back.
        let addresses = &metadata.brokers;
        self.brokers.retain(|id, remote| {
            addresses.get(id).is_none_or(|address| *address == remote.address)
        });
        self.replicas.retain(|id| self.brokers.contains_key(&id));
        self.addresses = metadata.brokers;
        // Who tells of a life that is over has lost touch with the cluster.
        let stale = |topic: &Arc<str>, id: &Uuid| {
            self.homes.iter().any(|((name, _), home)| name == topic && home.past_ids.contains(id))
        };
        let count = metadata.topics.len();
        metadata.topics.retain(|name, topic| !stale(name, &topic.id));
        if metadata.topics.len() < count {
            (self.distrusted, self.wants_metadata) = (true, true);
        }
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
                    home.end_life();
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
                home.kept = None;
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
}
