//! Places of peers: so many for all, of which neither one key nor one subject takes more than a
//! part.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use zafka_zmtp::curve::PublicKey;

use crate::closed::Closed;

/// The places of a socket.
#[derive(Debug)]
pub(super) struct Places {
    max: usize,
    taken: AtomicUsize,
    shares: Mutex<Shares>,
}

/// The places of each key, and of each subject.
#[derive(Debug, Default)]
struct Shares {
    of_key: HashMap<PublicKey, usize>,
    of_subject: HashMap<String, usize>,
}

/// A peer's place; given up when it is dropped.
#[derive(Debug)]
pub(super) struct PeerPlace<'a> {
    places: &'a Places,
    key: Option<PublicKey>,
    subject: Option<String>,
}

impl Places {
    pub(super) fn new(max: usize) -> Self {
        Self { max, taken: AtomicUsize::new(0), shares: Mutex::default() }
    }

    /// Returns the number of places that are taken.
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }

    /// Takes a place for a peer that has proven this key, and that counts for this subject.
    ///
    /// # Errors
    /// All are taken, or its key or its subject has as many as one may have.
    pub(super) fn take(
        &self,
        key: Option<PublicKey>,
        subject: Option<String>,
    ) -> Result<PeerPlace<'_>, Closed> {
        let next = |taken| (taken < self.max).then_some(taken + 1);
        let taken = self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        taken.map_err(|_| Closed::PeerLimit(self.max))?;
        // From here on it is given back if there is an error.
        let mut place = PeerPlace { places: self, key: None, subject: None };
        let (part, mut shares) = (part(self.max), self.shares.lock());
        if let Some(key) = key {
            add(&mut shares.of_key, key, part).ok_or(Closed::KeyLimit(part))?;
        }
        place.key = key;
        if let Some(subject) = &subject {
            let added = add(&mut shares.of_subject, subject.clone(), part);
            added.ok_or(Closed::SubjectLimit(part))?;
        }
        place.subject = subject;
        Ok(place)
    }
}

/// The part of all places that those with one key may have, or of one subject: whoever has a good
/// one does not keep everybody else out.
fn part(max: usize) -> usize {
    const AT_LEAST: usize = 16;
    AT_LEAST.max(max / 4)
}

/// Counts one more; `None` if there are as many as may be.
fn add<K: Eq + Hash>(counts: &mut HashMap<K, usize>, of: K, most: usize) -> Option<()> {
    let count = counts.entry(of).or_default();
    (*count < most).then(|| *count += 1)
}

fn remove<K: Eq + Hash>(counts: &mut HashMap<K, usize>, of: &K) {
    if let Some(count) = counts.get_mut(of) {
        *count -= 1;
        if *count == 0 {
            counts.remove(of);
        }
    }
}

impl Drop for PeerPlace<'_> {
    fn drop(&mut self) {
        self.places.taken.fetch_sub(1, Ordering::AcqRel);
        if self.key.is_none() && self.subject.is_none() {
            return;
        }
        let mut shares = self.places.shares.lock();
        if let Some(key) = &self.key {
            remove(&mut shares.of_key, key);
        }
        if let Some(subject) = &self.subject {
            remove(&mut shares.of_subject, subject);
        }
    }
}

#[cfg(test)]
mod tests {
    use zafka_zmtp::curve::{KeyPair, SecretKey};

    use super::*;

    /// Takes as many places as there are; returns them, and the reason why there is no other one.
    fn fill<'a>(
        places: &'a Places,
        key: Option<u8>,
        subject: Option<&str>,
    ) -> (Vec<PeerPlace<'a>>, &'static str) {
        let key = key.map(|key| KeyPair::new(SecretKey::from_bytes([key; 32])).public());
        let mut taken = Vec::new();
        loop {
            match places.take(key, subject.map(str::to_owned)) {
                Ok(place) => taken.push(place),
                Err(reason) => return (taken, reason.label()),
            }
        }
    }

    #[test]
    fn each_has_a_part_of_all_places() {
        for (max, key, subject, most, reason) in [
            (100, None, None, 100, "peer_limit"),
            (100, Some(1), None, 25, "key_limit"),
            (100, Some(1), Some("alice"), 25, "key_limit"),
            (100, None, Some("alice"), 25, "subject_limit"),
            (18, Some(1), None, 16, "key_limit"),
            (18, None, Some("alice"), 16, "subject_limit"),
            (10, Some(1), Some("alice"), 10, "peer_limit"),
        ] {
            let places = Places::new(max);
            let (taken, found) = fill(&places, key, subject);
            assert_eq!((taken.len(), found), (most, reason), "{max} {key:?} {subject:?}");
            assert_eq!(places.taken(), most, "those that were refused have none");
        }
    }

    #[test]
    fn the_keys_of_a_subject_share_its_part() {
        let places = Places::new(100);
        let counts = |places: &Places| {
            let shares = places.shares.lock();
            (places.taken(), shares.of_key.len(), shares.of_subject.len())
        };
        let (mut first, reason) = fill(&places, Some(1), Some("alice"));
        assert_eq!((first.len(), reason), (25, "key_limit"));
        first.truncate(20);
        let (second, reason) = fill(&places, Some(2), Some("alice"));
        assert_eq!((second.len(), reason), (5, "subject_limit"));
        let (third, reason) = fill(&places, Some(3), Some("alice"));
        assert_eq!((third.len(), reason), (0, "subject_limit"));
        let (other, reason) = fill(&places, Some(3), Some("bob"));
        assert_eq!((other.len(), reason), (25, "key_limit"));
        // One that is given up is for another key of the same subject.
        first.pop();
        let (third, _) = fill(&places, Some(4), Some("alice"));
        assert_eq!(third.len(), 1);
        drop((first, second, third, other));
        assert_eq!(counts(&places).0, 0);
        assert_eq!(counts(&places).2, 0, "nothing is left of a subject");
    }
}
