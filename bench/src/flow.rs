//! One relay at full speed: records a second, CPU and memory over a steady part of the flow.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use zafka_testkit::ports::free_port;
use zafka_testkit::unique;

use crate::Outcome;
use crate::case::{Case, Preset, Sink, Subject};
use crate::process::{Line, Memory, Process};
use crate::world::World;

/// Time from the start of the processes to the first record.
const START: Duration = Duration::from_secs(90);
/// The time without a record after which something is wrong.
const STALL: Duration = Duration::from_secs(20);
/// Left out at first: a twentieth of the topic, or this long after the first record.
const WARM_UP: Duration = Duration::from_secs(1);
/// A part of zafka's log line when the brokers do not suit its own fetch requests.
const FELL_BACK: &str = "fetching by librdkafka";
/// A topic that is read to its end before there was flow enough is read again, so often.
const PASSES: usize = 8;

/// The result of one measurement.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Run {
    /// Time measured, in s.
    pub seconds: f64,
    /// Records in that time.
    pub records: u64,
    /// Records a second.
    pub rate: f64,
    /// User and system time of the relay for a record, in ns.
    pub cpu_ns: f64,
    /// Bytes on the wire for a record and a peer.
    pub bytes: f64,
    /// Resident memory at the end, in KiB.
    pub resident_kib: u64,
    /// The most resident memory, in KiB.
    pub peak_kib: u64,
    /// True if zafka chose, by itself, to fetch by librdkafka.
    pub fell_back: bool,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    records: u64,
    bytes: u64,
    cpu_ns: u64,
}

/// The steady part of one life of a relay.
struct Pass {
    first: Sample,
    last: Sample,
    memory: Memory,
    fell_back: bool,
}

/// Runs a case until there was steady flow for `flow`.
///
/// # Errors
/// A process that ended or stalled, or a topic too small for any measurement.
pub fn measure(world: &World, case: &Case, flow: Duration) -> Outcome<Run> {
    let name = format!("{:?} to {:?}", case.subject, case.sink);
    measure_party(&name, case.topic.records, flow, || Party::start(world, case))
}

/// The same of processes that `start` starts for each pass; there are so many `records` in it.
///
/// # Errors
/// A process that ended or stalled, or too few records for any measurement.
pub fn measure_party(
    name: &str,
    records: u64,
    flow: Duration,
    start: impl Fn() -> Outcome<Party>,
) -> Outcome<Run> {
    let mut total = Sums::default();
    for _ in 0..PASSES {
        let left = flow.saturating_sub(Duration::from_secs_f64(total.seconds));
        if let Some(pass) = pass(start()?, name, records, left)? {
            total.add(&pass);
        }
        if total.seconds >= flow.as_secs_f64() * 0.9 {
            break;
        }
    }
    total.run().ok_or_else(|| format!("{name} was too fast for its topic").into())
}

#[derive(Debug, Default)]
struct Sums {
    seconds: f64,
    records: u64,
    bytes: u64,
    cpu_ns: u64,
    resident_kib: u64,
    peak_kib: u64,
    fell_back: bool,
}

impl Sums {
    fn add(&mut self, Pass { first, last, memory, fell_back }: &Pass) {
        self.seconds += last.at.duration_since(first.at).as_secs_f64();
        self.records += last.records - first.records;
        self.bytes += last.bytes.saturating_sub(first.bytes);
        self.cpu_ns += last.cpu_ns - first.cpu_ns;
        self.resident_kib = self.resident_kib.max(memory.resident);
        self.peak_kib = self.peak_kib.max(memory.peak);
        self.fell_back |= fell_back;
    }

    fn run(&self) -> Option<Run> {
        let records = self.records as f64;
        (self.records > 0 && self.seconds > 0.0).then(|| Run {
            seconds: self.seconds,
            records: self.records,
            rate: records / self.seconds,
            cpu_ns: self.cpu_ns as f64 / records,
            bytes: self.bytes as f64 / records,
            resident_kib: self.resident_kib,
            peak_kib: self.peak_kib,
            fell_back: self.fell_back,
        })
    }
}

