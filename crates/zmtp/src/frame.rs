//! Frame headers (ZMTP 3.1, section "Framing"): one flags octet, then the body's size in one octet
//! or in eight.

/// Flag: more frames of the same message follow.
pub const MORE: u8 = 0b001;
/// Flag: the size is eight octets, big-endian.
pub const LONG: u8 = 0b010;
/// Flag: the frame is a command, not part of a message.
pub const COMMAND: u8 = 0b100;

/// The longest body that a one-octet size can tell, in bytes.
pub const SHORT_MAX: usize = 255;

/// The longest header, in bytes.
pub const HEADER_MAX: usize = 9;

/// The position of a frame in its message: last, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// More frames of the same message follow.
    More,
    /// The last frame of its message.
    Last,
}

/// Appends the header of a message frame with a body of `size` bytes.
#[inline]
pub fn put_header(out: &mut Vec<u8>, position: Position, size: usize) {
    let more = match position {
        Position::More => MORE,
        Position::Last => 0,
    };
    if size <= SHORT_MAX {
        out.extend_from_slice(&[more, size as u8]);
    } else {
        out.push(more | LONG);
        out.extend_from_slice(&(size as u64).to_be_bytes());
    }
}

/// Appends a message of these frames as it goes over the wire.
pub fn put_message<'a>(out: &mut Vec<u8>, frames: impl ExactSizeIterator<Item = &'a [u8]>) {
    let count = frames.len();
    for (index, frame) in frames.enumerate() {
        let position = if index + 1 == count { Position::Last } else { Position::More };
        put_header(out, position, frame.len());
        out.extend_from_slice(frame);
    }
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The flags octet as it came.
    pub flags: u8,
    /// Size of the header itself in bytes: 2 or 9.
    pub header_size: usize,
    /// Size of the body in bytes, as announced (not yet checked against any limit).
    pub body_size: u64,
}

/// Reads a frame header from the start of `input`; `None` if more bytes are needed.
#[inline]
pub fn read_header(input: &[u8]) -> Option<Header> {
    let flags = *input.first()?;
    if flags & LONG == 0 {
        let body_size = u64::from(*input.get(1)?);
        return Some(Header { flags, header_size: 2, body_size });
    }
    let size: [u8; 8] = input.get(1..9)?.try_into().ok()?;
    Some(Header { flags, header_size: 9, body_size: u64::from_be_bytes(size) })
}

/// The body of the frame that starts `input`, if it is whole.
#[inline]
pub fn first_body(input: &[u8]) -> Option<&[u8]> {
    split_first(input).map(|(_, body, _)| body)
}

/// The flags and the body of the frame that starts `input`, if it is whole, and what is behind it.
#[inline]
pub fn split_first(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let header = read_header(input)?;
    let rest = input.get(header.header_size..)?;
    let (body, after) = rest.split_at_checked(usize::try_from(header.body_size).ok()?)?;
    Some((header.flags, body, after))
}
