//! Decides when an issuer's keys are fetched, and for how long they hold.
//!
//! They are fetched at the start, every few minutes, and soon after a token has named one that is
//! not known. A key that the provider withdraws is gone with the next answer. While the provider is
//! away the last keys hold, but not for ever. Without keys no peer is let in.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::token::KeySet;

/// Time between two fetches, if the answer does not say for how long it holds.
const REFRESH: Duration = Duration::from_secs(300);
/// The least and the most of that, regardless of the answer.
const REFRESH_WITHIN: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3600));
/// The least time between the beginnings of two fetches for the sake of keys that are not known: a
/// flood of such tokens is not to become a flood at the provider.
const UNKNOWN_KEY_PAUSE: Duration = Duration::from_secs(30);
/// The first and the longest pause after a fetch that failed.
const RETRY_WITHIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Time for which keys hold while the provider is away.
const HOLD: Duration = Duration::from_secs(24 * 3600);

/// The keys of one issuer, and when they are fetched next.
#[derive(Debug)]
pub struct KeyRefresh {
    keys: Arc<KeySet>,
    /// The time when the last answer came.
    fetched: Option<Instant>,
    /// The time when the last fetch began.
    asked: Option<Instant>,
    is_asking: bool,
    /// The next regular fetch.
    due: Instant,
    /// True if an unknown key was named since the last fetch began.
    is_wanted: bool,
    /// Fetches that failed since the last answer.
    failures: u32,
}

impl KeyRefresh {
    /// No keys are known, and they are to be fetched at once.
    pub fn new(now: Instant) -> Self {
        Self {
            keys: Arc::default(),
            fetched: None,
            asked: None,
            is_asking: false,
            due: now,
            is_wanted: false,
            failures: 0,
        }
    }

    /// The keys that hold now.
    pub fn keys(&self) -> &Arc<KeySet> {
        &self.keys
    }

    /// Takes note of a token whose key is not known.
    pub fn handle_unknown_key(&mut self) {
        self.is_wanted = true;
    }

    /// Decides whether to fetch now. If so the fetch has begun: one at a time.
    pub fn poll_fetch(&mut self, now: Instant) -> bool {
        let is_due = self.next_fetch().is_some_and(|next| next <= now);
        if is_due {
            (self.is_asking, self.is_wanted, self.asked) = (true, false, Some(now));
        }
        is_due
    }

