//! A broker as the route's task sees it: what is under way there, and what is ready to be sent.
#![warn(clippy::disallowed_methods)]

use std::collections::VecDeque;
use std::time::Instant;

use tokio::sync::mpsc::UnboundedSender;

use super::super::partition::{Buffers, Fill};
use super::Key;
use super::broker::Command;
use super::request::Item;
use super::topics::Topics;

/// Requests in flight at a broker below which anything is worth another one, and below which full
/// batches are. A broker works on one request of a connection at a time.
const EAGER: usize = 2;
const WINDOW: usize = 5;
/// Size of a request in bytes from which on it takes no more batches.
const REQUEST_BYTES: usize = 4 << 20;

/// A broker's task.
pub(super) struct Remote {
    pub(super) address: String,
    pub(super) serial: u64,
    pub(super) commands: UnboundedSender<Command>,
    /// Produce requests.
    pub(super) in_flight: usize,
    /// Partitions that have something for it.
    pub(super) ready: VecDeque<Key>,
}

impl Remote {
    /// Sends requests as long as there is something worth one.
    pub(super) fn send_ready(
        &mut self,
        id: i32,
        topics: &mut Topics,
        buffers: &mut Buffers,
        now: Instant,
    ) {
        loop {
            let fill = match self.in_flight {
                ..EAGER => Fill::Any,
                EAGER..WINDOW => Fill::Full,
                WINDOW.. => return,
            };
            let mut items = Vec::new();
            let mut bytes = 0;
            for _ in 0..self.ready.len() {
                let Some(key) = self.ready.pop_front() else { break };
                let Some(slot) = topics.slot(key) else { continue };
                let is_here = slot.partition.broker() == Some(id);
                let may_join = is_here && bytes < REQUEST_BYTES;
                let request = may_join.then(|| slot.partition.poll_request(now, fill, buffers));
                let has_more = is_here && slot.partition.has_unsent();
                slot.is_ready = has_more;
                if has_more {
                    self.ready.push_back(key);
                } else if !is_here {
                    topics.touch(key);
                }
                if let Some(Some(request)) = request
                    && let Some((topic, topic_id)) = topics.name_of(key)
                {
                    bytes += request.bytes.len();
                    let partition = i32::try_from(key.partition).unwrap_or(i32::MAX);
                    let (number, bytes) = (request.number, request.bytes);
                    items.push(Item { key, number, topic, topic_id, partition, bytes });
                }
            }
            if items.is_empty() {
                return;
            }
            items.sort_by(|a, b| a.topic.cmp(&b.topic));
            self.in_flight += 1;
            // The task lives as long as this sender.
            let _ = self.commands.send(Command::Produce(items));
        }
    }
}
