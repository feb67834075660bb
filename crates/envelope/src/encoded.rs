//! Encoded messages: bytes as they go over the wire, and where they end.

/// Size of a long frame header in bytes.
pub(crate) const LONG_HEADER: usize = 9;

/// Messages as they go over the wire, and what the ring needs to know of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// ZMTP message frames, headers included.
    pub bytes: Vec<u8>,
    /// Byte position of each message's end in `bytes`.
    pub ends: Vec<usize>,
    /// Records encoded.
    pub records: u32,
    /// True if every message so far has the same routing frame; true while there is none.
    pub same_routing: bool,
    /// Header fields of templates that found no header or a null one.
    pub headers_missing: u64,
}

impl Default for Encoded {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            ends: Vec::new(),
            records: 0,
            same_routing: true,
            headers_missing: 0,
        }
    }
}
