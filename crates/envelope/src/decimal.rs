//! Decimal text of a number that mostly stands still or counts up: offsets and timestamps of one partition.

/// A number with its decimal text, kept from one record to the next so that a step of one costs one digit.
#[derive(Clone, Debug)]
pub(crate) struct Decimal {
    value: i64,
    text: [u8; 20],
    size: usize,
}

impl Decimal {
    /// The text of `value`.
    #[inline]
    pub(crate) fn text(&mut self, value: i64) -> &[u8] {
        if value != self.value {
            self.set(value);
        }
        &self.text[..self.size]
    }

    #[inline]
    fn set(&mut self, value: i64) {
        let last = &mut self.text[self.size - 1];
        // Below zero a step up makes the last digit smaller.
        if self.value >= 0 && self.value.checked_add(1) == Some(value) && *last != b'9' {
            *last += 1;
        } else {
            let mut buffer = itoa::Buffer::new();
            let text = buffer.format(value).as_bytes();
            self.text[..text.len()].copy_from_slice(text);
            self.size = text.len();
        }
        self.value = value;
    }
}

impl Default for Decimal {
    fn default() -> Self {
        Self { value: 0, text: [b'0'; 20], size: 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::Decimal;

    #[test]
    fn every_step_gives_the_number() {
        let mut decimal = Decimal::default();
        let walk = [0, 1, 2, 9, 10, 11, 99, 100, -1, 0, -2, -1, i64::MAX, i64::MIN, i64::MIN + 1, 7, 7, 8];
        for value in walk.into_iter().chain(-25..125).chain(i64::MAX - 12..=i64::MAX) {
            assert_eq!(decimal.text(value), value.to_string().as_bytes());
        }
    }
}
