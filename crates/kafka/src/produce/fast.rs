//! Produce requests of our own: the partitions' states, driven over connections to their leaders.
//!
//! The route's task owns all of it: records are encoded as they come in, and nothing is locked or
//! handed to another task for a single one of them. One task for each broker sends and receives
//! whole requests; one asks for the leaders.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

mod asking;
mod broker;
mod events;
mod remote;
mod request;
#[cfg(feature = "sim")]
pub(crate) mod sim;
mod topics;
mod trouble;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use kafka_protocol::ResponseError;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use super::partition::{Buffers, Settings};
use super::tickets::Tickets;
use super::{
    Compression, Deliveries, News, OutboundRecord, PartitionIndex, ProducerConfig, Ticket,
    WriteError,
};
use crate::cluster::{Cluster, OwnConnections};
use crate::connection::{Connector, RequestError};
use crate::error::StartError;
use crate::health::SourceHealth;
use crate::metadata::{Metadata, MetadataError, MetadataHandle};
use crate::records::{Codec, ProducerId};
use crate::report::Reporter;
use asking::{ASK_AGAIN, ASK_SOON, Asking, REFRESH};
use broker::{Broker, Command};
use remote::Remote;
use request::Answered;
use topics::Topics;

/// A partition, by its place in the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    topic: usize,
    partition: usize,
}

/// Events of the other tasks. As many wait as there are requests under way.
enum Event {
    Connected(i32),
    /// A connection could not be made, or ended.
    Failed {
        broker: i32,
        error: RequestError,
    },
    /// Requests under way at a broker that does not answer.
    Slow {
        broker: i32,
        error: RequestError,
    },
    /// The answer to a Produce request; none for a partition that the answer leaves out.
    Produced {
        broker: i32,
        serial: u64,
        answers: Vec<(Key, u64, Option<Answered>)>,
    },
    /// The end of a Produce request without an answer.
    Lost {
        broker: i32,
        serial: u64,
        requests: Vec<(Key, u64)>,
        was_sent: bool,
    },
    /// A producer id, or why there is none.
    ProducerId(Key, Result<ProducerId, Option<ResponseError>>),
    Metadata(MetadataHandle, Result<Metadata, MetadataError>),
}

/// The next result.
pub(super) enum Next {
    News(News),
    /// A broker is too old for the requests that are needed.
    TooOld(RequestError),
}

/// The producer, owned by the route's task.
pub(super) struct Fast {
    route: Arc<str>,
    connector: Arc<Connector>,
    metadata: MetadataHandle,
    health: Arc<SourceHealth>,
    reporter: Reporter,
    topics: Topics,
    buffers: Buffers,
    addresses: HashMap<i32, String>,
    brokers: HashMap<i32, Remote>,
    serial: u64,
    events: UnboundedReceiver<Event>,
    tell: UnboundedSender<Event>,
    /// Tasks that end with this.
    tasks: JoinSet<()>,
    runtime: Handle,
    asking: Asking,
    /// Brokers that do not answer, and why.
    troubled: BTreeMap<i32, RequestError>,
    /// Partitions that cannot be written now, and why.
    held: BTreeMap<Key, String>,
    /// True if the cluster answers; `None` until that is known.
    connected: Option<bool>,
    shown: Option<String>,
    deliveries: VecDeque<Deliveries>,
    too_old: Option<RequestError>,
    now: Instant,
    /// The time at which a partition has something to do by itself, or a time before that.
    due: Instant,
}

impl std::fmt::Debug for Fast {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fast").field("route", &self.route).finish_non_exhaustive()
    }
}

