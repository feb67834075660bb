//! Decides if a peer from which nothing comes, or which takes nothing, is gone or merely full.
//!
//! A subscriber that does not read looks like one whose machine has vanished, until its kernel is
//! asked: a living one acknowledges our kernel's probes and retransmissions, however long its
//! program takes. If full peers are waited for (`block`), only one that does not is given up, or
//! one that is silent though it has read everything.

mod acks;
mod progress;

use std::time::{Duration, Instant};

use zafka_zmtp::{Connection, Overdue};

use crate::closed::Gone;
use crate::outbox::Drained;
use crate::stream::TcpSample;
use acks::{AckWatch, LOOK};
use progress::{Progress, ReadMark};

/// The way a socket takes silence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SilenceConfig {
    /// True if a peer that is full is waited for, however long it takes.
    pub(crate) waits_for_full: bool,
    /// True if a PING counts once it is written; otherwise once it is queued, so that a peer that
    /// takes nothing is silent too.
    pub(crate) asks_when_written: bool,
    /// Longest time for which the machine of a full peer may acknowledge nothing.
    pub(crate) peer_timeout: Option<Duration>,
    /// Longest time for which a peer may leave a PING unanswered.
    pub(crate) heartbeat_timeout: Option<Duration>,
}

/// The bytes that were written to a peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    pub(crate) drained: Drained,
    /// True if commands wait to be written.
    pub(crate) commands_wait: bool,
    /// Bytes of messages since the connection was made.
    pub(crate) messages: u64,
}

/// Watches one peer for its connection's task.
#[derive(Debug)]
pub(crate) struct Silence {
    waits_for_full: bool,
    asks_when_written: bool,
    /// Longest time for which a machine may acknowledge nothing, and the key that sets it.
    limit: Option<(Duration, &'static str)>,
    acks: AckWatch,
    next_look: Option<Instant>,
    read: ReadMark,
    progress: Progress,
    /// True if the kernel takes no more for the peer.
    blocked: bool,
    /// Time that a peer which reads has to come to our PING.
    grace: Duration,
}

impl Silence {
    pub(crate) fn new(config: &SilenceConfig) -> Self {
        let heartbeat = config.heartbeat_timeout;
        let limits = [(config.peer_timeout, "peer_timeout"), (heartbeat, "heartbeat")];
        Self {
            waits_for_full: config.waits_for_full,
            asks_when_written: config.asks_when_written,
            limit: limits.into_iter().filter_map(|(limit, key)| Some((limit?, key))).min(),
            acks: AckWatch::default(),
            next_look: None,
            read: ReadMark::default(),
            progress: Progress::default(),
            blocked: false,
            grace: heartbeat.unwrap_or(LOOK).max(LOOK),
        }
    }

    /// Takes note of what the peer was written. `sample` asks the kernel.
    pub(crate) fn handle_written(
        &mut self,
        written: Written,
        sample: impl FnOnce() -> Option<TcpSample>,
        connection: &mut Connection,
        now: Instant,
    ) {
        let Written { drained, commands_wait, messages } = written;
        self.blocked = drained == Drained::Blocked;
        // A peer that is full is not asked before it comes to the question.
        if (!commands_wait || !self.asks_when_written) && connection.output_written(now) {
            self.read.pinged(messages);
            if connection.pings_unanswered() == 1 {
                self.progress.begin(sample().map_or(messages, |sample| sample.bytes_acked));
            }
        }
        if connection.pings_unanswered() == 0 {
            self.read.answered();
        }
        let watched = self.blocked && self.waits_for_full && self.limit.is_some();
        self.next_look = watched.then(|| self.next_look.unwrap_or(now + LOOK));
    }

    /// Returns the time of the next look at the peer.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.next_look
    }

    /// Looks at the peer, if that is due or if it is to be given up for its silence: then one that
    /// may be full is given more time. `messages`: bytes of messages that were written to it.
    pub(crate) fn handle_timeout(
        &mut self,
        messages: u64,
        sample: impl FnOnce() -> Option<TcpSample>,
        connection: &mut Connection,
        now: Instant,
    ) -> Result<(), Gone> {
        let overdue = connection.overdue(now);
        let due = self.next_look.is_some_and(|next| now >= next);
        if overdue.is_none() && !due {
            return Ok(());
        }
        let sample = sample();
        if let Some(sample) = &sample {
            self.acks.look(now, sample);
        }
        if due {
            self.next_look = Some(now + LOOK);
        }
        if let (Some(silent), Some((limit, key))) = (self.acks.gone_for(), self.limit)
            && self.waits_for_full
            && silent >= limit
        {
            return Err(Gone { silent, key });
        }
        match overdue {
            Some(Overdue::Reply)
                if self.progress.made(sample.map_or(messages, |sample| sample.bytes_acked)) =>
            {
                connection.excuse_silence(now + self.grace);
            }
            Some(Overdue::Reply) if self.waits_for_full && self.read.may_be_full(messages) => {
                connection.excuse_silence(now + LOOK);
            }
            Some(Overdue::TimeToLive) if self.waits_for_full && self.blocked => {
                connection.excuse_silence(now + LOOK);
            }
            _ => {}
        }
        Ok(())
    }
}
