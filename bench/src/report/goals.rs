//! The goals for the figures, as ratios within one run.

use serde::{Deserialize, Serialize};

use super::Results;
use crate::case::{Preset, Sink, Subject};
use crate::figure::{short, whole};
use crate::suite::curve::{Curve, CurveRow, PEERS as CURVE_PEERS, Publisher};
use crate::suite::curve_stalled::CurveStalled;
use crate::suite::ingest::{Ingest, Taker};
use crate::suite::latency::{LatencyRow, RATES};
use crate::suite::relay::{Relay, RelayRow};
use crate::suite::stalled::StalledRow;

/// One goal and how it was met.
#[derive(Debug, Serialize, Deserialize)]
pub struct Goal {
    /// The figure that is compared.
    pub name: String,
    /// The figure that was to be reached.
    pub goal: String,
    /// The figure that was reached.
    pub reached: String,
    /// True if that is enough.
    pub met: bool,
}

/// The goals whose figures were measured.
pub fn all(results: &Results) -> Vec<Goal> {
    let mut goals = results.relay.as_ref().map(relay).unwrap_or_default();
    goals.extend(results.latency.iter().flat_map(|rows| latency(rows)));
    if let Some(scale) = &results.scale {
        let kib = scale.idle_peer_kib.median;
        goals.push(Goal {
            name: "resident memory of an idle peer, 10,000 of them".to_owned(),
            goal: "under 20 KiB".to_owned(),
            reached: format!("{} KiB", short(kib)),
            met: kib < 20.0,
        });
    }
    goals.extend(results.stalled.iter().flatten().map(stalled));
    goals.extend(results.ingest.iter().flat_map(ingest));
    goals.extend(results.curve.iter().flat_map(curve));
    goals.extend(results.curve_stalled.iter().flat_map(curve_stalled));
    goals
}

fn curve_stalled(group: &CurveStalled) -> Vec<Goal> {
    let mut goals = Vec::new();
    for row in &group.rows {
        let (policy, arrival) = (row.slow_peer.name(), row.arrival.title());
        let peers = whole(group.peers as u64);
        let beside = format!("{peers} stalled CURVE peers, 1 MB, {policy}, {arrival}");
        let (added, limit) = (row.added_mib(), row.limit_mib(group.peers));
        goals.push(Goal {
            name: format!("resident memory added by {beside}"),
            goal: format!("at most peer_memory, ring, 24 KiB a peer ({} MiB)", short(limit)),
            reached: format!("{} MiB", short(added)),
            met: added <= limit && row.held_mib <= row.held_limit_mib,
        });
        let [written, received] = row.records.map(whole);
        goals.push(Goal {
            name: format!("records to a SUB beside {beside}"),
            goal: "all of them".to_owned(),
            reached: format!("{received} of {written}"),
            met: row.is_served(),
        });
    }
    goals
}

fn curve(curve: &Curve) -> Vec<Goal> {
    let cpu = |publisher, peers| {
        let is = |row: &&CurveRow| {
            (row.publisher, row.peers, row.is_secured) == (publisher, peers, true)
        };
        curve.rows.iter().find(is).map(|row| row.cpu_ns.median)
    };
    let mut goals = Vec::new();
    for (preset, most, text) in [(Preset::Json, 0.5, "1/2"), (Preset::Batch, 1.0 / 3.0, "1/3")] {
        for peers in CURVE_PEERS {
            let pair = cpu(Publisher::Zafka(preset), peers).zip(cpu(Publisher::Xpub, peers));
            let Some((ours, theirs)) = pair else { continue };
            goals.push(Goal {
                name: format!("CPU per record, CURVE, {}, {peers} SUB", preset.name()),
                goal: format!("at most {text} of libzmq's XPUB, from memory"),
                reached: format!("{} ×", short(ours / theirs)),
                met: ours <= theirs * most,
            });
        }
    }
    let kib = curve.idle_peer_kib.median;
    goals.push(Goal {
        name: format!("resident memory of an idle peer with CURVE, {} of them", curve.idle_peers),
        goal: "under 24 KiB".to_owned(),
        reached: format!("{} KiB", short(kib)),
        met: kib < 24.0,
    });
    goals
}

fn ingest(ingest: &Ingest) -> Vec<Goal> {
    let mut goals = Vec::new();
    let ratio = |name: &str, goal: &str, reached: f64, met: bool| Goal {
        name: name.to_owned(),
        goal: goal.to_owned(),
        reached: format!("{} ×", short(reached)),
        met,
    };
    for (size, times, text) in [(100, 0.25, "1/4"), (1000, 0.5, "1/2")] {
        let pair = ingest.row(size, Taker::Pull, 1).zip(ingest.row(size, Taker::C, 1));
        let Some((pull, c)) = pair else { continue };
        let cpu = pull.cpu_ns.median / c.cpu_ns.median;
        let name = format!("CPU per record to Kafka, {size} B, pull");
        goals.push(ratio(&name, &format!("at most {text} of the C relay's"), cpu, cpu <= times));
        if size == 100 {
            let floor = ingest.floor_ns_per_byte.median * pull.bytes as f64;
            let times = pull.cpu_ns.median / floor;
            goals.push(ratio(&name, "at most 3 × the floor", times, times <= 3.0));
            let times = pull.rate.median / c.rate.median;
            let name = "records/s to Kafka, 100 B, pull";
            goals.push(ratio(name, "at least 2 × the C relay's", times, times >= 2.0));
        }
    }
    if let Some((router, pull)) =
        ingest.row(100, Taker::Router, 1).zip(ingest.row(100, Taker::Pull, 1))
    {
        let share = router.rate.median / pull.rate.median;
        let name = "records/s to Kafka, 100 B, router";
        goals.push(ratio(name, "at least 0.8 of pull's", share, share >= 0.8));
    }
    let beyond = ingest.acknowledged[0].median - ingest.plain[0].median;
    goals.push(Goal {
        name: "acknowledgment p50 at 1,000/s".to_owned(),
        goal: "at most the plain producer's + 100 µs".to_owned(),
        reached: format!("{beyond:+.0} µs ({} µs)", short(ingest.acknowledged[0].median)),
        met: beyond <= 100.0,
    });
    if let Some(row) = ingest.row(100, Taker::Pull, 8) {
        let mib = row.peak_mib.median;
        goals.push(Goal {
            name: "resident memory to Kafka, full speed".to_owned(),
            goal: "under 64 MiB + in_flight_bytes (32 MiB)".to_owned(),
            reached: format!("{} MiB", short(mib)),
            met: mib < 96.0,
        });
    }
    goals
}

