//! Watches for partitions that stand still though there is something to read. What there is to read
//! is asked of the cluster by librdkafka, so that a fetcher that is stuck is not asked about
//! itself.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{error, info};

use super::session::Session;
use crate::assignment::Assignment;
use crate::client::Part;
use crate::lookup::Ask;
use crate::status::Ends;

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// Time between two looks at the end of a partition that the route holds.
const HELD_LOOK: Duration = Duration::from_secs(2);
/// The same where the last answer has not come.
const HELD_ASK_AGAIN: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Seen {
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
pub(super) struct Watch {
    seen: HashMap<Part, Seen>,
    looked: Option<Instant>,
}

impl Watch {
    pub(super) fn look(&mut self, session: &Session<'_>, held: &BTreeMap<Part, Arc<Assignment>>) {
        let now = Instant::now();
        if self.looked.is_some_and(|looked| now - looked < LOOK) {
            return;
        }
        self.looked = Some(now);
        let waited = session.source.board.take_waited();
        self.seen.retain(|part, seen| {
            held.get(part).is_some_and(|assignment| Arc::ptr_eq(assignment, &seen.assignment))
        });
        let mut still = Vec::new();
        let route = &session.source.config.route;
        for (part, assignment) in held {
            let position = assignment.position();
            let seen = self.seen.entry(part.clone()).or_insert_with(|| Seen {
                assignment: Arc::clone(assignment),
                position,
                since: now,
                asked: false,
                stalled: false,
            });
            if seen.position != position && std::mem::take(&mut seen.stalled) {
                info!(route, topic = %part.0, partition = part.1, position, "the partition goes on");
            }
            // While the route takes nothing, nothing is to be expected.
            if seen.position != position || waited || !assignment.is_active() {
                (seen.position, seen.since) = (position, now);
            } else if assignment.is_held() {
                // Nobody fetches it, and so nobody tells its end.
                let again = if seen.asked { HELD_ASK_AGAIN } else { HELD_LOOK };
                if now - seen.since >= again {
                    (seen.asked, seen.since) = (true, now);
                    still.push(Arc::clone(assignment));
                }
            } else if now - seen.since >= session.source.config.stall_timeout && !seen.asked {
                seen.asked = true;
                still.push(Arc::clone(assignment));
            }
        }
        if !still.is_empty() {
            // The look-up thread lives as long as its questions' sender.
            let _ = session.questions.send(Ask::Ends(still));
        }
        self.show(session);
    }

    /// The ends of those that stood still; of those that are not among them nothing is known.
    pub(super) fn ends(&mut self, session: &Session<'_>, ends: Vec<(Arc<Assignment>, i64)>) {
        let now = Instant::now();
        for (assignment, end) in ends {
            let part = (assignment.topic.to_string(), assignment.partition);
            let Some(seen) = self.seen.get_mut(&part) else { continue };
            if !Arc::ptr_eq(&seen.assignment, &assignment) {
                continue;
            }
            seen.asked = false;
            if assignment.is_held() {
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
            if now - seen.since >= session.source.config.stall_timeout && !seen.stalled {
                seen.stalled = true;
                error!(
                    route = session.source.config.route, topic = %part.0, partition = part.1, position, end,
                    "the partition stalls: there are records and none comes"
                );
            }
        }
        self.show(session);
    }

    fn show(&self, session: &Session<'_>) {
        let mut stalled: Vec<String> = (self.seen.iter())
            .filter(|(_, seen)| seen.stalled)
            .map(|((topic, partition), seen)| {
                format!("{topic}/{partition} stalls at offset {}", seen.position)
            })
            .collect();
        stalled.sort_unstable();
        session.source.board.set_stalled(stalled);
    }
}
