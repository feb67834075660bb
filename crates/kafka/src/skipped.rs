//! The offsets of an assignment that were counted as skipped, so that none counts twice.
//!
//! A reset is counted at once. What it skips is delivered later, or not at all: a route that holds
//! a partition has it read again from what it has delivered, and then the log lacks the same
//! offsets once more.

use std::ops::Range;

/// Ranges that are remembered. Many of them lie apart only where many batches are corrupt; of more,
/// the first ones are forgotten, for they are the likeliest to be delivered.
const RANGES: usize = 64;

/// Ranges of offsets that were counted: in their order, and apart from each other.
#[derive(Debug, Default)]
pub(crate) struct SkippedOffsets(Vec<Range<i64>>);

impl SkippedOffsets {
    /// Counts the offsets from `from` to before `to`. Returns how many of them were not counted
    /// yet.
    pub(crate) fn count(&mut self, from: i64, to: i64) -> u64 {
        let (mut joined, mut known) = (from..to, 0);
        if joined.is_empty() {
            return 0;
        }
        self.0.retain(|range| {
            let touches = range.start <= to && from <= range.end;
            if touches {
                known += range.end.min(to) - range.start.max(from);
                joined = joined.start.min(range.start)..joined.end.max(range.end);
            }
            !touches
        });
        let at = self.0.partition_point(|range| range.start < joined.start);
        self.0.insert(at, joined);
        if self.0.len() > RANGES {
            self.0.remove(0);
        }
        u64::try_from(to - from - known).unwrap_or(0)
    }

    /// Forgets what is below `offset`: it is not read again.
    pub(crate) fn forget_below(&mut self, offset: i64) {
        self.0.retain(|range| range.end > offset);
    }

    /// The log is another one from `offset` on.
    pub(crate) fn forget_from(&mut self, offset: i64) {
        self.0.retain_mut(|range| {
            range.end = range.end.min(offset);
            !range.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_offset_counts_once() {
        let mut skipped = SkippedOffsets::default();
        for (from, to, new) in [
            (5, 10, 5),
            (5, 10, 0),
            (7, 9, 0),
            (3, 10, 2),
            (3, 12, 2),
            (20, 22, 2),
            // Over both, and what lies between.
            (0, 30, 19),
            (30, 30, 0),
            (30, 29, 0),
            (30, 31, 1),
        ] {
            assert_eq!(skipped.count(from, to), new, "{from} to {to}");
        }
        assert_eq!((skipped.0.len(), &skipped.0[0]), (1, &(0..31)), "they are one");
    }

    #[test]
    fn what_is_of_another_log_counts_again() {
        let mut skipped = SkippedOffsets::default();
        skipped.count(5, 10);
        skipped.count(20, 30);
        skipped.forget_from(25);
        assert_eq!(skipped.count(20, 30), 5);
        skipped.forget_from(0);
        assert_eq!(skipped.count(20, 30), 10);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut skipped = SkippedOffsets::default();
        for at in 0..100 {
            skipped.count(at * 10, at * 10 + 5);
        }
        assert_eq!(skipped.0.len(), RANGES);
        assert_eq!(skipped.count(990, 995), 0, "the last ones");
        skipped.forget_below(990);
        assert_eq!((skipped.0.len(), &skipped.0[0]), (1, &(990..995)));
        skipped.forget_below(995);
        assert!(skipped.0.is_empty());
    }
}
