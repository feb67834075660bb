//! The way between a relay's route and its subscribers: the real ring, and for each peer two ZMTP
//! engines and a pipe that holds so many bytes, as a kernel does.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Instant;

use bytes::Bytes;
use zafka_bridge::sim::Sink;
use zafka_sockets::sim::{Piece, SimRing, origin_of};
use zafka_sockets::{Chunk, Demand, Label, Origin};
use zafka_testkit::{Received, decode_json};
use zafka_zmtp::frame::{MORE, read_header};
use zafka_zmtp::{Config, Connection, Event, Mechanism, Role, SocketType};

use crate::judge::SharedJudge;
use crate::random::Random;
use crate::{packed, settings::Settings};

/// The net of a relay, which its route's state publishes to.
pub type SharedNet = Rc<RefCell<Net>>;

/// A socket's ring and its peers.
#[derive(Debug)]
pub struct Net {
    member: usize,
    ring: SimRing,
    /// The peers, by the ring's number of each.
    peers: BTreeMap<u64, Peer>,
    /// Those that were idle and are owed what was added since the last flush.
    idle: Vec<u64>,
    /// Origins that were seen. While one is, no other one is at its place in memory.
    origins: Vec<Weak<Origin>>,
    judge: SharedJudge,
    settings: Rc<Settings>,
    random: Random,
    now: Instant,
    /// Bytes added since the last flush.
    unflushed: usize,
}

/// A connection of a subscriber.
#[derive(Debug)]
struct Peer {
    connection: u64,
    /// The relay's side.
    server: Connection,
    /// The subscriber's side.
    client: Connection,
    prefixes: Vec<Vec<u8>>,
    /// Bytes in the pipe.
    unread: usize,
    is_blocked: bool,
    /// The origin of what is being written.
    origin: u64,
}

impl Net {
    /// A socket without peers.
    pub fn new(
        member: usize,
        settings: Rc<Settings>,
        judge: SharedJudge,
        seed: u64,
        now: Instant,
    ) -> SharedNet {
        Rc::new(RefCell::new(Self {
            member,
            ring: SimRing::new(settings.slow_peer, settings.ring_bytes),
            peers: BTreeMap::new(),
            idle: Vec::new(),
            origins: Vec::new(),
            judge,
            settings,
            random: Random::new(seed),
            now,
            unflushed: 0,
        }))
    }

    /// Tells it the time.
    pub fn set_now(&mut self, now: Instant) {
        self.now = now;
    }

    /// Connects a subscriber, with its handshake. What it subscribes to comes by
    /// [`Self::subscribe`]. Returns the ring's number of the peer.
    pub fn connect(&mut self, connection: u64, subscriber: usize) -> u64 {
        let config = |socket_type, role| Config {
            socket_type,
            role,
            mechanism: Mechanism::Null,
            identity: Bytes::new(),
            max_frame: 1 << 20,
            max_message: 4 << 20,
            heartbeat: None,
        };
        let mut peer = Peer {
            connection,
            server: Connection::new(config(SocketType::Pub, Role::Server), self.now),
            client: Connection::new(config(SocketType::Sub, Role::Client), self.now),
            prefixes: Vec::new(),
            unread: 0,
            is_blocked: false,
            origin: 0,
        };
        loop {
            let (to_client, to_server) = (peer.server.poll_output(), peer.client.poll_output());
            if to_client.is_none() && to_server.is_none() {
                break;
            }
            self.feed_client(&mut peer, &to_client.unwrap_or_default());
            self.feed_server(&mut peer, &to_server.unwrap_or_default());
        }
        if !peer.client.is_ready() || !peer.server.is_ready() {
            self.judge.borrow_mut().violation("zmtp: the handshake is not done".to_owned());
        }
        while peer.server.poll_event().is_some() || peer.client.poll_event().is_some() {}
        self.judge.borrow_mut().connected(connection, subscriber, self.member);
        let id = self.ring.join();
        self.peers.insert(id, peer);
        id
    }

