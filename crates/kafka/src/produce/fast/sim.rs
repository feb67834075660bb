//! The producer without its tasks, for a simulation that plays brokers and their connections. For
//! nothing else.
//!
//! The topics, their partitions, and what is ready at which broker are the product's; what
//! [`Fast`](super::Fast) does with a runtime between them is done here without one.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::ResponseError as Code;
use kafka_protocol::messages::ProduceResponse;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::super::partition::{Buffers, Settings};
use super::super::{OutboundRecord, ProducerConfig, Ticket, WriteError};
use super::asking::{ASK_AGAIN, ASK_SOON, REFRESH, UNCHANGED};
use super::broker::Command;
use super::remote::Remote;
use super::request::{self, Item};
use super::topics::Topics;
use super::{Key, codec};
use crate::fetcher::sim::ClusterView;
use crate::produce::Deliveries;
use crate::records::ProducerId;

/// A producer.
pub struct SimProducer {
    topics: Topics,
    buffers: Buffers,
    addresses: HashMap<i32, String>,
    brokers: BTreeMap<i32, (Remote, UnboundedReceiver<Command>)>,
    serial: u64,
    deliveries: VecDeque<Deliveries>,
    /// The time of the next request for metadata, and of the last one.
    ask_due: Instant,
    asked: Instant,
    is_asking: bool,
    leaves: bool,
    unchanged: u32,
    due: Instant,
    reports: Vec<String>,
}

impl std::fmt::Debug for SimProducer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimProducer").finish_non_exhaustive()
    }
}

/// A command to the task of a broker.
#[derive(Debug)]
pub enum BrokerOrder {
    /// Send a Produce request.
    Produce(SimRequest),
    /// Ask for a producer id.
    ProducerId(IdRequest),
    /// Wait no longer: another broker leads some of the rest.
    Leave,
}

/// A Produce request.
#[derive(Clone, Debug)]
pub struct SimRequest(Vec<Item>);

/// A request for a producer id.
#[derive(Clone, Copy, Debug)]
pub struct IdRequest(Key);

impl SimRequest {
    /// Returns the version that it has if the broker's newest is `newest`, and its body.
    pub fn encode(&self, newest: i16) -> (i16, Bytes) {
        let version = request::version(&self.0, newest);
        (version, request::encode(&self.0, version, 15_000).concat().into())
    }
}

impl SimProducer {
    /// A producer that knows nothing of its cluster.
    pub fn new(config: &ProducerConfig, seed: u64, now: Instant) -> Self {
        let settings = Settings {
            batch_bytes: config.batch_bytes,
            linger: config.linger,
            delivery_timeout: config.delivery_timeout,
            codec: codec(config.compression),
        };
        Self {
            topics: Topics::new(settings, seed),
            buffers: Buffers::default(),
            addresses: HashMap::new(),
            brokers: BTreeMap::new(),
            serial: 0,
            deliveries: VecDeque::new(),
            ask_due: now,
            asked: now,
            is_asking: false,
            leaves: false,
            unchanged: 0,
            due: now + REFRESH,
            reports: Vec::new(),
        }
    }

    /// Takes a record, which may wait for [`Self::flush`].
    ///
    /// # Errors
    /// The record cannot be sent at all.
    pub fn send(
        &mut self,
        ticket: Ticket,
        record: &OutboundRecord<'_>,
        now: Instant,
    ) -> Result<(), WriteError> {
        if self.topics.push(ticket, record, &mut self.buffers, now)? {
            self.ask_in(ASK_SOON);
        }
        Ok(())
    }

    /// Sends the requests that may be sent, and handles timeouts that are due.
    pub fn flush(&mut self, now: Instant) {
        if now >= self.due {
            self.due = self.topics.handle_timeout(now).unwrap_or(now + REFRESH);
        }
        while let Some(key) = self.topics.poll_touched() {
            self.look_at(key, now);
            while let Some(key) = self.topics.poll_touched() {
                self.look_at(key, now);
            }
            self.send_all_ready(now);
        }
        self.send_all_ready(now);
        self.deliveries.extend(std::iter::from_fn(|| self.topics.poll_failed()));
    }

    /// Returns when something is due.
    pub fn poll_timeout(&self) -> Instant {
        if self.is_asking { self.due } else { self.due.min(self.ask_due) }
    }

    /// Returns the outcomes of the records of a batch.
    pub fn poll_deliveries(&mut self) -> Option<Deliveries> {
        self.deliveries.pop_front()
    }

    /// Returns the next command: to which broker, and to which of its tasks.
    pub fn poll_command(&mut self) -> Option<(i32, u64, BrokerOrder)> {
        self.brokers.iter_mut().find_map(|(id, (remote, commands))| {
            let order = match commands.try_recv().ok()? {
                Command::Produce(items) => BrokerOrder::Produce(SimRequest(items)),
                Command::ProducerId(key) => BrokerOrder::ProducerId(IdRequest(key)),
                Command::Leave => BrokerOrder::Leave,
            };
            Some((*id, remote.serial, order))
        })
    }

    /// Returns whether metadata are to be asked for, and if so whether of another server than the
    /// one before.
    pub fn poll_metadata(&mut self, now: Instant) -> Option<bool> {
        if self.is_asking || now < self.ask_due {
            return None;
        }
        (self.is_asking, self.asked, self.ask_due) = (true, now, now + REFRESH);
        Some(std::mem::take(&mut self.leaves))
    }

    /// Returns the topics that are asked for.
    pub fn topics(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.topics.names().iter().map(|name| name.to_string()).collect();
        names.sort_unstable();
        names
    }

    /// Returns the reports since the last time.
    pub fn take_reports(&mut self) -> Vec<String> {
        std::mem::take(&mut self.reports)
    }

