//! Peers with CURVE that stop reading within records of 1 MB: the memory that they make the relay
//! hold, and the records of a peer that goes on.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use zafka_testkit::paths::RunDir;
use zafka_testkit::ports::free_port;
use zafka_testkit::unique;

use super::metrics::Metrics;
use crate::keys::{ANY_KEY, identity, relay_key};
use crate::process::{Line, Process};
use crate::world::{Scope, World};
use crate::{Outcome, say};

/// Size of a value in bytes, and records a second.
const VALUE: usize = 1_000_000;
const RATE: u64 = 20;
/// Records before the others come, and after them.
const ALONE: u64 = 5 * RATE;
const BESIDE: u64 = 20 * RATE;
/// Time between two samples.
const SAMPLE: Duration = Duration::from_millis(500);
/// Time for a step, on a slow machine too.
const PATIENCE: Duration = Duration::from_secs(240);
const MIB: f64 = 1024.0 * 1024.0;
/// Memory that an idle peer with CURVE may take (see `report::goals`), in KiB.
const IDLE_KIB: f64 = 24.0;

/// The results of the group.
#[derive(Debug, Serialize, Deserialize)]
pub struct CurveStalled {
    /// Peers that stop.
    pub peers: usize,
    /// Size of a value in bytes.
    pub value: usize,
    /// Records a second.
    pub rate: u64,
    /// Each policy, and each way of coming.
    pub rows: Vec<CurveStalledRow>,
}

/// One run.
#[derive(Debug, Serialize, Deserialize)]
pub struct CurveStalledRow {
    /// The relay's policy.
    pub slow_peer: SlowPeer,
    /// The way in which the peers come.
    pub arrival: Arrival,
    /// The most resident memory while the healthy peer was alone, in MiB.
    pub alone_mib: f64,
    /// The most of the whole run.
    pub peak_mib: f64,
    /// Bounds of the ring, and of what peers make the relay hold beside it, in MiB.
    pub ring_limit_mib: f64,
    /// The second bound (`peer_memory`).
    pub held_limit_mib: f64,
    /// The most that was held beside the ring, by `/metrics`, in MiB.
    pub held_mib: f64,
    /// Peers that stopped and were still connected at the end.
    pub connected: u64,
    /// Messages that were dropped.
    pub dropped: u64,
    /// Connections that the relay has ended, by reason.
    pub closed: Vec<(String, u64)>,
    /// Records that were written to the topic, and that the healthy peer got.
    pub records: [u64; 2],
    /// The longest time for which the healthy peer got none, in s.
    pub pause: f64,
    /// All of it over time.
    pub samples: Vec<MemorySample>,
}

/// One moment.
#[derive(Debug, Serialize, Deserialize)]
pub struct MemorySample {
    /// Time since the first record, in s.
    pub at: f64,
    /// Resident memory in MiB.
    pub resident_mib: f64,
    /// Memory that peers make the relay hold beside the ring, in MiB.
    pub held_mib: f64,
    /// Memory of the ring, in MiB.
    pub ring_mib: f64,
    /// Records that the healthy peer has.
    pub records: u64,
}

/// The relay's policy for a peer that falls behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlowPeer {
    /// It misses records.
    Drop,
    /// Everybody waits for it; it ends before the others are counted.
    Block,
}

/// The way in which peers come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrival {
    /// As fast as they can: many stop within the same record.
    AtOnce,
    /// One for each record, so that hardly two of them stop within the same.
    OneByOne,
}

impl SlowPeer {
    /// As the configuration names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Block => "block",
        }
    }
}

impl Arrival {
    /// In the words of the table.
    pub fn title(self) -> &'static str {
        match self {
            Self::AtOnce => "at once",
            Self::OneByOne => "one by one",
        }
    }

    /// Time between one peer and the next.
    fn pause(self) -> Duration {
        match self {
            Self::AtOnce => Duration::ZERO,
            Self::OneByOne => Duration::from_secs(1) / RATE as u32,
        }
    }
}

impl CurveStalledRow {
    /// Memory that the peers have added to that of the relay, in MiB.
    pub fn added_mib(&self) -> f64 {
        self.peak_mib - self.alone_mib
    }

    /// The bound of that, in MiB: of the ring, of what peers make the relay hold beside it, and of
    /// what so many peers take while they are idle.
    pub fn limit_mib(&self, peers: usize) -> f64 {
        self.ring_limit_mib + self.held_limit_mib + peers as f64 * IDLE_KIB / 1024.0
    }

