//! The whole relay at full speed, next to the C relay, a plain consumer and the floor.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use zafka_testkit::ports::free_port;

use crate::case::{Case, Preset, Sink, Subject, Topic};
use crate::figure::Figure;
use crate::flow::{Run, measure};
use crate::process::{Line, Process};
use crate::tools::floor::BUFFER;
use crate::world::{Scope, World};
use crate::{Outcome, say};

/// Partitions of the topics.
const PARTITIONS: i32 = 4;
/// Time the floor is left to itself before it is measured.
const WARM_UP: Duration = Duration::from_millis(500);

/// The results of the group.
#[derive(Debug, Serialize, Deserialize)]
pub struct Relay {
    /// A row for each case.
    pub rows: Vec<RelayRow>,
    /// CPU of a copy from socket to socket, ns a byte.
    pub floor_ns_per_byte: Figure,
}

/// A case with its runs.
#[derive(Debug, Serialize, Deserialize)]
pub struct RelayRow {
    /// Size of a value in bytes.
    pub value_size: usize,
    /// The program that is measured.
    pub subject: Subject,
    /// The kind of receiver that it sends to.
    pub sink: Sink,
    /// CPU for a record, ns.
    pub cpu_ns: Figure,
    /// Records a second.
    pub rate: Figure,
    /// Bytes on the wire for a record and a peer.
    pub bytes: Figure,
    /// Resident memory at the end of a run, MiB.
    pub resident_mib: Figure,
    /// The most resident memory, MiB.
    pub peak_mib: Figure,
    /// Each run.
    pub runs: Vec<Run>,
}

impl Relay {
    /// The row of a case.
    pub fn row(&self, value_size: usize, subject: Subject, sink: Sink) -> Option<&RelayRow> {
        self.rows
            .iter()
            .find(|row| (row.value_size, row.subject, row.sink) == (value_size, subject, sink))
    }

    /// The C relay's row that does what this one does: the value alone, or the record with its
    /// metadata.
    pub fn c_relay_for(&self, row: &RelayRow) -> Option<&RelayRow> {
        let parts = match row.subject {
            Subject::Zafka(Preset::Value) | Subject::Before(Preset::Value) => 1,
            Subject::Zafka(_) | Subject::Before(_) => 4,
            Subject::CRelay(_) | Subject::Consumer => return None,
        };
        self.row(row.value_size, Subject::CRelay(parts), row.sink)
    }

    /// The cost of copying a row's bytes to one peer, in ns a record.
    pub fn floor_ns(&self, row: &RelayRow) -> Option<f64> {
        (row.sink.peers() == 1).then_some(self.floor_ns_per_byte.median * row.bytes.median)
    }
}

/// The cases of one size of value.
fn cases(value_size: usize) -> Vec<(Subject, Sink)> {
    use Sink::{Counting, Libzmq};
    use Subject::{CRelay, Zafka};
    let mut cases = vec![
        (Zafka(Preset::Json), Libzmq),
        (CRelay(4), Libzmq),
        (Zafka(Preset::Packed), Libzmq),
        (Zafka(Preset::Batch), Libzmq),
        (Zafka(Preset::Value), Libzmq),
        (CRelay(1), Libzmq),
        (Subject::Consumer, Sink::Itself),
        (Zafka(Preset::Json), Counting(16)),
        (CRelay(4), Counting(16)),
        (Zafka(Preset::Json), Counting(256)),
    ];
    if value_size == 100 {
        cases.extend([
            (Zafka(Preset::Json), Counting(1)),
            (CRelay(4), Counting(1)),
            (Zafka(Preset::Batch), Counting(1)),
            (CRelay(1), Counting(1)),
            (CRelay(1), Counting(16)),
            (CRelay(4), Counting(256)),
        ]);
    }
    cases
}

