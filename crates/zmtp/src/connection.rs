//! One side of a connection: greeting, handshake, traffic.
//!
//! Commands are taken between the frames of a message too: RFC 37 has them between messages only,
//! but libzmq sends PING wherever its timer finds it.

mod checks;
mod interest;
mod life;

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::time::Instant;

use bytes::Bytes;

use crate::command::{self, Command};
use crate::decoder::{Body, Decoder, Frame, Keep};
use crate::error::{Error, printable};
use crate::heartbeat::{Heartbeat, Watch};
use crate::mechanism::curve::{Opener, Sealer};
use crate::mechanism::{Done, Handshake, Mechanism, Ours, PeerInfo, Step};
use crate::messages::{Discarded, Gathering, Limits, Messages, head};
use crate::{Minor, SocketType, greeting};
use checks::{check_boxed, check_handshake, check_traffic};
use interest::{Interest, put_interest};
pub use life::MAX_REPLY_BYTES;
use life::Ping;

/// The most frames that one inbound message may have.
pub const MAX_MESSAGE_FRAMES: usize = 4096;

/// Memory for a frame besides its bytes, in bytes.
const FRAME_MEMORY: usize = 64;

/// Our end of the transport. Mechanisms have roles of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Our side is bound.
    Server,
    /// Our side connected.
    Client,
}

/// Our side of a connection, and its limits.
#[derive(Clone, Debug)]
pub struct Config {
    /// Our socket type.
    pub socket_type: SocketType,
    /// Our end.
    pub role: Role,
    /// The security mechanism; the peer must have the same.
    pub mechanism: Mechanism,
    /// Our identity (routing id), empty for none; of a longer one the first 255 bytes count.
    /// Sent by REQ, DEALER and ROUTER.
    pub identity: Bytes,
    /// The largest inbound frame body, in bytes.
    pub max_frame: usize,
    /// The most bytes that the frames of one inbound message may have together.
    pub max_message: usize,
    /// Heartbeats of our own; never sent to a 3.0 peer.
    pub heartbeat: Option<Heartbeat>,
}

impl Config {
    /// Our side as a mechanism shows it.
    fn ours(&self) -> Ours<'_> {
        Ours { socket_type: self.socket_type, identity: &self.identity }
    }
}

/// An event from the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A CURVE client has proven its key: it waits for [`Connection::admit`] or
    /// [`Connection::refuse`]. Comes before `Ready`, and to a CURVE server alone.
    Authenticate(PeerInfo),
    /// The handshake is done. Comes before anything that the peer says after it.
    Ready(PeerInfo),
    /// The peer subscribes to a prefix (our side is PUB or XPUB). Prefixes are not counted here.
    Subscribe(Bytes),
    /// The peer cancels one subscription to a prefix.
    Cancel(Bytes),
    /// A whole message, one or more frames. A PUB side never gets one.
    Message(Vec<Bytes>),
    /// Whole messages, at least one, that came together; instead of [`Event::Message`] after
    /// [`Connection::gather`].
    Messages(Messages),
    /// A message over `max_message`, which was read and thrown away; only after
    /// [`Connection::discard_up_to`].
    TooLarge(Discarded),
}

/// One side of a connection.
#[derive(Debug)]
pub struct Connection {
    config: Config,
    state: State,
    handshake: Handshake,
    decoder: Decoder,
    watch: Watch,
    /// Frames of the message under way, and their bytes.
    message: Message,
    /// The same instead, with those of whole messages, if messages are handed over together.
    gathering: Option<Box<Gathering>>,
    /// Up to this size in bytes a message that is too large is thrown away and told.
    discard: Option<NonZeroU64>,
    /// Greeting and handshake, which go over the wire as they are.
    opening: Vec<u8>,
    output: Vec<u8>,
    /// Opens and boxes the traffic, once a CURVE handshake is done.
    boxes: Option<Box<Boxes>>,
    /// Bytes of `output` that the peer made us write.
    replies: usize,
    /// The PING of ours that is not written yet.
    ping: Ping,
    /// Subscriptions that wait for the handshake.
    pending: Vec<(Interest, Bytes)>,
    events: VecDeque<Event>,
}

