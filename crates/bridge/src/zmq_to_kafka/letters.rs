//! Dead letters: those under way, and those that wait for another try. None is dropped because its
//! topic is away. Plain state; time is an argument.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use zafka_kafka::produce::{Ticket, WriteError};

use super::wire::Failure;

/// Tickets from here on are of dead letters.
const FIRST: Ticket = Ticket::MAX / 2;
/// Time until a dead letter that could not be written is sent again.
const RETRY: Duration = Duration::from_secs(1);
/// The value of a dead letter is not cut below this size in bytes.
const LEAST: usize = 64;

/// A message that could not be written. `M` is the caller's data about it.
#[derive(Debug)]
pub(super) struct Letter<M> {
    pub(super) message: M,
    pub(super) failure: Failure,
    /// Bytes that its value may have: what the topic takes, as far as it is known.
    limit: usize,
}

/// The outcome of a letter.
#[derive(Debug)]
pub(super) enum Outcome<M> {
    /// It is in the log.
    Written(M),
    /// It is to be sent again at once, with less of its value.
    Cut(Letter<M>),
    /// It waits; for this reason.
    Kept(String),
}

/// The dead letters of a route.
#[derive(Debug)]
pub(super) struct Letters<M> {
    next: Ticket,
    sent: HashMap<Ticket, Letter<M>>,
    waiting: VecDeque<Letter<M>>,
    retry_at: Option<Instant>,
}

impl<M> Default for Letters<M> {
    fn default() -> Self {
        Self { next: FIRST, sent: HashMap::new(), waiting: VecDeque::new(), retry_at: None }
    }
}

impl<M> Letter<M> {
    pub(super) fn new(message: M, failure: Failure) -> Self {
        Self { message, failure, limit: usize::MAX }
    }

    /// Returns its value: the number of frames (u32le), then of each its length (u32le) and bytes.
    /// Frames without room are cut; then also returns the bytes it would have whole.
    pub(super) fn value(&self, frames: &[Bytes]) -> (Vec<u8>, Option<usize>) {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
        let whole = 4 + frames.iter().map(|frame| 4 + frame.len()).sum::<usize>();
        let mut value = number(frames.len()).to_vec();
        let mut room = self.limit.saturating_sub(4 + 4 * frames.len());
        for frame in frames {
            let kept = &frame[..frame.len().min(room)];
            room -= kept.len();
            value.extend_from_slice(&number(kept.len()));
            value.extend_from_slice(kept);
        }
        (value, (whole > self.limit).then_some(whole))
    }
}

impl<M> Letters<M> {
    /// Returns the number of letters.
    pub(super) fn len(&self) -> usize {
        self.sent.len() + self.waiting.len()
    }

    /// Returns true if some wait for another try.
    pub(super) fn are_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Returns true if a ticket is one of a dead letter.
    pub(super) fn is_letter(ticket: Ticket) -> bool {
        ticket >= FIRST
    }

    /// Returns the ticket of the next letter.
    pub(super) fn ticket(&mut self) -> Ticket {
        let ticket = self.next;
        self.next = self.next.checked_add(1).unwrap_or(FIRST);
        ticket
    }

    /// Takes note that a letter was handed to the producer.
    pub(super) fn sent(&mut self, ticket: Ticket, letter: Letter<M>) {
        self.sent.insert(ticket, letter);
    }

    /// Takes the outcome of a letter that was sent; `size` is that of its value.
    pub(super) fn handle_delivery(
        &mut self,
        ticket: Ticket,
        error: Option<WriteError>,
        size: impl FnOnce(&Letter<M>) -> usize,
        now: Instant,
    ) -> Option<Outcome<M>> {
        let letter = self.sent.remove(&ticket)?;
        Some(match error {
            None => Outcome::Written(letter.message),
            Some(error) => {
                let size = size(&letter);
                self.handle_error(letter, &error, size, now)
            }
        })
    }

    /// Takes the error of a letter whose value had `size` bytes.
    pub(super) fn handle_error(
        &mut self,
        mut letter: Letter<M>,
        error: &WriteError,
        size: usize,
        now: Instant,
    ) -> Outcome<M> {
        // One that is over its own limit has so many frames that it cannot be cut any further.
        let may_be_cut = size > LEAST && size <= letter.limit;
        if matches!(error, WriteError::TooLarge(_)) && may_be_cut {
            letter.limit = (size / 2).max(LEAST);
            return Outcome::Cut(letter);
        }
        self.waiting.push_back(letter);
        self.retry_at.get_or_insert(now + RETRY);
        Outcome::Kept(error.to_string())
    }

