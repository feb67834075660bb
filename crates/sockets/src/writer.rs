//! Writing to a peer: its own commands between messages, and what the ring owes it.

use std::io::{self, IoSlice};

use crate::peer::{Closed, Peer};
use crate::ring::{Batch, Segment};
use crate::shared::Shared;

/// Batches written in one go before others get their turn.
const ROUNDS: usize = 8;
/// The slices of one write: a batch's (its rest, its segments, one of them split) and the commands.
const MAX_SLICES: usize = 70;

/// The write side of a connection. Lent, without waiting, to the task that publishes a chunk while
/// the peer is idle.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    /// Commands to be written at the next message boundary, in ZMTP framing.
    control: Vec<u8>,
    /// Bytes of `control` that were written.
    control_sent: usize,
    /// Whether a part of the commands was written: the others come before the next message.
    control_begun: bool,
    /// Bytes of messages that were written.
    messages_written: u64,
    /// Whether the kernel took no more the last time. Nothing is looked for until it says that it
    /// does: whatever else a peer makes us do, its share of the ring is not gone through again
    /// meanwhile.
    blocked: bool,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drained {
    /// There is nothing to be written.
    Idle,
    /// The kernel takes no more for now.
    Blocked,
    /// There is more, but others should get their turn.
    More,
}

impl Writer {
    /// Queues bytes for the next message boundary.
    pub(crate) fn queue(&mut self, bytes: &[u8]) {
        // A peer that makes us answer and reads slowly must not make us keep what it has read.
        self.control.drain(..self.control_sent);
        self.control_sent = 0;
        self.control.extend_from_slice(bytes);
    }

    /// Forgets what is queued: nothing more is to be written.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Bytes queued and not written.
    pub(crate) fn queued(&self) -> usize {
        self.control.len() - self.control_sent
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
    pub(crate) fn drain(&mut self, shared: &Shared, peer: &Peer) -> Result<Drained, Closed> {
        if self.blocked {
            return Ok(Drained::Blocked);
        }
        for _ in 0..ROUNDS {
            let batch = shared.change(|ring| ring.gather(peer.id()));
            if batch.is_broken {
                return Err(shared.memory_exceeded());
            }
            if batch.is_empty() && self.queued() == 0 {
                if batch.more {
                    continue;
                }
                return Ok(Drained::Idle);
            }
            let outcome = self.write(peer, &batch);
            let of_batch = *outcome.as_ref().unwrap_or(&0);
            self.messages_written += of_batch as u64;
            let all_written = shared.change(|ring| ring.advance(peer.id(), &batch, of_batch));
            match outcome {
                Ok(_) if all_written && self.queued() == 0 => return Ok(Drained::Idle),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    return Ok(Drained::Blocked);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Drained::More)
    }

    /// One vectored write: a half-written message's rest, then the commands, then the messages.
    /// Returns how many bytes of the batch were taken.
    fn write(&mut self, peer: &Peer, batch: &Batch) -> io::Result<usize> {
        // A command that was begun is finished first: it stands before whatever the batch holds.
        let before = if self.control_begun { 0 } else { batch.rest.len() + batch.half_written() };
        let control = self.control.get(self.control_sent..).unwrap_or_default();
        let mut slices = Slices { list: [IoSlice::new(&[]); MAX_SLICES], len: 0 };
        let mut left_before = Some(before);
        for bytes in std::iter::once(&*batch.rest).chain(batch.segments.iter().map(Segment::bytes))
        {
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
        let written = peer.stream().try_write_vectored(slices.list())?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let of_control = written.saturating_sub(before).min(control.len());
        self.control_sent += of_control;
        self.control_begun |= of_control > 0;
        if self.control_sent == self.control.len() {
            self.control = Vec::new();
            self.control_sent = 0;
            self.control_begun = false;
        }
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
