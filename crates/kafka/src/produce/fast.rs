//! Produce requests of our own: the partitions' states, driven over connections to their leaders.
//!
//! The route's task owns all of it: records are encoded where they come in, and nothing is locked
//! or handed to another task for a single one of them. One task for each broker sends and receives
//! whole requests; one asks who leads what.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

mod broker;
mod request;
mod topics;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::sleep_until;
use tracing::info;

use super::partition::{Buffers, Fill, Settings};
use super::{Compression, Deliveries, OutboundRecord, ProducerConfig, Ticket, WriteError};
use crate::config::ClusterConfig;
use crate::connection::Connector;
use crate::error::StartError;
use crate::health::{FetchHealth, SourceHealth};
use crate::metadata::{Metadata, MetadataClient, MetadataError};
use crate::records::{Codec, ProducerId};
use crate::report::Reporter;
use crate::security;
use broker::{Broker, Command};
use request::{Answered, Item};
use topics::Topics;

/// Time between two Metadata requests.
const REFRESH: Duration = Duration::from_secs(30);
/// The same while something is not as it should be, and while a topic is asked for that was not
/// before.
const ASK_AGAIN: Duration = Duration::from_millis(300);
const ASK_SOON: Duration = Duration::from_millis(20);
/// Answers in a row that changed nothing though something is wrong, before another server is asked.
const UNCHANGED: u32 = 4;
/// Requests in flight at a broker below which anything is worth another one, and below which full
/// batches are. A broker works on one request of a connection at a time.
const EAGER: usize = 2;
const WINDOW: usize = 5;
/// No more batches go into a request that is larger, in bytes.
const REQUEST_BYTES: usize = 4 << 20;

/// A partition, by its place in the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    topic: usize,
    partition: usize,
}

/// What the other tasks tell. As many wait as there are requests under way.
enum Event {
    Connected(i32),
    /// A connection could not be made, or ended.
    Failed {
        broker: i32,
        reason: String,
    },
    /// Requests are under way, and nothing happens.
    Slow {
        broker: i32,
        reason: String,
    },
    /// The broker does not have the requests that are needed; what is missing.
    TooOld(String),
    /// A Produce request was answered; none for what the answer leaves out.
    Produced {
        broker: i32,
        serial: u64,
        answers: Vec<(Key, u64, Option<Answered>)>,
    },
    /// A Produce request ended without an answer.
    Lost {
        broker: i32,
        serial: u64,
        requests: Vec<(Key, u64)>,
        was_sent: bool,
    },
    /// A producer id, or why there is none.
    ProducerId(Key, Result<ProducerId, Option<ResponseError>>),
    Metadata(Box<MetadataClient>, Result<Metadata, MetadataError>),
}

/// What comes next.
pub(super) enum Next {
    Deliveries(Deliveries),
    /// A broker does not have the requests that are needed; what is missing.
    TooOld(String),
}

/// A broker's task.
struct Remote {
    address: String,
    serial: u64,
    commands: UnboundedSender<Command>,
    /// Produce requests.
    in_flight: usize,
    /// Partitions that have something for it.
    ready: VecDeque<Key>,
}

/// Asking for metadata.
struct Asking {
    /// None while it is asking.
    client: Option<Box<MetadataClient>>,
    last: Instant,
    /// When the next request goes out.
    due: Instant,
    /// Answers in a row that changed nothing.
    unchanged: u32,
}

/// The route's task has it.
pub(super) struct Fast {
    route: Arc<str>,
    connector: Arc<Connector>,
    bootstrap: Vec<String>,
    health: Arc<SourceHealth>,
    reporter: Reporter,
    topics: Topics,
    buffers: Buffers,
    addresses: HashMap<i32, String>,
    brokers: HashMap<i32, Remote>,
    serial: u64,
    events: UnboundedReceiver<Event>,
    tell: UnboundedSender<Event>,
    /// Ended with this.
    tasks: JoinSet<()>,
    runtime: Handle,
    asking: Asking,
    /// Brokers that do not answer, and why.
    troubled: BTreeMap<i32, String>,
    /// Partitions that cannot be written now, and why.
    held: BTreeMap<Key, String>,
    /// Whether the cluster answers, once that is known.
    connected: Option<bool>,
    shown: Option<String>,
    deliveries: VecDeque<Deliveries>,
    too_old: Option<String>,
    now: Instant,
    /// When a partition has something to do by itself, or before that.
    due: Instant,
}