    /// Returns the time at which [`Self::due`] has something to return.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Returns the letters to be sent again.
    pub(super) fn due(&mut self, now: Instant) -> VecDeque<Letter<M>> {
        if self.retry_at.is_none_or(|at| now < at) {
            return VecDeque::new();
        }
        self.retry_at = None;
        std::mem::take(&mut self.waiting)
    }

    /// Gives up all of them.
    pub(super) fn abandon(&mut self) -> impl Iterator<Item = M> + use<'_, M> {
        let sent = self.sent.drain().map(|(_, letter)| letter);
        sent.chain(self.waiting.drain(..)).map(|letter| letter.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zmq_to_kafka::wire::Code;

    fn letter(name: &'static str) -> Letter<&'static str> {
        Letter::new(name, Failure::new(Code::BadMessage, "no"))
    }

    fn away() -> Option<WriteError> {
        let (error, reason) = ("X".to_owned(), "the topic is away".to_owned());
        Some(WriteError::Kafka { error, reason, retriable: true })
    }

    #[test]
    fn values_hold_the_frames_as_far_as_there_is_room() {
        let frames = [&b"KILN"[..], b"", b"value"].map(Bytes::from_static);
        let mut letter = letter("a");
        let whole = b"\x03\0\0\0\x04\0\0\0KILN\0\0\0\0\x05\0\0\0value";
        assert_eq!(letter.value(&frames), (whole.to_vec(), None));
        letter.limit = whole.len();
        assert_eq!(letter.value(&frames), (whole.to_vec(), None));
        letter.limit = whole.len() - 3;
        let cut = b"\x03\0\0\0\x04\0\0\0KILN\0\0\0\0\x02\0\0\0va";
        assert_eq!(letter.value(&frames), (cut.to_vec(), Some(whole.len())));
        letter.limit = 3;
        let nothing = b"\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        assert_eq!(letter.value(&frames), (nothing.to_vec(), Some(whole.len())));
    }

    #[test]
    fn none_is_dropped() {
        let start = Instant::now();
        let mut letters = Letters::default();
        let tickets: Vec<_> = ["a", "b"]
            .map(|name| {
                let ticket = letters.ticket();
                letters.sent(ticket, letter(name));
                ticket
            })
            .to_vec();
        assert!(Letters::<()>::is_letter(tickets[1]) && !Letters::<()>::is_letter(7));
        let outcome = letters.handle_delivery(tickets[0], away(), |_| 10, start);
        assert!(matches!(outcome, Some(Outcome::Kept(reason)) if reason == "the topic is away"));
        assert!(letters.are_waiting() && letters.len() == 2);
        assert!(letters.due(start).is_empty());
        let due = letters.due(start + RETRY);
        assert_eq!(due.iter().map(|letter| letter.message).collect::<Vec<_>>(), ["a"]);
        let outcome = letters.handle_delivery(tickets[1], None, |_| 10, start);
        assert!(matches!(outcome, Some(Outcome::Written("b"))));
        assert!(letters.handle_delivery(tickets[1], None, |_| 10, start).is_none());
        assert_eq!((letters.len(), letters.poll_timeout()), (0, None));
    }

    #[test]
    fn one_that_is_too_large_is_cut_until_the_topic_takes_it() {
        let frames = [Bytes::from(vec![7; 1_000])];
        let mut letters = Letters::default();
        let mut letter = letter("a");
        let mut sizes = Vec::new();
        // Ends, for each is smaller.
        let kept = loop {
            let size = letter.value(&frames).0.len();
            sizes.push(size);
            let error = WriteError::TooLarge("big".to_owned());
            match letters.handle_error(letter, &error, size, Instant::now()) {
                Outcome::Cut(cut) => letter = cut,
                other => break other,
            }
        };
        assert_eq!(sizes, [1_008, 504, 252, 126, 64]);
        // The lengths of its frames alone are more.
        let many = [const { Bytes::new() }; 40];
        let mut letter = Letter::new("many", Failure::new(Code::BadMessage, "no"));
        let mut cuts = 0;
        loop {
            let (size, error) =
                (letter.value(&many).0.len(), WriteError::TooLarge("big".to_owned()));
            match letters.handle_error(letter, &error, size, Instant::now()) {
                Outcome::Cut(cut) => (letter, cuts) = (cut, cuts + 1),
                _ => break,
            }
        }
        assert_eq!(cuts, 1);
        assert!(matches!(kept, Outcome::Kept(_)) && letters.are_waiting());
    }
}
