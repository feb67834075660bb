//! Routes: what flows from where to where. Positions, policies, and the thin tasks that drive them.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests wait by the clock"))]

pub mod config;
mod gate;
pub mod loops;
mod partition;
mod progress;
mod relay;
pub mod rename;
mod revoking;
mod route;
mod shared;
pub mod status;
pub mod template;
mod wait_log;
mod waits;
pub mod zmq_to_kafka;

pub use relay::{Relay, StartError, StatusHandle};
