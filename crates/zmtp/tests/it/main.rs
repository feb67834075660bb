//! Two connections joined under a virtual clock, recorded peers, malformed input, properties.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods, reason = "tests wait by the clock")]

mod curve;
mod forged;
mod heartbeats;
mod malformed;
mod pair;
#[cfg(feature = "planted")]
mod planted;
mod properties;
mod recorded;
mod traffic;
