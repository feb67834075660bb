//! Places of connections that are no peers yet: a number of them, of which no source takes all.
//!
//! A source is what a stranger cannot change from one connection to the next. One that has few
//! places gets one while others have many. A connection that finds none waits, in turn with other
//! sources, and those that wait are bounded likewise.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::stream::Stream;

/// Seats that a source may have while few are left.
const FEW: usize = 16;
/// One place in so many is kept for sources that have few.
const KEPT: usize = 4;

/// The origin of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Source {
    V4(Ipv4Addr),
    /// The network of an IPv6 address, its first half: a host there has all of its addresses.
    V6(u64),
    /// The user of an `ipc` peer.
    User(u32),
    /// The system does not say: it may be gone already.
    Unknown,
}

impl Source {
    pub(super) fn of(stream: &Stream) -> Self {
        match stream.process() {
            Some(process) => Self::User(process.uid),
            None => stream.peer_ip().map_or(Self::Unknown, Self::of_ip),
        }
    }

    fn of_ip(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// Places of one kind.
#[derive(Debug)]
pub(super) struct Seats(Mutex<SeatQueue<oneshot::Sender<Seat>>>);

/// A connection's place; given up when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    places: Arc<Seats>,
    source: Source,
}

/// One that waits for a place, as long as this lives.
struct SeatWaiter<'a> {
    places: &'a Seats,
    source: Source,
    ticket: u64,
}

impl Seats {
    /// Makes `places` places, for which at most `waiting` connections may wait.
    pub(super) fn new(places: usize, waiting: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(SeatQueue::new(places, waiting))))
    }

    /// Takes a place, if there is one for this source.
    pub(super) fn try_take(self: &Arc<Self>, source: Source) -> Option<Seat> {
        let taken = self.0.lock().take(source);
        taken.then(|| self.place(source))
    }

    /// Waits for a place; how long is up to the caller. `None` if there is no room to wait, or
    /// another source needs it.
    pub(super) async fn take(self: &Arc<Self>, source: Source) -> Option<Seat> {
        let (sender, granted) = oneshot::channel();
        let ticket = {
            let mut queue = self.0.lock();
            if queue.take(source) {
                drop(queue);
                return Some(self.place(source));
            }
            // One that has to go notices the end of its channel.
            queue.wait(source, sender)?
        };
        let _waiting = SeatWaiter { places: self, source, ticket };
        granted.await.ok()
    }

    fn place(self: &Arc<Self>, source: Source) -> Seat {
        Seat { places: Arc::clone(self), source }
    }

    fn give_up(self: &Arc<Self>, source: Source) {
        let granted = {
            let mut queue = self.0.lock();
            queue.give_up(source);
            queue.grant()
        };
        // Without the lock: one that waits no more gives its place back.
        for (source, waiting) in granted {
            let _ = waiting.send(self.place(source));
        }
    }
}

impl Seat {
    pub(super) fn source(&self) -> Source {
        self.source
    }

    /// Returns true if others need this place: some wait, and it is one of many that its source
    /// has, or of all.
    pub(super) fn is_needed(&self) -> bool {
        self.places.0.lock().is_needed(self.source)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.places.give_up(self.source);
    }
}

impl Drop for SeatWaiter<'_> {
    fn drop(&mut self) {
        self.places.0.lock().leave(self.source, self.ticket);
    }
}

/// Decides which connections have a place and which wait. `W` is the caller's data about one that
/// waits.
#[derive(Debug)]
struct SeatQueue<W> {
    places: usize,
    taken: usize,
    taken_by: HashMap<Source, usize>,
    max_waiting: usize,
    waiting: usize,
    /// Connections that wait by source, in the order of their tickets.
    waiting_of: BTreeMap<Source, VecDeque<(u64, W)>>,
    next_ticket: u64,
}

impl<W> SeatQueue<W> {
    fn new(places: usize, max_waiting: usize) -> Self {
        Self {
            places,
            taken: 0,
            taken_by: HashMap::new(),
            max_waiting,
            waiting: 0,
            waiting_of: BTreeMap::new(),
            next_ticket: 0,
        }
    }

    fn taken_by(&self, source: Source) -> usize {
        self.taken_by.get(&source).copied().unwrap_or(0)
    }

    fn has_place_for(&self, source: Source) -> bool {
        let has_few = self.taken_by(source) < FEW;
        let kept = if has_few { 0 } else { self.places / KEPT };
        self.taken < self.places - kept
    }

    /// Returns true if others need a place that this source has.
    fn is_needed(&self, source: Source) -> bool {
        let has_many = self.taken_by(source) >= FEW;
        self.waiting > 0 && (has_many || self.taken == self.places)
    }

    /// Takes a place. Returns whether there was one.
    fn take(&mut self, source: Source) -> bool {
        let has_place = self.has_place_for(source);
        if has_place {
            self.taken += 1;
            *self.taken_by.entry(source).or_default() += 1;
        }
        has_place
    }

    fn give_up(&mut self, source: Source) {
        self.taken -= 1;
        if let Some(taken) = self.taken_by.get_mut(&source) {
            *taken -= 1;
            if *taken == 0 {
                self.taken_by.remove(&source);
            }
        }
    }

    /// Takes places for those that may have one now: the source with the fewest first, and of these
    /// the first that came.
    fn grant(&mut self) -> Vec<(Source, W)> {
        let mut granted = Vec::new();
        loop {
            let first = |(source, waiting): (&Source, &VecDeque<(u64, W)>)| {
                let (ticket, _) = waiting.front()?;
                let rank = (self.taken_by(*source), *ticket);
                self.has_place_for(*source).then_some((rank, *source))
            };
            let Some((_, source)) = self.waiting_of.iter().filter_map(first).min() else {
                return granted;
            };
            let Some((_, one)) = self.remove(source, 0) else { return granted };
            self.take(source);
            granted.push((source, one));
        }
    }

