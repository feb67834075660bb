//! Reads packed records, version 1, one after the other from one frame.

use crate::packed::{LOG_APPEND, NULL_KEY, NULL_VALUE, VERSION};
use crate::{DecodeError, OwnedHeader, OwnedRecord, Timestamp};

/// A frame with the position reached in it.
pub(super) struct Reader<'a> {
    frame: &'a [u8],
    at: usize,
    /// End of the record being read.
    end: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(frame: &'a [u8]) -> Self {
        Self { frame, at: 0, end: frame.len() }
    }

    /// Bytes after the last record read.
    pub(super) fn left(&self) -> usize {
        self.frame.len() - self.at
    }

    /// Reads the next record, which has to fill its length.
    pub(super) fn record(&mut self, topic: Option<String>) -> Result<OwnedRecord, DecodeError> {
        self.end = self.frame.len();
        let length = self.size("length")?;
        if length > self.end - self.at {
            return Err(self.truncated("record", length));
        }
        self.end = self.at + length;
        // The version stands first, so that another layout is named as such.
        let version = self.u8("version")?;
        if version != VERSION {
            return Err(DecodeError::Version { found: version.into() });
        }
        let flags = self.u8("flags")?;
        if flags & !(NULL_KEY | NULL_VALUE | LOG_APPEND) != 0 {
            return Err(self.field(1, "flags", flags.into(), "0 to 7"));
        }
        let zero = u16::from_le_bytes(self.array("reserved")?);
        if zero != 0 {
            return Err(self.field(2, "reserved", zero.into(), "0"));
        }
        let partition = i32::from_le_bytes(self.array("partition")?);
        let offset = self.i64("offset")?;
        let timestamp = match (self.i64("timestamp")?, flags & LOG_APPEND != 0) {
            (ms, true) => Timestamp::LogAppend(ms),
            (-1, false) => Timestamp::None,
            (ms, false) => Timestamp::Create(ms),
        };
        let prev = Some(self.i64("prev")?).filter(|&prev| prev != -1);
        // A schema id is about the value; it is no part of a record.
        self.take("schema id", 4)?;
        let headers = self.headers()?;
        let key = self.nullable("key", flags & NULL_KEY != 0)?;
        let value = self.nullable("value", flags & NULL_VALUE != 0)?;
        if self.at != self.end {
            return Err(DecodeError::Trailing { position: self.at, left: self.end - self.at });
        }
        Ok(OwnedRecord { topic, partition, offset, timestamp, prev, key, value, headers })
    }

    fn headers(&mut self) -> Result<Vec<OwnedHeader>, DecodeError> {
        let count = self.size("header count")?;
        // A header takes eight bytes at least: what is there bounds what is set aside.
        if count > (self.end - self.at) / 8 {
            return Err(self.truncated("headers", count.saturating_mul(8)));
        }
        let mut headers = Vec::new();
        for _ in 0..count {
            let size = self.size("header name length")?;
            let name = self.take("header name", size)?.to_vec();
            let value = match i32::from_le_bytes(self.array("header value length")?) {
                -1 => None,
                size => match usize::try_from(size) {
                    Ok(size) => Some(self.take("header value", size)?.to_vec()),
                    Err(_) => {
                        return Err(self.field(
                            4,
                            "header value length",
                            size.into(),
                            "-1 or more",
                        ));
                    }
                },
            };
            headers.push(OwnedHeader { name, value });
        }
        Ok(headers)
    }

    fn nullable(
        &mut self,
        field: &'static str,
        null: bool,
    ) -> Result<Option<Vec<u8>>, DecodeError> {
        let size = self.size(field)?;
        let bytes = self.take(field, size)?;
        super::nullable(field, null, bytes)
    }

    fn take(&mut self, field: &'static str, size: usize) -> Result<&'a [u8], DecodeError> {
        if size > self.end - self.at {
            return Err(self.truncated(field, size));
        }
        let bytes = &self.frame[self.at..self.at + size];
        self.at += size;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let bytes = self.take(field, N)?;
        bytes.try_into().map_err(|_| self.truncated(field, N))
    }

    fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array(field).map(|[byte]| byte)
    }

    fn i64(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        self.array(field).map(i64::from_le_bytes)
    }

    /// A u32 that counts bytes or headers.
    fn size(&mut self, field: &'static str) -> Result<usize, DecodeError> {
        self.array(field).map(|bytes| u32::from_le_bytes(bytes) as usize)
    }

    fn truncated(&self, field: &'static str, needed: usize) -> DecodeError {
        DecodeError::Truncated { position: self.at, field, needed, left: self.end - self.at }
    }

    /// The error for a field of `size` bytes that was just read.
    fn field(
        &self,
        size: usize,
        field: &'static str,
        found: i64,
        allowed: &'static str,
    ) -> DecodeError {
        DecodeError::Field { position: self.at - size, field, found, allowed }
    }
}
