//! The world of a run: one clock, one seed, and everything that happens. What a thing does is in
//! its own module; here is what happens when.

mod dispatching;
mod fetching;
mod lookup;
mod membership;
mod peers;
mod stalls;
mod trouble;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use kafka_protocol::messages::FetchResponse;
use zafka_bridge::config::RouteConfig;
use zafka_envelope::{FramePlan, Preset};
use zafka_kafka::config::{GroupConfig, SourceConfig, Start, TopicSelector};
use zafka_kafka::sim::{self, ClusterView, SimQuestion};
use zafka_sockets::config::PubConfig;

use crate::clock::Clock;
use crate::cluster::{Asked, Cluster, Partition};
use crate::group::Group;
use crate::judge::{Judge, SharedJudge};
use crate::log::Log;
use crate::net::Net;
use crate::random::Random;
use crate::relay::Relay;
use crate::settings::Settings;

/// Time in which everything has to arrive once all is mended.
const PATIENCE: Duration = Duration::from_secs(180);
/// Events of a run at the most: one that needs more goes round in circles.
const EVENTS: u64 = 400_000;

/// A process that is a relay: its number, and which of its lives.
type Process = (usize, u64);

/// Something that happens.
#[derive(Debug)]
pub(crate) enum Event {
    /// The route's task has its turn.
    Run(Process),
    /// The membership's thread has its turn.
    Membership(Process),
    /// The group tells a relay what it asks for.
    Group(Process),
    /// The lookup asks.
    LookUp(Process, SimQuestion),
    /// The lookup has an answer.
    Answered(Process, sim::SimAnswer),
    /// The dispatcher's task has its turn.
    Dispatch(Process),
    /// The cluster's metadata come.
    Metadata(Process, Option<ClusterView>),
    /// The task of a broker has its turn.
    Fetch(Process, u64),
    /// A broker looks at what a task asked, since when.
    Serve { process: Process, task: u64, connection: u64, asked: Asked, since: Duration },
    /// An answer arrives.
    Answer { process: Process, task: u64, connection: u64, response: FetchResponse },
    /// The group gives a partition that nobody has to a relay.
    Give(Partition),
    /// The thread that commits has its turn.
    CommitTurn(Process),
    /// The coordinator answers a commit.
    Commit(Process),
    /// A subscriber connects.
    Connect(Process, usize),
    /// A subscription arrives.
    Subscribe { process: Process, peer: u64, prefix: Vec<u8> },
    /// A subscriber reads.
    Read { process: Process, peer: u64 },
    /// Records are written.
    Write,
    /// A topic is recreated.
    Recreate(Partition),
    /// Something goes wrong.
    Trouble,
    /// Nothing goes wrong any more.
    Mend,
    /// Something that was broken for a while is mended.
    MendOne(Broken),
}

/// Something that is broken for a while.
#[derive(Debug)]
pub(crate) enum Broken {
    /// A broker cannot be reached.
    Broker(i32),
    /// The coordinator takes no commits.
    Coordinator,
    /// A subscriber reads nothing.
    Peer(Process, u64),
    /// A partition's requests get nothing.
    Muted(Partition),
}

/// A connection of a subscriber, as the world sees it.
#[derive(Debug)]
struct Connected {
    subscriber: usize,
    is_stalled: bool,
    is_reading: bool,
}

/// Everything.
pub(crate) struct World {
    settings: Rc<Settings>,
    config: Rc<RouteConfig>,
    clock: Clock<Event>,
    random: Random,
    cluster: Cluster,
    group: Group,
    relays: Vec<Relay>,
    judge: SharedJudge,
    connections: u64,
    peers: BTreeMap<(Process, u64), Connected>,
    unreachable: BTreeSet<i32>,
    /// The number of times that each broker has moved to another address.
    moves: BTreeMap<i32, u32>,
    /// The word of a server that has lost touch with the cluster.
    stale: Option<ClusterView>,
    left_to_write: u64,
    is_mended: bool,
    topics_made: u128,
    producers: i64,
    /// The outcome of transactions, by producer: the same once more, if it was truncated.
    ended: BTreeMap<i64, bool>,
    /// The events so far, for a reader of the seed.
    pub(crate) happened: Vec<String>,
    tells: bool,
}

