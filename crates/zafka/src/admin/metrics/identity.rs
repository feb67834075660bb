//! The metrics of identity. Never with a label by subject or key.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::proto::MetricFamily;

use super::{counter, counters, gauge, gauges};
use crate::identity::{IdentityStatus, IssuerStatus, KafkaStatus};

type OfIdentity = fn(&IdentityStatus) -> u64;
type OfIssuer = fn(&IssuerStatus) -> u64;
type OfKafka = fn(&KafkaStatus) -> u64;

/// Gauges: name, help, source.
const GAUGES: &[(&str, &str, OfIdentity)] = &[
    ("zafka_identity_known_keys", "Keys that are known by files.", |i| i.known_keys as u64),
    ("zafka_identity_leases", "Keys that tokens have let in.", |i| i.leases as u64),
    ("zafka_identity_revocations", "Revocations that hold.", |i| i.revocations as u64),
    ("zafka_identity_kafka_identities", "Names of peers in which records are written.", |i| {
        i.identities as u64
    }),
    ("zafka_identity_visitors", "Connections at the door.", |i| i.visitors as u64),
];

/// Counters.
const COUNTERS: &[(&str, &str, OfIdentity)] = &[
    ("zafka_identity_admitted_total", "Peers that were let in.", |i| i.counters.admitted),
    ("zafka_identity_enrolled_total", "Keys that were enrolled at the door.", |i| {
        i.counters.enrolled
    }),
    ("zafka_identity_renewed_total", "Leases that moved their end.", |i| i.counters.renewed),
    ("zafka_identity_ended_total", "Leases and other admissions that have ended.", |i| {
        i.counters.ended
    }),
    (
        "zafka_identity_kafka_identities_refused_total",
        "Messages refused since records are written in as many names as may be.",
        |i| i.counters.identities_refused,
    ),
    ("zafka_identity_revoked_total", "Leases and other admissions that were revoked.", |i| {
        i.counters.revoked
    }),
];

/// Gauges of an issuer.
const ISSUER_GAUGES: &[(&str, &str, OfIssuer)] = &[
    ("zafka_identity_issuer_keys", "Keys of the issuer that are known.", |i| i.keys as u64),
    (
        "zafka_identity_issuer_failures",
        "Fetches of the issuer's keys that failed since the last that did not.",
        |i| i.failures.into(),
    ),
];

/// Gauges of the questions to Kafka.
const KAFKA_GAUGES: &[(&str, &str, OfKafka)] = &[
    ("zafka_identity_kafka_waiting", "Peers that wait for Kafka's first answer.", |k| {
        k.waiting as u64
    }),
    ("zafka_identity_kafka_leases", "Leases about which Kafka is asked again and again.", |k| {
        k.leases as u64
    }),
];

/// Outcomes of the questions to Kafka.
const OUTCOMES: &[(&str, OfKafka)] =
    &[("answered", |k| k.answered), ("refused", |k| k.refused), ("failed", |k| k.failed)];

/// Outcomes of exchanges of tokens that came to nothing.
const FAILED_EXCHANGES: &[(&str, OfKafka)] =
    &[("refused", |k| k.exchanges_refused), ("failed", |k| k.exchanges_failed)];

/// The families of a relay with identity.
pub(super) fn families(status: &IdentityStatus, now: SystemTime) -> Vec<MetricFamily> {
    let mut families = Vec::new();
    for (name, help, value) in GAUGES {
        families.push(gauges(name, help, [gauge(&[], value(status) as f64)]));
    }
    for (name, help, value) in COUNTERS {
        families.push(counters(name, help, [counter(&[], value(status))]));
    }
    let refused = status.counters.refused.iter();
    let refused = refused.map(|(reason, count)| counter(&[("reason", reason)], *count));
    let help = "Peers that were not let in, and commands of the door that were not done.";
    families.push(counters("zafka_identity_refused_total", help, refused));
    for (name, help, value) in ISSUER_GAUGES {
        let of = |one: &IssuerStatus| gauge(&[("issuer", &one.issuer)], value(one) as f64);
        families.push(gauges(name, help, status.issuers.iter().map(of)));
    }
    families.push(introspections(status));
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let ages = status.issuers.iter().filter_map(|one| {
        let age = (now - one.fetched? as f64 / 1000.0).max(0.0);
        Some(gauge(&[("issuer", &one.issuer)], age))
    });
    let help = "Time since the issuer's keys were fetched.";
    families.push(gauges("zafka_identity_issuer_keys_age_seconds", help, ages));
    families.extend(status.kafka.iter().flat_map(of_kafka));
    families
}

fn of_kafka(kafka: &KafkaStatus) -> Vec<MetricFamily> {
    let gauges = KAFKA_GAUGES
        .iter()
        .map(|(name, help, value)| gauges(name, help, [gauge(&[], value(kafka) as f64)]));
    let mut families: Vec<_> = gauges.collect();
    let (help, asked) = ("Questions to Kafka what a peer may do.", counter(&[], kafka.asked));
    families.push(counters("zafka_identity_kafka_asked_total", help, [asked]));
    for (name, help, outcomes) in [
        ("zafka_identity_kafka_outcomes_total", "Outcomes of the questions to Kafka.", OUTCOMES),
        (
            "zafka_identity_kafka_exchanges_failed_total",
            "Questions to Kafka for which the provider exchanged no token.",
            FAILED_EXCHANGES,
        ),
    ] {
        let of =
            |(outcome, value): &(&str, OfKafka)| counter(&[("outcome", outcome)], value(kafka));
        families.push(counters(name, help, outcomes.iter().map(of)));
    }
    families
}

/// Answers of issuers whether tokens are active.
fn introspections(status: &IdentityStatus) -> MetricFamily {
    let asked = |one: &'_ IssuerStatus| Some((one.issuer.clone(), one.introspection.clone()?));
    let answers = status.issuers.iter().filter_map(asked).flat_map(|(issuer, asked)| {
        [("active", asked.active), ("inactive", asked.inactive), ("failed", asked.failed)]
            .map(|(answer, count)| counter(&[("issuer", &issuer), ("answer", answer)], count))
    });
    let help = "Questions to the issuer whether a token is active, by its answer.";
    counters("zafka_identity_introspections_total", help, answers)
}
