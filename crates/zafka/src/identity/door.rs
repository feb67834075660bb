//! The door: an endpoint that lets in every peer that has proven a CURVE key, and takes nothing
//! from it but a token, which enrols that key.
//!
//! It is for clients that cannot show a token in the handshake. A visitor can make us hold little,
//! may send a command a second, and is closed if its key has no lease after half a minute.

#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

#[cfg(test)]
mod tests;
mod visitors;
mod wire;

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{MissedTickBehavior, interval};
use zafka_identity::{Admission, Doorkeeper};
use zafka_sockets::config::{EndpointConfig, Heartbeat};
use zafka_sockets::{
    BindError, Content, Endpoint, Inbound, InboundConfig, InboundKind, InboundSocket, Sender,
};
use zafka_zmtp::{SocketType, Token};

use super::audit::DOOR;
use super::gate::{Identities, wall_clock};
use visitors::Visitors;
use wire::{DoorCommand, DoorFailure, LeaseAnswer, Notice};

/// Connections at the door, those in their handshake included.
const MAX_VISITORS: usize = 1024;
/// Size of one command in bytes: a token of 8 KiB, and what is around it.
const MAX_COMMAND: usize = 16 * 1024;
/// Bytes of commands that wait: 64 of the largest.
const WAITING_BYTES: usize = 64 * MAX_COMMAND;
/// Bytes that visitors can make us hold besides these.
const VISITOR_MEMORY: usize = 16 * 1024 * 1024;
/// Time between two looks at visitors that may continue, are due a notice, or have to leave.
const LOOK: Duration = Duration::from_millis(250);

/// The door, open. Dropped, it is closed, with all connections.
#[derive(Debug)]
pub struct Door {
    identities: Arc<Identities>,
    socket: InboundSocket,
    visitors: Arc<Visitors>,
    keeper: Doorkeeper,
    /// The visitors that have sent a command, by the number of their connection. Weak: one that has
    /// left does not count as there.
    senders: HashMap<u64, Weak<Sender>>,
}

impl Door {
    /// Binds its endpoints.
    ///
    /// # Errors
    /// One of them cannot be bound.
    pub async fn bind(
        bind: &[EndpointConfig],
        identities: &Arc<Identities>,
    ) -> Result<(Self, UnboundedReceiver<Inbound>), BindError> {
        let config = InboundConfig {
            kind: InboundKind::Router,
            bind: bind.to_vec(),
            ipc_mode: None,
            connect: Vec::new(),
            heartbeat: Some(Heartbeat {
                interval: Duration::from_secs(30),
                timeout: Duration::from_secs(30),
            }),
            max_peers: MAX_VISITORS,
            max_message: MAX_COMMAND,
            peer_memory: VISITOR_MEMORY,
            handshake_timeout: Duration::from_secs(5),
            in_flight_bytes: WAITING_BYTES,
        };
        let visitors = Arc::new(Visitors::new(Arc::clone(identities)));
        let gate = Arc::clone(&visitors);
        let (socket, messages) = InboundSocket::start_with_gate(DOOR, config, Some(gate)).await?;
        let (identities, senders) = (Arc::clone(identities), HashMap::new());
        let keeper = Doorkeeper::default();
        Ok((Self { identities, socket, visitors, keeper, senders }, messages))
    }

    /// The endpoints that it is bound to, wildcards resolved.
    pub fn endpoints(&self) -> &[Endpoint] {
        self.socket.endpoints()
    }

