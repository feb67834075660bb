//! The deadline of a handshake, which is shorter while others wait for theirs.

use std::time::{Duration, Instant};

use super::seats::{Seat, Source};

/// Longest time for a connection in its handshake while others need its place.
const CROWDED: Duration = Duration::from_secs(1);
/// Time between two looks at whether they do.
const LOOK: Duration = Duration::from_millis(250);

/// A handshake under way.
#[derive(Debug)]
pub(super) struct Handshake {
    begun: Instant,
    timeout: Duration,
    next: Instant,
    /// Its place among the connections in their handshake; none of one that we made.
    place: Option<Seat>,
}

impl Handshake {
    pub(super) fn new(timeout: Duration, place: Option<Seat>, now: Instant) -> Self {
        let first = if place.is_some() { CROWDED.min(timeout) } else { timeout };
        Self { begun: now, timeout, next: now + first, place }
    }

    /// Returns true if others need its place.
    pub(super) fn is_needed(&self) -> bool {
        self.place.as_ref().is_some_and(Seat::is_needed)
    }

    /// The origin of the connection; none of one that we made.
    pub(super) fn source(&self) -> Option<Source> {
        self.place.as_ref().map(Seat::source)
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        self.next
    }

    /// Returns an error, with the time that passed, if the connection is to be given up.
    /// `is_needed`: others need its place.
    pub(super) fn handle_timeout(&mut self, is_needed: bool, now: Instant) -> Result<(), Duration> {
        let elapsed = now.saturating_duration_since(self.begun);
        if elapsed >= self.timeout {
            return Err(self.timeout);
        }
        if is_needed && self.place.is_some() && elapsed >= CROWDED {
            return Err(CROWDED);
        }
        self.next = (now + LOOK).min(self.begun + self.timeout);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::seats::Seats;
    use super::*;

    #[test]
    fn the_deadline_is_shorter_while_others_need_the_place() {
        let places = Seats::new(2, 0);
        let start = Instant::now();
        let ms = |count| start + Duration::from_millis(count);
        let timeout = Duration::from_secs(5);
        let begin = |timeout| {
            let place = places.try_take(Source::Unknown).unwrap();
            Handshake::new(timeout, Some(place), start)
        };
        let mut waits = begin(timeout);
        assert_eq!(waits.poll_timeout(), ms(1000));
        assert_eq!(waits.handle_timeout(false, ms(1000)), Ok(()));
        assert_eq!(waits.poll_timeout(), ms(1250));
        assert_eq!(waits.handle_timeout(true, ms(1250)), Err(CROWDED));
        assert_eq!(waits.handle_timeout(false, ms(4900)), Ok(()));
        assert_eq!(waits.poll_timeout(), ms(5000));
        assert_eq!(waits.handle_timeout(false, ms(5000)), Err(timeout));
        let short = begin(Duration::from_millis(200));
        assert_eq!(short.poll_timeout(), ms(200));
        let mut ours = Handshake::new(timeout, None, start);
        assert_eq!(ours.poll_timeout(), ms(5000));
        assert_eq!(ours.handle_timeout(true, ms(2000)), Ok(()));
    }
}
