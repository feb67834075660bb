//! Reasons of failures. Each is a type: it carries the topic, partition, offset or broker that it
//! is about, and says what follows from it. It becomes a text only where it is shown.

use std::fmt;

/// The consequence of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consequence {
    /// The same is tried again, later or at another broker.
    Retry,
    /// It is given up, and all else goes on.
    Reject,
    /// The fetcher or the membership that asked ends.
    Stop,
}

/// A reason that says what follows from it.
pub(crate) trait Reason: fmt::Display {
    /// Returns the consequence.
    fn consequence(&self) -> Consequence;
}
