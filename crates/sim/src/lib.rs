//! The relay in a simulation: one virtual clock, one seed.
//!
//! Between models of what is around it (logs with leaders, epochs, truncation, recreation,
//! retention, compaction and transactions; brokers that answer fetch requests; a group that
//! rebalances, loses relays and refuses commits; subscribers that read, stall and leave) the real
//! deciders run: the route's state, its partitions and their progress, the fetch sessions, the
//! record walk, the ring, the ZMTP engines. At every step `committed <= delivered <= read`; each
//! message is judged as it is written to a peer, each commit as it is made, and in the end the
//! testkit's delivery checker says whether everything has arrived.
//!
//! The same seed does the same. `SIM_SEED=n cargo run -p zafka-sim` shows what happens in it.
#![forbid(unsafe_code)]

mod batch;
mod clock;
mod cluster;
mod group;
mod judge;
mod log;
mod net;
mod packed;
mod random;
mod relay;
mod settings;
mod world;

use world::World;

/// The result of a seed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Promises that were broken; empty if all is well.
    pub violations: Vec<String>,
    /// The events of the run, if they were asked for.
    pub happened: Vec<String>,
}

/// Runs a seed. `tells` has the outcome list what happened.
pub fn run(seed: u64, tells: bool) -> Outcome {
    let (violations, happened) = World::new(seed, tells).run();
    Outcome { seed, violations, happened }
}

/// Seeds that found a fault once, one a line, with what it was.
pub const KEPT_SEEDS: &str = include_str!("../seeds.txt");

/// Returns the seeds of a list like [`KEPT_SEEDS`].
pub fn seeds(list: &str) -> Vec<u64> {
    list.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect()
}
