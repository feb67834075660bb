//! A relay: the real state of a route, the real membership, dispatcher and fetch sessions, and
//! between them what threads and tasks do in the product. Whatever takes time there is an event
//! here.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;
use zafka_bridge::config::RouteConfig;
use zafka_bridge::sim::{Action, Positions, RouteReport, RouteState};
use zafka_kafka::sim::{
    BrokerFetch, Dispatching, GroupEvent, SimCommand, SimCommit, SimCommits, SimMembership,
};
use zafka_kafka::{Assignment, Fetched, SourceEvent};

use crate::cluster::Partition;
use crate::net::{SharedNet, SimSink};
use crate::settings::Settings;

/// Batches that wait to be received, as in the product.
pub const RECORDS: usize = 2;

/// A partition that a relay has.
#[derive(Debug)]
pub struct Held {
    /// Its assignment.
    pub assignment: Arc<Assignment>,
    /// The branch of the log that each generation was to be read from.
    pub branches: BTreeMap<u32, u32>,
    /// The generation that the route has heard of.
    pub heard: u32,
    /// The id of the topic that each generation was read of.
    pub ids: BTreeMap<u32, Uuid>,
}

/// The topic and the branch that a position of the route was of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// The topic.
    pub topic_id: Uuid,
    /// The branch of its log, as far as anybody told.
    pub branch: u32,
}

impl Held {
    /// Returns what the route's position is of.
    pub fn life(&self) -> Option<Life> {
        let (_, topic_id) = self.ids.range(..=self.heard).next_back()?;
        let (_, branch) = self.branches.range(..=self.heard).next_back()?;
        Some(Life { topic_id: *topic_id, branch: *branch })
    }
}

/// The place where a partition was found to begin, or to go on.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Its generation.
    pub generation: u32,
    /// Its branch of the log.
    pub branch: u32,
}

/// The task of a broker.
#[derive(Debug)]
pub struct BrokerTask {
    /// Its broker.
    pub broker: i32,
    /// The fetching there.
    pub fetch: BrokerFetch,
    /// Commands that it has not heard.
    pub commands: VecDeque<SimCommand>,
    /// Counts connections: what comes of an earlier one is nothing.
    pub connection: u64,
    /// True if there is a connection.
    pub is_connected: bool,
    /// True if a request is under way.
    pub is_asking: bool,
    /// True if something is to happen by itself.
    pub is_due: bool,
    /// True if it ends once it has handed out what it has.
    pub is_ending: bool,
    /// The time since when it waits for the route to take records.
    pub waits_since: Option<Duration>,
}

/// A partition that stands still.
#[derive(Debug)]
pub struct Still {
    /// The assignment.
    pub assignment: Arc<Assignment>,
    /// Its generation and its offset.
    pub place: (u32, i64),
    /// The time since when it is so.
    pub moved: Duration,
    /// The time since when there is no reason for it.
    pub since: Duration,
    /// The time that records had waited for the route by then.
    pub waited: Duration,
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
    /// The decisions about its partitions.
    pub membership: SimMembership,
    /// Demands of the group that the membership has not heard.
    pub asked: VecDeque<GroupEvent>,
    /// The demand that it has heard and not answered.
    pub unanswered: Option<GroupEvent>,
    /// True if the group has taken everything away, and the membership has not heard.
    pub is_lost: bool,
    /// The dispatcher, which knows the task of each partition.
    pub dispatching: Dispatching,
    /// The tasks of brokers, by their numbers.
    pub brokers: BTreeMap<u64, BrokerTask>,
    /// The places that were looked up.
    pub found: BTreeMap<Partition, Found>,
    /// Positions to be committed.
    pub commits: SimCommits,
    /// Those that the coordinator was asked to commit, and has not answered.
    pub committing: Vec<SimCommit>,
    /// The life that a position was of when the route had it committed.
    pub lives: BTreeMap<(Partition, i64), Life>,
    /// Partitions whose commits may go back, as the membership is to hear.
    pub rewinding: Vec<Arc<Assignment>>,
    /// Partitions that stand still.
    pub still: BTreeMap<Partition, Still>,
    /// The time that records have waited for the route in all.
    pub waited: Duration,
    /// Partitions that are shown as stalled.
    pub stalled: Vec<String>,
    /// The next run of the route, if one is planned.
    pub planned: Option<Instant>,
    /// The same of the membership and of the dispatcher.
    pub planned_membership: Option<Instant>,
    /// The same.
    pub planned_dispatch: Option<Instant>,
    /// The positions at its stop.
    pub stopped: Option<Positions>,
}

