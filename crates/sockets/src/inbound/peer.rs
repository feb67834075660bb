//! The senders of a socket: what each has under way, and the answers that wait for it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use zafka_zmtp::SocketType;
use zafka_zmtp::frame::{Position, put_header};

/// Bytes of answers that may wait for a sender that does not read them.
pub(super) const ANSWER_BYTES: usize = 1024 * 1024;
/// Time between two warnings for the same reason.
const QUIET: Duration = Duration::from_secs(10);

/// One connection of a sender.
#[derive(Debug)]
pub struct Sender {
    /// Number of the connection within its socket; never given twice.
    id: u64,
    /// Random for each connection, so that those of different relays differ.
    token: u64,
    sequence: AtomicU64,
    address: String,
    since: SystemTime,
    socket_type: OnceLock<SocketType>,
    answers: Mutex<Answers>,
    wake: Notify,
    received: AtomicU64,
    /// Since when it is not read, in ms since the epoch; 0 if it is read.
    held_since: AtomicI64,
    /// Its next messages are for something that takes no more.
    on_hold: AtomicBool,
    /// Messages under way, and their bytes.
    under_way: AtomicUsize,
    bytes_under_way: AtomicUsize,
}

#[derive(Debug, Default)]
struct Answers {
    /// Whole messages, ZMTP headers included.
    bytes: Vec<u8>,
    /// More waited than a sender may leave unread.
    overflowed: bool,
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
    /// Messages of it that are not settled.
    pub under_way: usize,
    /// Their bytes.
    pub bytes_under_way: usize,
    /// Since when it is not read because its next message has to wait, in ms since the epoch.
    pub held_since: Option<i64>,
    /// Bytes of answers that it has not read.
    pub answer_bytes: usize,
    /// When it connected, in ms since the epoch.
    pub connected_since: i64,
}

impl Sender {
    /// Number of the connection within its socket.
    pub fn id(&self) -> u64 {
        self.id
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
        &self.address
    }

    /// The sender's socket type, once its handshake is done.
    pub fn socket_type(&self) -> Option<SocketType> {
        self.socket_type.get().copied()
    }

    /// Stops reading it, beyond what was handed over already, or goes on.
    pub fn hold(&self, on_hold: bool) {
        if self.on_hold.swap(on_hold, Ordering::AcqRel) != on_hold {
            self.wake.notify_one();
        }
    }

    pub(super) fn is_on_hold(&self) -> bool {
        self.on_hold.load(Ordering::Acquire)
    }

    pub(super) fn begin(&self, bytes: usize) {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        self.bytes_under_way.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn end(&self, bytes: usize) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        self.bytes_under_way.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Queues a message for the sender. One that leaves too many unread is closed; the answers of a
    /// sender that is gone are dropped.
    pub fn answer<'a>(&self, frames: impl ExactSizeIterator<Item = &'a [u8]>) {
        let mut answers = self.answers.lock();
        if answers.overflowed {
            return;
        }
        let count = frames.len();
        for (index, frame) in frames.enumerate() {
            let position = if index + 1 == count { Position::Last } else { Position::More };
            put_header(&mut answers.bytes, position, frame.len());
            answers.bytes.extend_from_slice(frame);
        }
        if answers.bytes.len() > ANSWER_BYTES {
            *answers = Answers { bytes: Vec::new(), overflowed: true };
        }
        drop(answers);
        self.wake.notify_one();
    }

    /// Takes the answers that wait; an error if there were too many.
    pub(super) fn take_answers(&self) -> Result<Vec<u8>, AnswersUnread> {
        let mut answers = self.answers.lock();
        if answers.overflowed { Err(AnswersUnread) } else { Ok(std::mem::take(&mut answers.bytes)) }
    }

    /// Whether none of its messages is under way, and no answer waits for it.
    pub(super) fn is_answered(&self) -> bool {
        let answers = self.answers.lock();
        let is_settled = self.under_way.load(Ordering::Relaxed) == 0;
        is_settled && !answers.overflowed && answers.bytes.is_empty()
    }

    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    pub(super) fn set_socket_type(&self, socket_type: SocketType) {
        let _ = self.socket_type.set(socket_type);
    }