impl std::fmt::Debug for Fast {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fast").field("route", &self.route).finish_non_exhaustive()
    }
}

impl Fast {
    pub(super) fn start(
        cluster: &ClusterConfig,
        config: &ProducerConfig,
        health: &Arc<SourceHealth>,
    ) -> Result<Self, StartError> {
        let runtime = Handle::try_current().map_err(|_| StartError::Runtime)?;
        let connector = Connector::new(cluster, security::prepare(&cluster.security)?)?;
        let settings = Settings {
            batch_bytes: config.batch_bytes,
            linger: config.linger,
            delivery_timeout: config.delivery_timeout,
            codec: codec(config.compression),
        };
        let (tell, events) = unbounded_channel();
        let now = Instant::now();
        let client = MetadataClient::new(Arc::clone(&connector), cluster.bootstrap_servers.clone());
        Ok(Self {
            route: Arc::from(config.route.as_str()),
            connector,
            bootstrap: cluster.bootstrap_servers.clone(),
            health: Arc::clone(health),
            reporter: Reporter::new(&config.route, health, &Arc::default()),
            topics: Topics::new(settings, rand::random()),
            buffers: Buffers::default(),
            addresses: HashMap::new(),
            brokers: HashMap::new(),
            serial: 0,
            events,
            tell,
            tasks: JoinSet::new(),
            runtime,
            asking: Asking { client: Some(Box::new(client)), last: now, due: now, unchanged: 0 },
            troubled: BTreeMap::new(),
            held: BTreeMap::new(),
            connected: None,
            shown: None,
            deliveries: VecDeque::new(),
            too_old: None,
            now,
            due: now + REFRESH,
        })
    }

    /// Takes a record, which may wait for [`Self::flush`].
    pub(super) fn send(
        &mut self,
        ticket: Ticket,
        record: &OutboundRecord<'_>,
    ) -> Result<(), WriteError> {
        if self.topics.push(ticket, record, &mut self.buffers, self.now)? {
            self.ask_in(ASK_SOON);
        }
        Ok(())
    }

    /// Sends what may be sent.
    pub(super) fn flush(&mut self) {
        self.now = Instant::now();
        if self.now >= self.due {
            let due = self.topics.handle_timeout(self.now);
            self.due = due.unwrap_or(self.now + REFRESH);
        }
        // A partition that is ready at a broker which it has left is looked at once more.
        while let Some(key) = self.topics.poll_touched() {
            self.look_at(key);
            while let Some(key) = self.topics.poll_touched() {
                self.look_at(key);
            }
            self.send_all_ready();
        }
        self.send_all_ready();
        self.deliveries.extend(std::iter::from_fn(|| self.topics.poll_failed()));
        self.ask();
        self.show();
    }

    /// What became of records. Can be dropped and called again.
    pub(super) async fn next(&mut self) -> Next {
        loop {
            if let Some(reason) = self.too_old.take() {
                return Next::TooOld(reason);
            }
            if let Some(deliveries) = self.deliveries.pop_front() {
                return Next::Deliveries(deliveries);
            }
            let ask = self.asking.client.as_ref().map(|_| self.asking.due);
            let due = ask.map_or(self.due, |ask| ask.min(self.due));
            tokio::select! {
                biased;
                // There is a sender here.
                Some(event) = self.events.recv() => self.handle(event),
                Some(Err(failure)) = self.tasks.join_next() => {
                    if let Ok(panic) = failure.try_into_panic() {
                        // Its requests would be waited for for ever.
                        std::panic::resume_unwind(panic);
                    }
                }
                () = sleep_until(due.into()) => {}
            }
            while let Ok(event) = self.events.try_recv() {
                self.handle(event);
            }
            self.flush();
        }
    }

