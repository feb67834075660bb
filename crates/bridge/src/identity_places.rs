//! The places for names in which records are written, over all routes: whoever has one that nobody
//! needs gives it up once another route wants one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// A number of places.
#[derive(Debug)]
pub struct IdentityPlaces {
    most: usize,
    free: Arc<Semaphore>,
    /// IdentityPlaces that were wanted, and that nobody has given up for that.
    wanted: Mutex<usize>,
    /// Changes if one is wanted.
    wants: watch::Sender<()>,
    /// Messages that were refused since all places were taken.
    refused: AtomicU64,
}

/// A place; free again once it is dropped.
#[derive(Debug)]
pub struct IdentityPlace(#[expect(dead_code, reason = "it is held")] OwnedSemaphorePermit);

impl IdentityPlaces {
    /// All are free.
    pub fn new(most: usize) -> Self {
        let (free, wanted) = (Arc::new(Semaphore::new(most)), Mutex::default());
        Self { most, free, wanted, wants: watch::Sender::new(()), refused: AtomicU64::new(0) }
    }

    /// Takes a place, if one is free.
    pub(crate) fn take(&self) -> Option<IdentityPlace> {
        let place = Arc::clone(&self.free).try_acquire_owned().ok()?;
        let mut wanted = self.wanted.lock();
        *wanted = wanted.saturating_sub(1);
        Some(IdentityPlace(place))
    }

    /// Takes note of a message that was refused for lack of a place, and has the routes look for
    /// one that they can give up.
    pub(crate) fn want(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let mut wanted = self.wanted.lock();
        *wanted = self.most.min(*wanted + 1);
        self.wants.send_replace(());
    }

    /// Changes if a place is wanted: then [`Self::give_up`] is to be called.
    pub(crate) fn wants(&self) -> watch::Receiver<()> {
        self.wants.subscribe()
    }

    /// Has places given up, one after the other, as long as one is wanted: `give_up` returns false
    /// if there is none.
    pub(crate) fn give_up(&self, mut give_up: impl FnMut() -> bool) {
        // Other routes wait meanwhile: what one gives up is not wanted of the next.
        let mut wanted = self.wanted.lock();
        while *wanted > 0 && give_up() {
            *wanted -= 1;
        }
    }

    /// Returns the number of places that are taken, and of messages that were refused.
    pub fn counts(&self) -> (usize, u64) {
        let taken = self.most.saturating_sub(self.free.available_permits());
        (taken, self.refused.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has a route give up what it does not need.
    fn look(places: &IdentityPlaces, spare: &mut Vec<IdentityPlace>) {
        places.give_up(|| spare.pop().is_some());
    }

    #[test]
    fn what_one_route_does_not_need_is_for_another() {
        let places = IdentityPlaces::new(4);
        let take = |count: usize| -> Vec<_> { (0..count).map_while(|_| places.take()).collect() };
        let (mut first, mut second) = (take(3), take(2));
        assert_eq!((first.len(), second.len(), places.counts()), (3, 1, (4, 0)));
        look(&places, &mut first);
        assert_eq!(first.len(), 3, "nobody wants one");

        let wants = places.wants();
        places.want();
        assert!(wants.has_changed().unwrap());
        look(&places, &mut first);
        look(&places, &mut second);
        assert_eq!((first.len(), second.len()), (2, 1), "one was wanted");
        assert_eq!(places.counts(), (3, 1));
        let third = take(2);
        assert_eq!(third.len(), 1);

        // More than one route has.
        (0..3).for_each(|_| places.want());
        look(&places, &mut first);
        look(&places, &mut second);
        assert_eq!((first.len(), second.len(), places.counts()), (0, 0, (1, 4)));
    }

    #[test]
    fn what_is_free_by_itself_is_not_asked_for() {
        let places = IdentityPlaces::new(1);
        let taken = places.take().unwrap();
        places.want();
        drop(taken);
        let mut taken = places.take();
        places.give_up(|| taken.take().is_some());
        assert!(taken.is_some(), "who wanted it has it");
        // However many messages are refused, no more are wanted than there are.
        (0..100).for_each(|_| places.want());
        assert!(taken.take().is_some());
        assert!(places.take().is_some() && places.take().is_some());
        let mut asked = 0;
        places.give_up(|| {
            asked += 1;
            true
        });
        assert_eq!((asked, places.counts()), (0, (0, 101)));
    }
}
