//! Counts the records in a stream of ZMTP frames by their headers alone.

use zafka_zmtp::frame::{COMMAND, MORE, read_header};

/// Size of a packed record's length field in bytes.
pub const PACKED_LENGTH: usize = 4;

/// The content of a message: one record, or many packed ones in its second frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One record each.
    Message,
    /// Preset `batch`.
    Batch,
}

/// The position in a stream of frames.
#[derive(Debug)]
pub struct Scanner {
    kind: Kind,
    /// Bytes of a body to be passed over.
    skip: usize,
    /// Bytes of a batch frame that are not looked at yet, `skip` left out.
    packed: usize,
    /// Records so far: those whose last frame has begun, to be exact.
    pub records: u64,
}

impl Scanner {
    /// Begins at the start of a stream, after the handshake.
    pub fn new(kind: Kind) -> Self {
        Self { kind, skip: 0, packed: 0, records: 0 }
    }

    /// Takes what it can of `input` and returns how many bytes that was: all but the start of a
    /// header.
    pub fn feed(&mut self, input: &[u8]) -> usize {
        let mut at = 0;
        loop {
            let step = self.skip.min(input.len() - at);
            at += step;
            self.skip -= step;
            let rest = input.get(at..).unwrap_or_default();
            if self.skip > 0 || rest.is_empty() {
                return at;
            }
            if self.packed > 0 {
                let Some(length) = rest.first_chunk::<PACKED_LENGTH>() else { return at };
                // Never more than the frame has, whatever the length says: the frame's end is found
                // again.
                let size = (PACKED_LENGTH + u32::from_le_bytes(*length) as usize).min(self.packed);
                self.skip = size;
                self.packed -= size;
                self.records += 1;
                continue;
            }
            let Some(header) = read_header(rest) else { return at };
            at += header.header_size;
            let size = usize::try_from(header.body_size).unwrap_or(usize::MAX);
            let last = header.flags & (MORE | COMMAND) == 0;
            match self.kind {
                Kind::Batch if last => self.packed = size,
                Kind::Batch => self.skip = size,
                Kind::Message => {
                    self.skip = size;
                    self.records += u64::from(last);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `stream` in pieces of every size, as a reader with a buffer does.
    fn count(kind: Kind, stream: &[u8]) -> Vec<u64> {
        let counted = |piece: usize| {
            let (mut scanner, mut buffer) = (Scanner::new(kind), Vec::new());
            for part in stream.chunks(piece) {
                buffer.extend_from_slice(part);
                let taken = scanner.feed(&buffer);
                buffer.drain(..taken);
            }
            assert_eq!(buffer, b"", "pieces of {piece}");
            scanner.records
        };
        (1..=stream.len()).map(counted).collect()
    }

    #[test]
    fn counts_messages_and_passes_over_commands() {
        let mut stream = b"\x01\x02ab\x00\x01c\x04\x04ping\x00\x00".to_vec();
        stream.extend_from_slice(&[2, 0, 0, 0, 0, 0, 0, 1, 4]);
        stream.resize(stream.len() + 260, 7);
        assert!(count(Kind::Message, &stream).iter().all(|records| *records == 3));
    }

    #[test]
    fn counts_packed_records() {
        let stream = b"\x01\x01t\x00\x0d\x02\x00\x00\x00ab\x03\x00\x00\x00abc\
                       \x01\x01t\x00\x04\x00\x00\x00\x00";
        assert!(count(Kind::Batch, stream).iter().all(|records| *records == 3));
    }
}
