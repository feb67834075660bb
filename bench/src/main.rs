//! zafka side by side with what it replaces: one command that measures and prints one table.
//!
//! `cargo run --release -p zafka-bench`; what each figure means is in `bench/README.md`.
#![allow(clippy::disallowed_methods, reason = "it measures")]

mod case;
mod cores;
mod figure;
mod flow;
mod keys;
mod native;
mod process;
mod report;
mod run;
mod suite;
mod tools;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

/// The reason why a measurement failed.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
/// The result of anything that can fail here.
pub type Outcome<T> = Result<T, Failure>;

/// Measures zafka next to a C relay, a plain consumer and the floor, against a real Kafka.
#[derive(Debug, Parser)]
#[command(name = "zafka-bench")]
pub struct Arguments {
    /// Short runs: whether everything works, not what it costs.
    #[arg(long)]
    quick: bool,
    /// Only these groups.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Group>,
    /// Of the relay and the ingest group, only the cases that have this in their names, such as
    /// "100 B, zafka json".
    #[arg(long, value_name = "TEXT")]
    case: Option<String>,
    /// The folder that results.json and the charts are written to.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/results"))]
    out: PathBuf,
    /// Measure nothing: print and draw again what results.json holds.
    #[arg(long)]
    render: bool,
    /// A zafka to measure instead of the one that is built here.
    #[arg(long)]
    zafka: Option<PathBuf>,
    /// An older zafka: the relay, the latency and the ingest group measure it too, in turn with the
    /// other.
    #[arg(long, value_name = "FILE")]
    before: Option<PathBuf>,
}

/// Cases that are measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Group {
    /// The whole relay at full speed.
    Relay,
    /// The time from the producer's stamp to the subscriber.
    Latency,
    /// The cost as peers and partitions go up.
    Scale,
    /// One healthy peer beside stalled and hostile ones.
    Stalled,
    /// ZeroMQ to Kafka.
    Ingest,
    /// CURVE beside NULL, and beside libzmq's; only if it is named.
    Curve,
    /// Peers with CURVE that stop within records of 1 MB; only if it is named.
    CurveStalled,
    /// Strangers in numbers at a relay with CURVE; only if it is named.
    Floods,
}

impl Arguments {
    /// Returns true if a group is wanted.
    pub fn wants(&self, group: Group) -> bool {
        let is_named = self.only.contains(&group);
        let has_to_be = matches!(group, Group::Curve | Group::CurveStalled | Group::Floods);
        is_named || (self.only.is_empty() && !has_to_be)
    }
}

/// Prints what is done now, for the person who waits.
pub fn say(text: &str) {
    eprintln!("· {text}");
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    if let Some(name) = arguments.next() {
        let rest: Vec<String> = arguments.collect();
        if let Some(program) =
            native::Program::ALL.into_iter().find(|program| program.name() == name)
        {
            return Ok(ExitCode::from(u8::try_from(program.run(&rest)?).unwrap_or(1)));
        }
        if let Some(outcome) = tools::run(&name, &rest) {
            return outcome.map(|()| ExitCode::SUCCESS);
        }
    }
    // For this process and for the sinks it starts: ten thousand connections at once.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    run::run(&Arguments::parse())?;
    Ok(ExitCode::SUCCESS)
}
