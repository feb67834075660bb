//! The way back: ZeroMQ to Kafka at full speed, next to the C relay and the floor; and the time
//! from a message to its acknowledgment, next to a plain producer's.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use zafka_testkit::http;
use zafka_testkit::paths::RunDir;
use zafka_testkit::ports::free_port;
use zafka_testkit::unique;

use super::latency::samples_in;
use super::relay::floor;
use crate::cores::{CoreTimes, Neighbors};
use crate::figure::{Figure, percentile};
use crate::process::{Line, Process};
use crate::world::{Scope, World};
use crate::{Outcome, say};

/// Partitions of the topics.
const PARTITIONS: i32 = 4;
/// The time that is left out at first.
const WARM_UP: Duration = Duration::from_secs(1);
/// Flow before the first run, in which the broker's compiler takes more than its records do.
const BROKER_WARM_UP: Duration = Duration::from_secs(6);
/// Time from the start of the processes to the first acknowledgment.
const START: Duration = Duration::from_secs(60);
/// Time between two looks: each is a request to zafka's admin server.
const LOOK: Duration = Duration::from_millis(100);
/// Messages a second where latency is taken.
const RATE: u64 = 1_000;
/// Size of their values in bytes.
const LATENCY_VALUE: usize = 100;
/// Samples that are left out at first.
const SKIP: u64 = 1_000;

/// The program that takes the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Taker {
    /// zafka, `pull`.
    Pull,
    /// zafka, `router`: each message is acknowledged to its sender.
    Router,
    /// An older zafka, `pull`.
    PullBefore,
    /// An older zafka, `router`.
    RouterBefore,
    /// The C relay, PULL.
    C,
}

impl Taker {
    /// Returns its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pull => "zafka pull",
            Self::Router => "zafka router, acknowledged",
            Self::PullBefore => "zafka pull (before)",
            Self::RouterBefore => "zafka router, acknowledged (before)",
            Self::C => "C relay, PULL",
        }
    }

    /// The same of the older zafka, if there is one.
    fn before(self) -> Option<Self> {
        match self {
            Self::Pull => Some(Self::PullBefore),
            Self::Router => Some(Self::RouterBefore),
            Self::PullBefore | Self::RouterBefore | Self::C => None,
        }
    }
}

/// The results of the group.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ingest {
    /// A row for each case.
    pub rows: Vec<IngestRow>,
    /// CPU of a copy from socket to socket, ns a byte.
    pub floor_ns_per_byte: Figure,
    /// The time from a message to its acknowledgment by zafka, 50 and 99 percent, µs.
    pub acknowledged: [Figure; 2],
    /// The same of a plain librdkafka producer.
    pub plain: [Figure; 2],
}

/// A case with its runs.
#[derive(Debug, Serialize, Deserialize)]
pub struct IngestRow {
    /// Size of a value in bytes.
    pub value_size: usize,
    /// The program that takes the messages.
    pub taker: Taker,
    /// Senders of ours, or one of libzmq if there are none.
    pub senders: usize,
    /// Bytes on the wire for a message.
    pub bytes: usize,
    /// CPU for a record, ns.
    pub cpu_ns: Figure,
    /// Records a second.
    pub rate: Figure,
    /// The most resident memory, MiB.
    pub peak_mib: Figure,
    /// The time of the others; older results do not tell.
    #[serde(default)]
    pub neighbors: Option<Neighbors<Figure>>,
}

/// One run, with the units of its row.
struct IngestRun {
    cpu_ns: f64,
    rate: f64,
    peak_mib: f64,
    neighbors: Neighbors<f64>,
}

impl Ingest {
    /// The row of a case.
    pub fn row(&self, value_size: usize, taker: Taker, senders: usize) -> Option<&IngestRow> {
        let wanted = (value_size, taker, senders);
        self.rows.iter().find(|row| (row.value_size, row.taker, row.senders) == wanted)
    }
}

