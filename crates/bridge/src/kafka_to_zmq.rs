//! Routes from Kafka to ZeroMQ: records become chunks, and what was delivered is committed.
//!
//! `state` decides, with `partition`, `progress`, `gate` and `revoking`; `task` carries out.

mod action;
mod broken;
mod gate;
mod partition;
mod partitions;
mod progress;
mod pub_sink;
mod report;
mod revoking;
mod shared;
mod sink;
mod state;
mod task;
#[cfg(test)]
mod testing;
mod waits;

pub(crate) use report::RouteReport;
pub(crate) use shared::RouteShared;
pub(crate) use task::RouteTask;

/// The parts that a simulation drives.
#[cfg(feature = "sim")]
pub(crate) mod for_simulation {
    pub use super::action::{Action, Positions};
    pub use super::broken::{Broken, Promise};
    pub use super::partition::Records;
    pub use super::progress::Progress;
    pub use super::report::RouteReport;
    pub use super::sink::Sink;
    pub use super::state::RouteState;
}
