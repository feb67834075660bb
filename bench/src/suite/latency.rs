//! The time from the producer's stamp to the subscriber, at an easy rate and at a high one.
//!
//! The contestants take turns, each with a topic of its own, so that they do not wait for one
//! another's wake-ups on the same two cores. All see the same producer, broker and sink.

use std::fs;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zafka_testkit::paths::RunDir;
use zafka_testkit::ports::free_port;
use zafka_testkit::unique;

use crate::case::{Preset, Sink, Subject};
use crate::figure::{Figure, percentile};
use crate::process::{Line, Process};
use crate::world::{Scope, World};
use crate::{Outcome, say};

/// Records a second.
pub const RATES: [u64; 2] = [1_000, 50_000];
/// Size of a value in bytes.
const VALUE: usize = 100;
/// Samples of each contestant that are thrown away at first.
const WARM_UP: u64 = 2_000;
/// The programs that are measured, each with its receiver.
pub const CONTESTANTS: [(Subject, Sink); 4] = [
    (Subject::Zafka(Preset::Json), Sink::Libzmq),
    (Subject::CRelay(4), Sink::Libzmq),
    (Subject::Consumer, Sink::Itself),
    (Subject::Zafka(Preset::Json), Sink::Counting(1)),
];
/// Time until the first record, and what a slow machine may need beyond the samples.
const PATIENCE: Duration = Duration::from_secs(60);

/// One contestant at one rate.
#[derive(Debug, Serialize, Deserialize)]
pub struct LatencyRow {
    /// Records a second.
    pub rate: u64,
    /// The program that is measured.
    pub subject: Subject,
    /// The receiver.
    pub sink: Sink,
    /// Samples of all runs.
    pub samples: usize,
    /// Percentiles in microseconds: 50, 90, 99, 99.9.
    pub percentiles: [Figure; 4],
}

/// The shares that [`LatencyRow::percentiles`] are for.
pub const SHARES: [f64; 4] = [0.5, 0.9, 0.99, 0.999];

/// Measures all contestants at both rates, in turn.
///
/// # Errors
/// A process that did not do its part.
pub fn run(world: &World, scope: &Scope) -> Outcome<Vec<LatencyRow>> {
    let contestants = world.with_before(&CONTESTANTS);
    let mut rows = Vec::new();
    // A broker that has just started is slow at first; nobody's turn should be that.
    for &contestant in &contestants {
        slice(world, contestant, RATES[0], WARM_UP)?;
    }
    // The high rate first: after that the broker's code is compiled, and the low rate's tail is not
    // that.
    for ((rate, samples), rounds) in
        RATES.into_iter().zip(scope.samples).zip(scope.latency_rounds).rev()
    {
        let mut runs = vec![Vec::new(); contestants.len()];
        for round in 1..=rounds {
            // Each round begins with another one: the broker gets faster with time.
            for turn in 0..contestants.len() {
                let index = (turn + round) % contestants.len();
                let (contestant, runs) = (contestants[index], &mut runs[index]);
                let mut taken = slice(world, contestant, rate, samples)?;
                taken.sort_unstable();
                let micros =
                    SHARES.map(|share| percentile(&taken, share).unwrap_or(0) as f64 / 1000.0);
                say(&format!(
                    "latency {round}/{rounds}: {rate}/s, {} {}: {micros:.0?} µs",
                    contestant.0.title(),
                    contestant.1.title()
                ));
                runs.push((taken.len(), micros));
            }
        }
        for ((subject, sink), runs) in contestants.iter().copied().zip(runs) {
            let figure =
                |of: fn(&[f64; 4]) -> f64| Figure::of(runs.iter().map(|(_, micros)| of(micros)));
            let [Some(a), Some(b), Some(c), Some(d)] =
                [figure(|m| m[0]), figure(|m| m[1]), figure(|m| m[2]), figure(|m| m[3])]
            else {
                continue;
            };
            let samples = runs.iter().map(|(count, _)| count).sum();
            rows.push(LatencyRow { rate, subject, sink, samples, percentiles: [a, b, c, d] });
        }
    }
    rows.sort_by_key(|row| row.rate);
    Ok(rows)
}

/// One turn of one contestant: its samples in ns.
fn slice(
    world: &World,
    (subject, sink): (Subject, Sink),
    rate: u64,
    samples: u64,
) -> Outcome<Vec<i64>> {
    let directory = RunDir::new("latency");
    let file = directory.join("samples");
    let file = file.to_str().ok_or("the path of the samples is not UTF-8")?;
    let (topic, group, address) =
        (unique("latency"), unique("latency"), format!("127.0.0.1:{}", free_port()));
    world.empty(&topic);
    // The first half second, and the record by which we see that it flows.
    let skip = rate / 2 + 1;
    let relay = match subject {
        Subject::Zafka(_) | Subject::Before(_) => {
            Some(world.zafka(subject, &topic, &group, &address, 1)?)
        }
        Subject::CRelay(parts) => Some(world.c_relay(&topic, &group, &address, parts, 1)?),
        Subject::Consumer => None,
    };
    let [skipped, wanted] = [skip.to_string(), samples.to_string()];
    let mut receiver = match sink {
        Sink::Itself => world.consumer(&topic, &group, file, skip, samples)?,
        Sink::Libzmq => {
            let endpoint = format!("tcp://{address}");
            Process::tool("libzmq-sub", &[&endpoint, &topic, "message", file, &skipped, &wanted])?
        }
        Sink::Counting(_) => {
            Process::tool("stamping-sink", &[&address, &topic, file, &skipped, &wanted])?
        }
    };
    let _first = world.produce(&topic, 1, VALUE, 1, 1)?;
    receiver.wait_line(PATIENCE, |line| matches!(line, Line::Counts { records: 1.., .. }))?;
    // Some more than are wanted: nobody is measured while the producer ends.
    let _producer = world.produce(&topic, 1, VALUE, skip + samples + rate / 5, rate)?;
    let expected = Duration::from_millis(1000 * (skip + samples) / rate);
    receiver.wait_line(expected + PATIENCE, |line| line == Line::Done)?;
    drop((relay, receiver));
    world.remove(&topic);
    samples_in(file)
}

/// The samples that a receiver wrote, in ns.
pub(super) fn samples_in(file: &str) -> Outcome<Vec<i64>> {
    let bytes = fs::read(file)?;
    Ok(bytes.as_chunks().0.iter().map(|sample| i64::from_ne_bytes(*sample)).collect())
}
