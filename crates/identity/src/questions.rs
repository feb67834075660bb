//! The questions whether a token is good, and for what: to Kafka what its owner may do, or to its
//! issuer whether it is active. The time of each, what an answer means, and what a failure means.
//! Pure.
//!
//! A peer whose token is asked about gets no lease before the answer: the token waits here, the
//! peer is put off and comes again. While its lease lasts it is asked about again at an interval. A
//! clear no ends the lease at once. Without any answer the last one holds for two intervals, then
//! the lease ends too; or, if that is wanted, as long as the lease.
//!
//! What it takes to ask (`T`) is kept with the token that it comes from, and is forgotten with the
//! lease.

mod queue;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use zafka_zmtp::curve::PublicKey;

use crate::leases::{Subject, subject_of};
use crate::token::Verified;
use queue::{Place, Queue};

/// The most peers that wait for their first answer.
const MAX_WAITING: usize = 1024;
/// The most of these that are of one subject.
const WAITING_PER_SUBJECT: usize = 16;
/// The most tokens that are kept. Each may have 8 KiB.
const MAX_KEPT: usize = 16_384;
/// Questions under way: of peers that wait, and as many of peers that have a lease.
const MAX_ASKED: usize = 8;
/// Shortest and longest time to another try.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// A peer that waits and has not come again for so long is forgotten, when it would be asked about.
const GONE: Duration = Duration::from_secs(120);
/// Intervals for which an answer holds if there is no other one.
const HELD_INTERVALS: u32 = 2;
/// Time after that in which a failure is to be told, and time for a question. If nothing happens
/// for so long, whoever asks hangs, or has ended.
const UNTOLD: Duration = Duration::from_secs(30);

/// The state of a peer that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The question is asked now, or in a moment.
    Asked,
    /// There was no answer. It is asked again later.
    Failed,
    /// Too many wait; it may come again.
    Full,
}

/// The reason why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A broker refused.
    Refused,
    /// No broker answered.
    Unanswered,
}

/// A question to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question<T> {
    /// The peer that it is about.
    pub key: PublicKey,
    /// The means to ask.
    pub token: T,
    number: u64,
    round: u64,
    is_first: bool,
}

/// The meaning of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answered<T> {
    /// The lease that the peer has waited for may begin, or be renewed by its new token. If that is
    /// done it must be reported, with the token for the next question.
    Begins(Box<Verified>, T),
    /// The peer may have other rights now.
    Again,
}

/// The consequence of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// The peer still waits.
    Waits,
    /// The last answer still holds.
    Holds,
    /// The lease is to end.
    Ends,
}

/// A token that waits for its first answer.
#[derive(Debug)]
struct Waiting<T> {
    verified: Verified,
    token: T,
    failures: u32,
    /// The last time that the peer came with it.
    seen: Instant,
}

/// A token that has given a lease.
#[derive(Debug)]
struct LeaseToken<T> {
    token: T,
    failures: u32,
    answered: Instant,
    /// The time since when a question about it is under way, if one is.
    asked: Option<Instant>,
}

/// All tokens that are asked about.
#[derive(Debug)]
pub struct Questions<T> {
    interval: Duration,
    /// Intervals for which an answer holds if there is no other one; `None`: as long as the lease.
    held: Option<u32>,
    waiting: Queue<Waiting<T>>,
    leased: Queue<LeaseToken<T>>,
    /// Number that tells these questions from those about other topics.
    round: u64,
    /// The time of the last question about a lease.
    last_question: Option<Instant>,
    /// The number of peers of a subject that wait.
    subjects: HashMap<Subject, usize>,
}

impl<T: Clone> Questions<T> {
    /// Each lease is asked about once in `interval`, and ends if there is no answer for two of
    /// them.
    pub fn new(interval: Duration) -> Self {
        Self::with(interval, Some(HELD_INTERVALS))
    }

    /// Each lease is asked about once in `interval`, and goes on without an answer.
    pub fn lenient(interval: Duration) -> Self {
        Self::with(interval, None)
    }

    fn with(interval: Duration, held: Option<u32>) -> Self {
        let (waiting, leased) = (Queue::default(), Queue::default());
        let (last_question, subjects) = (None, HashMap::new());
        Self { interval, held, waiting, leased, round: 0, last_question, subjects }
    }

