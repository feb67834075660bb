//! Watches for partitions that stand still though there is something to read. What there is to read
//! is asked of the cluster by librdkafka, so that a fetcher that is stuck is not asked about
//! itself.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{error, info};

use super::driver::Driver;
use crate::assignment::Assignment;
use crate::health::Ends;
use crate::lookup::LookupRequest;
use crate::topic_partition::TopicPartition;

/// Time between two looks.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Time between two looks at the end of a partition that the route holds.
const PAUSED_CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// The same where the last answer has not come.
const PAUSED_RETRY_INTERVAL: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Observed {
    assignment: Arc<Assignment>,
    position: i64,
    /// When it was last seen to move, or to have nothing to read.
    since: Instant,
    asked: bool,
    /// Whether it was reported.
    stalled: bool,
}

/// What was seen of each partition.
#[derive(Debug, Default)]
pub(super) struct StallDetector {
    seen: HashMap<TopicPartition, Observed>,
    checked_at: Option<Instant>,
}

impl StallDetector {
    pub(super) fn check(
        &mut self,
        driver: &Driver<'_>,
        held: &BTreeMap<TopicPartition, Arc<Assignment>>,
    ) {
        let now = Instant::now();
        if self.checked_at.is_some_and(|checked_at| now - checked_at < CHECK_INTERVAL) {
            return;
        }
        self.checked_at = Some(now);
        let waited = driver.source.health.was_backpressured();
        self.seen.retain(|partition, seen| {
            held.get(partition).is_some_and(|assignment| Arc::ptr_eq(assignment, &seen.assignment))
        });
        let mut still = Vec::new();
        let route = &driver.source.config.route;
        for (partition, assignment) in held {
            let position = assignment.position();
            let seen = self.seen.entry(partition.clone()).or_insert_with(|| Observed {
                assignment: Arc::clone(assignment),
                position,
                since: now,
                asked: false,
                stalled: false,
            });
            if seen.position != position && std::mem::take(&mut seen.stalled) {
                info!(route, topic = %partition.topic, partition = partition.partition, position, "partition resumed");
            }
            // While the route takes nothing, nothing is to be expected.
            if seen.position != position || waited || !assignment.is_active() {
                (seen.position, seen.since) = (position, now);
            } else if assignment.is_paused() {
                // Nobody fetches it, and so nobody tells its end.
                let again = if seen.asked { PAUSED_RETRY_INTERVAL } else { PAUSED_CHECK_INTERVAL };
                if now - seen.since >= again {
                    (seen.asked, seen.since) = (true, now);
                    still.push(Arc::clone(assignment));
                }
            } else if now - seen.since >= driver.source.config.stall_timeout && !seen.asked {
                seen.asked = true;
                still.push(Arc::clone(assignment));
            }
        }
        if !still.is_empty() {
            // The look-up thread lives as long as its questions' sender.
            let _ = driver.lookups.send(LookupRequest::Ends(still));
        }
        self.show(driver);
    }

    /// The ends of those that stood still; of those that are not among them nothing is known.
    pub(super) fn ends(&mut self, driver: &Driver<'_>, ends: Vec<(Arc<Assignment>, i64)>) {
        let now = Instant::now();
        for (assignment, end) in ends {
            let Some(seen) = self.seen.get_mut(&assignment.topic_partition) else { continue };
            if !Arc::ptr_eq(&seen.assignment, &assignment) {
                continue;
            }
            seen.asked = false;
            if assignment.is_paused() {
                assignment.set_ends(Ends::new(end, -1));
                seen.since = now;
                continue;
            }
            let position = assignment.position();
            if end <= position || position != seen.position {
                seen.since = now;
                // What there was may have been deleted.
                seen.stalled &= position == seen.position && end > position;
                continue;
            }
            // Asked for again at the next look, until it moves.
            if now - seen.since >= driver.source.config.stall_timeout && !seen.stalled {
                seen.stalled = true;
                error!(
                    route = driver.source.config.route, topic = %assignment.topic(), partition = assignment.partition(), position, end,
                    "partition stalled: there are records to fetch and none arrives"
                );
            }
        }
        self.show(driver);
    }

    fn show(&self, driver: &Driver<'_>) {
        let mut stalled: Vec<String> = (self.seen.iter())
            .filter(|(_, seen)| seen.stalled)
            .map(|(partition, seen)| format!("{partition} stalled at offset {}", seen.position))
            .collect();
        stalled.sort_unstable();
        driver.source.health.set_stalled(stalled);
    }
}
