//! Produce requests of our own: the partitions' states, driven over connections to their leaders.
//!
//! The route's task owns all of it: records are encoded as they come in, and nothing is locked or
//! handed to another task for a single one of them. One task for each broker sends and receives
//! whole requests; one asks for the leaders. `writer` decides; what is here has the clock and the
//! tasks.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

mod broker;
mod events;
mod remote;
mod request;
#[cfg(feature = "sim")]
pub(crate) mod sim;
mod topics;
mod writer;

use std::sync::Arc;
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use super::partition::Partition;
use super::{Deliveries, News, OutboundRecord, PartitionIndex, ProducerConfig, Ticket, WriteError};
use crate::cluster::{Cluster, OwnConnections};
use crate::connection::{Connector, RequestError};
use crate::error::StartError;
use crate::health::{FetchHealth, SourceHealth};
use crate::metadata::{Metadata, MetadataError, MetadataHandle};
use crate::report::Reporter;
use broker::Broker;
use events::Event;
use writer::{MetadataQuestion, NewBroker, Writer, too_old};

/// A partition, by its place in the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    topic: usize,
    partition: usize,
}

/// The next result.
pub(super) enum Next {
    News(News),
    /// A broker is too old for the requests that are needed.
    TooOld(RequestError),
}

/// The end of a Metadata request.
type MetadataEnd = (MetadataHandle, Result<Metadata, MetadataError>);

/// The time of the records between two flushes: that of the first one, as a clock for each costs.
/// The time of the flush before it may be long ago, and a record's delivery timeout begins with it.
#[derive(Debug, Default)]
struct Turn(Option<Instant>);

impl Turn {
    #[inline]
    fn time(&mut self, clock: impl FnOnce() -> Instant) -> Instant {
        *self.0.get_or_insert_with(clock)
    }

    fn end(&mut self) {
        self.0 = None;
    }
}

/// The producer, owned by the route's task.
pub(super) struct Fast {
    connector: Arc<Connector>,
    metadata: MetadataHandle,
    health: Arc<SourceHealth>,
    reporter: Reporter,
    writer: Writer,
    /// The client; `None` while a request is under way.
    client: Option<MetadataHandle>,
    events: UnboundedReceiver<Event>,
    tell: UnboundedSender<Event>,
    told: UnboundedReceiver<MetadataEnd>,
    tell_metadata: UnboundedSender<MetadataEnd>,
    /// Tasks that end with this.
    tasks: JoinSet<()>,
    runtime: Handle,
    /// The state as it was shown: whether the cluster answers, and why records are not written.
    shown: (Option<bool>, Option<String>),
    turn: Turn,
}