    /// A peer subscribes to a prefix.
    pub fn subscribe(&mut self, id: u64, prefix: &[u8]) {
        let Some(mut peer) = self.peers.remove(&id) else { return };
        peer.client.subscribe(prefix);
        let output = peer.client.poll_output().unwrap_or_default();
        self.feed_server(&mut peer, &output);
        while let Some(event) = peer.server.poll_event() {
            if let Event::Subscribe(prefix) = event {
                self.ring.subscribe(id, &prefix);
                peer.prefixes.push(prefix.to_vec());
                self.judge.borrow_mut().subscribed(peer.connection);
            }
        }
        self.peers.insert(id, peer);
    }

    /// A peer has gone. What the kernel has of it is still read by the subscriber.
    pub fn disconnect(&mut self, id: u64) {
        if let Some(peer) = self.peers.remove(&id) {
            self.ring.leave(id);
            self.judge.borrow_mut().disconnected(peer.connection);
        }
    }

    /// A subscriber reads so many bytes of what waits. Returns whether more waits.
    pub fn read(&mut self, id: u64, bytes: usize) -> bool {
        let Some(peer) = self.peers.get_mut(&id) else { return false };
        peer.unread = peer.unread.saturating_sub(bytes);
        if std::mem::take(&mut peer.is_blocked) {
            self.write(id);
        }
        self.peers.get(&id).is_some_and(|peer| peer.unread > 0)
    }

    /// Returns the peers with something to read.
    pub fn with_unread(&self) -> Vec<u64> {
        self.peers.iter().filter(|(_, peer)| peer.unread > 0).map(|(id, _)| *id).collect()
    }

    /// Returns true if every peer has been written everything.
    pub fn is_drained(&self) -> bool {
        self.ring.is_drained()
    }

    /// Returns true if demand became enough or too little since the last call.
    pub fn take_demand_changed(&mut self) -> bool {
        self.ring.take_demand_changed()
    }

    /// Writes what a peer is owed, as far as its pipe takes it.
    fn write(&mut self, id: u64) {
        let Some(mut peer) = self.peers.remove(&id) else { return };
        while !peer.is_blocked {
            let batch = self.ring.gather(id);
            let pieces = batch.pieces();
            let size: usize = pieces.iter().map(|piece| piece.bytes.len()).sum();
            if size == 0 {
                if batch.more() {
                    continue;
                }
                break;
            }
            let mut room = self.settings.pipe_bytes.saturating_sub(peer.unread);
            if self.random.percent(20) {
                // A kernel takes what it likes.
                room = room.min(self.random.within(1, size as u64 + 1) as usize);
            }
            let written = room.min(size);
            self.take(&mut peer, &pieces, written);
            peer.unread += written;
            peer.is_blocked = written < size && peer.unread >= self.settings.pipe_bytes;
            self.ring.advance(id, &batch, written);
        }
        self.peers.insert(id, peer);
    }

    /// The subscriber's side takes what the pipe has taken; it counts as soon as it is there.
    fn take(&mut self, peer: &mut Peer, pieces: &[Piece], mut left: usize) {
        for piece in pieces {
            let bytes = &piece.bytes[..piece.bytes.len().min(left)];
            left -= bytes.len();
            if bytes.is_empty() {
                continue;
            }
            if let Some(origin) = &piece.origin {
                peer.origin = self.origin(origin);
            }
            self.feed_client(peer, bytes);
            while let Some(event) = peer.client.poll_event() {
                let Event::Message(frames) = event else { continue };
                let frames: Vec<&[u8]> = frames.iter().map(|frame| &**frame).collect();
                match self.decode(&frames) {
                    Ok(record) => {
                        let (connection, origin) = (peer.connection, peer.origin);
                        self.judge.borrow_mut().accepted(connection, record, origin);
                    }
                    Err(error) => self.judge.borrow_mut().violation(format!("stream: {error}")),
                }
            }
        }
    }

    fn decode(&self, frames: &[&[u8]]) -> Result<Received, String> {
        if self.settings.is_json {
            let frames: Vec<Vec<u8>> = frames.iter().map(|frame| frame.to_vec()).collect();
            decode_json(&frames)
        } else {
            packed::decode(frames)
        }
    }

    fn feed_client(&mut self, peer: &mut Peer, bytes: &[u8]) {
        for part in parts(&mut self.random, bytes) {
            if let Err(error) = peer.client.handle_input(part, self.now) {
                let what = format!("zmtp: connection {}: {error}", peer.connection);
                return self.judge.borrow_mut().violation(what);
            }
        }
    }

