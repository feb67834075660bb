//! Rate-limits repeated errors: each distinct error is logged at most once every ten seconds.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

const INTERVAL: Duration = Duration::from_secs(10);
/// Distinct errors remembered; past this many, old ones are forgotten.
const REMEMBERED: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct LogLimiter(Mutex<HashMap<String, (Instant, u64)>>);

impl LogLimiter {
    /// Returns whether an error is to be logged now: how many like it were suppressed since it was
    /// logged last.
    pub(crate) fn admit(&self, error: &str, now: Instant) -> Option<u64> {
        let mut admitted = self.0.lock();
        if admitted.len() >= REMEMBERED {
            admitted.retain(|_, (at, _)| now.duration_since(*at) < INTERVAL);
        }
        match admitted.get_mut(error) {
            Some((at, kept_back)) if now.duration_since(*at) < INTERVAL => {
                *kept_back += 1;
                None
            }
            Some((at, kept_back)) => {
                *at = now;
                Some(std::mem::take(kept_back))
            }
            None => {
                admitted.insert(error.to_owned(), (now, 0));
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_for_each_error_in_ten_seconds() {
        let log_limiter = LogLimiter::default();
        let start = Instant::now();
        assert_eq!(log_limiter.admit("a", start), Some(0));
        assert_eq!(log_limiter.admit("a", start + Duration::from_secs(1)), None);
        assert_eq!(log_limiter.admit("b", start + Duration::from_secs(1)), Some(0));
        assert_eq!(log_limiter.admit("a", start + Duration::from_secs(9)), None);
        assert_eq!(log_limiter.admit("a", start + Duration::from_secs(11)), Some(2));
        assert_eq!(log_limiter.admit("a", start + Duration::from_secs(22)), Some(0));
    }
}