#[derive(Debug)]
enum State {
    Greeting(Box<greeting::Incoming>),
    /// A CURVE server may wait for the caller to decide about the peer.
    Handshake(Minor),
    Ready(Minor),
    Failed(Box<Error>),
}

/// Opens and boxes the traffic of a CURVE connection.
#[derive(Debug)]
struct Boxes {
    opener: Opener,
    /// The sealer, until the caller takes it.
    sealer: Option<Sealer>,
}

#[derive(Debug, Default)]
struct Message {
    frames: Vec<Bytes>,
    count: u32,
    size: u64,
    /// It is over `max_message`: no more of it is kept.
    discarded: bool,
}

impl Connection {
    /// A new connection; our greeting is queued.
    pub fn new(config: Config, now: Instant) -> Self {
        let opening = greeting::encode(&config.mechanism).to_vec();
        Self {
            state: State::Greeting(Box::new(greeting::Incoming::new())),
            handshake: Handshake::new(&config.mechanism),
            config,
            decoder: Decoder::default(),
            watch: Watch::new(None, now),
            message: Message::default(),
            gathering: None,
            discard: None,
            opening,
            output: Vec::new(),
            boxes: None,
            replies: 0,
            ping: Ping::None,
            pending: Vec::new(),
            events: VecDeque::new(),
        }
    }

    /// Takes what the peer sent, in any pieces; all of it, unless there is an error.
    ///
    /// After an error the connection is to be closed, best once what `poll_output` has is written:
    /// it may tell the peer why. Further calls give the same error.
    pub fn handle_input(&mut self, input: &[u8], now: Instant) -> Result<(), Error> {
        if let State::Failed(error) = &self.state {
            return Err((**error).clone());
        }
        if !input.is_empty() {
            self.watch.heard();
        }
        if let Some(gathering) = &mut self.gathering
            && self.boxes.is_some()
        {
            gathering.expect(input.len());
        }
        let taken = self.take(input, now);
        self.end_gathering();
        taken.map_err(|error| self.fail(error))
    }

    /// Does as [`Self::handle_input`], of a block that the connection may keep: messages that came
    /// together are handed over in it, without a copy, if they are at least a quarter of what it
    /// may hold. What is in it afterward is of no meaning.
    ///
    /// # Errors
    /// As [`Self::handle_input`].
    pub fn handle_block(&mut self, block: &mut Vec<u8>, now: Instant) -> Result<(), Error> {
        if !block.is_empty() {
            self.watch.heard();
        }
        match self.keep_block(block, now) {
            Ok(taken) => self.handle_input(block.get(taken..).unwrap_or_default(), now),
            Err(error) => {
                self.end_gathering();
                Err(self.fail(error))
            }
        }
    }

    /// Takes the messages of a block with it, after the one that was under way. Returns how many
    /// bytes of what it holds then were taken.
    fn keep_block(&mut self, block: &mut Vec<u8>, now: Instant) -> Result<usize, Error> {
        if !self.takes_plain() || block.len() < block.capacity() / 4 {
            return Ok(0);
        }
        let mut input = &**block;
        while self.is_within_message() && self.take_frame(&mut input, now)? {}
        let taken = block.len() - input.len();
        // It comes before those in the block.
        self.end_gathering();
        let limits = self.limits();
        let Some(gathering) = &mut self.gathering else { return Ok(taken) };
        let Some(messages) = gathering.take_block(block, taken, limits) else { return Ok(taken) };
        self.events.push_back(Event::Messages(messages));
        Ok(0)
    }

