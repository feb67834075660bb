//! Things in the order of their ends, so that those are found without a look at all others. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::time::{Duration, Instant};

use crate::clock::{Clock, End};

/// Longest time between two looks at one thing.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Things that end by one of two clocks, whichever comes first.
#[derive(Debug)]
pub(crate) struct FirstEnds<T> {
    by_now: BTreeSet<(Instant, T)>,
    by_wall: BTreeSet<(i64, T)>,
}

impl<T> Default for FirstEnds<T> {
    fn default() -> Self {
        Self { by_now: BTreeSet::new(), by_wall: BTreeSet::new() }
    }
}

impl<T: Copy + Ord> FirstEnds<T> {
    pub(crate) fn insert(&mut self, thing: T, now: Instant, wall: i64) {
        self.by_now.insert((now, thing));
        self.by_wall.insert((wall, thing));
    }

    /// Takes out one that ends then.
    pub(crate) fn remove(&mut self, thing: T, now: Instant, wall: i64) {
        self.by_now.remove(&(now, thing));
        self.by_wall.remove(&(wall, thing));
    }

    /// Returns one whose end has come. It is to be removed.
    pub(crate) fn first_over(&self, clock: Clock) -> Option<T> {
        let by_now = self.by_now.first().filter(|(end, _)| *end <= clock.now);
        let by_wall = self.by_wall.first().filter(|(end, _)| *end <= clock.wall);
        by_now.map(|(_, thing)| *thing).or(by_wall.map(|(_, thing)| *thing))
    }
}

/// Things that end by the last of two clocks, and whose ends may move. Each is looked at once its
/// end may have come, and again if it has not.
#[derive(Debug)]
pub(crate) struct Looks<T>(BinaryHeap<Reverse<(Instant, T)>>);

impl<T: Ord> Default for Looks<T> {
    fn default() -> Self {
        Self(BinaryHeap::new())
    }
}

impl<T: Ord> Looks<T> {
    /// Has a thing looked at, which is to be in here once, when this end may have come.
    pub(crate) fn add(&mut self, thing: T, end: End, clock: Clock) {
        let left = end.left(clock).map_or(LONGEST, |left| left.min(LONGEST));
        self.0.push(Reverse((clock.now + left, thing)));
    }

    /// Takes out one that is to be looked at. If its end has not come it is to be added again.
    pub(crate) fn take_due(&mut self, clock: Clock) -> Option<T> {
        let Reverse((due, _)) = self.0.peek()?;
        if *due > clock.now {
            return None;
        }
        self.0.pop().map(|Reverse((_, thing))| thing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::disallowed_methods, reason = "there is no other way to make an instant")]
    fn start() -> Clock {
        Clock { now: Instant::now(), wall: 1000 }
    }

    /// The clocks after these times, in s.
    fn after(start: Clock, now: u64, wall: i64) -> Clock {
        Clock { now: start.now + Duration::from_secs(now), wall: start.wall + wall }
    }

    #[test]
    fn the_first_of_two_ends_counts() {
        let start = start();
        let mut ends = FirstEnds::default();
        for (thing, now, wall) in [('a', 30, 30), ('b', 20, 40), ('c', 40, 20), ('d', 50, 50)] {
            let end = after(start, now, wall);
            ends.insert(thing, end.now, end.wall);
        }
        for (now, wall, found) in [
            (19, 19, None),
            (20, 0, Some('b')),
            (0, 20, Some('c')),
            (49, 20, Some('b')),
            (0, 49, Some('c')),
        ] {
            assert_eq!(ends.first_over(after(start, now, wall)), found, "{now} {wall}");
        }
        let end = after(start, 20, 40);
        ends.remove('b', end.now, end.wall);
        let end = after(start, 40, 20);
        ends.remove('c', end.now, end.wall);
        assert_eq!(ends.first_over(after(start, 40, 40)), Some('a'));
        let end = after(start, 30, 30);
        ends.remove('a', end.now, end.wall);
        assert_eq!(ends.first_over(after(start, 49, 49)), None);
        assert_eq!((ends.by_now.len(), ends.by_wall.len()), (1, 1));
    }

    #[test]
    fn only_what_may_have_ended_is_looked_at() {
        let start = start();
        let mut looks = Looks::default();
        for (thing, left) in [("a", 60), ("b", 30), ("for ever", i64::MAX - 2000)] {
            looks.add(thing, End::new(start.wall + left, start), start);
        }
        assert_eq!(looks.take_due(after(start, 29, 1_000_000)), None);
        let now = after(start, 30, 30);
        assert_eq!(looks.take_due(now), Some("b"));
        assert_eq!(looks.take_due(now), None);
        // Its end has moved meanwhile.
        looks.add("b", End::new(start.wall + 90, start), now);
        // The wall clock was set back: it counts too.
        let now = after(start, 60, 20);
        assert_eq!(looks.take_due(now), Some("a"));
        looks.add("a", End::new(start.wall + 60, start), now);
        assert_eq!(looks.take_due(now), None);
        assert_eq!(looks.take_due(after(start, 90, 90)), Some("b"));
        assert_eq!(looks.take_due(after(start, 99, 99)), None);
        assert_eq!(looks.take_due(after(start, 100, 100)), Some("a"));
        let day = LONGEST.as_secs();
        assert_eq!(looks.take_due(after(start, day - 1, 0)), None);
        assert_eq!(looks.take_due(after(start, day, 0)), Some("for ever"));
    }
}
