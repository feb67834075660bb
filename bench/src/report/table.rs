//! The table.

use super::Results;
use crate::case::Subject;
use crate::cores::Neighbors;
use crate::figure::{Figure, short, whole};
use crate::suite::curve::{Curve, CurveRow, Publisher};
use crate::suite::curve_stalled::CurveStalled;
use crate::suite::floods::{FloodRow, Floods};
use crate::suite::ingest::{Ingest, Taker};
use crate::suite::latency::LatencyRow;
use crate::suite::relay::{Relay, RelayRow};
use crate::suite::scale::Scale;
use crate::suite::stalled::StalledRow;

/// The whole report as text.
pub fn text(results: &Results) -> String {
    let machine = &results.machine;
    let mut out = format!(
        "zafka {}: {} cores of {}, {} GiB, Linux {}; Kafka {}, librdkafka {}, libzmq {}\n",
        machine.commit,
        machine.cores,
        machine.cpu,
        machine.memory_gib,
        machine.kernel,
        machine.kafka,
        machine.librdkafka,
        machine.libzmq,
    );
    out += &format!("Measured in {:.0} minutes.\n", results.minutes);
    if results.quick {
        out += "A quick run: these figures show that everything works, not what it costs.\n";
    }
    if let Some(relay) = &results.relay {
        out += &relay_text(relay);
    }
    if let Some(rows) = &results.latency {
        out += &latency_text(rows);
    }
    if let Some(scale) = &results.scale {
        out += &scale_text(scale);
    }
    if let Some(rows) = &results.stalled {
        out += &stalled_text(rows);
    }
    if let Some(ingest) = &results.ingest {
        out += &ingest_text(ingest);
    }
    if let Some(curve) = &results.curve {
        out += &curve_text(curve);
    }
    if let Some(group) = &results.curve_stalled {
        out += &curve_stalled_text(group);
    }
    if let Some(floods) = &results.floods {
        out += &floods_text(floods);
    }
    out += &goals_text(results);
    out
}

fn spread(figure: &Figure) -> String {
    format!("{} ({}..{})", short(figure.median), short(figure.min), short(figure.max))
}

fn relay_text(relay: &Relay) -> String {
    let mut out = String::new();
    for size in [100, 1000] {
        let rows: Vec<&RelayRow> = relay.rows.iter().filter(|row| row.value_size == size).collect();
        if rows.is_empty() {
            continue;
        }
        let mut lines = vec![
            [
                &format!("Kafka to ZeroMQ, {size} B"),
                "to",
                "CPU ns a record",
                "records/s",
                "MiB (peak)",
                "C relay ÷ this",
                "this ÷ floor",
            ]
            .map(str::to_owned),
        ];
        for row in rows {
            let c_relay = relay.c_relay_for(row).map(|c| c.cpu_ns.median / row.cpu_ns.median);
            let floor = relay.floor_ns(row).map(|floor| row.cpu_ns.median / floor);
            let ratio = |value: Option<f64>| value.map(short).unwrap_or_default();
            lines.push([
                row.subject.title(),
                row.sink.title(),
                spread(&row.cpu_ns),
                spread(&row.rate),
                format!("{} ({})", short(row.resident_mib.median), short(row.peak_mib.median)),
                ratio(c_relay),
                ratio(floor),
            ]);
        }
        out += "\n";
        out += &aligned(&lines);
    }
    out += &format!(
        "\nMedian of {} interleaved runs (least..most). CPU is user and system time of the relay's \
         process alone.\n\
         The floor is one process that copies the same bytes from one loopback socket to another: \
         {} ns a byte.\n\
         * Our counting sink; the others are libzmq's. Broker, relay and sink share the machine's \
         cores: records/s is\n\
         what the three reach together, and is often the sink's or the broker's limit. CPU a \
         record is the relay's own.\n",
        relay.rows.iter().map(|row| row.runs.len()).max().unwrap_or(0),
        spread(&relay.floor_ns_per_byte),
    );
    if relay.rows.iter().flat_map(|row| &row.runs).any(|run| run.fell_back) {
        out += "NOTE: zafka fell back to fetching by librdkafka in some of these runs.\n";
    }
    out
}

fn latency_text(rows: &[LatencyRow]) -> String {
    let mut lines = vec![
        ["Latency, 100 B, µs", "to", "records/s", "p50", "p90", "p99", "p99.9", "samples"]
            .map(str::to_owned),
    ];
    for row in rows {
        let [p50, p90, p99, p999] = row.percentiles.each_ref().map(spread);
        let (rate, samples) = (whole(row.rate), whole(row.samples as u64));
        lines.push([row.subject.title(), row.sink.title(), rate, p50, p90, p99, p999, samples]);
    }
    format!(
        "\n{}\nFrom the producer's call to the receiver, on one clock. The contestants take turns. \
         The producer is\n\
         librdkafka with linger.ms = 0. * A raw SUB: one on libzmq is woken twice for a message, \
         once its I/O thread.\n",
        aligned(&lines)
    )
}

