//! The times at which a key is enrolled, and again. Pure.

use std::time::{Duration, Instant};

use super::answer::{Enrolled, Refused};

/// Time between two renewals at the most: a relay that was restarted knows no leases.
const RENEWAL: Duration = Duration::from_secs(60);
/// Time between two renewals at the least.
const PAUSE: Duration = Duration::from_secs(2);
/// Time in which an answer has to come.
const ANSWER: Duration = Duration::from_secs(10);

/// The fate of a lease once it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// It is given once.
    Once,
    /// It is renewed for as long as the program runs.
    Keep,
}

/// The effect of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It is tried again.
    Again,
    /// No trying would help.
    End,
}

/// The state of an enrolment.
#[derive(Debug)]
pub(super) struct Schedule {
    mode: Mode,
    is_connected: bool,
    was_enrolled: bool,
    /// The number of commands that were sent.
    sent: u64,
    /// The time in which the answer to the last of them has to come.
    answer_by: Option<Instant>,
    /// The time of the next one, once there is a connection.
    next: Instant,
}

impl Schedule {
    pub(super) fn new(mode: Mode, now: Instant) -> Self {
        let (is_connected, was_enrolled) = (false, false);
        Self { mode, is_connected, was_enrolled, sent: 0, answer_by: None, next: now }
    }

    /// A connection is there: it may be to a relay that knows nothing of the key.
    pub(super) fn handle_connected(&mut self, now: Instant) {
        (self.is_connected, self.answer_by, self.next) = (true, None, now);
    }

    pub(super) fn handle_disconnected(&mut self) {
        (self.is_connected, self.answer_by) = (false, None);
    }

