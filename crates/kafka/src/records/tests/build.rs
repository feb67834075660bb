//! Makes batches and messages, right or wrong, and reads them back.

use std::io::Write;
use std::ops::ControlFlow;

use zafka_envelope::{OwnedHeader, OwnedRecord, Record, Timestamp};

use super::super::{Aborted, BatchError, Batches, ReadOptions};

/// A batch to be written; what is `None` follows from the records.
#[derive(Clone)]
pub(super) struct Batch {
    pub(super) base: i64,
    pub(super) records: Vec<OwnedRecord>,
    pub(super) attributes: i16,
    pub(super) last_delta: Option<i32>,
    pub(super) count: Option<i32>,
    pub(super) base_timestamp: i64,
    pub(super) max_timestamp: i64,
    pub(super) producer: i64,
    pub(super) epoch: i32,
}

pub(super) fn batch(base: i64, records: Vec<OwnedRecord>) -> Batch {
    Batch {
        base,
        records,
        attributes: 0,
        last_delta: None,
        count: None,
        base_timestamp: 1000,
        max_timestamp: 5000,
        producer: -1,
        epoch: 3,
    }
}

/// A record with a key and a value that tell its offset.
pub(super) fn record(offset: i64) -> OwnedRecord {
    let key = Some(format!("key-{offset}").into_bytes());
    let value = Some(format!("value-{offset}").into_bytes());
    let timestamp = Timestamp::Create(1000 + offset);
    OwnedRecord {
        topic: None,
        partition: 0,
        offset,
        timestamp,
        prev: None,
        key,
        value,
        headers: vec![],
    }
}

pub(super) fn records(offsets: std::ops::Range<i64>) -> Vec<OwnedRecord> {
    offsets.map(record).collect()
}

pub(super) fn header(name: &[u8], value: Option<&[u8]>) -> OwnedHeader {
    OwnedHeader { name: name.to_vec(), value: value.map(<[u8]>::to_vec) }
}

/// The end of a transaction.
pub(super) fn marker(offset: i64, producer: i64, commit: bool) -> Batch {
    let mut control = record(offset);
    control.key = Some(vec![0, 0, 0, u8::from(commit)]);
    Batch { attributes: 0x30, producer, ..batch(offset, vec![control]) }
}

impl Batch {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut data = Vec::new();
        for one in &self.records {
            let body = self.record_bytes(one);
            put_number(body.len() as i64, &mut data);
            data.extend(body);
        }
        self.around(&compress(self.attributes & 7, &data))
    }

    /// The batch around what stands for its records.
    pub(super) fn around(&self, data: &[u8]) -> Vec<u8> {
        let last = self.records.last().map_or(0, |last| (last.offset - self.base) as i32);
        let mut out = Vec::new();
        out.extend(self.base.to_be_bytes());
        out.extend([0; 4]);
        out.extend(self.epoch.to_be_bytes());
        out.push(2);
        out.extend([0; 4]);
        out.extend(self.attributes.to_be_bytes());
        out.extend(self.last_delta.unwrap_or(last).to_be_bytes());
        out.extend(self.base_timestamp.to_be_bytes());
        out.extend(self.max_timestamp.to_be_bytes());
        out.extend(self.producer.to_be_bytes());
        out.extend(7_i16.to_be_bytes());
        out.extend(0_i32.to_be_bytes());
        out.extend(self.count.unwrap_or(self.records.len() as i32).to_be_bytes());
        out.extend(data);
        seal(&mut out);
        out
    }

    fn record_bytes(&self, one: &OwnedRecord) -> Vec<u8> {
        let timestamp = match one.timestamp {
            Timestamp::None => -1,
            Timestamp::Create(at) | Timestamp::LogAppend(at) => at,
        };
        let mut out = vec![0];
        put_number(timestamp - self.base_timestamp, &mut out);
        put_number(one.offset - self.base, &mut out);
        put_nullable(one.key.as_deref(), &mut out);
        put_nullable(one.value.as_deref(), &mut out);
        put_number(one.headers.len() as i64, &mut out);
        for header in &one.headers {
            put_nullable(Some(&header.name), &mut out);
            put_nullable(header.value.as_deref(), &mut out);
        }
        out
    }
}

