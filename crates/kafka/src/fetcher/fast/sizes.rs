//! The number of bytes that a request asks for.

use std::time::Duration;

/// The least of an answer: it fits the second-level cache of a core, where it is copied and walked
/// faster.
const ANSWER_BYTES_MIN: i32 = 512 << 10;
/// The most of an answer, of which a few are held in memory.
const ANSWER_BYTES_MAX: i32 = 2 << 20;
/// Bytes that a fast network carries in a microsecond: 1 GB/s.
const BYTES_PER_MICROSECOND: i64 = 1000;
/// Bytes that an answer has for each of many partitions: a broker looks at all of them for each
/// answer.
const BYTES_PER_PARTITION: i64 = 16 << 10;

/// Sizes in bytes, which only a batch that stands first may exceed (KIP-74).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FetchSizes {
    /// The most of an answer.
    pub(crate) answer: i32,
    /// The most of one partition in it.
    pub(crate) partition: i32,
}

impl FetchSizes {
    /// Returns the sizes for a broker that is so far away. One answer is under way at a time, so it
    /// is at least as large as what the network could carry meanwhile, within the bounds.
    pub(crate) fn for_round_trip(round_trip: Duration) -> Self {
        let micros = i64::try_from(round_trip.as_micros()).unwrap_or(i64::MAX);
        let meanwhile =
            i32::try_from(micros.saturating_mul(BYTES_PER_MICROSECOND)).unwrap_or(i32::MAX);
        let answer = meanwhile.clamp(ANSWER_BYTES_MIN, ANSWER_BYTES_MAX);
        // Two partitions at least have their turn in an answer.
        Self { answer, partition: answer / 2 }
    }

    /// The same with no more than so many bytes, of which there is one at least.
    pub(crate) fn at_most(self, bytes: i32) -> Self {
        let at_most = |size: i32| size.min(bytes).max(1);
        Self { answer: at_most(self.answer), partition: at_most(self.partition) }
    }

    /// The most of an answer if so many partitions are fetched.
    pub(crate) fn answer_for(self, partitions: usize) -> i32 {
        let partitions = i64::try_from(partitions).unwrap_or(i64::MAX);
        let bytes =
            i32::try_from(partitions.saturating_mul(BYTES_PER_PARTITION)).unwrap_or(i32::MAX);
        self.answer.max(bytes.min(ANSWER_BYTES_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_grow_with_the_way_within_bounds() {
        let over = |micros| FetchSizes::for_round_trip(Duration::from_micros(micros));
        assert_eq!(over(0), FetchSizes { answer: 512 << 10, partition: 256 << 10 });
        assert_eq!(over(500), over(0), "less than the least");
        assert_eq!(over(1000), FetchSizes { answer: 1_000_000, partition: 500_000 });
        assert_eq!(over(20_000), FetchSizes { answer: 2 << 20, partition: 1 << 20 });
        assert_eq!(FetchSizes::for_round_trip(Duration::MAX), over(20_000));
    }

    #[test]
    fn answers_grow_with_the_partitions_within_bounds() {
        let [near, far] =
            [0, 2000].map(|micros| FetchSizes::for_round_trip(Duration::from_micros(micros)));
        assert_eq!(
            [1, 32, 64].map(|count| near.answer_for(count)),
            [512 << 10, 512 << 10, 1 << 20]
        );
        assert_eq!([1, 64].map(|count| far.answer_for(count)), [2_000_000; 2]);
        assert_eq!([1000, usize::MAX].map(|count| near.answer_for(count)), [2 << 20; 2]);
    }
}
