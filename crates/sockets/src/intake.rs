//! The common part of sockets that take messages in: each connection hands over the messages that
//! came together, with a permit for the memory that they take until they are settled.

mod permit;
mod sender;

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::warn;
use zafka_zmtp::{Connection, Discarded, Messages, SocketType};

use crate::config::{EndpointConfig, Heartbeat};
use crate::gate::Gate;
use crate::link::{Hub, LinkConfig, Peer, Reserves, SilenceConfig};
use crate::memory::PeerMemory;
use crate::outbox::SpareBuffers;
use crate::subscriptions::PeerId;
use permit::{Aside, Memory};
pub use permit::{Grant, Permit};
pub use sender::{Sender, SenderSnapshot};

/// Memory that a message takes besides its frames, in bytes: bounds the number of small ones.
const MESSAGE_OVERHEAD: usize = 256;
/// The same of a frame beyond the first few, if what is kept of a message is kept frame by frame.
const FRAME_OVERHEAD: usize = 64;
/// Frames that [`MESSAGE_OVERHEAD`] is enough for.
const FEW_FRAMES: usize = 4;
/// Size of a message in bytes up to which one that is too large is thrown away; a larger one ends
/// its connection.
const DISCARDED: u64 = 1 << 30;
/// Messages that take more than this part of `in_flight_bytes` are not handed over together.
const PART: usize = 8;

/// Kinds of sockets that take messages in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InboundKind {
    /// Serves PUSH.
    Pull,
    /// Serves PUB and XPUB, subscribed to these prefixes.
    Sub(Vec<Vec<u8>>),
    /// Serves DEALER and REQ, which get answers.
    Router,
}

/// A socket that takes messages in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundConfig {
    /// Its kind.
    pub kind: InboundKind,
    /// Endpoints to listen on.
    pub bind: Vec<EndpointConfig>,
    /// Mode of the files of ipc endpoints; as the umask has it if `None`.
    pub ipc_mode: Option<u32>,
    /// Endpoints to connect to, and to connect to again after a loss.
    pub connect: Vec<EndpointConfig>,
    /// Heartbeats; off as in libzmq if `None`.
    pub heartbeat: Option<Heartbeat>,
    /// Peers: connections whose handshake is done.
    pub max_peers: usize,
    /// Size of one message in bytes, at most 1 GiB. A larger one is thrown away as it comes, and
    /// reported; one over 1 GiB ends its connection.
    pub max_message: usize,
    /// Bytes that senders together can make the socket hold besides the messages in flight: one
    /// half for messages that have come in part or wait, one for answers that are not read. If the
    /// first is taken, senders are not read; one message in all may exceed it. A sender whose
    /// answers would exceed the second is closed.
    pub peer_memory: usize,
    /// Time a connection has to finish its ZMTP handshake.
    pub handshake_timeout: Duration,
    /// Bytes of messages that were handed over and whose permits are held. A larger message goes
    /// alone.
    pub in_flight_bytes: usize,
}

/// Messages of one sender as they were handed over.
#[derive(Debug)]
pub struct Inbound {
    /// Their sender.
    pub sender: Arc<Sender>,
    /// The content of the message.
    pub content: Content,
    /// The memory that they take. To be held until they are settled.
    pub permit: Permit,
}

/// The content of the message.
#[derive(Debug, PartialEq, Eq)]
pub enum Content {
    /// Messages, one or more.
    Messages(Messages),
    /// A message that was larger than `max_message`, and thrown away as it came.
    TooLarge(Discarded),
    /// Messages that had been read when the socket began to end, and are not to be taken.
    Late(Messages),
}

/// Bytes of `in_flight_bytes` that a message of so many bytes and frames takes.
pub fn message_weight(bytes: usize, frames: usize) -> usize {
    bytes + MESSAGE_OVERHEAD + frames.saturating_sub(FEW_FRAMES) * FRAME_OVERHEAD
}

