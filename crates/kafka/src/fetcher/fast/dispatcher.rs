//! Brings every partition to the broker that has it, and takes it from there when another one does.

mod hearing;
mod placing;
mod replicas;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{Id, JoinHandle, JoinSet};
use tokio::time::sleep_until;
use uuid::Uuid;

use super::broker;
use super::metadata::{Asker, Leader, Metadata, NoMetadata, Topic};
use super::position::{Key, Position};
use super::{Order, Told, Wiring};
use crate::assignment::Assignment;
use replicas::Replicas;

/// Time between two Metadata requests while something is not as it should be.
const ASK_AGAIN: Duration = Duration::from_millis(300);

/// A partition and where it is.
struct Home {
    assignment: Arc<Assignment>,
    /// Number of the generation that is fetched, or is to be.
    generation: u32,
    topic_id: Uuid,
    leader: Option<Leader>,
    /// The replica to fetch from instead of the leader, and until when.
    replica: Option<(i32, Instant)>,
    /// The replica in whose place the leader serves, asked without our rack, and until when.
    kept: Option<(i32, Instant)>,
    /// Whether the broker that has it was chosen as a replica.
    at_replica: bool,
    /// The task that has it, or had it last.
    task: Option<Id>,
    place: Place,
    placed: Instant,
    failures: u32,
    /// When its log last did not have its offset, and how many times that had happened in a row by
    /// then.
    reset: Option<Instant>,
    resets: u32,
    /// The leader that last said it was none.
    turned_away_by: Option<Leader>,
    /// Ids of the topic's earlier lives.
    past_ids: Vec<Uuid>,
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
    /// None in tests that play it.
    task: Option<Id>,
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
    replicas: Replicas,
    tasks: JoinSet<()>,
    asked: Option<Instant>,
    wants_metadata: bool,
    /// Whether the server that is asked tells what was true before: another one is asked next.
    distrusted: bool,
    /// The id of the cluster, once one was told.
    cluster: Option<String>,
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
            replicas: Replicas::default(),
            tasks: JoinSet::new(),
            asked: None,
            wants_metadata: false,
            distrusted: false,
            cluster: None,
        }
    }

    /// Runs until nobody gives orders any more; then the brokers' tasks are ended too.
    pub(super) async fn run(mut self) {
        let mut asker =
            Some(Asker::new(Arc::clone(&self.wiring.connector), self.wiring.bootstrap.clone()));
        let mut asking: Option<Asking> = None;
        loop {
            let due = self.next_due(asking.is_some(), Instant::now());
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(order) => self.order(order),
                    None => break,
                },
                Some(told) = self.told.recv() => self.told(told),
                Some(Err(failure)) = self.tasks.join_next() => self.broke(failure),
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
                self.distrusted = false;
            }
            self.place(now);
            self.show();
        }
        if let Some(asking) = asking {
            asking.abort();
        }
        self.tasks.shutdown().await;
        self.wiring.board.set_fetching(false);
    }

    fn ask(&self, mut asker: Asker) -> Asking {
        let mut topics: Vec<Arc<str>> =
            self.homes.keys().map(|(topic, _)| Arc::clone(topic)).collect();
        topics.sort_unstable();
        topics.dedup();
        let mut known: Vec<String> = self.addresses.values().cloned().collect();
        known.sort_unstable();
        if self.distrusted {
            asker.leave();
        }
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
            // One without a broker wants metadata once its pause is over.
            Place::Waiting { from, .. } if *from > now || self.target(home, *from).is_some() => {
                Some(*from)
            }
            Place::At(_) => home.kept.map(|(_, until)| until),
            _ => None,
        });
        let later = now + self.wiring.refresh;
        let ask = if asking || self.homes.is_empty() { later } else { self.ask_due(now) };
        waiting.fold(ask, Instant::min)
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Take(positions) => {
                for position in positions {
                    self.take(position);
                }
            }
            Order::Seek(assignment, generation) => {
                self.seek(Position::start(assignment, generation))
            }
            Order::Release(assignments) => {
                for assignment in assignments {
                    self.release(&assignment);
                }
            }
        }
    }

    fn take(&mut self, position: Position) {
        let (assignment, now) = (Arc::clone(&position.assignment), Instant::now());
        let generation = position.generation.number;
        let place = Place::Waiting { position, from: now, why: None };
        let known = self.topics.get(&assignment.topic);
        let leader = known.and_then(|topic| topic.leaders.get(&assignment.partition).copied());
        let topic_id = known.map_or(Uuid::nil(), |topic| topic.id);
        self.wants_metadata |= leader.is_none();
        let key = (Arc::clone(&assignment.topic), assignment.partition);
        let home = Home {
            assignment,
            generation,
            topic_id,
            leader,
            replica: None,
            kept: None,
            at_replica: false,
            task: None,
            place,
            placed: now,
            failures: 0,
            reset: None,
            resets: 0,
            turned_away_by: None,
            past_ids: Vec::new(),
            made_anew: false,
        };
        self.homes.insert(key, home);
    }

    /// Goes on with the next generation, wherever the one before it is.
    fn seek(&mut self, position: Position) {
        let Some(home) = self.homes.get_mut(&position.key()) else { return };
        if !Arc::ptr_eq(&home.assignment, &position.assignment)
            || home.generation == position.generation.number
        {
            return;
        }
        home.generation = position.generation.number;
        let (assignment, is_anew) = (Arc::clone(&position.assignment), home.made_anew);
        // By a restart it goes on at once.
        let parked = matches!(home.place, Place::Parked);
        let (pause, why) = if parked { home.reset_pause() } else { Default::default() };
        let waiting =
            Place::Waiting { position: position.clone(), from: Instant::now() + pause, why };
        if let Place::At(broker) = std::mem::replace(&mut home.place, waiting) {
            self.send(broker, broker::Order::Drop(assignment));
        }
        if is_anew {
            // Noticed while the offset was looked up, which may be one of the topic that is no
            // more.
            self.made_anew(&position);
        }
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
