//! The ring against a naive model: random joins, subscriptions, chunks, partial writes and
//! withdrawals.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;
use crate::origin::Origin;

const TOPICS: [&str; 5] = ["", "a", "ab", "b", "abc"];
const PREFIXES: [&str; 4] = ["", "a", "ab", "b"];
/// The routing frame that each origin is wanted by; one by any.
const DEMANDED: [Option<&str>; 3] = [Some("ab"), Some("b"), None];

/// Takes a peer into a ring. Returns its id, which rises.
fn join(ring: &mut Ring<PeerId>) -> PeerId {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    ring.join(id, id);
    id
}

fn frame_of(origin: usize) -> Option<Bytes> {
    DEMANDED[origin].map(|frame| Bytes::from_static(frame.as_bytes()))
}

#[derive(Clone, Debug)]
enum Op {
    Join(usize),
    JoinIdle,
    Leave(usize),
    Subscribe(usize, usize),
    Cancel(usize, usize),
    Publish { origin: usize, topics: Vec<usize>, size: usize },
    Marker(usize),
    Gather(usize),
    Advance(usize, u8),
    Withdraw(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => (0..4_usize).prop_map(Op::Join),
        1 => Just(Op::JoinIdle),
        1 => (0..8_usize).prop_map(Op::Leave),
        1 => (0..8_usize, 0..4_usize).prop_map(|(peer, prefix)| Op::Subscribe(peer, prefix)),
        1 => (0..8_usize, 0..4_usize).prop_map(|(peer, prefix)| Op::Cancel(peer, prefix)),
        10 => (0..3_usize, prop_oneof![
                (0..5_usize, 1..6_usize).prop_map(|(topic, count)| vec![topic; count]),
                prop::collection::vec(0..5_usize, 1..6),
            ], prop_oneof![0..40_usize, 100..200_usize])
            .prop_map(|(origin, topics, size)| Op::Publish { origin, topics, size }),
        1 => (0..3_usize).prop_map(Op::Marker),
        10 => (0..8_usize).prop_map(Op::Gather),
        10 => (0..8_usize, prop_oneof![Just(0), Just(255), any::<u8>()])
            .prop_map(|(peer, part)| Op::Advance(peer, part)),
        1 => (0..3_usize).prop_map(Op::Withdraw),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    InRing,
    Evicted,
    Retired,
    Withdrawn,
}

/// A published chunk as the model knows it.
struct Published {
    origin: Arc<Origin>,
    position: i64,
    messages: Vec<(u64, &'static str)>,
    fate: Fate,
    /// True if too few peers wanted it at some moment, so that it never counts as delivered.
    short: bool,
}

#[derive(Default)]
struct Model {
    stream: Vec<u8>,
    batch: Option<RingBatch>,
    prefixes: BTreeMap<&'static str, u32>,
    /// Prefixes it ever had.
    ever: Vec<&'static str>,
    owed: Vec<u64>,
    /// Subscriptions were added or taken back, so that it may get more, or less, than it was owed.
    changed: bool,
    canceled: bool,
}

struct World {
    ring: Ring<PeerId>,
    models: BTreeMap<PeerId, Model>,
    origins: [(Arc<Origin>, i64); 3],
    published: Vec<Published>,
    next_message: u64,
    unheard: u64,
    sent: u64,
    bytes_sent: u64,
    dropped: u64,
    heaviest: usize,
    ring_bytes: usize,
    needed: usize,
    /// True if the bytes queued for a peer are always known exactly.
    exact: bool,
}

/// The numbers of the whole messages in a stream. Panics if it is not made of messages.
fn whole_messages(stream: &[u8]) -> Vec<(u64, &'static str)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < stream.len() {
        let Some(routing) = stream.get(at..).and_then(zafka_zmtp::frame::first_body) else { break };
        assert_eq!(stream[at], 1, "a routing frame starts a message");
        let second = at + 2 + routing.len();
        let Some(body) = stream.get(second..).and_then(zafka_zmtp::frame::first_body) else {
            break;
        };
        assert_eq!(stream[second], 0, "the second frame ends it");
        let topic = TOPICS
            .iter()
            .find(|topic| topic.as_bytes() == routing)
            .expect("a topic that was published");
        let (number, padding) = body.split_first_chunk::<8>().expect("a number");
        assert!(padding.iter().all(|byte| *byte == b'.'));
        found.push((u64::from_be_bytes(*number), *topic));
        at = second + 2 + body.len();
    }
    found
}

/// Returns true if a stream ends within a message.
fn ends_halfway(stream: &[u8]) -> bool {
    let Some(without_last) = stream.split_last().map(|(_, rest)| rest) else { return false };
    whole_messages(without_last).len() == whole_messages(stream).len()
}

impl World {
    fn new(slow_peer: SlowPeer, needed: usize, ring_bytes: usize) -> Self {
        let mut ring = Ring::new(RingConfig { slow_peer, ring_bytes, peer_memory: usize::MAX });
        let origins = DEMANDED.map(|frame| {
            let demand =
                ring.demand(frame.map(|frame| Bytes::from_static(frame.as_bytes())), None, needed);
            (Origin::with(0, Some(demand), None), 0)
        });
        Self {
            ring,
            models: BTreeMap::new(),
            origins,
            published: Vec::new(),
            next_message: 0,
            unheard: 0,
            sent: 0,
            bytes_sent: 0,
            dropped: 0,
            heaviest: 0,
            ring_bytes,
            needed,
            exact: true,
        }
    }

