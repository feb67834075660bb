//! Tells that a group has this member, where nothing else does.
//!
//! By the newer protocol librdkafka tells of an assignment where it differs from the one before,
//! and a member begins with none (`rd_kafka_cgrp_consumer_is_new_assignment_different`): of a
//! member that gets nothing, for there are more members than partitions, nothing is heard.

use std::time::{Duration, Instant};

use crate::client::Client;
use crate::native;

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(200);
/// How long a member without a word of its assignment is taken for one that still waits for it:
/// partitions that come with the group's first answer are told once librdkafka has found the names
/// of their topics.
const SETTLE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Joining {
    looked: Option<Instant>,
    since: Option<Instant>,
}

impl Joining {
    /// Whether the group has had this member for a while. To be called while nothing is told of an
    /// assignment.
    pub(super) fn is_done(&mut self, client: &Client) -> bool {
        let now = Instant::now();
        if self.looked.is_some_and(|looked| now - looked < LOOK) {
            return false;
        }
        self.looked = Some(now);
        if native::membership(client).is_none() {
            self.since = None;
            return false;
        }
        now - *self.since.get_or_insert(now) >= SETTLE
    }
}
