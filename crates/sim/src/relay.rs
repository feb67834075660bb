//! A relay: the real state of a route, the real fetch sessions, and between them what threads and
//! tasks do in the product. Whatever takes time there is an event here.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zafka_bridge::config::RouteConfig;
use zafka_bridge::sim::{Action, Positions, RouteReport, RouteState};
use zafka_kafka::sim::{self, BrokerFetch, Drained, Position};
use zafka_kafka::{Assignment, Fetched, SourceEvent};

use crate::cluster::Partition;
use crate::net::{SharedNet, SimSink};

/// Batches that wait to be received, as in the product.
pub const RECORDS: usize = 2;

/// A partition that a relay has.
#[derive(Debug)]
pub struct Held {
    /// Its assignment.
    pub assignment: Arc<Assignment>,
    /// The place at which it is fetched.
    pub place: Place,
    /// The branch of the log that it was read from last, as far as anybody told.
    pub branch: u32,
    /// The id of the topic that it is read of.
    pub topic_id: uuid::Uuid,
}

/// The place at which a partition is fetched.
#[derive(Debug)]
pub enum Place {
    /// It waits for its leader to be known.
    Waiting(Position),
    /// It is with this broker's task.
    At(i32),
    /// Another offset is looked up.
    Parked,
}

/// The task of a broker.
#[derive(Debug)]
pub struct BrokerTask {
    /// The fetching from it.
    pub fetch: BrokerFetch,
    /// Counts connections: what comes of an earlier one is nothing.
    pub connection: u64,
    /// True if there is a connection.
    pub is_connected: bool,
    /// True if a request is under way.
    pub is_asking: bool,
    /// True if something is to happen by itself.
    pub is_due: bool,
}

/// Partitions that the group wants back.
#[derive(Debug)]
pub struct Revoked {
    /// Its partitions.
    pub partitions: Vec<Partition>,
    /// The answer of the route.
    pub drained: Drained,
    /// They go without it then.
    pub deadline: Instant,
}

/// A relay.
#[derive(Debug)]
pub struct Relay {
    /// Its number.
    pub number: usize,
    /// One more for each time that it was killed.
    pub life: u64,
    /// Its own among all lives of all relays.
    pub serial: usize,
    /// The route's decisions.
    pub state: RouteState<SimSink>,
    /// The report that the route fills.
    pub report: Arc<RouteReport>,
    /// Its socket.
    pub net: SharedNet,
    /// Events that the route has not received yet.
    pub events: VecDeque<SourceEvent>,
    /// Records that the route has not received.
    pub records: VecDeque<Fetched>,
    /// Partitions that the group gave it.
    pub held: BTreeMap<Partition, Held>,
    /// The tasks of brokers.
    pub brokers: BTreeMap<i32, BrokerTask>,
    /// Positions to be committed: the newest of each partition.
    pub commits: BTreeMap<Partition, (Arc<Assignment>, i64)>,
    /// True if a commit is under way.
    pub is_committing: bool,
    /// Partitions that it gives back.
    pub revoked: Vec<Revoked>,
    /// The time of the route's next run, if one is planned.
    pub planned: Option<Instant>,
    /// The positions at which it stopped.
    pub stopped: Option<Positions>,
}

/// The wishes of one run of the route.
#[derive(Debug, Default)]
pub struct Needs {
    /// True if records were taken, so that there is room for more.
    pub took_records: bool,
    /// Partitions that begin another generation.
    pub seeks: Vec<Position>,
    /// True if something is to be committed.
    pub commits: bool,
}

impl Relay {
    /// A relay that has nothing yet.
    pub fn new(
        (number, life): (usize, u64),
        serial: usize,
        config: &RouteConfig,
        net: SharedNet,
        now: Instant,
    ) -> Self {
        let report = Arc::new(RouteReport::default());
        let config = Arc::new(config.clone());
        let sink = SimSink(Rc::clone(&net));
        Self {
            number,
            life,
            serial,
            state: RouteState::new(config, Arc::clone(&report), sink, now),
            report,
            net,
            events: VecDeque::new(),
            records: VecDeque::new(),
            held: BTreeMap::new(),
            brokers: BTreeMap::new(),
            commits: BTreeMap::new(),
            is_committing: false,
            revoked: Vec::new(),
            planned: None,
            stopped: None,
        }
    }

    /// Runs the route as its task does, until it would wait.
    pub fn run(&mut self, now: Instant) -> Needs {
        let mut asked = Needs::default();
        if self.stopped.is_some() {
            return asked;
        }
        self.net.borrow_mut().set_now(now);
        loop {
            while let Some(event) = self.events.pop_front() {
                self.state.handle_event(event, now);
            }
            if self.net.borrow_mut().take_demand_changed() {
                self.state.handle_demand(now);
            }
            self.state.handle_timeout(now);
            self.state.handle_room(now);
            self.carry_out(&mut asked);
            if self.state.is_draining() && self.net.borrow().is_drained() {
                self.state.handle_drained(now);
                self.carry_out(&mut asked);
                return asked;
            }
            if self.state.wants_records()
                && let Some(fetched) = self.records.pop_front()
            {
                asked.took_records = true;
                self.state.handle_fetched(fetched);
                continue;
            }
            self.state.end_turn();
            return asked;
        }
    }

    /// Returns the time of the route's next run, if nothing else happens.
    pub fn next_run(&self, now: Instant) -> Option<Instant> {
        if self.stopped.is_some() {
            return None;
        }
        let has_turn = match self.state.needs_room() {
            Some(size) => zafka_bridge::sim::Sink::admits(self.state.sink(), size),
            None => self.state.wants_records() && !self.records.is_empty(),
        };
        let turn = has_turn.then(|| now + Duration::from_micros(20));
        let timeout = self.state.poll_timeout().map(|(due, _)| due);
        turn.into_iter().chain(timeout).min()
    }

    fn carry_out(&mut self, asked: &mut Needs) {
        while let Some(action) = self.state.poll_action() {
            match action {
                Action::Commit(positions) => {
                    self.commit(positions);
                    asked.commits = true;
                }
                Action::AllowRewind(assignment) => {
                    self.commits.retain(|_, (due, _)| !Arc::ptr_eq(due, &assignment));
                    sim::allow_rewind(&assignment);
                }
                Action::Pause(assignment) => sim::pause(&assignment),
                Action::Restart { assignment, known, offset } => {
                    let generation = sim::restart(&assignment, known, offset);
                    self.state.handle_restarted(&assignment, generation);
                    if let Some(generation) = generation {
                        asked.seeks.push(Position::start(&assignment, generation));
                    }
                }
                Action::Release { done, positions } => done.complete(positions),
                Action::Stop(positions) => self.stopped = Some(positions),
            }
        }
    }

    /// The newest position of a partition wins, and none goes back.
    pub fn commit(&mut self, positions: Positions) {
        for (assignment, offset) in positions {
            if sim::may_commit(&assignment)
                && assignment.committed().is_none_or(|committed| offset > committed)
            {
                self.commits.insert(partition_of(&assignment), (assignment, offset));
            }
        }
    }
}

/// The partition of an assignment.
pub fn partition_of(assignment: &Assignment) -> Partition {
    (assignment.topic().to_string(), assignment.partition())
}
