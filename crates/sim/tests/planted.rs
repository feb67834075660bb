//! Tests that the simulation finds mistakes: each is planted, and is found soon. In a build with
//! the feature `planted` alone.
#![cfg(feature = "planted")]
#![allow(clippy::disallowed_methods, reason = "it measures itself")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use zafka_sim::{Direction, Outcome};

/// Longest time that a mistake may hide. Most are found within a second.
const TIME: Duration = Duration::from_secs(60);

/// The first seed that finds a mistake, within the time.
fn find(world: Direction, name: &str) -> Option<Outcome> {
    let began = Instant::now();
    let next = AtomicU64::new(0);
    let found = Mutex::new(None);
    let is_found = || found.lock().unwrap_or_else(PoisonError::into_inner).is_some();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                zafka_planted::plant(Some(name));
                while began.elapsed() < TIME && !is_found() {
                    let outcome =
                        zafka_sim::run(world, next.fetch_add(1, Ordering::Relaxed), false);
                    if !outcome.violations.is_empty() {
                        *found.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
                    }
                }
            });
        }
    });
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn each_mistake_is_found() {
    let mut hidden = Vec::new();
    let of = |world: Direction| move |(name, what)| (world, name, what);
    let mistakes = zafka_planted::MISTAKES.map(of(Direction::KafkaToZmq)).into_iter();
    let to_kafka = zafka_planted::MISTAKES_TO_KAFKA.map(of(Direction::ZmqToKafka));
    for (world, name, what) in mistakes.chain(to_kafka) {
        let began = Instant::now();
        let Some(found) = find(world, name) else {
            hidden.push(format!("{name}: {what}"));
            continue;
        };
        let (seed, seconds) = (found.seed, began.elapsed().as_secs_f64());
        println!("{name}: seed {seed} after {seconds:.1} s: {}", found.violations[0]);
        // It is the mistake that was found, and nothing else.
        let without = zafka_sim::run(world, seed, false);
        assert!(without.violations.is_empty(), "without {name}: {:?}", without.violations);
    }
    assert!(hidden.is_empty(), "not found within {TIME:?}:\n{}", hidden.join("\n"));
}
