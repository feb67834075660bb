//! Keeps a fault that goes on from filling the log: one line for each distinct error in ten
//! seconds.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

const INTERVAL: Duration = Duration::from_secs(10);
/// Distinct errors remembered; past this many, old ones are forgotten.
const REMEMBERED: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Noise(Mutex<HashMap<String, (Instant, u64)>>);

impl Noise {
    /// Whether an error is to be told now; then with how many like it were kept back since it was
    /// told last.
    pub(crate) fn tell(&self, error: &str, now: Instant) -> Option<u64> {
        let mut told = self.0.lock();
        if told.len() >= REMEMBERED {
            told.retain(|_, (at, _)| now.duration_since(*at) < INTERVAL);
        }
        match told.get_mut(error) {
            Some((at, kept_back)) if now.duration_since(*at) < INTERVAL => {
                *kept_back += 1;
                None
            }
            Some((at, kept_back)) => {
                *at = now;
                Some(std::mem::take(kept_back))
            }
            None => {
                told.insert(error.to_owned(), (now, 0));
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
        let noise = Noise::default();
        let start = Instant::now();
        assert_eq!(noise.tell("a", start), Some(0));
        assert_eq!(noise.tell("a", start + Duration::from_secs(1)), None);
        assert_eq!(noise.tell("b", start + Duration::from_secs(1)), Some(0));
        assert_eq!(noise.tell("a", start + Duration::from_secs(9)), None);
        assert_eq!(noise.tell("a", start + Duration::from_secs(11)), Some(2));
        assert_eq!(noise.tell("a", start + Duration::from_secs(22)), Some(0));
    }
}
