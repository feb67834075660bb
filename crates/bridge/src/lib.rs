//! Routes: what flows from where to where. Positions, policies, and the thin tasks that drive them.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests wait by the clock"))]

pub mod config;
mod gate;
mod partition;
mod progress;
mod relay;
mod revoking;
mod route;
mod shared;
pub mod status;
mod wait_log;
mod waits;
pub mod zmq_to_kafka;

pub use relay::{Relay, StartError, StatusHandle};
