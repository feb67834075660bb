//! Record batches as a broker keeps them (magic 2), written by the book: shares no code with the
//! product.

use bytes::Bytes;

const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

/// A batch in a log.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Offset of its first record, also if that was compacted away.
    pub base: i64,
    /// Offset of its last record, also if that was compacted away.
    pub last: i64,
    /// Epoch of the leader that wrote it.
    pub epoch: i32,
    /// The kind of batch.
    pub kind: Kind,
    /// Its records.
    pub records: Vec<Record>,
}

/// The kind of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Records without a transaction.
    Plain,
    /// Records of a transaction of this producer.
    Transactional(i64),
    /// The end of this producer's transaction.
    End { producer: i64, commits: bool },
}

/// A record. Its number is its own in a whole run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its offset.
    pub offset: i64,
    /// Its number.
    pub number: u64,
    /// Its value, which begins with the number.
    pub value: Vec<u8>,
}

impl Batch {
    /// Returns the offset and the number of each record.
    pub fn numbers(&self) -> impl Iterator<Item = (i64, u64)> + '_ {
        self.records.iter().map(|record| (record.offset, record.number))
    }

    /// Returns its bytes.
    pub fn encode(&self) -> Bytes {
        let (attributes, producer) = match self.kind {
            Kind::Plain => (0, -1),
            Kind::Transactional(producer) => (TRANSACTIONAL, producer),
            Kind::End { producer, .. } => (TRANSACTIONAL | CONTROL, producer),
        };
        let mut tail = Vec::new();
        tail.extend_from_slice(&attributes.to_be_bytes());
        tail.extend_from_slice(&((self.last - self.base) as i32).to_be_bytes());
        // Both timestamps.
        tail.extend_from_slice(&0_i64.to_be_bytes());
        tail.extend_from_slice(&0_i64.to_be_bytes());
        tail.extend_from_slice(&producer.to_be_bytes());
        tail.extend_from_slice(&0_i16.to_be_bytes());
        tail.extend_from_slice(&(-1_i32).to_be_bytes());
        match self.kind {
            Kind::End { commits, .. } => {
                tail.extend_from_slice(&1_i32.to_be_bytes());
                // Version 0; 0 aborts, 1 commits.
                let key = [0, 0, 0, u8::from(commits)];
                put_record(&mut tail, 0, Some(&key), &[0, 0, 0, 0, 0, 0]);
            }
            _ => {
                tail.extend_from_slice(&(self.records.len() as i32).to_be_bytes());
                for record in &self.records {
                    put_record(&mut tail, record.offset - self.base, None, &record.value);
                }
            }
        }
        let mut bytes = Vec::with_capacity(tail.len() + 21);
        bytes.extend_from_slice(&self.base.to_be_bytes());
        bytes.extend_from_slice(&(tail.len() as i32 + 9).to_be_bytes());
        bytes.extend_from_slice(&self.epoch.to_be_bytes());
        bytes.push(2);
        bytes.extend_from_slice(&crc32c::crc32c(&tail).to_be_bytes());
        bytes.extend_from_slice(&tail);
        bytes.into()
    }
}

fn put_record(out: &mut Vec<u8>, delta: i64, key: Option<&[u8]>, value: &[u8]) {
    let mut body = vec![0];
    put_varint(&mut body, 0);
    put_varint(&mut body, delta);
    match key {
        Some(key) => {
            put_varint(&mut body, key.len() as i64);
            body.extend_from_slice(key);
        }
        None => put_varint(&mut body, -1),
    }
    put_varint(&mut body, value.len() as i64);
    body.extend_from_slice(value);
    put_varint(&mut body, 0);
    put_varint(out, body.len() as i64);
    out.extend_from_slice(&body);
}

/// A zigzag varint.
fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