impl Content {
    /// Bytes of frames that are held.
    fn size(&self) -> usize {
        match self {
            Self::Messages(messages) | Self::Late(messages) => messages.bytes(),
            Self::TooLarge(Discarded { head, .. }) => head.iter().map(|frame| frame.len()).sum(),
        }
    }

    /// Bytes of memory that it takes while it waits.
    pub fn memory(&self) -> usize {
        match self {
            Self::Messages(messages) | Self::Late(messages) => messages.memory(),
            Self::TooLarge(Discarded { head, .. }) => message_weight(self.size(), head.len()),
        }
    }

    /// Messages.
    fn count(&self) -> usize {
        match self {
            Self::Messages(messages) | Self::Late(messages) => messages.len(),
            Self::TooLarge(_) => 1,
        }
    }
}

/// Shared by the connections of a socket.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) hub: Hub,
    pub(crate) config: InboundConfig,
    in_flight: Arc<Semaphore>,
    /// Permits in all; what one message may take at the most.
    capacity: usize,
    messages: mpsc::UnboundedSender<Inbound>,
    senders: Mutex<BTreeMap<PeerId, Arc<Sender>>>,
    /// The buffers for their answers.
    spares: Arc<SpareBuffers>,
}

impl Shared {
    pub(crate) fn new(
        name: &str,
        config: InboundConfig,
        messages: mpsc::UnboundedSender<Inbound>,
        gate: Option<Arc<dyn Gate>>,
    ) -> Arc<Self> {
        let capacity =
            config.in_flight_bytes.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        // Half of it for what senders send, half for what they do not read.
        let half = config.peer_memory / 2;
        let answers = PeerMemory::new(half);
        Arc::new(Self {
            hub: Hub::new(name, link_config(&config), answers, Some(Reserves::new(half)), gate),
            config,
            in_flight: Arc::new(Semaphore::new(capacity)),
            capacity,
            messages,
            senders: Mutex::default(),
            spares: Arc::default(),
        })
    }

    /// Bytes of `in_flight_bytes` that are taken.
    pub(crate) fn bytes_in_flight(&self) -> usize {
        self.capacity - self.in_flight.available_permits()
    }

    /// Bytes of `peer_memory` that are taken, by input and by answers.
    pub(crate) fn peer_bytes(&self) -> usize {
        self.hub.memory.used() + self.hub.reserves.as_ref().map_or(0, Reserves::used)
    }

    /// The senders whose handshake is done.
    pub(crate) fn senders(&self) -> Vec<SenderSnapshot> {
        let senders: Vec<_> = self.senders.lock().values().cloned().collect();
        senders.iter().filter_map(|sender| sender.snapshot()).collect()
    }

    /// Returns the number of senders that are not read for lack of memory, and since when the first
    /// of them is, in ms since the epoch.
    pub(crate) fn held(&self) -> Option<(usize, i64)> {
        let senders = self.senders.lock();
        let has_memory = |sender: &Sender| sender.is_on_hold() || sender.answers().is_unread();
        let waits = senders.values().filter(|sender| !has_memory(sender));
        let held = waits.filter_map(|sender| sender.held_since());
        held.fold(None, |all, since| {
            let (count, first) = all.unwrap_or((0, since));
            Some((count + 1, first.min(since)))
        })
    }

    /// Permits that messages of this weight take.
    fn permits(&self, weight: usize) -> u32 {
        // The capacity fits into 32 bits.
        u32::try_from(weight.min(self.capacity)).unwrap_or(u32::MAX)
    }

