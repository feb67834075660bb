//! Waits between tries.

use std::time::Duration;

/// Waits between tries: each is twice as long as the one before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    pub(crate) first: Duration,
    pub(crate) longest: Duration,
}

impl Backoff {
    pub(crate) const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest }
    }

    /// Returns the wait after a failure that so many came before, in a row.
    pub(crate) fn after(self, failures: u32) -> Duration {
        self.first.saturating_mul(1 << failures.min(16)).min(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let waits = [0, 1, 2, 3, 4, 16, u32::MAX].map(|failures| backoff.after(failures));
        assert_eq!(waits.map(|wait| wait.as_millis()), [100, 200, 400, 800, 1000, 1000, 1000]);
    }
}
