//! One record of a batch of magic 2, read where it stands. Every length is checked against what is
//! there.

use zafka_envelope::Header;

use super::error::{MAX_HEADERS, RecordFault};

/// A record as it is in the batch; its headers are in the list it was read with.
pub(super) struct Raw<'a> {
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: i32,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
}

impl<'a> Raw<'a> {
    /// The next record of `from`. `headers` is emptied first.
    #[inline(always)]
    pub(super) fn read(
        from: &mut Cursor<'a>,
        headers: &mut Vec<Header<'a>>,
    ) -> Result<Self, RecordFault> {
        headers.clear();
        let size = from.length()?;
        let mut body = Cursor(from.take(size)?);
        // Attributes: none are defined.
        body.take(1)?;
        let timestamp_delta = body.varlong()?;
        let offset_delta = body.varint()?;
        let key = body.nullable()?;
        let value = body.nullable()?;
        let count = body.length()?;
        if count > 0 {
            body.headers(count, headers)?;
        }
        if !body.0.is_empty() {
            return Err(RecordFault::Rest);
        }
        Ok(Raw { timestamp_delta, offset_delta, key, value })
    }
}

/// The bytes that are left to read.
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    #[inline(always)]
    pub(super) fn take(&mut self, size: usize) -> Result<&'a [u8], RecordFault> {
        let (taken, rest) = self.0.split_at_checked(size).ok_or(RecordFault::Cut)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A length or a count, at least 0.
    #[inline(always)]
    fn length(&mut self) -> Result<usize, RecordFault> {
        usize::try_from(self.varint()?).map_err(|_| RecordFault::Negative)
    }

    /// Bytes behind their length; -1 is null.
    #[inline(always)]
    fn nullable(&mut self) -> Result<Option<&'a [u8]>, RecordFault> {
        match self.varint()? {
            -1 => Ok(None),
            size => {
                let size = usize::try_from(size).map_err(|_| RecordFault::Negative)?;
                Ok(Some(self.take(size)?))
            }
        }
    }

    #[inline(never)]
    fn headers(&mut self, count: usize, headers: &mut Vec<Header<'a>>) -> Result<(), RecordFault> {
        if count > MAX_HEADERS {
            return Err(RecordFault::Headers);
        }
        for _ in 0..count {
            let size = self.length()?;
            let name = self.take(size)?;
            headers.push(Header { name, value: self.nullable()? });
        }
        Ok(())
    }

    /// A zigzag number of at most 32 bits.
    #[inline(always)]
    fn varint(&mut self) -> Result<i32, RecordFault> {
        let unsigned = match *self.0 {
            [first, ref rest @ ..] if first < 0x80 => {
                self.0 = rest;
                u32::from(first)
            }
            [first, second, ref rest @ ..] if second < 0x80 => {
                self.0 = rest;
                u32::from(first & 0x7f) | u32::from(second) << 7
            }
            _ => u32::try_from(self.long_number()?).map_err(|_| RecordFault::Number)?,
        };
        Ok((unsigned >> 1).cast_signed() ^ -(unsigned & 1).cast_signed())
    }

    /// A zigzag number of at most 64 bits.
    #[inline(always)]
    fn varlong(&mut self) -> Result<i64, RecordFault> {
        let unsigned = match *self.0 {
            [first, ref rest @ ..] if first < 0x80 => {
                self.0 = rest;
                u64::from(first)
            }
            [first, second, ref rest @ ..] if second < 0x80 => {
                self.0 = rest;
                u64::from(first & 0x7f) | u64::from(second) << 7
            }
            _ => self.long_number()?,
        };
        Ok((unsigned >> 1).cast_signed() ^ -(unsigned & 1).cast_signed())
    }

    #[inline(never)]
    fn long_number(&mut self) -> Result<u64, RecordFault> {
        let mut number = 0;
        let mut shift = 0;
        loop {
            let (byte, rest) = self.0.split_first().ok_or(RecordFault::Cut)?;
            self.0 = rest;
            // Of a tenth byte there is room for one bit.
            if shift == 63 && *byte > 1 {
                return Err(RecordFault::Number);
            }
            number |= u64::from(byte & 0x7f) << shift;
            if *byte < 0x80 {
                return Ok(number);
            }
            shift += 7;
        }
    }
}
