//! Boxes for a peer with CURVE: what goes to it is sealed frame by frame, in the order of the wire.
//!
//! A message is encoded once and boxed for each peer, when it is about to be written. What the
//! kernel does not take of that is forgotten. Of the box that was begun, its head and a place are
//! kept: the rest is made again of the frame, which all peers share. So a peer that stands still
//! makes the socket hold no more than it would without boxes. Boxes behind it are made again too,
//! with other nonces, which may have gaps. What was not begun can still be dropped or withdrawn, as
//! it can if nothing is boxed.
//!
//! A feed counts plain bytes: those of which the boxes were written. Of a box that was begun they
//! are at least one and never all, so that the feed knows that the message is half written.

use std::cell::RefCell;
use std::io::{self, IoSlice};

use zafka_zmtp::curve::{BegunBox, OVERHEAD, Sealer};
use zafka_zmtp::frame::{self, HEADER_MAX};

use super::Batch;
use crate::closed::Closed;
use crate::stream::Stream;

/// Bytes that are boxed ahead of a write, unless one frame is larger. It goes alone. (Few in tests,
/// so that they see many writes.)
const BOXED_BYTES: usize = if cfg!(test) { 256 } else { 64 * 1024 };
/// Bytes that are boxed of a larger frame before its first write: what the kernel may take at once.
/// What it leaves costs a second encryption.
const BEGUN_BYTES: usize = if cfg!(test) { 2048 } else { 1024 * 1024 };

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
    /// The end of the box, which is behind what was made if that is its beginning only.
    end: usize,
    /// Size of the frame.
    plain: usize,
    kind: Kind,
}

/// A box that was begun and is to be finished before anything else.
#[derive(Debug)]
struct Begun {
    made: BegunBox,
    kind: Kind,
    /// Bytes of the frame that do not count as written yet.
    plain_left: usize,
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
    /// The end of the handshake, which goes before all boxes as it is.
    handshake: Vec<u8>,
    handshake_sent: usize,
    begun: Option<Begun>,
}

impl Boxes {
    /// Boxes what follows `handshake`, the bytes of which were not written yet.
    pub(super) fn new(sealer: Sealer, handshake: Vec<u8>) -> Self {
        Self { sealer, handshake, handshake_sent: 0, begun: None }
    }

    /// Bytes of the handshake that are not written.
    pub(super) fn queued(&self) -> usize {
        self.handshake.len() - self.handshake_sent
    }

    /// Makes one write: the rest of what was begun, or boxes of a batch and of the commands that go
    /// at the next message boundary.
    ///
    /// # Errors
    /// The kernel's, or input that is not whole frames.
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
        if self.queued() > 0 {
            self.handshake_sent += write(&self.handshake[self.handshake_sent..])?;
            if self.queued() == 0 {
                (self.handshake, self.handshake_sent) = (Vec::new(), 0);
            }
            return Ok(BoxWritten::default());
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let outcome = self.write_boxes(batch, control, scratch, write);
            scratch.boxes.clear();
            scratch.wire.clear();
            scratch.wire.shrink_to(2 * BOXED_BYTES);
            outcome
        })
    }

    fn write_boxes(
        &mut self,
        batch: &impl Batch,
        control: &[u8],
        scratch: &mut Scratch,
        write: impl FnOnce(&[u8]) -> io::Result<usize>,
    ) -> Result<BoxWritten, Closed> {
        if let Some(begun) = &self.begun {
            let frames = match begun.kind {
                Kind::OfBatch => batch.slices().find(|slice| !slice.is_empty()).unwrap_or_default(),
                Kind::OfControl => control,
            };
            self.sealer.resume(&begun.made, frames, BOXED_BYTES, &mut scratch.wire)?;
            let sent = write(&scratch.wire)?;
            return Ok(self.go_on(sent));
        }
        self.seal(batch, control, scratch)?;
        let sent = write(&scratch.wire)?;
        let mut written = BoxWritten::default();
        let mut start = 0;
        for Boxed { end, plain, kind } in scratch.boxes.iter().copied() {
            if start >= sent {
                break;
            }
            if end > sent {
                let made = BegunBox::new(&scratch.wire[start..], 0);
                self.begun = made.map(|made| Begun { made, kind, plain_left: plain });
                written.add(self.go_on(sent - start));
            } else {
                written.add(BoxWritten::of(kind, plain));
            }
            start = end;
        }
        Ok(written)
    }

    /// Counts bytes of the box that was begun.
    fn go_on(&mut self, sent: usize) -> BoxWritten {
        let Some(begun) = &mut self.begun else { return BoxWritten::default() };
        begun.made.handle_sent(sent);
        // Behind an empty body the frame's header is left.
        let left = if begun.made.is_whole() { 0 } else { begun.made.body_left().max(1) };
        let written = BoxWritten::of(begun.kind, begun.plain_left - left);
        begun.plain_left = left;
        if left == 0 {
            self.begun = None;
        }
        written
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
            let left = self.sealer.begin_frame(flags, body, BEGUN_BYTES, &mut scratch.wire);
            let plain = frames.len() - rest.len();
            scratch.boxes.push(Boxed { end: scratch.wire.len() + left, plain, kind });
            frames = rest;
        }
        // Something is left only if it is no whole frame, which is an error.
        self.sealer.seal(frames, &mut scratch.wire)?;
        Ok(Room::More)
    }
}