impl std::fmt::Debug for Fast {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fast").field("route", &self.writer.route).finish_non_exhaustive()
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
        let (tell, events) = unbounded_channel();
        let (tell_metadata, told) = unbounded_channel();
        Ok(Self {
            connector,
            metadata: metadata.clone(),
            health: Arc::clone(health),
            reporter: Reporter::new(&config.route, health, &Arc::default()),
            writer: Writer::new(config, rand::random(), Instant::now()),
            client: Some(metadata),
            events,
            tell,
            told,
            tell_metadata,
            tasks: JoinSet::new(),
            runtime,
            shown: (None, None),
            turn: Turn::default(),
        })
    }

    /// Takes a record, which may wait for [`Self::flush`].
    #[inline]
    pub(super) fn send(
        &mut self,
        ticket: Ticket,
        record: &OutboundRecord<'_>,
    ) -> Result<(), WriteError> {
        self.writer.send(ticket, record, self.turn.time(Instant::now))
    }

    /// Finds the partition of a record, if it is sent now.
    #[inline]
    pub(super) fn locate(
        &mut self,
        topic: &str,
        partition: Option<i32>,
        key: Option<&[u8]>,
    ) -> Option<PartitionIndex> {
        self.writer.locate(topic, partition, key)
    }

    /// Sends a record that was located, as [`Self::send`] does.
    #[inline(always)]
    pub(super) fn send_to(
        &mut self,
        index: PartitionIndex,
        ticket: Ticket,
        record: &OutboundRecord<'_>,
    ) -> Result<(), WriteError> {
        self.writer.send_to(index, ticket, record, self.turn.time(Instant::now))
    }

    /// Sends records that are their value alone, behind one that was sent there.
    #[inline]
    pub(super) fn send_values<'a>(
        &mut self,
        index: PartitionIndex,
        first: Ticket,
        timestamp: i64,
        next: impl FnMut(usize) -> Option<&'a [u8]>,
    ) -> usize {
        let now = self.turn.time(Instant::now);
        self.writer.send_values(index, first, timestamp, now, next)
    }

    /// Takes note of whether a partition has as much under way as it may.
    pub(super) fn set_full(&mut self, index: PartitionIndex, is_full: bool) {
        self.writer.set_full(index, is_full);
    }

    /// Sends what may be sent.
    pub(super) fn flush(&mut self) {
        self.turn.end();
        let now = Instant::now();
        self.writer.flush(now);
        while let Some(broker) = self.writer.poll_new_broker() {
            self.start_broker(broker);
        }
        if let Some(question) = self.writer.poll_question(now) {
            self.ask(question);
        }
        self.show();
    }

    /// Waits for the outcomes of records. Can be dropped and called again.
    pub(super) async fn next(&mut self) -> Next {
        loop {
            if let Some(error) = self.writer.too_old.take() {
                return Next::TooOld(error);
            }
            if let Some(news) = self.writer.poll_news() {
                return Next::News(news);
            }
            tokio::select! {
                biased;
                // The senders are part of this.
                Some(event) = self.events.recv() => self.writer.handle(event, Instant::now()),
                Some(told) = self.told.recv() => self.handle_told(told),
                Some(Err(failure)) = self.tasks.join_next() => {
                    if let Ok(panic) = failure.try_into_panic() {
                        // Its requests would never end.
                        std::panic::resume_unwind(panic);
                    }
                }
                () = sleep_until(self.writer.poll_timeout().into()) => {}
            }
            while let Ok(event) = self.events.try_recv() {
                self.writer.handle(event, Instant::now());
            }
            self.flush();
        }
    }

    fn handle_told(&mut self, (client, answer): MetadataEnd) {
        self.client = Some(client);
        self.writer.handle_metadata(answer, Instant::now());
    }

    fn start_broker(&mut self, broker: NewBroker) {
        let NewBroker { id, serial, address, commands } = broker;
        let broker = Broker {
            id,
            serial,
            address,
            connector: Arc::clone(&self.connector),
            health: Arc::clone(&self.health),
            commands,
            tell: self.tell.clone(),
        };
        self.tasks.spawn_on(broker.run(), &self.runtime);
    }

    fn ask(&mut self, MetadataQuestion { topics, leaves }: MetadataQuestion) {
        // It is not asking.
        let Some(mut client) = self.client.take() else { return };
        if leaves {
            client.leave();
        }
        let tell = self.tell_metadata.clone();
        let asking = async move {
            let answer = client.ask(&topics).await;
            // The receiver ends this task before it is dropped.
            let _ = tell.send((client, answer));
        };
        self.tasks.spawn_on(asking, &self.runtime);
    }

    /// Shows whether the cluster answers, and why records are not written if they are not.
    fn show(&mut self) {
        while let Some(report) = self.writer.reports.pop_front() {
            self.reporter.report(&report);
        }
        let (connected, trouble) = (self.writer.connected, self.writer.trouble());
        if (connected, &trouble) == (self.shown.0, &self.shown.1) {
            return;
        }
        if let Some(connected) = connected {
            self.health.set_connected(connected);
        }
        let (is_connected, unfetched) = (connected == Some(true), trouble.clone());
        self.health.set_fetch(FetchHealth { unfetched, is_connected, ..FetchHealth::default() });
        self.shown = (connected, trouble);
    }

    /// Gives up everything; records that are known not to be written are handed out.
    pub(super) fn hand_over(
        &mut self,
        reason: &str,
        f: impl FnMut(Ticket, &OutboundRecord<'_>),
    ) -> Vec<Deliveries> {
        self.end_tasks();
        self.writer.hand_over(reason, f)
    }

    /// Gives up everything.
    pub(super) fn fail_all(&mut self, reason: &str) {
        self.end_tasks();
        self.writer.fail_all(reason);
        self.show();
    }

    /// Gives up everything, since a broker is too old, and continues: it may be replaced.
    pub(super) fn fail_for_now(&mut self, reason: &str) {
        self.fail(&too_old(reason), Partition::fail_all);
        self.reporter.report(reason);
    }

    /// Gives up records, of each partition in this way.
    pub(super) fn fail(&mut self, error: &WriteError, way: fn(&mut Partition, &WriteError)) {
        self.writer.fail(error, way);
        self.flush();
    }

    fn end_tasks(&mut self) {
        self.tasks.abort_all();
        self.client = Some(self.metadata.clone());
        self.writer.end_question();
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Turn;

    #[test]
    fn a_record_after_an_idle_time_has_the_time_at_which_it_came() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut turn = Turn::default();
        assert_eq!(turn.time(|| at(1)), at(1));
        assert_eq!(turn.time(|| panic!("the clock is asked once a turn")), at(1));
        turn.end();
        turn.end();
        assert_eq!(turn.time(|| at(31)), at(31));
    }
}
