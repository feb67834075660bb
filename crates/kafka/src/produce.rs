//! Writes records to Kafka, and reports the outcome of each.
//!
//! Always idempotent, always with `acks = all`: a record that was reported as written is in the
//! log. One that may be there or not is reported as unknown, never as failed. How much is under way
//! is bounded by the caller.
//!
//! There are two ways: requests of our own, and librdkafka if the brokers are too old for those or
//! if the configuration says so. Neither is seen from outside.

mod fast;
mod librdkafka;
mod partition;
mod partitioner;
mod tickets;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::cluster::Cluster;
use crate::error::StartError;
use crate::health::{FetchHealth, SourceHealth};
use crate::wait::Wait;
#[cfg(feature = "sim")]
pub(crate) use fast::sim;
use fast::{Fast, Next};
use librdkafka::Librdkafka;
use partition::Partition;
use tickets::{TicketRun, Tickets};

/// The way records are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerConfig {
    /// Name of the route, for logs.
    pub route: String,
    /// Compression of batches.
    pub compression: Compression,
    /// Time that a batch waits for more records.
    pub linger: Duration,
    /// Size of a batch in bytes, at which it is sent regardless of `linger`.
    pub batch_bytes: usize,
    /// Time after which a record is given up; for as long as it takes if `None`.
    pub delivery_timeout: Option<Duration>,
    /// The producer.
    pub producer: ProducerKind,
}

/// The part of the program that writes records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ProducerKind {
    /// Produce requests of our own; librdkafka if a broker is too old for them.
    #[default]
    Fast,
    /// librdkafka.
    Librdkafka,
}

/// Compression of record batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// None.
    #[default]
    None,
    /// gzip.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Compression {
    /// Its name in Kafka's settings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// A record to be written.
#[derive(Clone, Copy, Debug)]
pub struct OutboundRecord<'a> {
    /// Topic.
    pub topic: &'a str,
    /// Partition; by the key's murmur2 hash as the Java client has it if `None`, and any that is
    /// served without a key.
    pub partition: Option<i32>,
    /// Timestamp in ms since the epoch.
    pub timestamp: i64,
    /// Key; `None` is null.
    pub key: Option<&'a [u8]>,
    /// Value; `None` is null, a tombstone.
    pub value: Option<&'a [u8]>,
    /// Headers in their order, repeats kept.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
}

/// The caller's name for a record that is under way.
pub type Ticket = usize;

/// A partition by its place in a producer's tables. The place is reused only after nothing of the
/// first partition is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartitionIndex {
    /// The topic's place.
    pub topic: usize,
    /// The partition's; `None` while the topic's partitions are not known.
    pub partition: Option<usize>,
}

/// News of records.
#[derive(Debug)]
pub enum News {
    /// Outcomes of records.
    Deliveries(Deliveries),
    /// Another part of the program writes from now on: no place of a record holds any more.
    Anew,
    /// The partitions of a topic are known now: records that waited for that, with where each goes.
    Placed(Vec<(Ticket, PartitionIndex)>),
}

/// The outcome of a record.
#[derive(Debug)]
pub struct Delivery {
    /// The record's ticket.
    pub ticket: Ticket,
    /// Its place in the log, or why it has none.
    pub outcome: Result<Written, WriteError>,
}

/// The outcome of records whose tickets follow one another.
#[derive(Debug)]
pub struct Delivered {
    /// The first record's ticket; each of the others has one more than the one before.
    pub first: Ticket,
    /// Records, at least one.
    pub count: usize,
    /// The first record's place in the log, behind which the others stand; or why none of them has
    /// one.
    pub outcome: Result<Written, WriteError>,
}

/// The outcomes of the records of one batch, in their order: one by one, or many at once.
#[derive(Debug)]
pub struct Deliveries {
    place: Option<PartitionIndex>,
    runs: std::vec::IntoIter<TicketRun>,
    /// The tickets of the next records, if there are any.
    run: Option<TicketRun>,
    left: usize,
    /// Outcome of the record that comes next.
    outcome: Result<Written, WriteError>,
}

