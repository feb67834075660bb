//! The time as those see it who decide.

use std::time::Instant;

/// The time by both clocks: one may be set, the other may stand still while a machine sleeps.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// By the clock that is never set.
    pub now: Instant,
    /// In s since the epoch.
    pub wall: i64,
}
