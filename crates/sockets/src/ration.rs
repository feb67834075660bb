//! Rations: what a peer may ask of us is bounded in time, so that one that asks without end costs
//! the others little.
//!
//! Plain state machines; the time is an argument.

use std::time::{Duration, Instant};

/// Input bytes that count as one change of a subscription.
const BYTES_PER_TOKEN: usize = 64;
/// Changes of a peer's subscriptions that are free of the socket's ration: so that many which ask
/// much do not keep one which asks little waiting.
const FREE_OF_SOCKET: u64 = 256;

/// A bucket of tokens that fills up steadily. It may be overdrawn once, and then has to be waited
/// for.
#[derive(Debug)]
pub(crate) struct Bucket {
    capacity: f64,
    per_second: f64,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// A full one.
    pub(crate) fn new(capacity: u32, per_second: u32, now: Instant) -> Self {
        let capacity = f64::from(capacity);
        Self { capacity, per_second: f64::from(per_second), tokens: capacity, at: now }
    }

    /// Takes tokens. Returns how long to wait before the next are taken.
    pub(crate) fn take(&mut self, tokens: u64, now: Instant) -> Duration {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.tokens = (self.tokens + since * self.per_second).min(self.capacity) - tokens as f64;
        if self.tokens >= 0.0 {
            return Duration::ZERO;
        }
        Duration::try_from_secs_f64(-self.tokens / self.per_second).unwrap_or(Duration::MAX)
    }
}

/// The requests of one peer so far.
#[derive(Debug)]
pub(crate) struct Ration {
    bucket: Bucket,
    changes: u64,
    until: Option<Instant>,
}

impl Ration {
    /// A ration that allows `burst` changes at once and so many more in each second.
    pub(crate) fn new(burst: u32, per_second: u32, now: Instant) -> Self {
        Self { bucket: Bucket::new(burst, per_second, now), changes: 0, until: None }
    }

    /// Counts what the peer asked for by `bytes` of input that held `changes` of its subscriptions.
    /// `socket` is the ration of all peers.
    pub(crate) fn take(&mut self, bytes: usize, changes: u64, socket: &mut Bucket, now: Instant) {
        let tokens = changes.max((bytes / BYTES_PER_TOKEN) as u64);
        let mut wait = self.bucket.take(tokens, now);
        let free = FREE_OF_SOCKET.saturating_sub(self.changes);
        self.changes = self.changes.saturating_add(changes);
        if tokens > free {
            wait = wait.max(socket.take(tokens - free, now));
        }
        self.until = (!wait.is_zero()).then(|| now + wait);
    }

    /// Returns the time at which the peer may be read again, if that is not now.
    pub(crate) fn waits_until(&mut self, now: Instant) -> Option<Instant> {
        self.until.take_if(|until| *until <= now);
        self.until
    }
}

/// Lines of a log of which at most so many are written in a second; those between are counted.
#[derive(Debug, Default)]
pub struct Lines<const PER_SECOND: u32 = 10> {
    second: Option<Instant>,
    written: u32,
    left_out: u64,
}

impl<const PER_SECOND: u32> Lines<PER_SECOND> {
    /// Returns the number of lines that were left out before this one; `None` if it is not to be
    /// written.
    pub fn next(&mut self, now: Instant) -> Option<u64> {
        if self
            .second
            .is_none_or(|second| now.saturating_duration_since(second) >= Duration::from_secs(1))
        {
            self.second = Some(now);
            self.written = 0;
        }
        if self.written == PER_SECOND {
            self.left_out += 1;
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn a_bucket_gives_what_it_holds_and_fills_up() {
        let start = Instant::now();
        let mut bucket = Bucket::new(100, 10, start);
        for (at, tokens, wait) in [
            (0, 100, 0),
            (0, 10, 1000),
            (1000, 1, 100),
            (2000, 0, 0),
            // It holds no more than its capacity, however long it fills.
            (100_000, 110, 1000),
            // A clock that goes back adds nothing.
            (99_000, 10, 2000),
        ] {
            assert_eq!(bucket.take(tokens, start + ms(at)), ms(wait), "{tokens} after {at} ms");
        }
    }

    #[test]
    fn a_peer_waits_for_its_own_ration_and_beyond_a_few_changes_for_that_of_the_socket() {
        let start = Instant::now();
        let mut socket = Bucket::new(1000, 100, start);
        let mut greedy = Ration::new(10_000, 1000, start);
        greedy.take(0, 1500, &mut socket, start);
        assert_eq!(
            greedy.waits_until(start),
            Some(start + ms(2440)),
            "244 more than the socket's thousand"
        );
        assert_eq!(greedy.waits_until(start + ms(2440)), None);
        let mut modest = Ration::new(10_000, 1000, start);
        modest.take(5000, 256, &mut socket, start);
        assert_eq!(modest.waits_until(start), None);
        modest.take(0, 1, &mut socket, start);
        assert!(modest.waits_until(start).is_some());
        // Bytes that say nothing count too.
        let mut noisy = Ration::new(100, 10, start);
        let mut plenty = Bucket::new(u32::MAX, 1, start);
        noisy.take(64 * 110, 0, &mut plenty, start);
        assert_eq!(noisy.waits_until(start), Some(start + ms(1000)));
    }

    #[test]
    fn lines_beyond_ten_a_second_are_counted() {
        let start = Instant::now();
        let mut lines = Lines::<10>::default();
        for _ in 0..10 {
            assert_eq!(lines.next(start), Some(0));
        }
        assert_eq!((lines.next(start), lines.next(start + ms(999))), (None, None));
        assert_eq!(lines.next(start + ms(1000)), Some(2));
        assert_eq!(lines.next(start + ms(1000)), Some(0));
    }
}
