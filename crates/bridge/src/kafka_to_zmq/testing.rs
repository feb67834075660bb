//! Records for tests, without a source.

use std::ops::ControlFlow;

use zafka_envelope::{Record, Timestamp};

/// Records with these offsets and one value, of which some are taken.
pub(crate) struct Offsets {
    pub(crate) offsets: Vec<i64>,
    pub(crate) taken: usize,
    pub(crate) value: Vec<u8>,
}

impl Offsets {
    pub(crate) fn new(offsets: impl IntoIterator<Item = i64>) -> Self {
        Self { offsets: offsets.into_iter().collect(), taken: 0, value: b"value".to_vec() }
    }

    /// Walks what is left, as [`Records::walk`](super::partition::Records::walk) does.
    pub(crate) fn walk(&mut self, mut f: impl FnMut(&Record<'_>) -> ControlFlow<()>) -> bool {
        while let Some(offset) = self.offsets.get(self.taken) {
            self.taken += 1;
            let record = Record {
                offset: *offset,
                prev: None,
                timestamp: Timestamp::None,
                key: None,
                value: Some(&self.value),
                headers: &[],
            };
            if f(&record).is_break() {
                break;
            }
        }
        self.taken == self.offsets.len()
    }
}