/// Measures all cases one after the other, then all again; an older zafka in turn with the other.
/// Only cases that have `wanted` in their names.
///
/// # Errors
/// A process that did not do its part.
pub fn run(world: &World, scope: &Scope, wanted: Option<&str>) -> Outcome<Ingest> {
    let mut cases: Vec<(usize, Taker, usize, Vec<IngestRun>)> = Vec::new();
    for value_size in [100, 1000] {
        for senders in [1, 8] {
            for taker in [Taker::Pull, Taker::C, Taker::Router] {
                let name = name(value_size, taker, senders);
                if wanted.is_some_and(|wanted| !name.contains(wanted)) {
                    continue;
                }
                cases.push((value_size, taker, senders, Vec::new()));
                let before = taker.before().filter(|_| world.has_before());
                cases.extend(before.map(|taker| (value_size, taker, senders, Vec::new())));
            }
        }
    }
    if !cases.is_empty() {
        say("warming up the broker");
        measure(world, 100, Taker::Pull, 1, BROKER_WARM_UP)?;
    }
    let (mut floors, mut latencies) = (Vec::new(), [Vec::new(), Vec::new()]);
    for round in 1..=scope.rounds {
        for (value_size, taker, senders, runs) in &mut cases {
            let run = measure(world, *value_size, *taker, *senders, scope.flow)?;
            say(&format!(
                "ingest {round}/{}: {}: {:.0} ns, {:.0}/s; {}",
                scope.rounds,
                name(*value_size, *taker, *senders),
                run.cpu_ns,
                run.rate,
                beside(&run.neighbors)
            ));
            runs.push(run);
        }
        floors.push(floor(scope.flow)?);
        for (index, taken) in latencies.iter_mut().enumerate() {
            let micros = acknowledgments(world, index == 0, scope.samples[0])?;
            say(&format!("acknowledgments {round}/{}: {micros:.0?} µs", scope.rounds));
            taken.push(micros);
        }
    }
    let rows = cases.into_iter().filter_map(|(value_size, taker, senders, runs)| {
        let figure = |of: fn(&IngestRun) -> f64| Figure::of(runs.iter().map(of));
        let neighbors: Vec<Neighbors<f64>> = runs.iter().map(|run| run.neighbors).collect();
        Some(IngestRow {
            value_size,
            taker,
            senders,
            bytes: wire_bytes(value_size),
            cpu_ns: figure(|run| run.cpu_ns)?,
            rate: figure(|run| run.rate)?,
            peak_mib: figure(|run| run.peak_mib)?,
            neighbors: Neighbors::of(&neighbors),
        })
    });
    let rows = rows.collect();
    let pair = |runs: &[[f64; 2]]| {
        let figure = |index: usize| Figure::of(runs.iter().map(|run| run[index]));
        figure(0).zip(figure(1)).map(|(p50, p99)| [p50, p99]).ok_or("no latency was taken")
    };
    let [acknowledged, plain] = [pair(&latencies[0])?, pair(&latencies[1])?];
    let floor_ns_per_byte = Figure::of(floors).ok_or("no floor was taken")?;
    Ok(Ingest { rows, floor_ns_per_byte, acknowledged, plain })
}

/// A case for people, and for `--case`.
fn name(value_size: usize, taker: Taker, senders: usize) -> String {
    format!("{value_size} B, {}, {senders} senders", taker.name())
}

/// The time of others for people.
fn beside(Neighbors { senders, broker, others, idle }: &Neighbors<f64>) -> String {
    format!("senders {senders:.0}, broker {broker:.0}, others {others:.0}, idle {idle:.0} ns")
}

/// Bytes of a message on the wire: a topic's name of [`TOPIC`] bytes, and the value.
fn wire_bytes(value_size: usize) -> usize {
    2 + TOPIC + if value_size < 256 { 2 } else { 9 } + value_size
}

/// Size of the first frame, about: that of a topic's name.
const TOPIC: usize = 20;

/// One life of a relay under full load.
fn measure(
    world: &World,
    value_size: usize,
    taker: Taker,
    senders: usize,
    flow: Duration,
) -> Outcome<IngestRun> {
    let (topic, address) = (unique("ingest"), format!("127.0.0.1:{}", free_port()));
    world.scratch(&topic, PARTITIONS);
    let mut party = IngestParty::start(world, taker, &topic, &address)?;
    let is_answered = matches!(taker, Taker::Router | Taker::RouterBefore);
    let socket = if is_answered { "DEALER" } else { "PUSH" };
    let frame = format!("{topic:.<TOPIC$.TOPIC$}");
    let [size, count] = [value_size, senders].map(|number| number.to_string());
    let mut source = Process::tool("source", &[&address, socket, &frame, &size, &count])?;
    let begun = Instant::now();
    while party.acknowledged()? == 0 {
        source.check()?;
        if begun.elapsed() > START {
            return Err(format!("{}: nothing is acknowledged", taker.name()).into());
        }
    }
    std::thread::sleep(WARM_UP);
    let first = party.sample(world, &source)?;
    let mut last = first;
    while last.at.duration_since(first.at) < flow {
        std::thread::sleep(LOOK.min(flow));
        last = party.sample(world, &source)?;
        source.check()?;
    }
    let peak = party.relay.memory_kib()?.peak;
    drop((source, party));
    world.remove(&topic);
    let records = (last.records - first.records) as f64;
    if records == 0.0 {
        return Err(format!("{}: no records in {flow:?}", taker.name()).into());
    }
    let (cpu_ns, neighbors) = last.times.since(&first.times, records);
    let rate = records / last.at.duration_since(first.at).as_secs_f64();
    Ok(IngestRun { cpu_ns, rate, peak_mib: peak as f64 / 1024.0, neighbors })
}

