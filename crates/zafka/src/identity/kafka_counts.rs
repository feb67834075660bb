//! Counts of the questions to Kafka what peers may do.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use zafka_kafka::AuthorizationError;

use super::kafka_rights::KafkaRights;

/// The questions to Kafka at one moment, and since the start. `asked` is `answered` + `refused` +
/// `failed` and what is under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KafkaStatus {
    /// Peers that wait for their first answer.
    pub waiting: usize,
    /// Leases about which it is asked again and again.
    pub leases: usize,
    /// Questions: each is an exchange of a token, a connection that shows what came of it, and a
    /// request.
    pub asked: u64,
    /// Those that were answered, also by nothing that the peer may do.
    pub answered: u64,
    /// Those to which the provider or the brokers have said no.
    pub refused: u64,
    /// Those to which nobody has said anything.
    pub failed: u64,
    /// Those of `refused` for which the provider exchanged no token.
    pub exchanges_refused: u64,
    /// Those of `failed` for which the provider exchanged no token.
    pub exchanges_failed: u64,
}

/// Counts as they are kept.
#[derive(Debug, Default)]
pub struct KafkaCounts {
    asked: AtomicU64,
    answered: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    exchanges_refused: AtomicU64,
    exchanges_failed: AtomicU64,
}

impl KafkaCounts {
    /// Counts a question that is under way.
    pub fn asked(&self) {
        count(&self.asked);
    }

    /// Counts its outcome: an answer, or an error.
    pub fn handle(&self, error: Option<&AuthorizationError>) {
        let Some(error) = error else { return count(&self.answered) };
        let by_provider = matches!(error, AuthorizationError::NoToken { .. });
        let (all, exchanges) = match error.is_refusal() {
            true => (&self.refused, &self.exchanges_refused),
            false => (&self.failed, &self.exchanges_failed),
        };
        count(all);
        if by_provider {
            count(exchanges);
        }
    }

    /// Returns all counts now, with those of the peers that are asked about.
    pub fn status(&self, rights: &KafkaRights) -> KafkaStatus {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (waiting, leases) = rights.asked.counts();
        KafkaStatus {
            waiting,
            leases,
            asked: of(&self.asked),
            answered: of(&self.answered),
            refused: of(&self.refused),
            failed: of(&self.failed),
            exchanges_refused: of(&self.exchanges_refused),
            exchanges_failed: of(&self.exchanges_failed),
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