    /// Takes the memory that messages take, if it is free and no link waits for it.
    fn try_permit(&self, weight: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.in_flight).try_acquire_many_owned(self.permits(weight)).ok()
    }

    /// Waits for the memory that messages take, in turn with the other senders. There is always an
    /// end: the semaphore is never closed.
    fn permit(&self, weight: usize) -> impl Future<Output = Memory> + Send + use<> {
        let permit = Arc::clone(&self.in_flight).acquire_many_owned(self.permits(weight));
        async { permit.await.ok() }
    }

    /// Gives back the part of `in_flight_bytes` of messages that are not taken for now. The memory
    /// that they hold, in bytes, counts as that of messages which wait; if those hold too much
    /// already, nothing is done.
    pub(crate) fn set_aside(&self, permit: &mut Permit, bytes: usize) {
        if permit.aside.is_none() {
            let weight = permit.memory.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
            permit.aside = self.aside(bytes, weight);
            if permit.aside.is_some() {
                permit.memory = None;
            }
        }
    }

    /// Takes memory for messages that are set aside, unless those hold too much already.
    fn aside(&self, bytes: usize, weight: usize) -> Option<Aside> {
        let reserves = self.hub.reserves.as_ref().filter(|reserves| reserves.is_within_limit())?;
        Some(Aside { _charge: reserves.charge(bytes), weight })
    }

    /// Waits for memory for messages that were set aside, in turn with the senders.
    pub(crate) fn room(&self, weight: usize) -> impl Future<Output = Grant> + Send + use<> {
        let permit = self.permit(weight);
        async { Grant(permit.await) }
    }

    /// Parts messages so that those which are handed over together do not take much of the memory,
    /// unless it is a single one. Each part comes with its weight.
    fn part(&self, mut messages: Messages) -> VecDeque<(Messages, usize)> {
        if messages.most_frames() <= FEW_FRAMES {
            let weight = messages.bytes() + messages.len() * MESSAGE_OVERHEAD;
            if weight <= self.capacity / PART {
                return VecDeque::from([(messages, weight)]);
            }
        }
        // The first message of each part but the first, and the weight of what is before it.
        let (mut cuts, mut weight) = (Vec::new(), 0);
        for index in 0..messages.len() {
            let more = message_weight(messages.size(index), messages.frames(index).count());
            if weight > 0 && weight + more > self.capacity / PART {
                cuts.push((index, weight));
                weight = 0;
            }
            weight += more;
        }
        let mut parts = VecDeque::with_capacity(cuts.len() + 1);
        // From the back, so that each is copied once.
        for (cut, before) in cuts.into_iter().rev() {
            parts.push_front((messages.split_off(cut), weight));
            weight = before;
        }
        if !parts.is_empty() {
            messages.shrink();
        }
        parts.push_front((messages, weight));
        parts
    }
}

fn link_config(config: &InboundConfig) -> LinkConfig {
    LinkConfig {
        socket_type: match config.kind {
            InboundKind::Pull => SocketType::Pull,
            InboundKind::Sub(_) => SocketType::Sub,
            InboundKind::Router => SocketType::Router,
        },
        max_peers: config.max_peers,
        max_frame: config.max_message,
        max_message: config.max_message,
        handshake_timeout: config.handshake_timeout,
        heartbeat: config.heartbeat,
        silence: SilenceConfig {
            waits_for_full: false,
            asks_when_written: true,
            peer_timeout: None,
            heartbeat_timeout: config.heartbeat.map(|heartbeat| heartbeat.timeout),
        },
    }
}

/// The messages of one connection on their way out of it.
pub(crate) struct Intake {
    shared: Arc<Shared>,
    sender: Arc<Sender>,
    /// Messages that were read and wait for memory, each with its weight; and bytes of all of them.
    waiting: VecDeque<(Content, usize)>,
    waiting_bytes: usize,
    /// The place of the first of them in the queue for memory.
    permit: Option<Pin<Box<dyn Future<Output = Memory> + Send>>>,
}

