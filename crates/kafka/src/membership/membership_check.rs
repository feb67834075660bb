//! Detects that the member has joined its group when librdkafka reports no assignment for it.
//!
//! By the newer protocol librdkafka tells of an assignment where it differs from the one before,
//! and a member begins with none (`rd_kafka_cgrp_consumer_is_new_assignment_different`): of a
//! member that gets nothing, for there are more members than partitions, nothing is heard.

use std::time::{Duration, Instant};

use crate::client::Client;
use crate::native;

/// Time between two looks.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);
/// How long a member without a word of its assignment is taken for one that still waits for it:
/// partitions that come with the group's first answer are told once librdkafka has found the names
/// of their topics.
const SETTLE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct MembershipCheck {
    checked_at: Option<Instant>,
    since: Option<Instant>,
}

impl MembershipCheck {
    /// Whether the group has had this member for a while. To be called while nothing is told of an
    /// assignment.
    pub(super) fn is_done(&mut self, client: &Client) -> bool {
        let now = Instant::now();
        if self.checked_at.is_some_and(|checked_at| now - checked_at < CHECK_INTERVAL) {
            return false;
        }
        self.checked_at = Some(now);
        if native::membership(client).is_none() {
            self.since = None;
            return false;
        }
        now - *self.since.get_or_insert(now) >= SETTLE
    }
}