    /// Looks at a partition that something happened to.
    fn look_at(&mut self, key: Key) {
        let Some(slot) = self.topics.slot(key) else { return };
        let partition = &mut slot.partition;
        self.deliveries.extend(std::iter::from_fn(|| partition.poll_delivery()));
        let reports: Vec<String> = std::iter::from_fn(|| partition.poll_report()).collect();
        if let Some((due, _)) = partition.poll_timeout() {
            self.due = self.due.min(due);
        }
        let trouble = partition.trouble().map(str::to_owned);
        let wants_leader = partition.poll_wants_leader();
        let broker = partition.broker().filter(|_| partition.has_unsent());
        let wants_id = broker.is_some() && partition.poll_id(self.now);
        let is_new = broker.is_some() && !std::mem::replace(&mut slot.is_ready, true);
        if wants_leader {
            self.ask_in(ASK_AGAIN);
        }
        self.tell_of(key, trouble, reports);
        let Some(broker) = broker else { return };
        let Some(remote) = self.remote(broker) else { return self.unready(key, wants_id) };
        if wants_id {
            // The task lives as long as this sender.
            let _ = remote.commands.send(Command::ProducerId(key));
        }
        if is_new {
            remote.ready.push_back(key);
        }
    }

    /// Nobody knows where its leader is.
    fn unready(&mut self, key: Key, asked_id: bool) {
        let now = self.now;
        if let Some(slot) = self.topics.slot(key) {
            slot.is_ready = false;
            if asked_id {
                slot.partition.handle_id(Err(None), now);
            }
        }
        self.ask_in(ASK_AGAIN);
    }

    fn tell_of(&mut self, key: Key, trouble: Option<String>, reports: Vec<String>) {
        if trouble.is_none() && reports.is_empty() {
            self.held.remove(&key);
            return;
        }
        let Some((topic, _)) = self.topics.name_of(key) else { return };
        let partition = key.partition;
        for report in reports {
            self.reporter.report(&format!("{topic}/{partition}: {report}"));
        }
        match trouble {
            Some(trouble) => {
                let text = format!("{topic}/{partition} cannot be written: {trouble}");
                if self.held.insert(key, text.clone()).as_ref() != Some(&text) {
                    self.reporter.report(&text);
                }
            }
            None => _ = self.held.remove(&key),
        }
    }

    /// The task of a broker, which is started if there is none at its address.
    fn remote(&mut self, id: i32) -> Option<&mut Remote> {
        let address = self.addresses.get(&id)?;
        if self.brokers.get(&id).is_none_or(|remote| remote.address != *address) {
            let (commands, commanded) = unbounded_channel();
            self.serial += 1;
            let broker = Broker {
                id,
                serial: self.serial,
                address: address.clone(),
                connector: Arc::clone(&self.connector),
                health: Arc::clone(&self.health),
                commands: commanded,
                tell: self.tell.clone(),
            };
            self.tasks.spawn_on(broker.run(), &self.runtime);
            let remote = Remote {
                address: address.clone(),
                serial: self.serial,
                commands,
                in_flight: 0,
                ready: VecDeque::new(),
            };
            if let Some(before) = self.brokers.insert(id, remote) {
                for key in before.ready {
                    if let Some(slot) = self.topics.slot(key) {
                        slot.is_ready = false;
                    }
                    self.topics.touch(key);
                }
            }
        }
        self.brokers.get_mut(&id)
    }

    fn send_all_ready(&mut self) {
        for (id, remote) in &mut self.brokers {
            remote.send_ready(*id, &mut self.topics, &mut self.buffers, self.now);
        }
    }

