//! Decimal numbers in a text that are changed in place: offsets and timestamps of one partition, of
//! which mostly the last digits change.

use std::ops::RangeInclusive;

/// The place of a number in a text.
#[derive(Clone, Debug)]
pub(crate) struct Decimal {
    value: i64,
    /// The numbers that take the same room.
    fitting: RangeInclusive<i64>,
    /// Its end, in bytes.
    end: usize,
}

impl Decimal {
    /// Appends `value` to `text`.
    pub(crate) fn append(text: &mut Vec<u8>, value: i64) -> Self {
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(value).as_bytes();
        text.extend_from_slice(digits);
        let fitting = match u32::try_from(digits.len()) {
            Ok(count) if value >= 0 => {
                let above = 10_i64.checked_pow(count).map_or(i64::MAX, |above| above - 1);
                10_i64.pow(count - 1)..=above
            }
            _ => value..=value,
        };
        Self { value, fitting, end: text.len() }
    }

    /// Puts `value` in the place of the number; false if it takes other room than that.
    #[inline]
    pub(crate) fn replace(&mut self, text: &mut [u8], value: i64) -> bool {
        if value == self.value {
            return true;
        }
        if !self.fitting.contains(&value) {
            return false;
        }
        // Digit by digit from the last one, as far as they differ.
        let (mut old, mut new) = (self.value, value);
        for digit in text[..self.end].iter_mut().rev() {
            *digit = b'0' + (new % 10) as u8;
            (old, new) = (old / 10, new / 10);
            if old == new {
                break;
            }
        }
        self.value = value;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::Decimal;

    #[test]
    fn every_step_gives_the_number() {
        let walk =
            [0, 1, 2, 9, 10, 11, 99, 100, -1, 0, -2, -1, i64::MAX, i64::MIN, i64::MIN + 1, 7, 7, 8];
        let ends = [
            i64::MAX - 20,
            1_000_000_000_000_000_000,
            999_999_999_999_999_999,
            1_000_000_000_000_000_009,
        ];
        let far = [
            1_700_000_000_000,
            1_700_000_000_999,
            1_699_999_999_999,
            9_999_999_999_999,
            1_000_000_000_000,
        ];
        let mut text = b"n: ".to_vec();
        let mut decimal = Decimal::append(&mut text, 5);
        let mut replaced = 0;
        for value in
            walk.into_iter().chain(-25..1250).chain(ends).chain(far).chain(i64::MAX - 12..=i64::MAX)
        {
            if decimal.replace(&mut text, value) {
                replaced += 1;
            } else {
                text.truncate(3);
                decimal = Decimal::append(&mut text, value);
            }
            assert_eq!(text, format!("n: {value}").as_bytes());
        }
        assert!(replaced > 1250, "{replaced}");
    }
}
