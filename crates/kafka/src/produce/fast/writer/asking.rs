//! Decides when the cluster is asked for leaders, and applies its answers.
#![warn(clippy::disallowed_methods)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::broker::Command;
use super::Writer;
use crate::metadata::{Metadata, MetadataError};
use crate::reason::{Consequence, Reason};

/// Time between two Metadata requests.
pub(super) const REFRESH: Duration = Duration::from_secs(30);
/// Time between two Metadata requests while something is wrong, or while a topic is new.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(300);
pub(super) const ASK_SOON: Duration = Duration::from_millis(20);
/// Answers in a row that changed nothing though something is wrong, before another server is asked.
const UNCHANGED: u32 = 4;

/// Asking for metadata.
pub(super) struct Asking {
    is_asking: bool,
    last: Instant,
    /// The time of the next request.
    due: Instant,
    /// Answers in a row that changed nothing.
    unchanged: u32,
    /// True if another server is to be asked than the one before.
    leaves: bool,
}

/// A Metadata request to be sent.
pub(in super::super) struct MetadataQuestion {
    pub(in super::super) topics: Vec<Arc<str>>,
    /// True if it is to go to another server than the one before.
    pub(in super::super) leaves: bool,
}

impl Asking {
    pub(super) fn new(now: Instant) -> Self {
        Self { is_asking: false, last: now, due: now, unchanged: 0, leaves: false }
    }

    /// Returns the time of the next request; `None` while one is under way.
    pub(super) fn due(&self) -> Option<Instant> {
        (!self.is_asking).then_some(self.due)
    }
}

impl Writer {
    /// Takes an answer to a Metadata request.
    pub(in super::super) fn handle_metadata(
        &mut self,
        answer: Result<Metadata, MetadataError>,
        now: Instant,
    ) {
        self.asking.is_asking = false;
        let metadata = match answer {
            Ok(metadata) => metadata,
            Err(MetadataError::Request(error)) if error.consequence() == Consequence::Stop => {
                self.too_old = Some(error);
                return;
            }
            Err(error) => {
                self.reports.push_back(error.to_string());
                self.connected = Some(false);
                return self.ask_in(ASK_AGAIN);
            }
        };
        self.connected = Some(true);
        self.troubled.retain(|broker, _| metadata.brokers.contains_key(broker));
        self.addresses.clone_from(&metadata.brokers);
        let learned = self.topics.handle_metadata(&metadata, &mut self.buffers, now);
        self.topics.forget_absent();
        for broker in self.topics.held_elsewhere() {
            if let Some(remote) = self.brokers.get(&broker) {
                // The task lives as long as this sender.
                let _ = remote.commands.send(Command::Leave);
            }
        }
        let is_wrong = learned.ask_again || self.trouble().is_some();
        let asking = &mut self.asking;
        asking.unchanged = if is_wrong { asking.unchanged + 1 } else { 0 };
        if learned.is_stale || asking.unchanged >= UNCHANGED {
            (asking.unchanged, asking.leaves) = (0, true);
        }
        if is_wrong {
            self.ask_in(ASK_AGAIN);
        }
    }

    /// Asks for metadata that long after the last request.
    pub(super) fn ask_in(&mut self, pause: Duration) {
        self.asking.due = self.asking.due.min(self.asking.last + pause);
    }

    /// Takes note that the request under way will have no answer.
    pub(in super::super) fn end_question(&mut self) {
        self.asking.is_asking = false;
    }

    /// Returns the Metadata request that is to be sent now, if there is one. No other follows until
    /// it is answered.
    pub(in super::super) fn poll_question(&mut self, now: Instant) -> Option<MetadataQuestion> {
        let asking = &mut self.asking;
        if asking.is_asking || now < asking.due {
            return None;
        }
        (asking.is_asking, asking.last, asking.due) = (true, now, now + REFRESH);
        let leaves = std::mem::take(&mut asking.leaves);
        Some(MetadataQuestion { topics: self.topics.names(), leaves })
    }
}