    /// Takes a server's answer about these topics; none if no server answers.
    pub fn handle_metadata(&mut self, asked: &[String], view: Option<ClusterView>, now: Instant) {
        self.is_asking = false;
        let Some(view) = view else { return self.ask_in(ASK_AGAIN) };
        let mut metadata = view.metadata();
        metadata.topics.retain(|name, _| asked.iter().any(|topic| **topic == **name));
        for topic in asked {
            metadata.topics.entry(topic.as_str().into()).or_insert_with(|| {
                crate::metadata::TopicMetadata {
                    id: uuid::Uuid::nil(),
                    error: Some(Code::UnknownTopicOrPartition),
                    leaders: HashMap::new(),
                }
            });
        }
        self.addresses.clone_from(&metadata.brokers);
        let learned = self.topics.handle_metadata(&metadata, &mut self.buffers, now);
        self.topics.forget_absent();
        for broker in self.topics.held_elsewhere() {
            if let Some((remote, _)) = self.brokers.get(&broker) {
                // Its receiver is beside it.
                let _ = remote.commands.send(Command::Leave);
            }
        }
        self.unchanged = if learned.ask_again { self.unchanged + 1 } else { 0 };
        if learned.is_stale || self.unchanged >= UNCHANGED {
            (self.unchanged, self.leaves) = (0, true);
        }
        if learned.ask_again {
            self.ask_in(ASK_AGAIN);
        }
    }

    /// Takes the answer to a request.
    pub fn handle_answer(
        &mut self,
        (broker, serial): (i32, u64),
        request: &SimRequest,
        response: &ProduceResponse,
        version: i16,
        now: Instant,
    ) {
        self.ended(broker, serial);
        for (item, answered) in request.0.iter().zip(request::read(response, &request.0, version)) {
            let Some(slot) = self.topics.slot(item.key) else { continue };
            match answered {
                Some(answered) => {
                    let (number, answer) = (item.number, &answered.answer);
                    slot.partition.handle_answer(number, answer, &mut self.buffers, now);
                    if let Some(leader) = answered.leader
                        && self.addresses.contains_key(&leader.broker)
                    {
                        self.topics.handle_leader(item.key, leader);
                    }
                }
                None => slot.partition.handle_lost(item.number, true, now),
            }
            self.topics.touch(item.key);
        }
    }

    /// Handles the end of a request without an answer. `was_sent`: true if the broker may have it.
    pub fn handle_lost(
        &mut self,
        (broker, serial): (i32, u64),
        request: &SimRequest,
        was_sent: bool,
        now: Instant,
    ) {
        self.ended(broker, serial);
        for item in &request.0 {
            if let Some(slot) = self.topics.slot(item.key) {
                slot.partition.handle_lost(item.number, was_sent, now);
            }
            self.topics.touch(item.key);
        }
        self.ask_in(Duration::ZERO);
    }

    /// Takes a producer id and its epoch, or why there is none.
    pub fn handle_id(
        &mut self,
        request: IdRequest,
        answer: Result<(i64, i16), Option<Code>>,
        now: Instant,
    ) {
        if let Some(slot) = self.topics.slot(request.0) {
            slot.partition.handle_id(answer.map(|(id, epoch)| ProducerId { id, epoch }), now);
        }
        self.topics.touch(request.0);
    }

    fn ended(&mut self, broker: i32, serial: u64) {
        if let Some((remote, _)) = self.brokers.get_mut(&broker)
            && remote.serial == serial
        {
            remote.in_flight = remote.in_flight.saturating_sub(1);
        }
    }

    fn ask_in(&mut self, pause: Duration) {
        self.ask_due = self.ask_due.min(self.asked + pause);
    }

    /// Looks at a partition, as [`Fast::look_at`](super::Fast) does.
    fn look_at(&mut self, key: Key, now: Instant) {
        let Some(slot) = self.topics.slot(key) else { return };
        let partition = &mut slot.partition;
        self.deliveries.extend(std::iter::from_fn(|| partition.poll_delivery()));
        self.reports.extend(std::iter::from_fn(|| partition.poll_report()));
        if let Some((due, _)) = partition.poll_timeout() {
            self.due = self.due.min(due);
        }
        let wants_leader = partition.poll_wants_leader();
        let broker = partition.broker().filter(|_| partition.has_unsent());
        let wants_id = broker.is_some() && partition.poll_id(now);
        let is_new = broker.is_some() && !std::mem::replace(&mut slot.is_ready, true);
        if wants_leader {
            self.ask_in(ASK_AGAIN);
        }
        let Some(broker) = broker else { return };
        let Some(remote) = self.remote(broker) else {
            if let Some(slot) = self.topics.slot(key) {
                slot.is_ready = false;
                if wants_id {
                    slot.partition.handle_id(Err(None), now);
                }
            }
            return self.ask_in(ASK_AGAIN);
        };
        if wants_id {
            // Its receiver is beside it.
            let _ = remote.commands.send(Command::ProducerId(key));
        }
        if is_new {
            remote.ready.push_back(key);
        }
    }

    fn remote(&mut self, id: i32) -> Option<&mut Remote> {
        let address = self.addresses.get(&id)?;
        if !self.brokers.contains_key(&id) {
            let (commands, commanded) = unbounded_channel();
            self.serial += 1;
            let (address, serial, ready) = (address.clone(), self.serial, VecDeque::new());
            let remote = Remote { address, serial, commands, in_flight: 0, ready };
            self.brokers.insert(id, (remote, commanded));
        }
        self.brokers.get_mut(&id).map(|(remote, _)| remote)
    }

    fn send_all_ready(&mut self, now: Instant) {
        for (id, (remote, _)) in &mut self.brokers {
            remote.send_ready(*id, &mut self.topics, &mut self.buffers, now);
        }
    }
}
