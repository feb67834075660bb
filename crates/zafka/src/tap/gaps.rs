//! Gaps: offsets that a subscriber should have seen and did not, found by `prev`.
//!
//! `prev` refers to the partition. It proves a gap only to a subscriber whose prefixes cover every
//! routing frame of that partition: that is certain with the empty prefix, and if the routing frame
//! is the topic. Messages without their place prove nothing.

use std::collections::HashMap;

use super::message::Content;

/// Follows the records of each partition.
#[derive(Debug)]
pub(crate) struct Gaps {
    everything: bool,
    last: HashMap<(String, i32), i64>,
    found: Option<u64>,
}

impl Gaps {
    /// Makes the search for a subscriber with these prefixes.
    pub(crate) fn new(prefixes: &[Vec<u8>]) -> Self {
        let everything = prefixes.iter().any(Vec::is_empty);
        Self { everything, last: HashMap::new(), found: Some(0) }
    }

    /// Returns the number of gaps; `None` if records came of which the prefixes may have left
    /// others out, or messages without their place.
    pub(crate) fn found(&self) -> Option<u64> {
        self.found
    }

    /// Takes note of a message that came with this routing frame.
    pub(crate) fn see(&mut self, routing: &[u8], content: &Content) {
        match content {
            Content::Records(records) => {
                for record in records {
                    let Some(topic) = record.topic.as_deref() else { return self.found = None };
                    self.see_record(routing, topic, record.partition, record.offset, record.prev);
                }
            }
            Content::Carried(carried) => {
                match (carried.topic.as_deref(), carried.partition, carried.offset) {
                    (Some(topic), Some(partition), Some(offset)) if carried.tells_prev => {
                        let partition = i32::try_from(partition).unwrap_or_default();
                        self.see_record(routing, topic, partition, offset, carried.prev);
                    }
                    _ => self.found = None,
                }
            }
            Content::Value { .. } | Content::Other { .. } => self.found = None,
        }
    }

    /// Finds a gap if the record before this one in the partition came after the last one seen.
    /// Without `prev`, or without an earlier record, nothing is known.
    fn see_record(
        &mut self,
        routing: &[u8],
        topic: &str,
        partition: i32,
        offset: i64,
        prev: Option<i64>,
    ) {
        let Some(found) = &mut self.found else { return };
        if !self.everything && routing != topic.as_bytes() {
            self.found = None;
            return;
        }
        let last = self.last.insert((topic.to_owned(), partition), offset);
        if let (Some(last), Some(prev)) = (last, prev)
            && prev > last
        {
            *found += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use zafka_envelope::{Carried, OwnedRecord};

    use super::*;

    fn record(partition: i32, offset: i64, prev: Option<i64>) -> OwnedRecord {
        OwnedRecord {
            topic: Some("orders".to_owned()),
            partition,
            offset,
            timestamp: zafka_envelope::Timestamp::None,
            prev,
            key: None,
            value: None,
            headers: Vec::new(),
        }
    }

    fn see(gaps: &mut Gaps, routing: &[u8], record: OwnedRecord) {
        gaps.see(routing, &Content::Records(vec![record]));
    }

    #[test]
    fn tells_a_gap_from_a_hole_in_the_log() {
        let mut gaps = Gaps::new(&[b"ord".to_vec()]);
        for (record, found) in [
            (record(0, 5, None), 0),
            (record(0, 6, Some(5)), 0),
            (record(1, 90, Some(89)), 0),
            // 7 and 8 are not there for any reader (compacted, aborted).
            (record(0, 9, Some(6)), 0),
            // 10 was there, and was not seen.
            (record(0, 11, Some(10)), 1),
            // A repeat after a restart.
            (record(0, 9, None), 1),
            (record(0, 11, Some(9)), 1),
        ] {
            let offset = record.offset;
            see(&mut gaps, b"orders", record);
            assert_eq!(gaps.found(), Some(found), "after offset {offset}");
        }
    }

    #[test]
    fn prefixes_that_may_leave_records_out_prove_nothing() {
        for (prefixes, found) in [(&["a/", ""][..], Some(1)), (&["a/"], None)] {
            let prefixes: Vec<_> =
                prefixes.iter().map(|prefix| prefix.as_bytes().to_vec()).collect();
            let mut gaps = Gaps::new(&prefixes);
            see(&mut gaps, b"a/1", record(0, 5, None));
            see(&mut gaps, b"a/2", record(0, 7, Some(6)));
            see(&mut gaps, b"orders", record(1, 8, None));
            assert_eq!(gaps.found(), found, "{prefixes:?}");
        }
    }

    #[test]
    fn templates_tell_gaps_if_they_carry_the_place() {
        let carried = |prev, offset| Carried {
            topic: Some("orders".to_owned()),
            partition: Some(0),
            offset: Some(offset),
            tells_prev: true,
            prev,
            ..Carried::default()
        };
        let content = |carried| Content::Carried(Box::new(carried));
        let mut gaps = Gaps::new(&[Vec::new()]);
        gaps.see(b"x", &content(carried(None, 5)));
        gaps.see(b"x", &content(carried(Some(6), 7)));
        assert_eq!(gaps.found(), Some(1));
        gaps.see(b"x", &content(Carried { tells_prev: false, ..carried(None, 8) }));
        assert_eq!(
            gaps.found(),
            None,
            "an offset alone does not tell a gap from a hole in the log"
        );
        let mut gaps = Gaps::new(&[Vec::new()]);
        gaps.see(b"x", &Content::Value { topic: "x".into(), value: "v".into() });
        assert_eq!(gaps.found(), None);
    }
}
