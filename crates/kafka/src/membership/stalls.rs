//! Detects partitions that make no progress though there are records to fetch. Their ends are asked
//! for by librdkafka, so that a fetcher that is stuck is not asked about itself.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{error, info};

use crate::assignment::Assignment;
use crate::ends::Ends;
use crate::generation::Generation;
use crate::topic_partition::TopicPartition;

/// Time between two checks.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// Time between two requests for the end of a partition that is paused.
const PAUSED_INTERVAL: Duration = Duration::from_secs(2);
/// The same if the last answer has not come.
const PAUSED_RETRY_INTERVAL: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Observed {
    assignment: Arc<Assignment>,
    /// The generation that was read: another one may stand at the same offset.
    generation: u32,
    position: i64,
    /// The last time when it moved, or had nothing to read.
    since: Instant,
    asked: bool,
    /// True if it was reported.
    stalled: bool,
}

/// The progress of each partition, as it was observed last.
#[derive(Debug)]
pub(super) struct StallDetector {
    route: String,
    timeout: Duration,
    observed: HashMap<TopicPartition, Observed>,
    checked: Option<Instant>,
}

impl StallDetector {
    /// `route`: its name, for log lines. `timeout`: time without progress until a partition counts
    /// as stalled.
    pub(super) fn new(route: &str, timeout: Duration) -> Self {
        Self { route: route.to_owned(), timeout, observed: HashMap::new(), checked: None }
    }

    /// The time of the next check; `now` if there was none.
    pub(super) fn due(&self, now: Instant) -> Instant {
        self.checked.map_or(now, |checked| checked + CHECK_INTERVAL)
    }

    /// Notes that a check is under way.
    pub(super) fn checking(&mut self, now: Instant) {
        self.checked = Some(now);
    }

    /// Looks at the partitions. `was_backpressured`: whether the route took less than there was.
    /// Returns those whose ends are to be asked for.
    pub(super) fn check(
        &mut self,
        assignments: &BTreeMap<TopicPartition, Arc<Assignment>>,
        was_backpressured: bool,
        now: Instant,
    ) -> Vec<Arc<Assignment>> {
        self.observed.retain(|partition, observed| {
            let assignment = assignments.get(partition);
            assignment.is_some_and(|assignment| Arc::ptr_eq(assignment, &observed.assignment))
        });
        let mut still = Vec::new();
        for (partition, assignment) in assignments {
            let (Generation { number: generation, .. }, position) = assignment.reading().place();
            let observed = self.observed.entry(partition.clone()).or_insert_with(|| Observed {
                assignment: Arc::clone(assignment),
                generation,
                position,
                since: now,
                asked: false,
                stalled: false,
            });
            let place = (observed.generation, observed.position);
            let has_moved = place != (generation, position);
            if has_moved && std::mem::take(&mut observed.stalled) {
                info!(route = self.route, topic = %partition.topic,
                    partition = partition.partition, position, "partition resumed");
            }
            // While the route takes nothing, nothing is to be expected.
            if has_moved || was_backpressured || !assignment.is_active() {
                (observed.generation, observed.position) = (generation, position);
                observed.since = now;
            } else if assignment.is_paused() {
                // Nothing fetches it, and so nothing reports its end.
                let again = if observed.asked { PAUSED_RETRY_INTERVAL } else { PAUSED_INTERVAL };
                if now - observed.since >= again {
                    (observed.asked, observed.since) = (true, now);
                    still.push(Arc::clone(assignment));
                }
            } else if now - observed.since >= self.timeout && !observed.asked {
                observed.asked = true;
                still.push(Arc::clone(assignment));
            }
        }
        still
    }

    /// Takes the ends of partitions that made no progress; nothing is known of any that are not
    /// among them.
    pub(super) fn handle_ends(&mut self, ends: Vec<(Arc<Assignment>, i64)>, now: Instant) {
        for (assignment, end) in ends {
            let Some(observed) = self.observed.get_mut(&assignment.topic_partition) else {
                continue;
            };
            if !Arc::ptr_eq(&observed.assignment, &assignment) {
                continue;
            }
            observed.asked = false;
            if assignment.is_paused() {
                assignment.set_ends(Ends::new(end, -1));
                observed.since = now;
                continue;
            }
            let (Generation { number: generation, .. }, position) = assignment.reading().place();
            let has_moved = (observed.generation, observed.position) != (generation, position);
            if end <= position || has_moved {
                observed.since = now;
                // What there was may have been deleted.
                observed.stalled &= !has_moved && end > position;
                continue;
            }
            // Asked for again at the next check, until it moves.
            if now - observed.since >= self.timeout && !observed.stalled {
                observed.stalled = true;
                error!(route = self.route, topic = %assignment.topic(),
                    partition = assignment.partition(), position, end,
                    "partition stalled: there are records to fetch and none arrives");
            }
        }
    }