impl Fast {
    pub(super) fn start(
        cluster: &Cluster,
        config: &ProducerConfig,
        health: &Arc<SourceHealth>,
    ) -> Result<Self, StartError> {
        let runtime = Handle::try_current().map_err(|_| StartError::Runtime)?;
        let OwnConnections { connector, metadata, .. } = cluster.own_connections()?;
        let settings = Settings {
            batch_bytes: config.batch_bytes,
            linger: config.linger,
            delivery_timeout: config.delivery_timeout,
            codec: codec(config.compression),
        };
        let (tell, events) = unbounded_channel();
        let now = Instant::now();
        Ok(Self {
            route: Arc::from(config.route.as_str()),
            connector,
            metadata: metadata.clone(),
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
            asking: Asking { client: Some(metadata), last: now, due: now, unchanged: 0 },
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
    #[inline]
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

    /// Finds the partition of a record, if it is sent now.
    #[inline]
    pub(super) fn locate(
        &mut self,
        topic: &str,
        partition: Option<i32>,
        key: Option<&[u8]>,
    ) -> Option<PartitionIndex> {
        self.topics.locate(topic, partition, key).ok()
    }

    /// Sends a record that was located, as [`Self::send`] does.
    #[inline]
    pub(super) fn send_to(
        &mut self,
        index: PartitionIndex,
        ticket: Ticket,
        record: &OutboundRecord<'_>,
    ) -> Result<(), WriteError> {
        if self.topics.push_to(index, ticket, record, &mut self.buffers, self.now)? {
            self.ask_in(ASK_SOON);
        }
        Ok(())
    }

    /// Takes note of whether a partition has as much under way as it may.
    pub(super) fn set_full(&mut self, index: PartitionIndex, is_full: bool) {
        let PartitionIndex { topic, partition: Some(partition) } = index else { return };
        if let Some(slot) = self.topics.slot(Key { topic, partition }) {
            slot.is_full = is_full;
        }
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

    /// Waits for the outcomes of records. Can be dropped and called again.
    pub(super) async fn next(&mut self) -> Next {
        loop {
            if let Some(error) = self.too_old.take() {
                return Next::TooOld(error);
            }
            // Before their outcomes.
            if let Some(placed) = self.topics.poll_placed() {
                return Next::News(News::Placed(placed));
            }
            if let Some(deliveries) = self.deliveries.pop_front() {
                return Next::News(News::Deliveries(deliveries));
            }
            let ask = self.asking.client.as_ref().map(|_| self.asking.due);
            let due = ask.map_or(self.due, |ask| ask.min(self.due));
            tokio::select! {
                biased;
                // The sender is part of this.
                Some(event) = self.events.recv() => self.handle(event),
                Some(Err(failure)) = self.tasks.join_next() => {
                    if let Ok(panic) = failure.try_into_panic() {
                        // Its requests would never end.
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
        let place = PartitionIndex { topic: key.topic, partition: Some(key.partition) };
        let deliveries = std::iter::from_fn(|| partition.poll_delivery());
        self.deliveries.extend(deliveries.map(|deliveries| deliveries.at(place)));
        let reports: Vec<String> = std::iter::from_fn(|| partition.poll_report()).collect();
        if let Some((due, _)) = partition.poll_timeout() {
            self.due = self.due.min(due);
        }
        let trouble = partition.trouble().map(ToString::to_string);
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

    /// Handles a partition whose leader has no known address.
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

    /// Returns the task of a broker, which is started if there is none at its address.
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

    /// Gives up everything; records that are known not to be written are handed out.
    pub(super) fn hand_over(
        &mut self,
        reason: &str,
        f: impl FnMut(Ticket, &OutboundRecord<'_>),
    ) -> Vec<Deliveries> {
        self.tasks.abort_all();
        self.brokers.clear();
        self.asking.client = Some(self.metadata.clone());
        self.topics.hand_over(reason, f);
        let mut told: Vec<Deliveries> = self.deliveries.drain(..).collect();
        told.extend(std::iter::from_fn(|| self.topics.poll_failed()));
        told
    }

    /// Gives up everything.
    pub(super) fn fail_all(&mut self, reason: &str) {
        let mut tickets = Tickets::default();
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

fn codec(compression: Compression) -> Option<Codec> {
    match compression {
        Compression::None => None,
        Compression::Gzip => Some(Codec::Gzip),
        Compression::Snappy => Some(Codec::Snappy),
        Compression::Lz4 => Some(Codec::Lz4),
        Compression::Zstd => Some(Codec::Zstd),
    }
}