    /// Returns true if the healthy peer got everything.
    pub fn is_served(&self) -> bool {
        self.records[0] == self.records[1]
    }
}

/// Measures all of it.
///
/// # Errors
/// A process that did not do its part, or peers that were not stalled.
pub fn run(world: &World, scope: &Scope) -> Outcome<CurveStalled> {
    let peers = scope.crowd / 10;
    let mut rows = Vec::new();
    for (slow_peer, arrival) in [
        (SlowPeer::Drop, Arrival::AtOnce),
        (SlowPeer::Drop, Arrival::OneByOne),
        (SlowPeer::Block, Arrival::AtOnce),
    ] {
        let row = measure(world, peers, slow_peer, arrival)?;
        say(&format!(
            "curve-stalled: {peers} peers, {}, {}: {:.0} MiB alone, {:.0} beside, {:.0} held, \
             {:?} records, {} still there, closed {:?}",
            slow_peer.name(),
            arrival.title(),
            row.alone_mib,
            row.peak_mib,
            row.held_mib,
            row.records,
            row.connected,
            row.closed,
        ));
        rows.push(row);
    }
    Ok(CurveStalled { peers, value: VALUE, rate: RATE, rows })
}

fn measure(
    world: &World,
    peers: usize,
    slow_peer: SlowPeer,
    arrival: Arrival,
) -> Outcome<CurveStalledRow> {
    let (topic, folder) = (unique("curve-stalled"), RunDir::new("curve-stalled"));
    world.empty(&topic);
    let keys = relay_key(&folder)?;
    let [address, admin] = [(); 2].map(|()| format!("127.0.0.1:{}", free_port()));
    let text = format!(
        "[kafka]\nbootstrap_servers = [\"{}\"]\n[admin]\nbind = \"{admin}\"\n{}[[route]]\n\
         name = \"bench\"\nfrom.kafka = {{ topics = [\"{topic}\"], start = \"earliest\" }}\n\
         to.zmq = {{ socket = \"pub\", bind = [\"tcp://{address}\"], min_peers = 1, \
         slow_peer = \"{}\" }}\n",
        world.bootstrap(),
        identity(ANY_KEY, None),
        slow_peer.name(),
    );
    let relay = world.zafka_by_text(&folder, &text)?;
    let server = keys.public().to_string();
    let healthy = Process::tool("curve-sink", &[&address, &topic, "message", "1", &server])?;
    let mut watch = Watch::new(relay, healthy, &admin);
    watch.until("the healthy peer is there", |_, metrics| {
        metrics.value("zafka_peers").is_ok_and(|peers| peers == 1)
    })?;

    let arriving = peers as u64 * u64::from(arrival == Arrival::OneByOne);
    let wanted = ALONE + arriving + BESIDE;
    let mut producer = world.produce(&topic, 1, VALUE, wanted, RATE)?;
    watch.until("it has records alone", |watch, _| watch.records >= ALONE)?;
    let alone = watch.relay.memory_kib()?.peak;
    let [count, pause] = [peers.to_string(), arrival.pause().as_millis().to_string()];
    let mut stalled = Process::tool("curve-stalled", &[&address, &count, &server, &pause])?;
    watch.until_line("the others are there", &mut stalled, Line::Ready)?;
    watch.until_line("all records are written", &mut producer, Line::Done)?;
    stalled.check()?;
    if slow_peer == SlowPeer::Drop {
        watch.until("all are there", |watch, _| watch.is_lost || watch.records >= wanted)?;
    }
    let metrics = Metrics::read(&admin)?;
    let value = |name: &str| metrics.value(name);
    let dropped = value("zafka_messages_dropped_total")?;
    let are_stalled = match slow_peer {
        SlowPeer::Drop => dropped >= peers as u64,
        SlowPeer::Block => dropped == 0 && watch.records < wanted,
    };
    if !are_stalled {
        let text = format!("{} records were received, {dropped} dropped", watch.records);
        return Err(format!("{peers} peers did not stand still: {text}").into());
    }
    let connected = value("zafka_peers")?.saturating_sub(u64::from(!watch.is_lost));
    let closed = metrics.closed();
    // Whoever waits for them gets the rest once they are gone.
    drop(stalled);
    watch.until("all are there", |watch, _| watch.is_lost || watch.records >= wanted)?;
    watch.relay.check()?;
    let mib = |bytes: u64| bytes as f64 / MIB;
    let row = CurveStalledRow {
        slow_peer,
        arrival,
        alone_mib: mib(alone * 1024),
        peak_mib: mib(watch.relay.memory_kib()?.peak * 1024),
        ring_limit_mib: mib(value("zafka_ring_limit_bytes")?),
        held_limit_mib: mib(value("zafka_peer_memory_limit_bytes")?),
        held_mib: watch.samples.iter().map(|sample| sample.held_mib).fold(0.0, f64::max),
        connected,
        dropped,
        closed,
        records: [wanted, watch.records],
        pause: watch.pause.as_secs_f64(),
        samples: std::mem::take(&mut watch.samples),
    };
    drop(watch);
    world.remove(&topic);
    Ok(row)
}

