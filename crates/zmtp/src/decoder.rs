//! Takes frames out of a stream that comes in any pieces.
//!
//! A frame that is whole in the input is read where it stands. Of one that is not, only what has
//! come is kept; memory grows with the bytes that arrive, never with the size they announce.

use bytes::Bytes;

use crate::error::Error;
use crate::frame::{COMMAND, Header, LONG, MORE, read_header};

const HEADER_MAX: usize = 9;

/// One frame.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) flags: u8,
    pub(crate) body: Body<'a>,
}

impl Frame<'_> {
    pub(crate) fn is_command(&self) -> bool {
        self.flags & COMMAND != 0
    }

    pub(crate) fn has_more(&self) -> bool {
        self.flags & MORE != 0
    }
}

/// A body, in the input or gathered from several.
#[derive(Debug)]
pub(crate) enum Body<'a> {
    Whole(&'a [u8]),
    Gathered(Vec<u8>),
}

impl Body<'_> {
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Whole(bytes) => bytes,
            Self::Gathered(bytes) => bytes,
        }
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        match self {
            Self::Whole(bytes) => Bytes::copy_from_slice(bytes),
            Self::Gathered(bytes) => Bytes::from(bytes),
        }
    }
}

/// The frame that is under way.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    head: [u8; HEADER_MAX],
    head_size: u8,
    partial: Option<Partial>,
}

#[derive(Debug)]
struct Partial {
    flags: u8,
    /// Size of the whole body, in bytes.
    size: usize,
    body: Vec<u8>,
}

impl Decoder {
    /// Takes one frame off the front of `input`, or all of `input` where it holds no whole one.
    /// `check` sees flags and size of each frame before any of its body is kept.
    pub(crate) fn take<'a>(
        &mut self,
        input: &mut &'a [u8],
        check: impl FnOnce(u8, u64) -> Result<(), Error>,
    ) -> Result<Option<Frame<'a>>, Error> {
        if self.partial.is_none() {
            let Some(header) = self.take_header(input) else {
                return Ok(None);
            };
            check_flags(header.flags)?;
            check(header.flags, header.body_size)?;
            let Ok(size) = usize::try_from(header.body_size) else {
                return Err(Error::FrameTooLarge { size: header.body_size, limit: usize::MAX });
            };
            if let Some((body, rest)) = input.split_at_checked(size) {
                *input = rest;
                return Ok(Some(Frame { flags: header.flags, body: Body::Whole(body) }));
            }
            self.partial = Some(Partial { flags: header.flags, size, body: Vec::new() });
        }
        Ok(self.gather(input))
    }

    /// Bytes of memory held for the frame under way.
    pub(crate) fn buffered(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.body.capacity())
    }

    fn take_header(&mut self, input: &mut &[u8]) -> Option<Header> {
        if self.head_size == 0
            && let Some(header) = read_header(input)
        {
            *input = input.get(header.header_size..)?;
            return Some(header);
        }
        while let Some((&octet, rest)) = input.split_first() {
            *input = rest;
            let size = usize::from(self.head_size);
            *self.head.get_mut(size)? = octet;
            self.head_size += 1;
            if let Some(header) = read_header(self.head.get(..=size)?) {
                self.head_size = 0;
                return Some(header);
            }
        }
        None
    }

    fn gather<'a>(&mut self, input: &mut &'a [u8]) -> Option<Frame<'a>> {
        let partial = self.partial.as_mut()?;
        let missing = partial.size - partial.body.len();
        let (now, rest) = input.split_at(missing.min(input.len()));
        *input = rest;
        let gathered = partial.body.len() + now.len();
        if gathered > partial.body.capacity() {
            // At most twice what has come, and never more than the frame needs.
            let wanted = gathered.saturating_mul(2).min(partial.size);
            partial.body.reserve_exact(wanted - partial.body.len());
        }
        partial.body.extend_from_slice(now);
        if partial.body.len() < partial.size {
            return None;
        }
        let partial = self.partial.take()?;
        Some(Frame { flags: partial.flags, body: Body::Gathered(partial.body) })
    }
}

fn check_flags(flags: u8) -> Result<(), Error> {
    if flags & !(MORE | LONG | COMMAND) != 0 {
        let found = format!("flags 0x{flags:02x}; bits 3 to 7 must be zero");
        return Err(Error::malformed("frame", found));
    }
    if flags & COMMAND != 0 && flags & MORE != 0 {
        let found = format!("flags 0x{flags:02x}; a command has no more frames");
        return Err(Error::malformed("frame", found));
    }
    Ok(())
}
