//! One healthy peer beside others that take nothing and keep sending, under `slow_peer = drop`.
//!
//! It is compared with the same peers aimed at a bare TCP sink while the relay serves the healthy
//! one alone: the machine carries the same clients, and the relay none of them.

use std::fs;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zafka_testkit::paths::RunDir;
use zafka_testkit::ports::free_port;
use zafka_testkit::unique;

use super::latency::samples_in;
use super::metrics::Metrics;
use crate::figure::{Figure, percentile};
use crate::process::{Line, Process};
use crate::world::{Scope, World};
use crate::{Outcome, say};

/// Stalled and hostile peers.
const PEERS: [usize; 3] = [1, 100, 1_000];
/// Records a second, and the size of a value in bytes.
const RATE: u64 = 1_000;
const VALUE: usize = 100;
/// Records before anything is measured, as single ones: more than the peers' kernel buffers and
/// the ring (16 MiB) take together, so that the peers are stalled and the ring drops.
const FILL: u64 = 120_000;
const FILL_RATE: u64 = 10_000;
/// Samples that are left out at first.
const WARM_UP: u64 = RATE / 2;
/// Time for a step, on a slow machine too.
const PATIENCE: Duration = Duration::from_secs(120);
/// The shares of [`StalledRow`]'s figures.
const SHARES: [f64; 2] = [0.5, 0.99];

/// A number of peers, in both places.
#[derive(Debug, Serialize, Deserialize)]
pub struct StalledRow {
    /// Stalled and hostile peers.
    pub peers: usize,
    /// Samples of all runs, in each place.
    pub samples: usize,
    /// The healthy peer's percentiles of each second in microseconds, 50 and 99, with the others
    /// at the relay. By the second, since most of a tail comes in a few of them, from the broker.
    pub beside: [Figure; 2],
    /// The same with the others at the TCP sink.
    pub apart: [Figure; 2],
}

/// The program whose peers stand still.
#[derive(Clone, Copy, Debug)]
enum Target {
    Relay,
    TcpSink,
}

/// Measures each number of peers in both places, in turn.
///
/// # Errors
/// A process that did not do its part, or peers that were not stalled.
pub fn run(world: &World, scope: &Scope) -> Outcome<Vec<StalledRow>> {
    let (rounds, samples) = scope.stalled;
    let mut runs = PEERS.map(|_| [const { Vec::new() }; 2]);
    for round in 1..=rounds {
        for (peers, runs) in PEERS.into_iter().zip(&mut runs) {
            let mut targets =
                [Target::Relay, Target::TcpSink].into_iter().zip(runs).collect::<Vec<_>>();
            // Neither place is always the first: the broker gets faster with time.
            targets.rotate_left(round % 2);
            for (target, runs) in targets {
                let mut taken = turn(world, peers, target, samples)?;
                let seconds = taken.chunks_exact_mut(RATE as usize).map(|second| {
                    second.sort_unstable();
                    SHARES.map(|share| percentile(second, share).unwrap_or(0) as f64 / 1000.0)
                });
                let seconds: Vec<_> = seconds.collect();
                let tails: Vec<_> = seconds.iter().map(|[_, p99]| p99.round()).collect();
                say(&format!("stalled {round}/{rounds}: {peers} at {target:?}: p99 {tails:?} µs"));
                runs.extend(seconds);
            }
        }
    }
    let figures = |runs: &[[f64; 2]]| -> Option<[Figure; 2]> {
        let [p50, p99] = [0, 1].map(|index| Figure::of(runs.iter().map(|micros| micros[index])));
        Some([p50?, p99?])
    };
    let rows = PEERS.into_iter().zip(&runs).filter_map(|(peers, [beside, apart])| {
        let samples = usize::try_from(samples).ok()? * rounds;
        Some(StalledRow { peers, samples, beside: figures(beside)?, apart: figures(apart)? })
    });
    Ok(rows.collect())
}

/// One turn: the healthy peer's samples in ns.
fn turn(world: &World, peers: usize, target: Target, samples: u64) -> Outcome<Vec<i64>> {
    let directory = RunDir::new("stalled");
    let [file, go] = ["samples", "go"].map(|name| directory.join(name));
    let [file, go] = [file.to_str(), go.to_str()].map(|path| path.ok_or("a path is not UTF-8"));
    let (file, go) = (file?, go?);
    let [address, admin, other] = [(); 3].map(|()| format!("127.0.0.1:{}", free_port()));
    let topic = unique("stalled");
    world.empty(&topic);
    let relay = world.dropping(&topic, &address, &admin)?;
    let [skip, wanted] = [(1 + FILL + WARM_UP).to_string(), samples.to_string()];
    let mut receiver = Process::tool("stamping-sink", &[&address, &topic, file, &skip, &wanted])?;
    // The healthy peer is the first: from its first record on it gets all of them.
    let _first = world.produce(&topic, 1, VALUE, 1, 1)?;
    receiver.wait_line(PATIENCE, |line| matches!(line, Line::Counts { records: 1.., .. }))?;
    let (target_address, sink) = match target {
        Target::Relay => (&address, None),
        Target::TcpSink => (&other, Some(Process::tool("tcp-sink", &[&other])?)),
    };
    let mut hostile = Process::tool("hostile-peers", &[target_address, &peers.to_string(), go])?;
    hostile.wait_line(PATIENCE, |line| line == Line::Ready)?;
    let _fill = world.produce(&topic, 1, VALUE, FILL, FILL_RATE)?;
    let filled = |line| matches!(line, Line::Counts { records: FILL.., .. });
    receiver.wait_line(PATIENCE, filled)?;
    let dropped = Metrics::read(&admin)?.value("zafka_messages_dropped_total")?;
    let expected = match target {
        Target::Relay => dropped >= peers as u64,
        Target::TcpSink => dropped == 0,
    };
    if !expected {
        return Err(format!("{peers} peers at {target:?}: {dropped} messages were dropped").into());
    }
    fs::write(go, "")?;
    hostile.wait_line(PATIENCE, |line| line == Line::Ready)?;
    // Some more than are wanted: nobody is measured while the producer ends.
    let more = WARM_UP + samples + RATE / 5;
    let _producer = world.produce(&topic, 1, VALUE, more, RATE)?;
    receiver.wait_line(Duration::from_secs(more / RATE) + PATIENCE, |line| line == Line::Done)?;
    // A peer that was closed would have ended it.
    hostile.check()?;
    drop((hostile, receiver, relay, sink));
    world.remove(&topic);
    samples_in(file)
}
