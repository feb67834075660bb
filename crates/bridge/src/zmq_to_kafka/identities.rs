//! The identities in whose names the records of a route are written: which are open, how long each
//! stays, and what becomes of it when its lease ends. Pure.
//!
//! An identity opens with the first message of its peer, if there is a place. It closes once
//! nothing was under way for [`IDLE`]. If its lease ends, or nobody takes its token, it takes no
//! more: what was sent is waited for, up to [`PATIENCE`], and then it closes.

use std::time::{Duration, Instant};

/// Time without a record after which an identity closes.
pub(super) const IDLE: Duration = Duration::from_secs(300);
/// Time for what was sent before the end. Kafka may be away, and there is no token for another try.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Time for which one that nobody takes is not tried again.
pub(super) const REFUSED: Duration = Duration::from_secs(5);

/// The number of an identity; another one's once it is closed.
pub(super) type SlotId = usize;

/// The reason why an identity takes no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndReason {
    /// Its lease is over.
    LeaseOver,
    /// The provider gives no token for it, or no broker takes that.
    Refused,
}

/// The answer to the question in whose name a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// The slot of an identity that is open.
    Open(SlotId),
    /// The slot of a new one.
    New(SlotId),
    /// No slot: the identity takes no more.
    Ended(EndReason),
    /// No slot: all places are taken.
    Full,
}

