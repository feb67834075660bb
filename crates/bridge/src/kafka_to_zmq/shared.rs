//! What a route's task shares with those who report on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use zafka_envelope::Encoder;
use zafka_kafka::{Assignment, Ends, Source, TopicPartition};
use zafka_sockets::{Demand, PeerSnapshot, PubSocket, SocketSnapshot};

use super::progress::Progress;
use super::waits;
use crate::config::RouteConfig;
use crate::rename::renamed;
use crate::status::{PartitionStatus, PeerStatus, RouteCounters, RouteReadiness, RouteStatus};

/// A route as seen from outside its task.
#[derive(Debug)]
pub(crate) struct RouteShared {
    pub(crate) config: RouteConfig,
    pub(crate) socket: PubSocket,
    pub(crate) source: Source,
    pub(crate) partitions: Mutex<BTreeMap<TopicPartition, Arc<Progress>>>,
    /// The partitions that too few peers want, and since when, in ms since the epoch.
    pub(crate) short: Mutex<BTreeMap<TopicPartition, i64>>,
    pub(crate) records_read: AtomicU64,
    pub(crate) bytes_encoded: AtomicU64,
    pub(crate) headers_missing: AtomicU64,
    /// Why the route stopped for good, once it did.
    pub(crate) stopped: Mutex<Option<String>>,
}

impl RouteShared {
    /// Those that have to want a partition, where `min_peers` asks for any: by its routing frame,
    /// if all its messages have the same one.
    pub(crate) fn demand(&self, assignment: &Assignment) -> Option<Arc<Demand>> {
        if self.config.socket.min_peers == 0 {
            return None;
        }
        let RouteConfig { name, frames, rename, .. } = &self.config;
        let topic = renamed(rename, assignment.topic());
        let frame = frames.routing_frame(name, &topic, assignment.partition());
        Some(self.socket.demand(frame))
    }

    /// The encoder for a partition, with the topic's new name in the routing frame.
    pub(crate) fn encoder(&self, assignment: &Assignment) -> Encoder {
        let RouteConfig { name, frames, rename, .. } = &self.config;
        let topic = assignment.topic();
        frames.encoder_as(name, topic, &renamed(rename, topic), assignment.partition())
    }

    /// Takes note of whether too few peers want a partition.
    pub(crate) fn note_short(&self, key: &TopicPartition, is_short: bool) {
        let mut short = self.short.lock();
        if !is_short {
            short.remove(key);
        } else if !short.contains_key(key) {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            short.insert(key.clone(), i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
        }
    }

    /// Shows a partition from now on, in place of what was shown of it before.
    pub(crate) fn show(&self, progress: &Arc<Progress>) {
        let key = progress.assignment.topic_partition.clone();
        self.partitions.lock().insert(key, Arc::clone(progress));
    }

    /// Whether it is ready, and what it waits for. Costs little, however many peers there are.
    pub(crate) fn readiness(&self) -> RouteReadiness {
        let stopped = self.stopped.lock().clone();
        let (waiting, waiting_total) = waits::of_route(self);
        RouteReadiness {
            name: self.config.name.clone(),
            stopped: stopped.is_some(),
            reason: stopped.or_else(|| self.source.status().not_ready),
            waiting,
            waiting_total,
        }
    }

    /// Everything but the peers, which are not looked at.
    pub(crate) fn counters(&self) -> RouteStatus {
        self.status_with(self.socket.counts())
    }

    /// Everything. Each peer's queue is looked at.
    pub(crate) fn status(&self) -> RouteStatus {
        self.status_with(self.socket.snapshot())
    }

    fn status_with(&self, socket: SocketSnapshot) -> RouteStatus {
        let source = self.source.status();
        let RouteReadiness { name, reason, stopped, waiting, waiting_total } = self.readiness();
        let partitions = self
            .partitions
            .lock()
            .values()
            .map(|progress| self.partition_status(progress))
            .collect();
        RouteStatus {
            name,
            ready: reason.is_none(),
            reason,
            stopped,
            waiting,
            waiting_total,
            endpoints: self.socket.endpoints().iter().map(ToString::to_string).collect(),
            group: self.config.source.group.as_ref().map(|group| group.id.clone()),
            fetcher: source.fetcher.map(str::to_owned),
            counters: RouteCounters {
                records_read: self.records_read.load(Ordering::Relaxed),
                bytes_encoded: self.bytes_encoded.load(Ordering::Relaxed),
                records_unheard: socket.counters.records_unheard,
                messages_sent: socket.counters.messages_sent,
                bytes_sent: socket.counters.bytes_sent,
                messages_dropped: socket.counters.messages_dropped,
                bytes_unsent: socket.counters.bytes_unsent,
                records_skipped: source.records_skipped,
                offset_resets: source.offset_resets,
                headers_missing: self.headers_missing.load(Ordering::Relaxed),
                commits: source.commits,
                commits_failed: source.commits_failed,
                rebalances: source.rebalances,
                kafka_errors: source.kafka_errors,
                peers_accepted: socket.accepted,
                peers_closed: socket
                    .closed
                    .iter()
                    .map(|(reason, count)| ((*reason).to_owned(), *count))
                    .collect(),
            },
            ring_bytes: socket.ring_bytes,
            ring_bytes_max: self.config.socket.ring_bytes,
            peers_subscribed: socket.peers_subscribed,
            partitions_stalled: source.partitions_stalled,
            partitions,
            peers_total: socket.peers_connected,
            peers: socket.peers.into_iter().map(peer_status).collect(),
        }
    }

    fn partition_status(&self, progress: &Progress) -> PartitionStatus {
        let assignment = &progress.assignment;
        // In this order, so that each is at least the one before it also while they move.
        let committed = assignment.committed();
        let delivered = progress.delivered();
        let read = progress.read();
        let ends = self.source.ends(assignment);
        PartitionStatus {
            topic: assignment.topic().to_string(),
            partition: assignment.partition(),
            read,
            // A reset in between sets both back.
            delivered: delivered.min(read),
            committed,
            lag: ends.map(|ends| ends.readable().saturating_sub(delivered).max(0)),
            high_watermark: ends.map(|ends| ends.high_watermark),
            last_stable_offset: ends.and_then(|ends| ends.last_stable),
            open_transaction: ends.and_then(Ends::open_transaction),
        }
    }
}

fn peer_status(peer: PeerSnapshot) -> PeerStatus {
    PeerStatus {
        address: peer.address,
        socket: peer.socket_type.to_owned(),
        subscriptions: peer
            .subscriptions
            .iter()
            .map(|prefix| prefix.escape_ascii().to_string())
            .collect(),
        subscriptions_total: peer.subscriptions_total,
        bytes_queued: peer.bytes_queued,
        messages_sent: peer.messages_sent,
        messages_dropped: peer.messages_dropped,
        connected_since: peer.connected_since,
    }
}
