//! Gaps: offsets that a subscriber should have seen and did not, told by `prev`.
//!
//! `prev` refers to the partition. It proves a gap only to a subscriber whose prefixes cover every routing frame of that
//! partition: that is certain with the empty prefix, and where the routing frame is the topic.

use std::collections::HashMap;

use zafka_envelope::OwnedRecord;

/// Follows the records of each partition.
#[derive(Debug)]
pub(crate) struct Gaps {
    everything: bool,
    last: HashMap<(String, i32), i64>,
    found: Option<u64>,
}

impl Gaps {
    /// For a subscriber with these prefixes.
    pub(crate) fn new(prefixes: &[Vec<u8>]) -> Self {
        let everything = prefixes.iter().any(Vec::is_empty);
        Self { everything, last: HashMap::new(), found: Some(0) }
    }

    /// How many gaps were found; `None` where records came of which the prefixes may have left others out.
    pub(crate) fn found(&self) -> Option<u64> {
        self.found
    }

    /// Takes note of a record that came with this routing frame. A gap is found where the record before it in the
    /// partition came after the last one seen; without `prev`, or without an earlier record, nothing can be told.
    pub(crate) fn see(&mut self, routing: &[u8], record: &OwnedRecord) {
        let (Some(topic), Some(found)) = (&record.topic, &mut self.found) else { return };
        if !self.everything && routing != topic.as_bytes() {
            self.found = None;
            return;
        }
        let last = self.last.insert((topic.clone(), record.partition), record.offset);
        if let (Some(last), Some(prev)) = (last, record.prev)
            && prev > last
        {
            *found += 1;
        }
    }
}

#[cfg(test)]
mod tests {
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
            gaps.see(b"orders", &record);
            assert_eq!(gaps.found(), Some(found), "after offset {}", record.offset);
        }
    }

    #[test]
    fn prefixes_that_may_leave_records_out_prove_nothing() {
        for (prefixes, found) in [(&["a/", ""][..], Some(1)), (&["a/"], None)] {
            let prefixes: Vec<_> = prefixes.iter().map(|prefix| prefix.as_bytes().to_vec()).collect();
            let mut gaps = Gaps::new(&prefixes);
            gaps.see(b"a/1", &record(0, 5, None));
            gaps.see(b"a/2", &record(0, 7, Some(6)));
            gaps.see(b"orders", &record(1, 8, None));
            assert_eq!(gaps.found(), found, "{prefixes:?}");
        }
    }
}
