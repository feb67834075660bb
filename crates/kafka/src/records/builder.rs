//! A batch of magic 2 that is built: the walk over its records, the other way (Kafka's
//! documentation, "Message Format").
//!
//! Records are written one behind the other into one buffer, behind room for the header. A draft is
//! such a batch that takes no more records; it is sealed for a producer and a sequence, which sets
//! the checksum. Sealed bytes never change.

use bytes::{BufMut, Bytes, BytesMut};

use super::checksum::Checksum;
use super::compress::compress;
use super::compression::Codec;
use super::header::{CHECKED_FROM, HEADER, PREFIX, i32_at};

/// Length of one record, of what a broker could ever take.
pub(crate) const RECORD_LIMIT: usize = 1_000_000_000;
/// The last time that a record may have: one more would be too far from -1, which is none.
const LAST_TIMESTAMP: i64 = i64::MAX - 1;
/// Bytes of records from which on their checksum is taken: in smaller pieces it takes longer.
const PIECE: usize = 16 << 10;

const ATTRIBUTES_AT: usize = 21;
const LAST_OFFSET_DELTA_AT: usize = 23;
const BASE_TIMESTAMP_AT: usize = 27;
const MAX_TIMESTAMP_AT: usize = 35;
const PRODUCER_ID_AT: usize = 43;
const PRODUCER_EPOCH_AT: usize = 51;
const BASE_SEQUENCE_AT: usize = 53;
const COUNT_AT: usize = 57;
const LENGTH_AT: usize = 8;
const CHECKSUM_AT: usize = 17;
const MAGIC_AT: usize = 16;
const LEADER_EPOCH_AT: usize = 12;

/// A name and a value of a record's header.
pub(crate) type NewHeader<'a> = (&'a str, Option<&'a [u8]>);

/// A record to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewRecord<'a> {
    /// The time in ms since the epoch; -1 for none.
    pub(crate) timestamp: i64,
    /// `None` is null.
    pub(crate) key: Option<&'a [u8]>,
    /// `None` is null.
    pub(crate) value: Option<&'a [u8]>,
    /// The headers in their order; names may repeat.
    pub(crate) headers: &'a [NewHeader<'a>],
}

impl<'a> NewRecord<'a> {
    /// A record that is its value alone.
    #[inline]
    pub(crate) fn of_value(timestamp: i64, value: &'a [u8]) -> Self {
        Self { timestamp, key: None, value: Some(value), headers: &[] }
    }

    /// The most bytes that it takes in a batch.
    #[inline]
    pub(crate) fn size_limit(&self) -> usize {
        let sized = |bytes: Option<&[u8]>| 5 + bytes.map_or(0, <[u8]>::len);
        let header = |(name, value): &NewHeader<'_>| 5 + name.len() + sized(*value);
        // Its length, attributes, two deltas, the number of headers.
        5 + 1
            + 10
            + 5
            + 5
            + sized(self.key)
            + sized(self.value)
            + self.headers.iter().map(header).sum::<usize>()
    }
}

/// The producer of a batch (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProducerId {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
}

impl ProducerId {
    /// The producer of a batch that no idempotent producer wrote.
    pub(crate) const NONE: Self = Self { id: -1, epoch: -1 };
}

/// A batch that takes records.
#[derive(Debug)]
pub(crate) struct BatchBuilder {
    buffer: BytesMut,
    tail: Tail,
    /// The checksum of the records that are in the buffer, up to some of them.
    checksum: Checksum,
}

/// The facts that the next record depends on.
#[derive(Clone, Copy, Debug)]
struct Tail {
    /// Numbers of the last record that are still to be appended.
    numbers: Numbers,
    base_timestamp: i64,
    max_timestamp: i64,
    count: i32,
}

impl BatchBuilder {
    /// An empty batch in an empty buffer.
    pub(crate) fn new(mut buffer: BytesMut) -> Self {
        buffer.clear();
        buffer.put_bytes(0, HEADER);
        let numbers = Numbers::default();
        let tail = Tail { numbers, base_timestamp: -1, max_timestamp: -1, count: 0 };
        Self { buffer, tail, checksum: Checksum::default() }
    }

    /// Appends a record, which is of at most [`RECORD_LIMIT`] bytes.
    pub(crate) fn push(&mut self, record: &NewRecord<'_>) {
        self.tail.put(record, &mut self.buffer);
    }

