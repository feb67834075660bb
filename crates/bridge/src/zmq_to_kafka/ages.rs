//! The age of the oldest message under way.

use std::collections::BTreeMap;

/// The number of messages received at each moment.
#[derive(Debug, Default)]
pub(super) struct Ages(BTreeMap<i64, usize>);

impl Ages {
    pub(super) fn add(&mut self, ms: i64) {
        *self.0.entry(ms).or_default() += 1;
    }

    pub(super) fn remove(&mut self, ms: i64) {
        if let Some(count) = self.0.get_mut(&ms) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&ms);
            }
        }
    }

    /// Returns the time when the oldest was received; 0 if there is none.
    pub(super) fn oldest(&self) -> i64 {
        self.0.keys().next().copied().unwrap_or(0)
    }
}
