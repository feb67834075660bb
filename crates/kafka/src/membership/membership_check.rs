//! Detects that the member has joined its group when librdkafka reports no assignment for it.
//!
//! By the newer protocol librdkafka reports an assignment if it differs from the one before, and a
//! member begins with none (`rd_kafka_cgrp_consumer_is_new_assignment_different`): for a member
//! that gets nothing, since there are more members than partitions, nothing is reported.

use std::time::{Duration, Instant};

/// Time between two checks.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);
/// Time for which a member without a report of its assignment counts as one that still waits for
/// it: partitions that come with the group's first answer are reported once librdkafka has found
/// the names of their topics.
const SETTLE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct MembershipCheck {
    checked: Option<Instant>,
    since: Option<Instant>,
}

impl MembershipCheck {
    /// The time of the next check; `now` if there was none.
    pub(super) fn due(&self, now: Instant) -> Instant {
        self.checked.map_or(now, |checked| checked + CHECK_INTERVAL)
    }

    /// Notes that a check is under way.
    pub(super) fn checking(&mut self, now: Instant) {
        self.checked = Some(now);
    }

    /// Takes whether the group has this member. Returns whether it has had it for a while.
    pub(super) fn handle(&mut self, is_member: bool, now: Instant) -> bool {
        if !is_member {
            self.since = None;
            return false;
        }
        now - *self.since.get_or_insert(now) >= SETTLE
    }
}
