//! Decides when the cluster is asked for leaders, and applies its answers.
#![warn(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use super::broker::Command;
use super::{Event, Fast};
use crate::metadata::{Metadata, MetadataError, MetadataHandle};
use crate::reason::{Consequence, Reason};

/// Time between two Metadata requests.
pub(super) const REFRESH: Duration = Duration::from_secs(30);
/// Time between two Metadata requests while something is wrong, or while a topic is new.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(300);
pub(super) const ASK_SOON: Duration = Duration::from_millis(20);
/// Answers in a row that changed nothing though something is wrong, before another server is asked.
pub(super) const UNCHANGED: u32 = 4;
/// Asking for metadata.
pub(super) struct Asking {
    /// The client; `None` while a request is under way.
    pub(super) client: Option<MetadataHandle>,
    pub(super) last: Instant,
    /// The time of the next request.
    pub(super) due: Instant,
    /// Answers in a row that changed nothing.
    pub(super) unchanged: u32,
}

impl Fast {
    /// Takes an answer to a Metadata request.
    pub(super) fn told(&mut self, answer: Result<Metadata, MetadataError>, now: Instant) {
        let metadata = match answer {
            Ok(metadata) => metadata,
            Err(MetadataError::Request(error)) if error.consequence() == Consequence::Stop => {
                self.too_old = Some(error);
                return;
            }
            Err(error) => {
                self.reporter.report(&error.to_string());
                self.set_connected(false);
                return self.ask_in(ASK_AGAIN);
            }
        };
        self.set_connected(true);
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
        self.asking.unchanged = if is_wrong { self.asking.unchanged + 1 } else { 0 };
        if (learned.is_stale || self.asking.unchanged >= UNCHANGED)
            && let Some(client) = &mut self.asking.client
        {
            self.asking.unchanged = 0;
            client.leave();
        }
        if is_wrong {
            self.ask_in(ASK_AGAIN);
        }
    }

    /// Asks for metadata that long after the last request.
    pub(super) fn ask_in(&mut self, pause: Duration) {
        self.asking.due = self.asking.due.min(self.asking.last + pause);
    }

    pub(super) fn ask(&mut self) {
        if self.now < self.asking.due {
            return;
        }
        let Some(mut client) = self.asking.client.take() else { return };
        self.asking.last = self.now;
        self.asking.due = self.now + REFRESH;
        let topics = self.topics.names();
        let tell = self.tell.clone();
        let asking = async move {
            let answer = client.ask(&topics).await;
            // The receiver ends this task before it is dropped.
            let _ = tell.send(Event::Metadata(client, answer));
        };
        self.tasks.spawn_on(asking, &self.runtime);
    }
}
