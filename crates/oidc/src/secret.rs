//! A text that is never shown.

use std::fmt;
use std::hint::black_box;
use std::sync::Arc;

use parking_lot::Mutex;

/// A text that no log, error or debug output ever shows.
///
/// Two are compared in a time that depends on their lengths alone, not on where they differ.
#[derive(Clone, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        let pairs = self.0.bytes().zip(other.0.bytes());
        let differing = pairs.fold(0, |bits, (one, other)| black_box(bits | (one ^ other)));
        self.0.len() == other.0.len() && differing == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// A secret that its owner replaces, and takes away in the end. Clones are handles of the same one.
#[derive(Clone)]
pub struct LiveSecret(Arc<Mutex<Option<Secret>>>);

impl LiveSecret {
    /// Begins with a secret.
    pub fn new(secret: Secret) -> Self {
        Self(Arc::new(Mutex::new(Some(secret))))
    }

    /// The secret as it is now; `None` once it was taken away.
    pub fn current(&self) -> Option<Secret> {
        self.0.lock().clone()
    }

    /// Puts another one in its place, unless it was taken away.
    pub fn replace(&self, secret: Secret) {
        if let Some(current) = self.0.lock().as_mut() {
            *current = secret;
        }
    }

    /// Takes it away for good.
    pub fn take_away(&self) {
        *self.0.lock() = None;
    }

    /// Returns true once it was taken away.
    pub fn is_gone(&self) -> bool {
        self.0.lock().is_none()
    }
}

impl PartialEq for LiveSecret {
    /// Returns true for two handles of one secret.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for LiveSecret {}

impl fmt::Debug for LiveSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_was_taken_away_never_comes_back() {
        let live = LiveSecret::new(Secret::new("one"));
        let other = live.clone();
        live.replace(Secret::new("two"));
        assert_eq!(other.current(), Some(Secret::new("two")));
        assert!(live == other && live != LiveSecret::new(Secret::new("two")));
        assert_eq!(format!("{live:?}"), "[secret]");
        other.take_away();
        live.replace(Secret::new("three"));
        assert!(live.is_gone() && live.current().is_none());
    }

    #[test]
    fn secrets_are_compared_by_content() {
        for (one, other, same) in [
            ("", "", true),
            ("hunter2", "hunter2", true),
            ("hunter2", "hunter3", false),
            ("hunter2", "hunter", false),
            ("", "h", false),
        ] {
            assert_eq!(Secret::new(one) == Secret::new(other), same, "{one:?} {other:?}");
        }
    }
}