/// Puts the right length and checksum into a batch.
pub(super) fn seal(batch: &mut [u8]) {
    let length = (batch.len() - 12) as i32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let checksum = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&checksum.to_be_bytes());
}

/// A zigzag number.
pub(super) fn put_number(number: i64, out: &mut Vec<u8>) {
    let mut rest = ((number << 1) ^ (number >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn put_nullable(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    match bytes {
        None => put_number(-1, out),
        Some(bytes) => {
            put_number(bytes.len() as i64, out);
            out.extend(bytes);
        }
    }
}

pub(super) fn compress(codec: i16, data: &[u8]) -> Vec<u8> {
    match codec {
        1 => {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            out.write_all(data).unwrap();
            out.finish().unwrap()
        }
        2 => xerial(data),
        3 => {
            let mut out = lz4_flex::frame::FrameEncoder::new(Vec::new());
            out.write_all(data).unwrap();
            out.finish().unwrap()
        }
        4 => {
            let mut out = vec![0; zstd_safe::compress_bound(data.len())];
            let size = zstd_safe::compress(out.as_mut_slice(), data, 3).unwrap();
            out.truncate(size);
            out
        }
        _ => data.to_vec(),
    }
}

/// Compresses as snappy-java does: blocks of 32 KiB behind a header.
pub(super) fn xerial(data: &[u8]) -> Vec<u8> {
    let mut out = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
    for block in data.chunks(32 << 10) {
        let block = snap::raw::Encoder::new().compress_vec(block).unwrap();
        out.extend((block.len() as u32).to_be_bytes());
        out.extend(block);
    }
    out
}

pub(super) fn own(record: &Record<'_>) -> OwnedRecord {
    OwnedRecord {
        topic: None,
        partition: 0,
        offset: record.offset,
        timestamp: record.timestamp,
        prev: record.prev,
        key: record.key.map(<[u8]>::to_vec),
        value: record.value.map(<[u8]>::to_vec),
        headers: record.headers.iter().map(|one| header(one.name, one.value)).collect(),
    }
}

/// The records of some bytes, and the error.
#[derive(Debug, PartialEq)]
pub(super) struct Outcome {
    pub(super) records: Vec<OwnedRecord>,
    /// The next offset of the last run.
    pub(super) next_offset: Option<i64>,
    pub(super) runs: usize,
    pub(super) error: Option<BatchError>,
}

impl Outcome {
    pub(super) fn offsets(&self) -> Vec<i64> {
        self.records.iter().map(|record| record.offset).collect()
    }
}

/// Reads all, breaking the walk after every `step`th record.
pub(super) fn read_stepwise(
    bytes: &[u8],
    from: i64,
    aborted: Option<Vec<Aborted>>,
    limit: usize,
    step: usize,
) -> Outcome {
    let reading = ReadOptions { from, aborted };
    let mut batches = Batches::with_limit(bytes.to_vec().into(), reading, limit);
    let mut out = Outcome { records: vec![], next_offset: None, runs: 0, error: None };
    loop {
        let is_over = batches.is_over();
        let next = batches.next();
        assert_eq!(is_over, matches!(next, Ok(None)), "it tells beforehand");
        let mut run = match next {
            Ok(Some(run)) => run,
            Ok(None) => break,
            Err(error) => {
                out.error = Some(error);
                assert!(batches.next().unwrap().is_none(), "nothing comes after an error");
                break;
            }
        };
        out.runs += 1;
        let mut seen = 0;
        let walked = loop {
            let walked = run.walk(|record| {
                out.records.push(own(record));
                seen += 1;
                if seen % step == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            if walked != Ok(false) {
                break walked;
            }
        };
        out.next_offset = Some(run.next_offset());
        if let Err(error) = walked {
            assert_eq!(run.walk(|_| panic!("nothing comes after an error")), Err(error.clone()));
            out.error = Some(error);
            break;
        }
    }
    out
}

pub(super) fn read_from(bytes: &[u8], from: i64) -> Outcome {
    read_stepwise(bytes, from, None, 1 << 30, usize::MAX)
}

pub(super) fn read(bytes: &[u8]) -> Outcome {
    read_from(bytes, 0)
}