    fn handle(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Connected(broker) => self.answers(broker),
            Event::Failed { broker, reason } => {
                self.reporter.report(&reason);
                self.is_troubled(broker, reason);
            }
            Event::Slow { broker, reason } => self.is_troubled(broker, reason),
            Event::TooOld(reason) => self.too_old = Some(reason),
            Event::Produced { broker, serial, answers } => {
                self.answers(broker);
                self.ended(broker, serial);
                for (key, number, answered) in answers {
                    self.answered(key, number, answered, now);
                }
            }
            Event::Lost { broker, serial, requests, was_sent } => {
                self.ended(broker, serial);
                for (key, number) in requests {
                    if let Some(slot) = self.topics.slot(key) {
                        slot.partition.handle_lost(number, was_sent, now);
                    }
                    self.topics.touch(key);
                }
            }
            Event::ProducerId(key, answer) => {
                if let Some(slot) = self.topics.slot(key) {
                    slot.partition.handle_id(answer, now);
                }
                self.topics.touch(key);
            }
            Event::Metadata(client, answer) => {
                self.asking.client = Some(client);
                self.told(answer, now);
            }
        }
    }

    fn answered(&mut self, key: Key, number: u64, answered: Option<Answered>, now: Instant) {
        let Some(slot) = self.topics.slot(key) else { return };
        match answered {
            Some(Answered { answer, leader }) => {
                slot.partition.handle_answer(number, &answer, &mut self.buffers, now);
                if let Some(leader) = leader
                    && self.addresses.contains_key(&leader.broker)
                {
                    self.topics.handle_leader(key, leader);
                }
            }
            None => slot.partition.handle_lost(number, true, now),
        }
        self.topics.touch(key);
    }

    /// A Produce request of a broker's task has ended.
    fn ended(&mut self, broker: i32, serial: u64) {
        if let Some(remote) = self.brokers.get_mut(&broker)
            && remote.serial == serial
        {
            remote.in_flight = remote.in_flight.saturating_sub(1);
        }
    }

    fn answers(&mut self, broker: i32) {
        self.set_connected(true);
        if self.troubled.remove(&broker).is_some() {
            info!(route = &*self.route, broker, "connected again");
        }
    }

    fn set_connected(&mut self, connected: bool) {
        if self.connected != Some(connected) {
            self.connected = Some(connected);
            self.health.set_connected(connected);
            self.publish();
        }
    }

    fn is_troubled(&mut self, broker: i32, reason: String) {
        self.troubled.insert(broker, reason);
        self.ask_in(Duration::ZERO);
    }

    /// Takes an answer to a Metadata request.
    fn told(&mut self, answer: Result<Metadata, MetadataError>, now: Instant) {
        let metadata = match answer {
            Ok(metadata) => metadata,
            Err(MetadataError::TooOld(reason)) => {
                self.too_old = Some(reason);
                return;
            }
            Err(MetadataError::Failed(reason)) => {
                self.reporter.report(&reason);
                self.set_connected(false);
                return self.ask_in(ASK_AGAIN);
            }
        };
        self.set_connected(true);
        self.troubled.retain(|broker, _| metadata.brokers.contains_key(broker));
        self.addresses.clone_from(&metadata.brokers);
        let learned = self.topics.handle_metadata(&metadata, &mut self.buffers, now);
        self.topics.forget_absent();
        for broker in self.topics.held_elsewhere() {
            if let Some(remote) = self.brokers.get(&broker) {
                // The task lives as long as this sender.
                let _ = remote.commands.send(Command::Leave);
            }
        }
        let is_wrong = learned.ask_again || self.trouble().is_some();
        self.asking.unchanged = if is_wrong { self.asking.unchanged + 1 } else { 0 };
        if (learned.is_stale || self.asking.unchanged >= UNCHANGED)
            && let Some(client) = &mut self.asking.client
        {
            self.asking.unchanged = 0;
            client.leave();
        }
        if is_wrong {
            self.ask_in(ASK_AGAIN);
        }
    }

    /// Asks for metadata so long after the last time.
    fn ask_in(&mut self, pause: Duration) {
        self.asking.due = self.asking.due.min(self.asking.last + pause);
    }

    fn ask(&mut self) {
        if self.now < self.asking.due {
            return;
        }
        let Some(mut client) = self.asking.client.take() else { return };
        self.asking.last = self.now;
        self.asking.due = self.now + REFRESH;
        let topics = self.topics.names();
        let mut known: Vec<String> = self.addresses.values().cloned().collect();
        known.sort_unstable();
        let tell = self.tell.clone();
        let asking = async move {
            let answer = client.ask(&topics, &known).await;
            // Whoever listens ends this task first.
            let _ = tell.send(Event::Metadata(client, answer));
        };
        self.tasks.spawn_on(asking, &self.runtime);
    }

    /// Shows why records are not written, if they are not.
    fn show(&mut self) {
        let reason = self.trouble();
        if reason != self.shown {
            self.shown = reason;
            self.publish();
        }
    }

    fn publish(&self) {
        let is_connected = self.connected == Some(true);
        let unfetched = self.shown.clone();
        self.health.set_fetch(FetchHealth { unfetched, is_connected, ..FetchHealth::default() });
    }

    fn trouble(&self) -> Option<String> {
        if let Some(reason) = self.held.values().next() {
            return Some(reason.clone());
        }
        let is_needed = |remote: &Remote| remote.in_flight > 0 || !remote.ready.is_empty();
        let mut troubled = self.troubled.iter();
        let (broker, reason) =
            troubled.find(|(id, _)| self.brokers.get(id).is_some_and(is_needed))?;
        Some(format!("broker {broker} cannot be written to: {reason}"))
    }

    /// Gives up everything; what is known not to be written is handed out.
    pub(super) fn hand_over(
        &mut self,
        reason: &str,
        f: impl FnMut(Ticket, &OutboundRecord<'_>),
    ) -> Vec<Deliveries> {
        self.tasks.abort_all();
        self.brokers.clear();
        let client = MetadataClient::new(Arc::clone(&self.connector), self.bootstrap.clone());
        self.asking.client = Some(Box::new(client));
        self.topics.hand_over(reason, f);
        let mut told: Vec<Deliveries> = self.deliveries.drain(..).collect();
        told.extend(std::iter::from_fn(|| self.topics.poll_failed()));
        told
    }

    /// Gives up everything.
    pub(super) fn fail_all(&mut self, reason: &str) {
        let mut tickets = Vec::new();
        let told = self.hand_over(reason, |ticket, _| tickets.push(ticket));
        self.deliveries.extend(told);
        let error = WriteError::Kafka {
            error: ResponseError::UnsupportedVersion.to_string(),
            reason: reason.to_owned(),
            retriable: true,
        };
        self.deliveries.push_back(Deliveries::new(tickets, Err(error)));
        self.reporter.report(reason);
    }
}