    /// A peer shows a token that gives a lease once there is an answer. `keep`: what it takes to
    /// ask.
    pub fn want(
        &mut self,
        key: PublicKey,
        verified: &Verified,
        keep: impl FnOnce() -> T,
        now: Instant,
    ) -> Wanted {
        if let Some(before) = self.waiting.get_mut(&key) {
            if before.verified.id == verified.id || before.verified.expires >= verified.expires {
                before.seen = now;
                return if before.failures == 0 { Wanted::Asked } else { Wanted::Failed };
            }
            self.remove_waiting(&key);
        }
        let subject = subject_of(&verified.claims);
        let of_subject = self.subjects.get(&subject).copied().unwrap_or(0);
        if self.waiting.len() >= MAX_WAITING
            || self.waiting.len() + self.leased.len() >= MAX_KEPT
            || of_subject >= WAITING_PER_SUBJECT
        {
            return Wanted::Full;
        }
        self.subjects.insert(subject, of_subject + 1);
        let (verified, token) = (verified.clone(), keep());
        self.waiting.insert(key, Waiting { verified, token, failures: 0, seen: now }, now);
        Wanted::Asked
    }

    /// Returns the next question whose time has come, if another one may be under way. Its outcome
    /// must be reported, also a failure.
    pub fn poll_question(&mut self, now: Instant) -> Option<Question<T>> {
        while let Some((key, number)) = self.waiting.take_due(now, MAX_ASKED) {
            let waiting = self.waiting.get_mut(&key);
            let here =
                |waiting: &&mut Waiting<T>| now.saturating_duration_since(waiting.seen) < GONE;
            if let Some(waiting) = waiting.filter(here) {
                let token = waiting.token.clone();
                return Some(Question { key, token, number, round: self.round, is_first: true });
            }
            self.waiting.put_back(&key, number, now);
            self.remove_waiting(&key);
        }
        let (key, number) = self.leased.take_due(now, MAX_ASKED)?;
        let leased = self.leased.get_mut(&key)?;
        (leased.asked, self.last_question) = (Some(now), Some(now));
        let token = leased.token.clone();
        Some(Question { key, token, number, round: self.round, is_first: false })
    }

