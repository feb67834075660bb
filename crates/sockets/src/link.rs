//! One connection of any socket type: handshake, input, output and deadlines, to its end.
//!
//! A [`Session`] decides for the socket type. The link hands up what comes (ready, changes of
//! subscriptions, messages, the end), and writes what the session's feed has. A peer is read even
//! while its output is blocked: a close with unread input would become a reset, and throw away what
//! the kernel still holds for it. Only a peer that has used up its ration of input, or for whose
//! next message there is no memory, is not read meanwhile; it is sent signs of life.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

mod admission;
mod blocks;
mod deadlines;
mod handshake;
mod hub;
mod leaving;
mod peer;
mod places;
mod reserve;
mod seats;
mod serve;
mod session;
mod silence;

use std::cell::RefCell;
use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::sleep_until;
use zafka_zmtp::{Config, Connection, Event, Mechanism, Role};

use crate::closed::Closed;
use crate::memory::Charge;
use crate::outbox::Drained;
use crate::subscriptions::Change;
use admission::Ending;
pub(crate) use blocks::BLOCK_BYTES;
use handshake::Handshake;
pub(crate) use hub::{Hub, LinkConfig, Stage};
pub(crate) use peer::{Direction, Peer, Wire};
use places::PeerPlace;
use reserve::Reserve;
pub(crate) use reserve::Reserves;
use seats::Seat;
pub use serve::BindError;
pub(crate) use serve::Endpoints;
pub(crate) use session::{Input, Parting, Session, Socket};
pub(crate) use silence::SilenceConfig;
use silence::{Silence, Written};

/// Commands that wait for a peer that does not read, beyond which it is not answered for now.
const CONTROL_BYTES: usize = 4 * 1024;
/// Time for which a closing socket waits for a peer that has not taken all it is owed.
const PATIENCE: Duration = Duration::from_secs(30);

thread_local! {
    /// One for each thread, since nothing is left in it after a read.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

enum Never {}

/// A connection, driven by a task of its own.
struct Link<'a, S> {
    hub: &'a Hub,
    wire: &'a Wire,
    session: S,
    connection: Connection,
    /// The handshake, until it is done.
    handshake: Option<Handshake>,
    silence: Silence,
    /// Memory of our answers, and of its input without a reserve.
    held: Charge,
    /// Memory of its input, if a peer waits for memory.
    reserve: Option<Reserve>,
    /// The next sign of life, while the peer is not read.
    life_at: Option<Instant>,
    /// True if the peer was held until now, so that its silence does not count.
    was_held: bool,
    /// Set by the end of our direction.
    farewell: Option<Farewell>,
    /// The time from which on a closing socket no longer waits for the peer to take what it is
    /// owed.
    give_up_at: Option<Instant>,
    /// Changes if what the peer may do may have ended.
    ends: Option<watch::Receiver<u64>>,
    /// Set once that has ended: the time until which the peer gets its last answers.
    access_ended: Option<Instant>,
    /// Set once the peer was not let in.
    ending: Option<Ending>,
    /// Set once it is a peer.
    peer_place: Option<PeerPlace<'a>>,
}

/// Our direction of the connection has ended.
#[derive(Clone, Copy, Debug)]
struct Farewell {
    /// The time from which on the peer's answer to that is no longer waited for.
    until: Option<Instant>,
}

/// The event that woke a link's task.
#[derive(Debug)]
enum Wake {
    Readable,
    Writable,
    Timer,
    /// There may be memory for a read, or the peer may be read beyond the limit.
    Memory(Option<OwnedSemaphorePermit>),
    /// The time for another turn.
    Turn,
}

/// The end of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    /// All that is there was read.
    All,
    /// There may be more, but others should get their turn.
    More,
}

