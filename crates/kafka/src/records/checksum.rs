//! The checksum of a batch, taken in pieces (CRC-32C): of its records as they come in, while they
//! are in the processor's cache, and of its header, which stands before them, at the end.
//!
//! A CRC is a remainder of polynomials over GF(2), so that of two pieces follows from that of each:
//! the first one's times x^8 for each byte of the second, plus the second one's. `crc32c` has that
//! too, but takes as long for it as for 300 KB.

/// CRC-32C's polynomial without its highest term. The highest bit is that of x^0, as everywhere
/// here.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// x^8.
const BYTE: u32 = 1 << 23;
/// x^8 to the power of 2^n.
const POWERS: [u32; usize::BITS as usize] = {
    let mut powers = [BYTE; usize::BITS as usize];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = times(powers[at - 1], powers[at - 1]);
        at += 1;
    }
    powers
};

/// The checksum of the records at the front of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Checksum {
    value: u32,
    /// The bytes that it covers.
    len: usize,
}

impl Checksum {
    /// The bytes that it covers.
    pub(super) fn len(self) -> usize {
        self.len
    }

    /// Covers these bytes too, which follow.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.value = crc32c::crc32c_append(self.value, bytes);
        self.len += bytes.len();
    }

    /// Returns the checksum of these bytes with all that it covers behind them.
    pub(super) fn behind(self, bytes: &[u8]) -> Self {
        let value = shifted(crc32c::crc32c(bytes), self.len) ^ self.value;
        Self { value, len: bytes.len() + self.len }
    }

    /// The checksum as it is written.
    pub(super) fn value(self) -> u32 {
        self.value
    }
}

/// A checksum times x^8 for each byte.
fn shifted(checksum: u32, bytes: usize) -> u32 {
    let powers = POWERS.iter().enumerate().filter(|(at, _)| bytes >> at & 1 == 1);
    powers.fold(checksum, |checksum, (_, power)| times(*power, checksum))
}

/// The product of two polynomials, without the multiples of CRC-32C's.
const fn times(one: u32, mut other: u32) -> u32 {
    let (mut product, mut term) = (0, 1 << 31);
    while term != 0 {
        if one & term != 0 {
            product ^= other;
        }
        // Times x.
        other = (other >> 1) ^ (POLYNOMIAL * (other & 1));
        term >>= 1;
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_the_checksum_of_the_whole() {
        let bytes: Vec<u8> = (0..70_000_u32).map(|at| (at.wrapping_mul(at) >> 7) as u8).collect();
        for len in [0, 1, 2, 7, 40, 255, 4096, 65_537, bytes.len()] {
            let whole = crc32c::crc32c(&bytes[..len]);
            for cut in [0, 1, 39, 40, len / 2, len].map(|cut| cut.min(len)) {
                let (front, back) = bytes[..len].split_at(cut);
                let mut checksum = Checksum::default();
                for piece in back.chunks(1000) {
                    checksum.append(piece);
                }
                let checksum = checksum.behind(front);
                assert_eq!((checksum.value(), checksum.len()), (whole, len), "{len} {cut}");
            }
        }
    }

    #[test]
    fn any_length_may_follow() {
        let front = crc32c::crc32c(b"header");
        assert_eq!(shifted(front, 0), front);
        for len in [1, 3, 1 << 20, (1 << 30) + 12_345, usize::MAX >> 20] {
            let expected = crc32c::crc32c_combine(front, 0x1234_5678, len);
            assert_eq!(shifted(front, len) ^ 0x1234_5678, expected, "{len}");
        }
    }
}
