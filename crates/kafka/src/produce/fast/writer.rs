//! The producer without its tasks: what is sent to which broker and when the cluster is asked,
//! given what happened. Time is an argument.
#![warn(clippy::disallowed_methods)]

mod asking;
mod handling;
mod trouble;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use kafka_protocol::ResponseError;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::Key;
use super::broker::Command;
use super::remote::Remote;
use super::topics::Topics;
use crate::connection::RequestError;
use crate::produce::partition::{Buffers, Partition, Settings};
use crate::produce::tickets::Tickets;
use crate::produce::{
    Compression, Deliveries, News, OutboundRecord, PartitionIndex, ProducerConfig, Ticket,
    WriteError,
};
use crate::records::Codec;
pub(super) use asking::MetadataQuestion;
use asking::{ASK_AGAIN, ASK_SOON, Asking, REFRESH};

/// A broker that is to be connected to: its task is to be started with this.
pub(super) struct NewBroker {
    pub(super) id: i32,
    /// Number that tells its task from the one before it at another address.
    pub(super) serial: u64,
    pub(super) address: String,
    /// The commands; they end once the broker is at another address.
    pub(super) commands: UnboundedReceiver<Command>,
}

/// All that is known of the cluster, and all records that are under way.
pub(super) struct Writer {
    pub(super) route: Arc<str>,
    pub(super) topics: Topics,
    buffers: Buffers,
    addresses: HashMap<i32, String>,
    brokers: BTreeMap<i32, Remote>,
    new_brokers: VecDeque<NewBroker>,
    serial: u64,
    asking: Asking,
    /// Brokers that do not answer, and why.
    troubled: BTreeMap<i32, RequestError>,
    /// Partitions that cannot be written now, and why.
    held: BTreeMap<Key, String>,
    /// True if the cluster answers; `None` until that is known.
    pub(super) connected: Option<bool>,
    pub(super) too_old: Option<RequestError>,
    /// Errors to be reported.
    pub(super) reports: VecDeque<String>,
    deliveries: VecDeque<Deliveries>,
    /// True if no place of a record holds any more, which is to be reported.
    is_anew: bool,
    /// The time at which a partition has something to do by itself, or a time before that.
    due: Instant,
}

impl Writer {
    /// Makes a writer that knows nothing of its cluster. `seed` is for choices that do not matter.
    pub(super) fn new(config: &ProducerConfig, seed: u64, now: Instant) -> Self {
        let settings = Settings {
            batch_bytes: config.batch_bytes,
            linger: config.linger,
            delivery_timeout: config.delivery_timeout,
            codec: codec(config.compression),
        };
        Self {
            route: Arc::from(config.route.as_str()),
            topics: Topics::new(settings, seed),
            buffers: Buffers::default(),
            addresses: HashMap::new(),
            brokers: BTreeMap::new(),
            new_brokers: VecDeque::new(),
            serial: 0,
            asking: Asking::new(now),
            troubled: BTreeMap::new(),
            held: BTreeMap::new(),
            connected: None,
            too_old: None,
            reports: VecDeque::new(),
            deliveries: VecDeque::new(),
            is_anew: false,
            due: now + REFRESH,
        }
    }

    /// Takes a record, which may wait for [`Self::flush`].
    ///
    /// # Errors
    /// It cannot be sent at all.
    #[inline]
    pub(super) fn send(
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
    ///
    /// # Errors
    /// As [`Self::send`].
    #[inline]
    pub(super) fn send_to(
        &mut self,
        index: PartitionIndex,
        ticket: Ticket,
        record: &OutboundRecord<'_>,
        now: Instant,
    ) -> Result<(), WriteError> {
        if self.topics.push_to(index, ticket, record, &mut self.buffers, now)? {
            self.ask_in(ASK_SOON);
        }
        Ok(())
    }

    /// Sends records that are their value alone, as [`Topics::push_values`] takes them.
    #[inline]
    pub(super) fn send_values<'a>(
        &mut self,
        index: PartitionIndex,
        first: Ticket,
        timestamp: i64,
        now: Instant,
        next: impl FnMut(usize) -> Option<&'a [u8]>,
    ) -> usize {
        self.topics.push_values(index, first, timestamp, now, next)
    }

    /// Takes note of whether a partition has as much under way as it may.
    pub(super) fn set_full(&mut self, index: PartitionIndex, is_full: bool) {
        let PartitionIndex { topic, partition: Some(partition) } = index else { return };
        if let Some(slot) = self.topics.slot(Key { topic, partition }) {
            slot.is_full = is_full;
        }
    }