impl World {
    /// The world of a seed, at its beginning. `tells` has it remember what happens.
    pub(crate) fn new(seed: u64, tells: bool) -> Self {
        let mut random = Random::new(seed);
        let settings = Rc::new(Settings::new(&mut random));
        let judge = Rc::new(RefCell::new(Judge::default()));
        judge.borrow_mut().may_drop = settings.slow_peer == zafka_sockets::config::SlowPeer::Drop;
        let mut world = Self {
            config: Rc::new(config(&settings)),
            clock: Clock::new(),
            cluster: Cluster::default(),
            group: Group::default(),
            relays: Vec::new(),
            judge,
            connections: 0,
            peers: BTreeMap::new(),
            unreachable: BTreeSet::new(),
            moves: BTreeMap::new(),
            stale: None,
            left_to_write: settings.records,
            is_mended: false,
            topics_made: 0,
            producers: 0,
            ended: BTreeMap::new(),
            happened: Vec::new(),
            tells,
            settings,
            random,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        let settings = Rc::clone(&self.settings);
        self.tell(|| format!("{settings:?}"));
        for (topic, partitions) in &settings.topics {
            let id = self.topic_id();
            for partition in 0..*partitions {
                let leader = self.random.below(settings.brokers as u64) as i32;
                let key = (topic.clone(), partition);
                self.cluster.logs.insert(key.clone(), Log::new(id, leader));
                self.group.owners.insert(key.clone(), None);
                self.after(10, 200, Event::Give(key));
            }
        }
        for number in 0..settings.members {
            self.start_relay(number, 0);
        }
        self.after(0, 50, Event::Write);
        self.trouble_later();
        self.clock.after(settings.troubled, Event::Mend);
    }

    /// Runs to the end. Returns what is not as promised.
    pub(crate) fn run(mut self) -> (Vec<String>, Vec<String>) {
        let mut events = 0;
        while let Some(event) = self.clock.advance() {
            events += 1;
            self.handle(event);
            self.check();
            let over = self.clock.now() > self.settings.troubled + PATIENCE || events > EVENTS;
            if !self.judge.borrow().violations().is_empty() || over || self.is_settled() {
                break;
            }
        }
        if self.judge.borrow().violations().is_empty() {
            self.finish(events);
        }
        let violations = self.judge.borrow().violations().to_vec();
        (violations, self.happened)
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Run(process) => self.run_route(process),
            Event::Membership(process) => self.run_membership(process),
            Event::Group(process) => self.tell_group(process),
            Event::LookUp(process, question) => self.look_up(process, question),
            Event::Answered(process, answer) => self.answered(process, answer),
            Event::Dispatch(process) => self.run_dispatcher(process),
            Event::Metadata(process, view) => self.metadata(process, view),
            Event::Fetch(process, task) => self.fetch(process, task),
            Event::Serve { process, task, connection, asked, since } => {
                self.serve(process, task, connection, asked, since);
            }
            Event::Answer { process, task, connection, response } => {
                self.answer(process, task, connection, response);
            }
            Event::Give(partition) => self.give(&partition),
            Event::CommitTurn(process) => self.commit_turn(process),
            Event::Commit(process) => self.commit(process),
            Event::Connect(process, subscriber) => self.connect(process, subscriber),
            Event::Subscribe { process, peer, prefix } => self.subscribe(process, peer, &prefix),
            Event::Read { process, peer } => self.read(process, peer),
            Event::Write => self.write(),
            Event::Recreate(partition) => self.recreate(&partition),
            Event::Trouble => self.trouble(),
            Event::Mend => self.mend(),
            Event::MendOne(broken) => self.mend_one(broken),
        }
    }

    /// Checks what must hold at every step.
    fn check(&mut self) {
        let mut violations = Vec::new();
        for relay in &self.relays {
            if let Some(reason) = relay.report.stopped() {
                violations.push(format!("relay {} stopped: {reason}", relay.number));
            }
            for progress in relay.report.progress() {
                let (delivered, read) = (progress.delivered(), progress.read());
                let assignment = progress.assignment();
                let is_rewinding =
                    relay.rewinding.iter().any(|of| std::sync::Arc::ptr_eq(of, assignment))
                        || relay.commits.is_rewinding(assignment);
                let committed = assignment.committed();
                let committed = committed.filter(|_| assignment.is_active() && !is_rewinding);
                if delivered > read
                    || committed.is_some_and(|committed| committed > delivered)
                        && relay.events.is_empty()
                {
                    violations.push(format!(
                        "positions: {}/{}: committed {committed:?}, delivered {delivered}, read \
                         {read}",
                        assignment.topic(),
                        assignment.partition()
                    ));
                }
            }
        }
        violations.into_iter().for_each(|what| self.judge.borrow_mut().violation(what));
    }

    /// Returns true if everything has arrived that was to.
    fn is_settled(&self) -> bool {
        self.is_mended
            && self.left_to_write == 0
            && self.cluster.logs.iter().all(|(partition, log)| {
                self.group.committed.get(partition).map_or(0, |committed| committed.offset)
                    == log.end
            })
            && self.relays.iter().all(|relay| relay.net.borrow().is_drained())
    }