    /// Returns when there may be another question: now, if it lies in the past.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = [self.waiting.next_due(MAX_ASKED), self.leased.next_due(MAX_ASKED)];
        due.into_iter().flatten().min()
    }

    /// There is an answer. `None` if the peer has come with another token meanwhile, its lease is
    /// over, or something else is asked now.
    pub fn handle_answer(&mut self, question: &Question<T>, now: Instant) -> Option<Answered<T>> {
        let Question { key, number, is_first, .. } = question;
        self.end_question(question);
        if question.round != self.round {
            match is_first {
                true => self.waiting.put_back(key, *number, now),
                false => self.leased.put_back(key, *number, now),
            };
            return None;
        }
        if !is_first {
            let next = self.next(key, now);
            return match self.leased.put_back(key, *number, next) {
                Place::Kept => {
                    let leased = self.leased.get_mut(key)?;
                    (leased.failures, leased.answered) = (0, now);
                    Some(Answered::Again)
                }
                Place::Gone => None,
            };
        }
        match self.waiting.put_back(key, *number, now) {
            Place::Kept => {
                let Waiting { verified, token, .. } = self.remove_waiting(key)?;
                Some(Answered::Begins(Box::new(verified), token))
            }
            Place::Gone => None,
        }
    }

    /// Takes note that a lease has begun, or was renewed, by an answer to the question about this
    /// token. The lease of a token that gave none is asked about as before.
    pub fn handle_begun(&mut self, key: PublicKey, token: T, now: Instant) {
        let next = self.next(&key, now);
        self.leased.insert(
            key,
            LeaseToken { token, failures: 0, answered: now, asked: None },
            next,
        );
    }

    /// Takes note that there was no answer. `None` as for [`Self::handle_answer`].
    pub fn handle_failure(
        &mut self,
        question: &Question<T>,
        failure: Failure,
        now: Instant,
    ) -> Option<Failed> {
        let Question { key, number, is_first, .. } = question;
        self.end_question(question);
        if *is_first {
            let failures = self.waiting.get_mut(key).map_or(0, |waiting| waiting.failures + 1);
            return match self.waiting.put_back(key, *number, now + backoff(failures)) {
                Place::Kept => {
                    self.waiting.get_mut(key)?.failures = failures;
                    Some(Failed::Waits)
                }
                Place::Gone => None,
            };
        }
        let leased = self.leased.get_mut(key);
        let (failures, answered) =
            leased.map_or((0, now), |leased| (leased.failures + 1, leased.answered));
        let end = self.held.map(|intervals| answered + self.interval * intervals);
        let again = now + backoff(failures);
        let again = end.map_or(again, |end| again.min(end));
        match self.leased.put_back(key, *number, again) {
            Place::Gone => None,
            Place::Kept if failure == Failure::Refused || end.is_some_and(|end| now >= end) => {
                self.leased.remove(key);
                Some(Failed::Ends)
            }
            Place::Kept => {
                self.leased.get_mut(key)?.failures = failures;
                Some(Failed::Holds)
            }
        }
    }

    /// The token is not good, and is forgotten. Returns it if it still waits for its first answer.
    pub fn handle_no(&mut self, question: &Question<T>, now: Instant) -> Option<Box<Verified>> {
        let Question { key, number, is_first, .. } = question;
        if *is_first {
            return match self.waiting.put_back(key, *number, now) {
                Place::Kept => Some(Box::new(self.remove_waiting(key)?.verified)),
                Place::Gone => None,
            };
        }
        if self.leased.put_back(key, *number, now) == Place::Kept {
            self.leased.remove(key);
        }
        None
    }

    /// Forgets the token of a lease that is over.
    pub fn handle_ended(&mut self, key: &PublicKey) {
        self.leased.remove(key);
    }

    /// Forgets the tokens of leases that are over, of all.
    pub fn retain_leased(&mut self, is_live: impl Fn(&PublicKey) -> bool) {
        let over: Vec<_> = self.leased.keys().filter(|key| !is_live(key)).copied().collect();
        for key in over {
            self.leased.remove(&key);
        }
    }

    /// Returns the peers whose answers hold no longer, though nobody has told of a failure: their
    /// leases are to end. They are asked about no more. Where more are asked about than there is
    /// time for, they are only late.
    pub fn take_unanswered(&mut self, now: Instant) -> Vec<PublicKey> {
        let held = self.interval * HELD_INTERVALS + UNTOLD;
        let last = self.last_question;
        let is_over = |leased: &LeaseToken<T>| {
            let asked = leased.asked.or(last).unwrap_or(leased.answered);
            now >= leased.answered + held && now >= asked + UNTOLD
        };
        let over = self.leased.iter().filter(|(_, leased)| is_over(leased));
        let over: Vec<_> = over.map(|(key, _)| *key).collect();
        for key in &over {
            self.leased.remove(key);
        }
        over
    }

    /// Takes it that the outcome of no question under way will be told: whoever has asked has
    /// ended. They are asked again.
    pub fn forget_questions(&mut self, now: Instant) {
        self.waiting.forget_under_way(now);
        self.leased.forget_under_way(now);
        self.leased.values_mut().for_each(|leased| leased.asked = None);
    }

    /// Asks about every lease as soon as may be: what is asked is something else now.
    pub fn ask_again(&mut self, now: Instant) {
        self.round += 1;
        self.leased.all_due(now);
    }

    /// Returns the number of peers that wait, and about which at least `failures` questions in a
    /// row have failed.
    pub fn unanswered(&self, failures: u32) -> usize {
        self.waiting.values().filter(|waiting| waiting.failures >= failures).count()
    }

    /// Returns the number of peers that wait, and of those that have a lease.
    pub fn counts(&self) -> (usize, usize) {
        (self.waiting.len(), self.leased.len())
    }

    /// The question is under way no more.
    fn end_question(&mut self, question: &Question<T>) {
        let leased = self.leased.get_mut(&question.key).filter(|_| !question.is_first);
        if let Some(leased) = leased {
            leased.asked = None;
        }
    }

    fn remove_waiting(&mut self, key: &PublicKey) -> Option<Waiting<T>> {
        let waiting = self.waiting.remove(key)?;
        let subject = subject_of(&waiting.verified.claims);
        if let Some(count) = self.subjects.get_mut(&subject) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.subjects.remove(&subject);
            }
        }
        Some(waiting)
    }

    /// The time of the next question: an interval, less up to an eighth of it by the key, so that
    /// peers that came together are not asked about together.
    fn next(&self, key: &PublicKey, now: Instant) -> Instant {
        let eighth = self.interval / 8;
        let part = key.as_bytes().first().copied().unwrap_or(0);
        now + self.interval - eighth * u32::from(part) / 255
    }
}

fn backoff(failures: u32) -> Duration {
    let (shortest, longest) = BACKOFF;
    let doubled = shortest.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(longest)
}