    /// Begins to wait. `None` if there is no room for that: the source that takes most of it has
    /// none for more.
    fn wait(&mut self, source: Source, one: W) -> Option<u64> {
        if self.waiting >= self.max_waiting {
            let own = self.waiting_of.get(&source).map_or(0, VecDeque::len);
            let most = self.waiting_of.iter().map(|(source, waiting)| (waiting.len(), *source));
            let (most, other) = most.max()?;
            if most <= own + 1 {
                return None;
            }
            // Its last one would have waited longest.
            self.remove(other, most - 1);
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiting += 1;
        self.waiting_of.entry(source).or_default().push_back((ticket, one));
        Some(ticket)
    }

    /// Takes out one that waits no more, if it still does.
    fn leave(&mut self, source: Source, ticket: u64) {
        let waiting = self.waiting_of.get(&source);
        let at = waiting.and_then(|waiting| waiting.iter().position(|(one, _)| *one == ticket));
        if let Some(at) = at {
            self.remove(source, at);
        }
    }

    fn remove(&mut self, source: Source, at: usize) -> Option<(u64, W)> {
        let waiting = self.waiting_of.get_mut(&source)?;
        let removed = waiting.remove(at)?;
        self.waiting -= 1;
        if waiting.is_empty() {
            self.waiting_of.remove(&source);
        }
        Some(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CROWD: Source = Source::User(1);
    const OTHER: Source = Source::User(2);

    /// Takes as many places as there are for a source.
    fn fill(queue: &mut SeatQueue<&str>, source: Source) -> usize {
        (0..).take_while(|_| queue.take(source)).count()
    }

    #[test]
    fn no_source_takes_all_places() {
        let mut queue = SeatQueue::new(256, 0);
        assert_eq!(fill(&mut queue, CROWD), 192);
        assert_eq!(fill(&mut queue, OTHER), FEW);
        assert_eq!((3..9).map(|user| fill(&mut queue, Source::User(user))).sum::<usize>(), 48);
        assert!(!queue.take(Source::Unknown), "all are taken");
        queue.give_up(CROWD);
        assert!(!queue.take(CROWD) && queue.take(Source::Unknown));
    }

    #[test]
    fn places_that_others_need() {
        let mut queue = SeatQueue::new(32, 1);
        assert_eq!(fill(&mut queue, CROWD), 24);
        assert!(queue.take(OTHER));
        let needed = |queue: &SeatQueue<&str>| (queue.is_needed(CROWD), queue.is_needed(OTHER));
        assert_eq!(needed(&queue), (false, false), "none waits");
        queue.wait(CROWD, "a").unwrap();
        assert_eq!(needed(&queue), (true, false), "it has few, and its place would be no one's");
        assert_eq!(fill(&mut queue, Source::Unknown), 7);
        assert_eq!(needed(&queue), (true, true), "all are taken");
    }

    #[test]
    fn sources_wait_in_turn() {
        let mut queue = SeatQueue::new(16, 10);
        assert_eq!(fill(&mut queue, CROWD), FEW);
        for one in ["a", "b"] {
            queue.wait(CROWD, one).unwrap();
        }
        queue.wait(OTHER, "c").unwrap();
        let gone = queue.wait(OTHER, "d").unwrap();
        queue.wait(OTHER, "e").unwrap();
        queue.leave(OTHER, gone);
        queue.leave(OTHER, gone);
        assert!(queue.grant().is_empty());
        let granted: Vec<_> = (0..5)
            .flat_map(|_| {
                queue.give_up(CROWD);
                queue.grant()
            })
            .collect();
        assert_eq!(granted, [(OTHER, "c"), (OTHER, "e"), (CROWD, "a"), (CROWD, "b")]);
        assert_eq!((queue.waiting, queue.taken, queue.waiting_of.len()), (0, 15, 0));
    }

    #[test]
    fn no_source_takes_all_room_to_wait() {
        let mut queue = SeatQueue::new(1, 4);
        assert!(queue.take(CROWD));
        for one in ["a", "b", "c", "d"] {
            queue.wait(CROWD, one).unwrap();
        }
        assert_eq!(queue.wait(CROWD, "e"), None);
        assert!(queue.wait(OTHER, "f").is_some() && queue.wait(OTHER, "g").is_some());
        assert_eq!(queue.wait(OTHER, "h"), None, "each has a half");
        queue.give_up(CROWD);
        let mut left = Vec::new();
        while let [(source, one)] = queue.grant()[..] {
            left.push(one);
            queue.give_up(source);
        }
        assert_eq!(left, ["a", "b", "f", "g"]);
    }

    #[test]
    fn sources_that_are_one() {
        let of = |text: &str| Source::of_ip(text.parse().unwrap());
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:0:0:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    }

    #[tokio::test]
    async fn a_place_goes_to_who_waits_and_comes_back() {
        let places = Seats::new(1, 2);
        let held = places.try_take(CROWD).unwrap();
        assert!(places.try_take(OTHER).is_none());
        let gone = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.take(OTHER).await }
        });
        while !held.is_needed() {
            tokio::task::yield_now().await;
        }
        gone.abort();
        assert!(gone.await.is_err());
        assert!(!held.is_needed(), "it waits no more");
        let (waits, ()) = tokio::join!(places.take(OTHER), async { drop(held) });
        assert_eq!(waits.unwrap().source(), OTHER);
        assert!(places.try_take(CROWD).is_some(), "dropped by now");
    }
}