impl Deliveries {
    /// Makes the outcomes of records that follow one another in the log, the first of them at
    /// `outcome`, or that failed alike.
    pub(crate) fn new(tickets: Tickets, outcome: Result<Written, WriteError>) -> Self {
        let left = tickets.len();
        let mut runs = tickets.into_runs();
        Self { place: None, run: runs.next(), runs, left, outcome }
    }

    /// Returns the same, without a place.
    fn nowhere(self) -> Self {
        Self { place: None, ..self }
    }

    /// Adds the partition that the records were for.
    pub(crate) fn at(self, place: PartitionIndex) -> Self {
        Self { place: Some(place), ..self }
    }

    /// The partition that the records were counted for; `None` if they were for none.
    pub fn place(&self) -> Option<PartitionIndex> {
        self.place
    }

    /// Returns the outcome of the next records whose tickets follow one another.
    pub fn next_run(&mut self) -> Option<Delivered> {
        let TicketRun { first, count } = self.run?;
        self.run = self.runs.next();
        Some(Delivered { first, count, outcome: self.take(count) })
    }

    /// Takes the outcome of the next `count` records, and returns that of the first.
    fn take(&mut self, count: usize) -> Result<Written, WriteError> {
        self.left -= count;
        let outcome = self.outcome.clone();
        if let Ok(Written { offset: Some(offset), .. }) = &mut self.outcome {
            *offset += i64::try_from(count).unwrap_or(i64::MAX);
        }
        outcome
    }
}

impl Iterator for Deliveries {
    type Item = Delivery;

    fn next(&mut self) -> Option<Delivery> {
        let run = self.run.as_mut()?;
        let ticket = run.first;
        if run.count > 1 {
            *run = TicketRun { first: ticket + 1, count: run.count - 1 };
        } else {
            self.run = self.runs.next();
        }
        Some(Delivery { ticket, outcome: self.take(1) })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Deliveries {}

/// The place of a record in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Partition.
    pub partition: i32,
    /// Offset; `None` if the cluster did not report it.
    pub offset: Option<i64>,
    /// Timestamp in the log in ms since the epoch, if the topic sets its own (LogAppendTime).
    pub log_append_time: Option<i64>,
}

/// The reason why a record was not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The record is larger than the topic takes.
    #[error("the record is larger than the topic takes ({0})")]
    TooLarge(String),
    /// Kafka does not let this relay write there.
    #[error("{0}")]
    NotAllowed(String),
    /// The record was sent, and whether it is in the log is unknown.
    #[error("no answer tells whether the record was written ({0})")]
    Unknown(String),
    /// The record is not in the log.
    #[error("{reason}")]
    Kafka {
        /// Kafka's name for the error.
        error: String,
        /// The same in words.
        reason: String,
        /// True if another try may succeed.
        retriable: bool,
    },
}

/// Writes the records of one route. Dropped, it gives up what is under way.
#[derive(Debug)]
pub struct Producer {
    way: Way,
    cluster: Cluster,
    config: ProducerConfig,
    health: Arc<SourceHealth>,
    is_librdkafka: Arc<AtomicBool>,
    /// librdkafka may write if a broker is too old.
    falls_back: bool,
}

#[derive(Debug)]
enum Way {
    Fast(Box<Fast>),
    Librdkafka(Librdkafka),
}

impl Producer {
    /// Starts a producer. It does not wait for brokers: they are tried until they answer.
    ///
    /// # Errors
    /// The settings cannot be used, one of their files cannot be read, or there is no tokio
    /// runtime.
    pub fn start(cluster: &Cluster, config: &ProducerConfig) -> Result<Self, StartError> {
        let health = Arc::new(SourceHealth::without_assignment());
        let way = match config.producer {
            ProducerKind::Fast => Way::Fast(Box::new(Fast::start(cluster, config, &health)?)),
            ProducerKind::Librdkafka => {
                Way::Librdkafka(Librdkafka::start(cluster, config, &health)?)
            }
        };
        let (cluster, config) = (cluster.clone(), config.clone());
        let is_librdkafka = Arc::new(AtomicBool::new(config.producer == ProducerKind::Librdkafka));
        Ok(Self { way, cluster, config, health, is_librdkafka, falls_back: true })
    }