fn scale_text(scale: &Scale) -> String {
    let mut lines = vec![
        ["zafka json, 100 B, as it grows", "", "CPU ns a record", "records/s", "peak MiB"]
            .map(str::to_owned),
    ];
    for (name, points) in [
        ("idle peers beside one SUB", &scale.idle),
        ("SUBs that get everything", &scale.active),
        ("partitions, one SUB", &scale.partitions),
    ] {
        for point in points {
            lines.push([
                name.to_owned(),
                whole(point.count as u64),
                spread(&point.cpu_ns),
                spread(&point.rate),
                short(point.peak_mib.median),
            ]);
        }
    }
    format!(
        "\n{}\nOur counting sink. Resident memory of an idle peer, 10,000 of them: zafka {} KiB, C \
         relay {} KiB.\n",
        aligned(&lines),
        spread(&scale.idle_peer_kib),
        spread(&scale.c_relay_idle_peer_kib)
    )
}

fn stalled_text(rows: &[StalledRow]) -> String {
    let mut lines = vec![
        [
            "Latency of one SUB *, µs, beside",
            "",
            "at the relay",
            "at a TCP sink",
            "ratio",
            "samples",
        ]
        .map(str::to_owned),
    ];
    for row in rows {
        for (index, percentile) in ["p50", "p99"].into_iter().enumerate() {
            let [Some(beside), Some(apart)] = [row.beside.get(index), row.apart.get(index)] else {
                continue;
            };
            lines.push([
                format!("{} stalled and hostile peers", whole(row.peers as u64)),
                percentile.to_owned(),
                spread(beside),
                spread(apart),
                short(beside.median / apart.median),
                whole(row.samples as u64),
            ]);
        }
    }
    format!(
        "\n{}\nzafka json, 100 B, 1,000/s, slow_peer = drop, \
         a full ring. The peers take nothing and send 200 frames a\n\
         second in sum, however many they are: to the relay, or to a bare TCP sink while the relay \
         serves the one SUB\n\
         alone. Each figure is of one second; medians over the seconds of interleaved turns \
         (least..most).\n\
         * A raw SUB that stamps what it reads.\n",
        aligned(&lines)
    )
}

fn ingest_text(ingest: &Ingest) -> String {
    let mut out = String::new();
    for size in [100, 1000] {
        let mut lines = vec![
            [
                &format!("ZeroMQ to Kafka, {size} B"),
                "senders *",
                "CPU ns a record",
                "records/s",
                "peak MiB",
                "C relay ÷ this",
                "this ÷ floor",
            ]
            .map(str::to_owned),
        ];
        for row in ingest.rows.iter().filter(|row| row.value_size == size) {
            let of_c = ingest.row(size, Taker::C, row.senders).filter(|_| row.taker != Taker::C);
            let of_c = of_c.map(|c| short(c.cpu_ns.median / row.cpu_ns.median));
            let floor = ingest.floor_ns_per_byte.median * row.bytes as f64;
            lines.push([
                row.taker.name().to_owned(),
                row.senders.to_string(),
                spread(&row.cpu_ns),
                spread(&row.rate),
                short(row.peak_mib.median),
                of_c.unwrap_or_default(),
                short(row.cpu_ns.median / floor),
            ]);
        }
        out += &format!("\n{}", aligned(&lines));
        out += &cores_text(ingest, size);
    }
    let mut lines =
        vec![["From message to acknowledgment, µs", "", "p50", "p99"].map(str::to_owned)];
    for (name, [p50, p99]) in
        [("zafka router", &ingest.acknowledged), ("librdkafka producer alone", &ingest.plain)]
    {
        lines.push([name.to_owned(), "1,000/s".to_owned(), spread(p50), spread(p99)]);
    }
    out += &format!("\n{}", aligned(&lines));
    out += "Records that the cluster has acknowledged (acks = all, idempotent), \
            from senders of ours that keep the\n\
            relay's input full. CPU is the relay's alone; broker, relay and senders share the \
            cores.\n\
            * Raw PUSH peers; DEALERs with at most 65,536 messages without an answer in all for \
            `router`.\n";
    out
}

/// The shares of all who had the cores while records went to Kafka.
fn cores_text(ingest: &Ingest, size: usize) -> String {
    let header = [
        &format!("The cores' time, ns a record, {size} B"),
        "senders *",
        "relay",
        "senders",
        "broker",
        "others",
        "idle",
    ];
    let mut lines = vec![header.map(str::to_owned)];
    for row in ingest.rows.iter().filter(|row| row.value_size == size) {
        let Some(Neighbors { senders, broker, others, idle }) = &row.neighbors else { continue };
        lines.push([
            row.taker.name().to_owned(),
            row.senders.to_string(),
            short(row.cpu_ns.median),
            short(senders.median),
            short(broker.median),
            short(others.median),
            short(idle.median),
        ]);
    }
    if lines.len() > 1 { format!("\n{}", aligned(&lines)) } else { String::new() }
}