    /// Frees what was let go, and lets the ring do the rest, as the holder of its lock does.
    fn settle(&mut self) {
        while self.ring.is_untidy() {
            self.ring.take_spent();
            self.ring.tidy();
            assert!(self.ring.spent.len() <= LOOKS, "too much for one hold of the lock");
        }
        self.ring.take_spent();
    }

    fn pick(&self, index: usize) -> Option<PeerId> {
        self.models.keys().nth(index % self.models.len().max(1)).copied()
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::JoinIdle => self.join(),
            Op::Join(prefix) => {
                self.join();
                let id = *self.models.keys().last().unwrap();
                self.subscribe(id, PREFIXES[prefix]);
            }
            Op::Leave(index) => {
                if let Some(id) = self.pick(index) {
                    let model = self.models.remove(&id).unwrap();
                    self.tally(id, &model, false);
                    drop(self.ring.leave(id));
                    assert!(self.ring.spent.len() <= LOOKS);
                    // Its write may be under way.
                    if let Some(batch) = model.batch {
                        self.ring.advance(id, &batch, 1);
                    }
                }
            }
            Op::Subscribe(index, prefix) => {
                if let Some(id) = self.pick(index) {
                    self.subscribe(id, PREFIXES[prefix]);
                }
            }
            Op::Cancel(index, prefix) => {
                if let Some(id) = self.pick(index) {
                    self.ring.cancel(id, PREFIXES[prefix].as_bytes());
                    let model = self.models.get_mut(&id).unwrap();
                    if let Some(count) = model.prefixes.get_mut(PREFIXES[prefix]) {
                        *count -= 1;
                        if *count == 0 {
                            model.prefixes.remove(PREFIXES[prefix]);
                            model.changed = true;
                            model.canceled = true;
                        }
                    }
                }
            }
            Op::Publish { origin, topics, size } => self.publish(origin, &topics, size),
            Op::Marker(origin) => {
                let (origin, position) = &mut self.origins[origin];
                if self.ring.admits(0) {
                    *position += 1;
                    let chunk = Chunk::marker(Arc::clone(origin), *position);
                    let entry = Published {
                        origin: Arc::clone(origin),
                        position: *position,
                        messages: Vec::new(),
                        fate: Fate::InRing,
                        short: false,
                    };
                    self.add(chunk, entry);
                }
            }
            Op::Gather(index) => {
                if let Some(id) = self.pick(index) {
                    self.gather(id);
                }
            }
            Op::Advance(index, part) => {
                if let Some(id) = self.pick(index) {
                    self.advance(id, part);
                }
            }
            Op::Withdraw(index) => {
                let (origin, position) = &mut self.origins[index];
                for published in self.published.iter_mut() {
                    if Arc::ptr_eq(&published.origin, origin) && published.fate == Fate::InRing {
                        published.fate = Fate::Withdrawn;
                    }
                }
                self.exact = false;
                self.ring.withdraw(origin);
                let demand = self.ring.demand(frame_of(index), None, 0);
                *origin = Origin::with(*position, Some(demand), None);
            }
        }
        self.settle();
        for index in 0..self.origins.len() {
            let (origin, _) = &self.origins[index];
            let short = self.wanted_by(index) < self.needed;
            assert_eq!(self.ring.demand(frame_of(index), None, 0).is_enough(), !short);
            let of_it = |chunk: &&mut Published| {
                Arc::ptr_eq(&chunk.origin, origin) && chunk.fate == Fate::InRing
            };
            self.published.iter_mut().filter(of_it).for_each(|chunk| chunk.short |= short);
        }
        self.check();
    }

