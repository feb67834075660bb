//! One run: measures, reports, and keeps the results.

use std::time::Instant;

use crate::report::{Results, goals, table};
use crate::suite::{curve, curve_stalled, floods, ingest, latency, relay, scale, stalled};
use crate::world::{Scope, World};
use crate::{Arguments, Group, Outcome};

/// Measures what is asked for, prints the table, and writes the results.
///
/// # Errors
/// A process that did not do its part, or a file that cannot be written.
pub fn run(arguments: &Arguments) -> Outcome<()> {
    if arguments.render {
        let results = Results::read(&arguments.out)?;
        println!("{}", table::text(&results));
        return results.write(&arguments.out);
    }
    let scope = if arguments.quick { Scope::QUICK } else { Scope::FULL };
    let started = Instant::now();
    let world = World::start(arguments.zafka.as_deref(), arguments.before.as_deref())?;
    let mut results = Results::new(arguments.quick);
    if arguments.wants(Group::Relay) {
        results.relay = Some(relay::run(&world, &scope, arguments.case.as_deref())?);
        // What is there is kept, also when a later group fails.
        results.write(&arguments.out)?;
    }
    if arguments.wants(Group::Latency) {
        results.latency = Some(latency::run(&world, &scope)?);
        results.write(&arguments.out)?;
    }
    if arguments.wants(Group::Scale) {
        results.scale = Some(scale::run(&world, &scope)?);
        results.write(&arguments.out)?;
    }
    if arguments.wants(Group::Stalled) {
        results.stalled = Some(stalled::run(&world, &scope)?);
    }
    if arguments.wants(Group::Ingest) {
        results.write(&arguments.out)?;
        results.ingest = Some(ingest::run(&world, &scope, arguments.case.as_deref())?);
    }
    if arguments.wants(Group::Curve) {
        results.write(&arguments.out)?;
        results.curve = Some(curve::run(&world, &scope)?);
    }
    if arguments.wants(Group::CurveStalled) {
        results.write(&arguments.out)?;
        results.curve_stalled = Some(curve_stalled::run(&world, &scope)?);
    }
    if arguments.wants(Group::Floods) {
        results.write(&arguments.out)?;
        results.floods = Some(floods::run(&world, &scope)?);
    }
    results.minutes = started.elapsed().as_secs_f64() / 60.0;
    results.goals = goals::all(&results);
    println!("{}", table::text(&results));
    results.write(&arguments.out)
}
