//! Heartbeats (RFC 37, "Connection Heartbeating"): when to send PING, and when to give a peer up.
//!
//! A peer's PING may carry a time to live: if nothing more comes within it, the connection is to be
//! closed. The RFC calls that a strong hint and libzmq obeys it always, so we do, too.

use std::time::{Duration, Instant};

use crate::error::Error;

/// Heartbeats of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Time between two PINGs; zero: none are sent.
    pub interval: Duration,
    /// Time after the writing of a PING within which something must come from the peer. It is sent
    /// along as time to live, in tenths of a second (at most 6553.5 s). Zero: PINGs are sent, and
    /// nothing is expected.
    pub timeout: Duration,
}

impl Heartbeat {
    /// The time to live as it stands in a PING.
    pub(crate) fn ttl_tenths(&self) -> u16 {
        u16::try_from(self.timeout.as_millis().div_ceil(100)).unwrap_or(u16::MAX)
    }
}

/// The claim that a peer which is silent for too long has not met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overdue {
    /// Our PING.
    Reply,
    /// The time to live of its own PING.
    TimeToLive,
}

/// The sign of life that is waited for, and its deadline.
#[derive(Debug)]
pub(crate) struct Watch {
    ours: Option<Heartbeat>,
    next_ping: Option<Instant>,
    /// PINGs of ours that were written, and PONGs that came for them.
    unanswered: u32,
    /// Set by our PING, until anything comes.
    reply_by: Option<Instant>,
    /// Set by the peer's PING, until anything comes.
    alive: Option<(Instant, Duration)>,
    /// The time of the peer's last PING, and the shortest time between two of them.
    pings: Option<(Instant, Option<Duration>)>,
}

/// The longest and the shortest time between two signs of life for a peer whose input is not read,
/// and the time if only one PING of it was seen.
const LIFE_MAX: Duration = Duration::from_secs(1);
const LIFE_MIN: Duration = Duration::from_millis(10);
const LIFE_UNKNOWN: Duration = Duration::from_millis(200);

impl Watch {
    pub(crate) fn new(ours: Option<Heartbeat>, now: Instant) -> Self {
        let ours = ours.filter(|heartbeat| !heartbeat.interval.is_zero());
        let next_ping = ours.and_then(|heartbeat| now.checked_add(heartbeat.interval));
        Self { ours, next_ping, unanswered: 0, reply_by: None, alive: None, pings: None }
    }

    /// Something came.
    pub(crate) fn heard(&mut self) {
        self.reply_by = None;
        self.alive = None;
    }

    /// The peer's PING came.
    pub(crate) fn pinged(&mut self, ttl_tenths: u16, now: Instant) {
        self.pings = Some(match self.pings {
            None => (now, None),
            Some((last, shortest)) => {
                let pause = now.duration_since(last);
                (now, Some(shortest.map_or(pause, |shortest: Duration| shortest.min(pause))))
            }
        });
        let ttl = Duration::from_millis(u64::from(ttl_tenths) * 100);
        self.alive =
            if ttl.is_zero() { None } else { now.checked_add(ttl).map(|until| (until, ttl)) };
    }

    /// A PING of ours was written.
    pub(crate) fn ping_written(&mut self, now: Instant) {
        self.unanswered = self.unanswered.saturating_add(1);
        let Some(ours) = self.ours.filter(|ours| !ours.timeout.is_zero()) else { return };
        if self.reply_by.is_none() {
            self.reply_by = now.checked_add(ours.timeout);
        }
    }

    /// A PONG came.
    pub(crate) fn answered(&mut self) {
        self.unanswered = self.unanswered.saturating_sub(1);
    }

    /// PINGs of ours that were written and not answered by a PONG.
    pub(crate) fn unanswered(&self) -> u32 {
        self.unanswered
    }

    /// Takes the silence of a peer so far for none, and waits until `until` at least.
    pub(crate) fn excuse(&mut self, until: Instant) {
        self.reply_by = self.reply_by.map(|by| by.max(until));
        self.alive = self.alive.map(|(by, within)| (by.max(until), within));
    }

    /// Time between two signs of life that keeps the peer from giving us up; `None` if it has never
    /// sent a PING. It waits for at least as long as it pauses between two of them.
    pub(crate) fn life_interval(&self) -> Option<Duration> {
        let pause = self.pings?.1.unwrap_or(LIFE_UNKNOWN);
        Some((pause / 2).clamp(LIFE_MIN, LIFE_MAX))
    }

    /// Takes note that nothing was read until now, so that no silence counts.
    pub(crate) fn resume(&mut self, now: Instant) {
        self.heard();
        self.next_ping = self.ours.and_then(|heartbeat| now.checked_add(heartbeat.interval));
    }

    /// Returns the time at which `due` has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let alive = self.alive.map(|(until, _)| until);
        [self.next_ping, self.reply_by, alive].into_iter().flatten().min()
    }

    /// The PING that is due, if one is.
    pub(crate) fn due(&mut self, now: Instant) -> Result<Option<Heartbeat>, Error> {
        if let Some((within, overdue)) = self.overdue(now) {
            let after = match overdue {
                Overdue::Reply => "our PING",
                Overdue::TimeToLive => "its PING",
            };
            return Err(Error::HeartbeatTimeout { within, after });
        }
        let Some(ours) = self.ours.filter(|_| self.next_ping.is_some_and(|next| now >= next))
        else {
            return Ok(None);
        };
        self.next_ping = now.checked_add(ours.interval);
        Ok(Some(ours))
    }

    /// Returns the time that a peer which is silent for too long had, and the claim.
    pub(crate) fn overdue(&self, now: Instant) -> Option<(Duration, Overdue)> {
        if let (Some(until), Some(ours)) = (self.reply_by, self.ours)
            && now >= until
        {
            return Some((ours.timeout, Overdue::Reply));
        }
        let (until, within) = self.alive?;
        (now >= until).then_some((within, Overdue::TimeToLive))
    }
}