    fn join(&mut self) {
        let id = join(&mut self.ring);
        self.models.insert(id, Model::default());
    }

    fn subscribe(&mut self, id: PeerId, prefix: &'static str) {
        assert_eq!(self.ring.subscribe(id, prefix.as_bytes(), 100), Subscribed::Counted);
        let model = self.models.get_mut(&id).unwrap();
        if !model.prefixes.contains_key(prefix) {
            model.changed = !model.ever.is_empty();
        }
        *model.prefixes.entry(prefix).or_default() += 1;
        model.ever.push(prefix);
    }

    /// Returns the number of peers that want the messages of an origin.
    fn wanted_by(&self, origin: usize) -> usize {
        let wants = |model: &&Model| match DEMANDED[origin] {
            Some(frame) => model.prefixes.keys().any(|prefix| frame.starts_with(prefix)),
            None => !model.prefixes.is_empty(),
        };
        self.models.values().filter(wants).count()
    }

    fn publish(&mut self, origin: usize, topics: &[usize], size: usize) {
        let (mut bytes, mut ends, mut messages) = (Vec::new(), Vec::new(), Vec::new());
        for topic in topics {
            let topic = TOPICS[*topic];
            bytes.extend_from_slice(&[1, topic.len() as u8]);
            bytes.extend_from_slice(topic.as_bytes());
            bytes.extend_from_slice(&[0, 8 + size as u8]);
            bytes.extend_from_slice(&(self.next_message + messages.len() as u64).to_be_bytes());
            bytes.resize(bytes.len() + size, b'.');
            ends.push(bytes.len());
            messages.push((self.next_message + messages.len() as u64, topic));
        }
        if !self.ring.admits(bytes.len()) {
            return;
        }
        self.next_message += messages.len() as u64;
        let same = messages.iter().all(|(_, topic)| *topic == messages[0].1);
        let (origin, position) = &mut self.origins[origin];
        *position += messages.len() as i64;
        let count = messages.len() as u64;
        let chunk = Chunk::new(bytes, ends, same, count, Arc::clone(origin), *position);
        let entry = Published {
            origin: Arc::clone(origin),
            position: *position,
            messages,
            fate: Fate::InRing,
            short: false,
        };
        self.add(chunk, entry);
    }