fn curve_text(curve: &Curve) -> String {
    let header = ["CURVE, 100 B", "SUBs", "NULL, CPU ns", "CURVE, CPU ns", "CURVE adds for a SUB"];
    let mut lines = vec![header.map(str::to_owned)];
    for row in curve.rows.iter().filter(|row| row.is_secured) {
        let is_plain = |other: &&CurveRow| {
            !other.is_secured && (other.publisher, other.peers) == (row.publisher, row.peers)
        };
        let Some(plain) = curve.rows.iter().find(is_plain) else { continue };
        let name = match row.publisher {
            Publisher::Zafka(preset) => Subject::Zafka(preset).title(),
            Publisher::Xpub => "libzmq XPUB, 4 frames, from memory".to_owned(),
        };
        let added = (row.cpu_ns.median - plain.cpu_ns.median) / row.peers as f64;
        let [plain, secured] = [plain, row].map(|row| spread(&row.cpu_ns));
        lines.push([name, row.peers.to_string(), plain, secured, short(added)]);
    }
    let with_token = match &curve.token_handshakes {
        Some(figure) => format!(", {} with a token", spread(figure)),
        None => String::new(),
    };
    format!(
        "\n{}{} handshakes for a second of zafka's CPU{with_token}; {} KiB for each of {} idle \
         peers.\n",
        aligned(&lines),
        spread(&curve.handshakes),
        spread(&curve.idle_peer_kib),
        curve.idle_peers,
    )
}

fn curve_stalled_text(group: &CurveStalled) -> String {
    let peers = whole(group.peers as u64);
    let header = [
        &format!("{peers} stalled CURVE peers"),
        "slow_peer",
        "MiB alone",
        "beside (peak)",
        "added",
        "bound",
        "held (most)",
        "still there",
        "dropped",
        "records to a healthy SUB",
        "longest pause, s",
    ];
    let mut lines = vec![header.map(str::to_owned)];
    for row in &group.rows {
        let [written, received] = row.records.map(whole);
        lines.push([
            format!("that come {}", row.arrival.title()),
            row.slow_peer.name().to_owned(),
            short(row.alone_mib),
            short(row.peak_mib),
            short(row.added_mib()),
            short(row.limit_mib(group.peers)),
            short(row.held_mib),
            whole(row.connected),
            whole(row.dropped),
            format!("{received} of {written}"),
            short(row.pause),
        ]);
    }
    let closed = group.rows.iter().flat_map(|row| {
        let name = format!("{}, {}", row.slow_peer.name(), row.arrival.title());
        let closed = row.closed.iter();
        closed.map(move |(reason, count)| format!("Closed ({name}): {count} for {reason}.\n"))
    });
    format!(
        "\n{}{}zafka json with CURVE, {}/s of {} bytes. The peers subscribe to everything and \
         never read. Resident memory\nwhile one healthy SUB is there alone, and beside them; what \
         they may add is peer_memory, the ring, and 24 KiB for\neach idle peer. Held is what \
         /metrics tells of the first. With block they end after all records are written: then\nthe \
         SUB gets the rest.\n",
        aligned(&lines),
        closed.collect::<String>(),
        group.rate,
        whole(group.value as u64),
    )
}

fn floods_text(floods: &Floods) -> String {
    let header = [
        "flood with CURVE",
        "addresses",
        "begun/s",
        "cores",
        "MiB (peak)",
        "records, ms (p50, p99)",
        "newcomers, ms (p50, p99)",
    ];
    let mut lines = vec![header.map(str::to_owned)];
    for row in &floods.rows {
        let FloodRow { flood, sources, begun, cores, peak_mib, .. } = row;
        let delays = |[p50, p99]: [f64; 2]| format!("{}, {}", short(p50), short(p99));
        lines.push([
            flood.title().to_owned(),
            sources.to_string(),
            short(*begun),
            short(*cores),
            short(*peak_mib),
            delays(row.records_ms),
            delays(row.newcomers_ms),
        ]);
    }
    let ([first, again], count) = (floods.all_in.map(short), whole(floods.connections as u64));
    format!(
        "\n{}Each flood holds or tries {count} connections at a time and comes back as libzmq \
         does. CPU is the relay's; the flood has the same cores.\n\
         {count} good peers are all let in {first} s after the relay's start, and {again} s after \
         a restart.\n",
        aligned(&lines),
    )
}

fn goals_text(results: &Results) -> String {
    if results.goals.is_empty() {
        return String::new();
    }
    let mut lines = vec![["goal", "", "reached", ""].map(str::to_owned)];
    for goal in &results.goals {
        let met = if goal.met { "met" } else { "NOT MET" };
        lines.push([goal.name.clone(), goal.goal.clone(), goal.reached.clone(), met.to_owned()]);
    }
    format!("\n{}", aligned(&lines))
}

/// Columns as wide as their widest cell; the first two to the left, the others to the right.
pub fn aligned<const N: usize>(lines: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for (number, line) in lines.iter().enumerate() {
        let mut text = String::new();
        for (column, (width, cell)) in widths.iter().zip(line).enumerate() {
            let width = *width;
            text +=
                &if column < 2 { format!("{cell:<width$}  ") } else { format!("{cell:>width$}  ") };
        }
        out += text.trim_end();
        out += "\n";
        if number == 0 {
            out += &"-".repeat(widths.iter().sum::<usize>() + 2 * (N - 1));
            out += "\n";
        }
    }
    out
}
