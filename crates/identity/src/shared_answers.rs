//! Answers about peers, each of which is kept once, however many peers have it: a cluster may have
//! many topics, and a relay many leases.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Weak};

/// Answers that are kept at the least before those that nobody has are forgotten.
const MIN_KEPT: usize = 64;

/// The answers that peers have.
#[derive(Debug)]
pub(crate) struct SharedAnswers<T> {
    by_hash: HashMap<u64, Weak<T>>,
    /// The number of them at which unused ones are removed.
    max_kept: usize,
}

impl<T> Default for SharedAnswers<T> {
    fn default() -> Self {
        Self { by_hash: HashMap::new(), max_kept: MIN_KEPT }
    }
}

impl<T: Hash + Eq> SharedAnswers<T> {
    /// Returns an answer as others have it already, if some do.
    pub(crate) fn share(&mut self, answer: T) -> Arc<T> {
        let mut hasher = DefaultHasher::new();
        answer.hash(&mut hasher);
        let hash = hasher.finish();
        let known = self.by_hash.get(&hash).and_then(Weak::upgrade);
        if let Some(known) = known.filter(|known| **known == answer) {
            return known;
        }
        if self.by_hash.len() >= self.max_kept {
            self.by_hash.retain(|_, answer| answer.strong_count() > 0);
            self.max_kept = MIN_KEPT.max(2 * self.by_hash.len());
        }
        let answer = Arc::new(answer);
        self.by_hash.insert(hash, Arc::downgrade(&answer));
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(topic: usize) -> String {
        topic.to_string()
    }

    #[test]
    fn equal_answers_are_one() {
        let mut answers = SharedAnswers::default();
        let [one, same, other] = [1, 1, 2].map(|topic| answers.share(reads(topic)));
        assert!(Arc::ptr_eq(&one, &same) && !Arc::ptr_eq(&one, &other));
        assert_eq!(*other, reads(2));
    }

    #[test]
    fn answers_that_nobody_has_are_forgotten() {
        let mut answers = SharedAnswers::default();
        let kept = answers.share(reads(0));
        for topic in 1..10 * MIN_KEPT {
            answers.share(reads(topic));
            assert!(answers.by_hash.len() <= MIN_KEPT);
        }
        assert!(Arc::ptr_eq(&kept, &answers.share(reads(0))));
    }
}
