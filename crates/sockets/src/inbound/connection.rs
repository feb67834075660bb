//! One connection of a sender, from its handshake to its end.
//!
//! Messages are handed over in their order. While one waits for memory, nothing more is read.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};
use zafka_zmtp::{Config, Connection, Discarded, Event, Mechanism, Role, SocketType};

use super::peer::{AnswersUnread, Sender};
use super::{Content, Inbound, InboundKind, Memory, Permit, Shared, Stage};
use crate::stream::Stream;

/// Bytes read at a time.
const READ_BYTES: usize = 64 * 1024;
/// Bytes of commands that may wait for a sender that does not read.
const MAX_CONTROL_BYTES: usize = 64 * 1024;
/// Size of a message in bytes up to which one that is too large is thrown away; a larger one ends
/// its connection.
const DISCARDED: u64 = 1 << 30;
/// Time for a sender to end its direction after ours; meanwhile it can read its last answers.
const PARTING: Duration = Duration::from_secs(1);

/// Which side opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Accepted,
    Connected,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Closed {
    #[error("the sender closed the connection")]
    BySender,
    #[error("the socket is closing")]
    BySocket,
    #[error(transparent)]
    Protocol(#[from] zafka_zmtp::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("no handshake within {0:?}")]
    HandshakeTimeout(Duration),
    #[error(transparent)]
    AnswersUnread(#[from] AnswersUnread),
    #[error("more than {MAX_CONTROL_BYTES} bytes of replies wait for a sender that does not read")]
    RepliesUnread,
}

impl Closed {
    /// A short label for the count of closed connections.
    fn label(&self) -> &'static str {
        match self {
            Self::BySender => "peer",
            Self::BySocket => "socket",
            Self::Protocol(error) => error.kind(),
            Self::Io(_) => "connection",
            Self::HandshakeTimeout(_) => "handshake_timeout",
            Self::AnswersUnread(_) | Self::RepliesUnread => "output_overflow",
        }
    }
}

/// Serves a connection to its end. Returns whether its handshake had succeeded.
pub(super) async fn serve(
    shared: Arc<Shared>,
    stream: Stream,
    address: String,
    origin: Origin,
) -> bool {
    let max_peers = shared.config.max_peers;
    let Some(sender) = shared.peers.join(&address, max_peers) else {
        drop(stream);
        let since = shared.peers.count_closed("peer_limit", Instant::now());
        if let Some(since) = since {
            let route = &shared.name;
            warn!(
                route,
                peer = address,
                max_peers,
                since_last_warning = since,
                "connection refused: max_peers reached"
            );
        }
        return false;
    };
    let membership = Membership { shared: Arc::clone(&shared), sender: Arc::clone(&sender) };
    let mut link = Link::new(&shared, &sender, stream, origin);
    let closed = match link.run().await {
        Ok(never) => match never {},
        Err(closed) => closed,
    };
    drop(membership);
    let warnable = shared.peers.count_closed(closed.label(), Instant::now());
    let route = &shared.name;
    match (&closed, warnable) {
        (Closed::BySender | Closed::BySocket | Closed::Io(_), _) | (_, None) => {
            debug!(route, peer = address, reason = %closed, "sender gone");
        }
        (_, Some(since)) => {
            warn!(route, peer = address, reason = %closed, since_last_warning = since, "connection closed");
        }
    }
    sender.socket_type().is_some()
}

/// A sender's place in its socket; given up also if the task is dropped.
struct Membership {
    shared: Arc<Shared>,
    sender: Arc<Sender>,
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.shared.peers.leave(self.sender.id());
    }
}

enum Never {}

/// A connection with what waits in both directions.
struct Link<'a> {
    shared: &'a Shared,
    sender: &'a Arc<Sender>,
    stream: Stream,
    connection: Connection,
    /// Messages that were read and wait for memory.
    waiting: VecDeque<Content>,
    /// The place of the first of them in the queue for memory.
    permit: Option<Pin<Box<dyn Future<Output = Memory> + Send>>>,
    /// The sender is not read.
    unread: bool,
    /// Bytes on their way to the sender: commands and answers, whole, in their order.
    output: Vec<u8>,
    written: usize,
    /// The next sign of life, while the sender is not read.
    life_at: Option<Instant>,
    /// The end of our direction was sent; the connection ends then at the latest.
    farewell: Option<Instant>,
}