/// The time, for a link's task and the deciders that it drives.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl<'a, S: Session> Link<'a, S> {
    fn new(
        hub: &'a Hub,
        wire: &'a Wire,
        session: S,
        direction: Direction,
        mechanism: Mechanism,
        place: Option<Seat>,
    ) -> Self {
        let now = now();
        let mut connection =
            Connection::new(connection_config(&hub.config, direction, mechanism), now);
        session.prepare(&mut connection);
        Self {
            hub,
            wire,
            session,
            connection,
            handshake: Some(Handshake::new(hub.config.handshake_timeout, place, now)),
            silence: Silence::new(&hub.config.silence),
            held: hub.memory.empty(),
            reserve: hub.reserves.as_ref().map(Reserve::new),
            life_at: None,
            was_held: false,
            farewell: None,
            give_up_at: None,
            ends: hub.gate.as_ref().map(|gate| gate.ends()),
            access_ended: None,
            ending: None,
            peer_place: None,
        }
    }

    /// Serves the connection to its end, and gives the reason for that.
    async fn run(&mut self) -> Result<Never, Closed> {
        let mut stages = self.hub.stages();
        let mut more_to_read = false;
        let mut now = now();
        loop {
            if std::mem::take(&mut more_to_read) {
                tokio::task::yield_now().await;
            }
            let stage = *stages.borrow_and_update();
            self.follow_access(now)?;
            self.follow(stage, now)?;
            // After the end of our direction nothing more can be written, and the failure would cut
            // off what the kernel holds.
            let ended = self.farewell.is_some() || self.ending.is_some();
            let drained = if ended { Drained::Idle } else { self.flush(now)? };
            // What it waited for may just have been written.
            if drained == Drained::Idle {
                if self.access_ended.is_some() {
                    self.follow_access(now)?;
                }
                if stage != Stage::Open {
                    self.follow(stage, now)?;
                }
            }
            let mut input = self.session.poll_input(stage, self.farewell.is_some(), now);
            if self.is_leaving() || (input == Input::Open && self.is_starved()) {
                input = Input::Held;
            } else if input != Input::Open
                && let Some(reserve) = &mut self.reserve
            {
                let may_take_long = input != Input::Held || self.wire.peer().is_on_hold();
                reserve.handle_held(may_take_long, 2 * S::READ_BYTES, now);
            }
            self.follow_input(input, now);
            self.session.note_read(input == Input::Open, stage);
            let timer = self.next_timer(input);
            let wake = self.wait(input, drained, timer, &mut stages).await?;
            now = self::now();
            let read = match wake {
                Wake::Readable => self.on_readable(now)?,
                Wake::Memory(overdraft) => {
                    if let Some(reserve) = &mut self.reserve {
                        reserve.handle_room(overdraft, now);
                    }
                    Read::All
                }
                Wake::Timer => self.on_timer(input, now)?,
                Wake::Writable => {
                    self.wire.outbox().unblock();
                    Read::All
                }
                Wake::Turn => Read::All,
            };
            more_to_read = read == Read::More;
        }
    }

    /// Waits for the first event.
    async fn wait(
        &mut self,
        input: Input,
        drained: Drained,
        timer: Option<Instant>,
        stages: &mut watch::Receiver<Stage>,
    ) -> Result<Wake, Closed> {
        let (wire, starved) = (self.wire, self.is_starved());
        let needed = self.reserve.as_ref().map_or(0, |reserve| reserve.growth(S::READ_BYTES));
        let room = async {
            match &self.hub.reserves {
                Some(reserves) => reserves.room(needed).await,
                None => None,
            }
        };
        let until: tokio::time::Instant = timer.unwrap_or_else(now).into();
        Ok(tokio::select! {
            readable = wire.stream().readable(), if input == Input::Open => {
                readable?;
                Wake::Readable
            }
            writable = wire.stream().writable(), if drained == Drained::Blocked => {
                writable?;
                Wake::Writable
            }
            // Others get their turn, and so does what this peer has to say.
            () = tokio::task::yield_now(), if drained == Drained::More => Wake::Turn,
            () = wire.peer().woken() => Wake::Turn,
            overdraft = room, if starved => Wake::Memory(overdraft),
            () = self.session.input_changed(), if input == Input::Held && !starved => Wake::Turn,
            () = sleep_until(until), if timer.is_some() => Wake::Timer,
            () = changed(&mut self.ends) => Wake::Turn,
            _ = stages.changed() => Wake::Turn,
        })
    }

    /// Does what a stage of the socket's end asks for.
    fn follow(&mut self, stage: Stage, now: Instant) -> Result<(), Closed> {
        if stage == Stage::Open {
            return Ok(());
        }
        if !self.connection.is_ready() {
            return Err(Closed::BySocket);
        }
        match self.session.parting(stage) {
            Parting::Now => return Err(Closed::BySocket),
            Parting::Stay if stage == Stage::Closing => {
                self.give_up_at.get_or_insert(now + PATIENCE);
            }
            Parting::Farewell(limit) if self.farewell.is_none() => {
                // The peer gets the end of our direction after all that the kernel holds, and
                // answers with its own.
                self.farewell = Some(Farewell { until: limit.map(|limit| now + limit) });
                if self.wire.stream().shutdown_write().is_err() {
                    return Err(Closed::BySocket);
                }
            }
            Parting::Farewell(_) | Parting::Stay => {}
        }
        Ok(())
    }

    /// Takes note of whether the peer is read from now on.
    fn follow_input(&mut self, input: Input, now: Instant) {
        if std::mem::replace(&mut self.was_held, input == Input::Held) && !self.was_held {
            // Signs of life may have come that were not read.
            self.connection.resume(now);
        }
        if input == Input::Open {
            self.life_at = None;
        } else if self.life_at.is_none() {
            self.life_at = self.connection.life_interval().map(|interval| now + interval);
        }
    }

    fn is_starved(&self) -> bool {
        self.reserve.as_ref().is_some_and(Reserve::is_starved)
    }

    fn on_readable(&mut self, now: Instant) -> Result<Read, Closed> {
        let outcome = self.read(now);
        if self.farewell.is_some() {
            // Nothing that is sent from now on is received.
            drop(self.connection.poll_output());
            self.wire.outbox().clear();
        } else if outcome.is_err() {
            // The peer gets the reason, if that fits into the kernel's buffer.
            let _ = self.flush(now);
        }
        outcome
    }

    /// Queues what the connection has to say, and writes what can be written.
    fn flush(&mut self, now: Instant) -> Result<Drained, Closed> {
        if self.wire.is_broken() {
            return Err(self.hub.memory_exceeded());
        }
        self.session.check()?;
        self.queue_output();
        let mut drained = self.wire.drain(&mut self.session.feed())?;
        if drained == Drained::Idle {
            // What waited for those before it.
            self.queue_output();
        }
        let (commands_wait, messages) = {
            let outbox = self.wire.outbox();
            (outbox.queued() > 0, outbox.messages_written())
        };
        if drained == Drained::Idle && commands_wait {
            drained = Drained::More;
        }
        self.account()?;
        let written = Written { drained, commands_wait, messages };
        let stream = self.wire.stream();
        let sample = || stream.tcp_sample();
        self.silence.handle_written(written, sample, &mut self.connection, now);
        Ok(drained)
    }

    /// Takes what the connection has to say, unless much of that waits already: the connection
    /// bounds the rest.
    fn queue_output(&mut self) {
        let mut outbox = self.wire.outbox();
        while outbox.queued() < CONTROL_BYTES
            && let Some(output) = self.connection.poll_output()
        {
            outbox.queue(&output);
        }
    }

    /// Takes note of what is held for the peer. Handshakes are bounded by their number and by the
    /// size of a command: strangers do not take the memory that peers share.
    fn account(&mut self) -> Result<(), Closed> {
        if self.peer_place.is_none() {
            return Ok(());
        }
        let input = self.connection.buffered() + self.session.held_bytes();
        let mut held = self.connection.output_bytes() + self.wire.outbox().queued();
        match &mut self.reserve {
            Some(reserve) => reserve.account(input),
            None => held += input,
        }
        if held == self.held.bytes() {
            return Ok(());
        }
        self.held.set(held).map_err(|_| self.hub.memory_exceeded())
    }

    /// Reads what is there, up to a number of reads, if there is memory for it.
    fn read(&mut self, now: Instant) -> Result<Read, Closed> {
        BUFFER.with_borrow_mut(|buffer| {
            for turn in 0..S::READS {
                // Messages may have kept the one before.
                self.hub.blocks.fill(buffer);
                // The handshake is bounded by itself.
                if self.connection.is_ready()
                    && let Some(reserve) = &mut self.reserve
                {
                    if turn > 0 && !reserve.prepare_more(S::READ_BYTES) {
                        return Ok(Read::More);
                    }
                    if turn == 0 && !reserve.prepare(S::READ_BYTES) {
                        return Ok(Read::All);
                    }
                }
                match self.wire.stream().try_read_into(buffer, S::READ_BYTES) {
                    Ok(0) => {
                        let reason = self.ending.take().map(|ending| ending.reason);
                        return Err(reason.unwrap_or(Closed::ByPeer));
                    }
                    Ok(_) if self.ending.is_some() => {}
                    Ok(read) => {
                        let is_enough = self.take(buffer, now)?;
                        if read < S::READ_BYTES {
                            return Ok(Read::All);
                        }
                        if is_enough {
                            return Ok(Read::More);
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        return Ok(Read::All);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(Read::More)
        })
    }

    /// Takes input, perhaps with its buffer. Returns whether others should get their turn.
    fn take(&mut self, input: &mut Vec<u8>, now: Instant) -> Result<bool, Closed> {
        let bytes = input.len();
        if let Some(reserve) = &mut self.reserve {
            reserve.handle_input(now);
        }
        let outcome = self.connection.handle_block(input, now);
        // What it has to say comes first: a peer that subscribes together with its READY may be
        // written to from the next moment on.
        self.queue_output();
        let mut changes = Vec::new();
        while let Some(event) = self.connection.poll_event() {
            self.on_event(event, &mut changes, now)?;
            if self.ending.is_some() {
                // It was not let in: the rest of its input is ignored.
                return Ok(true);
            }
        }
        if !changes.is_empty() {
            self.session.handle_changes(&changes)?;
        }
        outcome?;
        let is_enough = self.session.handle_read(bytes, changes.len(), now);
        self.account()?;
        Ok(is_enough)
    }

    /// Takes an event; what it says of subscriptions goes to `changes`.
    fn on_event(
        &mut self,
        event: Event,
        changes: &mut Vec<Change>,
        now: Instant,
    ) -> Result<(), Closed> {
        match event {
            Event::Authenticate(info) => self.authenticate(&info, now)?,
            Event::Ready(info) => self.on_ready(&info, now)?,
            Event::Subscribe(prefix) => changes.push(Change::Subscribe(prefix)),
            Event::Cancel(prefix) => changes.push(Change::Cancel(prefix)),
            Event::Messages(messages) => {
                if let Some(reserve) = &mut self.reserve {
                    reserve.handle_message(now);
                }
                self.session.handle_messages(messages);
            }
            // Sessions that take messages take them together.
            Event::Message(_) => {}
            Event::TooLarge(discarded) => {
                if let Some(reserve) = &mut self.reserve {
                    reserve.handle_message(now);
                }
                self.session.handle_too_large(discarded);
            }
        }
        Ok(())
    }
}

/// Waits until some access may have ended; for ever without a gate.
async fn changed(ends: &mut Option<watch::Receiver<u64>>) {
    match ends {
        Some(ends) => {
            if ends.changed().await.is_err() {
                // The gate is gone, and nothing ends any more.
                std::future::pending().await
            }
        }
        None => std::future::pending().await,
    }
}

fn connection_config(config: &LinkConfig, direction: Direction, mechanism: Mechanism) -> Config {
    Config {
        socket_type: config.socket_type,
        role: match direction {
            Direction::Accepted => Role::Server,
            Direction::Connected => Role::Client,
        },
        mechanism,
        identity: Bytes::new(),
        max_frame: config.max_frame,
        max_message: config.max_message,
        heartbeat: config.heartbeat.map(|heartbeat| zafka_zmtp::Heartbeat {
            interval: heartbeat.interval,
            timeout: heartbeat.timeout,
        }),
    }
}
