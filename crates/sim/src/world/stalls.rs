//! Partitions that stand still: that they are shown, and no others.

use std::sync::Arc;
use std::time::Duration;

use zafka_kafka::sim;

use super::{Process, World, relay_of};
use crate::relay::Still;

/// Time by which a stall may be shown late, besides the time that the lookup of the end takes.
const SLACK: Duration = Duration::from_millis(1500);
/// Waits for the route that are longer in all may be a reason for standing still.
const WAITED: Duration = Duration::from_millis(50);

impl World {
    /// Looks at the partitions of a relay after its membership has.
    pub(super) fn look_at_stalls(&mut self, process: Process) {
        let (now, stall_timeout) = (self.clock.now(), self.settings.stall_timeout);
        let late = stall_timeout + SLACK + Duration::from_millis(self.settings.lookup_ms);
        let unreachable = self.unreachable.clone();
        let Some(relay) = relay_of(&mut self.relays, process) else {
            return;
        };
        let mut violations = Vec::new();
        let shown = relay.membership.stalled();
        let blocked = relay.brokers.values().any(|task| task.waits_since.is_some());
        relay.still.retain(|partition, _| relay.held.contains_key(partition));
        for (partition, held) in &relay.held {
            let Some(log) = self.cluster.logs.get(partition) else { continue };
            let assignment = &held.assignment;
            let (generation, position) =
                (assignment.generation().number, sim::position(assignment));
            let place = (generation, position);
            let still = relay.still.entry(partition.clone()).or_insert_with(|| Still {
                assignment: Arc::clone(assignment),
                place,
                moved: now,
                since: now,
                waited: relay.waited,
            });
            let name = format!("{} stalled at offset {position}", assignment.topic_partition);
            let is_shown = |stalled: &[String]| stalled.contains(&name);
            let has_moved = !Arc::ptr_eq(&still.assignment, assignment) || still.place != place;
            if let Some(stalled) = &shown
                && is_shown(stalled)
                && !is_shown(&relay.stalled)
                && !has_moved
                && now - still.moved < stall_timeout
            {
                violations.push(format!("stall: {name}, and it was moving"));
            }
            let has_reason = !assignment.is_active()
                || sim::is_paused(assignment)
                || log.last_stable() <= position
                || unreachable.contains(&log.leader)
                || blocked
                || relay.waited - still.waited > WAITED;
            if has_moved {
                let assignment = Arc::clone(assignment);
                let (moved, since, waited) = (now, now, relay.waited);
                *still = Still { assignment, place, moved, since, waited };
            } else if has_reason {
                (still.since, still.waited) = (now, relay.waited);
            } else if now - still.since > late
                && !is_shown(shown.as_ref().unwrap_or(&relay.stalled))
            {
                violations.push(format!("stall: {name} for long, and nobody is told"));
            }
        }
        if let Some(stalled) = shown {
            relay.stalled = stalled;
        }
        violations.into_iter().for_each(|what| self.judge.borrow_mut().violation(what));
    }
}
