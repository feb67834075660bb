//! Counts of what the gate and the door did, and the state of issuers, as `/status` and `/metrics`
//! show them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use serde::Serialize;
use zafka_identity::Refusal;

use super::health::HealthStatus;
use super::kafka_counts::{KafkaCounts, KafkaStatus};
use crate::config::IssuerConfig;

/// Characters of an error that are shown.
const MAX_ERROR: usize = 400;

/// The identities of a relay's peers at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IdentityStatus {
    /// Keys that are known by files.
    pub known_keys: usize,
    /// Keys that tokens have let in.
    pub leases: usize,
    /// Revocations that hold.
    pub revocations: usize,
    /// Connections at the door.
    pub visitors: usize,
    /// Names of peers in which records are written.
    pub identities: usize,
    /// Counts since the start.
    pub counters: IdentityCounters,
    /// The issuers, in the order of the file.
    pub issuers: Vec<IssuerStatus>,
    /// The questions to Kafka, if rules ask it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaStatus>,
    /// The rest of its health.
    #[serde(flatten)]
    pub health: HealthStatus,
}

/// Counts since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IdentityCounters {
    /// Peers that were let in, over all endpoints but the door.
    pub admitted: u64,
    /// Keys that were enrolled at the door.
    pub enrolled: u64,
    /// Leases that moved their end.
    pub renewed: u64,
    /// Leases and other admissions that have ended, revoked ones among them.
    pub ended: u64,
    /// Keys that were revoked.
    pub revoked: u64,
    /// Messages that were answered `busy`, since records are written in as many names as may be.
    pub identities_refused: u64,
    /// Peers that were not let in and commands of the door that were not done, by reason.
    pub refused: BTreeMap<&'static str, u64>,
}

/// An issuer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IssuerStatus {
    /// Its name.
    pub issuer: String,
    /// The number of its keys that are known.
    pub keys: usize,
    /// The time when they were fetched last, in ms since the epoch.
    pub fetched: Option<i64>,
    /// Fetches that failed since then.
    pub failures: u32,
    /// The reason of the last failure, if there was one since then.
    pub error: Option<String>,
    /// Its answers whether tokens are active, if it is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub introspection: Option<IntrospectionStatus>,
}

/// Answers of an issuer whether tokens are active.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IntrospectionStatus {
    /// Tokens that it said are active, since the start.
    pub active: u64,
    /// Tokens that it said are not.
    pub inactive: u64,
    /// Questions that failed.
    pub failed: u64,
    /// Those of them since the last answer.
    pub failures: u32,
    /// The reason of the last failure, if there was one since then.
    pub error: Option<String>,
}

/// A revocation that was done.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// Keys whose admissions have ended.
    pub keys: usize,
    /// Connections that are closed by it.
    pub connections: usize,
    /// The time until which it holds, in s since the epoch.
    pub until: i64,
}

/// Counts as they are kept.
#[derive(Debug, Default)]
pub struct IdentityCounts {
    pub admitted: AtomicU64,
    pub enrolled: AtomicU64,
    pub renewed: AtomicU64,
    pub ended: AtomicU64,
    pub revoked: AtomicU64,
    pub visitors: AtomicUsize,
    pub kafka: KafkaCounts,
    refused: Mutex<BTreeMap<&'static str, u64>>,
    issuers: Mutex<Vec<IssuerStatus>>,
}

impl IdentityCounts {
    /// Makes counts of zero, without keys.
    pub fn new(issuers: &[IssuerConfig]) -> Self {
        let of = |config: &IssuerConfig| IssuerStatus {
            issuer: config.issuer.name.clone(),
            introspection: config.introspection.as_ref().map(|_| IntrospectionStatus::default()),
            ..IssuerStatus::default()
        };
        Self { issuers: Mutex::new(issuers.iter().map(of).collect()), ..Self::default() }
    }

    /// Counts a peer that was not let in, or a command that was not done.
    pub fn refuse(&self, refusal: Refusal) {
        *self.refused.lock().entry(refusal.code()).or_default() += 1;
    }

