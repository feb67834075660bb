//! The way of bytes to a peer: commands between messages, and messages from a feed.
//!
//! A feed (the ring, a queue of answers) gives batches of whole messages. The outbox writes them,
//! finishes half-written messages, and reports to the feed how far it came: the feed counts
//! delivery at the ends of messages.

mod boxes;
mod queue;
mod spare_buffers;

use std::io::{self, IoSlice};

use zafka_zmtp::curve::Sealer;

use crate::closed::Closed;
use crate::stream::Stream;
use boxes::{BoxWritten, Boxes};
pub use queue::Answers;
pub(crate) use queue::{NoFeed, Queue, QueueFeed, Taken};
pub(crate) use spare_buffers::SpareBuffers;

/// Batches written in one go before others get their turn.
const ROUNDS: usize = 8;
/// The slices of one write: a batch's (its rest, its segments, one of them split) and the commands.
const MAX_SLICES: usize = 70;

/// A source of messages for one peer.
pub(crate) trait Feed {
    /// Messages to be written next.
    type Batch: Batch;

    /// Takes what is to be written next; it comes back by [`Feed::advance`].
    ///
    /// # Errors
    /// The reason to close the connection, if nothing may be written to it any more.
    fn next_batch(&mut self) -> Result<Self::Batch, Closed>;

    /// Takes note of the bytes of a batch that the kernel accepted. Returns true if everything that
    /// the feed had was written.
    fn advance(&mut self, batch: Self::Batch, written: usize) -> bool;
}

/// Messages in ZMTP framing, of which the first may have been written in part.
pub(crate) trait Batch {
    /// Returns true if there is nothing to be written.
    fn is_empty(&self) -> bool;

    /// Returns true if the feed may have more than this.
    fn has_more(&self) -> bool;

    /// Bytes at its beginning that end a message of which a part was written before.
    fn half_written(&self) -> usize;

    /// Its bytes, in at most 65 pieces.
    fn slices(&self) -> impl Iterator<Item = &[u8]>;
}

/// The write side of a connection. Lent, without waiting, to the task that publishes a chunk while
/// the peer is idle.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Commands to be written at the next message boundary, in ZMTP framing.
    control: Vec<u8>,
    /// Bytes of `control` that were written.
    control_sent: usize,
    /// True if a part of the commands was written: the others come before the next message.
    control_begun: bool,
    /// Bytes of messages that were written.
    messages_written: u64,
    /// True if the kernel took no more the last time. The feed is not searched again before the
    /// kernel takes more, no matter how often a peer wakes us.
    blocked: bool,
    /// Boxes what is written, with CURVE and once its handshake is done.
    boxes: Option<Box<Boxes>>,
}

/// The end of a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drained {
    /// There is nothing to be written.
    Idle,
    /// The kernel takes no more for now.
    Blocked,
    /// There is more, but others should get their turn.
    More,
}

impl Outbox {
    /// Boxes what is written from now on, after what is queued.
    pub(crate) fn seal_with(&mut self, sealer: Sealer) {
        let handshake = self.control.split_off(self.control_sent);
        *self = Self {
            messages_written: self.messages_written,
            blocked: self.blocked,
            boxes: Some(Box::new(Boxes::new(sealer, handshake))),
            ..Self::default()
        };
    }

    /// Queues commands for the next message boundary.
    pub(crate) fn queue(&mut self, commands: &[u8]) {
        // A peer that makes us answer and reads slowly must not make us keep what it has read.
        self.control.drain(..self.control_sent);
        self.control_sent = 0;
        self.control.extend_from_slice(commands);
    }

    /// Forgets what is queued: nothing more is to be written.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Bytes of commands that are queued and not written.
    pub(crate) fn queued(&self) -> usize {
        self.control.len() - self.control_sent
    }

    /// Returns true if something was begun or is queued that no feed knows of.
    pub(crate) fn has_own(&self) -> bool {
        self.queued() > 0 || self.boxes.as_ref().is_some_and(|boxes| boxes.queued() > 0)
    }

