//! How much of `in_flight_bytes` each partition holds, so that one that cannot be written does not
//! stop the others. Pure.
//!
//! A message that is for a full partition waits, and so do those for it that come after; its sender
//! is not read any further until none of its messages waits.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// A partition, by its topic's name and its number.
pub(super) type Place = (Arc<str>, i32);

/// What of the memory a partition may hold.
const PART: usize = 4;

/// The shares of all partitions. `M` is whatever the caller keeps of a message that waits.
#[derive(Debug)]
pub(super) struct Shares<M> {
    /// Bytes that a partition may hold; a larger message goes alone.
    most: usize,
    held: HashMap<Place, usize>,
    waiting: HashMap<Place, VecDeque<Waiting<M>>>,
    /// For each sender how many of its messages wait.
    senders: HashMap<u64, usize>,
}

#[derive(Debug)]
struct Waiting<M> {
    message: M,
    sender: u64,
    bytes: usize,
}

/// What a partition says to a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry<M> {
    /// It has room, and holds the message now.
    Open(M),
    /// The message waits; whether it is the first of its sender's that does.
    Full { is_first: bool },
}

/// Messages that need not wait any longer, and senders of which none waits now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Released<M> {
    pub(super) messages: Vec<M>,
    pub(super) senders: Vec<u64>,
}

impl<M> Shares<M> {
    pub(super) fn new(in_flight_bytes: usize) -> Self {
        Self {
            most: in_flight_bytes / PART,
            held: HashMap::new(),
            waiting: HashMap::new(),
            senders: HashMap::new(),
        }
    }

    /// Takes a message of a sender for a partition.
    pub(super) fn enter(
        &mut self,
        place: &Place,
        sender: u64,
        bytes: usize,
        message: M,
    ) -> Entry<M> {
        let held = self.held.get(place).copied().unwrap_or(0);
        if !self.waiting.contains_key(place) && fits(held, bytes, self.most) {
            self.held.insert(place.clone(), held + bytes);
            return Entry::Open(message);
        }
        let waiting = self.waiting.entry(place.clone()).or_default();
        waiting.push_back(Waiting { message, sender, bytes });
        let count = self.senders.entry(sender).or_default();
        *count += 1;
        Entry::Full { is_first: *count == 1 }
    }

    /// A message of a partition is settled. Gives those that are to be sent in its place, in their
    /// order.
    pub(super) fn leave(&mut self, place: &Place, bytes: usize) -> Released<M> {
        let mut released = Released { messages: Vec::new(), senders: Vec::new() };
        let Some(held) = self.held.get_mut(place) else { return released };
        *held = held.saturating_sub(bytes);
        if let Some(waiting) = self.waiting.get_mut(place) {
            while waiting.front().is_some_and(|next| fits(*held, next.bytes, self.most))
                && let Some(next) = waiting.pop_front()
            {
                *held += next.bytes;
                released.messages.push(next.message);
                if let Some(count) = self.senders.get_mut(&next.sender) {
                    *count -= 1;
                    if *count == 0 {
                        self.senders.remove(&next.sender);
                        released.senders.push(next.sender);
                    }
                }
            }
            if waiting.is_empty() {
                self.waiting.remove(place);
            }
        }
        if self.held.get(place) == Some(&0) {
            self.held.remove(place);
        }
        released
    }

    /// The partitions that are full, if any is.
    pub(super) fn full(&self) -> HashSet<&Place> {
        self.waiting.keys().collect()
    }
}

fn fits(held: usize, bytes: usize, most: usize) -> bool {
    held == 0 || held + bytes <= most
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(partition: i32) -> Place {
        (Arc::from("t"), partition)
    }

    #[test]
    fn one_partition_holds_a_quarter_and_the_others_go_on() {
        let mut shares = Shares::new(400);
        assert_eq!(shares.enter(&place(0), 1, 60, "a"), Entry::Open("a"));
        assert_eq!(shares.enter(&place(0), 2, 40, "b"), Entry::Open("b"));
        assert_eq!(shares.enter(&place(0), 1, 1, "c"), Entry::Full { is_first: true });
        assert_eq!(shares.enter(&place(1), 1, 100, "d"), Entry::Open("d"));
        // Behind one that waits, though it would fit later.
        assert_eq!(shares.enter(&place(0), 1, 1, "e"), Entry::Full { is_first: false });
        assert_eq!(shares.enter(&place(0), 2, 70, "f"), Entry::Full { is_first: true });
        assert_eq!(shares.full(), HashSet::from([&place(0)]));
        let released = shares.leave(&place(0), 40);
        assert_eq!(released, Released { messages: vec!["c", "e"], senders: vec![1] });
        let released = shares.leave(&place(0), 60);
        assert_eq!(released, Released { messages: vec!["f"], senders: vec![2] });
        for bytes in [1, 1, 70] {
            assert!(shares.leave(&place(0), bytes).messages.is_empty());
        }
        shares.leave(&place(1), 100);
        assert!(shares.held.is_empty() && shares.waiting.is_empty() && shares.senders.is_empty());
    }

    #[test]
    fn a_message_that_is_larger_goes_alone() {
        let mut shares = Shares::new(400);
        assert_eq!(shares.enter(&place(0), 1, 500, "large"), Entry::Open("large"));
        assert_eq!(shares.enter(&place(0), 1, 1, "a"), Entry::Full { is_first: true });
        assert_eq!(shares.enter(&place(0), 1, 500, "b"), Entry::Full { is_first: false });
        assert_eq!(shares.leave(&place(0), 500).messages, ["a"]);
        assert_eq!(shares.leave(&place(0), 1).messages, ["b"]);
    }
}