impl<'a> Link<'a> {
    fn new(shared: &'a Shared, sender: &'a Arc<Sender>, stream: Stream, origin: Origin) -> Self {
        let mut connection = Connection::new(connection_config(shared, origin), now());
        connection.discard_up_to(DISCARDED);
        if let InboundKind::Sub(prefixes) = &shared.config.kind {
            for prefix in prefixes {
                connection.subscribe(prefix);
            }
        }
        Self {
            shared,
            sender,
            stream,
            connection,
            waiting: VecDeque::new(),
            permit: None,
            unread: false,
            output: Vec::new(),
            written: 0,
            life_at: None,
            farewell: None,
        }
    }

    async fn run(&mut self) -> Result<Never, Closed> {
        let shared = self.shared;
        let mut stages = shared.stage.subscribe();
        let handshake_end = Instant::now() + shared.config.handshake_timeout;
        loop {
            let stage = *stages.borrow_and_update();
            self.follow(stage)?;
            let blocked = self.flush()?;
            let is_open = stage == Stage::Open || !self.gets_answers();
            let takes = is_open && !self.sender.is_on_hold();
            let held = takes && self.hand_over_what_fits();
            self.sender.set_held(is_open && (held || !takes));
            self.note_unread(held || !takes);
            let timer = match self.farewell {
                Some(end) => end,
                None if !self.connection.is_ready() => handshake_end,
                None if held || !takes => self.next_sign_of_life(),
                None => self.connection.poll_timeout().map_or_else(far, Instant::from_std),
            };
            tokio::select! {
                permit = next_permit(&mut self.permit), if held => {
                    self.permit = None;
                    self.hand_over(permit);
                }
                readable = self.stream.readable(), if !held && (takes || self.farewell.is_some()) => {
                    readable?;
                    self.read()?;
                }
                writable = self.stream.writable(), if blocked => writable?,
                () = self.sender.woken() => {}
                _ = stages.changed() => {}
                () = sleep_until(timer) => self.handle_timer(held || !takes)?,
            }
        }
    }

    /// Takes note of whether the sender is read: what it said while it was not has not been heard.
    fn note_unread(&mut self, unread: bool) {
        if std::mem::replace(&mut self.unread, unread) && !unread {
            self.connection.resume(now());
            self.life_at = None;
        }
    }

    fn gets_answers(&self) -> bool {
        self.shared.config.kind == InboundKind::Router
    }

    /// Does what a stage of the socket's end asks for.
    fn follow(&mut self, stage: Stage) -> Result<(), Closed> {
        let ends = match stage {
            Stage::Open => false,
            Stage::Finishing => !self.gets_answers(),
            Stage::Closing => {
                let is_answered = self.sender.is_answered() && self.output.is_empty();
                !self.gets_answers() || is_answered
            }
        };
        if stage != Stage::Open && !self.connection.is_ready() {
            return Err(Closed::BySocket);
        }
        if stage != Stage::Open && self.gets_answers() {
            self.hand_over_late();
        }
        if ends && self.farewell.is_none() {
            // The sender closes in turn; what its kernel still holds comes before that. How long
            // PULL and SUB wait for it is the socket's matter.
            let patience = if self.gets_answers() { Instant::now() + PARTING } else { far() };
            self.farewell = Some(patience);
            if self.stream.shutdown_write().is_err() {
                return Err(Closed::BySocket);
            }
        }
        if stage == Stage::Closing && !self.gets_answers() {
            return Err(Closed::BySocket);
        }
        Ok(())
    }

    /// Hands over messages while there is memory. Returns whether one has to wait for it.
    fn hand_over_what_fits(&mut self) -> bool {
        while self.permit.is_none()
            && let Some(content) = self.waiting.front()
        {
            let size = size(content);
            match self.shared.try_permit(size) {
                Some(permit) => self.hand_over(Some(permit)),
                None => self.permit = Some(Box::pin(self.shared.permit(size))),
            }
        }
        self.permit.is_some()
    }

    fn hand_over(&mut self, memory: Memory) {
        let Some(content) = self.waiting.pop_front() else { return };
        self.sender.count_received();
        let permit = Permit::new(memory, self.sender, size(&content));
        let sender = Arc::clone(self.sender);
        // A route that has ended takes nothing; the connection ends with the socket.
        let _ = self.shared.messages.send(Inbound { sender, content, permit });
    }