impl Intake {
    /// Takes a sender in.
    pub(crate) fn new(shared: &Arc<Shared>, peer: &Arc<Peer>) -> Self {
        let sender = Arc::new(Sender::new(peer, &shared.hub.memory, &shared.spares));
        shared.senders.lock().insert(peer.id(), Arc::clone(&sender));
        Self {
            shared: Arc::clone(shared),
            sender,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            permit: None,
        }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(crate) fn sender(&self) -> &Sender {
        &self.sender
    }

    /// Prepares a sender's connection: messages that are too large are reported, and do not end it.
    pub(crate) fn prepare(&self, connection: &mut Connection) {
        connection.gather();
        connection.discard_up_to(DISCARDED);
    }

    /// Adds what was read.
    pub(crate) fn push(&mut self, content: Content) {
        match content {
            Content::Messages(messages) => {
                for (part, weight) in self.shared.part(messages) {
                    self.wait(Content::Messages(part), weight);
                }
            }
            content => {
                let weight = content.memory();
                self.wait(content, weight);
            }
        }
    }

    fn wait(&mut self, content: Content, weight: usize) {
        self.waiting_bytes += content.memory();
        self.waiting.push_back((content, weight));
    }

    /// Bytes of memory for messages that wait.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Gives up its place in the queue for memory, as long as it hands over nothing.
    pub(crate) fn let_others_first(&mut self) {
        self.permit = None;
    }

    /// Hands over messages while there is memory. Returns whether one has to wait for it, or for
    /// the end of a hold.
    pub(crate) fn hand_over(&mut self) -> bool {
        if self.sender.is_on_hold() {
            self.let_others_first();
            return true;
        }
        while self.permit.is_none()
            && let Some((_, weight)) = self.waiting.front()
        {
            match self.shared.try_permit(*weight) {
                Some(permit) => self.hand_over_first(Some(permit)),
                None => self.permit = Some(Box::pin(self.shared.permit(*weight))),
            }
        }
        self.permit.is_some()
    }

    /// Hands over all that came before the end of the connection. What there is no memory for, or
    /// is on hold, is set aside. If that holds too much already, what there is no memory for is
    /// thrown away, with all that came after it.
    pub(crate) fn hand_over_rest(&mut self) {
        self.permit = None;
        let (mut lost, mut is_full) = (0, false);
        while let Some((content, weight)) = self.waiting.pop_front() {
            let mut memory = self.shared.try_permit(weight);
            let aside = match &memory {
                Some(_) if !self.sender.is_on_hold() => None,
                _ => self.shared.aside(content.memory(), weight),
            };
            if aside.is_some() {
                memory = None;
            }
            is_full |= memory.is_none() && aside.is_none();
            if is_full {
                self.waiting_bytes -= content.memory();
                lost += content.count();
            } else {
                self.send(content, memory, aside);
            }
        }
        if lost > 0 {
            self.sender.count_received(lost);
            let (route, peer) = (&self.shared.hub.name, self.sender.address());
            warn!(route, peer, messages = lost, "no memory for messages of a sender that has gone");
        }
    }

    /// Hands over what was read and is not to be taken any more, so that it is answered. It takes
    /// no memory that it had not before.
    pub(crate) fn hand_over_late(&mut self) {
        self.permit = None;
        while let Some((content, _)) = self.waiting.pop_front() {
            let late = match content {
                Content::Messages(messages) => Content::Late(messages),
                content => content,
            };
            self.send(late, None, None);
        }
    }

    /// Waits for the memory of the first messages that wait, and hands them over.
    pub(crate) async fn permitted(&mut self) {
        // Without a deadline: this is how a sender is held back while the log does not keep up.
        match &mut self.permit {
            Some(permit) => {
                let memory = permit.await;
                self.permit = None;
                self.hand_over_first(memory);
            }
            None => std::future::pending().await,
        }
    }

    fn hand_over_first(&mut self, memory: Memory) {
        if let Some((content, _)) = self.waiting.pop_front() {
            self.send(content, memory, None);
        }
    }

    /// Hands over what no longer waits.
    fn send(&mut self, content: Content, memory: Memory, aside: Option<Aside>) {
        let (count, size) = (content.count(), content.size());
        self.waiting_bytes -= content.memory();
        self.sender.count_received(count);
        let mut permit = Permit::new(memory, &self.sender, count, size);
        permit.aside = aside;
        let sender = Arc::clone(&self.sender);
        // A route that has ended takes nothing; the connection ends with the socket.
        let _ = self.shared.messages.send(Inbound { sender, content, permit });
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        self.shared.senders.lock().remove(&self.sender.id());
    }
}