    fn add(&mut self, chunk: Chunk, entry: Published) {
        // What is found of it takes no more memory than its messages.
        self.heaviest = self.heaviest.max(chunk.weight() + chunk.len());
        let of_it = |(origin, _): &(Arc<Origin>, i64)| Arc::ptr_eq(origin, &entry.origin);
        let index = self.origins.iter().position(of_it).unwrap();
        let mut entry = Published { short: self.wanted_by(index) < self.needed, ..entry };
        for (number, topic) in &entry.messages {
            let mut heard = false;
            for model in self.models.values_mut() {
                if model.prefixes.keys().any(|prefix| topic.starts_with(prefix)) {
                    heard = true;
                    model.owed.push(*number);
                }
            }
            self.unheard += u64::from(!heard && !entry.short);
        }
        let dropped = self.ring.counters().messages_dropped;
        let (base, tail) = (self.ring.base, self.ring.tail());
        let mut idle = Vec::new();
        let live: Vec<_> = self.live();
        self.exact &= chunk.same_routing() || self.ring.subscribed > 1;
        self.ring.publish(chunk, &mut idle);
        if let Some(last) = self.ring.chunks.back() {
            self.heaviest = self.heaviest.max(last.weight() + last.len());
            self.exact &= last.same_routing() || last.runs().is_some();
        }
        match self.published.last_mut() {
            // It went to the end of the chunk before it.
            Some(last) if self.ring.tail() == tail => {
                assert!(Arc::ptr_eq(&last.origin, &entry.origin) && last.fate == Fate::InRing);
                last.position = entry.position;
                assert_eq!(last.short, entry.short, "they are not owed to the same peers");
                last.messages.append(&mut entry.messages);
            }
            _ => self.published.push(entry),
        }
        assert!(idle.iter().all(|id| live.contains(id)), "only idle peers are listed");
        self.settle();
        // Chunks that left were evicted, but for those that no peer was owed any more.
        for published in &mut self.published[base as usize..self.ring.base as usize] {
            if published.fate == Fate::InRing {
                published.fate = Fate::Evicted;
            }
        }
        if self.ring.config.slow_peer == SlowPeer::Block {
            assert_eq!(self.ring.counters().messages_dropped, dropped);
        }
    }

    fn live(&self) -> Vec<PeerId> {
        let live = |entry: &Entry<PeerId>| matches!(entry.state, PeerState::Live);
        self.ring.peers.iter().filter(|(_, entry)| live(entry)).map(|(id, _)| *id).collect()
    }

    fn gather(&mut self, id: PeerId) {
        let model = self.models.get_mut(&id).unwrap();
        if model.batch.is_none() {
            let batch = self.ring.gather(id);
            assert!(batch.looks <= LOOKS, "too much for one hold of the lock");
            model.batch = (!batch.is_empty()).then_some(batch);
        }
    }

    fn advance(&mut self, id: PeerId, part: u8) {
        let model = self.models.get_mut(&id).unwrap();
        let Some(batch) = model.batch.take() else { return };
        let mut bytes = batch.unfinished.to_vec();
        batch.segments.iter().for_each(|segment| bytes.extend_from_slice(segment.bytes()));
        // Commands go to the place that `half_written` and the rest name: there the stream must be
        // between two messages.
        let boundary = batch.half_written();
        let mut until_boundary = model.stream.clone();
        until_boundary.extend_from_slice(&bytes[..boundary]);
        assert!(!ends_halfway(&until_boundary), "commands go between messages");
        let written = bytes.len() * usize::from(part) / 255;
        let model = self.models.get_mut(&id).unwrap();
        model.stream.extend_from_slice(&bytes[..written]);
        self.bytes_sent += written as u64;
        self.ring.advance(id, &batch, written);
    }

    fn fate(&self, number: u64) -> &Published {
        let holds =
            |chunk: &&Published| chunk.messages.iter().any(|(message, _)| *message == number);
        self.published.iter().find(holds).unwrap()
    }