    /// Appends records that are their value alone, all with this time, up to a size of the batch of
    /// `most` bytes. `next` returns the next value if there is one of at most as many bytes as it
    /// is told. Returns the number of records.
    #[inline]
    pub(crate) fn push_values<'a>(
        &mut self,
        timestamp: i64,
        most: usize,
        mut next: impl FnMut(usize) -> Option<&'a [u8]>,
    ) -> usize {
        let overhead = NewRecord::of_value(timestamp, b"").size_limit();
        // In registers until all are put.
        let (before, mut tail) = (self.tail.count, self.tail);
        while let Some(room) = most.checked_sub(tail.size(&self.buffer) + overhead)
            && let Some(value) = next(room.min(RECORD_LIMIT - overhead))
        {
            tail.put(&NewRecord::of_value(timestamp, value), &mut self.buffer);
        }
        self.tail = tail;
        usize::try_from(tail.count - before).unwrap_or(0)
    }

    /// Takes the checksum of the records that came since the last time, if they are enough, while
    /// they are in the processor's cache. For batches that are not to be compressed.
    #[inline]
    pub(crate) fn sum_up(&mut self) {
        let summed = HEADER + self.checksum.len();
        if self.buffer.len() >= summed + PIECE {
            self.checksum.append(self.buffer.get(summed..).unwrap_or_default());
        }
    }

    /// Its size in bytes as it is now, uncompressed.
    pub(crate) fn size(&self) -> usize {
        self.tail.size(&self.buffer)
    }

    /// Takes no more records. Compressed if that makes it smaller; then the buffer that the records
    /// were in is free.
    pub(crate) fn finish(self, codec: Option<Codec>) -> (Draft, Option<BytesMut>) {
        let Self { mut buffer, tail, mut checksum } = self;
        let Tail { mut numbers, base_timestamp, max_timestamp, count } = tail;
        numbers.flush(&mut buffer);
        let compressed = codec.and_then(|codec| {
            let records = buffer.get(HEADER..).unwrap_or_default();
            let mut out = BytesMut::with_capacity(HEADER + records.len() / 2);
            out.put_bytes(0, HEADER);
            let is_smaller = compress(codec, records, &mut out) && out.len() < buffer.len();
            is_smaller.then_some((codec, out))
        });
        let (attributes, free) = match compressed {
            Some((codec, out)) => {
                checksum = Checksum::default();
                (codec.number(), Some(std::mem::replace(&mut buffer, out)))
            }
            None => (0, None),
        };
        let size = i32::try_from(buffer.len() - PREFIX).unwrap_or(i32::MAX);
        put_at(&mut buffer, LENGTH_AT, &size.to_be_bytes());
        put_at(&mut buffer, LEADER_EPOCH_AT, &(-1_i32).to_be_bytes());
        put_at(&mut buffer, MAGIC_AT, &[2]);
        put_at(&mut buffer, ATTRIBUTES_AT, &attributes.to_be_bytes());
        put_at(&mut buffer, LAST_OFFSET_DELTA_AT, &(count - 1).to_be_bytes());
        put_at(&mut buffer, BASE_TIMESTAMP_AT, &base_timestamp.to_be_bytes());
        put_at(&mut buffer, MAX_TIMESTAMP_AT, &max_timestamp.to_be_bytes());
        put_at(&mut buffer, COUNT_AT, &count.to_be_bytes());
        (Draft { buffer, checksum }, free)
    }
}

impl Tail {
    /// The size of the batch in bytes.
    #[inline]
    fn size(&self, buffer: &BytesMut) -> usize {
        buffer.len() + self.numbers.len
    }

    /// Appends a record.
    #[inline(always)]
    fn put(&mut self, record: &NewRecord<'_>, out: &mut BytesMut) {
        let timestamp = record.timestamp.clamp(-1, LAST_TIMESTAMP);
        if self.count == 0 {
            self.base_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let timestamp_delta = Number::new(zigzag(timestamp - self.base_timestamp));
        let offset_delta = Number::new(zigzag(i64::from(self.count)));
        let (key, value) = (length_of(record.key), length_of(record.value));
        let header_count = Number::new(zigzag(length(record.headers.len())));
        let size = 1
            + timestamp_delta.len
            + offset_delta.len
            + key.len
            + record.key.map_or(0, <[u8]>::len)
            + value.len
            + record.value.map_or(0, <[u8]>::len)
            + header_count.len
            + record.headers.iter().map(header_size).sum::<usize>();
        // In registers until all are put.
        let mut numbers = self.numbers;
        out.reserve(size + 5 + 2 * Numbers::ROOM);
        numbers.put(Number::new(zigzag(length(size))), out);
        // Attributes: none are defined.
        numbers.put(Number::new(0), out);
        numbers.put(timestamp_delta, out);
        numbers.put(offset_delta, out);
        numbers.put_nullable(key, record.key, out);
        numbers.put_nullable(value, record.value, out);
        numbers.put(header_count, out);
        for (name, value) in record.headers {
            numbers.put_nullable(length_of(Some(name.as_bytes())), Some(name.as_bytes()), out);
            numbers.put_nullable(length_of(*value), *value, out);
        }
        self.numbers = numbers;
        self.count += 1;
    }
}

/// A batch that is whole but for its producer.
#[derive(Debug)]
pub(crate) struct Draft {
    buffer: BytesMut,
    /// The checksum of its records, up to some of them.
    checksum: Checksum,
}

impl Draft {
    /// The draft of a sealed batch, to be sealed again. The sealed bytes stay as they are.
    pub(crate) fn of_sealed(sealed: &[u8]) -> Self {
        Self { buffer: BytesMut::from(sealed), checksum: Checksum::default() }
    }