/// One life of the relay: its steady part, unless it was through too soon.
fn pass(mut party: Party, name: &str, records: u64, flow: Duration) -> Outcome<Option<Pass>> {
    let warm = records / 20;
    let started = Instant::now();
    let (mut heard, mut first, mut last): (Option<Instant>, Option<Sample>, Option<Sample>) =
        (None, None, None);
    let mut moved = started;
    loop {
        let Some(sample) = party.sample(Duration::from_secs(1))? else {
            let patience = if heard.is_some() { STALL } else { START };
            if moved.elapsed() > patience {
                return Err(format!("{name}: no records for {patience:?}").into());
            }
            continue;
        };
        moved = sample.at;
        let heard = *heard.get_or_insert(sample.at);
        if sample.records >= records {
            break;
        }
        match first {
            None if sample.records >= warm || sample.at - heard >= WARM_UP => first = Some(sample),
            None => {}
            Some(first) => {
                last = Some(sample);
                if sample.at - first.at >= flow {
                    break;
                }
            }
        }
    }
    let memory = party.subject.memory_kib()?;
    let fell_back = party.subject.log().contains(FELL_BACK);
    Ok(first.zip(last).map(|(first, last)| Pass { first, last, memory, fell_back }))
}

/// The processes of a pass.
#[derive(Debug)]
pub struct Party {
    subject: Process,
    sink: Option<Process>,
    _idle: Option<Process>,
    records: u64,
}

impl Party {
    /// A relay and the receiver that counts.
    pub fn of(subject: Process, sink: Process) -> Self {
        Self { subject, sink: Some(sink), _idle: None, records: 0 }
    }

    fn start(world: &World, case: &Case) -> Outcome<Self> {
        let address = format!("127.0.0.1:{}", free_port());
        let group = unique("bench");
        let topic = case.topic.name.as_str();
        let peers = case.sink.peers() + case.idle;
        let subject = match case.subject {
            zafka @ (Subject::Zafka(_) | Subject::Before(_)) => {
                world.zafka(zafka, topic, &group, &address, peers)?
            }
            Subject::CRelay(parts) => world.c_relay(topic, &group, &address, parts, peers)?,
            Subject::Consumer => world.consumer(topic, &group, "-", 0, 0)?,
        };
        let idle = match case.idle {
            0 => None,
            idle => {
                let mut process = Process::tool("idle-peers", &[&address, &idle.to_string()])?;
                process.wait_line(START, |line| line == Line::Ready)?;
                Some(process)
            }
        };
        // The C relay's first frame is the value if it is the only one.
        let prefix = if case.subject == Subject::CRelay(1) { "" } else { topic };
        let kind = match case.subject {
            Subject::Zafka(Preset::Batch) | Subject::Before(Preset::Batch) => "batch",
            _ => "message",
        };
        let sink = match case.sink {
            Sink::Itself => None,
            Sink::Libzmq => {
                let endpoint = format!("tcp://{address}");
                Some(Process::tool("libzmq-sub", &[&endpoint, prefix, kind, "-", "0", "0"])?)
            }
            Sink::Counting(peers) => {
                Some(Process::tool("counting-sink", &[&address, prefix, kind, &peers.to_string()])?)
            }
        };
        Ok(Self { subject, sink, _idle: idle, records: 0 })
    }

    /// The next sample in which there are new records.
    fn sample(&mut self, patience: Duration) -> Outcome<Option<Sample>> {
        let end = Instant::now() + patience;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            let counter = self.sink.as_mut().unwrap_or(&mut self.subject);
            let Some(Line::Counts { at, records, bytes }) = counter.line(left)? else { continue };
            if records > self.records {
                self.records = records;
                return Ok(Some(Sample { at, records, bytes, cpu_ns: self.subject.cpu_ns()? }));
            }
        }
        self.subject.check()?;
        Ok(None)
    }
}
