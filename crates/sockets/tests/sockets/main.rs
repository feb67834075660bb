//! Sockets against real libzmq peers, and against peers that misbehave.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods, reason = "tests wait by the clock")]

mod curve;
mod endpoints;
mod floods;
mod hostile;
mod inbound;
mod netns;
mod outbound;
#[cfg(feature = "planted")]
mod planted;
mod policies;
mod raw;
mod refusals;
mod silence;
mod stalled;
mod streams;
mod subscriptions;
mod support;
