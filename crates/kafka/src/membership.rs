//! The membership thread: it polls librdkafka without a pause, whatever the rest waits for, answers
//! the group's rebalances, and owns every assignment from its start to its release.
//!
//! `partitions` decides and `driver` executes: the one knows neither clients nor clocks, the other
//! takes no decision about a partition.

mod absent;
mod action;
mod driver;
mod environment;
mod event;
mod group_check;
mod membership_check;
mod memory;
mod monitor;
mod partitions;
mod pending;
mod renewal;
#[cfg(feature = "sim")]
pub(crate) mod sim;
mod stalls;
mod stop;
mod thread;
mod topic_ids;

pub(crate) use environment::Environment;
pub(crate) use thread::start;