    fn feed_server(&mut self, peer: &mut Peer, bytes: &[u8]) {
        for part in parts(&mut self.random, bytes) {
            if let Err(error) = peer.server.handle_input(part, self.now) {
                self.judge.borrow_mut().violation(format!("zmtp: the relay's side: {error}"));
            }
        }
    }

    /// The number of an origin: the same one for the same.
    fn origin(&mut self, origin: &Arc<Origin>) -> u64 {
        let known = self.origins.iter().position(|known| known.as_ptr() == Arc::as_ptr(origin));
        let index = known.unwrap_or_else(|| {
            self.origins.push(Arc::downgrade(origin));
            self.origins.len() - 1
        });
        // Those of each relay are its own.
        (self.member as u64) << 32 | index as u64
    }

    /// Notes the peers that a chunk is owed to.
    fn note_published(&mut self, chunk: &Chunk) {
        if origin_of(chunk).is_withdrawn() {
            return;
        }
        let origin = self.origin(origin_of(chunk));
        for frames in messages(chunk.bytes()) {
            let record = match self.decode(&frames) {
                Ok(record) => record,
                Err(error) => {
                    self.judge.borrow_mut().violation(format!("envelope: {error}"));
                    continue;
                }
            };
            let wants = |peer: &&Peer| {
                peer.prefixes.iter().any(|prefix| record.topic.as_bytes().starts_with(prefix))
            };
            let to = self.peers.values().filter(wants).map(|peer| peer.connection);
            self.judge.borrow_mut().published(&record, origin, to);
        }
    }
}

/// Bytes in up to three parts.
fn parts<'a>(random: &mut Random, bytes: &'a [u8]) -> Vec<&'a [u8]> {
    let len = bytes.len() as u64;
    let (mut one, mut other) = (random.below(len + 1) as usize, random.below(len + 1) as usize);
    if one > other {
        (one, other) = (other, one);
    }
    vec![&bytes[..one], &bytes[one..other], &bytes[other..]]
}

/// The messages in ZMTP framing, as their frames.
fn messages(mut bytes: &[u8]) -> Vec<Vec<&[u8]>> {
    let (mut messages, mut frames) = (Vec::new(), Vec::new());
    while let Some(header) = read_header(bytes) {
        let Some(body) = bytes.get(header.header_size..) else { break };
        let Some((frame, rest)) = body.split_at_checked(header.body_size as usize) else { break };
        frames.push(frame);
        bytes = rest;
        if header.flags & MORE == 0 {
            messages.push(std::mem::take(&mut frames));
        }
    }
    messages
}

/// The net, as the route's state sees it.
#[derive(Clone, Debug)]
pub struct SimSink(pub SharedNet);

impl Sink for SimSink {
    fn admits(&self, size: usize) -> bool {
        self.0.borrow().ring.admits(size)
    }

    fn add(&mut self, chunk: Chunk) {
        let weight = chunk.weight();
        let needs_flush = {
            let net = self.0.borrow();
            net.unflushed + weight > net.settings.ring_bytes
        };
        if needs_flush {
            self.flush();
        }
        let mut net = self.0.borrow_mut();
        net.unflushed += weight;
        net.note_published(&chunk);
        let mut idle = std::mem::take(&mut net.idle);
        net.ring.publish(chunk, &mut idle);
        net.idle = idle;
    }

    fn flush(&mut self) {
        let mut net = self.0.borrow_mut();
        net.unflushed = 0;
        for id in std::mem::take(&mut net.idle) {
            net.write(id);
        }
    }

    fn withdraw(&mut self, origin: &Arc<Origin>) {
        let mut net = self.0.borrow_mut();
        let number = net.origin(origin);
        net.judge.borrow_mut().withdrawn(number);
        net.ring.withdraw(origin);
    }

    fn label(&mut self, topic: &str) -> Option<Label> {
        Some(self.0.borrow_mut().ring.label(topic))
    }

    fn demand(&mut self, frame: Option<Vec<u8>>, label: Option<&Label>) -> Arc<Demand> {
        let mut net = self.0.borrow_mut();
        let needed = net.settings.min_peers;
        net.ring.demand(frame, label, needed)
    }

    fn has_unheard(&self) -> bool {
        self.0.borrow().ring.has_unheard()
    }
}