impl Relay {
    /// A relay that has nothing yet.
    pub fn new(
        (number, life): (usize, u64),
        serial: usize,
        config: &RouteConfig,
        settings: &Settings,
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
            membership: SimMembership::new(
                settings.protocol,
                settings.stall_timeout,
                &settings.topics,
                now,
            ),
            asked: VecDeque::new(),
            unanswered: None,
            is_lost: false,
            dispatching: Dispatching::new(settings.refresh),
            brokers: BTreeMap::new(),
            found: BTreeMap::new(),
            commits: SimCommits::default(),
            committing: Vec::new(),
            lives: BTreeMap::new(),
            rewinding: Vec::new(),
            still: BTreeMap::new(),
            waited: Duration::ZERO,
            stalled: Vec::new(),
            planned: None,
            planned_membership: None,
            planned_dispatch: None,
            stopped: None,
        }
    }

    /// Runs the route as its task does, until it would wait. Returns whether it took records, so
    /// that there is room for more.
    pub fn run(&mut self, now: Instant) -> bool {
        let mut took_records = false;
        if self.stopped.is_some() {
            return took_records;
        }
        self.net.borrow_mut().set_now(now);
        loop {
            while let Some(event) = self.events.pop_front() {
                self.hear(&event);
                self.state.handle_event(event, now);
            }
            if self.net.borrow_mut().take_demand_changed() {
                self.state.handle_demand(now);
            }
            self.state.handle_timeout(now);
            self.state.handle_room(now);
            self.carry_out();
            if self.state.is_draining() && self.net.borrow().is_drained() {
                self.state.handle_drained(now);
                self.carry_out();
                return took_records;
            }
            if self.state.wants_records()
                && let Some(fetched) = self.records.pop_front()
            {
                took_records = true;
                self.state.handle_fetched(fetched);
                continue;
            }
            self.state.end_turn();
            return took_records;
        }
    }

    /// Takes note of which generation the route knows of.
    fn hear(&mut self, event: &SourceEvent) {
        let SourceEvent::Reset { assignment, generation, .. } = event else { return };
        self.heard(assignment, generation.number);
    }

    fn heard(&mut self, assignment: &Arc<Assignment>, generation: u32) {
        if let Some(held) = self.held.get_mut(&partition_of(assignment))
            && Arc::ptr_eq(&held.assignment, assignment)
        {
            held.heard = generation;
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

    fn carry_out(&mut self) {
        while let Some(action) = self.state.poll_action() {
            match action {
                Action::Commit(positions) => {
                    for (assignment, offset) in &positions {
                        self.note_committing(assignment, *offset);
                    }
                    self.membership.commit(positions);
                }
                Action::AllowRewind(assignment) => {
                    self.rewinding.push(Arc::clone(&assignment));
                    self.membership.allow_rewind(assignment);
                }
                Action::Pause(assignment) => self.membership.pause(&assignment),
                Action::Restart { assignment, known, offset } => {
                    let generation = self.membership.restart(&assignment, known, offset);
                    self.state.handle_restarted(&assignment, generation);
                    if let Some(generation) = generation {
                        self.heard(&assignment, generation.number);
                    }
                }
                Action::Release { done, positions } => {
                    for (assignment, offset) in &positions {
                        self.note_committing(assignment, *offset);
                    }
                    done.complete(positions);
                }
                Action::Stop(positions) => self.stopped = Some(positions),
            }
        }
    }

    /// Takes note of the topic that a position is of.
    fn note_committing(&mut self, assignment: &Arc<Assignment>, offset: i64) {
        let partition = partition_of(assignment);
        let held = self.held.get(&partition);
        if let Some(life) = held.and_then(Held::life) {
            self.lives.insert((partition, offset), life);
        }
    }
}

/// The partition of an assignment.
pub fn partition_of(assignment: &Assignment) -> Partition {
    (assignment.topic().to_string(), assignment.partition())
}