    /// Returns the time at which something is to be done without an event.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let end = self.fetched.filter(|_| !self.keys.is_empty()).map(|fetched| fetched + HOLD);
        self.next_fetch().into_iter().chain(end).min()
    }

    /// Takes an answer and how long it says that it holds. Returns whether there are other keys
    /// now.
    pub fn handle_keys(&mut self, keys: KeySet, max_age: Option<Duration>, now: Instant) -> bool {
        let (least, most) = REFRESH_WITHIN;
        (self.is_asking, self.failures) = (false, 0);
        self.fetched = Some(now);
        self.due = now + max_age.unwrap_or(REFRESH).clamp(least, most);
        let is_other = *self.keys != keys;
        self.keys = Arc::new(keys);
        is_other
    }

    /// Takes note of a fetch that failed. Returns how many in a row that are.
    pub fn handle_failure(&mut self, now: Instant) -> u32 {
        let (first, longest) = RETRY_WITHIN;
        self.is_asking = false;
        let pause = first.saturating_mul(1 << self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        self.due = now + pause.min(longest);
        self.failures
    }

    /// Lets go of keys that have held for long enough. Returns whether there are other keys now.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        let is_over = self.fetched.is_some_and(|fetched| now >= fetched + HOLD);
        let was_empty = self.keys.is_empty();
        if is_over {
            self.keys = Arc::default();
        }
        is_over && !was_empty
    }

    fn next_fetch(&self) -> Option<Instant> {
        if self.is_asking {
            return None;
        }
        let soon = match self.asked {
            Some(asked) if self.is_wanted => asked + UNKNOWN_KEY_PAUSE,
            _ => self.due,
        };
        Some(self.due.min(soon))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Instant {
        #[allow(clippy::disallowed_methods, reason = "there is no other way to make one")]
        Instant::now()
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn keys(id: &str) -> KeySet {
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        let jwk = serde_json::json!({ "kty": "OKP", "crv": "Ed25519", "kid": id, "x": x });
        KeySet::parse(serde_json::json!({ "keys": [jwk] }).to_string().as_bytes()).unwrap()
    }

    /// One whose keys came at `now`.
    fn fetched(now: Instant) -> KeyRefresh {
        let mut refresh = KeyRefresh::new(now);
        assert!(refresh.poll_fetch(now));
        assert!(refresh.handle_keys(keys("a"), None, now));
        refresh
    }

    #[test]
    fn keys_are_fetched_again_and_again() {
        let now = start();
        let mut refresh = fetched(now);
        assert!(!refresh.poll_fetch(now + seconds(299)));
        assert_eq!(refresh.poll_timeout(), Some(now + seconds(300)));
        assert!(refresh.poll_fetch(now + seconds(300)));
        assert!(!refresh.poll_fetch(now + seconds(900)), "one at a time");
        assert!(!refresh.handle_keys(keys("a"), None, now + seconds(900)), "the same keys");
        // A key that is withdrawn is gone at the first answer.
        assert!(refresh.poll_fetch(now + seconds(1200)));
        assert!(refresh.handle_keys(keys("b"), None, now + seconds(1200)));
        assert_eq!(**refresh.keys(), keys("b"));
    }

    #[test]
    fn an_answer_may_say_how_long_it_holds() {
        let now = start();
        for (age, next) in [(0, 60), (60, 60), (600, 600), (100_000, 3600)] {
            let mut refresh = KeyRefresh::new(now);
            assert!(refresh.poll_fetch(now));
            refresh.handle_keys(keys("a"), Some(seconds(age)), now);
            assert_eq!(refresh.poll_timeout(), Some(now + seconds(next)), "{age}");
        }
    }

    #[test]
    fn keys_that_are_not_known_are_asked_for_with_a_pause() {
        let now = start();
        let mut refresh = fetched(now);
        for second in 1..30 {
            refresh.handle_unknown_key();
            assert!(!refresh.poll_fetch(now + seconds(second)), "{second}");
        }
        assert!(refresh.poll_fetch(now + seconds(30)), "one for all of them");
        // One that is named meanwhile may be newer than the answer.
        refresh.handle_unknown_key();
        refresh.handle_keys(keys("a"), None, now + seconds(31));
        assert!(!refresh.poll_fetch(now + seconds(59)));
        assert!(refresh.poll_fetch(now + seconds(60)));
        refresh.handle_keys(keys("b"), None, now + seconds(61));
        assert!(!refresh.poll_fetch(now + seconds(120)), "nobody has asked since");
        // After a longer time it is asked at once.
        refresh.handle_unknown_key();
        assert!(refresh.poll_fetch(now + seconds(121)));
    }

    #[test]
    fn while_the_provider_is_away_the_last_keys_hold_for_a_day() {
        let now = start();
        let mut refresh = fetched(now);
        let mut at = now + seconds(300);
        let mut pauses = Vec::new();
        while at < now + HOLD {
            assert!(!refresh.handle_timeout(at));
            if refresh.poll_fetch(at) {
                let failures = refresh.handle_failure(at);
                assert_eq!(failures as usize, pauses.len() + 1);
                let next = refresh.next_fetch().unwrap();
                pauses.push(next.duration_since(at).as_secs());
            }
            at = refresh.poll_timeout().unwrap();
        }
        assert_eq!(pauses[..8], [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(**refresh.keys(), keys("a"));
        assert!(refresh.handle_timeout(at), "they hold no longer");
        assert!(refresh.keys().is_empty());
        assert!(!refresh.handle_timeout(at));
        // And they are fetched again when it is back.
        let at = refresh.poll_timeout().unwrap();
        assert!(refresh.poll_fetch(at));
        assert!(refresh.handle_keys(keys("a"), None, at));
    }

    #[test]
    fn nobody_is_known_before_the_first_answer() {
        let now = start();
        let mut refresh = KeyRefresh::new(now);
        assert!(refresh.keys().is_empty());
        refresh.handle_unknown_key();
        assert!(refresh.poll_fetch(now));
        refresh.handle_failure(now);
        assert!(refresh.keys().is_empty());
        assert_eq!(refresh.poll_timeout(), Some(now + seconds(1)));
    }
}
