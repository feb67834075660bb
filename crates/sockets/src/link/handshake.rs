//! The deadline of a handshake, which is shorter while others wait for theirs.

use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;

/// Longest time for a connection in its handshake while another one waits for its place.
const CROWDED: Duration = Duration::from_secs(1);
/// Time between two looks at whether one waits.
const LOOK: Duration = Duration::from_millis(250);

/// A handshake under way.
#[derive(Debug)]
pub(super) struct Handshake {
    begun: Instant,
    timeout: Duration,
    next: Instant,
    /// Its place among the connections in their handshake; none of one that we made.
    slot: Option<OwnedSemaphorePermit>,
}

impl Handshake {
    pub(super) fn new(timeout: Duration, slot: Option<OwnedSemaphorePermit>, now: Instant) -> Self {
        let first = if slot.is_some() { CROWDED.min(timeout) } else { timeout };
        Self { begun: now, timeout, next: now + first, slot }
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        self.next
    }

    /// Returns an error, with the time that passed, if the connection is to be given up. `crowded`:
    /// all places are taken.
    pub(super) fn handle_timeout(&mut self, crowded: bool, now: Instant) -> Result<(), Duration> {
        let elapsed = now.saturating_duration_since(self.begun);
        if elapsed >= self.timeout {
            return Err(self.timeout);
        }
        if crowded && self.slot.is_some() && elapsed >= CROWDED {
            return Err(CROWDED);
        }
        self.next = (now + LOOK).min(self.begun + self.timeout);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;

    #[test]
    fn the_deadline_is_shorter_while_all_places_are_taken() {
        let places = Arc::new(Semaphore::new(2));
        let start = Instant::now();
        let ms = |count| start + Duration::from_millis(count);
        let timeout = Duration::from_secs(5);
        let begin = |timeout| {
            let slot = Arc::clone(&places).try_acquire_owned().unwrap();
            Handshake::new(timeout, Some(slot), start)
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