    /// Answers commands for as long as the task lives.
    pub async fn keep(mut self, mut messages: UnboundedReceiver<Inbound>) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                inbound = messages.recv() => match inbound {
                    Some(inbound) => self.handle_inbound(inbound),
                    None => return,
                },
                _ = ticks.tick() => self.look(),
            }
        }
    }

    fn handle_inbound(&mut self, inbound: Inbound) {
        // The memory of the messages is free again at the end.
        let Inbound { sender, content, permit: _permit } = inbound;
        self.senders.entry(sender.id()).or_insert_with(|| Arc::downgrade(&sender));
        match content {
            Content::Messages(messages) => {
                for index in 0..messages.len() {
                    let frames: Vec<_> = messages.frames(index).collect();
                    // The rest was sent before the pause is over: one answer does for all of it.
                    if self.handle_message(&sender, &frames, None) {
                        break;
                    }
                }
            }
            Content::TooLarge(discarded) => {
                let frames: Vec<_> = discarded.head.iter().map(|frame| &**frame).collect();
                self.handle_message(&sender, &frames, Some(discarded.size));
            }
            // It is about to be closed.
            Content::Late(_) => {}
        }
    }

    /// Answers a message. Returns true if it came too soon. `discarded`: the size of a message of
    /// which only the first frames are there.
    fn handle_message(
        &mut self,
        sender: &Sender,
        frames: &[&[u8]],
        discarded: Option<u64>,
    ) -> bool {
        let now = Instant::now();
        let (envelope, frames) = frames.split_at(wire::envelope(frames));
        let ration = self.keeper.handle_command(sender.id(), now);
        let is_early = ration.is_err();
        let command = match discarded {
            Some(size) => Err(format!("{size} bytes: a command has at most {MAX_COMMAND}")),
            None => Ok(wire::command(frames)),
        };
        let outcome = match (ration, command) {
            (Err(pause), command) => {
                sender.hold(true);
                let id = match command {
                    Ok(DoorCommand::Enrol { id, .. }) => Some(id),
                    _ => None,
                };
                Err(DoorFailure::busy(id, pause))
            }
            (Ok(()), Ok(DoorCommand::Enrol { id, token })) => self.enrol(sender, id, &token, now),
            (Ok(()), Ok(DoorCommand::Malformed(why))) => Err(DoorFailure::malformed(why)),
            (Ok(()), Ok(DoorCommand::Unknown(verb))) => Err(DoorFailure::unsupported(&verb)),
            (Ok(()), Err(why)) => Err(DoorFailure::malformed(why)),
        };
        let (word, json) = match &outcome {
            Ok(enrolled) => (&b"OK"[..], serde_json::to_vec(enrolled)),
            Err(failure) => (&b"ERROR"[..], serde_json::to_vec(failure)),
        };
        // Numbers and texts alone always serialize.
        let json = json.unwrap_or_default();
        let answer: Vec<_> = envelope.iter().copied().chain([wire::WORD, word, &json]).collect();
        sender.answer(answer.into_iter());
        is_early
    }

    fn enrol(
        &mut self,
        sender: &Sender,
        id: String,
        token: &Token,
        now: Instant,
    ) -> Result<LeaseAnswer, DoorFailure> {
        // The gate lets no peer in without a key.
        let Some(key) = sender.key() else { return Err(DoorFailure::malformed("no key")) };
        match self.identities.enrol(sender.address(), key, token) {
            Ok(admission) => {
                self.visitors.set_enrolled(&key);
                let notice = notice(&admission);
                let left = Duration::from_secs(notice.expires_in.unsigned_abs());
                if let Some(until) = admission.until()
                    && sender.socket_type() == Some(SocketType::Dealer)
                {
                    self.keeper.handle_enrolled(sender.id(), until, left, now);
                }
                Ok(LeaseAnswer {
                    id,
                    subject: admission.subject().to_owned(),
                    until: notice.until,
                    expires_in: notice.expires_in,
                    read: admission.grant.readable(),
                    write: admission.grant.writable(),
                })
            }
            Err((refusal, reference)) => Err(DoorFailure::refused(id, refusal, reference)),
        }
    }

    fn look(&mut self) {
        let now = Instant::now();
        for id in self.keeper.poll_released(now) {
            if let Some(sender) = self.senders.get(&id).and_then(Weak::upgrade) {
                sender.hold(false);
            }
        }
        for (id, until) in self.keeper.poll_notices(now) {
            if let Some(sender) = self.senders.get(&id).and_then(Weak::upgrade) {
                tell_end(&self.identities, &mut self.keeper, &sender, until, now);
            }
        }
        let there = self.visitors.end_idle(now);
        self.identities.counts.visitors.store(there, Ordering::Relaxed);
        self.senders.retain(|_, sender| sender.strong_count() > 0);
        self.keeper.retain(|id| self.senders.contains_key(&id));
    }
}

/// Sends a visitor the notice that its lease ends (or has, if we are late), unless it was renewed
/// meanwhile.
fn tell_end(
    identities: &Identities,
    keeper: &mut Doorkeeper,
    sender: &Sender,
    until: i64,
    now: Instant,
) {
    let admission = sender.key().and_then(|key| identities.leased(&key));
    if let Some(admission) = admission
        && let Some(later) = admission.until().filter(|later| *later > until)
    {
        let left = Duration::from_secs(notice(&admission).expires_in.unsigned_abs());
        return keeper.handle_enrolled(sender.id(), later, left, now);
    }
    let json = serde_json::to_vec(&Notice::new(until, wall_clock())).unwrap_or_default();
    sender.answer([wire::WORD, b"LEASE", &json].into_iter());
}

fn notice(admission: &Admission) -> Notice {
    let now = wall_clock();
    Notice::new(admission.until().unwrap_or(now), now)
}
