//! Records that were written: where each is, and sequences of them whose values are known.

/// The place of a record in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Produced {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
}

/// Many records whose values carry a sequence number: see [`sequence_value`].
#[derive(Debug, Clone)]
pub struct Sequence {
    /// The topic.
    pub topic: String,
    /// Their number.
    pub count: usize,
    /// The first sequence number.
    pub first: u64,
    /// Bytes in a value, at least 21.
    pub value_size: usize,
    /// Partitions in turn by sequence number; empty lets the partitioner choose.
    pub partitions: Vec<i32>,
    /// Keys are `k0` to `k<keys - 1>` in turn; 0 is null keys.
    pub keys: usize,
    /// "none", "gzip", "snappy", "lz4" or "zstd".
    pub compression: String,
    /// Records a second; 0 is as fast as can be.
    pub per_second: u64,
    /// A transaction that was begun, by its id.
    pub transaction: Option<String>,
}

impl Sequence {
    /// `count` records of 100 bytes with keys `k0` to `k99`, as fast as can be.
    pub fn new(topic: &str, count: usize) -> Self {
        Self {
            topic: topic.to_owned(),
            count,
            first: 0,
            value_size: 100,
            partitions: Vec::new(),
            keys: 100,
            compression: "none".to_owned(),
            per_second: 0,
            transaction: None,
        }
    }
}

/// The value of sequence number `sequence`: it in 20 digits, a space, and letters up to `size`.
pub fn sequence_value(sequence: u64, size: usize) -> Vec<u8> {
    let mut value = format!("{sequence:020} ").into_bytes();
    for i in value.len() as u64..size as u64 {
        value.push(b'a' + ((sequence + i) % 26) as u8);
    }
    value
}
