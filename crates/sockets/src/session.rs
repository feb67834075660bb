//! A connection's task: handshake, input, output and deadlines, to the connection's end.
//!
//! It reads even while its output is blocked: a close with unread input would become a reset, and
//! throw away what the kernel still holds for the peer. Only a peer that has used up its ration of
//! input is not read for a moment.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

use std::io;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep_until;
use tracing::{debug, info};
use zafka_zmtp::{Config, Connection, Event, Mechanism, PeerInfo, Role, SocketType};

use crate::memory::Charge;
use crate::peer::{Closed, Origin, Peer};
use crate::ration::Ration;
use crate::ring::{Change, LOOKS, Subscribed};
use crate::shared::Shared;
use crate::silence::Silence;
use crate::writer::Drained;

use self::handshake::Handshake;

mod handshake;

/// Bytes read at a time.
const READ_BYTES: usize = 8 * 1024;
/// Reads before others get their turn.
const READS: usize = 8;
/// Changes of subscriptions after which others get their turn.
const CHANGES: u64 = 256;
/// Commands that wait for a peer that does not read, beyond which it is not answered for now.
const CONTROL_BYTES: usize = 4 * 1024;
/// How long a peer has to answer the end of a connection with its own, while the kernel gives it
/// what it still holds.
const PARTING: std::time::Duration = std::time::Duration::from_secs(30);

pub(crate) enum Never {}

/// Serves a peer until its connection ends. `slot` is its place among the connections in their
/// handshake.
pub(crate) async fn run(
    shared: &Shared,
    peer: &Peer,
    origin: Origin,
    slot: Option<OwnedSemaphorePermit>,
) -> Result<Never, Closed> {
    Session::new(shared, peer, origin, slot).run().await
}

struct Session<'a> {
    shared: &'a Shared,
    peer: &'a Peer,
    connection: Connection,
    /// Until it is done.
    handshake: Option<Handshake>,
    silence: Silence,
    ration: Ration,
    /// For what is held of its input and of our answers.
    held: Charge,
    /// From the moment on when the socket closes: when the peer's answer to that is not waited for
    /// any more.
    farewell: Option<Instant>,
}

/// How a read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    /// All that is there was read.
    All,
    /// There may be more, but others should get their turn.
    More,
}

impl<'a> Session<'a> {
    fn new(
        shared: &'a Shared,
        peer: &'a Peer,
        origin: Origin,
        slot: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let now = Instant::now();
        let limits = &shared.config.limits;
        Self {
            shared,
            peer,
            connection: Connection::new(connection_config(shared, origin), now),
            handshake: Some(Handshake::new(limits.handshake_timeout, slot, now)),
            silence: Silence::new(&shared.config),
            ration: limits.ration(now),
            held: shared.memory.empty(),
            farewell: None,
        }
    }