impl Remote {
    /// Sends requests as long as there is something worth one.
    fn send_ready(&mut self, id: i32, topics: &mut Topics, buffers: &mut Buffers, now: Instant) {
        loop {
            let fill = match self.in_flight {
                ..EAGER => Fill::Any,
                EAGER..WINDOW => Fill::Full,
                WINDOW.. => return,
            };
            let mut items = Vec::new();
            let mut bytes = 0;
            for _ in 0..self.ready.len() {
                let Some(key) = self.ready.pop_front() else { break };
                let Some(slot) = topics.slot(key) else { continue };
                let is_here = slot.partition.broker() == Some(id);
                let may_join = is_here && bytes < REQUEST_BYTES;
                let request = may_join.then(|| slot.partition.poll_request(now, fill, buffers));
                let has_more = is_here && slot.partition.has_unsent();
                slot.is_ready = has_more;
                if has_more {
                    self.ready.push_back(key);
                } else if !is_here {
                    topics.touch(key);
                }
                if let Some(Some(request)) = request
                    && let Some((topic, topic_id)) = topics.name_of(key)
                {
                    bytes += request.bytes.len();
                    let partition = i32::try_from(key.partition).unwrap_or(i32::MAX);
                    let (number, bytes) = (request.number, request.bytes);
                    items.push(Item { key, number, topic, topic_id, partition, bytes });
                }
            }
            if items.is_empty() {
                return;
            }
            items.sort_by(|a, b| a.topic.cmp(&b.topic));
            self.in_flight += 1;
            // The task lives as long as this sender.
            let _ = self.commands.send(Command::Produce(items));
        }
    }
}

fn codec(compression: Compression) -> Option<Codec> {
    match compression {
        Compression::None => None,
        Compression::Gzip => Some(Codec::Gzip),
        Compression::Snappy => Some(Codec::Snappy),
        Compression::Lz4 => Some(Codec::Lz4),
        Compression::Zstd => Some(Codec::Zstd),
    }
}
