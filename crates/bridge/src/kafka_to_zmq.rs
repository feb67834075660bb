//! Routes from Kafka to ZeroMQ: records become chunks, and what was delivered is committed.
//!
//! `partition`, `progress`, `gate` and `revoking` decide; `task` carries out.

mod gate;
mod partition;
mod progress;
mod revoking;
mod shared;
mod task;
mod waits;

pub(crate) use shared::RouteShared;
pub(crate) use task::Route;
pub(crate) use waits::of_route;
