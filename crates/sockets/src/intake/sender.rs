//! Senders: what each has sent, and the answers that wait for it.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use zafka_zmtp::SocketType;
use zafka_zmtp::curve::PublicKey;

use crate::link::Peer;
use crate::memory::PeerMemory;
use crate::outbox::{Answers, Queue, SpareBuffers};
use crate::wait::{now_ms, since_epoch};

/// One connection of a sender.
#[derive(Debug)]
pub struct Sender {
    peer: Arc<Peer>,
    /// Random for each connection, so that those of different relays differ.
    token: u64,
    sequence: AtomicU64,
    answers: Queue,
    received: AtomicU64,
    failed: AtomicU64,
    /// Time since which it is not read, in ms since the epoch; 0 if it is read.
    held_since: AtomicI64,
    /// Messages under way, and their bytes.
    under_way: AtomicUsize,
    bytes_under_way: AtomicUsize,
    /// The connection waits for the last message under way.
    is_ending: AtomicBool,
    kept: Mutex<Option<Arc<dyn Any + Send + Sync>>>,
}

/// A sender at one moment.
#[derive(Clone, Debug)]
pub struct SenderSnapshot {
    /// Number of its connection within the socket.
    pub id: u64,
    /// `IP:PORT`, or the path of an ipc endpoint.
    pub address: String,
    /// Its socket type, such as DEALER.
    pub socket_type: &'static str,
    /// Messages received from it.
    pub received: u64,
    /// Messages among them that could not be written.
    pub failed: u64,
    /// Messages of it that are not settled.
    pub under_way: usize,
    /// Their bytes.
    pub bytes_under_way: usize,
    /// Time since which it is not read because its next message has to wait, in ms since the epoch.
    pub held_since: Option<i64>,
    /// Bytes of answers that it has not read.
    pub answer_bytes: usize,
    /// The time of the connection, in ms since the epoch.
    pub connected_since: i64,
    /// The peer's subject, if a gate knows it.
    pub subject: Option<String>,
    /// The end of its access unless it is renewed, in ms since the epoch.
    pub access_until: Option<i64>,
}

impl Sender {
    pub(super) fn new(
        peer: &Arc<Peer>,
        memory: &Arc<PeerMemory>,
        spares: &Arc<SpareBuffers>,
    ) -> Self {
        Self {
            peer: Arc::clone(peer),
            token: rand::random(),
            sequence: AtomicU64::new(0),
            answers: Queue::new(memory, spares),
            received: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            held_since: AtomicI64::new(0),
            under_way: AtomicUsize::new(0),
            bytes_under_way: AtomicUsize::new(0),
            is_ending: AtomicBool::new(false),
            kept: Mutex::default(),
        }
    }

    /// Keeps a value, in place of the one before, until the sender is gone.
    pub fn keep(&self, value: Arc<dyn Any + Send + Sync>) {
        *self.kept.lock() = Some(value);
    }

    /// Returns the value that is kept, if it is of this type.
    pub fn kept<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.kept.lock().clone()?.downcast().ok()
    }

    /// Number of the connection within its socket; never given twice.
    pub fn id(&self) -> u64 {
        self.peer.id()
    }

    /// A random number for the connection.
    pub fn token(&self) -> u64 {
        self.token
    }

    /// Numbers the sender's messages: 0 the first time, then one more each time.
    pub fn next_sequence(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::Relaxed)
    }

    /// `IP:PORT`, or the path of an ipc endpoint.
    pub fn address(&self) -> &str {
        self.peer.address()
    }

    /// The sender's socket type, once its handshake is done.
    pub fn socket_type(&self) -> Option<SocketType> {
        self.peer.socket_type()
    }

    /// The routing id that it has given itself (RFC 37, "The Identity Property"), which anybody may
    /// take; empty if it has none, as all but DEALER and REQ.
    pub fn routing_id(&self) -> &[u8] {
        self.peer.routing_id()
    }

    /// The CURVE key that it has proven, if its gate knows it by that.
    pub fn key(&self) -> Option<PublicKey> {
        self.peer.standing().access().and_then(|access| access.key())
    }

    /// Stops reading it, beyond what was handed over already, or resumes.
    pub fn hold(&self, on_hold: bool) {
        self.peer.hold(on_hold);
    }

    pub(crate) fn is_on_hold(&self) -> bool {
        self.peer.is_on_hold()
    }

    pub(super) fn begin(&self, messages: usize, bytes: usize) {
        self.under_way.fetch_add(messages, Ordering::Relaxed);
        self.bytes_under_way.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn end(&self, messages: usize, bytes: usize) {
        self.bytes_under_way.fetch_sub(bytes, Ordering::Relaxed);
        let before = self.under_way.fetch_sub(messages, Ordering::SeqCst);
        if before == messages && self.is_ending.load(Ordering::SeqCst) {
            self.peer.wake();
        }
    }

    /// Returns true if its messages may go to this label; to every one without a gate.
    pub fn may_write(&self, label: &str) -> bool {
        self.peer.standing().may_write(label)
    }

    /// Returns true if its messages may go anywhere at all.
    pub fn may_write_something(&self) -> bool {
        self.peer.standing().may_write_something()
    }

    /// Queues a message for the sender. One that leaves too many unread is closed; the answers of a
    /// sender that is gone are dropped.
    pub fn answer<'a>(&self, frames: impl ExactSizeIterator<Item = &'a [u8]>) {
        if self.answers.push(frames) {
            self.peer.wake();
        }
    }

    /// Queues several messages at once, of about so many bytes on the wire, as [`Self::answer`]
    /// does one.
    pub fn answer_all(&self, bytes: usize, put: impl FnOnce(&mut Answers<'_>)) {
        if self.answers.push_all(bytes, put) {
            self.peer.wake();
        }
    }

    /// Counts a message of it that cannot be written.
    pub fn count_failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn answers(&self) -> &Queue {
        &self.answers
    }

    pub(super) fn count_received(&self, messages: usize) {
        self.received.fetch_add(messages as u64, Ordering::Relaxed);
    }

    /// Returns true if none of its messages is under way, and no answer waits for it. If one is,
    /// its connection is woken by the last.
    pub(crate) fn is_answered(&self) -> bool {
        // Set before it looks, so that the last one is not missed. Answers come before that.
        self.is_ending.store(true, Ordering::SeqCst);
        self.under_way.load(Ordering::SeqCst) == 0 && self.answers.is_empty()
    }

    /// Takes note of whether it is read.
    pub(crate) fn set_held(&self, held: bool) {
        let is_held = self.held_since.load(Ordering::Relaxed) != 0;
        if held != is_held {
            let since = if held { now_ms() } else { 0 };
            self.held_since.store(since, Ordering::Relaxed);
        }
    }

    pub(super) fn held_since(&self) -> Option<i64> {
        Some(self.held_since.load(Ordering::Relaxed)).filter(|since| *since != 0)
    }

    pub(super) fn snapshot(&self) -> Option<SenderSnapshot> {
        Some(SenderSnapshot {
            id: self.id(),
            address: self.address().to_owned(),
            socket_type: self.socket_type()?.name(),
            received: self.received.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            under_way: self.under_way.load(Ordering::Relaxed),
            bytes_under_way: self.bytes_under_way.load(Ordering::Relaxed),
            held_since: self.held_since(),
            answer_bytes: self.answers.bytes(),
            connected_since: since_epoch(self.peer.since()),
            subject: self.peer.subject(),
            access_until: self.peer.access_until(),
        })
    }
}