    /// Asserts what holds for a peer at any moment; `finished` is true if nothing is left to be
    /// written to it.
    fn tally(&mut self, id: PeerId, model: &Model, finished: bool) {
        let received = whole_messages(&model.stream);
        let view = self.ring.view(id, (0, 0)).unwrap();
        assert_eq!(view.messages_sent, received.len() as u64, "messages sent to {id}");
        self.sent += received.len() as u64;
        self.dropped += view.messages_dropped;
        let received = whole_messages(&model.stream);
        if finished {
            assert_eq!(view.bytes_queued, 0);
            let mut at_least = 0;
            let mut at_most = 0;
            for number in &model.owed {
                if received.iter().all(|(received, _)| received != number) {
                    match self.fate(*number).fate {
                        Fate::Evicted => at_least += 1,
                        Fate::Withdrawn => at_most += 1,
                        fate => {
                            assert!(model.canceled, "message {number} is missing at {id}: {fate:?}")
                        }
                    }
                }
            }
            at_most += at_least;
            if !model.changed {
                let range = at_least..=at_most;
                assert!(
                    range.contains(&view.messages_dropped),
                    "{} not in {range:?}",
                    view.messages_dropped
                );
                assert!(
                    received.iter().all(|(number, _)| model.owed.contains(number)),
                    "more than it was owed"
                );
            } else if !model.canceled {
                assert!(view.messages_dropped >= at_least);
            }
        }
    }

    fn check(&mut self) {
        // Retired by something else than a chunk's publication.
        let base = self.ring.base as usize;
        for published in &mut self.published[..base] {
            if published.fate == Fate::InRing {
                published.fate = Fate::Retired;
            }
        }
        let weight: usize = self.ring.chunks.iter().map(|chunk| chunk.weight()).sum();
        assert_eq!(weight, self.ring.bytes);
        assert!(weight <= self.ring_bytes + self.heaviest, "{weight} bytes in the ring");
        assert_eq!(self.ring.counters().unheard, self.unheard);
        assert_eq!(self.ring.counters().bytes_sent, self.bytes_sent);
        for published in &self.published {
            let delivered = published.origin.delivered() >= published.position;
            assert!(
                !delivered || !published.short,
                "too few wanted {}, and it is delivered",
                published.position
            );
        }
        for (id, model) in &self.models {
            if !model.changed && !model.canceled && model.batch.is_none() {
                let (queued, walked) = (self.ring.bytes_queued(*id), self.queued(*id));
                assert!(queued >= walked, "{queued} bytes queued for {id}, and {walked} found");
                assert!(
                    queued == walked || !self.exact,
                    "{queued} queued for {id}, and {walked} found"
                );
            }
            let received = whole_messages(&model.stream);
            let in_order = received.is_sorted_by(|(one, _), (other, _)| one < other);
            assert!(in_order, "out of order at {id}: {received:?}");
            for (_, topic) in &received {
                assert!(
                    model.ever.iter().any(|prefix| topic.starts_with(prefix)),
                    "{topic} was not asked for"
                );
            }
            if model.canceled {
                continue;
            }
            for number in &model.owed {
                let published = self.fate(*number);
                let delivered = published.origin.delivered() >= published.position;
                let accounted = matches!(published.fate, Fate::Evicted | Fate::Withdrawn);
                let was_received = || received.iter().any(|(received, _)| received == number);
                assert!(
                    !delivered || accounted || was_received(),
                    "{number} counts as delivered, {id} has it not"
                );
                assert!(
                    was_received() || accounted || published.fate == Fate::InRing,
                    "{number} left the ring, {id} has it not"
                );
            }
        }
    }

    /// Bytes that a peer has yet to be written, found by a walk through the ring.
    fn queued(&self, id: PeerId) -> u64 {
        let entry = &self.ring.peers[&id];
        let (from, sent) = match entry.state {
            PeerState::Live => return 0,
            PeerState::Behind { next, sent, .. } => (next, sent),
            PeerState::Fallen { .. } => (self.ring.base, 0),
        };
        let chunks =
            (self.ring.base..).zip(&self.ring.chunks).skip_while(|(sequence, _)| *sequence < from);
        let sent = |sequence| if sequence == from { sent } else { 0 };
        let queued =
            chunks.map(|(sequence, chunk)| entry.tally(id, chunk, sequence, sent(sequence)).bytes);
        queued.sum::<u64>() + entry.unfinished.len() as u64
    }

