//! State that a route's task shares with its reports.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use zafka_kafka::{Ends, Source};
use zafka_sockets::{PeerSnapshot, PubSocket, SocketSnapshot};

use super::progress::Progress;
use super::report::RouteReport;
use super::waits;
use crate::config::RouteConfig;
use crate::status::{
    PartitionStatus, PeerStatus, RouteCounters, RouteReadiness, RouteStatus, WaitStatus,
};

/// A route as seen from outside its task.
#[derive(Debug)]
pub(crate) struct RouteShared {
    pub(crate) config: Arc<RouteConfig>,
    pub(crate) socket: PubSocket,
    pub(crate) source: Source,
    pub(crate) report: Arc<RouteReport>,
}

impl RouteShared {
    /// Returns whether it is ready, and the waits. Costs little, however many peers there are.
    pub(crate) fn readiness(&self) -> RouteReadiness {
        let stopped = self.report.stopped.lock().clone();
        let (waiting, waiting_total) = self.waits();
        RouteReadiness {
            name: self.config.name.clone(),
            stopped: stopped.is_some(),
            reason: stopped.or_else(|| self.source.status().not_ready),
            waiting,
            waiting_total,
        }
    }

    /// Its waits now, and how many there are in all.
    pub(crate) fn waits(&self) -> (Vec<WaitStatus>, usize) {
        waits::of_route(&self.report, &self.socket, &self.source)
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
            .report
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
                records_read: self.report.records_read.load(Ordering::Relaxed),
                bytes_encoded: self.report.bytes_encoded.load(Ordering::Relaxed),
                records_unheard: socket.counters.unheard,
                messages_sent: socket.counters.messages_sent,
                bytes_sent: socket.counters.bytes_sent,
                messages_dropped: socket.counters.messages_dropped,
                bytes_unsent: socket.counters.bytes_unsent,
                records_skipped: source.records_skipped,
                offset_resets: source.offset_resets,
                headers_missing: self.report.headers_missing.load(Ordering::Relaxed),
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
            peer_bytes: socket.peer_bytes,
            peer_bytes_max: self.config.socket.limits.peer_memory,
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
        subject: peer.subject.as_deref().map(zafka_identity::shown),
        lease_ends: peer.access_until,
    }
}
