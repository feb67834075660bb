//! The time as an argument of decisions.

use std::time::{Duration, Instant};

/// The time by both clocks: one may be set, the other may stand still while a machine sleeps.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Time by the clock that is never set.
    pub now: Instant,
    /// Time in s since the epoch.
    pub wall: i64,
}

/// The end of a revocation by both clocks; whichever comes last. A wall clock that is set forward
/// and back would undo it otherwise.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    /// Time in s since the epoch.
    pub(crate) wall: i64,
    /// The end by the clock that is never set; `None` if it is too far away.
    at: Option<Instant>,
}

impl End {
    pub(crate) fn new(wall: i64, clock: Clock) -> Self {
        let left = u64::try_from(wall.saturating_sub(clock.wall)).unwrap_or(0);
        Self { wall, at: clock.now.checked_add(Duration::from_secs(left)) }
    }

    /// Moves to another end, if that is later.
    pub(crate) fn prolong(&mut self, other: Self) {
        self.wall = self.wall.max(other.wall);
        self.at = self.at.zip(other.at).map(|(one, other)| one.max(other));
    }

    /// The time from now on that passes at the least before it is over, in whole seconds by the
    /// wall clock; `None` if it is too far away.
    pub(crate) fn left(self, clock: Clock) -> Option<Duration> {
        let wall = u64::try_from(self.wall.saturating_sub(clock.wall)).unwrap_or(0);
        let now = self.at?.saturating_duration_since(clock.now);
        Some(now.max(Duration::from_secs(wall)))
    }

    pub(crate) fn is_over(self, clock: Clock) -> bool {
        self.wall <= clock.wall && self.at.is_some_and(|at| at <= clock.now)
    }
}