    /// Starts as [`Self::start`] does, by requests of our own alone: a broker that is too old for
    /// those fails every record.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_fast(cluster: &Cluster, config: &ProducerConfig) -> Result<Self, StartError> {
        let config = ProducerConfig { producer: ProducerKind::Fast, ..config.clone() };
        Ok(Self { falls_back: false, ..Self::start(cluster, &config)? })
    }

    /// Takes a record, whose delivery follows. It may wait for [`Self::flush`].
    ///
    /// # Errors
    /// The record cannot be sent at all. No delivery follows.
    #[inline]
    pub fn send(&mut self, ticket: Ticket, record: &OutboundRecord<'_>) -> Result<(), WriteError> {
        match &mut self.way {
            Way::Fast(fast) => fast.send(ticket, record),
            Way::Librdkafka(librdkafka) => librdkafka.send(None, ticket, record),
        }
    }

    /// Finds the partition that a record goes to, for [`Self::send_to`] at once. `None` if too many
    /// topics are asked for.
    #[inline]
    pub fn locate(
        &mut self,
        topic: &str,
        partition: Option<i32>,
        key: Option<&[u8]>,
    ) -> Option<PartitionIndex> {
        match &mut self.way {
            Way::Fast(fast) => fast.locate(topic, partition, key),
            Way::Librdkafka(librdkafka) => Some(librdkafka.locate(topic, partition, key)),
        }
    }

    /// Sends a record, as [`Self::send`] does, to the partition that [`Self::locate`] has just
    /// found for it.
    ///
    /// # Errors
    /// The same as for [`Self::send`].
    // A record that is handed on through memory is waited for, field by field.
    #[inline(always)]
    pub fn send_to(
        &mut self,
        index: Option<PartitionIndex>,
        ticket: Ticket,
        record: &OutboundRecord<'_>,
    ) -> Result<(), WriteError> {
        match (&mut self.way, index) {
            (Way::Fast(fast), Some(index)) => fast.send_to(index, ticket, record),
            (Way::Librdkafka(librdkafka), index) => librdkafka.send(index, ticket, record),
            (Way::Fast(_), None) => self.send(ticket, record),
        }
    }

    /// Sends records that are their value alone and have this time, behind one without key and
    /// partition that [`Self::send_to`] has just sent there: as many as that one's batch takes, and
    /// as would be sent there by themselves. `next` returns the next value, if there is one of at
    /// most as many bytes as it is told. Their tickets follow one another; their deliveries follow.
    /// Returns their number; none does not say that the next one cannot be sent.
    #[inline]
    pub fn send_values<'a>(
        &mut self,
        index: PartitionIndex,
        first: Ticket,
        timestamp: i64,
        next: impl FnMut(usize) -> Option<&'a [u8]>,
    ) -> usize {
        match &mut self.way {
            Way::Fast(fast) => fast.send_values(index, first, timestamp, next),
            Way::Librdkafka(_) => 0,
        }
    }

    /// Takes note of whether a partition has as much under way as it may: records without a key go
    /// to others while those are not full too.
    pub fn set_full(&mut self, index: PartitionIndex, is_full: bool) {
        match &mut self.way {
            Way::Fast(fast) => fast.set_full(index, is_full),
            Way::Librdkafka(librdkafka) => librdkafka.set_full(index, is_full),
        }
    }

    /// Sends the records that were taken and do not have to wait. To be called once no more records
    /// are at hand.
    pub fn flush(&mut self) {
        match &mut self.way {
            Way::Fast(fast) => fast.flush(),
            Way::Librdkafka(_) => {}
        }
    }

    /// Gives up the records that no broker can have: they fail with this error. The others are
    /// awaited. Does nothing if librdkafka writes.
    pub fn fail_unsent(&mut self, error: &WriteError) {
        if let Way::Fast(fast) = &mut self.way {
            fast.fail(error, Partition::fail_never_sent);
        }
    }

    /// Gives up everything: what a broker may have is reported as unknown, the rest fails with this
    /// error. Does nothing if librdkafka writes.
    pub fn fail_all(&mut self, error: &WriteError) {
        if let Way::Fast(fast) = &mut self.way {
            fast.fail(error, Partition::fail_all);
        }
    }

    /// Returns the news of records, as soon as there are any. It does the producer's work, so it
    /// must always be awaited. Can be dropped and called again.
    pub async fn next(&mut self) -> News {
        loop {
            let error = match &mut self.way {
                Way::Fast(fast) => match fast.next().await {
                    Next::News(news) => return news,
                    Next::TooOld(error) => error,
                },
                Way::Librdkafka(librdkafka) => return librdkafka.next().await,
            };
            match &mut self.way {
                Way::Fast(fast) if !self.falls_back => fast.fail_for_now(&error.to_string()),
                _ => self.fall_back(&error.to_string()),
            }
        }
    }

    /// Changes to librdkafka, which gets the records that were not sent yet. They fail if it cannot
    /// start.
    fn fall_back(&mut self, reason: &str) {
        let started = Librdkafka::start(&self.cluster, &self.config, &self.health);
        let Way::Fast(fast) = &mut self.way else { return };
        match started {
            Ok(mut librdkafka) => {
                tracing::warn!(route = self.config.route, reason, "librdkafka writes");
                let mut failed = Vec::new();
                let told = fast.hand_over(reason, |ticket, record| {
                    if let Err(error) = librdkafka.send(None, ticket, record) {
                        failed.push(Deliveries::new([ticket].into_iter().collect(), Err(error)));
                    }
                });
                let told = told.into_iter().map(Deliveries::nowhere).chain(failed);
                librdkafka
                    .tell_first(std::iter::once(News::Anew).chain(told.map(News::Deliveries)));
                self.way = Way::Librdkafka(librdkafka);
                self.health.set_fetch(FetchHealth::default());
                self.is_librdkafka.store(true, Ordering::Relaxed);
            }
            Err(error) => fast.fail_all(&format!("{reason}; librdkafka: {error}")),
        }
    }

    /// Returns a handle to the state of the connection to the cluster.
    pub fn health(&self) -> ProducerHealth {
        ProducerHealth {
            health: Arc::clone(&self.health),
            is_librdkafka: Arc::clone(&self.is_librdkafka),
        }
    }

    /// Ends. Records under way are given up; their outcome stays unknown.
    pub async fn close(self) {
        // The end of librdkafka's client waits for its threads.
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }
}

/// The state of a producer's connection to the cluster, also after the producer's end.
#[derive(Clone, Debug)]
pub struct ProducerHealth {
    health: Arc<SourceHealth>,
    /// True if librdkafka writes.
    is_librdkafka: Arc<AtomicBool>,
}

impl ProducerHealth {
    /// Returns the reason why records cannot be sent now; `None` if they can.
    pub fn not_ready(&self) -> Option<String> {
        self.health.status().not_ready
    }

    /// The waits of records, with which nothing is wrong.
    pub fn waits(&self) -> Vec<Wait> {
        self.health.status().waits
    }

    /// Returns the present producer: "fast" or "librdkafka".
    pub fn producer(&self) -> &'static str {
        if self.is_librdkafka.load(Ordering::Relaxed) { "librdkafka" } else { "fast" }
    }

    /// The most renewals that the session of one connection has had (KIP-368).
    pub fn renewals(&self) -> u64 {
        self.health.status().renewals
    }

    /// Errors of brokers and of the connections to them since the start.
    pub fn errors(&self) -> u64 {
        self.health.status().kafka_errors
    }
}
