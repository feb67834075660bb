//! The decisions of a seed before anything happens.

use std::time::Duration;

use zafka_kafka::config::GroupProtocol;
use zafka_sockets::config::SlowPeer;

use crate::random::Random;

/// The size of the world, its settings, and how much goes wrong in it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Topics, each with so many partitions.
    pub topics: Vec<(String, i32)>,
    /// Brokers.
    pub brokers: i32,
    /// Relays in the group.
    pub members: usize,
    /// Subscribers that are there all along, each connected to every relay.
    pub steady: usize,
    /// Subscribers that come and go.
    pub transient: usize,
    /// The policy for slow peers.
    pub slow_peer: SlowPeer,
    /// `min_peers` of the route.
    pub min_peers: usize,
    /// `ring_bytes` of the route.
    pub ring_bytes: usize,
    /// Bytes of a connection that wait to be read.
    pub pipe_bytes: usize,
    /// The newest version of Fetch that brokers have.
    pub fetch_version: i16,
    /// True if frames are laid out as `json`, false as `packed`.
    pub is_json: bool,
    /// The protocol by which relays join the group.
    pub protocol: GroupProtocol,
    /// Time without progress until a partition counts as stalled.
    pub stall_timeout: Duration,
    /// Time that answers of the lookup take at the most, in milliseconds.
    pub lookup_ms: u64,
    /// Time between two requests for metadata.
    pub refresh: Duration,
    /// Time in which things happen; then everything is mended.
    pub troubled: Duration,
    /// Time between two things that go wrong, on average.
    pub trouble_every: Duration,
    /// Records that are written in all.
    pub records: u64,
}

impl Settings {
    /// The settings of a seed.
    pub fn new(random: &mut Random) -> Self {
        let topics = (0..random.within(1, 3))
            .map(|topic| (format!("topic{topic}"), random.within(1, 3) as i32))
            .collect();
        let slow_peer = if random.percent(75) { SlowPeer::Block } else { SlowPeer::Drop };
        let steady = random.within(1, 4) as usize;
        let min_peers = if random.percent(60) { steady } else { 0 };
        let lookup_ms = if random.percent(25) { 2000 } else { 60 };
        // Where the lookup is slow, much is to happen meanwhile.
        let refresh = if lookup_ms > 1000 { (200, 800) } else { (500, 3000) };
        Self {
            topics,
            brokers: random.within(1, 4) as i32,
            members: random.within(1, 3) as usize,
            steady,
            transient: random.below(3) as usize,
            slow_peer,
            min_peers,
            ring_bytes: 1 << random.within(11, 16),
            pipe_bytes: 1 << random.within(8, 13),
            fetch_version: if random.percent(70) { 17 } else { 12 },
            is_json: random.percent(10),
            protocol: *random.pick(&[GroupProtocol::Consumer, GroupProtocol::Classic]),
            stall_timeout: Duration::from_secs(2),
            lookup_ms,
            refresh: Duration::from_millis(random.within(refresh.0, refresh.1)),
            troubled: Duration::from_secs(random.within(5, 25)),
            trouble_every: Duration::from_millis(1 << random.within(7, 12)),
            records: random.within(20, 400),
        }
    }

    /// Returns whether every steady subscriber gets every record that the log has in the end: peers
    /// are waited for, and a slow one is not passed over.
    pub fn is_lossless(&self) -> bool {
        self.slow_peer == SlowPeer::Block && self.min_peers > 0
    }
}
