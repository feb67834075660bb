//! Record batches read by the book (magic 2, uncompressed): shares no code with the product.

use crate::reader::Reader;

/// The header of a batch, as far as an idempotent producer is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The producer's id.
    pub producer: i64,
    /// Its epoch.
    pub epoch: i16,
    /// The sequence of the first record.
    pub sequence: i32,
    /// Records.
    pub count: i32,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
}

/// Reads a batch.
///
/// # Errors
/// The first thing that is not as Kafka has it.
pub fn read(bytes: &[u8]) -> Result<(Header, Vec<LogRecord>), String> {
    let mut at = Reader(bytes);
    let _base = at.number(i64::from_be_bytes)?;
    let length = at.number(i32::from_be_bytes)? as usize;
    if at.0.len() != length {
        return Err(format!("{length} bytes are told, and {} are there", at.0.len()));
    }
    let _leader_epoch = at.number(i32::from_be_bytes)?;
    if at.array::<1>()? != [2] {
        return Err("not magic 2".to_owned());
    }
    let crc = at.number(i32::from_be_bytes)? as u32;
    if crc32c::crc32c(at.0) != crc {
        return Err("the checksum is another one".to_owned());
    }
    let attributes = at.number(i16::from_be_bytes)?;
    let last_delta = at.number(i32::from_be_bytes)?;
    let (_first_time, _last_time) =
        (at.number(i64::from_be_bytes)?, at.number(i64::from_be_bytes)?);
    let producer = at.number(i64::from_be_bytes)?;
    let epoch = at.number(i16::from_be_bytes)?;
    let (sequence, count) = (at.number(i32::from_be_bytes)?, at.number(i32::from_be_bytes)?);
    if attributes != 0 || last_delta != count - 1 {
        return Err(format!("attributes {attributes}, last {last_delta} of {count}"));
    }
    let mut entries = Vec::new();
    for index in 0..count {
        let length = at.varint()? as usize;
        let mut record = Reader(at.bytes(length)?);
        record.bytes(1)?;
        let (_time, offset) = (record.varint()?, record.varint()?);
        if offset != i64::from(index) {
            return Err(format!("record {index} has offset {offset}"));
        }
        let (key, value) = (record.field()?, record.field()?);
        if record.varint()? != 0 || !record.0.is_empty() {
            return Err("headers that nobody sent".to_owned());
        }
        entries.push(LogRecord { key, value });
    }
    if !at.0.is_empty() {
        return Err("bytes behind the last record".to_owned());
    }
    Ok((Header { producer, epoch, sequence, count }, entries))
}

impl Reader<'_> {
    /// A zigzag varint.
    fn varint(&mut self) -> Result<i64, String> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err("a number without an end".to_owned())
    }

    fn field(&mut self) -> Result<Option<Vec<u8>>, String> {
        match self.varint()? {
            -1 => Ok(None),
            length => Ok(Some(self.bytes(length as usize)?.to_vec())),
        }
    }
}