    /// Takes note of keys that were fetched at this time, in ms since the epoch.
    pub fn fetched(&self, index: usize, keys: usize, now: i64) {
        self.change(index, |issuer| {
            (issuer.keys, issuer.fetched) = (keys, Some(now));
            (issuer.failures, issuer.error) = (0, None);
        });
    }

    /// Takes note of keys that could not be fetched, and of how many are still known.
    pub fn not_fetched(&self, index: usize, keys: usize, error: &str) {
        self.change(index, |issuer| {
            issuer.keys = keys;
            issuer.failures = issuer.failures.saturating_add(1);
            issuer.error = Some(cut(error));
        });
    }

    /// Takes note of an answer whether a token is active. Returns true if it is the first one after
    /// a failure.
    pub fn introspected(&self, index: usize, is_active: bool) -> bool {
        self.introspection(index, |asked| {
            *(if is_active { &mut asked.active } else { &mut asked.inactive }) += 1;
            asked.error = None;
            std::mem::take(&mut asked.failures) > 0
        })
    }

    /// Takes note of a question without an answer. Returns how many in a row that are.
    pub fn not_introspected(&self, index: usize, error: &str) -> u32 {
        self.introspection(index, |asked| {
            asked.failed += 1;
            asked.failures = asked.failures.saturating_add(1);
            asked.error = Some(cut(error));
            asked.failures
        })
    }

    /// Returns the reason why so many peers wait for this issuer's answer.
    pub fn not_confirmed(&self, index: usize, peers: usize) -> String {
        let issuers = self.issuers.lock();
        let issuer = issuers.get(index);
        let name = issuer.map_or("", |issuer| &issuer.issuer);
        let asked = issuer.and_then(|issuer| issuer.introspection.as_ref());
        let why = asked.and_then(|asked| asked.error.as_deref()).unwrap_or("it did not answer");
        format!(
            "the issuer {name} could not be asked whether tokens are active, for which peers wait \
             ({peers}): {why}"
        )
    }

    fn introspection<T: Default>(
        &self,
        index: usize,
        change: impl FnOnce(&mut IntrospectionStatus) -> T,
    ) -> T {
        let mut issuers = self.issuers.lock();
        let asked = issuers.get_mut(index).and_then(|issuer| issuer.introspection.as_mut());
        asked.map(change).unwrap_or_default()
    }

    /// Returns the reasons why tokens are not taken that may be good.
    pub fn kept_out(&self) -> Vec<String> {
        let issuers = self.issuers.lock();
        let without = issuers.iter().filter(|issuer| issuer.keys == 0);
        let reason = |issuer: &IssuerStatus| {
            let why = match (&issuer.error, issuer.fetched) {
                (Some(error), _) => error,
                (None, None) => "they were not fetched yet",
                (None, Some(_)) => "it has none",
            };
            let name = &issuer.issuer;
            format!(
                "the keys of the issuer {name} are not known, so that its tokens are not taken: \
                 {why}"
            )
        };
        without.map(reason).collect()
    }

    fn change(&self, index: usize, change: impl Fn(&mut IssuerStatus)) {
        if let Some(issuer) = self.issuers.lock().get_mut(index) {
            change(issuer);
        }
    }

    /// All counts now; those of keys, leases and revocations are to be filled in.
    pub fn status(&self) -> IdentityStatus {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        IdentityStatus {
            visitors: self.visitors.load(Ordering::Relaxed),
            counters: IdentityCounters {
                admitted: count(&self.admitted),
                enrolled: count(&self.enrolled),
                renewed: count(&self.renewed),
                ended: count(&self.ended),
                revoked: count(&self.revoked),
                // As the tokens of peers count them.
                identities_refused: 0,
                refused: self.refused.lock().clone(),
            },
            issuers: self.issuers.lock().clone(),
            ..IdentityStatus::default()
        }
    }
}

/// An error as it is shown: a part of it may be the provider's.
fn cut(error: &str) -> String {
    error.chars().take(MAX_ERROR).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
