//! The end of all topics: records that were not sent go to another producer.
#![warn(clippy::disallowed_methods)]

use std::sync::Arc;

use super::super::super::partition::each_record;
use super::super::super::{OutboundRecord, Ticket};
use super::Topics;
use crate::records::{NewRecord, ProducerId};

impl Topics {
    /// Gives up everything; records that are known not to be written are handed out, in the order
    /// of each partition.
    pub(in super::super) fn hand_over(
        &mut self,
        reason: &str,
        mut f: impl FnMut(Ticket, &OutboundRecord<'_>),
    ) {
        for topic in self.topics.iter_mut().flatten() {
            let name = Arc::clone(&topic.name);
            for (index, slot) in (0..).zip(&mut topic.slots) {
                for (bytes, tickets) in slot.partition.hand_over(reason) {
                    let mut tickets = tickets.iter();
                    each_record(bytes, |record| {
                        if let Some(ticket) = tickets.next() {
                            f(ticket, &outbound(&name, Some(index), record));
                        }
                    });
                }
                self.failed.extend(std::iter::from_fn(|| slot.partition.poll_delivery()));
            }
            for waiting in topic.waiting.drain(..) {
                let mut entries = waiting.entries.into_iter();
                each_record(waiting.builder.finish(None).0.seal(ProducerId::NONE, -1), |record| {
                    if let Some((ticket, partition)) = entries.next() {
                        f(ticket, &outbound(&name, partition, record));
                    }
                });
            }
        }
        self.topics.clear();
        self.names.clear();
        self.touched.clear();
        self.placed.clear();
        self.last = None;
        self.unknown = 0;
    }
}

fn outbound<'a>(
    topic: &'a str,
    partition: Option<i32>,
    record: &'a NewRecord<'a>,
) -> OutboundRecord<'a> {
    OutboundRecord {
        topic,
        partition,
        timestamp: record.timestamp,
        key: record.key,
        value: record.value,
        headers: record.headers,
    }
}