    /// Sends what may be sent, and does what is due.
    pub(super) fn flush(&mut self, now: Instant) {
        if now >= self.due {
            let due = self.topics.handle_timeout(now);
            self.due = due.unwrap_or(now + REFRESH);
        }
        // A partition that is ready at a broker which it has left is looked at once more.
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

    /// Returns when something is to be done, if nothing happens.
    pub(super) fn poll_timeout(&self) -> Instant {
        self.asking.due().map_or(self.due, |ask| ask.min(self.due))
    }

    /// Returns the news of records.
    pub(super) fn poll_news(&mut self) -> Option<News> {
        if std::mem::take(&mut self.is_anew) {
            return Some(News::Anew);
        }
        // Before their outcomes.
        if let Some(placed) = self.topics.poll_placed() {
            return Some(News::Placed(placed));
        }
        self.deliveries.pop_front().map(News::Deliveries)
    }

    /// Returns a broker whose task is to be started.
    pub(super) fn poll_new_broker(&mut self) -> Option<NewBroker> {
        self.new_brokers.pop_front()
    }

    /// Looks at a partition that something happened to.
    fn look_at(&mut self, key: Key, now: Instant) {
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
        let wants_id = broker.is_some() && partition.poll_id(now);
        let is_new = broker.is_some() && !std::mem::replace(&mut slot.is_ready, true);
        if wants_leader {
            self.ask_in(ASK_AGAIN);
        }
        self.tell_of(key, trouble, reports);
        let Some(broker) = broker else { return };
        let Some(remote) = self.remote(broker) else { return self.unready(key, wants_id, now) };
        if wants_id {
            // The task lives as long as this sender.
            let _ = remote.commands.send(Command::ProducerId(key));
        }
        if is_new {
            remote.ready.push_back(key);
        }
    }

    /// Handles a partition whose leader has no known address.
    fn unready(&mut self, key: Key, asked_id: bool, now: Instant) {
        if let Some(slot) = self.topics.slot(key) {
            slot.is_ready = false;
            if asked_id {
                slot.partition.handle_id(Err(None), now);
            }
        }
        self.ask_in(ASK_AGAIN);
    }

    /// Returns a broker, whose task is started if there is none at its address.
    fn remote(&mut self, id: i32) -> Option<&mut Remote> {
        let address = self.addresses.get(&id)?;
        if self.brokers.get(&id).is_none_or(|remote| remote.address != *address) {
            let (commands, commanded) = unbounded_channel();
            self.serial += 1;
            let (serial, address) = (self.serial, address.clone());
            let ready = VecDeque::new();
            let remote = Remote { address: address.clone(), serial, commands, in_flight: 0, ready };
            self.new_brokers.push_back(NewBroker { id, serial, address, commands: commanded });
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

    fn send_all_ready(&mut self, now: Instant) {
        for (id, remote) in &mut self.brokers {
            remote.send_ready(*id, &mut self.topics, &mut self.buffers, now);
        }
    }

    /// Gives up everything; records that are known not to be written are handed out.
    pub(super) fn hand_over(
        &mut self,
        reason: &str,
        f: impl FnMut(Ticket, &OutboundRecord<'_>),
    ) -> Vec<Deliveries> {
        self.brokers.clear();
        self.new_brokers.clear();
        self.topics.hand_over(reason, f);
        let mut told: Vec<Deliveries> = self.deliveries.drain(..).collect();
        told.extend(std::iter::from_fn(|| self.topics.poll_failed()));
        told
    }

    /// Gives up everything.
    pub(super) fn fail_all(&mut self, reason: &str) {
        let mut tickets = Tickets::default();
        let told = self.hand_over(reason, |ticket, _| tickets.push(ticket));
        self.deliveries.extend(told.into_iter().map(Deliveries::nowhere));
        self.is_anew = true;
        self.deliveries.push_back(Deliveries::new(tickets, Err(too_old(reason))));
        self.reports.push_back(reason.to_owned());
    }

    /// Gives up records, of each partition in this way.
    pub(super) fn fail(&mut self, error: &WriteError, way: fn(&mut Partition, &WriteError)) {
        self.topics.fail(error, way);
    }
}

/// The error of records that a broker is too old for.
pub(super) fn too_old(reason: &str) -> WriteError {
    WriteError::Kafka {
        error: ResponseError::UnsupportedVersion.to_string(),
        reason: reason.to_owned(),
        retriable: true,
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
