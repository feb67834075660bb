//! The metrics of routes from ZeroMQ to Kafka.

use prometheus::proto::MetricFamily;
use zafka_bridge::status::{IngestCounters, IngestStatus};

use super::{closed, counter, counters, gauge, gauges};

type OfIngestCounters = fn(&IngestCounters) -> u64;
type OfIngest = fn(&IngestStatus) -> f64;

/// Counters of a route: name, help, source.
const COUNTERS: &[(&str, &str, OfIngestCounters)] = &[
    ("zafka_ingest_received_total", "Messages received.", |c| c.received),
    ("zafka_ingest_acknowledged_total", "Messages that are in the log.", |c| c.acknowledged),
    ("zafka_ingest_refused_total", "Messages answered with an error, and not in the log.", |c| {
        c.refused
    }),
    ("zafka_ingest_skipped_total", "Messages that could not be written and were skipped.", |c| {
        c.skipped
    }),
    ("zafka_ingest_dead_lettered_total", "Messages written to the dead-letter topic.", |c| {
        c.dead_lettered
    }),
    ("zafka_ingest_unknown_total", "Messages that may be in the log or not.", |c| c.unknown),
    ("zafka_ingest_kafka_errors_total", "Errors of brokers and of the connections to them.", |c| {
        c.kafka_errors
    }),
    ("zafka_ingest_senders_accepted_total", "Connections that became senders.", |c| {
        c.senders_accepted
    }),
];

/// Gauges of a route.
const GAUGES: &[(&str, &str, OfIngest)] = &[
    ("zafka_ingest_ready", "Whether the route is ready.", |r| f64::from(u8::from(r.ready))),
    ("zafka_ingest_stopped", "Whether the route has stopped for good.", |r| {
        f64::from(u8::from(r.stopped))
    }),
    ("zafka_ingest_in_flight", "Messages received and neither written nor given up.", |r| {
        r.in_flight as f64
    }),
    ("zafka_ingest_unaccounted", "Messages received that no other count has: always 0.", |r| {
        r.unaccounted as f64
    }),
    ("zafka_ingest_in_flight_bytes", "Memory that they take.", |r| r.in_flight_bytes as f64),
    ("zafka_ingest_in_flight_limit_bytes", "Bound of that.", |r| r.in_flight_bytes_max as f64),
    ("zafka_ingest_peer_memory_bytes", "Bytes that senders make the relay hold besides.", |r| {
        r.peer_bytes as f64
    }),
    ("zafka_ingest_peer_memory_limit_bytes", "Bound of that.", |r| r.peer_bytes_max as f64),
    (
        "zafka_ingest_oldest_seconds",
        "Age of the oldest message under way; 0 if there is none.",
        |r| r.oldest_ms as f64 / 1000.0,
    ),
    ("zafka_ingest_senders", "Senders connected.", |r| r.senders_total as f64),
    (
        "zafka_ingest_senders_held",
        "Senders that are not read because their next message has to wait.",
        |r| r.senders_held as f64,
    ),
];

/// The families of all routes.
pub(super) fn families(routes: &[IngestStatus]) -> Vec<MetricFamily> {
    let mut families = Vec::new();
    for (name, help, value) in COUNTERS {
        let of = |route: &IngestStatus| counter(&[("route", &route.name)], value(&route.counters));
        families.push(counters(name, help, routes.iter().map(of)));
    }
    for (name, help, value) in GAUGES {
        let of = |route: &IngestStatus| gauge(&[("route", &route.name)], value(route));
        families.push(gauges(name, help, routes.iter().map(of)));
    }
    let closed = |route: &IngestStatus| closed(&route.name, &route.counters.senders_closed);
    let closed = routes.iter().flat_map(closed);
    let help = "Connections of senders refused or closed.";
    families.push(counters("zafka_ingest_senders_closed_total", help, closed));
    families
}