    /// Lets the client in that was presented. `properties` go with our READY: names of at most 255
    /// letters, digits and `-_.+`. Does nothing if no client waits for it.
    pub fn admit(&mut self, properties: &[(&str, &str)], now: Instant) {
        let State::Handshake(minor) = self.state else { return };
        let ours = self.config.ours();
        if let Some(done) = self.handshake.admit(properties, ours, &mut self.opening) {
            self.on_done(minor, *done, now);
        }
    }

    /// Refuses the client that was presented for good: it is told `reason` by an ERROR command,
    /// after which libzmq never tries again. `300`, `400` and `500` are those that it takes for a
    /// refusal. What comes back ends the connection as an error of `handle_input` does.
    pub fn refuse(&mut self, reason: &str) -> Error {
        command::put_error(&mut self.opening, reason);
        self.fail(Error::Refused { reason: reason.to_owned() })
    }

    /// Returns the sealer that boxes our output from now on, messages and commands alike; `None`
    /// with NULL, or before the handshake is done. To be asked for after [`Event::Ready`]: until
    /// then `poll_output` gives the handshake alone.
    pub fn take_sealer(&mut self) -> Option<Sealer> {
        self.boxes.as_mut().and_then(|boxes| boxes.sealer.take())
    }

    /// Reads messages over `max_message`, up to this size in bytes, from now on and throws them
    /// away: each is told as [`Event::TooLarge`]. Larger ones are an error, as all of them are
    /// without this. With CURVE one frame over `max_frame` is an error too: whether more follow is
    /// known once its box is opened.
    pub fn discard_up_to(&mut self, bytes: u64) {
        self.discard = NonZeroU64::new(bytes);
    }

    /// Hands messages that come together over together from now on, which costs much less for each.
    /// Does nothing if our side is PUB or XPUB.
    pub fn gather(&mut self) {
        if !self.config.socket_type.publishes() {
            self.gathering.get_or_insert_default();
        }
    }

    /// Returns bytes to be sent at the next message boundary: greeting, handshake, replies,
    /// heartbeats, subscriptions. Ask only when the last one is written, or the bound on replies
    /// bounds nothing. With CURVE what it gives after [`Connection::take_sealer`] is to be sealed.
    pub fn poll_output(&mut self) -> Option<Vec<u8>> {
        let mut output = std::mem::take(&mut self.opening);
        let goes = self.boxes.as_ref().is_none_or(|boxes| boxes.sealer.is_none());
        if goes && !self.output.is_empty() {
            if !output.is_empty() && self.boxes.is_some() {
                return Some(output);
            }
            self.replies = 0;
            if self.ping == Ping::Queued {
                self.ping = Ping::Polled;
            }
            if output.is_empty() {
                return Some(std::mem::take(&mut self.output));
            }
            output.append(&mut self.output);
        }
        (!output.is_empty()).then_some(output)
    }

    /// Bytes that wait for `poll_output`.
    pub fn output_bytes(&self) -> usize {
        self.opening.len() + self.output.len()
    }

