//! Faults of the records of a partition.

use super::compression::Codec;

/// Most headers of one record: what bounds the list that is made of them.
pub(super) const MAX_HEADERS: usize = 1 << 20;

/// A batch that cannot be read. What came before it is not affected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the record batch at offset {base_offset}: {fault}")]
pub(crate) struct BatchError {
    /// Base offset that the batch claims.
    pub(crate) base_offset: i64,
    /// The fault.
    pub(crate) fault: BatchFault,
}

impl BatchFault {
    pub(super) fn at(self, base_offset: i64) -> BatchError {
        BatchError { base_offset, fault: self }
    }
}

/// A fault of a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BatchFault {
    /// The bytes are not those that were written.
    #[error("its checksum is {found:08x}, that of its bytes {computed:08x}")]
    Checksum {
        /// The checksum in the header.
        found: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// A format that Kafka does not have.
    #[error("its magic is {0}, not 0, 1 or 2")]
    Magic(i8),
    /// Shorter than its own header.
    #[error("its length is {0}, less than a header")]
    Length(i32),
    /// Offsets that Kafka cannot give.
    #[error("its offsets cannot be: base {base}, last offset delta {delta}")]
    Offsets {
        /// The first offset of the batch.
        base: i64,
        /// The last record's distance from it.
        delta: i32,
    },
    /// More records than offsets, or fewer than none.
    #[error("it claims {0} records")]
    Count(i32),
    /// Offsets rise within a partition.
    #[error("it comes after offset {0}")]
    Order(i64),
    /// A compression that Kafka does not have, or not in this place.
    #[error("its compression {0} is not known here")]
    Compression(i16),
    /// The compressed bytes are not right.
    #[error("its {codec} data cannot be decompressed: {fault}")]
    Decompress {
        /// Its compression.
        codec: Codec,
        /// The fault in them.
        fault: CodecFault,
    },
    /// Decompressed, it is too large to hold.
    #[error("decompressed, it is larger than {limit} bytes")]
    TooLarge {
        /// The largest that is allowed.
        limit: usize,
    },
    /// A control record (commit or abort) that cannot be read.
    #[error("its control record cannot be read")]
    Control,
    /// A record that breaks the format.
    #[error("record {number}: {fault}")]
    Record {
        /// Counted from 0 in the batch.
        number: u32,
        /// The fault in it.
        fault: RecordFault,
    },
    /// Bytes that belong to no record.
    #[error("{0} bytes after its last record")]
    Rest(usize),
}

/// A fault of compressed bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CodecFault {
    /// Bytes that end too early.
    #[error("it is cut off")]
    Cut,
    /// Bytes that say of themselves that they become more than they can.
    #[error("it claims to be larger than it can be")]
    Claim,
    /// No memory for a decompressor.
    #[error("there is no memory")]
    NoMemory,
    #[error("{0}")]
    Snappy(snap::Error),
    /// The name of zstd's error.
    #[error("{0}")]
    Zstd(&'static str),
    /// The text of gzip's or LZ4's error, which has no more.
    #[error("{0}")]
    Stream(String),
}

/// A fault of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordFault {
    /// Something in it goes past its end, or it past the batch's.
    #[error("it is cut off")]
    Cut,
    /// A variable-length number longer than its type.
    #[error("a number is too long")]
    Number,
    /// A length below -1, or null if there is none.
    #[error("a length is negative")]
    Negative,
    /// It is longer than what is in it.
    #[error("it has bytes after its last header")]
    Rest,
    /// More headers than we hold.
    #[error("it has more than {} headers", MAX_HEADERS)]
    Headers,
    /// Outside the batch's offsets, or not after the record before it.
    #[error("its offset delta {0} is out of place")]
    Offset(i32),
    /// A time that 64 bits do not hold.
    #[error("its timestamp is out of range")]
    Timestamp,
    /// A message in a compressed set of the old formats that is compressed again, or of another
    /// format.
    #[error("it cannot stand in a compressed set")]
    Nested,
    /// An old message with a checksum that is not that of its bytes.
    #[error("its checksum is wrong")]
    Checksum,
}