/// Something to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IdentityStep {
    /// Give up its records under way, which have been awaited long enough.
    GiveUp(SlotId),
    /// Close it: none of its records is under way.
    Close(SlotId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IdentityStage {
    Open,
    Ending(Ending),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ending {
    reason: EndReason,
    /// The time until which records that were sent are awaited.
    patience: Instant,
    /// The time before which it is not closed, though nothing is under way.
    stays: Instant,
    /// True once its records under way were given up.
    is_given_up: bool,
}

/// One of them.
#[derive(Debug)]
struct Identity<L, P> {
    lease: L,
    stage: IdentityStage,
    /// Records.
    under_way: usize,
    /// The time when it opened, or when a record was settled last: read while none is under way.
    used: Instant,
    /// Free again once this is dropped.
    _place: P,
}

impl<L, P> Identity<L, P> {
    /// The next thing to be done, and its time.
    fn next(&self, slot: SlotId) -> Option<(Instant, IdentityStep)> {
        match self.stage {
            IdentityStage::Open if self.under_way > 0 => None,
            IdentityStage::Open => Some((self.used + IDLE, IdentityStep::Close(slot))),
            IdentityStage::Ending(ending)
                if self.under_way == 0 || zafka_planted::is("sent-records-are-forgotten") =>
            {
                Some((ending.stays, IdentityStep::Close(slot)))
            }
            IdentityStage::Ending(ending) if ending.is_given_up => None,
            IdentityStage::Ending(ending) => Some((ending.patience, IdentityStep::GiveUp(slot))),
        }
    }
}

/// The identities of a route. `L` is a lease, `P` a place.
#[derive(Debug)]
pub(super) struct Identities<L, P> {
    slots: Vec<Option<Identity<L, P>>>,
}

impl<L: Clone + PartialEq, P> Identities<L, P> {
    /// None is open.
    pub(super) fn new() -> Self {
        Self { slots: Vec::new() }
    }

    /// Decides in whose name a message goes that comes by this lease. `place`: for a new one.
    pub(super) fn handle_message(
        &mut self,
        lease: &L,
        place: impl FnOnce() -> Option<P>,
        now: Instant,
    ) -> Entry {
        let mut known = self.slots.iter().zip(0..);
        let found = known.find_map(|(one, slot)| {
            one.as_ref().filter(|one| one.lease == *lease).map(|one| (one.stage, slot))
        });
        match found {
            Some((IdentityStage::Open, slot)) => return Entry::Open(slot),
            Some((_, slot)) if zafka_planted::is("an-ended-identity-writes-on") => {
                return Entry::Open(slot);
            }
            Some((IdentityStage::Ending(Ending { reason, .. }), _)) => return Entry::Ended(reason),
            None => {}
        }
        let Some(_place) = place() else { return Entry::Full };
        let (lease, stage) = (lease.clone(), IdentityStage::Open);
        let new = Some(Identity { lease, stage, under_way: 0, used: now, _place });
        let slot = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        match self.slots.get_mut(slot) {
            Some(free) => *free = new,
            None => self.slots.push(new),
        }
        Entry::New(slot)
    }

    /// Closes the identity that was not used for the longest time, if nothing is under way and
    /// nobody `is_attended` it: then its place is free.
    pub(super) fn make_room(&mut self, is_attended: impl Fn(SlotId) -> bool) -> Option<SlotId> {
        let slots = self.slots.iter().zip(0..);
        let unused = slots.filter_map(|(one, slot)| {
            let one = one.as_ref()?;
            let is_unused =
                one.stage == IdentityStage::Open && one.under_way == 0 && !is_attended(slot);
            is_unused.then_some((one.used, slot))
        });
        let (_, slot) = unused.min()?;
        *self.slots.get_mut(slot)? = None;
        Some(slot)
    }

    /// Records were sent in the name of one.
    pub(super) fn handle_sent(&mut self, slot: SlotId, records: usize) {
        if let Some(Some(one)) = self.slots.get_mut(slot) {
            one.under_way += records;
        }
    }

    /// The outcome of records is known.
    pub(super) fn handle_settled(&mut self, slot: SlotId, records: usize, now: Instant) {
        if let Some(Some(one)) = self.slots.get_mut(slot) {
            (one.under_way, one.used) = (one.under_way.saturating_sub(records), now);
        }
    }

    /// One takes no more. Returns true if it did before: then what was not sent is to fail.
    pub(super) fn handle_end(&mut self, slot: SlotId, reason: EndReason, now: Instant) -> bool {
        let Some(Some(one)) = self.slots.get_mut(slot) else { return false };
        let stays = match reason {
            EndReason::LeaseOver => now,
            EndReason::Refused => now + REFUSED,
        };
        let was_open = one.stage == IdentityStage::Open;
        one.stage = IdentityStage::Ending(match one.stage {
            IdentityStage::Open => {
                Ending { reason, patience: now + PATIENCE, stays, is_given_up: false }
            }
            // Nobody comes by a lease that is over.
            IdentityStage::Ending(ending) => Ending { stays: ending.stays.min(stays), ..ending },
        });
        was_open
    }

    /// Those that have not closed, with their leases.
    pub(super) fn leases(&self) -> impl Iterator<Item = (SlotId, &L)> {
        let slots = self.slots.iter().zip(0..);
        slots.filter_map(|(one, slot)| one.as_ref().map(|one| (slot, &one.lease)))
    }

    /// Returns the next thing whose time has come.
    pub(super) fn poll_step(&mut self, now: Instant) -> Option<IdentityStep> {
        let steps = self.slots.iter().zip(0..);
        let mut steps = steps.filter_map(|(one, slot)| one.as_ref()?.next(slot));
        let (_, step) = steps.find(|(due, _)| *due <= now)?;
        match step {
            IdentityStep::Close(slot) => {
                if let Some(one) = self.slots.get_mut(slot) {
                    *one = None;
                }
            }
            IdentityStep::GiveUp(slot) => {
                if let Some(Some(Identity { stage: IdentityStage::Ending(ending), .. })) =
                    self.slots.get_mut(slot)
                {
                    ending.is_given_up = true;
                }
            }
        }
        Some(step)
    }

    /// Returns the time of the next thing; now, if it lies in the past.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let steps = self.slots.iter().zip(0..);
        steps.filter_map(|(one, slot)| Some(one.as_ref()?.next(slot)?.0)).min()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    /// Places of which some are taken.
    struct Places {
        most: usize,
        taken: Rc<Cell<usize>>,
    }

    struct Place(Rc<Cell<usize>>);

    impl Drop for Place {
        fn drop(&mut self) {
            self.0.set(self.0.get() - 1);
        }
    }

    impl Places {
        fn new(most: usize) -> Self {
            Self { most, taken: Rc::default() }
        }

        fn place(&self) -> Option<Place> {
            let taken = self.taken.get();
            (taken < self.most).then(|| {
                self.taken.set(taken + 1);
                Place(Rc::clone(&self.taken))
            })
        }
    }

    struct World {
        identities: Identities<&'static str, Place>,
        places: Places,
        now: Instant,
    }

    impl World {
        fn new(most: usize) -> Self {
            let (identities, places) = (Identities::new(), Places::new(most));
            Self { identities, places, now: Instant::now() }
        }

        fn message(&mut self, lease: &'static str) -> Entry {
            self.identities.handle_message(&lease, || self.places.place(), self.now)
        }

        fn sent(&mut self, slot: SlotId, records: usize) {
            self.identities.handle_sent(slot, records);
        }

        fn settled(&mut self, slot: SlotId, records: usize) {
            self.identities.handle_settled(slot, records, self.now);
        }

        fn end(&mut self, slot: SlotId, reason: EndReason) -> bool {
            self.identities.handle_end(slot, reason, self.now)
        }

        /// The steps of a time, each with its own time from now on.
        fn steps_within(&mut self, time: Duration) -> Vec<(Duration, IdentityStep)> {
            let (began, end, mut steps) = (self.now, self.now + time, Vec::new());
            while let Some(due) = self.identities.poll_timeout().filter(|due| *due <= end) {
                self.now = self.now.max(due);
                let step = self.identities.poll_step(self.now).expect("its time has come");
                steps.push((self.now - began, step));
            }
            self.now = end;
            assert_eq!(self.identities.poll_step(end), None, "all has a time");
            steps
        }
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn each_lease_has_one_identity_and_all_have_places() {
        let mut world = World::new(2);
        assert_eq!(world.message("alice"), Entry::New(0));
        assert_eq!(world.message("alice"), Entry::Open(0));
        assert_eq!(world.message("bob"), Entry::New(1));
        assert_eq!(world.message("carol"), Entry::Full);
        assert_eq!(world.message("bob"), Entry::Open(1), "who is in stays in");
        assert!(world.end(0, EndReason::LeaseOver));
        assert_eq!(world.message("carol"), Entry::Full, "it is not closed yet");
        assert_eq!(world.steps_within(Duration::ZERO), [(Duration::ZERO, IdentityStep::Close(0))]);
        assert_eq!(world.places.taken.get(), 1);
        assert_eq!(world.message("carol"), Entry::New(0));
    }

    #[test]
    fn one_closes_when_nothing_was_under_way_for_long() {
        let mut world = World::new(2);
        world.message("alice");
        world.sent(0, 3);
        assert_eq!(world.steps_within(HOUR), [], "its records are waited for");
        world.settled(0, 2);
        assert_eq!(world.steps_within(HOUR), []);
        world.settled(0, 1);
        assert_eq!(world.steps_within(IDLE / 2), []);
        // A record that is sent and settled begins it anew.
        world.sent(0, 1);
        world.settled(0, 1);
        assert_eq!(world.steps_within(HOUR), [(IDLE, IdentityStep::Close(0))]);
        assert_eq!(world.places.taken.get(), 0);
        assert_eq!(world.message("alice"), Entry::New(0));
    }

    #[test]
    fn what_was_sent_before_the_end_is_waited_for() {
        for (settled_after, steps) in [
            (Duration::from_secs(1), vec![(Duration::ZERO, IdentityStep::Close(0))]),
            (PATIENCE * 2, vec![(Duration::ZERO, IdentityStep::Close(0))]),
        ] {
            let mut world = World::new(1);
            world.message("alice");
            world.sent(0, 2);
            assert!(world.end(0, EndReason::LeaseOver));
            assert!(!world.end(0, EndReason::LeaseOver), "it is told once");
            assert_eq!(world.message("alice"), Entry::Ended(EndReason::LeaseOver));
            // The same owner, by a lease of its own.
            assert_eq!(world.message("alice again"), Entry::Full);
            world.settled(0, 1);
            let given_up = match settled_after > PATIENCE {
                true => vec![(PATIENCE, IdentityStep::GiveUp(0))],
                false => vec![],
            };
            assert_eq!(world.steps_within(settled_after), given_up);
            world.settled(0, 1);
            assert_eq!(world.steps_within(HOUR), steps);
            assert_eq!(world.message("alice again"), Entry::New(0));
        }
    }

    #[test]
    fn one_that_nobody_takes_is_not_tried_again_at_once() {
        let mut world = World::new(1);
        world.message("alice");
        world.sent(0, 1);
        assert!(world.end(0, EndReason::Refused));
        world.settled(0, 1);
        assert_eq!(world.steps_within(REFUSED / 2), []);
        assert_eq!(world.message("alice"), Entry::Ended(EndReason::Refused));
        assert_eq!(world.steps_within(HOUR), [(REFUSED / 2, IdentityStep::Close(0))]);
        assert_eq!(world.message("alice"), Entry::New(0));
        // With the lease its time ends.
        assert!(world.end(0, EndReason::Refused));
        assert!(!world.end(0, EndReason::LeaseOver));
        assert_eq!(world.steps_within(HOUR), [(Duration::ZERO, IdentityStep::Close(0))]);
    }

    #[test]
    fn who_has_left_makes_room() {
        let mut world = World::new(4);
        for (slot, lease) in ["alice", "bob", "carol", "dave"].into_iter().enumerate() {
            assert_eq!(world.message(lease), Entry::New(slot));
            world.now += Duration::from_secs(1);
        }
        // Alice's record is under way, bob is there, dave's lease ends.
        world.sent(0, 1);
        world.end(3, EndReason::Refused);
        let attended = |slot| slot == 1;
        assert_eq!(world.identities.make_room(attended), Some(2));
        assert_eq!(world.identities.make_room(attended), None);
        assert_eq!(world.message("erin"), Entry::New(2));
        world.settled(0, 1);
        world.now += Duration::from_secs(1);
        assert_eq!(world.identities.make_room(|_| false), Some(1), "bob's is unused for longest");
        assert_eq!(world.identities.make_room(|_| true), None);
    }

    #[test]
    fn each_ends_by_itself() {
        let mut world = World::new(3);
        for (slot, lease) in ["alice", "bob", "carol"].into_iter().enumerate() {
            assert_eq!(world.message(lease), Entry::New(slot));
        }
        world.sent(0, 1);
        world.sent(1, 1);
        assert!(world.end(1, EndReason::LeaseOver));
        assert_eq!(
            world.steps_within(HOUR),
            [(PATIENCE, IdentityStep::GiveUp(1)), (IDLE, IdentityStep::Close(2))]
        );
        let left: Vec<_> = world.identities.leases().map(|(_, lease)| *lease).collect();
        assert_eq!(left, ["alice", "bob"]);
        assert_eq!(world.message("alice"), Entry::Open(0));
    }
}
