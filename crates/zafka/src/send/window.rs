//! A sender's messages under way: which one is sent when, which answer is whose, and what is sent
//! again. Pure.
//!
//! A message is under way from when it is taken until it is settled. What a lost connection left
//! without an answer is sent again by the next one, in the order of the numbers, so that messages
//! of one partition keep their order.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::answer::{Failure, Place, RouterAnswer};

/// Memory that a message takes besides its bytes.
const MESSAGE_OVERHEAD: usize = 128;

/// The way it learns what became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answers {
    /// Answers with the message's id.
    ById,
    /// Answers in the order of the messages.
    InOrder,
    /// No answers: a message is settled once the kernel has taken it.
    None,
}

/// Limits on messages under way, and the longest time without an answer to any of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WindowLimits {
    /// Messages.
    pub(super) messages: usize,
    /// Bytes, before the last message that is taken.
    pub(super) bytes: usize,
    /// Time without a settled message after which all of it is given up; never if `None`.
    pub(super) patience: Option<Duration>,
}

/// The outcome of a message.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    /// It is in the log, at this place.
    Acknowledged(Place),
    /// The kernel has taken it, and no answer will come.
    Written,
    /// The endpoint says why not.
    Refused(Failure),
}

/// A message that is under way no more.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Settled {
    /// Its number, from 1.
    pub(super) number: u64,
    /// Time since it was sent first.
    pub(super) latency: Duration,
    pub(super) outcome: Outcome,
}

/// The effect of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// Its message is settled.
    Settled(Settled),
    /// The endpoint does not take the message now, and why; it is sent again.
    Later(Failure),
}

/// An answer that shows that both sides mean different things; there is no going on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Mismatch {
    #[error("the endpoint refused a message without naming it: {0}")]
    Unnamed(String),
    #[error("an answer has no id: the frames of the route do not begin with {{id}}")]
    NoId,
    #[error("an answer has an id that no message had: the frames of the route begin with {{id}}")]
    UnknownId,
    #[error("an answer came that no message waits for")]
    Unasked,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Messages taken.
    pub(super) taken: u64,
    /// Messages that are in the log or, without answers, were taken by the kernel.
    pub(super) acknowledged: u64,
    /// Messages that the endpoint refused.
    pub(super) refused: u64,
    /// Times that a message was sent again.
    pub(super) resent: u64,
}

/// The messages under way.
#[derive(Debug)]
pub(super) struct Window {
    answers: Answers,
    limits: WindowLimits,
    messages: BTreeMap<u64, Message>,
    bytes: usize,
    /// Messages that the present connection has not been given yet.
    to_send: BTreeSet<u64>,
    /// Messages that it was given and has not answered, in this order.
    sent: VecDeque<u64>,
    /// Numbers of messages in each chunk that is not written yet; without answers alone.
    chunks: VecDeque<usize>,
    /// Messages that were refused for now, by when they are sent again.
    later: BTreeSet<(Instant, u64)>,
    is_connected: bool,
    /// The time when a message was settled last, or the first of those under way was taken.
    progress: Option<Instant>,
    counts: Counts,
}

#[derive(Debug)]
struct Message {
    /// The message's bytes on the wire.
    bytes: Vec<u8>,
    first_sent: Option<Instant>,
}

impl Window {
    pub(super) fn new(answers: Answers, limits: WindowLimits) -> Self {
        Self {
            answers,
            limits,
            messages: BTreeMap::new(),
            bytes: 0,
            to_send: BTreeSet::new(),
            sent: VecDeque::new(),
            chunks: VecDeque::new(),
            later: BTreeSet::new(),
            is_connected: false,
            progress: None,
            counts: Counts::default(),
        }
    }

    /// Returns true if another message may be taken.
    pub(super) fn has_room(&self) -> bool {
        self.messages.len() < self.limits.messages && self.bytes < self.limits.bytes
    }

    /// The number that the next message gets.
    pub(super) fn next_number(&self) -> u64 {
        self.counts.taken + 1
    }

    /// Takes a message, as it goes over the wire.
    pub(super) fn take(&mut self, bytes: Vec<u8>, now: Instant) {
        self.counts.taken += 1;
        if self.messages.is_empty() {
            self.progress = Some(now);
        }
        self.bytes += bytes.len() + MESSAGE_OVERHEAD;
        self.messages.insert(self.counts.taken, Message { bytes, first_sent: None });
        self.to_send.insert(self.counts.taken);
    }

    /// A connection is there: all that has no answer is sent by it.
    pub(super) fn handle_connected(&mut self) {
        self.is_connected = true;
        self.sent.clear();
        self.chunks.clear();
        self.to_send = self.messages.keys().copied().collect();
        for (_, number) in &self.later {
            self.to_send.remove(number);
        }
    }

