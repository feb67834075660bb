//! Messages that a peer does not take: it closes the connection within one, and comes back and does
//! so again, or does not come back. (libzmq does one or the other, by its version, with a message
//! beyond its `ZMQ_MAXMSGSIZE`.)
//!
//! A plain state machine; the time is an argument. What it remembers is bounded.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::ring::HalfWritten;
use crate::wait::{Wait, WaitKind};

/// Times that a peer must have closed the connection within a message before it is reported not to
/// take it, unless no peer is left.
const TIMES: u32 = 3;
/// Size in bytes from which on a message is reported at the first time: a smaller one is more often
/// just the one that a peer was within when it ended.
const LARGE: usize = 64 * 1024;
/// Messages that are remembered.
const KEPT: usize = 16;
/// Time after which a message is forgotten that the peer was not sent again.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// The messages that peers did not take lately.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Vec<Refusal>);

#[derive(Debug)]
struct Refusal {
    host: String,
    message: HalfWritten,
    times: u32,
    /// Time in ms since the epoch.
    since: i64,
    last: Instant,
}

impl Refusal {
    fn is_current(&self, held: bool, now: Instant) -> bool {
        let origin = &self.message.origin;
        let delivered = origin.delivered() >= self.message.position;
        // It comes again under another origin.
        let comes_again = origin.is_withdrawn();
        !delivered && !comes_again && (held || now.saturating_duration_since(self.last) < FORGOTTEN)
    }

    fn is_of(&self, host: &str, message: &HalfWritten) -> bool {
        let Self { message: known, .. } = self;
        self.host == host && (known.size, known.fingerprint) == (message.size, message.fingerprint)
    }
}

impl Refusals {
    /// Takes note of a connection from `host` that its peer ended within a message. `since` is now,
    /// in ms since the epoch. Returns how often, if that is to be logged.
    pub(crate) fn note(
        &mut self,
        host: &str,
        message: HalfWritten,
        now: Instant,
        since: i64,
    ) -> Option<u32> {
        self.0.retain(|refusal| refusal.is_current(true, now));
        if let Some(refusal) = self.0.iter_mut().find(|refusal| refusal.is_of(host, &message)) {
            refusal.times = refusal.times.saturating_add(1);
            (refusal.message, refusal.last) = (message, now);
            return (refusal.times == TIMES).then_some(TIMES);
        }
        if self.0.len() == KEPT
            && let Some(oldest) =
                (0..KEPT).min_by_key(|index| self.0.get(*index).map(|refusal| refusal.last))
        {
            self.0.swap_remove(oldest);
        }
        let told = message.size >= LARGE;
        self.0.push(Refusal { host: host.to_owned(), message, times: 1, since, last: now });
        told.then_some(1)
    }

    /// The messages that are not taken and not delivered. `held`: too few peers are left, so that
    /// they wait for the one that takes them.
    pub(crate) fn waits(&self, held: bool, now: Instant) -> Vec<Wait> {
        let is_refused = |refusal: &&Refusal| {
            (refusal.times >= TIMES || (held && refusal.message.size >= LARGE))
                && refusal.is_current(held, now)
        };
        let refused = self.0.iter().filter(is_refused);
        let wait = |refusal: &Refusal| Wait {
            origin: Some(Arc::clone(&refusal.message.origin)),
            kind: WaitKind::Message,
            reason: format!(
                "the peer has closed the connection within a message of {} bytes, {} times (is its \
                 ZMQ_MAXMSGSIZE smaller?)",
                refusal.message.size, refusal.times
            ),
            peer: Some(refusal.host.clone()),
            since: refusal.since,
        };
        refused.map(wait).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::Origin;

    #[test]
    fn a_message_is_told_of_once_and_waited_for_until_it_is_taken_or_forgotten() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let origin = Origin::new(0);
        let message = |fingerprint| HalfWritten {
            origin: Arc::clone(&origin),
            position: 7,
            size: 100,
            fingerprint,
        };
        let mut refusals = Refusals::default();
        assert_eq!(refusals.note("a", message(1), at(0), 1000), None);
        assert_eq!(refusals.note("a", message(2), at(1), 2000), None, "another message");
        assert_eq!(refusals.note("b", message(1), at(1), 2000), None, "another peer");
        assert_eq!(refusals.note("a", message(1), at(2), 3000), None);
        assert_eq!(refusals.waits(false, at(2)).len(), 0);
        assert_eq!(refusals.note("a", message(1), at(3), 4000), Some(3));
        assert_eq!(refusals.note("a", message(1), at(4), 5000), None, "once");
        let waits = refusals.waits(false, at(4));
        assert_eq!(waits.len(), 1);
        assert_eq!(
            (waits[0].kind, waits[0].peer.as_deref(), waits[0].since),
            (WaitKind::Message, Some("a"), 1000)
        );
        assert!(waits[0].reason.contains("100 bytes"));
        assert_eq!(refusals.waits(false, at(63)).len(), 1);
        assert_eq!(refusals.waits(false, at(64)).len(), 0, "it has not come back");
        origin.deliver(7);
        assert_eq!(refusals.waits(true, at(5)).len(), 0, "somebody took it");
    }

    #[test]
    fn a_large_one_is_told_of_at_once_and_waited_for_if_nobody_is_left() {
        let now = Instant::now();
        let origin = Origin::new(0);
        let message =
            HalfWritten { origin: Arc::clone(&origin), position: 1, size: LARGE, fingerprint: 0 };
        let mut refusals = Refusals::default();
        assert_eq!(refusals.note("a", message, now, 0), Some(1));
        let later = now + 2 * FORGOTTEN;
        assert_eq!((refusals.waits(true, later).len(), refusals.waits(false, later).len()), (1, 0));
        origin.deliver(1);
        assert_eq!(refusals.waits(true, later).len(), 0);
    }

    #[test]
    fn only_the_latest_are_remembered() {
        let start = Instant::now();
        let origin = Origin::new(0);
        let mut refusals = Refusals::default();
        for index in 0..10 * KEPT as u64 {
            let message = HalfWritten {
                origin: Arc::clone(&origin),
                position: 1,
                size: 1,
                fingerprint: index,
            };
            refusals.note("a", message, start + Duration::from_millis(index), 0);
            assert!(refusals.0.len() <= KEPT);
        }
        assert!(refusals.0.iter().all(|refusal| refusal.message.fingerprint >= 9 * KEPT as u64));
    }
}
