//! Whether a peer from which nothing comes, or which takes nothing, is gone or merely full.
//!
//! A subscriber that does not read looks like one whose machine has vanished, until its kernel is
//! asked: a living one acknowledges our kernel's probes and retransmissions, however long its
//! program takes. Where full peers are waited for (`block`), only one that does not is given up, or
//! one that is silent though it has read everything.

mod acks;
mod progress;

use std::time::{Duration, Instant};

use zafka_zmtp::{Connection, Overdue};

use crate::config::{PubConfig, SlowPeer};
use crate::peer::Peer;
use crate::writer::Drained;
pub(crate) use acks::TcpSample;
use acks::{AckWatch, LOOK};
use progress::{Progress, ReadMark};

/// A peer whose machine does not acknowledge any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone {
    /// For how long it has not.
    pub(crate) silent: Duration,
    /// The key that limits that.
    pub(crate) key: &'static str,
}

/// Watches one peer for its connection's task.
#[derive(Debug)]
pub(crate) struct Silence {
    waits_for_full: bool,
    /// How long a machine may acknowledge nothing, and the key that says so.
    limit: Option<(Duration, &'static str)>,
    acks: AckWatch,
    next_look: Option<Instant>,
    read: ReadMark,
    progress: Progress,
    /// Whether the kernel takes no more for the peer.
    blocked: bool,
    /// Time that a peer which reads has to come to our PING.
    grace: Duration,
}

impl Silence {
    pub(crate) fn new(config: &PubConfig) -> Self {
        let heartbeat = config.heartbeat.map(|heartbeat| heartbeat.timeout);
        let limits = [(config.peer_timeout, "peer_timeout"), (heartbeat, "heartbeat")];
        Self {
            waits_for_full: config.slow_peer == SlowPeer::Block,
            limit: limits.into_iter().filter_map(|(limit, key)| Some((limit?, key))).min(),
            acks: AckWatch::default(),
            next_look: None,
            read: ReadMark::default(),
            progress: Progress::default(),
            blocked: false,
            grace: heartbeat.unwrap_or(LOOK).max(LOOK),
        }
    }

    /// The peer was written what the kernel takes.
    pub(crate) fn flushed(
        &mut self,
        peer: &Peer,
        connection: &mut Connection,
        drained: Drained,
        now: Instant,
    ) {
        self.blocked = drained == Drained::Blocked;
        let (commands_wait, messages) = peer.written();
        // A peer that is full is not asked before it comes to the question.
        if (!commands_wait || !self.waits_for_full) && connection.output_written(now) {
            self.read.pinged(messages);
            if connection.pings_unanswered() == 1 {
                let sample = peer.stream().tcp_sample();
                self.progress.begin(sample.map_or(messages, |sample| sample.bytes_acked));
            }
        }
        if connection.pings_unanswered() == 0 {
            self.read.answered();
        }
        let watched = self.blocked && self.waits_for_full && self.limit.is_some();
        self.next_look = watched.then(|| self.next_look.unwrap_or(now + LOOK));
    }

    /// When it wants to look at the peer.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.next_look
    }

    /// Looks at the peer, if that is due or if it is to be given up for its silence: then one that
    /// may be full is given more time.
    pub(crate) fn handle_timeout(
        &mut self,
        peer: &Peer,
        connection: &mut Connection,
        now: Instant,
    ) -> Result<(), Gone> {
        let overdue = connection.overdue(now);
        let due = self.next_look.is_some_and(|next| now >= next);
        if overdue.is_none() && !due {
            return Ok(());
        }
        let sample = peer.stream().tcp_sample();
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
        let (_, messages) = peer.written();
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
