//! An ingest route as seen from outside its task.

use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use zafka_kafka::produce::ProducerHealth;
use zafka_sockets::{InboundSocket, SenderSnapshot};

use super::IngestConfig;
use crate::status::{IngestCounters, IngestStatus, RouteReadiness, SenderStatus};

/// Senders that are shown at the most.
const SENDERS_SHOWN: usize = 100;

#[derive(Debug)]
pub(crate) struct IngestShared {
    pub(crate) config: IngestConfig,
    pub(crate) socket: InboundSocket,
    pub(crate) producer: ProducerHealth,
    pub(crate) counts: Counts,
    /// Messages under way.
    pub(crate) in_flight: AtomicUsize,
    /// When the oldest message under way was received, in ms since the epoch; 0 if there is none.
    pub(crate) oldest: AtomicI64,
    /// Why nothing moves, if the dead-letter topic cannot be written.
    pub(crate) held_by: Mutex<Option<String>>,
    /// Why the route stopped for good, once it did.
    pub(crate) stopped: Mutex<Option<String>>,
}

/// Counts since the start. Each message is received, and ends in one of the others.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) received: AtomicU64,
    pub(crate) acknowledged: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) skipped: AtomicU64,
    pub(crate) dead_lettered: AtomicU64,
    pub(crate) unknown: AtomicU64,
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
            counts: Counts::default(),
            in_flight: AtomicUsize::new(0),
            oldest: AtomicI64::new(0),
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
        RouteReadiness {
            name: self.config.name.clone(),
            reason,
            stopped: stopped.is_some(),
            ..RouteReadiness::default()
        }
    }

    pub(crate) fn status(&self, now_ms: i64) -> IngestStatus {
        let socket = self.socket.snapshot();
        let RouteReadiness { reason, stopped, .. } = self.readiness();
        let oldest = self.oldest.load(Ordering::Relaxed);
        let mut senders = socket.senders;
        let senders_total = senders.len();
        senders.truncate(SENDERS_SHOWN);
        // The ends first, so that they never exceed what was received.
        let count = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        let counters = IngestCounters {
            acknowledged: count(&self.counts.acknowledged),
            refused: count(&self.counts.refused),
            skipped: count(&self.counts.skipped),
            dead_lettered: count(&self.counts.dead_lettered),
            unknown: count(&self.counts.unknown),
            received: count(&self.counts.received),
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
            endpoints: self.socket.endpoints().iter().map(ToString::to_string).collect(),
            in_flight: self.in_flight.load(Ordering::Acquire),
            in_flight_bytes: socket.bytes_in_flight,
            in_flight_bytes_max: self.config.socket.in_flight_bytes,
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
        held: sender.held,
        answer_bytes: sender.answer_bytes,
        connected_since: sender.connected_since,
    }
}