    async fn run(mut self) -> Result<Never, Closed> {
        let mut closing = self.shared.closing.subscribe();
        let peer = self.peer;
        let mut more_to_read = false;
        loop {
            if std::mem::take(&mut more_to_read) {
                tokio::task::yield_now().await;
            }
            // After the end of our direction nothing more can be written, and the failure would cut
            // off what the kernel holds.
            let drained = if self.farewell.is_some() { Drained::Idle } else { self.flush()? };
            let now = Instant::now();
            self.silence.flushed(peer, &mut self.connection, drained, now);
            let rationed = self.ration.waits_until(now).filter(|_| self.farewell.is_none());
            let timer = [self.poll_timeout(), rationed].into_iter().flatten().min();
            tokio::select! {
                readable = peer.stream().readable(), if rationed.is_none() => {
                    readable?;
                    more_to_read = self.on_readable()? == Read::More;
                }
                writable = peer.stream().writable(), if drained == Drained::Blocked => {
                    writable?;
                    peer.writer().unblock();
                }
                // Others get their turn, and so does what this peer has to say.
                () = tokio::task::yield_now(), if drained == Drained::More => {}
                () = peer.woken() => {}
                () = sleep_until(timer.unwrap_or(now).into()), if timer.is_some() => {
                    more_to_read = self.on_timeout()? == Read::More;
                }
                _ = closing.wait_for(|closing| *closing), if self.farewell.is_none() => {
                    // The peer gets the end of our direction after all that the kernel holds, and answers with its own.
                    self.farewell = Some(Instant::now() + PARTING);
                    if !self.connection.is_ready() || peer.stream().shutdown_write().is_err() {
                        return Err(Closed::BySocket);
                    }
                }
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match (self.farewell, &self.handshake) {
            (Some(end), _) => Some(end),
            (None, Some(handshake)) => Some(handshake.poll_timeout()),
            (None, None) => {
                let due = [self.connection.poll_timeout(), self.silence.poll_timeout()];
                due.into_iter().flatten().min()
            }
        }
    }

    fn on_timeout(&mut self) -> Result<Read, Closed> {
        let now = Instant::now();
        if self.poll_timeout().is_none_or(|due| now < due) {
            return Ok(Read::All);
        }
        if self.farewell.is_some() {
            return Err(Closed::BySocket);
        }
        if let Some(handshake) = &mut self.handshake {
            let crowded = self.shared.handshakes.available_permits() == 0;
            handshake.handle_timeout(crowded, now).map_err(Closed::HandshakeTimeout)?;
            return Ok(Read::All);
        }
        // After a pause of ours, signs of life may be waiting to be read.
        let read = self.read()?;
        let now = Instant::now();
        self.silence.handle_timeout(self.peer, &mut self.connection, now).map_err(Closed::Gone)?;
        self.connection.handle_timeout(now)?;
        Ok(read)
    }

    fn on_readable(&mut self) -> Result<Read, Closed> {
        let outcome = self.read();
        if self.farewell.is_some() {
            // Nobody hears them any more.
            self.peer.writer().clear();
        }
        if outcome.is_err() && self.farewell.is_none() {
            // The peer is told why, if that fits into the kernel's buffer.
            let _ = self.flush();
        }
        outcome
    }

    /// Queues what the connection has to say, and writes what can be written.
    fn flush(&mut self) -> Result<Drained, Closed> {
        if self.peer.is_broken() {
            return Err(self.shared.memory_exceeded());
        }
        self.queue_output();
        let mut drained = self.peer.writer().drain(self.shared, self.peer)?;
        if drained == Drained::Idle {
            // What waited for those before it.
            self.queue_output();
            if self.peer.written().0 {
                drained = Drained::More;
            }
        }
        self.account()?;
        Ok(drained)
    }

    /// Takes what the connection has to say, unless much of that waits already: the connection
    /// bounds the rest.
    fn queue_output(&mut self) {
        let mut writer = self.peer.writer();
        while writer.queued() < CONTROL_BYTES
            && let Some(output) = self.connection.poll_output()
        {
            writer.queue(&output);
        }
    }

    /// Takes note of what is held for the peer.
    fn account(&mut self) -> Result<(), Closed> {
        let held = self.connection.buffered()
            + self.connection.output_bytes()
            + self.peer.writer().queued();
        if held == self.held.bytes() {
            return Ok(());
        }
        self.held.set(held).map_err(|_| self.shared.memory_exceeded())
    }

    /// Reads what is there, up to a number of reads.
    fn read(&mut self) -> Result<Read, Closed> {
        let mut buffer = [0; READ_BYTES];
        for _ in 0..READS {
            match self.peer.stream().try_read(&mut buffer) {
                Ok(0) => return Err(Closed::ByPeer),
                Ok(read) => {
                    let changes = self.take(buffer.get(..read).unwrap_or_default())?;
                    if read < buffer.len() {
                        return Ok(Read::All);
                    }
                    if changes >= CHANGES || self.ration.waits_until(Instant::now()).is_some() {
                        return Ok(Read::More);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Read::All),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Read::More)
    }

    /// Takes input. Returns how many changes of subscriptions it held.
    fn take(&mut self, input: &[u8]) -> Result<u64, Closed> {
        let now = Instant::now();
        let outcome = self.connection.handle_input(input, now);
        // What it has to say comes first: a peer that subscribes together with its READY may be
        // written to from the next moment on.
        self.queue_output();
        let mut changes = Vec::new();
        while let Some(event) = self.connection.poll_event() {
            self.on_event(event, &mut changes);
        }
        self.change_subscriptions(&changes)?;
        outcome?;
        let changes = changes.len() as u64;
        self.ration.take(input.len(), changes, &mut self.shared.changes.lock(), now);
        self.account()?;
        Ok(changes)
    }

    /// Takes an event; what it says of subscriptions goes to `changes`.
    fn on_event(&mut self, event: Event, changes: &mut Vec<Change>) {
        match event {
            Event::Ready(info) => self.on_ready(&info),
            Event::Subscribe(prefix) => {
                let (route, peer) = (&self.shared.name, self.peer.address());
                debug!(route, peer, prefix = %prefix.escape_ascii(), "subscribed");
                changes.push(Change::Subscribe(prefix));
            }
            Event::Cancel(prefix) => changes.push(Change::Cancel(prefix)),
            // A SUB has nothing else to say to a PUB; libzmq drops it as well.
            Event::Message(_) | Event::TooLarge(_) => {}
        }
    }

    /// Changes the peer's subscriptions: all that came in one read with one hold of the ring, or in
    /// parts if they are many.
    fn change_subscriptions(&self, changes: &[Change]) -> Result<(), Closed> {
        let max = self.shared.config.limits.max_subscriptions;
        for part in changes.chunks(LOOKS) {
            match self.shared.change(|ring| ring.apply(self.peer.id(), part, max)) {
                Subscribed::Counted => {}
                Subscribed::NoMemory => return Err(self.shared.memory_exceeded()),
                Subscribed::TooMany => return Err(Closed::TooManySubscriptions(max)),
            }
        }
        Ok(())
    }

    fn on_ready(&mut self, info: &PeerInfo) {
        self.handshake = None;
        let (route, peer, socket) =
            (&self.shared.name, self.peer.address(), info.socket_type.name());
        match self.shared.count_accepted() {
            Some(0) => info!(route, peer, socket, "peer connected"),
            Some(left_out) => info!(route, peer, socket, left_out, "peer connected"),
            None => debug!(route, peer, socket, "peer connected"),
        }
        self.peer.set_socket_type(info.socket_type);
    }
}

fn connection_config(shared: &Shared, origin: Origin) -> Config {
    let limits = &shared.config.limits;
    Config {
        socket_type: SocketType::Pub,
        role: match origin {
            Origin::Accepted => Role::Server,
            Origin::Connected => Role::Client,
        },
        mechanism: Mechanism::Null,
        identity: Bytes::new(),
        max_frame: limits.max_inbound_frame,
        max_message: limits.max_inbound_frame,
        heartbeat: shared.config.heartbeat.map(|heartbeat| zafka_zmtp::Heartbeat {
            interval: heartbeat.interval,
            timeout: heartbeat.timeout,
        }),
    }
}
