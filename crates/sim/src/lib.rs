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
//! That is the way from Kafka to ZeroMQ ([`Direction::KafkaToZmq`]). The way back
//! ([`Direction::ZmqToKafka`]) has a world of its own: senders, the route's ledger, the producer's
//! states, and logs that know producers.
//!
//! The same seed does the same. `SIM_SEED=n cargo run -p zafka-sim` shows what happens in it.
//!
//! ```
//! use zafka_sim::{Direction, run};
//!
//! let outcome = run(Direction::ZmqToKafka, 7, true);
//! assert!(outcome.violations.is_empty(), "{:#?}", outcome.violations);
//! assert_eq!(outcome.happened, run(Direction::ZmqToKafka, 7, true).happened);
//! ```
#![forbid(unsafe_code)]

mod batch;
mod clock;
mod cluster;
mod group;
mod ingest;
mod judge;
mod log;
mod net;
mod packed;
mod random;
mod reader;
mod relay;
mod settings;
mod violations;
mod world;

use ingest::Ingesting;

/// The way that is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Records become messages.
    KafkaToZmq,
    /// Messages become records, and their senders are told.
    ZmqToKafka,
}

impl Direction {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::KafkaToZmq, Self::ZmqToKafka];

    /// Returns its name, as the command takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::KafkaToZmq => "kafka-to-zmq",
            Self::ZmqToKafka => "zmq-to-kafka",
        }
    }

    /// Returns its seeds that found a fault once.
    pub fn kept_seeds(self) -> Vec<u64> {
        let lines = KEPT_SEEDS.lines().filter_map(|line| line.strip_prefix(self.name()));
        lines.filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect()
    }
}

/// The result of a seed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The world.
    pub world: Direction,
    /// The seed.
    pub seed: u64,
    /// Promises that were broken; empty if all is well.
    pub violations: Vec<String>,
    /// The events of the run, if they were asked for.
    pub happened: Vec<String>,
}

/// Runs a seed. `tells` has the outcome list what happened.
pub fn run(world: Direction, seed: u64, tells: bool) -> Outcome {
    let (violations, happened) = match world {
        Direction::KafkaToZmq => world::World::new(seed, tells).run(),
        Direction::ZmqToKafka => Ingesting::new(seed, tells).map_or_else(
            || (vec!["the route's own templates cannot be read".to_owned()], Vec::new()),
            Ingesting::run,
        ),
    };
    Outcome { world, seed, violations, happened }
}

/// Seeds that found a fault once, one a line: the world, the seed, and what it was.
const KEPT_SEEDS: &str = include_str!("../seeds.txt");
