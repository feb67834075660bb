//! The rate of messages: no more a second than was asked for, and at most a tenth of a second's
//! worth at once after a pause. Pure.

use std::time::{Duration, Instant};

/// The part of a pause that is made up for.
const BURST: Duration = Duration::from_millis(100);

/// Says when the next message may go.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    interval: Duration,
    next: Option<Instant>,
}

impl Pace {
    /// Makes a pace of `rate` messages a second; without a bound if `None`.
    pub(super) fn new(rate: Option<f64>) -> Self {
        let interval = rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(1.0 / rate));
        Self { interval, next: None }
    }

    /// Returns the time of the next message; `None` is at once.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        self.next.filter(|next| *next > now)
    }

    /// A message goes.
    pub(super) fn handle_sent(&mut self, now: Instant) {
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let next = self.next.unwrap_or(now).max(earliest);
        self.next = next.checked_add(self.interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages that may go in the milliseconds from `from` on, looking every millisecond.
    fn sent(pace: &mut Pace, start: Instant, from: u64, millis: u64) -> usize {
        let mut count = 0;
        for milli in from..from + millis {
            let now = start + Duration::from_millis(milli);
            while pace.due(now).is_none() && count < 100_000 {
                pace.handle_sent(now);
                count += 1;
            }
        }
        count
    }

    #[test]
    fn as_many_as_asked_for() {
        for (rate, millis, expected) in
            [(1_000.0, 1_000, 1_000), (10.0, 1_000, 10), (0.5, 4_001, 3), (20_000.0, 500, 10_000)]
        {
            let count = sent(&mut Pace::new(Some(rate)), Instant::now(), 0, millis);
            assert!(count.abs_diff(expected) <= rate as usize / 1_000 + 1, "{rate}: {count}");
        }
    }

    #[test]
    fn a_long_pause_is_not_made_up_for() {
        let (mut pace, start) = (Pace::new(Some(1_000.0)), Instant::now());
        sent(&mut pace, start, 0, 10);
        let count = sent(&mut pace, start, 60_000, 1);
        assert!((100..=102).contains(&count), "{count}");
    }

    #[test]
    fn without_a_rate_nothing_waits() {
        let mut pace = Pace::new(None);
        let now = Instant::now();
        for _ in 0..1_000 {
            assert_eq!(pace.due(now), None);
            pace.handle_sent(now);
        }
    }
}