/// A relay with its healthy peer, and what was seen of them.
struct Watch<'a> {
    relay: Process,
    healthy: Process,
    admin: &'a str,
    /// Records that the healthy peer has, when it got the first and the last of them, and the
    /// longest time between two.
    records: u64,
    first_at: Option<Instant>,
    last_at: Option<Instant>,
    pause: Duration,
    /// True if the healthy peer has lost its connection.
    is_lost: bool,
    samples: Vec<MemorySample>,
}

impl<'a> Watch<'a> {
    fn new(relay: Process, healthy: Process, admin: &'a str) -> Self {
        let (first_at, last_at) = (None, None);
        let (pause, samples) = (Duration::ZERO, Vec::new());
        Self {
            relay,
            healthy,
            admin,
            records: 0,
            first_at,
            last_at,
            pause,
            is_lost: false,
            samples,
        }
    }

    /// Watches until a process says something.
    fn until_line(&mut self, what: &str, process: &mut Process, wanted: Line) -> Outcome<()> {
        let mut outcome = Ok(());
        self.until(what, |_, _| {
            let mut line = || process.line(Duration::ZERO);
            loop {
                match line() {
                    Ok(Some(line)) if line == wanted => break true,
                    Ok(Some(_)) => {}
                    Ok(None) => break false,
                    Err(error) => {
                        outcome = Err(error);
                        break true;
                    }
                }
            }
        })?;
        outcome
    }

    /// Watches until something holds, by what the healthy peer and the relay say.
    fn until(&mut self, what: &str, mut holds: impl FnMut(&Self, &Metrics) -> bool) -> Outcome<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let metrics = self.take_sample();
            let next = Instant::now() + SAMPLE;
            while Instant::now() < next {
                self.take_lines();
                if let Ok(metrics) = &metrics
                    && holds(self, metrics)
                {
                    return Ok(());
                }
                sleep(Duration::from_millis(20));
            }
            self.relay.check()?;
            if Instant::now() >= deadline {
                let (late, log) = (metrics.err(), self.relay.log());
                let records = self.records;
                return Err(format!(
                    "waited in vain until {what}: {records} records; {late:?}\n{log}"
                )
                .into());
            }
        }
    }

    /// Takes what the healthy peer has said.
    fn take_lines(&mut self) {
        loop {
            match self.healthy.line(Duration::ZERO) {
                Ok(Some(Line::Counts { at, records, .. })) => {
                    if records > self.records {
                        let before = self.last_at.replace(at).unwrap_or(at);
                        self.first_at.get_or_insert(at);
                        self.pause = self.pause.max(at - before);
                    }
                    self.records = records;
                }
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(_) => {
                    self.is_lost = true;
                    return;
                }
            }
        }
    }

    /// Takes a sample, once there are records.
    ///
    /// # Errors
    /// The relay does not answer, or an older one that does not count what peers hold.
    fn take_sample(&mut self) -> Outcome<Metrics> {
        let metrics = Metrics::read(self.admin)?;
        let held = metrics.value("zafka_peer_memory_bytes")?;
        if let Some(first_at) = self.first_at {
            self.samples.push(MemorySample {
                at: first_at.elapsed().as_secs_f64(),
                resident_mib: self.relay.memory_kib()?.resident as f64 / 1024.0,
                held_mib: held as f64 / MIB,
                ring_mib: metrics.value("zafka_ring_bytes")? as f64 / MIB,
                records: self.records,
            });
        }
        Ok(metrics)
    }
}
