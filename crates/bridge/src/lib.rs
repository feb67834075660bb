//! Routes: the flow between topics and sockets. Positions, policies, and the thin tasks that drive
//! them.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests wait by the clock"))]

pub mod config;
mod kafka_to_zmq;
pub mod loops;
mod registry;
mod relay;
pub mod rename;
#[cfg(feature = "sim")]
#[doc(hidden)]
pub mod sim;
pub mod status;
pub mod template;
mod wait_log;
pub mod zmq_to_kafka;

pub use relay::{Relay, Route, StartError, StatusHandle, StoppedRoute};
