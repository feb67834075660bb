//! Brokers that hold their answers back, for the client has used up its quota. Plain state; time is
//! an argument.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::wait::{Wait, WaitKind};

/// Time after the end of one wait for which the next one is still the same: a client at its quota
/// is held back again and again.
const SAME: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug)]
struct Throttled {
    since_ms: i64,
    until: Instant,
    pause: Duration,
}

/// The brokers that hold answers back, by their ids.
#[derive(Debug, Default)]
pub(crate) struct ThrottledBrokers(BTreeMap<i32, Throttled>);

impl ThrottledBrokers {
    /// A broker holds its answers back for this long from `now` on, which is `now_ms` since the
    /// epoch.
    pub(crate) fn throttled(&mut self, broker: i32, pause: Duration, now: Instant, now_ms: i64) {
        self.0.retain(|_, throttled| now < throttled.until);
        let throttled =
            self.0.entry(broker).or_insert(Throttled { since_ms: now_ms, until: now, pause });
        throttled.until = throttled.until.max(now + pause + SAME);
        throttled.pause = pause;
    }

    /// Returns the present waits.
    pub(crate) fn waits(&self, now: Instant) -> Vec<Wait> {
        let throttled = self.0.iter().filter(|(_, throttled)| now < throttled.until);
        throttled.map(|(broker, throttled)| Wait {
            partition: None,
            kind: WaitKind::Quota,
            reason: format!(
                "broker {broker} holds its answers back ({} ms): the client has used up its quota",
                throttled.pause.as_millis()
            ),
            since: throttled.since_ms,
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_at_its_quota_waits_once_and_not_each_time() {
        let (mut brokers, start) = (ThrottledBrokers::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(brokers.waits(start).is_empty());
        for seconds in [0, 2, 5] {
            brokers.throttled(1, Duration::from_millis(500), at(seconds), 1000 * seconds as i64);
        }
        brokers.throttled(2, Duration::from_secs(10), at(5), 5000);
        let since = |now| brokers.waits(now).iter().map(|wait| wait.since).collect::<Vec<_>>();
        assert_eq!(since(at(6)), [0, 5000]);
        assert_eq!(since(at(9)), [5000], "the first one is served again");
        assert!(since(at(18)).is_empty());
        let reason = brokers.waits(at(6)).remove(0).reason;
        assert_eq!(
            reason,
            "broker 1 holds its answers back (500 ms): the client has used up its quota"
        );
        brokers.throttled(1, Duration::from_millis(1), at(20), 20_000);
        assert_eq!(brokers.waits(at(21))[0].since, 20_000, "another one");
    }
}
