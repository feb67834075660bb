//! The cost of a record as peers and partitions go up. It must not grow unless the work does.

use std::thread::sleep;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zafka_testkit::ports::free_port;
use zafka_testkit::unique;

use crate::case::{Case, Preset, Sink, Subject, Topic};
use crate::figure::Figure;
use crate::flow::{Run, measure};
use crate::process::{Line, Process};
use crate::world::{Scope, World};
use crate::{Outcome, say};

/// Peers that subscribed to none of the records.
const IDLE: [usize; 5] = [1, 10, 100, 1_000, 10_000];
/// Peers of which each wants all records.
const ACTIVE: [usize; 5] = [1, 10, 100, 1_000, 10_000];
/// Peers that one flow's time is enough for: a chunk takes more than a second to reach ten
/// thousand.
const BRISK: usize = 1_000;
/// Partitions of a topic.
const PARTITIONS: [i32; 3] = [1, 100, 1_000];
/// Idle peers whose memory is taken.
const CROWD: usize = 10_000;
/// Time for ten thousand handshakes.
const HANDSHAKES: Duration = Duration::from_secs(120);
/// Time until what was for the handshakes only is given back.
const SETTLE: Duration = Duration::from_secs(2);

/// The results of the group.
#[derive(Debug, Serialize, Deserialize)]
pub struct Scale {
    /// One active SUB beside idle ones.
    pub idle: Vec<Point>,
    /// SUBs that all get everything.
    pub active: Vec<Point>,
    /// One SUB, partitions.
    pub partitions: Vec<Point>,
    /// Resident memory of zafka for each of 10,000 idle peers, KiB.
    pub idle_peer_kib: Figure,
    /// The same of the C relay.
    pub c_relay_idle_peer_kib: Figure,
}

/// One point of a chart.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Point {
    /// Peers or partitions.
    pub count: usize,
    /// CPU for a record, ns.
    pub cpu_ns: Figure,
    /// Records a second.
    pub rate: Figure,
    /// The most resident memory, MiB.
    pub peak_mib: Figure,
}

impl Point {
    /// The same with the CPU divided by `share`.
    pub fn per(&self, share: f64) -> Self {
        let Figure { median, min, max } = self.cpu_ns;
        Self {
            cpu_ns: Figure { median: median / share, min: min / share, max: max / share },
            ..self.clone()
        }
    }
}

/// Measures all of it.
///
/// # Errors
/// A process that did not do its part.
pub fn run(world: &World, scope: &Scope) -> Outcome<Scale> {
    let [small, _, spread] = scope.records;
    let topic = world.filled("bench-100", 4, 100, small)?;
    let json = |topic: &Topic, peers, idle| Case {
        subject: Subject::Zafka(Preset::Json),
        sink: Sink::Counting(peers),
        idle,
        topic: topic.clone(),
    };
    let idle = IDLE.map(|count| (count, json(&topic, 1, count)));
    let active = ACTIVE.map(|count| (count, json(&topic, count, 0)));
    let mut partitions = Vec::new();
    for count in PARTITIONS {
        let topic = world.filled(&format!("bench-partitions-{count}"), count, 100, spread)?;
        partitions.push((usize::try_from(count)?, json(&topic, 1, 0)));
    }
    let mut memory = (Vec::new(), Vec::new());
    for _ in 0..scope.chart_rounds {
        memory.0.push(idle_peer_kib(|group, address| {
            world.zafka(Subject::Zafka(Preset::Json), &topic.name, group, address, CROWD + 100)
        })?);
        memory.1.push(idle_peer_kib(|group, address| {
            world.c_relay(&topic.name, group, address, 4, CROWD + 100)
        })?);
    }
    say(&format!("an idle peer of {CROWD}: {:.1?} KiB, C relay {:.1?} KiB", memory.0, memory.1));
    Ok(Scale {
        idle: points(world, scope, "idle peers", &idle)?,
        active: points(world, scope, "active peers", &active)?,
        partitions: points(world, scope, "partitions", &partitions)?,
        idle_peer_kib: Figure::of(memory.0).ok_or("no rounds")?,
        c_relay_idle_peer_kib: Figure::of(memory.1).ok_or("no rounds")?,
    })
}

fn points(
    world: &World,
    scope: &Scope,
    name: &str,
    cases: &[(usize, Case)],
) -> Outcome<Vec<Point>> {
    let mut runs: Vec<Vec<Run>> = cases.iter().map(|_| Vec::new()).collect();
    for round in 1..=scope.chart_rounds {
        for ((count, case), runs) in cases.iter().zip(&mut runs) {
            let flow = scope.chart_flow * u32::try_from(case.sink.peers().div_ceil(BRISK).min(5))?;
            let run = measure(world, case, flow)?;
            say(&format!(
                "scale {round}/{}: {count} {name}: {:.0} ns a record",
                scope.chart_rounds, run.cpu_ns
            ));
            runs.push(run);
        }
    }
    let point = |((count, _), runs): (&(usize, Case), &Vec<Run>)| {
        let figure = |of: fn(&Run) -> f64| Figure::of(runs.iter().map(of));
        Some(Point {
            count: *count,
            cpu_ns: figure(|run| run.cpu_ns)?,
            rate: figure(|run| run.rate)?,
            peak_mib: figure(|run| run.peak_kib as f64 / 1024.0)?,
        })
    };
    Ok(cases.iter().zip(&runs).filter_map(point).collect())
}

/// Resident memory that a relay needs for each of 10,000 peers, in KiB. It fetches nothing
/// meanwhile: it waits for more.
fn idle_peer_kib(start: impl Fn(&str, &str) -> Outcome<Process>) -> Outcome<f64> {
    let address = format!("127.0.0.1:{}", free_port());
    let mut relay = start(&unique("idle"), &address)?;
    // One peer first: the relay is up and has served a handshake.
    let mut one = Process::tool("idle-peers", &[&address, "1"])?;
    one.wait_line(HANDSHAKES, |line| line == Line::Ready)?;
    sleep(SETTLE);
    let before = relay.memory_kib()?.resident;
    let mut crowd = Process::tool("idle-peers", &[&address, &CROWD.to_string()])?;
    crowd.wait_line(HANDSHAKES, |line| line == Line::Ready)?;
    sleep(SETTLE);
    relay.check()?;
    let after = relay.memory_kib()?.resident;
    Ok(after.saturating_sub(before) as f64 / CROWD as f64)
}
