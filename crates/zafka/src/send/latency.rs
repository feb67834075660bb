//! Latencies, counted in buckets of a sixteenth of a power of two: what is read is at most 6.25 %
//! too high.

use std::time::Duration;

/// Buckets of each power of two.
const STEPS: u64 = 16;
/// Enough for 2^40 microseconds, twelve days; longer ones count as that.
const BUCKETS: usize = 40 * STEPS as usize;

/// Latencies since the start.
#[derive(Clone, Debug)]
pub(super) struct Latencies {
    buckets: Vec<u64>,
    count: u64,
    max: Duration,
}

impl Latencies {
    pub(super) fn new() -> Self {
        Self { buckets: vec![0; BUCKETS], count: 0, max: Duration::ZERO }
    }

    pub(super) fn add(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let last = self.buckets.len() - 1;
        if let Some(bucket) = self.buckets.get_mut(bucket_of(micros).min(last)) {
            *bucket += 1;
        }
        self.count += 1;
        self.max = self.max.max(latency);
    }

    /// The latency that this share of the messages did not exceed; `None` if there is none.
    pub(super) fn at(&self, share: f64) -> Option<Duration> {
        let wanted = ((self.count as f64 * share).ceil() as u64).clamp(1, u64::MAX);
        let mut seen = 0;
        let at = self.buckets.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        Some(Duration::from_micros(end_of(at)).min(self.max))
    }

    pub(super) fn max(&self) -> Option<Duration> {
        (self.count > 0).then_some(self.max)
    }
}

/// The bucket of so many microseconds. Below [`STEPS`] each number has its own.
fn bucket_of(micros: u64) -> usize {
    let Some(log) = micros.checked_ilog2().filter(|_| micros >= STEPS) else {
        return micros as usize;
    };
    let above = u64::from(log - STEPS.ilog2());
    let step = (micros >> above) - STEPS;
    (STEPS + above * STEPS + step) as usize
}

/// The most microseconds that fall into a bucket.
fn end_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < STEPS {
        return bucket;
    }
    let (above, step) = ((bucket - STEPS) / STEPS, (bucket - STEPS) % STEPS);
    ((STEPS + step + 1) << above) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_lies_in_its_bucket() {
        for micros in (0..5_000).chain([1 << 20, (1 << 20) + 1, (1 << 39) - 1]) {
            let bucket = bucket_of(micros);
            assert!(micros <= end_of(bucket), "{micros}");
            assert!(bucket == 0 || micros > end_of(bucket - 1), "{micros}");
            assert!(end_of(bucket) <= micros + micros / 16, "{micros}");
        }
    }

    #[test]
    fn shares_are_read() {
        let mut latencies = Latencies::new();
        assert_eq!((latencies.at(0.5), latencies.max()), (None, None));
        for micros in 1..=1_000 {
            latencies.add(Duration::from_micros(micros));
        }
        let within = |share: f64, micros: u64| {
            let found = latencies.at(share).unwrap().as_micros() as u64;
            assert!((micros..=micros + micros / 16).contains(&found), "{share}: {found}");
        };
        within(0.0, 1);
        within(0.5, 500);
        within(0.99, 990);
        assert_eq!(latencies.at(1.0), Some(Duration::from_millis(1)));
        latencies.add(Duration::MAX);
        assert_eq!(latencies.max(), Some(Duration::MAX));
    }
}
