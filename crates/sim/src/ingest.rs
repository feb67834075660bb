//! The way from ZeroMQ to Kafka: senders whose messages become records, and who are told where
//! those are.
//!
//! What reads and maps a message, the ledger, the counts, the answers' bytes, the producer's topics
//! and partitions, and its requests are the product's. Senders, connections and brokers are models:
//! logs with several replicas, which know producers by sequences, ids and epochs; leaders that
//! change; answers that are lost; logs that lose what was acknowledged; records that are too large;
//! topics that are deleted and created again; relays that are killed or end.

mod batch;
mod brokers;
mod judge;
mod log;
mod senders;
mod settings;
mod trouble;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;
use zafka_bridge::sim::{Ingest, RouteCounts, ToldMessage};
use zafka_kafka::sim::{ClusterView, MetadataRequest, PartitionView, SimProducer, TopicView};

use crate::clock::Clock;
use crate::random::Random;
use brokers::{Answer, Links, Task, Topic};
use judge::AnswerJudge;
use log::ReplicaLog;
use senders::{Received, Sender, Wish};
use settings::IngestSettings;

/// Time in which everything has to be told once all is mended.
const PATIENCE: Duration = Duration::from_secs(180);
/// Events of a run at the most: one that needs more goes round in circles.
const EVENTS: u64 = 200_000;

/// Something that happens.
#[derive(Debug)]
enum IngestEvent {
    /// The route's task has its turn.
    Turn(u64),
    /// A sender sends something.
    Send(usize),
    /// A message arrives at the relay.
    Arrive { connection: u64, tag: u64, wish: Wish },
    /// A sender hears of a message.
    Hear { connection: u64, tag: u64 },
    /// A broker works on the next request of a connection.
    Work { task: Task, number: u64 },
    /// An answer arrives.
    Answer { task: Task, number: u64, answer: Answer },
    /// A broker works on a request whose connection has ended.
    Late { broker: i32, version: i16, body: Bytes },
    /// A connection is not waited for any more.
    Left { task: Task, number: u64 },
    /// Metadata of these topics come to a relay.
    Metadata { life: u64, topics: Vec<String>, view: Option<ClusterView> },
    /// Something goes wrong.
    Trouble,
    /// Nothing goes wrong any more.
    Mend,
    /// Something that was broken for a while is mended.
    MendOne(Outage),
}

/// Something that is broken for a while.
#[derive(Debug)]
enum Outage {
    /// A broker cannot be reached.
    Broker(i32),
    /// A partition has no leader, too few replicas, slow ones, or takes small batches alone.
    Log(String, usize),
    /// A topic is deleted.
    Topic(String),
}

/// Everything.
pub(crate) struct Ingesting {
    settings: IngestSettings,
    clock: Clock<IngestEvent>,
    random: Random,
    ingest: Ingest,
    producer: SimProducer,
    /// Counts relays: what comes of an earlier one is nothing.
    life: u64,
    planned: Option<std::time::Instant>,
    topics: BTreeMap<String, Topic>,
    links: Links,
    unreachable: BTreeSet<i32>,
    /// The number of times that each broker has moved to another address.
    moves: BTreeMap<i32, u32>,
    /// The word of a server that has lost touch with the cluster.
    stale: Option<ClusterView>,
    senders: Vec<Sender>,
    /// Messages at the relay, by tag.
    received: BTreeMap<u64, Received>,
    /// Tags of messages at the relay, by connection, in their order.
    waiting: BTreeMap<u64, VecDeque<u64>>,
    /// The last arrival of each connection.
    arrivals: BTreeMap<u64, Duration>,
    connections: u64,
    tags: u64,
    wishes: u64,
    producers: i64,
    ids: u128,
    left_to_send: u64,
    /// Messages that this relay was handed, settled, and acknowledged.
    handed: u64,
    settled: u64,
    acknowledged: u64,
    is_mended: bool,
    judge: AnswerJudge,
    happened: Vec<String>,
    tells: bool,
}

