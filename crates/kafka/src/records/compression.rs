//! The names of Kafka's compressions.

use std::fmt;

/// The compression of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    /// RFC 1952.
    Gzip,
    /// One block of snappy's raw format, or snappy-java's stream of blocks.
    Snappy,
    /// An LZ4 frame.
    Lz4,
    /// RFC 8878.
    Zstd,
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        })
    }
}