    pub(super) fn count_received(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes note of whether it is read.
    pub(super) fn set_held(&self, held: bool) {
        let is_held = self.held_since.load(Ordering::Relaxed) != 0;
        if held != is_held {
            let since = if held { milliseconds(SystemTime::now()) } else { 0 };
            self.held_since.store(since, Ordering::Relaxed);
        }
    }

    fn held_since(&self) -> Option<i64> {
        Some(self.held_since.load(Ordering::Relaxed)).filter(|since| *since != 0)
    }

    fn snapshot(&self) -> Option<SenderSnapshot> {
        Some(SenderSnapshot {
            id: self.id,
            address: self.address.clone(),
            socket_type: self.socket_type()?.name(),
            received: self.received.load(Ordering::Relaxed),
            under_way: self.under_way.load(Ordering::Relaxed),
            bytes_under_way: self.bytes_under_way.load(Ordering::Relaxed),
            held_since: self.held_since(),
            answer_bytes: self.answers.lock().bytes.len(),
            connected_since: milliseconds(self.since),
        })
    }
}

/// In ms since the epoch.
fn milliseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A sender does not read its answers.
#[derive(Debug, thiserror::Error)]
#[error("more than {ANSWER_BYTES} bytes of answers wait for a sender that does not read")]
pub(super) struct AnswersUnread;

/// The connections of a socket, and the counts of those that ended.
#[derive(Debug, Default)]
pub(super) struct Peers {
    state: Mutex<State>,
    emptied: Notify,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    senders: BTreeMap<u64, Arc<Sender>>,
    closed: HashMap<&'static str, Closings>,
}

#[derive(Debug, Default)]
struct Closings {
    count: u64,
    since_warned: u64,
    warned: Option<Instant>,
}

impl Peers {
    /// Adds a connection; `None` if there are `max` already.
    pub(super) fn join(&self, address: &str, max: usize) -> Option<Arc<Sender>> {
        let mut state = self.state.lock();
        if state.senders.len() >= max {
            return None;
        }
        let id = state.next;
        state.next += 1;
        let sender = Arc::new(Sender {
            id,
            token: rand::random(),
            sequence: AtomicU64::new(0),
            address: address.to_owned(),
            since: SystemTime::now(),
            socket_type: OnceLock::new(),
            answers: Mutex::default(),
            wake: Notify::new(),
            received: AtomicU64::new(0),
            held_since: AtomicI64::new(0),
            on_hold: AtomicBool::new(false),
            under_way: AtomicUsize::new(0),
            bytes_under_way: AtomicUsize::new(0),
        });
        state.senders.insert(id, Arc::clone(&sender));
        Some(sender)
    }

    pub(super) fn leave(&self, id: u64) {
        let mut state = self.state.lock();
        state.senders.remove(&id);
        if state.senders.is_empty() {
            self.emptied.notify_waiters();
        }
    }

    /// Counts a connection that ended or was refused. If that may be warned of again, returns how
    /// many there were since the last warning for the same reason.
    pub(super) fn count_closed(&self, reason: &'static str, now: Instant) -> Option<u64> {
        let mut state = self.state.lock();
        let closings = state.closed.entry(reason).or_default();
        closings.count += 1;
        if closings.warned.is_some_and(|warned| now.duration_since(warned) < QUIET) {
            closings.since_warned += 1;
            return None;
        }
        closings.warned = Some(now);
        Some(std::mem::take(&mut closings.since_warned))
    }

    pub(super) fn closed(&self) -> Vec<(&'static str, u64)> {
        let state = self.state.lock();
        state.closed.iter().map(|(reason, closings)| (*reason, closings.count)).collect()
    }

    pub(super) fn snapshot(&self) -> Vec<SenderSnapshot> {
        let senders: Vec<_> = self.state.lock().senders.values().cloned().collect();
        senders.iter().filter_map(|sender| sender.snapshot()).collect()
    }

    /// How many are not read, and since when the first is.
    pub(super) fn held(&self) -> Option<(usize, i64)> {
        let state = self.state.lock();
        let held = state.senders.values().filter_map(|sender| sender.held_since());
        held.fold(None, |all, since| {
            let (count, first) = all.unwrap_or((0, since));
            Some((count + 1, first.min(since)))
        })
    }

    /// Waits until no connection is left; how long is up to the caller.
    pub(super) async fn none_left(&self) {
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            emptied.as_mut().enable();
            if self.state.lock().senders.is_empty() {
                return;
            }
            emptied.await;
        }
    }
}
