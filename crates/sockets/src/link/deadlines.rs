//! Deadlines of a connection: its handshake, signs of life, memory that others wait for, its end.

use std::time::Instant;

use super::reserve::Reserve;
use super::{Input, Link, Read, Session};
use crate::closed::Closed;

impl<S: Session> Link<'_, S> {
    /// Returns the time at which [`Self::on_timer`] has something to do.
    pub(super) fn next_timer(&self, input: Input) -> Option<Instant> {
        if let Some(ending) = &self.ending {
            return Some(ending.until);
        }
        if let Some(farewell) = self.farewell {
            return farewell.until;
        }
        let due = self.poll_timeout(input);
        let until = match input {
            Input::Rationed(until) => Some(until),
            Input::Open | Input::Held => None,
        };
        let overdraft = self.reserve.as_ref().and_then(Reserve::poll_timeout);
        let ends = [self.give_up_at, self.access_ended];
        [due, until, overdraft, self.life_at].into_iter().chain(ends).flatten().min()
    }

    /// Returns the time at which the peer is to be given up or asked for a sign of life.
    fn poll_timeout(&self, input: Input) -> Option<Instant> {
        match &self.handshake {
            Some(handshake) => Some(handshake.poll_timeout()),
            None if input == Input::Held => None,
            None => {
                let due = [self.connection.poll_timeout(), self.silence.poll_timeout()];
                due.into_iter().flatten().min()
            }
        }
    }

    /// Gives up a peer that is late, or asks it for a sign of life.
    pub(super) fn on_timer(&mut self, input: Input, now: Instant) -> Result<Read, Closed> {
        if let Some(ending) = self.ending.take_if(|ending| now >= ending.until) {
            return Err(ending.reason);
        }
        if self.ending.is_some() {
            return Ok(Read::All);
        }
        if let Some(farewell) = self.farewell {
            let is_over = farewell.until.is_some_and(|until| now >= until);
            return if is_over { Err(Closed::BySocket) } else { Ok(Read::All) };
        }
        if self.give_up_at.is_some_and(|at| now >= at) {
            return Err(Closed::BySocket);
        }
        if self.is_overdrawn(now) {
            // After a pause of ours, the rest of the message may be waiting to be read.
            let read = self.read(now)?;
            return if self.is_overdrawn(now) { Err(self.hub.memory_exceeded()) } else { Ok(read) };
        }
        if self.life_at.take_if(|at| now >= *at).is_some() {
            self.connection.show_life();
        }
        if self.poll_timeout(input).is_none_or(|due| now < due) {
            return Ok(Read::All);
        }
        if let Some(handshake) = &mut self.handshake {
            let is_needed = handshake.is_needed();
            handshake.handle_timeout(is_needed, now).map_err(Closed::HandshakeTimeout)?;
            return Ok(Read::All);
        }
        // After a pause of ours, signs of life may be waiting to be read.
        let read = self.read(now)?;
        if self.is_starved() {
            return Ok(read);
        }
        let stream = self.wire.stream();
        let (connection, messages) = (&mut self.connection, self.wire.outbox().messages_written());
        let gone = self.silence.handle_timeout(messages, || stream.tcp_sample(), connection, now);
        gone.map_err(Closed::Gone)?;
        self.connection.handle_timeout(now)?;
        Ok(read)
    }

    /// Returns true if the time is over in which the peer was to make room for others.
    fn is_overdrawn(&self, now: Instant) -> bool {
        self.reserve.as_ref().is_some_and(|reserve| reserve.is_overdrawn(now))
    }
}