    /// The end: what did not arrive, and the last word on what did.
    fn finish(&mut self, events: u64) {
        if !self.is_settled() {
            let stands: Vec<String> = self
                .cluster
                .logs
                .iter()
                .map(|((topic, partition), log)| {
                    let key = (topic.clone(), *partition);
                    let committed = self.group.committed.get(&key).map(|c| c.offset);
                    let owner = self.group.owners.get(&key);
                    format!(
                        "{topic}/{partition} committed {committed:?} of {}, owner {owner:?}",
                        log.end
                    )
                })
                .collect();
            let what = format!("stands still after {events} events: {}", stands.join("; "));
            self.judge.borrow_mut().violation(what);
            return;
        }
        let steady: BTreeSet<usize> = if self.settings.is_lossless() {
            (0..self.settings.steady).collect()
        } else {
            BTreeSet::new()
        };
        self.judge.borrow_mut().finish(&self.cluster.logs, &steady);
    }

    // ---- what the others use

    fn tell(&mut self, what: impl FnOnce() -> String) {
        if self.tells {
            self.happened.push(format!("{:>10.3} {}", self.clock.now().as_secs_f64(), what()));
        }
    }

    /// Has something happen after so many milliseconds.
    fn after(&mut self, from: u64, to: u64, event: Event) {
        let micros = self.random.within(from * 1000, to * 1000 + 1);
        self.clock.after(Duration::from_micros(micros), event);
    }

    fn relay(&mut self, process: Process) -> Option<&mut Relay> {
        relay_of(&mut self.relays, process)
    }

    /// The processes that live.
    fn processes(&self) -> Vec<Process> {
        self.relays.iter().map(|relay| (relay.number, relay.life)).collect()
    }

    fn topic_id(&mut self) -> uuid::Uuid {
        self.topics_made += 1;
        uuid::Uuid::from_u128(self.topics_made)
    }

    fn start_relay(&mut self, number: usize, life: u64) {
        let seed = self.random.number();
        let serial = number + 16 * life as usize;
        let net = Net::new(
            serial,
            Rc::clone(&self.settings),
            Rc::clone(&self.judge),
            seed,
            self.clock.instant(),
        );
        let relay = Relay::new(
            (number, life),
            serial,
            &self.config,
            &self.settings,
            net,
            self.clock.instant(),
        );
        if number < self.relays.len() {
            self.relays[number] = relay;
        } else {
            self.relays.push(relay);
        }
        for subscriber in 0..self.settings.steady + self.settings.transient {
            self.after(1, 300, Event::Connect((number, life), subscriber));
        }
        self.wake((number, life));
        self.wake_membership((number, life));
    }

    /// Has the route's task run soon.
    fn wake(&mut self, process: Process) {
        let at = self.soon(100);
        self.plan(process, at);
    }

    /// A moment within so many microseconds.
    fn soon(&mut self, micros: u64) -> std::time::Instant {
        self.clock.instant() + Duration::from_micros(self.random.within(1, micros))
    }

    fn plan(&mut self, process: Process, at: std::time::Instant) {
        let Some(relay) = self.relay(process) else { return };
        if relay.planned.is_none_or(|planned| at < planned) {
            relay.planned = Some(at);
            self.clock.at_instant(at, Event::Run(process));
        }
    }

    fn run_route(&mut self, process: Process) {
        let now = self.clock.instant();
        let Some(relay) = self.relay(process) else { return };
        if relay.planned.is_none_or(|planned| planned > now) {
            // It has run since this was planned.
            return;
        }
        relay.planned = None;
        let took_records = relay.run(now);
        if took_records {
            self.wake_brokers(process);
        }
        self.wake_membership(process);
        self.readers(process);
        let next = self.relay(process).and_then(|relay| relay.next_run(now));
        if let Some(next) = next {
            self.plan(process, next);
        }
    }
}

fn config(settings: &Settings) -> RouteConfig {
    let topics = settings.topics.iter().map(|(topic, _)| TopicSelector::Name(topic.clone()));
    let preset = if settings.is_json { Preset::Json } else { Preset::Packed };
    RouteConfig {
        name: "sim".to_owned(),
        source: SourceConfig {
            group: Some(GroupConfig::new("sim")),
            start: Start::Earliest,
            ..SourceConfig::new("sim", topics.collect())
        },
        frames: FramePlan::preset(preset),
        rename: Vec::new(),
        socket: PubConfig {
            slow_peer: settings.slow_peer,
            min_peers: settings.min_peers,
            ring_bytes: settings.ring_bytes,
            peer_timeout: None,
            ..PubConfig::default()
        },
    }
}

/// The relay of a process, if it lives: for those that need the rest of the world beside it.
fn relay_of(relays: &mut [Relay], (number, life): Process) -> Option<&mut Relay> {
    relays.get_mut(number).filter(|relay| relay.life == life)
}
