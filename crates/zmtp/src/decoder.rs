//! Takes frames out of a stream that comes in any pieces.
//!
//! A frame that is whole in the input is read in place. Of one that is not, only what has come is
//! kept; memory grows with the bytes that arrive, never with the size they announce.

use bytes::Bytes;

use crate::error::Error;
use crate::frame::{COMMAND, HEADER_MAX, Header, LONG, MORE, read_header};

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

/// A body, in the input, gathered from several, or out of a box.
#[derive(Debug)]
pub(crate) enum Body<'a> {
    Whole(&'a [u8]),
    Gathered(Vec<u8>),
    /// Out of a box.
    Opened(Bytes),
    /// The number of bytes that were not kept.
    Discarded(usize),
}

/// The treatment of a body: kept, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    Body,
    Nothing,
}

impl Body<'_> {
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Whole(bytes) => bytes,
            Self::Gathered(bytes) => bytes,
            Self::Opened(bytes) => bytes,
            Self::Discarded(_) => &[],
        }
    }

    /// Its size in bytes, also if it was not kept.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Discarded(size) => *size,
            body => body.as_slice().len(),
        }
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        match self {
            Self::Whole(bytes) => Bytes::copy_from_slice(bytes),
            Self::Gathered(bytes) => Bytes::from(bytes),
            Self::Opened(bytes) => bytes,
            Self::Discarded(_) => Bytes::new(),
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
    come: Come,
}

/// The part of a body that has come.
#[derive(Debug)]
enum Come {
    Kept(Vec<u8>),
    /// A number of bytes, none of which is kept.
    Discarded(usize),
}

impl Decoder {
    /// Takes one frame off the front of `input`, or all of `input` if it holds no whole one.
    /// `check` sees flags and size of each frame before any of its body is kept, and tells whether
    /// it is to be.
    pub(crate) fn take<'a>(
        &mut self,
        input: &mut &'a [u8],
        check: impl FnOnce(u8, u64) -> Result<Keep, Error>,
    ) -> Result<Option<Frame<'a>>, Error> {
        if self.partial.is_none() {
            let Some(header) = self.take_header(input) else {
                return Ok(None);
            };
            check_flags(header.flags)?;
            let keep = check(header.flags, header.body_size)?;
            let Ok(size) = usize::try_from(header.body_size) else {
                return Err(Error::FrameTooLarge { size: header.body_size, limit: usize::MAX });
            };
            if let Some((body, rest)) = input.split_at_checked(size) {
                *input = rest;
                let body = match keep {
                    Keep::Body => Body::Whole(body),
                    Keep::Nothing => Body::Discarded(size),
                };
                return Ok(Some(Frame { flags: header.flags, body }));
            }
            let come = match keep {
                Keep::Body => Come::Kept(Vec::new()),
                Keep::Nothing => Come::Discarded(0),
            };
            self.partial = Some(Partial { flags: header.flags, size, come });
        }
        Ok(self.gather(input))
    }

    /// Returns true if a part of a frame has come.
    pub(crate) fn is_within_frame(&self) -> bool {
        self.head_size > 0 || self.partial.is_some()
    }

    /// Bytes of memory held for the frame under way.
    pub(crate) fn buffered(&self) -> usize {
        match &self.partial {
            Some(Partial { come: Come::Kept(body), .. }) => body.capacity(),
            _ => 0,
        }
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
        if zafka_planted::is("split-header-is-forgotten") {
            self.head_size = 0;
        }
        None
    }

    fn gather<'a>(&mut self, input: &mut &'a [u8]) -> Option<Frame<'a>> {
        let Partial { size, come, .. } = self.partial.as_mut()?;
        let missing = *size - come.size();
        let (now, rest) = input.split_at(missing.min(input.len()));
        *input = rest;
        come.take(now, *size);
        if come.size() < *size {
            return None;
        }
        let Partial { flags, come, .. } = self.partial.take()?;
        let body = match come {
            Come::Kept(body) => Body::Gathered(body),
            Come::Discarded(size) => Body::Discarded(size),
        };
        Some(Frame { flags, body })
    }
}

impl Come {
    /// Bytes that have come.
    fn size(&self) -> usize {
        match self {
            Self::Kept(body) => body.len(),
            Self::Discarded(size) => *size,
        }
    }

    /// Takes more of a body that has `size` bytes.
    fn take(&mut self, now: &[u8], size: usize) {
        match self {
            Self::Kept(body) => {
                let gathered = body.len() + now.len();
                if gathered > body.capacity() {
                    // At most twice what has come, and never more than the frame needs.
                    let wanted = gathered.saturating_mul(2).min(size);
                    body.reserve_exact(wanted - body.len());
                }
                body.extend_from_slice(now);
            }
            Self::Discarded(come) => *come += now.len(),
        }
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
