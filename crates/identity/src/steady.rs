//! A wall clock that is not set back.
//!
//! Tokens are judged by the wall clock, which can be set. If it is set back, a token that has ended
//! would hold again, and a lease by it would be longer than the token. So the time since the start,
//! by the other clock, is the least that is believed. A clock that is set forward is believed: what
//! has ended by it keeps peers out, and lets none in.

use std::time::Duration;

use crate::clock::Clock;

/// Both clocks at the start, by which the wall clock is judged from then on.
#[derive(Clone, Copy, Debug)]
pub struct SteadyClock {
    start: Clock,
}

impl SteadyClock {
    /// Believes the clocks as they are now.
    pub fn new(start: Clock) -> Self {
        Self { start }
    }

    /// The time by both clocks, of which the wall clock is not behind what has passed.
    pub fn judge(&self, clock: Clock) -> Clock {
        Clock { wall: clock.wall.max(self.least(clock)), ..clock }
    }

    /// Returns the time by which the wall clock was set back since the start, as far as it was.
    pub fn behind(&self, clock: Clock) -> Duration {
        let behind = self.least(clock).saturating_sub(clock.wall);
        Duration::from_secs(u64::try_from(behind).unwrap_or(0))
    }

    fn least(&self, clock: Clock) -> i64 {
        let passed = clock.now.saturating_duration_since(self.start.now).as_secs();
        self.start.wall.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn the_wall_clock_is_believed_unless_it_is_behind() {
        #[allow(clippy::disallowed_methods, reason = "there is no other way to make an instant")]
        let start = Clock { now: Instant::now(), wall: 1_000_000 };
        let steady = SteadyClock::new(start);
        for (passed, wall, judged, back) in [
            (0, 0, 0, 0),
            (100, 100, 100, 0),
            (100, 101, 101, 0),
            (100, 3700, 3700, 0),
            // It was set forward and is right again.
            (200, 200, 200, 0),
            (100, 99, 100, 1),
            (100, -3500, 100, 3600),
            (100, -1_000_000, 100, 1_000_100),
            (4000, 400, 4000, 3600),
        ] {
            let now = start.now + Duration::from_secs(passed);
            let clock = Clock { now, wall: start.wall + wall };
            assert_eq!(steady.judge(clock).wall, start.wall + judged, "{passed} {wall}");
            assert_eq!(steady.judge(clock).now, now);
            assert_eq!(steady.behind(clock).as_secs(), back, "{passed} {wall}");
        }
    }
}
