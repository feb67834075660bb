//! DEALER and PUSH sockets of one connection, for sending to an endpoint.
//!
//! The sender receives each connection and its end as events, which libzmq does not report, so that
//! what was not answered can be sent again, and nothing else. What was queued for a connection ends
//! with it.

use std::collections::VecDeque;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::sleep;
use zafka_zmtp::frame;
use zafka_zmtp::{Event, SocketType};

use crate::client_link::{ClientLink, Dropped, EventStream};
use crate::config::EndpointConfig;
use crate::connect::Connector;

/// Chunks that wait to be written, besides [`QUEUE_BYTES`].
const CHUNKS: usize = 4;
/// Bytes that wait to be written at which no further chunk is taken.
const QUEUE_BYTES: usize = 256 * 1024;

/// Kinds of sockets that send to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboundKind {
    /// Sends to a ROUTER, which may answer.
    Dealer,
    /// Sends to a PULL.
    Push,
}

/// An event of a socket that sends.
#[derive(Debug)]
pub enum OutboundEvent {
    /// The handshake of a new connection is done; this is the way into it.
    Connected(Outlet),
    /// The connection could not be made or was lost, and why; it is tried again. Messages that its
    /// outlet had taken and not reported as written are dropped.
    Disconnected(String),
    /// The kernel took one more chunk of this connection, in their order.
    Written,
    /// A message, frame by frame.
    Message(Vec<Bytes>),
    /// The outlet was dropped, everything was written, and the other side has closed the
    /// connection. The last event.
    Finished,
}

/// A socket that connects to one endpoint, and connects again if the connection is lost.
///
/// A task of its own connects, writes and reads, so that it makes progress even if the next event
/// is not waited for.
#[derive(Debug)]
pub struct OutboundSocket {
    events: EventStream<OutboundEvent>,
}

/// The way into one connection. Dropped, it ends our direction of the connection once everything is
/// written.
#[derive(Debug)]
pub struct Outlet {
    chunks: mpsc::Sender<Vec<u8>>,
}

/// Room for one chunk.
#[derive(Debug)]
pub struct Slot(mpsc::OwnedPermit<Vec<u8>>);

impl OutboundSocket {
    /// A socket that begins at once, on the runtime that it is made on.
    pub fn new(kind: OutboundKind, to: impl Into<EndpointConfig>) -> Self {
        let to = to.into();
        Self { events: EventStream::spawn(|events| run(kind, to, events)) }
    }

    /// The next event. Waits as long as there is none; may be dropped at any time without losing
    /// one.
    pub async fn next(&mut self) -> OutboundEvent {
        self.events.next().await
    }

    /// The next event, if one is at hand.
    pub fn try_next(&mut self) -> Option<OutboundEvent> {
        self.events.try_next()
    }
}

impl Outlet {
    /// Waits for room, as long as the other side takes nothing; `None` once the connection is lost.
    /// May be dropped at any time.
    pub fn reserve(&self) -> impl Future<Output = Option<Slot>> + Send + use<> {
        let chunks = self.chunks.clone();
        async { chunks.reserve_owned().await.ok().map(Slot) }
    }
}

impl Slot {
    /// Queues whole messages, as [`put_message`] appends them.
    pub fn send(self, chunk: Vec<u8>) {
        self.0.send(chunk);
    }
}

/// Appends a message as it goes over the wire, frame headers included.
pub fn put_message<F: AsRef<[u8]>>(out: &mut Vec<u8>, frames: &[F]) {
    frame::put_message(out, frames.iter().map(AsRef::as_ref));
}

/// The end of a connection.
#[derive(Debug)]
enum End {
    Lost(String),
    Finished,
}

/// Connects and serves until a connection was finished or the receiver of the events has gone.
async fn run(kind: OutboundKind, to: EndpointConfig, events: mpsc::Sender<OutboundEvent>) {
    let socket_type = match kind {
        OutboundKind::Dealer => SocketType::Dealer,
        OutboundKind::Push => SocketType::Push,
    };
    let mut connector = Connector::new(to.endpoint);
    loop {
        let reason = match connector.attempt().await {
            Ok(stream) => {
                let mut link = ClientLink::new(stream, socket_type, to.mechanism.clone());
                let Ok(end) = serve(&mut link, &events).await else { return };
                if link.connection.is_ready() {
                    connector.succeeded();
                }
                match end {
                    End::Lost(reason) => reason,
                    End::Finished => {
                        // A receiver that has gone does not need to know.
                        let _ = events.send(OutboundEvent::Finished).await;
                        return;
                    }
                }
            }
            Err(error) => error.to_string(),
        };
        if events.send(OutboundEvent::Disconnected(reason)).await.is_err() {
            return;
        }
        sleep(connector.next_pause()).await;
    }
}

/// Serves a connection to its end.
async fn serve(
    link: &mut ClientLink,
    events: &mpsc::Sender<OutboundEvent>,
) -> Result<End, Dropped> {
    let (sender, mut chunks) = mpsc::channel(CHUNKS);
    let mut outlet = Some(Outlet { chunks: sender });
    // The ends of the chunks that are not written whole.
    let mut ends: VecDeque<u64> = VecDeque::new();
    let (mut is_ending, mut has_ended) = (false, false);
    loop {
        let blocked = match link.flush() {
            Ok(blocked) => blocked,
            Err(reason) => return Ok(End::Lost(reason)),
        };
        while ends.front().is_some_and(|end| *end <= link.written()) {
            ends.pop_front();
            events.send(OutboundEvent::Written).await.map_err(|_| Dropped)?;
        }
        if is_ending && !has_ended && ends.is_empty() {
            if let Err(reason) = link.end() {
                return Ok(End::Lost(reason));
            }
            has_ended = true;
        }
        let takes = !is_ending && link.unwritten() < QUEUE_BYTES;
        let ended = tokio::select! {
            biased;
            chunk = chunks.recv(), if takes => {
                match chunk {
                    Some(chunk) => match link.queue(&chunk) {
                        Ok(end) => ends.push_back(end),
                        Err(reason) => return Ok(End::Lost(reason)),
                    },
                    None => is_ending = true,
                }
                continue;
            }
            ready = link.ready(blocked) => ready.and_then(|()| link.read()).err(),
        };
        while let Some(event) = link.connection.poll_event() {
            let event = match event {
                Event::Message(frames) => OutboundEvent::Message(frames),
                Event::Ready(_) => match outlet.take() {
                    Some(outlet) => OutboundEvent::Connected(outlet),
                    None => continue,
                },
                Event::Subscribe(_)
                | Event::Cancel(_)
                | Event::TooLarge(_)
                | Event::Messages(_)
                | Event::Authenticate(_) => continue,
            };
            events.send(event).await.map_err(|_| Dropped)?;
        }
        match ended {
            None => {}
            Some(_) if has_ended => return Ok(End::Finished),
            Some(reason) => return Ok(End::Lost(reason)),
        }
    }
}
