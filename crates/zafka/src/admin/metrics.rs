//! `/metrics`: the status as Prometheus text (format 0.0.4).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};
use zafka_bridge::status::{
    INGEST_WAIT_KINDS, PartitionStatus, RelayStatus, RouteCounters, RouteStatus, WAIT_KINDS,
    WaitStatus,
};

mod identity;
mod ingest;

use super::{ProcessCounters, VERSION};
use crate::identity::IdentityStatus;

type OfCounters = fn(&RouteCounters) -> u64;
type OfRoute = fn(&RouteStatus) -> u64;
type OfPartition = fn(&PartitionStatus) -> Option<i64>;

/// Counters of a route: name, help, source.
const COUNTERS: &[(&str, &str, OfCounters)] = &[
    ("zafka_records_read_total", "Records read from Kafka.", |c| c.records_read),
    ("zafka_encoded_bytes_total", "Bytes of encoded messages.", |c| c.bytes_encoded),
    ("zafka_records_unheard_total", "Records for which no peer had a subscription.", |c| {
        c.records_unheard
    }),
    ("zafka_messages_sent_total", "Messages written to peers, over all peers.", |c| {
        c.messages_sent
    }),
    ("zafka_sent_bytes_total", "Bytes written to peers, over all peers.", |c| c.bytes_sent),
    ("zafka_messages_dropped_total", "Messages skipped for slow peers, over all peers.", |c| {
        c.messages_dropped
    }),
    ("zafka_unsent_bytes_total", "Bytes that disconnected peers had not been sent.", |c| {
        c.bytes_unsent
    }),
    ("zafka_records_skipped_total", "Records the log no longer had when they were due.", |c| {
        c.records_skipped
    }),
    (
        "zafka_offset_resets_total",
        "Partitions set to another offset: the log had lost theirs.",
        |c| c.offset_resets,
    ),
    (
        "zafka_headers_missing_total",
        "Header fields of templates that a record did not have.",
        |c| c.headers_missing,
    ),
    ("zafka_commits_total", "Commits that the cluster accepted.", |c| c.commits),
    ("zafka_commits_failed_total", "Commits that the cluster refused.", |c| c.commits_failed),
    ("zafka_rebalances_total", "Rebalances of the group.", |c| c.rebalances),
    ("zafka_kafka_errors_total", "Errors of brokers and of the connections to them.", |c| {
        c.kafka_errors
    }),
    ("zafka_peers_accepted_total", "Connections that became peers.", |c| c.peers_accepted),
];

/// Gauges of a route.
const GAUGES: &[(&str, &str, OfRoute)] = &[
    ("zafka_route_ready", "Whether the route is ready.", |r| r.ready.into()),
    ("zafka_route_stopped", "Whether the route has stopped for good.", |r| r.stopped.into()),
    ("zafka_partitions", "Partitions that the route holds.", |r| r.partitions.len() as u64),
    (
        "zafka_partitions_stalled",
        "Partitions that make no progress though there is something to read.",
        |r| r.partitions_stalled as u64,
    ),
    ("zafka_peers", "Peers connected.", |r| r.peers_total as u64),
    ("zafka_peers_subscribed", "Peers with a subscription.", |r| r.peers_subscribed as u64),
    ("zafka_ring_bytes", "Bytes in the ring.", |r| r.ring_bytes as u64),
    ("zafka_ring_limit_bytes", "Bound of the ring.", |r| r.ring_bytes_max as u64),
    ("zafka_peer_memory_bytes", "Bytes that peers make the relay hold beside the ring.", |r| {
        r.peer_bytes as u64
    }),
    ("zafka_peer_memory_limit_bytes", "Bound of that.", |r| r.peer_bytes_max as u64),
];

/// Gauges of a partition.
const PARTITION_GAUGES: &[(&str, &str, OfPartition)] = &[
    ("zafka_partition_read_offset", "Next offset to read.", |p| Some(p.read)),
    ("zafka_partition_delivered_offset", "Next offset to deliver.", |p| Some(p.delivered)),
    ("zafka_partition_committed_offset", "Committed offset of the group.", |p| p.committed),
    ("zafka_partition_lag", "Offsets from delivered to the end that a reader can see.", |p| p.lag),
    (
        "zafka_partition_unstable_offsets",
        "Offsets from the first one of an open transaction to the end of the log; 0 without one.",
        |p| p.high_watermark.zip(p.last_stable_offset).map(|(end, stable)| end - stable),
    ),
];