impl BoxWritten {
    fn of(kind: Kind, plain: usize) -> Self {
        match kind {
            Kind::OfBatch => Self { of_batch: plain, of_control: 0 },
            Kind::OfControl => Self { of_batch: 0, of_control: plain },
        }
    }

    fn add(&mut self, other: Self) {
        self.of_batch += other.of_batch;
        self.of_control += other.of_control;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use zafka_zmtp::curve::{ClientSide, KeyPair, SecretKey, ServerSide};
    use zafka_zmtp::{Config, Connection, Event, Mechanism, Role, SocketType};

    use super::*;

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
        let mut boxes = Boxes::new(sealer, Vec::new());
        let (mut done, mut got) = (0, Vec::new());
        let mut control = frame::COMMAND.to_be_bytes().to_vec();
        control.extend_from_slice(b"\x05\x04PONG");
        while done < messages.len() || boxes.begun.is_some() {
            let half = ends.iter().find(|end| **end > done).map_or(0, |end| end - done);
            let half = if ends.contains(&done) || done == 0 { 0 } else { half };
            let batch = Messages { bytes: &messages[done..], half };
            let mut made = 0;
            let kernel = |bytes: &[u8]| {
                made = bytes.len();
                let taken = step.min(bytes.len());
                peer.handle_input(&bytes[..taken], now).unwrap();
                Ok(taken)
            };
            let mut scratch = Scratch::default();
            let written = boxes.write_boxes(&batch, &control, &mut scratch, kernel).unwrap();
            assert!(made <= BEGUN_BYTES + OVERHEAD + HEADER_MAX);
            done += written.of_batch;
            control.drain(..written.of_control);
            // A frame of which a part was written is one to the feed as well.
            if let Some(begun) = &boxes.begun {
                let (of_batch, of_control) = (messages.len() - done, control.len());
                let left = if begun.kind == Kind::OfBatch { of_batch } else { of_control };
                assert!((1..=left).contains(&begun.plain_left));
                assert!(begun.kind == Kind::OfControl || !ends.contains(&done));
            }
        }
        assert!(control.is_empty());
        while let Some(event) = peer.poll_event() {
            if let Event::Message(frames) = event {
                got.push(frames.iter().map(bytes::Bytes::len).collect());
            }
        }
        got
    }

    #[test]
    fn messages_arrive_whole_however_little_the_kernel_takes() {
        let parts = [
            frame(true, 6),
            frame(true, 0),
            frame(false, 300),
            frame(false, 1),
            frame(true, 5_000),
            frame(true, 0),
            frame(false, 600),
        ];
        let messages = parts.concat();
        let ends = [parts[..3].concat().len(), parts[..4].concat().len(), messages.len()];
        for step in [1, 2, 7, 40, 100, 1000, 4_000, 1 << 20] {
            let got = carry(&messages, &ends, step);
            assert_eq!(got, [vec![6, 0, 300], vec![1], vec![5_000, 0, 600]], "{step} at a time");
        }
    }

    #[test]
    fn what_was_not_begun_may_be_something_else_the_next_time() {
        let (sealer, mut peer, now) = sealed_pair();
        let mut boxes = Boxes::new(sealer, Vec::new());
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
        assert_eq!((written.of_batch, boxes.begun.is_none()), (3, true));
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

    /// However large the frame and whatever the kernel has taken of it, a peer that stands still
    /// has no more than this: the rest is the ring's, which all peers share.
    #[test]
    fn a_box_that_was_begun_keeps_nothing_of_its_frame() {
        let (sealer, mut peer, now) = sealed_pair();
        let mut boxes = Boxes::new(sealer, Vec::new());
        let large = frame(false, 100_000);
        let batch = Messages { bytes: &large, half: 0 };
        let mut scratch = Scratch::default();
        let mut taken = Vec::new();
        let kernel = |bytes: &[u8]| {
            taken.extend_from_slice(&bytes[..500]);
            Ok(500)
        };
        let written = boxes.write_boxes(&batch, &[], &mut scratch, kernel).unwrap();
        assert_eq!(written, BoxWritten { of_batch: 500 - OVERHEAD, of_control: 0 });
        assert!(scratch.wire.len() <= BEGUN_BYTES + OVERHEAD + HEADER_MAX);
        assert!(boxes.handshake.capacity() == 0 && size_of::<Boxes>() < 300);
        // It stands still, and goes on.
        let rest = &large[written.of_batch..];
        let batch = Messages { bytes: rest, half: rest.len() };
        let mut scratch = Scratch::default();
        let blocked = |_: &[u8]| Err(io::ErrorKind::WouldBlock.into());
        let outcome = boxes.write_boxes(&batch, &[], &mut scratch, blocked);
        assert!(matches!(outcome, Err(Closed::Io(_))));
        let mut done = written.of_batch;
        while done < large.len() {
            let batch = Messages { bytes: &large[done..], half: large.len() - done };
            let mut scratch = Scratch::default();
            let kernel = |bytes: &[u8]| {
                taken.extend_from_slice(bytes);
                Ok(bytes.len())
            };
            done += boxes.write_boxes(&batch, &[], &mut scratch, kernel).unwrap().of_batch;
        }
        peer.handle_input(&taken, now).unwrap();
        let Some(Event::Message(frames)) = peer.poll_event() else { panic!("no message") };
        assert!(frames[0].iter().eq(large[HEADER_MAX..].iter()));
    }
}