    /// Bytes of messages that were written since the connection was made.
    pub(crate) fn messages_written(&self) -> u64 {
        self.messages_written
    }

    /// The kernel takes more again.
    pub(crate) fn unblock(&mut self) {
        self.blocked = false;
    }

    /// Writes what there is until nothing is left or the kernel takes no more.
    pub(crate) fn drain(
        &mut self,
        stream: &Stream,
        feed: &mut impl Feed,
    ) -> Result<Drained, Closed> {
        if self.blocked {
            return Ok(Drained::Blocked);
        }
        for _ in 0..ROUNDS {
            let batch = feed.next_batch()?;
            if batch.is_empty() && !self.has_own() {
                if batch.has_more() {
                    continue;
                }
                return Ok(Drained::Idle);
            }
            let outcome = match self.boxes.is_some() {
                true => self.write_boxed(stream, &batch),
                false => self.write(stream, &batch),
            };
            let of_batch = *outcome.as_ref().unwrap_or(&0);
            self.messages_written += of_batch as u64;
            let all_written = feed.advance(batch, of_batch);
            match outcome {
                Ok(_) if all_written && !self.has_own() => return Ok(Drained::Idle),
                Ok(_) => {}
                Err(Closed::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    return Ok(Drained::Blocked);
                }
                Err(Closed::Io(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(closed) => return Err(closed),
            }
        }
        Ok(Drained::More)
    }

    /// Makes one write of boxes. Returns how many bytes of the batch are done with.
    fn write_boxed(&mut self, stream: &Stream, batch: &impl Batch) -> Result<usize, Closed> {
        let Some(boxes) = &mut self.boxes else { return Ok(0) };
        let control = self.control.get(self.control_sent..).unwrap_or_default();
        let BoxWritten { of_batch, of_control } = boxes.write(stream, batch, control)?;
        self.control_written(of_control);
        Ok(of_batch)
    }

    /// Takes note that bytes of the commands were written.
    fn control_written(&mut self, bytes: usize) {
        self.control_sent += bytes;
        self.control_begun |= bytes > 0;
        if self.control_sent == self.control.len() {
            (self.control, self.control_sent, self.control_begun) = (Vec::new(), 0, false);
        }
    }

    /// Makes one vectored write: a half-written message's rest, then the commands, then the
    /// messages. Returns how many bytes of the batch were taken.
    fn write(&mut self, stream: &Stream, batch: &impl Batch) -> Result<usize, Closed> {
        // A command that was begun is finished first: it stands before everything in the batch.
        let before = if self.control_begun { 0 } else { batch.half_written() };
        let control = self.control.get(self.control_sent..).unwrap_or_default();
        let mut slices = Slices { list: [IoSlice::new(&[]); MAX_SLICES], len: 0 };
        let mut left_before = Some(before);
        for bytes in batch.slices() {
            match left_before {
                Some(at) if at < bytes.len() => {
                    let (head, tail) = bytes.split_at(at);
                    slices.push(head);
                    slices.push(control);
                    slices.push(tail);
                    left_before = None;
                }
                _ => {
                    slices.push(bytes);
                    left_before = left_before.map(|at| at - bytes.len());
                }
            }
        }
        if left_before.is_some() {
            slices.push(control);
        }
        let written = stream.try_write_vectored(slices.list())?;
        if written == 0 {
            return Err(io::Error::from(io::ErrorKind::WriteZero).into());
        }
        let of_control = written.saturating_sub(before).min(control.len());
        self.control_written(of_control);
        Ok(written - of_control)
    }
}

/// The slices of one write.
struct Slices<'a> {
    list: [IoSlice<'a>; MAX_SLICES],
    len: usize,
}

impl<'a> Slices<'a> {
    fn push(&mut self, bytes: &'a [u8]) {
        if !bytes.is_empty()
            && let Some(slot) = self.list.get_mut(self.len)
        {
            *slot = IoSlice::new(bytes);
            self.len += 1;
        }
    }

    fn list(&self) -> &[IoSlice<'a>] {
        &self.list[..self.len]
    }
}