impl Ingesting {
    /// The world of a seed, at its beginning. `tells` has it remember what happens. `None` if the
    /// route's own templates cannot be read.
    pub(crate) fn new(seed: u64, tells: bool) -> Option<Self> {
        let mut random = Random::new(seed ^ 0x6b61_666b);
        let settings = IngestSettings::new(&mut random);
        let clock = Clock::new();
        let names: Vec<String> = settings.topics.iter().map(|(topic, _)| topic.clone()).collect();
        let producer =
            SimProducer::new(&settings.producer, settings.producer_seed, clock.instant());
        let mut world = Self {
            ingest: Ingest::new(settings.layout, &names, settings.in_flight_bytes)?,
            producer,
            life: 0,
            planned: None,
            topics: BTreeMap::new(),
            links: Links::new(),
            unreachable: BTreeSet::new(),
            moves: BTreeMap::new(),
            stale: None,
            senders: Vec::new(),
            received: BTreeMap::new(),
            waiting: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            connections: settings.senders as u64,
            tags: 0,
            wishes: 0,
            producers: 0,
            ids: 0,
            left_to_send: settings.messages,
            handed: 0,
            settled: 0,
            acknowledged: 0,
            is_mended: false,
            judge: AnswerJudge::default(),
            happened: Vec::new(),
            tells,
            settings,
            clock,
            random,
        };
        world.begin();
        Some(world)
    }

    fn begin(&mut self) {
        let settings = self.settings.clone();
        self.tell(|| format!("{settings:?}"));
        for (name, partitions) in &settings.topics {
            let id = self.topic_id();
            let partitions = (0..*partitions).map(|_| {
                let leader = self.random.below(settings.brokers as u64) as i32;
                ReplicaLog::new(settings.brokers, leader)
            });
            let partitions = partitions.collect();
            self.topics.insert(name.clone(), Topic { id, partitions, is_absent: false });
        }
        for index in 0..settings.senders {
            let connection = index as u64;
            self.senders.push(Sender { connection, unanswered: VecDeque::new() });
            self.after(0, 100, IngestEvent::Send(index));
        }
        self.trouble_later();
        self.clock.after(settings.troubled, IngestEvent::Mend);
    }

    /// Runs to the end. Returns what is not as promised, and what happened.
    pub(crate) fn run(mut self) -> (Vec<String>, Vec<String>) {
        let mut events = 0;
        while let Some(event) = self.clock.advance() {
            events += 1;
            self.handle(event);
            self.check();
            let over = self.clock.now() > self.settings.troubled + PATIENCE || events > EVENTS;
            if !self.judge.violations().is_empty() || over || self.is_settled() {
                break;
            }
        }
        if !self.is_settled() && self.judge.violations().is_empty() {
            let open: Vec<&u64> = self.received.keys().take(5).collect();
            let what = format!("stands still after {events} events: messages {open:?}");
            self.judge.violation(what);
        }
        self.judge.finish();
        (self.judge.violations().to_vec(), self.happened)
    }

    fn handle(&mut self, event: IngestEvent) {
        match event {
            IngestEvent::Turn(life) => self.turn(life),
            IngestEvent::Send(sender) => self.send(sender),
            IngestEvent::Arrive { connection, tag, wish } => self.arrive(connection, tag, &wish),
            IngestEvent::Hear { connection, tag } => self.hear(connection, tag),
            IngestEvent::Work { task, number } => self.work(task, number),
            IngestEvent::Answer { task, number, answer } => self.answer(task, number, answer),
            IngestEvent::Late { broker, version, body } => {
                drop(self.produce(broker, body, version))
            }
            IngestEvent::Left { task, number } => self.left(task, number),
            IngestEvent::Metadata { life, topics, view } => self.metadata(life, &topics, view),
            IngestEvent::Trouble => self.trouble(),
            IngestEvent::Mend => self.mend(),
            IngestEvent::MendOne(broken) => self.mend_one(&broken),
        }
    }

    /// Checks what must hold at every step.
    fn check(&mut self) {
        let counts = self.ingest.counts();
        let RouteCounts { received, acknowledged, in_flight, unaccounted, parked, .. } = counts;
        let open = self.handed - self.settled;
        let (taken, under_way) = (received + parked, in_flight + parked);
        if unaccounted != 0
            || (taken, acknowledged, under_way) != (self.handed, self.acknowledged, open)
        {
            let what = format!(
                "counts: {counts:?}, with {} handed over, {} acknowledged and {open} open",
                self.handed, self.acknowledged
            );
            self.judge.violation(what);
        }
    }