fn stalled(row: &StalledRow) -> Goal {
    let [beside, apart] = [row.beside, row.apart].map(|[_, p99]| p99.median);
    Goal {
        name: format!("latency p99, {} stalled and hostile peers", whole(row.peers as u64)),
        goal: "at most 1.5 × that with them at a TCP sink".to_owned(),
        reached: format!("{} × ({} of {} µs)", short(beside / apart), short(beside), short(apart)),
        met: beside <= 1.5 * apart,
    }
}

fn latency(rows: &[LatencyRow]) -> Vec<Goal> {
    let at = |subject| {
        let same = |row: &&LatencyRow| {
            (row.rate, row.subject) == (RATES[0], subject) && !matches!(row.sink, Sink::Counting(_))
        };
        rows.iter().find(same)
    };
    let (zafka, c_relay, consumer) =
        (at(Subject::Zafka(Preset::Json)), at(Subject::CRelay(4)), at(Subject::Consumer));
    let (Some(zafka), Some(c_relay), Some(consumer)) = (zafka, c_relay, consumer) else {
        return Vec::new();
    };
    let micros = |row: &LatencyRow, index: usize| {
        row.percentiles.get(index).map_or(0.0, |figure| figure.median)
    };
    let beyond = micros(zafka, 0) - micros(consumer, 0);
    let [p99, c_p99] = [zafka, c_relay].map(|row| micros(row, 2));
    vec![
        Goal {
            name: "latency p50 at 1,000/s".to_owned(),
            goal: "at most the plain consumer's + 50 µs".to_owned(),
            reached: format!("{:+.0} µs ({} µs)", beyond, short(micros(zafka, 0))),
            met: beyond <= 50.0,
        },
        Goal {
            name: "latency p99 at 1,000/s".to_owned(),
            goal: "at most the C relay's".to_owned(),
            reached: format!("{} × ({} of {} µs)", short(p99 / c_p99), short(p99), short(c_p99)),
            met: p99 <= c_p99,
        },
    ]
}

fn relay(relay: &Relay) -> Vec<Goal> {
    let json = Subject::Zafka(Preset::Json);
    let mut goals = Vec::new();
    for (size, sink, of_c_relay, of_floor) in [
        (100, Sink::Libzmq, 5.0, Some(4.0)),
        (100, Sink::Counting(16), 10.0, None),
        (1000, Sink::Libzmq, 3.0, Some(2.0)),
    ] {
        let Some(row) = relay.row(size, json, sink) else { continue };
        let name = format!("CPU per record, {size} B, json, {} SUB", sink.peers());
        if let Some(c_relay) = relay.c_relay_for(row) {
            goals.push(at_most(
                &name,
                "the C relay's",
                row,
                c_relay.cpu_ns.median,
                1.0 / of_c_relay,
            ));
        }
        if let Some((floor, times)) = relay.floor_ns(row).zip(of_floor) {
            goals.push(at_most(&name, "the floor", row, floor, times));
        }
    }
    let batch = relay.row(100, Subject::Zafka(Preset::Batch), Sink::Counting(1));
    let c_value = relay.row(100, Subject::CRelay(1), Sink::Counting(1));
    if let Some((batch, c_value)) = batch.zip(c_value) {
        let times = batch.rate.median / c_value.rate.median;
        goals.push(Goal {
            name: "records/s, 100 B, batch, counting sink".to_owned(),
            goal: "at least 5 × the C relay's, value alone".to_owned(),
            reached: format!("{} ×", short(times)),
            met: times >= 5.0,
        });
    }
    if let Some(row) = relay.row(100, json, Sink::Libzmq) {
        let mib = row.peak_mib.median;
        goals.push(Goal {
            name: "resident memory, one route, one SUB, full speed".to_owned(),
            goal: "under 64 MiB".to_owned(),
            reached: format!("{} MiB", short(mib)),
            met: mib < 64.0,
        });
    }
    goals
}

fn at_most(name: &str, of: &str, row: &RelayRow, other: f64, times: f64) -> Goal {
    let ratio = row.cpu_ns.median / other;
    let share = |value: f64| match value < 1.0 {
        true => format!("1/{}", short(1.0 / value)),
        false => format!("{} ×", short(value)),
    };
    let limit =
        if times < 1.0 { format!("1/{:.0}", 1.0 / times) } else { format!("{times:.0} ×") };
    Goal {
        name: name.to_owned(),
        goal: format!("at most {limit} {of}"),
        reached: format!("{} ({} of {} ns)", share(ratio), short(row.cpu_ns.median), short(other)),
        met: ratio <= times,
    }
}