    /// The partitions that are stalled, each with its offset.
    pub(super) fn stalled(&self) -> Vec<String> {
        let stalled = self.observed.iter().filter(|(_, observed)| observed.stalled);
        let mut stalled: Vec<String> = stalled
            .map(|(partition, observed)| {
                format!("{partition} stalled at offset {}", observed.position)
            })
            .collect();
        stalled.sort_unstable();
        stalled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    /// The events of ten seconds.
    enum Step {
        /// The position moves to this offset.
        Read(i64),
        /// The route takes less than there is.
        Backpressure,
        Pause,
        Revoke,
        /// It begins anew at the offset where it stands.
        Reset,
        Wait,
    }

    #[test]
    fn a_partition_is_stalled_if_it_has_records_and_does_not_move() {
        use Step::{Backpressure, Pause, Read, Reset, Revoke, Wait};
        // Steps; whether the end is asked for then; the end; whether the partition is stalled.
        type Row = (&'static str, Vec<Step>, bool, i64, bool);
        let rows: Vec<Row> = vec![
            ("just assigned", vec![], false, 9, false),
            ("stands still", vec![Wait], true, 9, true),
            ("is at the end", vec![Wait], true, 5, false),
            ("moves", vec![Read(6)], false, 9, false),
            ("moved and stands still", vec![Read(6), Wait], true, 9, true),
            ("traffic of others hides nothing", vec![Wait, Wait], true, 9, true),
            ("the route is slow", vec![Backpressure], false, 9, false),
            ("the route was slow", vec![Backpressure, Wait], true, 9, true),
            ("begins anew", vec![Reset], false, 9, false),
            ("began anew and stands still", vec![Reset, Wait], true, 9, true),
            ("is revoked", vec![Revoke, Wait], false, 9, false),
            ("is paused: only its end is wanted", vec![Pause, Wait], true, 9, false),
        ];
        for (name, steps, asks, end, stalled) in rows {
            let assignment = Assignment::new(TopicPartition::new("t", 0), 5, None);
            let key = assignment.topic_partition.clone();
            let assignments = BTreeMap::from([(key, Arc::clone(&assignment))]);
            let mut detector = StallDetector::new("test", TIMEOUT);
            let mut now = Instant::now();
            let mut asked = detector.check(&assignments, false, now);
            for step in steps {
                now += TIMEOUT;
                match step {
                    Read(offset) => assignment.reading().set_position(0, offset),
                    Reset => _ = assignment.reset_to(assignment.position(), false),
                    Pause => assignment.pause(),
                    Revoke => assignment.set_revoking(),
                    Backpressure | Wait => {}
                }
                let slow = matches!(step, Backpressure);
                asked.extend(detector.check(&assignments, slow, now));
            }
            assert_eq!(!asked.is_empty(), asks, "{name}");
            detector
                .handle_ends(asked.into_iter().map(|assignment| (assignment, end)).collect(), now);
            assert_eq!(!detector.stalled().is_empty(), stalled, "{name}");
            if !stalled {
                continue;
            }
            // It is so until it moves, or until what there was is deleted.
            let position = assignment.position();
            assert_eq!(detector.stalled(), [format!("t/0 stalled at offset {position}")]);
            let generation = assignment.generation().number;
            assignment.reading().set_position(generation, position + 1);
            detector.check(&assignments, false, now);
            assert!(detector.stalled().is_empty(), "{name}: it moves");
        }
    }

    #[test]
    fn what_is_deleted_is_no_longer_missing() {
        let assignment = Assignment::new(TopicPartition::new("t", 0), 5, None);
        let key = assignment.topic_partition.clone();
        let assignments = BTreeMap::from([(key, Arc::clone(&assignment))]);
        let (mut detector, start) = (StallDetector::new("test", TIMEOUT), Instant::now());
        detector.check(&assignments, false, start);
        for (at, end, stalled) in [(1, 9, true), (2, 9, true), (3, 5, false)] {
            let now = start + at * TIMEOUT;
            assert_eq!(detector.check(&assignments, false, now).len(), 1, "it is asked for again");
            detector.handle_ends(vec![(Arc::clone(&assignment), end)], now);
            assert_eq!(!detector.stalled().is_empty(), stalled);
        }
    }

    #[test]
    fn another_assignment_of_the_partition_begins_anew() {
        let [old, new] = [5, 5].map(|at| Assignment::new(TopicPartition::new("t", 0), at, None));
        let held =
            |of: &Arc<Assignment>| BTreeMap::from([(of.topic_partition.clone(), Arc::clone(of))]);
        let (mut detector, start) = (StallDetector::new("test", TIMEOUT), Instant::now());
        detector.check(&held(&old), false, start);
        let now = start + TIMEOUT;
        assert_eq!(detector.check(&held(&old), false, now).len(), 1);
        assert!(detector.check(&held(&new), false, now).is_empty());
        detector.handle_ends(vec![(old, 9)], now);
        assert!(detector.stalled().is_empty(), "the answer is for another one");
    }
}