    fn is_settled(&self) -> bool {
        self.is_mended
            && self.received.is_empty()
            && self.arrivals.values().all(|at| *at < self.clock.now())
            && self.is_answered()
    }

    // ---- the route's task

    fn turn_soon(&mut self) {
        let at = self.clock.instant() + Duration::from_micros(self.random.within(1, 2_000));
        self.plan(at);
    }

    fn plan(&mut self, at: std::time::Instant) {
        if self.planned.is_none_or(|planned| at < planned) {
            self.planned = Some(at);
            self.clock.at_instant(at, IngestEvent::Turn(self.life));
        }
    }

    /// The route's task does what its own loop does: it flushes, tells, and waits.
    fn turn(&mut self, life: u64) {
        let now = self.clock.instant();
        if life != self.life || self.planned.is_none_or(|planned| planned > now) {
            return;
        }
        self.planned = None;
        self.producer.flush(now);
        self.take_news();
        self.obey();
        if let Some(MetadataRequest { topics, leaves }) = self.producer.poll_metadata(now) {
            let (life, view) = (self.life, self.view(leaves));
            self.after(1, 60, IngestEvent::Metadata { life, topics, view });
        }
        for report in self.producer.take_reports() {
            self.tell(|| format!("report: {report}"));
        }
        let next = self.producer.poll_timeout().max(now + Duration::from_millis(1));
        self.plan(next);
    }

    fn take_news(&mut self) {
        let now = self.clock.instant();
        while let Some(news) = self.producer.poll_news() {
            let told: Vec<ToldMessage> = self.ingest.handle_news(news, &mut self.producer);
            self.told(told);
        }
        // What goes on is flushed in a turn of its own.
        if self.ingest.go_on(&mut self.producer, now) {
            let told = self.ingest.take_told();
            self.told(told);
            self.turn_soon();
        }
    }

    fn metadata(&mut self, life: u64, topics: &[String], view: Option<ClusterView>) {
        if life == self.life {
            self.producer.handle_metadata(topics, view, self.clock.instant());
            self.turn_soon();
        }
    }

    /// Returns a server's word on the cluster, of which it may have lost touch. None if none
    /// answers.
    fn view(&mut self, leave: bool) -> Option<ClusterView> {
        let brokers = 0..self.settings.brokers;
        if brokers.clone().all(|broker| self.unreachable.contains(&broker)) {
            return None;
        }
        if !leave && !self.is_mended && self.random.percent(5) && self.stale.is_some() {
            return self.stale.clone();
        }
        let topics = self.topics.iter().filter(|(_, topic)| !topic.is_absent);
        let topics = topics.map(|(name, topic)| TopicView {
            name: name.clone(),
            id: topic.id,
            partitions: (0..)
                .zip(&topic.partitions)
                .map(|(partition, log)| PartitionView {
                    partition,
                    leader: log.leader.unwrap_or(-1),
                    epoch: log.epoch,
                })
                .collect(),
        });
        let view = ClusterView {
            brokers: brokers.map(|broker| (broker, self.address(broker))).collect(),
            topics: topics.collect(),
        };
        if self.stale.is_none() || self.random.percent(10) {
            self.stale = Some(view.clone());
        }
        Some(view)
    }

    // ---- what the others use

    fn tell(&mut self, what: impl FnOnce() -> String) {
        if self.tells {
            self.happened.push(format!("{:>10.3} {}", self.clock.now().as_secs_f64(), what()));
        }
    }

    /// Has something happen after so many milliseconds.
    fn after(&mut self, from: u64, to: u64, event: IngestEvent) {
        let micros = self.random.within(from * 1000, to * 1000 + 1);
        self.clock.after(Duration::from_micros(micros), event);
    }

    fn topic_id(&mut self) -> Uuid {
        self.ids += 1;
        Uuid::from_u128(self.ids)
    }
}
