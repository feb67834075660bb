//! The status of a relay. `/status`, `/metrics` and `/readyz` are made from these and from nothing
//! else.

use serde::Serialize;

/// Every route of a relay.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RelayStatus {
    /// The routes, in the order of the configuration.
    pub routes: Vec<RouteStatus>,
    /// The routes from ZeroMQ to Kafka, in the order of the configuration.
    pub ingest: Vec<IngestStatus>,
}

/// The readiness of every route.
#[derive(Clone, Debug, Default)]
pub struct RelayReadiness {
    /// The routes, in the order of the configuration.
    pub routes: Vec<RouteReadiness>,
}

/// The readiness of a route: as in [`RouteStatus`].
#[derive(Clone, Debug, Default)]
pub struct RouteReadiness {
    /// Its name.
    pub name: String,
    /// The reason why it is not ready, or why it stopped; `None` if it is ready.
    pub reason: Option<String>,
    /// True if it has stopped for good.
    pub stopped: bool,
    /// The waits.
    pub waiting: Vec<WaitStatus>,
    /// The number of waits.
    pub waiting_total: usize,
}

/// One route.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RouteStatus {
    /// Its name.
    pub name: String,
    /// True if it has its partitions and its endpoints are bound. A route that waits is ready.
    pub ready: bool,
    /// The reason why it is not ready, or why it stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// True if the route has stopped for good.
    pub stopped: bool,
    /// Waits though nothing is wrong, the longest first; the longest hundred if there are more.
    pub waiting: Vec<WaitStatus>,
    /// The number of waits.
    pub waiting_total: usize,
    /// Endpoints it listens on, wildcards resolved, and those it connects to.
    pub endpoints: Vec<String>,
    /// The group it reads in, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The fetcher: "fast" or "librdkafka"; missing before the cluster is reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fetcher: Option<String>,
    /// Counters since the start.
    pub counters: RouteCounters,
    /// Bytes in the ring now.
    pub ring_bytes: usize,
    /// Bound of the ring in bytes.
    pub ring_bytes_max: usize,
    /// Bytes that peers make the socket hold beside the ring now.
    pub peer_bytes: usize,
    /// Bound of that in bytes (`peer_memory`).
    pub peer_bytes_max: usize,
    /// Peers with at least one subscription now.
    pub peers_subscribed: usize,
    /// Partitions that make no progress though there is something to read.
    pub partitions_stalled: usize,
    /// Partitions it holds now, sorted by topic and partition.
    pub partitions: Vec<PartitionStatus>,
    /// Peers it has now.
    pub peers_total: usize,
    /// Those peers, the first thousand; none if only counters are asked for.
    pub peers: Vec<PeerStatus>,
}

/// The kinds of waits.
pub const WAIT_KINDS: [&str; 4] = ["subscribers", "peer", "record", "quota"];

/// The kinds of waits of a route from ZeroMQ to Kafka.
pub const INGEST_WAIT_KINDS: [&str; 2] = ["memory", "quota"];

/// Something a route waits for though nothing is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WaitStatus {
    /// The partition that waits, such as "orders/0"; missing if it is the whole route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// One of [`WAIT_KINDS`] or [`INGEST_WAIT_KINDS`].
    pub kind: &'static str,
    /// The reason, for people.
    pub reason: String,
    /// The address of the peer that is waited for, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// The moment it began, in ms since the epoch.
    pub since: i64,
}

impl From<zafka_kafka::Wait> for WaitStatus {
    fn from(wait: zafka_kafka::Wait) -> Self {
        Self {
            partition: wait.partition.map(|partition| partition.to_string()),
            kind: wait.kind.name(),
            reason: wait.reason,
            peer: None,
            since: wait.since,
        }
    }
}

/// Counters of a route since its start; each only grows.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RouteCounters {
    /// Records read from Kafka.
    pub records_read: u64,
    /// Bytes of encoded messages.
    pub bytes_encoded: u64,
    /// Records for which no peer had a subscription.
    pub records_unheard: u64,
    /// Messages written to peers, over all peers.
    pub messages_sent: u64,
    /// Bytes written to peers, over all peers.
    pub bytes_sent: u64,
    /// Messages skipped for slow peers, over all peers.
    pub messages_dropped: u64,
    /// Bytes that peers which disconnected had not been sent.
    pub bytes_unsent: u64,
    /// Records the log no longer had when they were due.
    pub records_skipped: u64,
    /// Times a partition was set to another offset because the log no longer had the one due.
    pub offset_resets: u64,
    /// Header fields of templates that a record did not have.
    pub headers_missing: u64,
    /// Commits that the cluster accepted.
    pub commits: u64,
    /// Commits that the cluster refused.
    pub commits_failed: u64,
    /// Rebalances (assigned, revoked, lost).
    pub rebalances: u64,
    /// Errors that the cluster's brokers or the connections to them reported.
    pub kafka_errors: u64,
    /// Connections that became peers.
    pub peers_accepted: u64,
    /// Connections refused or closed, by reason.
    pub peers_closed: Vec<(String, u64)>,
}