/// Runs all cases one after the other, then all again, so that what the machine does besides meets
/// all of them.
///
/// # Errors
/// A process that did not do its part.
pub fn run(world: &World, scope: &Scope, wanted: Option<&str>) -> Outcome<Relay> {
    let [small, large, _] = scope.records;
    let topics = [
        (100, world.filled("bench-100", PARTITIONS, 100, small)?),
        (1000, world.filled("bench-1000", PARTITIONS, 1000, large)?),
    ];
    let mut all: Vec<(usize, Case, Vec<Run>)> = Vec::new();
    for (value_size, topic) in topics {
        for (subject, sink) in world.with_before(&cases(value_size)) {
            // An older zafka goes with the one that it is compared with.
            let now = match subject {
                Subject::Before(preset) => Subject::Zafka(preset),
                other => other,
            };
            if wanted.is_none_or(|wanted| name(value_size, now, sink).contains(wanted)) {
                all.push((
                    value_size,
                    Case { subject, sink, idle: 0, topic: Topic::clone(&topic) },
                    Vec::new(),
                ));
            }
        }
    }
    let mut floors = Vec::new();
    for round in 1..=scope.rounds {
        for (value_size, case, runs) in &mut all {
            let run = measure(world, case, scope.flow)?;
            say(&format!(
                "round {round}/{}: {}: {:.0} ns, {:.0} records/s over {:.1} s, {} MiB",
                scope.rounds,
                name(*value_size, case.subject, case.sink),
                run.cpu_ns,
                run.rate,
                run.seconds,
                run.peak_kib / 1024
            ));
            runs.push(run);
        }
        let floor = floor(scope.flow.min(Duration::from_secs(5)))?;
        say(&format!("round {round}/{}: floor {floor:.3} ns a byte", scope.rounds));
        floors.push(floor);
    }
    let rows = all
        .into_iter()
        .filter_map(|(value_size, case, runs)| row(value_size, &case, runs))
        .collect();
    let floor_ns_per_byte = Figure::of(floors).ok_or("no rounds")?;
    Ok(Relay { rows, floor_ns_per_byte })
}

/// A case for people, and for `--case`.
fn name(value_size: usize, subject: Subject, sink: Sink) -> String {
    let name = format!("{value_size} B, {}, {}", subject.title(), sink.title());
    name.trim_end_matches(", ").to_owned()
}

fn row(value_size: usize, case: &Case, runs: Vec<Run>) -> Option<RelayRow> {
    let figure = |of: fn(&Run) -> f64| Figure::of(runs.iter().map(of));
    Some(RelayRow {
        value_size,
        subject: case.subject,
        sink: case.sink,
        cpu_ns: figure(|run| run.cpu_ns)?,
        rate: figure(|run| run.rate)?,
        bytes: figure(|run| run.bytes)?,
        resident_mib: figure(|run| run.resident_kib as f64 / 1024.0)?,
        peak_mib: figure(|run| run.peak_kib as f64 / 1024.0)?,
        runs,
    })
}

/// CPU of a process that copies from one loopback socket to another, in ns a byte.
pub(super) fn floor(flow: Duration) -> Outcome<f64> {
    let [address_in, address_out] = [(); 2].map(|()| format!("127.0.0.1:{}", free_port()));
    let listener = TcpListener::bind(&address_out)?;
    let mut copier = Process::tool("floor", &[&address_in, &address_out])?;
    copier.wait_line(Duration::from_secs(10), |line| line == Line::Ready)?;
    let mut source = TcpStream::connect(&address_in)?;
    let (mut sink, _) = listener.accept()?;
    let writer = thread::spawn(move || {
        let block = vec![b'x'; BUFFER];
        // Ends when the copier does.
        while source.write_all(&block).is_ok() {}
    });
    let mut block = vec![0; BUFFER];
    let mut bytes = 0;
    let mut read_for = |time: Duration| -> Outcome<(u64, u64)> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            bytes += sink.read(&mut block)? as u64;
        }
        Ok((bytes, copier.cpu_ns()?))
    };
    let first = read_for(WARM_UP)?;
    let last = read_for(flow)?;
    drop(copier);
    let _ = writer.join();
    Ok((last.1 - first.1) as f64 / (last.0 - first.0).max(1) as f64)
}
