//! Where the errors of a source's connections go: counted, shown in the status, and told once in a
//! while.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tracing::warn;

use crate::noise::Noise;
use crate::status::Board;

/// Reports for one route.
#[derive(Clone, Debug)]
pub(crate) struct Reporter {
    route: Arc<str>,
    board: Arc<Board>,
    noise: Arc<Noise>,
}

impl Reporter {
    pub(crate) fn new(route: &str, board: &Arc<Board>, noise: &Arc<Noise>) -> Self {
        Self { route: Arc::from(route), board: Arc::clone(board), noise: Arc::clone(noise) }
    }

    pub(crate) fn route(&self) -> &str {
        &self.route
    }

    /// Counts and shows an error; tells it unless it has just been told.
    pub(crate) fn report(&self, text: &str) {
        self.report_as(text, text);
    }

    /// Reports partitions that could not be served, in one line for each reason. How many they are,
    /// and which, does not make it another line.
    pub(crate) fn report_partitions<'a>(
        &self,
        what: &str,
        failed: impl IntoIterator<Item = (&'a str, i32, String)>,
    ) {
        for (reason, (count, topic, partition)) in by_reason(failed) {
            let text = match count {
                1 => format!("{what} for {topic}/{partition}: {reason}"),
                _ => {
                    format!("{what} for {count} partitions, such as {topic}/{partition}: {reason}")
                }
            };
            self.report_as(&format!("{what}: {reason}"), &text);
        }
    }

    /// As [`Self::report`], where errors of the same `kind` are alike.
    fn report_as(&self, kind: &str, text: &str) {
        self.board.kafka_errors.add(1);
        self.board.set_error(text.to_owned());
        match self.noise.tell(kind, Instant::now()) {
            None => {}
            Some(0) => warn!(route = &*self.route, "Kafka: {text}"),
            Some(again) => warn!(route = &*self.route, again, "Kafka: {text}"),
        }
    }
}

/// How many failed for each reason, and the first of them.
fn by_reason<'a>(
    failed: impl IntoIterator<Item = (&'a str, i32, String)>,
) -> BTreeMap<String, (usize, &'a str, i32)> {
    let mut reasons: BTreeMap<String, (usize, &str, i32)> = BTreeMap::new();
    for (topic, partition, reason) in failed {
        reasons.entry(reason).or_insert((0, topic, partition)).0 += 1;
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_that_fail_alike_are_one_error() {
        let (board, noise) = (Arc::new(Board::default()), Arc::new(Noise::default()));
        let reporter = Reporter::new("test", &board, &noise);
        let failed = |partitions: std::ops::Range<i32>| {
            partitions.map(|at| ("orders", at, "Busy".to_owned()))
        };
        for (partitions, shown) in [
            (3..9, "commit failed for 6 partitions, such as orders/3: Busy"),
            (7..8, "commit failed for orders/7: Busy"),
        ] {
            reporter.report_partitions("commit failed", failed(partitions));
            assert_eq!(board.status().last_error.as_deref(), Some(shown));
        }
        assert_eq!(board.status().kafka_errors, 2);
        assert_eq!(noise.tell("commit failed: Busy", Instant::now()), None, "it is told once");
    }
}
