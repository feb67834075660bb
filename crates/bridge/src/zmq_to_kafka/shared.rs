//! An ingest route as seen from outside its task.

use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;
use zafka_kafka::produce::ProducerHealth;
use zafka_sockets::{InboundSocket, SenderSnapshot};

use super::IngestConfig;
use super::counts::Counts;
use super::parked::{WaitName, Waiting, Waits};
use crate::status::{IngestCounters, IngestStatus, RouteReadiness, SenderStatus, WaitStatus};

/// Senders, and waits, that are shown at the most.
const SENDERS_SHOWN: usize = 100;
const WAITS_SHOWN: usize = 100;

#[derive(Debug)]
pub(crate) struct IngestShared {
    pub(crate) config: IngestConfig,
    pub(crate) socket: InboundSocket,
    pub(crate) producer: ProducerHealth,
    /// The counts at one moment: the route's task writes all of them at once.
    pub(crate) counts: Mutex<Counts>,
    /// The time when the oldest message under way was received, in ms since the epoch; 0 if there
    /// is none.
    pub(crate) oldest: AtomicI64,
    /// The partitions that take no more for now, and what waits for them.
    pub(crate) full: Mutex<Waits>,
    /// The reason why nothing moves, if the dead-letter topic cannot be written.
    pub(crate) held_by: Mutex<Option<String>>,
    /// The reason why the route stopped for good, once it did.
    pub(crate) stopped: Mutex<Option<String>>,
}

impl IngestShared {
    pub(crate) fn new(
        config: IngestConfig,
        socket: InboundSocket,
        producer: ProducerHealth,
    ) -> Self {
        Self {
            config,
            socket,
            producer,
            counts: Mutex::default(),
            oldest: AtomicI64::new(0),
            full: Mutex::default(),
            held_by: Mutex::default(),
            stopped: Mutex::default(),
        }
    }

    pub(crate) fn readiness(&self) -> RouteReadiness {
        let stopped = self.stopped.lock().clone();
        let reason = stopped
            .clone()
            .or_else(|| self.held_by.lock().clone())
            .or_else(|| self.producer.not_ready());
        let mut waiting = self.waits();
        let waiting_total = waiting.len();
        waiting.truncate(WAITS_SHOWN);
        RouteReadiness {
            name: self.config.name.clone(),
            reason,
            stopped: stopped.is_some(),
            waiting_total,
            waiting,
        }
    }

    /// Returns its waits, which are no fault of its own.
    pub(crate) fn waits(&self) -> Vec<WaitStatus> {
        if self.stopped.lock().is_some() {
            return Vec::new();
        }
        let most = self.config.socket.in_flight_bytes;
        let memory = |partition, senders, since, reason| {
            let plural = if senders == 1 { "" } else { "s" };
            let reason = format!("{senders} sender{plural} not read: {reason}");
            WaitStatus { partition, kind: "memory", reason, peer: None, since }
        };
        let held = self.socket.held().map(|(senders, since)| {
            let in_flight = self.counts.lock().in_flight;
            let reason = format!(
                "{in_flight} messages of at most {most} bytes (in_flight_bytes) are not in the log \
                 yet"
            );
            memory(None, senders, since, reason)
        });
        let full = self.full.lock().clone().into_iter();
        let full = full.map(|(name, Waiting { senders, since })| {
            let (name, whose) = match name {
                WaitName::Partition(topic, number) => {
                    (Some(format!("{topic}/{number}")), "for the partition")
                }
                WaitName::Unknown => (None, "for topics that are not known yet"),
                WaitName::Answers => (None, "whose answers wait for those to earlier ones"),
            };
            let reason = format!(
                "the messages {whose} have their part of {most} bytes (in_flight_bytes), and not \
                 all before them are in the log"
            );
            memory(name, senders, since, reason)
        });
        let producer = self.producer.waits().into_iter().map(WaitStatus::from);
        let mut waits: Vec<_> = held.into_iter().chain(full).chain(producer).collect();
        waits.sort_by_key(|wait| wait.since);
        waits
    }

    pub(crate) fn status(&self, now_ms: i64) -> IngestStatus {
        let socket = self.socket.snapshot();
        let RouteReadiness { reason, stopped, waiting, .. } = self.readiness();
        let oldest = self.oldest.load(Ordering::Relaxed);
        let mut senders = socket.senders;
        let senders_total = senders.len();
        senders.truncate(SENDERS_SHOWN);
        let counts = *self.counts.lock();
        let counters = IngestCounters {
            received: counts.received,
            acknowledged: counts.acknowledged,
            refused: counts.refused,
            skipped: counts.skipped,
            dead_lettered: counts.dead_lettered,
            unknown: counts.unknown,
            kafka_errors: self.producer.errors(),
            senders_accepted: socket.accepted,
            senders_closed: socket
                .closed
                .iter()
                .map(|(reason, count)| ((*reason).to_owned(), *count))
                .collect(),
        };
        IngestStatus {
            name: self.config.name.clone(),
            ready: reason.is_none(),
            reason,
            stopped,
            waiting,
            endpoints: self.socket.endpoints().iter().map(ToString::to_string).collect(),
            in_flight: counts.in_flight,
            unaccounted: counts.unaccounted(),
            in_flight_bytes: socket.bytes_in_flight,
            in_flight_bytes_max: self.config.socket.in_flight_bytes,
            peer_bytes: socket.peer_bytes,
            peer_bytes_max: self.config.socket.peer_memory,
            oldest_ms: if oldest == 0 { 0 } else { now_ms.saturating_sub(oldest).max(0) },
            senders_held: socket.senders_held,
            senders_total,
            counters,
            senders: senders.into_iter().map(sender_status).collect(),
        }
    }
}

fn sender_status(sender: SenderSnapshot) -> SenderStatus {
    SenderStatus {
        id: sender.id,
        address: sender.address,
        socket: sender.socket_type.to_owned(),
        received: sender.received,
        failed: sender.failed,
        under_way: sender.under_way,
        bytes_under_way: sender.bytes_under_way,
        held_since: sender.held_since,
        answer_bytes: sender.answer_bytes,
        connected_since: sender.connected_since,
        subject: sender.subject.as_deref().map(zafka_identity::shown),
        lease_ends: sender.access_until,
    }
}