    /// Everybody takes all there is.
    fn finish(mut self) {
        for id in self.models.keys().copied().collect::<Vec<_>>() {
            self.advance(id, 100);
            while !self.live().contains(&id) {
                self.gather(id);
                self.advance(id, 255);
                self.settle();
                self.check();
            }
        }
        assert!(self.ring.is_drained());
        for (id, model) in std::mem::take(&mut self.models) {
            self.tally(id, &model, true);
            assert!(model.batch.is_none());
            assert!(!ends_halfway(&model.stream), "half a message was left unfinished at {id}");
            drop(self.ring.leave(id));
            self.settle();
        }
        let counters = self.ring.counters();
        assert_eq!(counters.messages_sent, self.sent);
        assert_eq!(counters.messages_dropped, self.dropped);
        assert!(self.ring.subscribed == 0 && self.ring.peers.is_empty() && self.ring.is_drained());
        assert!(self.ring.fallen_alone.is_empty() && self.ring.index.is_empty());
        assert_eq!((self.ring.chunks.len(), self.ring.bytes), (0, 0));
        for (origin, position) in &self.origins {
            let of_it = |chunk: &&Published| Arc::ptr_eq(&chunk.origin, origin);
            let first_short = self.published.iter().filter(of_it).position(|chunk| chunk.short);
            assert!(first_short.is_some() || origin.delivered() == *position, "all is delivered");
            assert_eq!(first_short.is_some(), origin.is_short());
        }
        drop(self.ring);
        self.published.clear();
        for (origin, _) in &self.origins {
            assert_eq!(Arc::strong_count(origin), 1, "a chunk is still held somewhere");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn keeps_its_promises(
        ops in prop::collection::vec(op(), 1..120),
        block in any::<bool>(),
        needed in 0..3_usize,
        ring_bytes in prop_oneof![Just(1), 300..3000_usize],
    ) {
        let slow_peer = if block { SlowPeer::Block } else { SlowPeer::Drop };
        let mut world = World::new(slow_peer, needed, ring_bytes);
        for op in ops {
            world.run(op);
        }
        world.finish();
    }
}

fn one_message(origin: &Arc<Origin>, position: i64) -> Chunk {
    Chunk::new(b"\x01\x01t\x00\x01x".to_vec(), vec![6], true, 1, Arc::clone(origin), position)
}

fn ring(ring_bytes: usize) -> Ring<PeerId> {
    Ring::new(RingConfig { slow_peer: SlowPeer::Drop, ring_bytes, peer_memory: usize::MAX })
}

fn bytes(batch: &RingBatch) -> usize {
    batch.segments.iter().map(|segment| segment.bytes().len()).sum()
}

/// A ring of 16 MiB that holds messages of so many origins in turn for peers that have taken
/// nothing; the first one has the prefixes "t" and "t", the second one many, and the third one half
/// of a message.
fn stalled(origins: usize, messages: i64) -> (Ring<PeerId>, Vec<Arc<Origin>>, [PeerId; 3]) {
    let mut ring = ring(1024 * 1024);
    let origins: Vec<_> = (0..origins).map(|_| Origin::new(0)).collect();
    let peers = [(); 3].map(|()| join(&mut ring));
    for id in peers {
        ring.subscribe(id, b"t", 100);
    }
    for prefix in 0..20_u8 {
        ring.subscribe(peers[1], &[prefix], 100);
    }
    for position in 0..messages {
        let origin = &origins[position as usize % origins.len()];
        ring.publish(one_message(origin, position), &mut Vec::new());
        while ring.is_untidy() {
            ring.tidy();
        }
        ring.take_spent();
        if position == 0 {
            let batch = ring.gather(peers[2]);
            ring.advance(peers[2], &batch, 3);
        }
    }
    (ring, origins, peers)
}

#[test]
fn messages_that_come_one_by_one_take_few_chunks() {
    let (ring, _, peers) = stalled(1, 100_000);
    let limit = 1024 * 1024 / MERGED_PART;
    assert!(
        ring.chunks.len() <= 2 * 1024 * 1024 / limit.min(MERGED_BYTES),
        "{} chunks",
        ring.chunks.len()
    );
    assert!(ring.bytes <= 1024 * 1024);
    assert_eq!(
        ring.bytes_queued(peers[0]) + 6 * ring.view(peers[0], (0, 0)).unwrap().messages_dropped,
        600_000
    );
}

#[test]
fn a_peer_that_takes_nothing_is_not_visited_at_each_chunk_that_is_dropped() {
    const MESSAGES: i64 = 20_000;
    let (mut ring, _, peers) = stalled(2, MESSAGES);
    assert!(ring.cursors.is_empty(), "all have fallen");
    assert_eq!(
        (ring.fallen, ring.fallen_alone.len()),
        (3, 1),
        "only one with many prefixes is counted for alone"
    );
    // Each is counted all the same, now and later.
    let dropped = |ring: &Ring<PeerId>, id| ring.view(id, (0, 0)).unwrap().messages_dropped;
    let held = ring.chunks.len() as u64;
    assert_eq!(
        peers.map(|id| dropped(&ring, id) + held),
        [20_000, 20_000, 19_999],
        "one is being finished"
    );
    assert_eq!(
        ring.counters().messages_dropped,
        peers.map(|id| dropped(&ring, id)).iter().sum::<u64>()
    );
    for id in peers {
        let mut sent = 0;
        while !ring.is_drained() && ring.bytes_queued(id) > 0 {
            let batch = ring.gather(id);
            assert!(batch.looks <= LOOKS);
            let size = batch.unfinished.len() + bytes(&batch);
            ring.advance(id, &batch, size);
            sent += size;
        }
        assert_eq!(sent as u64, 6 * held + if id == peers[2] { 3 } else { 0 });
    }
    while ring.is_untidy() {
        ring.tidy();
    }
    assert!(ring.is_drained() && ring.chunks.is_empty());
}

#[test]
fn one_hold_of_the_lock_looks_at_so_many_chunks() {
    let (mut ring, origins, peers) = stalled(2, 1_000);
    let [idle, leaving, _] = peers;
    // One that wants nothing of all that any more.
    ring.cancel(idle, b"t");
    ring.subscribe(idle, b"u", 100);
    let mut calls = 1;
    while ring.gather(idle).more {
        calls += 1;
    }
    assert_eq!((calls, ring.looks), (1_000 / LOOKS, 1_000 + 1));
    let batch = ring.gather(peers[2]);
    ring.advance(peers[2], &batch, 0);
    // What the others kept there goes in parts.
    drop(ring.leave(peers[2]));
    drop(ring.leave(leaving));
    let mut calls = 0;
    while ring.is_untidy() {
        assert!(ring.take_spent().len() <= LOOKS);
        ring.tidy();
        calls += 1;
    }
    assert_eq!(ring.chunks.len(), 0);
    assert!((1_000 / LOOKS..1_030 / LOOKS).contains(&calls), "{calls} calls");
    assert_eq!(origins[1].delivered(), 999);
}

#[test]
fn subscriptions_of_a_peer_that_leaves_go_in_parts() {
    let mut ring = ring(1000);
    let [many, other] = [(); 2].map(|()| join(&mut ring));
    let changes: Vec<_> =
        (0..100_u8).map(|prefix| Change::Subscribe(vec![prefix].into())).collect();
    assert_eq!(ring.apply(many, &changes, 100), Subscribed::Counted);
    assert_eq!(ring.apply(other, &changes, 99), Subscribed::TooMany);
    drop(ring.leave(many));
    assert_eq!(ring.subscribed(), 1);
    // It is owed nothing more from then on, though much of it is still to be forgotten.
    let chunk = Chunk::new(b"\x01\x01\x07\x00\x01x".to_vec(), vec![6], true, 1, Origin::new(0), 1);
    let mut idle = Vec::new();
    ring.publish(chunk, &mut idle);
    assert_eq!(idle, [other]);
    let mut calls = 0;
    while ring.is_untidy() {
        ring.tidy();
        calls += 1;
    }
    assert!((100 / LOOKS - 2..=100 / LOOKS + 2).contains(&calls), "{calls} calls");
    drop(ring.leave(other));
    while ring.is_untidy() {
        ring.tidy();
    }
    assert!(ring.index.is_empty());
}

#[test]
fn a_peer_that_has_left_disturbs_nobody() {
    let mut ring = ring(1000);
    let origin = Origin::new(0);
    let gone = join(&mut ring);
    ring.subscribe(gone, b"t", 10);
    ring.publish(one_message(&origin, 1), &mut Vec::new());
    let batch = ring.gather(gone);
    drop(ring.leave(gone));
    let next = join(&mut ring);
    ring.subscribe(next, b"t", 10);
    ring.publish(one_message(&origin, 2), &mut Vec::new());
    // The publisher was still writing to the one that left.
    ring.advance(gone, &batch, 6);
    assert!(ring.gather(gone).is_empty());
    assert_eq!((origin.delivered(), ring.gather(next).segments.len()), (1, 1));
}

#[test]
fn handing_back_an_empty_batch_skips_nothing() {
    let mut ring = ring(1000);
    let origin = Origin::new(0);
    let id = join(&mut ring);
    let nothing = ring.gather(id);
    // Its first subscription is processed, and more, while a command is written to it.
    ring.subscribe(id, b"t", 10);
    ring.publish(one_message(&origin, 1), &mut Vec::new());
    ring.advance(id, &nothing, 0);
    assert_eq!((origin.delivered(), ring.gather(id).segments.len()), (0, 1));
}

#[test]
fn a_withdrawn_origin_publishes_nothing() {
    let mut ring = ring(1000);
    let origin = Origin::new(0);
    let id = join(&mut ring);
    ring.subscribe(id, b"t", 10);
    ring.withdraw(&origin);
    ring.publish(one_message(&origin, 1), &mut Vec::new());
    assert!(ring.is_drained() && ring.gather(id).is_empty() && origin.delivered() == 0);
}

#[test]
fn peers_that_stopped_within_one_large_message_share_it() {
    let mut ring = ring(1);
    let origin = Origin::new(0);
    let message = [&[1, 1, b't', 0, 200][..], &[b'.'; 200]].concat();
    let large = Chunk::new(message.clone(), vec![message.len()], true, 1, Arc::clone(&origin), 1);
    let peers = [(); 2].map(|()| join(&mut ring));
    for id in peers {
        ring.subscribe(id, b"t", 10);
    }
    ring.publish(large, &mut Vec::new());
    for id in peers {
        let batch = ring.gather(id);
        ring.advance(id, &batch, 50);
    }
    ring.publish(one_message(&origin, 2), &mut Vec::new());
    let [one, other] = peers.map(|id| ring.gather(id));
    assert_eq!(one.unfinished, message[50..]);
    assert_eq!(one.unfinished.as_ptr(), other.unfinished.as_ptr());
    for (id, batch) in peers.into_iter().zip([one, other]) {
        assert!(ring.advance(id, &batch, 155 + 6));
    }
    assert_eq!((origin.delivered(), ring.counters().messages_dropped), (2, 0));
}
