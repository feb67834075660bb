//! Seeds that every test run plays, of each world.
#![allow(clippy::disallowed_methods, reason = "it measures itself")]
#![allow(clippy::panic, reason = "that is how a test fails")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use zafka_sim::{Direction, Outcome, run};

/// Seeds of a world in a test run, and how long they may take.
const SEEDS: u64 = 2000;
const TIME: Duration = Duration::from_secs(55);

fn assert_all_well(outcome: &Outcome) {
    let Outcome { world, seed, violations, .. } = outcome;
    assert!(
        violations.is_empty(),
        "SIM_SEED={seed} cargo run -p zafka-sim -- --world {} shows it:\n{}",
        world.name(),
        violations.join("\n")
    );
}

#[test]
fn seeds_that_found_a_fault_find_none() {
    for world in Direction::ALL {
        for seed in world.kept_seeds() {
            assert_all_well(&run(world, seed, false));
        }
    }
}

#[test]
fn the_same_seed_does_the_same() {
    for world in Direction::ALL {
        for seed in 0..5 {
            let (one, other) = (run(world, seed, true), run(world, seed, true));
            assert!(one.happened.len() > 10, "seed {seed} is a run");
            assert_eq!(one.happened, other.happened, "seed {seed}");
        }
    }
}

#[test]
fn promises_are_kept_whatever_happens() {
    for world in Direction::ALL {
        let began = Instant::now();
        let next = AtomicU64::new(0);
        let failed = Mutex::new(None);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let is_well = || failed.lock().is_ok_and(|failed| failed.is_none());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while began.elapsed() < TIME && is_well() {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= SEEDS {
                            return;
                        }
                        let outcome = run(world, seed, false);
                        if !outcome.violations.is_empty()
                            && let Ok(mut failed) = failed.lock()
                        {
                            *failed = Some(outcome);
                        }
                    }
                });
            }
        });
        if let Ok(Some(outcome)) = failed.into_inner() {
            assert_all_well(&outcome);
        }
    }
}
