//! Boxes for a peer with CURVE: what goes to it is sealed frame by frame, in the order of the wire.
//!
//! A message is encoded once and boxed for each peer, when it is about to be written. Of what the
//! kernel does not take, only the rest of the box that was begun is kept. Boxes behind it are
//! forgotten and made again: nonces may have gaps. So what was not begun can still be dropped or
//! withdrawn, as it can if nothing is boxed.
//!
//! A feed counts plain bytes. It advances by a frame's bytes when its box is written, but by the
//! last one when the box is begun: so it knows that the message is half written.

use std::cell::RefCell;
use std::io::{self, IoSlice};

use zafka_zmtp::curve::{OVERHEAD, Sealer};
use zafka_zmtp::frame::{self, HEADER_MAX};

use super::Batch;
use crate::closed::Closed;
use crate::memory::Charge;
use crate::stream::Stream;

/// Bytes that are boxed ahead of a write, unless one frame is larger. It goes alone.
const BOXED_BYTES: usize = 64 * 1024;

thread_local! {
    /// Boxes that are being written. Nothing is left in it after that.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

#[derive(Default)]
struct Scratch {
    wire: Vec<u8>,
    boxes: Vec<Boxed>,
}

/// A frame in its box.
#[derive(Clone, Copy, Debug)]
struct Boxed {
    /// The end of the box.
    end: usize,
    /// Size of the frame.
    plain: usize,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    OfBatch,
    OfControl,
}

/// The room for boxes ahead of the next write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    More,
    None,
}

/// Plain bytes that are done with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct BoxWritten {
    pub(super) of_batch: usize,
    pub(super) of_control: usize,
}

/// The boxes of one peer.
#[derive(Debug)]
pub(super) struct Boxes {
    sealer: Sealer,
    /// Bytes that were begun and are to be finished before anything else.
    rest: Vec<u8>,
    rest_sent: usize,
    /// True if the feed waits for the last byte of the frame whose box that is.
    owes_byte: bool,
    /// Memory of the rest, or of a large frame that is being boxed.
    charge: Charge,
    /// True if there was no memory for that.
    is_broken: bool,
}

impl Boxes {
    /// Boxes what follows `handshake`, the bytes of which were not written yet.
    pub(super) fn new(sealer: Sealer, handshake: Vec<u8>, charge: Charge) -> Self {
        Self { sealer, rest: handshake, rest_sent: 0, owes_byte: false, charge, is_broken: false }
    }

    /// Bytes that are boxed and not written.
    pub(super) fn queued(&self) -> usize {
        self.rest.len() - self.rest_sent
    }

