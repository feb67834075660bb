//! Counts of the outcomes of a route's messages.

/// Counts since the start. A message that was received is in one of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) received: u64,
    pub(crate) acknowledged: u64,
    pub(crate) refused: u64,
    pub(crate) skipped: u64,
    pub(crate) dead_lettered: u64,
    pub(crate) unknown: u64,
    pub(crate) in_flight: u64,
}

impl Counts {
    /// Messages that are in none of the other counts: there is none.
    pub(crate) fn unaccounted(&self) -> i64 {
        let others = self.acknowledged
            + self.refused
            + self.skipped
            + self.dead_lettered
            + self.unknown
            + self.in_flight;
        self.received.wrapping_sub(others).cast_signed()
    }
}