    /// Hands over what was read and is not to be taken any more, so that it is answered. It takes
    /// no memory that it had not before.
    fn hand_over_late(&mut self) {
        self.permit = None;
        while let Some(content) = self.waiting.pop_front() {
            let late = match content {
                Content::Message(frames) => Content::Late(frames),
                content => content,
            };
            self.waiting.push_front(late);
            self.hand_over(None);
        }
    }

    fn handle_timer(&mut self, unread: bool) -> Result<(), Closed> {
        if self.farewell.is_some() {
            return Err(Closed::BySocket);
        }
        if !self.connection.is_ready() {
            return Err(Closed::HandshakeTimeout(self.shared.config.handshake_timeout));
        }
        if unread {
            self.connection.show_life();
            self.life_at = None;
            return Ok(());
        }
        Ok(self.connection.handle_timeout(now())?)
    }

    /// When a sender that is not read is due a sign of life.
    fn next_sign_of_life(&mut self) -> Instant {
        let interval = self.connection.life_interval();
        let next = || interval.map_or_else(far, |interval| Instant::now() + interval);
        *self.life_at.get_or_insert_with(next)
    }

    /// Reads once, and takes what became whole.
    fn read(&mut self) -> Result<(), Closed> {
        let mut buffer = [0; READ_BYTES];
        let read = match self.stream.try_read(&mut buffer) {
            Ok(0) => return Err(Closed::BySender),
            Ok(read) => read,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        if self.farewell.is_some() && self.gets_answers() {
            // It is only waited for the sender's end: messages are not taken any more.
            return Ok(());
        }
        let outcome = self.connection.handle_input(&buffer[..read], now());
        while let Some(event) = self.connection.poll_event() {
            match event {
                Event::Ready(info) => {
                    self.shared.accepted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    self.sender.set_socket_type(info.socket_type);
                    let (route, peer) = (&self.shared.name, self.sender.address());
                    debug!(route, peer, socket = info.socket_type.name(), "sender connected");
                }
                Event::Message(frames) => self.waiting.push_back(Content::Message(frames)),
                Event::TooLarge(discarded) => {
                    self.waiting.push_back(Content::TooLarge(discarded));
                }
                // Subscriptions mean nothing here.
                Event::Subscribe(_) | Event::Cancel(_) => {}
            }
        }
        if outcome.is_err() {
            // The sender is told why, if that fits into the kernel's buffer.
            let _ = self.flush();
        }
        Ok(outcome?)
    }

    /// Writes what can be written. Returns whether the kernel takes no more for now.
    fn flush(&mut self) -> Result<bool, Closed> {
        if self.farewell.is_some() {
            return Ok(false);
        }
        while let Some(output) = self.connection.poll_output() {
            self.output.extend_from_slice(&output);
            if self.output.len() - self.written > MAX_CONTROL_BYTES + super::peer::ANSWER_BYTES {
                return Err(Closed::RepliesUnread);
            }
        }
        loop {
            if self.written == self.output.len() {
                self.connection.output_written(now());
                (self.output, self.written) = (self.sender.take_answers()?, 0);
                if self.output.is_empty() {
                    return Ok(false);
                }
            }
            match self.stream.try_write_vectored(&[IoSlice::new(&self.output[self.written..])]) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn connection_config(shared: &Shared, origin: Origin) -> Config {
    let config = &shared.config;
    Config {
        socket_type: match config.kind {
            InboundKind::Pull => SocketType::Pull,
            InboundKind::Sub(_) => SocketType::Sub,
            InboundKind::Router => SocketType::Router,
        },
        role: match origin {
            Origin::Accepted => Role::Server,
            Origin::Connected => Role::Client,
        },
        mechanism: Mechanism::Null,
        identity: Bytes::new(),
        max_frame: config.max_message,
        max_message: config.max_message,
        heartbeat: config.heartbeat.map(|heartbeat| zafka_zmtp::Heartbeat {
            interval: heartbeat.interval,
            timeout: heartbeat.timeout,
        }),
    }
}

/// Bytes of a message that are held.
fn size(content: &Content) -> usize {
    let (Content::Message(frames)
    | Content::Late(frames)
    | Content::TooLarge(Discarded { head: frames, .. })) = content;
    frames.iter().map(Bytes::len).sum()
}

async fn next_permit(permit: &mut Option<Pin<Box<dyn Future<Output = Memory> + Send>>>) -> Memory {
    match permit {
        Some(permit) => permit.await,
        None => std::future::pending().await,
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// A moment that does not come while a relay lives: the wait has another end.
fn far() -> Instant {
    Instant::now() + Duration::from_secs(365 * 86_400)
}