    /// Returns the next event, in order.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if event.is_none() && self.events.capacity() > 0 {
            // Ten thousand idle peers keep no buffers.
            self.events = VecDeque::new();
        }
        event
    }

    /// Returns true if the handshake is done, and nothing failed since.
    pub fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready(_))
    }

    /// Bytes of memory held for an inbound frame or message that is not whole yet; never more than
    /// twice what has come of it, and a little for each of its frames.
    pub fn buffered(&self) -> usize {
        let frames = self.message.frames.iter().map(|frame| frame.len() + FRAME_MEMORY);
        let frames = frames.sum::<usize>();
        self.decoder.buffered() + frames
    }

    fn fail(&mut self, error: Error) -> Error {
        match (&error, &self.config.mechanism) {
            (Error::IncompatibleSocket { .. }, Mechanism::Null) => {
                command::put_error(&mut self.opening, "Invalid socket type");
            }
            (Error::Rejected { .. }, _) => command::put_error(&mut self.opening, "400"),
            _ => {}
        }
        self.state = State::Failed(Box::new(error.clone()));
        self.decoder = Decoder::default();
        self.message = Message::default();
        self.gathering = None;
        self.pending = Vec::new();
        error
    }

    fn take(&mut self, mut input: &[u8], now: Instant) -> Result<(), Error> {
        if let State::Greeting(greeting) = &mut self.state {
            let Some(minor) = greeting.take(&mut input, &self.config.mechanism)? else {
                return Ok(());
            };
            let ours = self.config.ours();
            self.handshake.start(&mut self.opening, ours);
            self.state = State::Handshake(minor);
        }
        while !input.is_empty() {
            self.take_plain(&mut input);
            if input.is_empty() || !self.take_frame(&mut input, now)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes a frame off the front of `input`. Returns false if no whole one is there: then all of
    /// it was taken.
    fn take_frame(&mut self, input: &mut &[u8], now: Instant) -> Result<bool, Error> {
        let Self { decoder, config, message, state, discard, handshake, boxes, .. } = self;
        let check = |flags, size| match (&state, &boxes) {
            (State::Ready(_), None) => check_traffic(config, message, *discard, flags, size),
            (State::Ready(_), Some(_)) => check_boxed(config, flags, size).map(|()| Keep::Body),
            _ => check_handshake(handshake.sizes(), flags, size).map(|()| Keep::Body),
        };
        let Some(mut frame) = decoder.take(input, check)? else {
            return Ok(false);
        };
        self.watch.heard();
        if let (State::Ready(_), Some(boxes)) = (&self.state, &mut self.boxes) {
            let (flags, body) = boxes.opener.open(frame.body.as_slice())?;
            let size = body.len() as u64;
            let keep = check_traffic(&self.config, &self.message, self.discard, flags, size)?;
            let body = match keep {
                Keep::Body => Body::Opened(body),
                Keep::Nothing => Body::Discarded(body.len()),
            };
            frame = Frame { flags, body };
        }
        match self.state {
            State::Handshake(minor) => self.on_handshake(minor, &frame, now)?,
            _ if frame.is_command() => self.on_command(frame.body.as_slice(), now)?,
            _ => self.on_frame(frame),
        }
        Ok(true)
    }

    /// Takes whole messages that need no more than to be gathered, off the front of `input`.
    fn take_plain(&mut self, input: &mut &[u8]) {
        let limits = self.limits();
        if self.takes_plain()
            && !self.is_within_message()
            && let Some(gathering) = &mut self.gathering
            && gathering.take_plain(input, limits)
        {
            self.watch.heard();
        }
    }

    /// Returns true if messages may need no more than to be gathered.
    fn takes_plain(&self) -> bool {
        self.is_ready() && self.boxes.is_none() && self.gathering.is_some()
    }

    /// Returns true if a part of a message has come.
    fn is_within_message(&self) -> bool {
        self.message.count > 0 || self.decoder.is_within_frame()
    }

    /// The most that a message may have to be taken as it stands in the input.
    fn limits(&self) -> Limits {
        let bytes = self.config.max_frame.min(self.config.max_message);
        Limits { bytes, frames: MAX_MESSAGE_FRAMES }
    }

    fn on_handshake(&mut self, minor: Minor, frame: &Frame<'_>, now: Instant) -> Result<(), Error> {
        let ours = self.config.ours();
        match self.handshake.take(frame.body.as_slice(), ours, minor, &mut self.opening)? {
            Step::Wait => {}
            Step::Presented(peer) => self.events.push_back(Event::Authenticate(*peer)),
            Step::Done(done) => self.on_done(minor, *done, now),
        }
        Ok(())
    }

    fn on_done(&mut self, minor: Minor, done: Done, now: Instant) {
        let Done { peer, boxes } = done;
        self.boxes = boxes.map(|(sealer, opener)| Box::new(Boxes { sealer: Some(sealer), opener }));
        // Its short-term key is not kept.
        self.handshake = Handshake::Null;
        self.state = State::Ready(minor);
        let heartbeat = self.config.heartbeat.filter(|_| minor >= Minor::One);
        self.watch = Watch::new(heartbeat, now);
        for (interest, prefix) in std::mem::take(&mut self.pending) {
            put_interest(&mut self.output, minor, interest, &prefix);
        }
        self.events.push_back(Event::Ready(peer));
    }

    fn on_command(&mut self, body: &[u8], now: Instant) -> Result<(), Error> {
        let publishes = self.config.socket_type.publishes();
        match command::parse(body)? {
            Command::Ping { ttl_tenths, context } => {
                self.watch.pinged(ttl_tenths, now);
                self.reply(context);
            }
            Command::Error { reason } => {
                return Err(Error::PeerError { reason: printable(reason) });
            }
            Command::Subscribe(prefix) if publishes => {
                self.events.push_back(Event::Subscribe(Bytes::copy_from_slice(prefix)));
            }
            Command::Cancel(prefix) if publishes => {
                self.events.push_back(Event::Cancel(Bytes::copy_from_slice(prefix)));
            }
            Command::Pong => self.watch.answered(),
            // What is unknown, or means nothing here, is ignored, as libzmq does.
            _ => {}
        }
        Ok(())
    }

    /// Hands over the messages that are whole. What has come of another one is kept by itself.
    fn end_gathering(&mut self) {
        if let Some(gathering) = &mut self.gathering {
            self.message.frames.extend(gathering.take_rest());
            self.events.extend(gathering.take_whole().map(Event::Messages));
        }
    }

    /// A frame of a message that is thrown away.
    fn on_discarded(&mut self, last: bool) {
        if !std::mem::replace(&mut self.message.discarded, true) {
            let mut frames = std::mem::take(&mut self.message.frames);
            if let Some(gathering) = &mut self.gathering {
                frames.extend(gathering.take_rest());
            }
            self.message.frames = head(frames);
        }
        if last {
            self.end_gathering();
            let Message { frames: head, count, size, .. } = std::mem::take(&mut self.message);
            let frames = count as usize;
            self.events.push_back(Event::TooLarge(Discarded { head, frames, size }));
        }
    }

    /// A frame of a message. A PUB or XPUB side takes each frame that begins with 0 or 1 as a
    /// subscription, in messages of several frames too: so does libzmq.
    fn on_frame(&mut self, frame: Frame<'_>) {
        let last = !frame.has_more();
        self.message.count += 1;
        self.message.size += frame.body.size() as u64;
        if self.message.discarded || matches!(frame.body, Body::Discarded(_)) {
            return self.on_discarded(last);
        }
        if let Some(gathering) = &mut self.gathering {
            match frame.body {
                body if !self.message.frames.is_empty() => {
                    self.message.frames.push(body.into_bytes());
                    if last {
                        gathering.push_message(&self.message.frames);
                    }
                }
                body => gathering.push(body.as_slice(), last),
            }
            if last {
                self.message = Message::default();
            }
            return;
        }
        let socket_type = self.config.socket_type;
        match (socket_type.publishes(), frame.body.as_slice().split_first()) {
            (true, Some((1, _))) => {
                self.events.push_back(Event::Subscribe(after_first(frame.body)))
            }
            (true, Some((0, _))) => self.events.push_back(Event::Cancel(after_first(frame.body))),
            _ if socket_type == SocketType::Pub => {}
            _ => self.message.frames.push(frame.body.into_bytes()),
        }
        if last {
            let message = std::mem::take(&mut self.message);
            if !message.frames.is_empty() {
                self.events.push_back(Event::Message(message.frames));
            }
        }
    }
}

fn after_first(body: Body<'_>) -> Bytes {
    body.into_bytes().slice(1..)
}