    /// Its records.
    pub(crate) fn count(&self) -> i32 {
        self.buffer.first_chunk::<HEADER>().map_or(0, i32_at::<COUNT_AT, HEADER>)
    }

    /// Gives it to a producer, its first record at this sequence. From here on nothing changes it.
    pub(crate) fn seal(self, producer: ProducerId, base_sequence: i32) -> Bytes {
        let Self { mut buffer, checksum } = self;
        put_at(&mut buffer, PRODUCER_ID_AT, &producer.id.to_be_bytes());
        put_at(&mut buffer, PRODUCER_EPOCH_AT, &producer.epoch.to_be_bytes());
        put_at(&mut buffer, BASE_SEQUENCE_AT, &base_sequence.to_be_bytes());
        let summed = HEADER + checksum.len();
        let mut checksum = checksum.behind(buffer.get(CHECKED_FROM..HEADER).unwrap_or_default());
        checksum.append(buffer.get(summed..).unwrap_or_default());
        put_at(&mut buffer, CHECKSUM_AT, &checksum.value().to_be_bytes());
        buffer.freeze()
    }
}

fn put_at(buffer: &mut [u8], at: usize, bytes: &[u8]) {
    // Each place is within the header, which every buffer here begins with.
    if let Some(place) = buffer.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

/// A length or count as a number that is written; what is longer was refused before.
fn length(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

fn header_size((name, value): &NewHeader<'_>) -> usize {
    let size = |bytes: Option<&[u8]>| length_of(bytes).len + bytes.map_or(0, <[u8]>::len);
    size(Some(name.as_bytes())) + size(*value)
}

/// The number that stands before bytes that may be null.
#[inline(always)]
fn length_of(bytes: Option<&[u8]>) -> Number {
    Number::new(zigzag(bytes.map_or(-1, |bytes| length(bytes.len()))))
}

/// A number as it is written: in groups of seven bits, the lowest first, all but the last with
/// another bit set.
#[derive(Clone, Copy, Debug)]
struct Number {
    /// The first byte is the lowest.
    bytes: u128,
    len: usize,
}

impl Number {
    #[inline(always)]
    fn new(number: u64) -> Self {
        if number < 0x80 {
            return Self { bytes: number.into(), len: 1 };
        }
        let two = |number: u64| (number & 0x7f) | ((number << 1) & 0x7f00);
        if number < 1 << 14 {
            return Self { bytes: (two(number) | 0x80).into(), len: 2 };
        }
        Self::long(number)
    }

    /// Makes the same as [`Self::new`], of more than two groups.
    fn long(mut number: u64) -> Self {
        let mut long = Self { bytes: 0, len: 0 };
        while number >= 0x80 {
            long.bytes |= u128::from((number & 0x7f) | 0x80) << (8 * long.len);
            long.len += 1;
            number >>= 7;
        }
        long.bytes |= u128::from(number) << (8 * long.len);
        long.len += 1;
        long
    }
}

/// Numbers that stand together, at the end of one record and the beginning of the next, on their
/// way into the buffer: each is a few bytes, and all of them are appended at once. They are put
/// together as one number, since bytes that are stored one by one are waited for if they are read
/// together.
#[derive(Clone, Copy, Debug, Default)]
struct Numbers {
    /// The first byte is the lowest.
    bytes: u128,
    len: usize,
}

impl Numbers {
    /// The number of bytes that are appended at once.
    const ROOM: usize = size_of::<u128>();

    /// Puts a number behind the others.
    #[inline(always)]
    fn put(&mut self, number: Number, out: &mut BytesMut) {
        if self.len + number.len > Self::ROOM {
            self.flush(out);
        }
        self.bytes |= number.bytes << (8 * self.len);
        self.len += number.len;
    }

    /// Puts the length of bytes, and the bytes behind all numbers so far.
    #[inline(always)]
    fn put_nullable(&mut self, length: Number, bytes: Option<&[u8]>, out: &mut BytesMut) {
        self.put(length, out);
        if let Some(bytes) = bytes {
            self.flush(out);
            out.extend_from_slice(bytes);
        }
    }

    #[inline(always)]
    fn flush(&mut self, out: &mut BytesMut) {
        // So many bytes whatever there are: a copy of a known size needs no call.
        let end = out.len() + self.len;
        out.extend_from_slice(&self.bytes.to_le_bytes());
        out.truncate(end);
        *self = Self::default();
    }
}