/// The text that a scrape gets at `now`.
///
/// # Errors
/// The encoder refuses; it does for no status.
pub(super) fn text(
    status: &RelayStatus,
    identity: Option<&IdentityStatus>,
    process: ProcessCounters,
    uptime: Duration,
    now: SystemTime,
) -> prometheus::Result<String> {
    let mut families = vec![
        gauges("zafka_build_info", "The version of zafka.", [gauge(&[("version", VERSION)], 1.0)]),
        gauges("zafka_uptime_seconds", "Time since the start.", [gauge(&[], uptime.as_secs_f64())]),
        counters(
            "zafka_log_lines_dropped_total",
            "Log lines that standard error did not take.",
            [counter(&[], process.log_lines_dropped)],
        ),
        counters(
            "zafka_panics_total",
            "Threads and tasks that panicked.",
            [counter(&[], process.panics)],
        ),
    ];
    for (name, help, value) in COUNTERS {
        let of = |route: &RouteStatus| counter(&[("route", &route.name)], value(&route.counters));
        families.push(counters(name, help, status.routes.iter().map(of)));
    }
    let closed = |route: &RouteStatus| closed(&route.name, &route.counters.peers_closed);
    let closed = status.routes.iter().flat_map(closed);
    families.push(counters("zafka_peers_closed_total", "Connections refused or closed.", closed));
    for (name, help, value) in GAUGES {
        let of = |route: &RouteStatus| gauge(&[("route", &route.name)], value(route) as f64);
        families.push(gauges(name, help, status.routes.iter().map(of)));
    }
    let help = "Time that the longest wait of a kind has lasted; 0 if there is none.";
    let out = status.routes.iter().map(|route| (&route.name, &route.waiting, &WAIT_KINDS[..]));
    let back = status.ingest.iter().map(|r| (&r.name, &r.waiting, &INGEST_WAIT_KINDS[..]));
    let waiting = out.chain(back).flat_map(|(route, waiting, kinds)| {
        let of_kind = move |kind: &&'static str| {
            gauge(&[("kind", *kind), ("route", &**route)], longest_wait(waiting, kind, now))
        };
        kinds.iter().map(of_kind)
    });
    families.push(gauges("zafka_waiting_seconds", help, waiting));
    for (name, help, value) in PARTITION_GAUGES {
        let metrics = status.routes.iter().flat_map(|route| {
            route.partitions.iter().filter_map(|partition| {
                let number = partition.partition.to_string();
                let labels = [
                    ("partition", &*number),
                    ("route", &*route.name),
                    ("topic", &*partition.topic),
                ];
                value(partition).map(|value| gauge(&labels, value as f64))
            })
        });
        families.push(gauges(name, help, metrics));
    }
    families.extend(ingest::families(&status.ingest));
    families.extend(identity.into_iter().flat_map(|status| identity::families(status, now)));
    // The format has no families without samples.
    families.retain(|family| !family.get_metric().is_empty());
    let mut out = Vec::new();
    TextEncoder::new().encode(&families, &mut out)?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// Seconds since the first wait of a kind began.
fn longest_wait(waiting: &[WaitStatus], kind: &str, now: SystemTime) -> f64 {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let of_kind = waiting.iter().filter(|wait| wait.kind == kind);
    of_kind.map(|wait| now - wait.since as f64 / 1000.0).fold(0.0, f64::max)
}

/// Connections of a route that were closed, by the reason.
fn closed(route: &str, reasons: &[(String, u64)]) -> Vec<Metric> {
    let of =
        |(reason, count): &(String, u64)| counter(&[("reason", reason), ("route", route)], *count);
    reasons.iter().map(of).collect()
}

fn counters(name: &str, help: &str, of: impl IntoIterator<Item = Metric>) -> MetricFamily {
    family(name, help, MetricType::COUNTER, of)
}

fn gauges(name: &str, help: &str, of: impl IntoIterator<Item = Metric>) -> MetricFamily {
    family(name, help, MetricType::GAUGE, of)
}

fn family(
    name: &str,
    help: &str,
    kind: MetricType,
    metrics: impl IntoIterator<Item = Metric>,
) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics.into_iter().collect());
    family
}

fn labels(pairs: &[(&str, &str)]) -> Vec<LabelPair> {
    let label = |(name, value): &(&str, &str)| {
        let mut label = LabelPair::default();
        label.set_name((*name).to_owned());
        label.set_value((*value).to_owned());
        label
    };
    pairs.iter().map(label).collect()
}

fn counter(pairs: &[(&str, &str)], value: u64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value as f64);
    let mut metric = Metric::from_label(labels(pairs));
    metric.set_counter(counter);
    metric
}

fn gauge(pairs: &[(&str, &str)], value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = Metric::from_label(labels(pairs));
    metric.set_gauge(gauge);
    metric
}