    /// Returns true if an answer has not come in time.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.answer_by.is_some_and(|by| now >= by)
    }

    /// Returns the id of a command if one is to be sent now.
    pub(super) fn poll_command(&mut self, now: Instant) -> Option<String> {
        if self.is_overdue(now) {
            (self.answer_by, self.next) = (None, now);
        }
        if !self.is_connected || self.answer_by.is_some() || now < self.next {
            return None;
        }
        self.sent += 1;
        self.answer_by = Some(now + ANSWER);
        Some(self.sent.to_string())
    }

    /// Returns the time at which [`Self::poll_command`] may have one.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.is_connected.then(|| self.answer_by.unwrap_or(self.next))
    }

    /// The key is enrolled. Returns true unless that answers another command than the last.
    pub(super) fn handle_enrolled(&mut self, enrolled: &Enrolled, now: Instant) -> bool {
        if !self.is_asked(Some(&enrolled.id)) {
            return false;
        }
        self.was_enrolled = true;
        self.settle(now + (enrolled.left / 2).clamp(PAUSE, RENEWAL));
        true
    }

    /// The command was refused. `None` if another one than the last was.
    pub(super) fn handle_refused(&mut self, refused: &Refused, now: Instant) -> Option<Next> {
        if !self.is_asked(refused.id.as_deref()) {
            return None;
        }
        // A key that was enrolled gets other tokens, which may be good.
        let keeps = self.mode == Mode::Keep && self.was_enrolled;
        let pause = match refused.retry_after {
            Some(pause) => pause.max(PAUSE),
            None if keeps => RENEWAL,
            None => return Some(Next::End),
        };
        self.settle(now + pause);
        Some(Next::Again)
    }

    /// The lease ends soon.
    pub(super) fn handle_ends_soon(&mut self, now: Instant) {
        self.next = self.next.min(now + PAUSE);
    }

    /// The command was sent, for which a token was waited for: the time for its answer begins.
    pub(super) fn handle_sent(&mut self, now: Instant) {
        self.answer_by = Some(now + ANSWER);
    }

    /// The command could not be sent: there was no token, or no room.
    pub(super) fn handle_unsent(&mut self, now: Instant) {
        self.settle(now + PAUSE);
    }

    /// Returns true if this answers the last command; one without an id can only be that.
    fn is_asked(&self, id: Option<&str>) -> bool {
        self.answer_by.is_some() && id.is_none_or(|id| id == self.sent.to_string())
    }

    fn settle(&mut self, next: Instant) {
        (self.answer_by, self.next) = (None, next);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;

    #[allow(clippy::disallowed_methods, reason = "there is no other way to make an instant")]
    fn start() -> Instant {
        Instant::now()
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn enrolled(id: &str, left: u64) -> Enrolled {
        Enrolled { id: id.to_owned(), left: seconds(left), fields: Map::new() }
    }

    fn refused(id: &str, retry_after: Option<u64>) -> Refused {
        let (id, retry_after) = (Some(id.to_owned()), retry_after.map(seconds));
        Refused { id, retry_after, fields: Map::new() }
    }

    #[test]
    fn a_lease_is_renewed_before_its_end() {
        for (left, next) in [(3600, 60), (60, 30), (3, 2), (0, 2)] {
            let now = start();
            let mut schedule = Schedule::new(Mode::Keep, now);
            assert_eq!(schedule.poll_command(now), None, "it is not connected");
            schedule.handle_connected(now);
            assert_eq!(schedule.poll_command(now).as_deref(), Some("1"));
            assert_eq!(schedule.poll_command(now), None, "the answer is waited for");
            assert!(schedule.handle_enrolled(&enrolled("1", left), now));
            assert_eq!(schedule.poll_timeout(), Some(now + seconds(next)));
            assert_eq!(schedule.poll_command(now + seconds(next)).as_deref(), Some("2"));
            assert!(!schedule.handle_enrolled(&enrolled("1", left), now), "a late answer");
        }
    }

    #[test]
    fn a_connection_that_comes_again_asks_again() {
        let now = start();
        let mut schedule = Schedule::new(Mode::Keep, now);
        schedule.handle_connected(now);
        schedule.poll_command(now);
        schedule.handle_enrolled(&enrolled("1", 3600), now);
        schedule.handle_disconnected();
        assert_eq!(schedule.poll_timeout(), None);
        assert_eq!(schedule.poll_command(now + seconds(100)), None);
        schedule.handle_connected(now + seconds(100));
        assert_eq!(schedule.poll_command(now + seconds(100)).as_deref(), Some("2"));
        // No answer comes.
        assert_eq!(schedule.poll_timeout(), Some(now + seconds(110)));
        assert_eq!(schedule.poll_command(now + seconds(110)).as_deref(), Some("3"));
        schedule.handle_enrolled(&enrolled("3", 3600), now + seconds(111));
        schedule.handle_ends_soon(now + seconds(112));
        assert_eq!(schedule.poll_timeout(), Some(now + seconds(114)));
        schedule.poll_command(now + seconds(114));
        schedule.handle_unsent(now + seconds(114));
        assert_eq!(schedule.poll_timeout(), Some(now + seconds(116)));
    }

    #[test]
    fn an_answer_has_its_time_from_the_command_on_that_was_sent() {
        let now = start();
        let mut schedule = Schedule::new(Mode::Keep, now);
        schedule.handle_connected(now);
        schedule.poll_command(now);
        // The token has taken its time.
        schedule.handle_sent(now + seconds(15));
        assert!(!schedule.is_overdue(now + seconds(16)));
        assert_eq!(schedule.poll_command(now + seconds(24)), None);
        assert!(schedule.handle_enrolled(&enrolled("1", 60), now + seconds(24)));
    }

    #[test]
    fn refusals() {
        use Mode::{Keep, Once};
        for (mode, before, retry_after, outcome, next) in [
            (Once, false, None, Next::End, None),
            (Keep, false, None, Next::End, None),
            (Keep, true, None, Next::Again, Some(60)),
            (Once, false, Some(5), Next::Again, Some(5)),
            (Keep, true, Some(0), Next::Again, Some(2)),
        ] {
            let now = start();
            let mut schedule = Schedule::new(mode, now);
            schedule.handle_connected(now);
            let mut id = schedule.poll_command(now).unwrap();
            if before {
                schedule.handle_enrolled(&enrolled(&id, 1), now);
                schedule.handle_ends_soon(now);
                id = schedule.poll_command(now + PAUSE).unwrap();
            }
            assert_eq!(schedule.handle_refused(&refused("7", retry_after), now), None);
            assert_eq!(schedule.handle_refused(&refused(&id, retry_after), now), Some(outcome));
            if let Some(next) = next {
                assert_eq!(schedule.poll_timeout(), Some(now + seconds(next)));
            }
        }
    }
}
