//! Values that wait for their time, by key; some are under way.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use zafka_zmtp::curve::PublicKey;

/// The fate of a value while it was under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Kept,
    Gone,
}

#[derive(Debug)]
struct Entry<T> {
    value: T,
    /// Number that tells it from others of the same key, before and after it.
    number: u64,
    /// Time of the next question; `None` while one is under way.
    due: Option<Instant>,
}

/// A queue, one value for each key.
#[derive(Debug)]
pub(super) struct Queue<T> {
    entries: HashMap<PublicKey, Entry<T>>,
    due: BTreeSet<(Instant, u64, PublicKey)>,
    under_way: usize,
    numbers: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { entries: HashMap::new(), due: BTreeSet::new(), under_way: 0, numbers: 0 }
    }
}

impl<T> Queue<T> {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &PublicKey> {
        self.entries.keys()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&PublicKey, &T)> {
        self.entries.iter().map(|(key, entry)| (key, &entry.value))
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.values_mut().map(|entry| &mut entry.value)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.entries.values().map(|entry| &entry.value)
    }

    pub(super) fn get_mut(&mut self, key: &PublicKey) -> Option<&mut T> {
        self.entries.get_mut(key).map(|entry| &mut entry.value)
    }

    /// Puts a value in the place of the one before.
    pub(super) fn insert(&mut self, key: PublicKey, value: T, due: Instant) {
        self.remove(&key);
        self.numbers += 1;
        let number = self.numbers;
        self.due.insert((due, number, key));
        self.entries.insert(key, Entry { value, number, due: Some(due) });
    }

    /// Takes a value out. If it is under way, it counts as that until it is put back.
    pub(super) fn remove(&mut self, key: &PublicKey) -> Option<T> {
        let entry = self.entries.remove(key)?;
        if let Some(due) = entry.due {
            self.due.remove(&(due, entry.number, *key));
        }
        Some(entry.value)
    }

    /// Takes the first whose time has come, unless `most` are under way. It is to be put back.
    pub(super) fn take_due(&mut self, now: Instant, most: usize) -> Option<(PublicKey, u64)> {
        if self.under_way >= most {
            return None;
        }
        let first = self.due.first().copied().filter(|(due, ..)| *due <= now)?;
        self.due.remove(&first);
        let (_, number, key) = first;
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.due = None;
        }
        self.under_way += 1;
        Some((key, number))
    }

    /// Puts one that was under way back.
    pub(super) fn put_back(&mut self, key: &PublicKey, number: u64, due: Instant) -> Place {
        self.under_way = self.under_way.saturating_sub(1);
        match self.entries.get_mut(key).filter(|entry| entry.number == number) {
            Some(entry) => {
                entry.due = Some(due);
                self.due.insert((due, number, *key));
                Place::Kept
            }
            None => Place::Gone,
        }
    }

    /// Takes it that none is under way: those that were are not put back, and may be taken again.
    pub(super) fn forget_under_way(&mut self, now: Instant) {
        self.under_way = 0;
        for (key, entry) in &mut self.entries {
            if entry.due.is_none() {
                entry.due = Some(now);
                self.due.insert((now, entry.number, *key));
            }
        }
    }

    /// Returns when the first may be taken; `None` if `most` are under way.
    pub(super) fn next_due(&self, most: usize) -> Option<Instant> {
        let first = self.due.first().map(|(due, ..)| *due);
        first.filter(|_| self.under_way < most)
    }

    /// Makes the time of all come that are not under way.
    pub(super) fn all_due(&mut self, now: Instant) {
        self.due.clear();
        for (key, entry) in &mut self.entries {
            if let Some(due) = &mut entry.due {
                *due = now.min(*due);
                self.due.insert((*due, entry.number, *key));
            }
        }
    }
}