    /// Makes one write: the rest of what was begun, or boxes of a batch and of the commands that go
    /// at the next message boundary.
    ///
    /// # Errors
    /// There is no memory for the box that was begun or has to be made: nothing may be written any
    /// more.
    pub(super) fn write(
        &mut self,
        stream: &Stream,
        batch: &impl Batch,
        control: &[u8],
    ) -> Result<BoxWritten, Closed> {
        let write = |bytes: &[u8]| match stream.try_write_vectored(&[IoSlice::new(bytes)]) {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            other => other,
        };
        if self.is_broken {
            return Err(Closed::Memory(self.charge.limit()));
        }
        if self.queued() > 0 {
            let written = write(&self.rest[self.rest_sent..])?;
            return Ok(self.finish(written));
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let outcome = self.write_boxes(batch, control, scratch, write);
            scratch.boxes.clear();
            scratch.wire.clear();
            scratch.wire.shrink_to(2 * BOXED_BYTES);
            outcome
        })
    }

    /// Counts bytes of the rest.
    fn finish(&mut self, written: usize) -> BoxWritten {
        self.rest_sent += written;
        if self.queued() > 0 {
            return BoxWritten::default();
        }
        (self.rest, self.rest_sent) = (Vec::new(), 0);
        // Less is never refused.
        let _ = self.charge.set(0);
        let owed = std::mem::take(&mut self.owes_byte);
        BoxWritten { of_batch: usize::from(owed), of_control: 0 }
    }

    fn write_boxes(
        &mut self,
        batch: &impl Batch,
        control: &[u8],
        scratch: &mut Scratch,
        write: impl FnOnce(&[u8]) -> io::Result<usize>,
    ) -> Result<BoxWritten, Closed> {
        self.seal(batch, control, scratch)?;
        let sent = match write(&scratch.wire) {
            Ok(sent) => sent,
            Err(error) => {
                let _ = self.charge.set(0);
                return Err(error.into());
            }
        };
        let mut written = BoxWritten::default();
        let mut start = 0;
        for Boxed { end, plain, kind } in scratch.boxes.iter().copied() {
            if start >= sent {
                break;
            }
            let begun = end > sent;
            if begun {
                self.rest = scratch.wire[sent..end].to_vec();
                self.owes_byte = kind == Kind::OfBatch;
            }
            match kind {
                Kind::OfBatch => written.of_batch += plain - usize::from(begun),
                Kind::OfControl => written.of_control += plain,
            }
            start = end;
        }
        self.take(self.rest.len())?;
        Ok(written)
    }

    /// Boxes frames until there are enough: a half-written message's rest, then the commands, then
    /// messages.
    fn seal(
        &mut self,
        batch: &impl Batch,
        control: &[u8],
        scratch: &mut Scratch,
    ) -> Result<(), Closed> {
        let mut before = batch.half_written();
        let mut control = Some(control);
        for mut messages in batch.slices() {
            while !messages.is_empty() {
                if before == 0
                    && let Some(control) = control.take()
                    && self.seal_frames(control, Kind::OfControl, scratch)? == Room::None
                {
                    return Ok(());
                }
                let until = if before == 0 { messages.len() } else { before.min(messages.len()) };
                let (part, rest) = messages.split_at(until);
                if self.seal_frames(part, Kind::OfBatch, scratch)? == Room::None {
                    return Ok(());
                }
                before = before.saturating_sub(until);
                messages = rest;
            }
        }
        if let Some(control) = control {
            self.seal_frames(control, Kind::OfControl, scratch)?;
        }
        Ok(())
    }

    /// Boxes whole frames, as many as there is room for.
    fn seal_frames(
        &mut self,
        mut frames: &[u8],
        kind: Kind,
        scratch: &mut Scratch,
    ) -> Result<Room, Closed> {
        while let Some((flags, body, rest)) = frame::split_first(frames) {
            let boxed = body.len() + OVERHEAD + HEADER_MAX;
            if scratch.wire.len() + boxed > BOXED_BYTES && !scratch.boxes.is_empty() {
                return Ok(Room::None);
            }
            if boxed > BOXED_BYTES {
                self.take(boxed)?;
            }
            self.sealer.seal_frame(flags, body, &mut scratch.wire);
            let plain = frames.len() - rest.len();
            scratch.boxes.push(Boxed { end: scratch.wire.len(), plain, kind });
            frames = rest;
        }
        // Something is left only if it is no whole frame, which is an error.
        self.sealer.seal(frames, &mut scratch.wire)?;
        Ok(Room::More)
    }

    /// Takes memory for what is held from now on.
    fn take(&mut self, bytes: usize) -> Result<(), Closed> {
        let taken = self.charge.set(bytes);
        self.is_broken |= taken.is_err();
        taken.map_err(|_| Closed::Memory(self.charge.limit()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use zafka_zmtp::curve::{ClientSide, KeyPair, SecretKey, ServerSide};
    use zafka_zmtp::{Config, Connection, Event, Mechanism, Role, SocketType};

    use super::*;
    use crate::memory::PeerMemory;

    /// Whole messages of which the first `half` bytes are a half-written one's rest.
    struct Messages<'a> {
        bytes: &'a [u8],
        half: usize,
    }

    impl Batch for Messages<'_> {
        fn is_empty(&self) -> bool {
            self.bytes.is_empty()
        }

        fn has_more(&self) -> bool {
            false
        }

        fn half_written(&self) -> usize {
            self.half
        }

        fn slices(&self) -> impl Iterator<Item = &[u8]> {
            std::iter::once(self.bytes)
        }
    }

    /// A sealer, and the other side of its connection.
    fn sealed_pair() -> (Sealer, Connection, Instant) {
        let now = Instant::now();
        let keys = |number: u8| KeyPair::new(SecretKey::from_bytes([number; 32]));
        let random = |bytes: &mut [u8]| bytes.fill(7);
        let server = ServerSide { keys: vec![keys(1)], random };
        let side = ClientSide { keys: keys(2), server: keys(1).public(), token: None, random };
        let connection = |socket_type, mechanism| {
            let config = Config {
                socket_type,
                role: Role::Server,
                mechanism,
                identity: bytes::Bytes::new(),
                max_frame: 1 << 30,
                max_message: 1 << 30,
                heartbeat: None,
            };
            Connection::new(config, now)
        };
        let mut ours = connection(SocketType::Push, Mechanism::CurveServer(Arc::new(server)));
        let mut theirs = connection(SocketType::Pull, Mechanism::CurveClient(Arc::new(side)));
        while !theirs.is_ready() {
            while let Some(output) = ours.poll_output() {
                theirs.handle_input(&output, now).unwrap();
            }
            while let Some(output) = theirs.poll_output() {
                ours.handle_input(&output, now).unwrap();
            }
            ours.admit(&[], now);
        }
        while theirs.poll_event().is_some() {}
        (ours.take_sealer().unwrap(), theirs, now)
    }

    fn frame(more: bool, size: usize) -> Vec<u8> {
        let position = if more { frame::Position::More } else { frame::Position::Last };
        let mut bytes = Vec::new();
        frame::put_header(&mut bytes, position, size);
        bytes.resize(bytes.len() + size, b'x');
        bytes
    }

    /// Writes all messages through a kernel that takes so many bytes at a time, and returns what
    /// the peer gets: sizes of frames, message by message.
    fn carry(messages: &[u8], ends: &[usize], step: usize) -> Vec<Vec<usize>> {
        let (sealer, mut peer, now) = sealed_pair();
        let memory = PeerMemory::new(1 << 20);
        let mut boxes = Boxes::new(sealer, Vec::new(), memory.empty());
        let (mut done, mut got) = (0, Vec::new());
        let mut control = frame::COMMAND.to_be_bytes().to_vec();
        control.extend_from_slice(b"\x05\x04PONG");
        while done < messages.len() || boxes.queued() > 0 {
            let half = ends.iter().find(|end| **end > done).map_or(0, |end| end - done);
            let half = if ends.contains(&done) || done == 0 { 0 } else { half };
            let batch = Messages { bytes: &messages[done..], half };
            let mut kernel = |bytes: &[u8]| {
                let taken = step.min(bytes.len());
                peer.handle_input(&bytes[..taken], now).unwrap();
                Ok(taken)
            };
            let written = if boxes.queued() > 0 {
                let taken = kernel(&boxes.rest[boxes.rest_sent..]).unwrap();
                boxes.finish(taken)
            } else {
                let mut scratch = Scratch::default();
                boxes.write_boxes(&batch, &control, &mut scratch, kernel).unwrap()
            };
            done += written.of_batch;
            control.drain(..written.of_control);
            assert_eq!(memory.used(), boxes.queued().max(memory.used().min(boxes.rest.len())));
        }
        assert!(control.is_empty());
        while let Some(event) = peer.poll_event() {
            if let Event::Message(frames) = event {
                got.push(frames.iter().map(bytes::Bytes::len).collect());
            }
        }
        assert_eq!(memory.used(), 0);
        got
    }

    #[test]
    fn messages_arrive_whole_however_little_the_kernel_takes() {
        let parts = [
            frame(true, 6),
            frame(true, 0),
            frame(false, 300),
            frame(false, 1),
            frame(true, 70_000),
            frame(false, 2),
        ];
        let messages = parts.concat();
        let ends = [parts[..3].concat().len(), parts[..4].concat().len(), messages.len()];
        for step in [1, 2, 7, 40, 100, 1000, 66_000, 1 << 20] {
            let got = carry(&messages, &ends, step);
            assert_eq!(got, [vec![6, 0, 300], vec![1], vec![70_000, 2]], "{step} at a time");
        }
    }

    #[test]
    fn what_was_not_begun_may_be_something_else_the_next_time() {
        let (sealer, mut peer, now) = sealed_pair();
        let memory = PeerMemory::new(1 << 20);
        let mut boxes = Boxes::new(sealer, Vec::new(), memory.empty());
        let two = [frame(false, 1), frame(false, 2)].concat();
        let mut wire = Vec::new();
        let mut kernel = |bytes: &[u8]| {
            // All of the first box, and nothing of the second.
            wire.extend_from_slice(&bytes[..2 + OVERHEAD + 1]);
            Ok(2 + OVERHEAD + 1)
        };
        let batch = Messages { bytes: &two, half: 0 };
        let mut scratch = Scratch::default();
        let written = boxes.write_boxes(&batch, &[], &mut scratch, &mut kernel).unwrap();
        assert_eq!((written.of_batch, boxes.queued()), (3, 0));
        let other = frame(false, 3);
        let batch = Messages { bytes: &other, half: 0 };
        let mut scratch = Scratch::default();
        let all = |bytes: &[u8]| {
            wire.extend_from_slice(bytes);
            Ok(bytes.len())
        };
        let written = boxes.write_boxes(&batch, &[], &mut scratch, all).unwrap();
        assert_eq!(written.of_batch, other.len());
        peer.handle_input(&wire, now).unwrap();
        let sizes = std::iter::from_fn(|| peer.poll_event()).map(|event| match event {
            Event::Message(frames) => frames[0].len(),
            other => panic!("{other:?}"),
        });
        assert_eq!(sizes.collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn a_large_frame_waits_for_memory() {
        let (sealer, _peer, _) = sealed_pair();
        let memory = PeerMemory::new(100_000);
        let mut boxes = Boxes::new(sealer, Vec::new(), memory.empty());
        let other = memory.charge(50_000).unwrap();
        let large = frame(false, 70_000);
        let batch = Messages { bytes: &large, half: 0 };
        let mut scratch = Scratch::default();
        let outcome = boxes.write_boxes(&batch, &[], &mut scratch, |_| unreachable!());
        assert!(matches!(outcome, Err(Closed::Memory(100_000))));
        assert!(boxes.is_broken && scratch.wire.is_empty());
        drop(other);
        drop(boxes);
        assert_eq!(memory.used(), 0);
    }
}
