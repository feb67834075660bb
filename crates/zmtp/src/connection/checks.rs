//! Checks of a frame's flags and size, before any of its body is kept.

use std::num::NonZeroU64;
use std::ops::RangeInclusive;

use super::{Config, MAX_MESSAGE_FRAMES, Message};
use crate::decoder::Keep;
use crate::error::Error;
use crate::frame::{self, COMMAND};
use crate::mechanism::curve::OVERHEAD;

pub(super) fn check_handshake(
    sizes: RangeInclusive<usize>,
    flags: u8,
    size: u64,
) -> Result<(), Error> {
    if flags & COMMAND == 0 {
        return Err(Error::malformed("handshake", "a message where a command should be"));
    }
    if size > *sizes.end() as u64 {
        return Err(Error::FrameTooLarge { size, limit: *sizes.end() });
    }
    if size < *sizes.start() as u64 {
        let found = format!("a command of {size} bytes, at least {} are needed", sizes.start());
        return Err(Error::malformed("handshake", found));
    }
    Ok(())
}

/// Checks the frame around a box. libzmq does not mark it as a command, RFC 26 does.
pub(super) fn check_boxed(config: &Config, flags: u8, size: u64) -> Result<(), Error> {
    if flags & frame::MORE != 0 {
        return Err(Error::malformed(
            "MESSAGE command",
            "the flag for more frames outside the box",
        ));
    }
    if size > config.max_frame as u64 + OVERHEAD as u64 {
        return Err(Error::FrameTooLarge { size, limit: config.max_frame });
    }
    Ok(())
}

pub(super) fn check_traffic(
    config: &Config,
    message: &Message,
    discard: Option<NonZeroU64>,
    flags: u8,
    size: u64,
) -> Result<Keep, Error> {
    let is_command = flags & COMMAND != 0;
    if size > config.max_frame as u64 && (is_command || discard.is_none()) {
        return Err(Error::FrameTooLarge { size, limit: config.max_frame });
    }
    if is_command {
        return Ok(Keep::Body);
    }
    let fits = size <= config.max_frame as u64;
    let size = message.size.saturating_add(size);
    let fits = fits && size <= config.max_message as u64;
    if !fits && discard.is_none_or(|most| size > most.get()) {
        let limit = discard.and_then(|most| usize::try_from(most.get()).ok());
        let limit = limit.unwrap_or(config.max_message);
        return Err(Error::MessageTooLarge { size, limit });
    }
    if message.count as usize >= MAX_MESSAGE_FRAMES {
        return Err(Error::TooManyFrames { limit: MAX_MESSAGE_FRAMES });
    }
    Ok(if fits && !message.discarded { Keep::Body } else { Keep::Nothing })
}