    pub(super) fn handle_disconnected(&mut self) {
        self.is_connected = false;
        self.sent.clear();
        self.chunks.clear();
    }

    /// Returns true if there is something for the connection.
    pub(super) fn wants_to_send(&self) -> bool {
        self.is_connected && !self.to_send.is_empty()
    }

    /// The messages that are to be written next, as one chunk of about so many bytes.
    pub(super) fn poll_send(&mut self, about: usize, now: Instant) -> Vec<u8> {
        let (mut chunk, mut count) = (Vec::new(), 0);
        while self.is_connected
            && chunk.len() < about
            && let Some(number) = self.to_send.pop_first()
        {
            let Some(message) = self.messages.get_mut(&number) else { continue };
            if message.first_sent.is_some() {
                self.counts.resent += 1;
            }
            message.first_sent.get_or_insert(now);
            chunk.extend_from_slice(&message.bytes);
            self.sent.push_back(number);
            count += 1;
        }
        if self.answers == Answers::None && count > 0 {
            self.chunks.push_back(count);
        }
        chunk
    }

    /// The kernel has taken the next chunk.
    pub(super) fn handle_written(&mut self, now: Instant, settled: &mut Vec<Settled>) {
        for _ in 0..self.chunks.pop_front().unwrap_or_default() {
            if let Some(number) = self.sent.pop_front() {
                settled.extend(self.settle(number, Outcome::Written, now));
            }
        }
    }

    /// An answer came.
    ///
    /// # Errors
    /// The answer fits nothing that was sent.
    pub(super) fn handle_answer(
        &mut self,
        answer: RouterAnswer,
        now: Instant,
    ) -> Result<Verdict, Mismatch> {
        let number = self.answered(&answer)?;
        let outcome = match answer.outcome {
            Ok(place) => Outcome::Acknowledged(place),
            Err(failure) => match failure.retry_after {
                Some(pause) => {
                    self.later.insert((now + pause, number));
                    return Ok(Verdict::Later(failure));
                }
                None => Outcome::Refused(failure),
            },
        };
        self.settle(number, outcome, now).map(Verdict::Settled).ok_or(Mismatch::Unasked)
    }

    /// The message that an answer is for; it is not among those sent any more.
    fn answered(&mut self, answer: &RouterAnswer) -> Result<u64, Mismatch> {
        match (self.answers, &answer.number) {
            (Answers::ById, Some(number)) => {
                let at = self.sent.iter().position(|sent| sent == number);
                let at = at.ok_or(Mismatch::UnknownId)?;
                self.sent.remove(at).ok_or(Mismatch::UnknownId)
            }
            (Answers::ById, None) => Err(match &answer.outcome {
                Ok(_) => Mismatch::NoId,
                Err(failure) => Mismatch::Unnamed(failure.to_string()),
            }),
            (_, Some(_)) => Err(Mismatch::UnknownId),
            (_, None) => self.sent.pop_front().ok_or(Mismatch::Unasked),
        }
    }

    fn settle(&mut self, number: u64, outcome: Outcome, now: Instant) -> Option<Settled> {
        let message = self.messages.remove(&number)?;
        self.bytes -= message.bytes.len() + MESSAGE_OVERHEAD;
        self.progress = Some(now);
        match outcome {
            Outcome::Acknowledged(_) | Outcome::Written => self.counts.acknowledged += 1,
            Outcome::Refused(_) => self.counts.refused += 1,
        }
        let latency = now.duration_since(message.first_sent.unwrap_or(now));
        Some(Settled { number, latency, outcome })
    }

    /// Returns the time at which [`Self::handle_timeout`] has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        [self.later.first().map(|(at, _)| *at), self.gives_up_at()].into_iter().flatten().min()
    }

    /// Sends again what was refused for now. Returns whether all that is under way is given up.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> bool {
        while let Some((_, number)) = self.later.first().copied().filter(|(at, _)| *at <= now) {
            self.later.pop_first();
            self.to_send.insert(number);
        }
        self.gives_up_at().is_some_and(|at| at <= now)
    }

    fn gives_up_at(&self) -> Option<Instant> {
        let progress = self.progress.filter(|_| !self.messages.is_empty())?;
        self.limits.patience.and_then(|patience| progress.checked_add(patience))
    }

    /// Messages under way.
    pub(super) fn under_way(&self) -> u64 {
        self.messages.len() as u64
    }

    /// The numbers of the messages under way.
    pub(super) fn unsettled(&self) -> impl Iterator<Item = u64> {
        self.messages.keys().copied()
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }
}
