//! The virtual clock, and what is to happen at which moment.
#![allow(
    clippy::disallowed_methods,
    reason = "a zero of its own; only differences to it are ever looked at"
)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// Events in the order of their times; those of one time in the order in which they were added.
#[derive(Debug)]
pub struct Clock<E> {
    /// An instant that stands for the beginning. Only differences are ever looked at.
    zero: Instant,
    now: Duration,
    added: u64,
    queue: BinaryHeap<Reverse<Entry<E>>>,
}

#[derive(Debug)]
struct Entry<E> {
    at: (Duration, u64),
    event: E,
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

impl<E> Clock<E> {
    /// A clock at its beginning.
    pub fn new() -> Self {
        Self { zero: Instant::now(), now: Duration::ZERO, added: 0, queue: BinaryHeap::new() }
    }

    /// Returns the time since the beginning.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Returns the same as the deciders are told it.
    pub fn instant(&self) -> Instant {
        self.zero + self.now
    }

    /// Has something happen after a while.
    pub fn after(&mut self, delay: Duration, event: E) {
        self.at(self.now + delay, event);
    }

    /// Has something happen at an instant, or now if that is past.
    pub fn at_instant(&mut self, at: Instant, event: E) {
        self.at(at.saturating_duration_since(self.zero).max(self.now), event);
    }

    fn at(&mut self, at: Duration, event: E) {
        self.added += 1;
        self.queue.push(Reverse(Entry { at: (at, self.added), event }));
    }

    /// Goes on to what happens next.
    pub fn advance(&mut self) -> Option<E> {
        let Reverse(Entry { at, event }) = self.queue.pop()?;
        self.now = at.0;
        Some(event)
    }
}

impl<E> Default for Clock<E> {
    fn default() -> Self {
        Self::new()
    }
}
