//! Gaps: offsets that a subscriber should have seen and did not, told by `prev`.

use std::collections::HashMap;

use zafka_envelope::OwnedRecord;

/// Follows the records of each partition.
#[derive(Debug, Default)]
pub(crate) struct Gaps {
    last: HashMap<(String, i32), i64>,
    found: u64,
}

impl Gaps {
    /// How many gaps were found.
    pub(crate) fn found(&self) -> u64 {
        self.found
    }

    /// Takes note of a record. A gap is found where the record before it in the partition came after the last one
    /// seen; without `prev`, or without an earlier record, nothing can be told.
    pub(crate) fn see(&mut self, record: &OwnedRecord) {
        let Some(topic) = &record.topic else { return };
        let last = self.last.insert((topic.clone(), record.partition), record.offset);
        if let (Some(last), Some(prev)) = (last, record.prev)
            && prev > last
        {
            self.found += 1;
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
        let mut gaps = Gaps::default();
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
            gaps.see(&record);
            assert_eq!(gaps.found(), found, "after offset {}", record.offset);
        }
    }
}