/// The state of a run.
#[derive(Clone, Copy)]
struct IngestSample {
    at: Instant,
    /// Records that the cluster has acknowledged so far.
    records: u64,
    times: CoreTimes,
}

/// A relay, and how it is asked for its records.
struct IngestParty {
    relay: Process,
    /// zafka's admin server; the C relay tells by itself.
    admin: Option<String>,
    records: u64,
}

impl IngestParty {
    fn start(world: &World, taker: Taker, topic: &str, address: &str) -> Outcome<Self> {
        let (socket, is_before) = match taker {
            Taker::C => {
                let mut relay = world.c_ingest(topic, address)?;
                relay.wait_line(START, |line| line == Line::Ready)?;
                return Ok(Self { relay, admin: None, records: 0 });
            }
            Taker::Pull => ("pull", false),
            Taker::PullBefore => ("pull", true),
            Taker::Router => ("router", false),
            Taker::RouterBefore => ("router", true),
        };
        let zafka = world.binary(is_before)?;
        let admin = format!("127.0.0.1:{}", free_port());
        // The first frame is left out: the topic is a constant, as it is for the C relay.
        let relay = world.zafka_ingest(
            zafka,
            socket,
            "frames={_}&frames={value}",
            topic,
            address,
            &admin,
        )?;
        Ok(Self { relay, admin: Some(admin), records: 0 })
    }

    /// Records that the cluster has acknowledged so far.
    fn acknowledged(&mut self) -> Outcome<u64> {
        let Some(admin) = &self.admin else {
            while let Some(line) = self.relay.line(Duration::from_millis(1))? {
                if let Line::Counts { records, .. } = line {
                    self.records = records;
                }
            }
            return Ok(self.records);
        };
        self.relay.check()?;
        // It may not listen yet.
        let Ok((_, text)) = http::get(admin, "/metrics") else { return Ok(0) };
        let mut lines = text.lines();
        let line = lines.find(|line| line.starts_with("zafka_ingest_acknowledged_total{"));
        let value = line.and_then(|line| line.rsplit(' ').next());
        Ok(value.and_then(|value| value.parse::<f64>().ok()).unwrap_or(0.0) as u64)
    }

    fn sample(&mut self, world: &World, source: &Process) -> Outcome<IngestSample> {
        let records = self.acknowledged()?;
        let (relay, senders) = (self.relay.cpu_ns()?, source.cpu_ns()?);
        let times = CoreTimes::now(relay, senders, world.broker_ns()?)?;
        Ok(IngestSample { at: Instant::now(), records, times })
    }
}

/// Percentiles 50 and 99 in µs of the time to an acknowledgment: zafka's, or a plain producer's.
fn acknowledgments(world: &World, zafka: bool, samples: u64) -> Outcome<[f64; 2]> {
    let directory = RunDir::new("acknowledged");
    let file = directory.join("samples");
    let file = file.to_str().ok_or("the path of the samples is not UTF-8")?;
    let topic = unique("acknowledged");
    world.empty(&topic);
    let [size, rate, skip, wanted] =
        [LATENCY_VALUE as u64, RATE, SKIP, samples].map(|number| number.to_string());
    let numbers = [size.as_str(), &rate, file, &skip, &wanted];
    let (_relay, mut sender) = if zafka {
        let [address, admin] = [(); 2].map(|()| format!("127.0.0.1:{}", free_port()));
        let zafka = world.binary(false)?;
        let relay =
            world.zafka_ingest(zafka, "router", "frames={value}", &topic, &address, &admin)?;
        let sender = Process::tool("ack-latency", &[&[address.as_str()][..], &numbers].concat())?;
        (Some(relay), sender)
    } else {
        let arguments = [&[world.bootstrap(), &topic][..], &numbers].concat();
        (None, Process::tool("ack-producer", &arguments)?)
    };
    let expected = Duration::from_millis(1000 * (SKIP + samples) / RATE);
    sender.wait_line(expected + START, |line| line == Line::Done)?;
    let mut taken = samples_in(file)?;
    world.remove(&topic);
    taken.sort_unstable();
    Ok([0.5, 0.99].map(|share| percentile(&taken, share).unwrap_or(0) as f64 / 1000.0))
}
