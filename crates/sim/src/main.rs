//! Runs seeds: so many, or for so long. `SIM_SEED=n` runs one and shows what happens in it.
#![allow(clippy::disallowed_methods, reason = "it measures itself")]

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use zafka_sim::Direction;

const HELP: &str = "\
usage: zafka-sim [--world NAME] [--seeds N | --for 10m] [--from SEED]

  --world NAME kafka-to-zmq (default) or zmq-to-kafka
  --seeds N    run so many seeds (default 10000)
  --for TIME   run seeds for so long: 30s, 10m, 8h
  --from SEED  begin with this one (default: any)

SIM_SEED=N zafka-sim runs one seed and shows what happens in it.
ZAFKA_PLANT=NAME plants a mistake, in a build with --features planted.
The exit code is 1 if a promise was not kept.
";

/// The seeds to run.
struct Args {
    world: Direction,
    seeds: u64,
    time: Option<Duration>,
    from: u64,
}

fn main() -> ExitCode {
    let args = parse(std::env::args().skip(1));
    if let (Ok(Some(args)), Ok(seed)) = (&args, std::env::var("SIM_SEED")) {
        return match seed.parse() {
            Ok(seed) => show(args.world, seed),
            Err(_) => fail(&format!("SIM_SEED is {seed:?}; a number is allowed")),
        };
    }
    match args {
        Ok(Some(args)) => many(&args),
        Ok(None) => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        Err(reason) => fail(&reason),
    }
}

fn fail(reason: &str) -> ExitCode {
    eprintln!("{reason}\n\n{HELP}");
    ExitCode::from(2)
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Args>, String> {
    let any = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64;
    let world = Direction::KafkaToZmq;
    let mut parsed = Args { world, seeds: 10_000, time: None, from: any };
    while let Some(arg) = args.next() {
        if arg == "--help" || arg == "-h" {
            return Ok(None);
        }
        let value = args.next().ok_or_else(|| format!("{arg} wants a value"))?;
        let number = value.parse().map_err(|_| format!("{arg} {value}: a number is allowed"));
        match arg.as_str() {
            "--world" => {
                let named = Direction::ALL.into_iter().find(|world| world.name() == value);
                parsed.world = named.ok_or_else(|| {
                    format!("{arg} {value}: kafka-to-zmq or zmq-to-kafka is allowed")
                })?;
            }
            "--seeds" => parsed.seeds = number?,
            "--from" => parsed.from = number?,
            "--for" => {
                parsed.time = Some(time(&value).ok_or_else(|| {
                    format!("{arg} {value}: a time such as 30s, 10m or 8h is allowed")
                })?);
                parsed.seeds = u64::MAX;
            }
            _ => return Err(format!("{arg} is not known")),
        }
    }
    Ok(Some(parsed))
}

fn time(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    Some(Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(seconds)?))
}

fn show(world: Direction, seed: u64) -> ExitCode {
    let outcome = zafka_sim::run(world, seed, true);
    outcome.happened.iter().for_each(|line| println!("{line}"));
    outcome.violations.iter().for_each(|line| println!("NOT AS PROMISED: {line}"));
    if outcome.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn many(args: &Args) -> ExitCode {
    let began = Instant::now();
    let next = AtomicU64::new(0);
    let failed = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while args.time.is_none_or(|time| began.elapsed() < time) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= args.seeds {
                        next.fetch_sub(1, Ordering::Relaxed);
                        break;
                    }
                    let seed = args.from.wrapping_add(index);
                    let outcome = zafka_sim::run(args.world, seed, false);
                    if let Some(first) = outcome.violations.first() {
                        failed.fetch_add(1, Ordering::Relaxed);
                        println!("SIM_SEED={seed}: {first}");
                    }
                }
            });
        }
    });
    let (count, failed) = (next.into_inner(), failed.into_inner());
    println!(
        "{count} seeds from {} in {:.1} s: {failed} failed",
        args.from,
        began.elapsed().as_secs_f64()
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