/// One partition. `read` >= `delivered` >= `committed`; each is the next offset, not the last one.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PartitionStatus {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Next offset to read from Kafka.
    pub read: i64,
    /// Next offset to deliver: all before it was delivered or dropped by policy.
    pub delivered: i64,
    /// The group's committed offset, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub committed: Option<i64>,
    /// Offsets from `delivered` to the end a reader can see (the last stable offset under
    /// read_committed).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<i64>,
    /// The end of the log, open transactions included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub high_watermark: Option<i64>,
    /// The last stable offset, under read_committed: nothing from there on is read before its
    /// transaction ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_stable_offset: Option<i64>,
    /// The first offset of the oldest open transaction, if it keeps records back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_transaction: Option<i64>,
}

/// One peer.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PeerStatus {
    /// Its address: `IP:PORT`, or the path of an ipc endpoint.
    pub address: String,
    /// Its socket type (SUB or XSUB).
    pub socket: String,
    /// Its subscriptions, the first 20, as text if they are UTF-8.
    pub subscriptions: Vec<String>,
    /// The number of its subscriptions.
    pub subscriptions_total: usize,
    /// Bytes in the ring that it has yet to be sent.
    pub bytes_queued: u64,
    /// Messages sent to it.
    pub messages_sent: u64,
    /// Messages skipped for it.
    pub messages_dropped: u64,
    /// The time of the connection, in ms since the epoch.
    pub connected_since: i64,
    /// Its subject, with `[identity]` and if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The end of its lease unless it is renewed, in ms since the epoch; if a token let it in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_ends: Option<i64>,
}

/// One route from ZeroMQ to Kafka.
#[derive(Clone, Debug, Default, Serialize)]
pub struct IngestStatus {
    /// Its name.
    pub name: String,
    /// True if its endpoints are bound and a broker is connected.
    pub ready: bool,
    /// The reason why it is not ready, or why it stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// True if the route has stopped for good.
    pub stopped: bool,
    /// Waits though nothing is wrong.
    pub waiting: Vec<WaitStatus>,
    /// Endpoints it listens on, wildcards resolved, and those it connects to.
    pub endpoints: Vec<String>,
    /// Counters since the start.
    pub counters: IngestCounters,
    /// Messages received and neither written nor given up.
    pub in_flight: u64,
    /// Messages received that are neither in flight nor in another count: always 0.
    pub unaccounted: i64,
    /// Memory that they take, in bytes.
    pub in_flight_bytes: usize,
    /// Bound of that.
    pub in_flight_bytes_max: usize,
    /// Bytes that senders make the socket hold besides.
    pub peer_bytes: usize,
    /// Bound of that in bytes (`peer_memory`).
    pub peer_bytes_max: usize,
    /// Age of the oldest message under way in ms; 0 if there is none.
    pub oldest_ms: i64,
    /// Senders that are not read because the memory is taken.
    pub senders_held: usize,
    /// Senders connected.
    pub senders_total: usize,
    /// The first 100 of them.
    pub senders: Vec<SenderStatus>,
}

/// Counters of an ingest route since its start; each only grows. A message that was received is in
/// flight, or in one of the five that follow.
#[derive(Clone, Debug, Default, Serialize)]
pub struct IngestCounters {
    /// Messages received.
    pub received: u64,
    /// Messages that are in the log.
    pub acknowledged: u64,
    /// Messages answered with an error, and not in the log.
    pub refused: u64,
    /// Messages that could not be written and were skipped.
    pub skipped: u64,
    /// Messages written to the dead-letter topic.
    pub dead_lettered: u64,
    /// Messages that may be in the log or not.
    pub unknown: u64,
    /// Errors that the cluster's brokers or the connections to them reported.
    pub kafka_errors: u64,
    /// Connections that became senders.
    pub senders_accepted: u64,
    /// Connections refused or closed, by reason.
    pub senders_closed: Vec<(String, u64)>,
}

/// One sender.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SenderStatus {
    /// Number of its connection within the socket.
    pub id: u64,
    /// Its address: `IP:PORT`, or the path of an ipc endpoint.
    pub address: String,
    /// Its socket type, such as DEALER.
    pub socket: String,
    /// Messages received from it.
    pub received: u64,
    /// Those of them that could not be written, whatever became of them.
    pub failed: u64,
    /// Messages of it that are under way.
    pub under_way: usize,
    /// Their bytes.
    pub bytes_under_way: usize,
    /// The time since when it is not read because its next message has to wait, in ms since the
    /// epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_since: Option<i64>,
    /// Bytes of answers that it has not read.
    pub answer_bytes: usize,
    /// The time of the connection, in ms since the epoch.
    pub connected_since: i64,
    /// Its subject, with `[identity]` and if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The end of its lease unless it is renewed, in ms since the epoch; if a token let it in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_ends: Option<i64>,
}
