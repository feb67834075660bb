//! The errors of a source's connections: counted, shown in the status, and logged once in a while.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Instant;

use tracing::warn;

use crate::health::SourceHealth;
use crate::log_limiter::LogLimiter;
use crate::topic_partition::TopicPartition;

/// Reports for one route.
#[derive(Clone, Debug)]
pub(crate) struct Reporter {
    route: Arc<str>,
    health: Arc<SourceHealth>,
    log_limiter: Arc<LogLimiter>,
}

impl Reporter {
    pub(crate) fn new(
        route: &str,
        health: &Arc<SourceHealth>,
        log_limiter: &Arc<LogLimiter>,
    ) -> Self {
        Self {
            route: Arc::from(route),
            health: Arc::clone(health),
            log_limiter: Arc::clone(log_limiter),
        }
    }

    pub(crate) fn route(&self) -> &str {
        &self.route
    }

    /// Counts and shows an error; logs it unless it has just been logged.
    pub(crate) fn report(&self, text: &str) {
        self.report_as(text, text);
    }

    /// Reports partitions that could not be served, in one line for each reason. How many they are,
    /// and which, does not make it another line.
    pub(crate) fn report_partitions<'a>(
        &self,
        what: &str,
        failed: impl IntoIterator<Item = (&'a TopicPartition, impl Display)>,
    ) {
        for (reason, (count, first)) in by_reason(failed) {
            let text = match count {
                1 => format!("{what} for {first}: {reason}"),
                _ => format!("{what} for {count} partitions, such as {first}: {reason}"),
            };
            self.report_as(&format!("{what}: {reason}"), &text);
        }
    }

    /// Reports as [`Self::report`] does, but errors of the same `kind` are alike.
    fn report_as(&self, kind: &str, text: &str) {
        self.health.kafka_errors.add(1);
        self.health.set_error(text.to_owned());
        match self.log_limiter.admit(kind, Instant::now()) {
            None => {}
            Some(0) => warn!(route = &*self.route, "Kafka: {text}"),
            Some(again) => warn!(route = &*self.route, again, "Kafka: {text}"),
        }
    }
}

/// The number of errors with each reason, and the first of them.
fn by_reason<'a>(
    failed: impl IntoIterator<Item = (&'a TopicPartition, impl Display)>,
) -> BTreeMap<String, (usize, &'a TopicPartition)> {
    let mut reasons: BTreeMap<String, (usize, &TopicPartition)> = BTreeMap::new();
    for (topic_partition, reason) in failed {
        reasons.entry(reason.to_string()).or_insert((0, topic_partition)).0 += 1;
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_that_fail_alike_are_one_error() {
        let (health, log_limiter) =
            (Arc::new(SourceHealth::default()), Arc::new(LogLimiter::default()));
        let reporter = Reporter::new("test", &health, &log_limiter);
        let orders: Vec<_> = (0..9).map(|at| TopicPartition::new("orders", at)).collect();
        let failed = |partitions: std::ops::Range<usize>| {
            orders[partitions].iter().map(|topic_partition| (topic_partition, "Busy".to_owned()))
        };
        for (partitions, shown) in [
            (3..9, "commit failed for 6 partitions, such as orders/3: Busy"),
            (7..8, "commit failed for orders/7: Busy"),
        ] {
            reporter.report_partitions("commit failed", failed(partitions));
            assert_eq!(health.status().last_error.as_deref(), Some(shown));
        }
        assert_eq!(health.status().kafka_errors, 2);
        assert_eq!(
            log_limiter.admit("commit failed: Busy", Instant::now()),
            None,
            "it is logged once"
        );
    }
}
