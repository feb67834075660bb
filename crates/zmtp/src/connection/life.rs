//! Signs of life: PINGs of ours, answers to the peer's, and the peer's silence.

use std::time::{Duration, Instant};

use super::{Connection, State};
use crate::command;
use crate::error::Error;
use crate::heartbeat::Overdue;

/// The most bytes of replies that may wait for `poll_output`; PINGs beyond that are not answered.
pub const MAX_REPLY_BYTES: usize = 64 * 1024;

/// A PING of ours on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ping {
    /// None is.
    None,
    /// It waits for `poll_output`.
    Queued,
    /// `poll_output` gave it.
    Polled,
}

impl Connection {
    /// Returns the time at which `handle_timeout` is to be called; it may change with every other
    /// call.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Failed(_) => None,
            _ => self.watch.poll_timeout(),
        }
    }

    /// Does what is due: a PING, or giving up a silent peer.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        if let State::Failed(error) = &self.state {
            return Err((**error).clone());
        }
        match self.watch.due(now) {
            Ok(Some(heartbeat)) if self.ping == Ping::None => {
                let ttl = heartbeat.ttl_tenths().to_be_bytes();
                command::put(&mut self.output, "PING", &[&ttl]);
                self.ping = Ping::Queued;
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(error) => Err(self.fail(error)),
        }
    }

    /// Time between two signs of life while the peer's input is deliberately not read; `None` if it
    /// has never sent a PING on this connection, and so expects none.
    pub fn life_interval(&self) -> Option<Duration> {
        self.watch.life_interval().filter(|_| self.is_ready())
    }

    /// Queues an empty PONG, so that the peer does not take us for dead while its PINGs are not
    /// read. (libzmq drops its timeout at any whole frame.) Does nothing while other output
    /// waits.
    pub fn show_life(&mut self) {
        if self.is_ready() && self.output.is_empty() {
            command::put(&mut self.output, "PONG", &[]);
        }
    }

    /// Input is read again after it was deliberately not read: the peer's silence meanwhile does
    /// not count.
    pub fn resume(&mut self, now: Instant) {
        self.watch.resume(now);
    }

    /// Tells that everything `poll_output` gave was written. A PING of ours must be answered from
    /// this moment on, and the next one may be sent. Returns whether there was one.
    pub fn output_written(&mut self, now: Instant) -> bool {
        let pinged = self.ping == Ping::Polled;
        if pinged {
            self.ping = Ping::None;
            self.watch.ping_written(now);
        }
        pinged
    }

    /// Returns how many PINGs of ours were written that no PONG has answered.
    pub fn pings_unanswered(&self) -> u32 {
        self.watch.unanswered()
    }

    /// Returns the sign of life that the peer owes us, if the next `handle_timeout` would give it
    /// up.
    pub fn overdue(&self, now: Instant) -> Option<Overdue> {
        self.watch.overdue(now).map(|(_, overdue)| overdue)
    }

    /// Gives a silent peer time until `until` at least: for a caller that knows of a reason for the
    /// silence, such as bytes that the peer has yet to read before it comes to the PING.
    pub fn excuse_silence(&mut self, until: Instant) {
        self.watch.excuse(until);
    }

    /// Answers a PING, unless its peer reads so little that the answers pile up: then one more says
    /// nothing.
    pub(super) fn reply(&mut self, context: &[u8]) {
        let before = self.output.len();
        command::put(&mut self.output, "PONG", &[context]);
        self.replies += self.output.len() - before;
        if self.replies > MAX_REPLY_BYTES {
            self.replies -= self.output.len() - before;
            self.output.truncate(before);
        }
    }
}
