//! A batch of magic 2 that is built: the walk over its records, the other way (Kafka's
//! documentation, "Message Format").
//!
//! Records are written one behind the other into one buffer, behind room for the header. A draft is
//! such a batch that takes no more records; it is sealed for a producer and a sequence, which sets
//! the checksum. Sealed bytes never change.

use bytes::{BufMut, Bytes, BytesMut};

use super::compress::compress;
use super::compression::Codec;
use super::header::{CHECKED_FROM, HEADER, PREFIX, i32_at};

/// Length of one record, of what a broker could ever take.
pub(crate) const RECORD_LIMIT: usize = 1_000_000_000;
/// The last time that a record may have: one more would be too far from -1, which is none.
const LAST_TIMESTAMP: i64 = i64::MAX - 1;

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
    /// In ms since the epoch; -1 for none.
    pub(crate) timestamp: i64,
    /// `None` is null.
    pub(crate) key: Option<&'a [u8]>,
    /// `None` is null.
    pub(crate) value: Option<&'a [u8]>,
    /// In their order; names may repeat.
    pub(crate) headers: &'a [NewHeader<'a>],
}

impl NewRecord<'_> {
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
    /// Of a batch that no idempotent producer wrote.
    pub(crate) const NONE: Self = Self { id: -1, epoch: -1 };
}

/// A batch that takes records.
#[derive(Debug)]
pub(crate) struct BatchBuilder {
    buffer: BytesMut,
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
        Self { buffer, numbers, base_timestamp: -1, max_timestamp: -1, count: 0 }
    }

    /// Appends a record, which is of at most [`RECORD_LIMIT`] bytes.
    pub(crate) fn push(&mut self, record: &NewRecord<'_>) {
        let timestamp = record.timestamp.clamp(-1, LAST_TIMESTAMP);
        if self.count == 0 {
            self.base_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let timestamp_delta = zigzag(timestamp - self.base_timestamp);
        let offset_delta = zigzag(i64::from(self.count));
        let header_count = zigzag(length(record.headers.len()));
        let size = 1
            + variable_size(timestamp_delta)
            + variable_size(offset_delta)
            + nullable_size(record.key)
            + nullable_size(record.value)
            + variable_size(header_count)
            + record.headers.iter().map(header_size).sum::<usize>();
        // In registers until all are put.
        let (out, mut numbers) = (&mut self.buffer, self.numbers);
        out.reserve(size + 5 + 2 * Numbers::ROOM);
        numbers.put(zigzag(length(size)), out);
        // Attributes: none are defined.
        numbers.put(0, out);
        numbers.put(timestamp_delta, out);
        numbers.put(offset_delta, out);
        numbers.put_nullable(record.key, out);
        numbers.put_nullable(record.value, out);
        numbers.put(header_count, out);
        for (name, value) in record.headers {
            numbers.put_nullable(Some(name.as_bytes()), out);
            numbers.put_nullable(*value, out);
        }
        self.numbers = numbers;
        self.count += 1;
    }

    /// Its size in bytes as it is now, uncompressed.
    pub(crate) fn size(&self) -> usize {
        self.buffer.len() + self.numbers.len
    }

    /// Takes no more records. Compressed if that makes it smaller; then the buffer that the records
    /// were in is free.
    pub(crate) fn finish(self, codec: Option<Codec>) -> (Draft, Option<BytesMut>) {
        let Self { mut buffer, mut numbers, base_timestamp, max_timestamp, count } = self;
        numbers.flush(&mut buffer);
        let compressed = codec.and_then(|codec| {
            let records = buffer.get(HEADER..).unwrap_or_default();
            let mut out = BytesMut::with_capacity(HEADER + records.len() / 2);
            out.put_bytes(0, HEADER);
            let is_smaller = compress(codec, records, &mut out) && out.len() < buffer.len();
            is_smaller.then_some((codec, out))
        });
        let (attributes, free) = match compressed {
            Some((codec, out)) => (codec.number(), Some(std::mem::replace(&mut buffer, out))),
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
        (Draft(buffer), free)
    }
}

/// A batch that is whole but for its producer.
#[derive(Debug)]
pub(crate) struct Draft(BytesMut);

impl Draft {
    /// The draft of a sealed batch, to be sealed again. The sealed bytes stay as they are.
    pub(crate) fn of_sealed(sealed: &[u8]) -> Self {
        Self(BytesMut::from(sealed))
    }

    /// Its records.
    pub(crate) fn count(&self) -> i32 {
        self.0.first_chunk::<HEADER>().map_or(0, i32_at::<COUNT_AT, HEADER>)
    }

    /// Gives it to a producer, its first record at this sequence. From here on nothing changes it.
    pub(crate) fn seal(self, producer: ProducerId, base_sequence: i32) -> Bytes {
        let mut buffer = self.0;
        put_at(&mut buffer, PRODUCER_ID_AT, &producer.id.to_be_bytes());
        put_at(&mut buffer, PRODUCER_EPOCH_AT, &producer.epoch.to_be_bytes());
        put_at(&mut buffer, BASE_SEQUENCE_AT, &base_sequence.to_be_bytes());
        let checksum = crc32c::crc32c(buffer.get(CHECKED_FROM..).unwrap_or_default());
        put_at(&mut buffer, CHECKSUM_AT, &checksum.to_be_bytes());
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

fn variable_size(number: u64) -> usize {
    let bits = 64 - (number | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

fn nullable_size(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| variable_size(zigzag(length(bytes.len()))) + bytes.len())
}

fn header_size((name, value): &NewHeader<'_>) -> usize {
    nullable_size(Some(name.as_bytes())) + nullable_size(*value)
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
    /// As many bytes as are appended at once.
    const ROOM: usize = size_of::<u128>();

    /// Puts a number, in groups of seven bits.
    #[inline(always)]
    fn put(&mut self, mut number: u64, out: &mut BytesMut) {
        let two = |number: u64| (number & 0x7f) | ((number << 1) & 0x7f00);
        while number >= 1 << 14 {
            self.put_bytes(two(number) | 0x8080, 2, out);
            number >>= 14;
        }
        let (bytes, len) = if number < 0x80 { (number, 1) } else { (two(number) | 0x80, 2) };
        self.put_bytes(bytes, len, out);
    }

    /// Puts the lowest bytes of a number.
    #[inline(always)]
    fn put_bytes(&mut self, bytes: u64, len: usize, out: &mut BytesMut) {
        if self.len + len > Self::ROOM {
            self.flush(out);
        }
        self.bytes |= u128::from(bytes) << (8 * self.len);
        self.len += len;
    }

    /// Puts a length, and its bytes behind all numbers so far.
    #[inline(always)]
    fn put_nullable(&mut self, bytes: Option<&[u8]>, out: &mut BytesMut) {
        match bytes {
            None => self.put(zigzag(-1), out),
            Some(bytes) => {
                self.put(zigzag(length(bytes.len())), out);
                self.flush(out);
                out.extend_from_slice(bytes);
            }
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
